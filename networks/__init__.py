"""Generators, discriminators, text encoders, and the code that draws pictures from a snapshot."""
