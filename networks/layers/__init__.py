"""Layers that more than one network uses, named after the papers' terms."""
