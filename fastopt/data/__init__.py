"""Data that the examples train on; LICENSE says where it comes from."""
