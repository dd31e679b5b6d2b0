"""Experiments behind docs/results.md, run by python -m experiments.reproduce."""
