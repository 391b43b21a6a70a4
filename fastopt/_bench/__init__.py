"""Measurement of optimizer steps: candidates in processes of their own, validated first and timed in turns.

``python -m fastopt bench`` uses it, and so do the benchmarks in ``bench/``, which are not installed.
"""
