"""Helpers for any PyTorch project: ranks, random streams, statistics, precision, operators.

Nothing in this package is specific to GANs.
"""
