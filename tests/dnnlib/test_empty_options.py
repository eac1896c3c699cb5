"""An empty value, such as that of a variable that the shell does not know, is no value."""

import click
import pytest
from click.testing import CliRunner

import calc_metrics
import dataset_tool
import export
import generate
import project
import train
from dnnlib.console import report_user_errors

CALC = "calc --network a --data b"


@pytest.mark.parametrize(
    ("command", "arguments", "option"),
    [
        (calc_metrics.main, CALC, "--out"),
        (calc_metrics.main, CALC, "--ref"),
        (calc_metrics.main, CALC, "--seed"),
        (calc_metrics.main, CALC, "--class-names"),
        (calc_metrics.main, "calc --data b", "--network"),
        (calc_metrics.main, "calc --data b --ref c", "--images"),
        (generate.main, "--network a --prompts x", "--size"),
        (generate.main, "--network a --prompts x", "--outdir"),
        (generate.main, "--prompts x", "--network"),
        (generate.main, "video --network a --kind zoom --prompt x", "--seeds"),
        (project.main, "--network a --target b", "--out"),
        (export.main, "--network a --format onnx", "--out"),
        (train.main, "--outdir a --recipe debug", "--metrics"),
        (dataset_tool.main, "folder --source a --dest b.zip", "--captions-from"),
    ],
)
def test_an_empty_value_is_refused_by_the_name_of_its_option(command, arguments, option):
    done = CliRunner().invoke(command, [*arguments.split(), option, ""])
    assert done.exit_code == 1
    assert done.stderr == f"Error: {option}: is empty; give it a value, or leave it out\n"


@pytest.mark.parametrize("option", ["--source", "--dest"])
def test_an_empty_path_is_not_the_current_folder(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["folder", "--source", "a", "--dest", "b.zip", option, ""]
    done = CliRunner().invoke(dataset_tool.main, line)
    assert done.exit_code == 2 and f"Invalid value for '{option}': is empty" in done.stderr


def test_an_empty_default_and_an_empty_part_are_values():
    @click.command()
    @click.option("--names", default="")
    @click.option("--blend", type=(str, int))
    @report_user_errors
    def command(names, blend):
        click.echo((names, blend))

    done = CliRunner().invoke(command, ["--blend", "", "3"])
    assert done.exit_code == 0 and done.stdout == "('', ('', 3))\n"
