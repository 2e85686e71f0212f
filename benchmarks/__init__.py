"""Benchmarks of the SDK side by side with other clients: ``python -m benchmarks.compare``."""
