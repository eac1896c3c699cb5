"""Seeds: what the commands and `Snapshot.draw` refuse."""

import pytest
from click.testing import CliRunner

import calc_metrics
import dataset_tool
import fit_lines
import generate
import project
import train
from dnnlib.errors import UserError
from dnnlib.seeds import check_seed
from training import dual_encoder


def test_a_seed_is_a_whole_number_from_0():
    check_seed(0)
    for seed in (-1, 1.5, "1", None):
        with pytest.raises(UserError, match="seed: must be a whole number from 0, got"):
            check_seed(seed)


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (generate.main, ["--prompts", "x", "--mix", "-1"], "Invalid value for '--mix'"),
        (project.main, ["--target", "a", "--seed", "-5"], "Invalid value for '--seed'"),
        (project.main, ["--target", "a", "--prompt", " "], "Error: --prompt: is empty"),
    ],
)
def test_commands_refuse_alike(command, arguments, words):
    done = CliRunner().invoke(command, ["--network", "none", *arguments])
    assert done.exit_code != 0 and words in done.stderr


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (train.main, ["--outdir", "x", "--recipe", "debug", "--seed", "-1"]),
        (train.main, ["--outdir", "x", "--recipe", "debug", "--set", "seed=-1"]),
        (dataset_tool.main, ["openmoji", "--dest", "x.zip", "--seed", "-1"]),
        (calc_metrics.main, ["gen", "--network", "x", "--data", "x", "--seed", "-1"]),
        (fit_lines.main, ["--seed", "-1"]),
        (dual_encoder.main, ["--seed", "-1"]),
    ],
)
def test_no_command_takes_a_negative_seed(command, arguments):
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code != 0 and "seed" in done.stderr and "-1" in done.stderr
