"""What a run refuses, leaves out and prints before its first step."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from configs import RECIPES, recipe
from datasets.archive import Picture, write_archive
from datasets.patches import PatchConfig
from dnnlib.config_codec import from_dict, override, to_dict
from dnnlib.errors import UserError
from training.config import TrainConfig
from training.evaluation import served_metrics
from training.launch import OPTIONS, open_dataset, refuse_at_start, run, smaller_groups
from training.run_log import RunLog
from training.trainer import Trainer

PATCH = ["patches.side=32", "discriminator.resolution=32"]


@pytest.fixture(autouse=True)
def _in_process(monkeypatch):
    monkeypatch.setattr("faulthandler.enable", lambda: None)  # it needs a real stderr


def tiny(data, **fields):
    return replace(
        recipe("debug"), data=str(data), report_to=(), device="cpu", snapshot_ticks=100, **fields
    )


@pytest.mark.parametrize(
    "name, assignments, message",
    [
        ("eidgan-coco256", ["augment.mode=fixed"], "--set augment.p=0.5, .* --aug noaug"),
        ("debug", ["discriminator.sentence_dim=0"], "discriminator.sentence_dim: .* --cond false"),
        ("eidgan-flowers64", ["start_resolution=32"], "start_resolution: .* --set start_kimg=20"),
        (
            "stylegan2clip-coco256",
            ["loss.style_mixing=0.5"],
            "loss.style_mixing: .* one style code",
        ),
        ("creps-flowers64", PATCH, "patches.side: .* --set generator.convention=centers"),
    ],
)
def test_only_a_new_run_refuses_fields_that_do_not_fit(name, assignments, message, tmp_path):
    config = override(recipe(name), assignments)
    with pytest.raises(UserError, match=message):
        run(replace(config, device="cpu"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # The options of an older run are read, so it can be resumed.
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_a_group_that_a_rank_cannot_fill_is_told():
    config = override(recipe("eidgan-openmoji64"), ["batch=31"])
    [line] = smaller_groups(config, 31)
    assert "groups of 1, not of discriminator.group_size=8 images" in line
    [line] = smaller_groups(config, 4)
    assert "groups of 4," in line and "a multiple of 8" in line
    assert smaller_groups(config, 16) == []


def test_a_signal_ends_the_metrics_and_the_next_start_computes_the_rest(
    openmoji32, tmp_path, monkeypatch
):
    """The first signal comes with the last step, the second during the metrics."""
    computed = []

    def evaluate(trainer, metrics, cache_dir):
        for metric in metrics:
            computed.append(metric)
            if signals and trainer.progress.images == 64:
                signals.pop()
                os.kill(os.getpid(), signal.SIGTERM)
            yield metric, {"metric": metric, "value": 1.0}

    monkeypatch.setattr("training.training_loop.evaluate_ema", evaluate)
    config, signals = tiny(openmoji32, kimg=0.064, metrics=("swd", "lattice")), [1]
    assert not run(config, tmp_path / "run")
    assert computed == ["swd", "lattice", "swd"]  # at 0 images, and one at 64
    assert run(config, tmp_path / "run")
    assert computed == ["swd", "lattice", "swd", "lattice"]

    step = Trainer.step

    def last_step(trainer, *batch):
        step(trainer, *batch)
        if trainer.progress.images == 128 and len(computed) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "step", last_step)
    longer = replace(config, kimg=0.128)
    assert not run(longer, tmp_path / "run")
    assert len(computed) == 4
    assert run(longer, tmp_path / "run")
    assert computed[4:] == ["swd", "lattice"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_start(name):
    refuse_at_start(recipe(name))
    refuse_at_start(recipe(name).without_text())


def test_creps_trains_on_patches_with_centers():
    refuse_at_start(override(recipe("creps-flowers64"), [*PATCH, "generator.convention=centers"]))


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """Pictures with short sides of 25 to 38 pixels."""
    path = tmp_path_factory.mktemp("native") / "native.zip"
    pixels = np.random.default_rng(0).integers(0, 256, (38, 40, 3), dtype=np.uint8)
    items = [
        Picture(pixels[: 25 + i], f"{i}", (f"thing {i}",), "test" if i % 2 else "train")
        for i in range(14)
    ]
    write_archive(path, items, None, {})
    return path


@pytest.mark.parametrize(
    "metric, on_patches, message",
    [
        ("kid_lite2", True, "fewer than 64 pixels on their short side"),
        ("pkid_lite2", True, "no larger pictures, .* calc_metrics.py calc --data-large"),
        ("detail_x2_lite2", False, "no larger pictures, .* calc_metrics.py calc --data-large"),
    ],
)
def test_metrics_that_the_pictures_do_not_fit(native, openmoji32, metric, on_patches, message):
    """They are left out where they are defaults, and refused where the user asked for them."""
    config = replace(tiny(openmoji32), metrics=("scale_x2", metric))
    if on_patches:
        patches = PatchConfig(side=16)
        judge = replace(config.discriminator, resolution=16, spectral_scale=8)
        config = replace(
            config, data=str(native), patches=patches, discriminator=judge, resolution=64
        )
    dataset = open_dataset(config)
    served, lines = served_metrics(config, dataset, asked=False)
    assert served.metrics == ("scale_x2",) and len(lines) == 1
    assert lines[0].startswith(f"Left out {metric}: ")
    with pytest.raises(UserError, match=f"--metrics {metric}: .*{message}"):
        served_metrics(config, dataset, asked=True)
    fitting = replace(
        config, metrics=("clip_s_small_heldout", "swd"), resolution=config.judged_side
    )
    assert served_metrics(fitting, dataset, asked=True) == (fitting, [])


@pytest.mark.slow
def test_a_larger_kimg_tells_the_new_learning_rate(openmoji32, tmp_path, capsys):
    config = tiny(openmoji32, kimg=0.016, lr_decay=0.5)
    assert run(config, tmp_path)
    assert "learning rates" not in capsys.readouterr().out
    assert run(config, tmp_path)
    assert "learning rates" not in capsys.readouterr().out
    assert run(replace(config, kimg=0.032), tmp_path)
    line = "The learning rates go from 0.05 to 1 of their full values"
    assert line in capsys.readouterr().out


@pytest.mark.slow
def test_a_refused_resume_leaves_the_options_as_they_are(openmoji32, tmp_path):
    config = tiny(openmoji32, kimg=0.008)
    assert run(config, tmp_path / "run")
    before = (tmp_path / "run" / OPTIONS).read_bytes()
    grey = np.full((32, 32, 3), 128, dtype=np.uint8)
    items = [Picture(grey, f"{i}", ("thing",), "train") for i in range(8)]
    other = tmp_path / "other.zip"
    write_archive(other, items, (32, 32), {})
    with pytest.raises(UserError, match="not the pictures that this run was started with"):
        run(replace(config, data=str(other), kimg=0.016), tmp_path / "run")
    assert (tmp_path / "run" / OPTIONS).read_bytes() == before


@pytest.mark.slow
def test_errors_of_the_log_reach_every_rank(openmoji32, tmp_path, monkeypatch):
    """Rank 0 reads and writes the log within `on_main`, which raises its errors on every rank."""
    depth: list = []
    calls: dict = {}

    def on_main(action):
        depth.append(action)
        action()
        depth.pop()

    def watched(name):
        original = getattr(RunLog, name)

        def call(*args, **kwargs):
            calls.setdefault(name, []).append(bool(depth))
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr("training.training_loop.on_main", on_main)
    for name in ("__init__", "tick", "has_metric", "metric"):
        monkeypatch.setattr(RunLog, name, watched(name))
    assert run(tiny(openmoji32, kimg=0.008, metrics=("swd",), metric_num=4), tmp_path)
    assert set(calls) == {"__init__", "tick", "has_metric", "metric"}
    assert all(all(inside) for inside in calls.values())
