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


def trial_rows(metric="swd", **trials):
    """Rows of `benchmarks.recipe_trials`. trials: by name, a list with one value for each seed."""
    return [
        {
            "trial": name,
            "recipe": "debug",
            "settings": [],
            "seed": seed,
            "kimg": 8.0 + seed,
            "cpu_minutes": 60.0,
            "cpu_minutes_used": 60.0,
            "cpu_minutes_lost": 0.0,
            "values": {metric: value},
            "notes": {metric: "not finite"} if value is None else {},
        }
        for name, values in trials.items()
        for seed, value in enumerate(values)
    ]
