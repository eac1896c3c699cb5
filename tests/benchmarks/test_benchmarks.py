"""Every benchmark runs and writes a record, and its variants give equal results."""

from __future__ import annotations

import functools
import json
import re

import click
import pytest
import torch
from click.testing import CliRunner

from benchmarks import (
    against,
    bytes_moved,
    checkpoints,
    detail_power,
    fuzz_imports,
    generator,
    harness,
    kernel_resources,
    loaders,
    measure_floors,
    memory,
    ops,
    scaling,
    sensitivity,
    training_step,
)
from benchmarks.literal import literal
from networks.coordinates import View
from networks.generators import preset
from torch_utils.ops.backend import using

SHORT = [
    *"--device cpu --batches 2 --generator eidgan-tiny --rounds 3".split(),
    *"--seconds 0".split(),
]


@pytest.fixture
def small_discriminator(monkeypatch):
    monkeypatch.setattr(
        training_step,
        "WaveletDiscriminatorConfig",
        functools.partial(training_step.WaveletDiscriminatorConfig, channel_base=512),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "module,arguments,label",
    [
        (ops, ["--resolutions", "8", "--variants", "eager,ours"], "op"),
        (generator, ["--resolutions", "8", "--variants", "literal,eager,ours"], "generator"),
        (
            training_step,
            ["--resolutions", "32", "--variants", "eager,ours", "--dtypes", "fp32"],
            "part",
        ),
    ],
    ids=["ops", "generator", "step"],
)
def test_it_runs_and_writes_its_record(
    module, arguments, label, small_discriminator, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        harness.Bench, "limit_s", lambda self, flops, moved, dtype: flops / 1e9 + moved / 1e9
    )  # measuring the limits of the machine takes a second
    done = CliRunner().invoke(
        module.main,
        [*SHORT, *arguments, "--json", str(tmp_path / "r.json")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    record = json.loads((tmp_path / "r.json").read_text())
    rows = record["rows"]
    assert {row["variant"] for row in rows} == set(arguments[3].split(",")) and all(
        label in row and row["ms"] > 0 for row in rows
    )
    assert record["machine"]["torch"] == torch.__version__ and record["date"]


def test_a_variant_that_fails_is_a_note_and_every_case_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(harness.Bench, "limit_s", lambda *_: 0.0)
    path = tmp_path / "r.json"
    bench = harness.Bench("test", {"device": "cpu", "rounds": 3, "seconds": 0.0, "json_path": path})

    def broken():
        raise RuntimeError("capture failed\nat length")

    def too_large():
        raise torch.OutOfMemoryError("no")

    bench.case({"part": 1}, {"broken": broken, "large": too_large, "ours": lambda: torch.ones(1)})
    rows = json.loads(path.read_text())["rows"]
    assert [row.get("problem") for row in rows] == [
        "RuntimeError: capture failed",
        "out of memory",
        None,
    ] and rows[2]["ms"] > 0
    bench.case({"part": 2}, {"broken": broken})
    assert len(json.loads(path.read_text())["rows"]) == 4


def test_the_literal_form_is_the_same_function():
    torch.manual_seed(0)
    network = preset("eidgan-tiny").build()
    inputs = torch.randn(2, *network.latent_shape), generator.text_for(network.config, 2, "cpu")
    with torch.no_grad(), using("ref"):
        folded = network(*inputs, View(height=9, width=7))
        with literal():
            direct = network(*inputs, View(height=9, width=7))
    assert not torch.equal(direct, folded)  # `literal` replaced these functions
    torch.testing.assert_close(direct, folded, rtol=1e-4, atol=1e-4)


def test_flops_of_r1_are_counted(small_discriminator):
    plain, regularised = (
        training_step.work("eidgan-tiny", 32, 1, "cpu", torch.float32, training_step.PARTS[part])[0]
        for part in ("D", "D+R1")
    )
    assert regularised > plain > 0


def refused(module, *arguments):
    """The error line of a benchmark that refuses to start."""
    done = CliRunner().invoke(module.main, [str(argument) for argument in arguments])
    assert isinstance(done.exception, SystemExit) and done.exit_code == 1, done.exception
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "module, arguments",
    [
        (against, ["."]),
        (bytes_moved, []),
        (checkpoints, []),
        (detail_power, ["--data", "none.zip"]),
        (fuzz_imports, []),
        (generator, SHORT),
        (kernel_resources, []),
        (loaders, ["--data", "none.zip"]),
        (measure_floors, ["--data", "none.zip"]),
        (memory, []),
        (ops, SHORT),
        (scaling, ["cpu", "--data", "none.zip"]),
        (training_step, SHORT),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_foreign_file_is_refused_before_any_work(module, arguments, tmp_path):
    path = tmp_path / "notes.json"
    path.write_text('{"rows": "mine"}')
    assert "notes.json is no JSON file with " in refused(module, *arguments, "--json", path)
    assert path.read_text() == '{"rows": "mine"}'


@pytest.mark.parametrize(
    "module",
    [detail_power, loaders, measure_floors, scaling, sensitivity],
    ids=lambda module: module.__name__,
)
def test_a_data_set_that_is_not_there_is_one_line(module, tmp_path):
    command = ["cpu"] if module is scaling else []
    assert "none.zip" in refused(module, *command, "--data", tmp_path / "none.zip")


def test_the_model_of_many_gpus_is_the_record_of_the_page(tmp_path):
    path = tmp_path / "r.json"
    done = CliRunner().invoke(scaling.main, ["model", "--json", str(path)])
    assert done.exit_code == 0, done.output
    page = (scaling.RESULTS.parents[1] / "docs/cluster.md").read_text("utf-8")
    (name,) = re.findall(r"<!-- figures: scaling_model (\S+) -->", page)
    assert json.loads(path.read_text()) == json.loads(
        (scaling.RESULTS / f"{name}.json").read_text()
    )


def test_the_step_of_the_model_comes_from_a_record():
    measured = scaling.measured_step(scaling.STEP_RECORD, 256)
    assert (measured["network"], measured["batch"]) == ("eidgan", 32)
    record = json.loads((scaling.RESULTS / f"{measured['record']}.json").read_text("utf-8"))
    assert measured["seconds"] * 1000 in {row["ms"] for row in record["rows"]}
    assert "--record none: there is no" in refused(scaling, "model", "--record", "none")
    wide = ["model", "--recipe", "eidgan-openmoji32"]
    assert "holds no step at 32 px; give --step-s" in refused(scaling, *wide)


@pytest.mark.parametrize("part", ["forward", "step"])
def test_an_unknown_network_is_refused_before_a_side_starts(part, tmp_path):
    assert "'nosuch'" in refused(against, tmp_path, "--generator", "nosuch", "--parts", part)


@pytest.mark.slow
@pytest.mark.multi_process
def test_a_way_that_fails_ends_the_measurement(tmp_path):
    with pytest.raises(click.ClickException, match="one thread: its process failed"):
        scaling.of_batch(str(tmp_path / "none.zip"), str(tmp_path), 8, [0], 0.1, 1)


@pytest.mark.slow
def test_checkpoints_are_measured_and_deleted(tmp_path):
    record, folder = tmp_path / "record.json", tmp_path / "disk"
    flags = "--recipe debug --batch 2 --device cpu --rounds 1 --steps 1".split()
    result = CliRunner().invoke(
        checkpoints.main, [*flags, "--folder", str(folder), "--json", str(record)]
    )
    assert result.exit_code == 0, result.output
    (row,) = json.loads(record.read_text())["rows"]
    assert row["steps_during"] >= 0 and all(pause > 0 for pause in row["pause_s"].values())
    assert not list(folder.iterdir())
