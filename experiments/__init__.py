"""What reproduces the tables of docs/results.md: python -m experiments.reproduce."""
