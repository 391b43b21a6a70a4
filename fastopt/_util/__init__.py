"""Utilities that are not specific to optimizers: validation, arrays, random numbers, files."""
