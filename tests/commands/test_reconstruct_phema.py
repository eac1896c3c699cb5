"""reconstruct_phema.py on a debug run: it writes snapshots that the other commands read."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from networks.generators import preset
from networks.snapshot import Snapshot
from tests.commands.forked import run_command, succeed
from training.reconstruction import unedited_fault


@pytest.fixture(scope="module")
def run(openmoji32, tmp_path_factory):
    """A debug run of four steps with two weight averages."""
    outdir = tmp_path_factory.mktemp("runs") / "debug"
    succeed(
        "train.py",
        "--outdir",
        outdir,
        "--recipe",
        "debug",
        "--data",
        openmoji32,
        *"--kimg 0.032 --report-to none".split(),
        "--set",
        "ema.posthoc=[0.1, 0.2]",
    )
    return outdir


@pytest.mark.slow
def test_a_run_gives_snapshots_of_other_lengths(run, openmoji32, tmp_path):
    assert [path.name for path in run.glob("averages-*")] == ["averages-000000.safetensors"]
    command = ("reconstruct_phema.py", "--network", run, "--std", "0.1,0.15", "--outdir", tmp_path)
    records = [json.loads(line) for line in succeed(*command).stdout.splitlines()]
    assert [record["sigma_rel"] for record in records] == [0.1, 0.15]
    assert records[0]["residual"] < 1e-6 and 0.05 < records[1]["residual"] < 0.1
    assert {record["buffers_of"] for record in records} == {"network-snapshot-000000"}

    state = torch.load(run / "training-state-000000.pt", weights_only=True)
    assert state["power_averages"]["images"] == 32
    stored, made = state["power_averages"]["averages"][0.1], tmp_path / "phema-000000-0.1000"
    generator = Snapshot.from_pretrained(made).generator
    for name, parameter in generator.named_parameters():  # float16 has 11 bits
        torch.testing.assert_close(parameter, stored[name], rtol=2**-11, atol=1e-7)
    newest = Snapshot.from_pretrained(run).generator
    assert torch.equal(generator.tokens_mean, newest.tokens_mean)

    succeed(*command)  # an earlier result is replaced
    other = tmp_path / "phema-000000-0.1500"
    succeed("generate.py", "--network", other, "--prompts", "a", "--outdir", tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 1
    done = succeed(
        "calc_metrics.py",
        "calc",
        "--network",
        other,
        "--data",
        openmoji32,
        "--metrics",
        "tile_exact",
        "--num",
        2,
    )
    assert json.loads(done.stdout)["value"] < 1e-5


def test_an_edited_model_card_is_kept(tmp_path):
    Snapshot(preset("creps-tiny").build().eval(), "hashed", 16, {"kimg": 1.5}).save_pretrained(
        tmp_path / "s"
    )
    assert unedited_fault(tmp_path / "s") is None
    with open(tmp_path / "s" / "README.md", "a") as card:
        card.write("My line\n")
    assert "README.md" in str(unedited_fault(tmp_path / "s"))


def error_of(*arguments):
    done = run_command("reconstruct_phema.py", *arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.slow
def test_what_cannot_be_is_one_line(run, tmp_path):
    plain, out = tmp_path / "plain", tmp_path / "out"
    shutil.copytree(run / "network-snapshot-000000", plain / "network-snapshot-000000")
    ask = ("--network", run, "--outdir", out, "--std")
    assert "--set 'ema.posthoc=[0.05, 0.1]'" in error_of("--network", plain, *ask[2:], "0.1")
    assert "is no folder" in error_of("--network", tmp_path / "no", *ask[2:], "0.1")
    line = error_of(*ask, "0.1,0.02")
    assert "--std 0.02: the 2 stored averages miss that profile by 66%" in line
    succeed("reconstruct_phema.py", *ask, line.split()[-1])  # the length in the file name
    shutil.rmtree(out)
    assert "0.2887, such as 0.03,0.08" in error_of(*ask, "0.5")
    assert "expected relative lengths" in error_of(*ask, "0.1;0.2")
    assert "two lengths are equal" in error_of(*ask, "0.1,0.10")
    assert "no averages of that moment; name one of 0" in error_of(*ask, "0.1", "--kimg", 7)
    (out / "phema-000000-0.2000").mkdir(parents=True)
    (out / "phema-000000-0.2000" / "diary.txt").write_text("mine")
    assert "phema-000000-0.2000 holds diary.txt" in error_of(*ask, "0.1,0.2")
    assert [path.name for path in out.rglob("*.txt")] == ["diary.txt"]
    assert not (out / "phema-000000-0.1000").exists()
