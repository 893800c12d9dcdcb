"""How does an older state database become today's?"""
