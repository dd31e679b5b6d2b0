"""Benchmarks of time and memory, such as python -m benchmarks.routing."""
