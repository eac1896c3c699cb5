"""Scores: frozen protocols, detectors, pure functions from features to numbers, and the runner that joins them."""
