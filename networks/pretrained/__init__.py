"""Frozen pretrained networks for text encoders, discriminators and metrics."""
