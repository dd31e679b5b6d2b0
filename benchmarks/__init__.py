"""How fast and how lean: python -m benchmarks.routing, training, scaling, floor."""
