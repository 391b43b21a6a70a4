"""Training programs on real data, such as ``python -m fastopt.examples.digits``."""
