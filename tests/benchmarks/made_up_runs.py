"""Runs of the comparison without a training, for tests of its page and its statistics."""

from __future__ import annotations

from benchmarks.comparison_scores import SETTINGS, Run


def one(folder, **fields):
    """A `Run` without a training."""
    fields = {
        "folder": folder,
        "recipe": "a",
        "seed": 0,
        "images": 8,
        "hours": 0.1,
        "dataset_hash": "x",
        "reads_text": True,
        "curve": [],
        "scores": {},
        "options": dict.fromkeys(SETTINGS, 8),
    } | fields
    return Run(**fields)


def scored(metric, **recipes):
    """Groups of runs with the given records, or values, of one metric."""
    return {
        name: [
            one(
                name,
                recipe=name,
                seed=seed,
                scores={metric: value if isinstance(value, dict) else {"value": value}},
            )
            for seed, value in enumerate(values)
        ]
        for name, values in recipes.items()
    }
