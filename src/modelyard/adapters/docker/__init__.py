"""Serving by containers on one Docker engine: images, fleets and the gateway."""
