"""Frozen networks whose weights come from package registries, for encoders and metrics."""
