"""Layers of the generators and discriminators, named after the terms of the papers."""
