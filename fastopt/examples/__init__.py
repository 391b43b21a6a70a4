"""Real training on real data, each example a readable page: ``python -m fastopt.examples.digits``."""
