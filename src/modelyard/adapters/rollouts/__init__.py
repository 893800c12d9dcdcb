"""How is a release brought into traffic step by step, looked at, and taken out again?"""
