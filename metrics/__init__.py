"""Scores of generated pictures: measures, the frozen evaluations that apply them, and the runner.

From the bottom up: arithmetic, pictures, features, measures, evaluations, session, runner.
"""
