"""Options that take a number: what they refuse, in words that name the option."""

import click
import pytest
from click.testing import CliRunner

import dataset_tool
import generate
import train
from dnnlib.number_options import FiniteFloat


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-0.1", "1.5", "x"])
def test_a_number_outside_is_refused_by_the_name_of_its_option(value):
    @click.command()
    @click.option("--share", type=FiniteFloat(0, 1))
    def command(share):
        click.echo(share)

    assert CliRunner().invoke(command, ["--share", "0.5"]).stdout == "0.5\n"
    done = CliRunner().invoke(command, ["--share", value])
    assert done.exit_code == 2 and "Invalid value for '--share'" in done.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "option"),
    [
        (dataset_tool.main, "folder --source a --dest b.zip --test-share nan", "--test-share"),
        (generate.main, "--network a --prompts x --text-noise nan", "--text-noise"),
        (generate.main, "--network a --prompts x --blend y 3 nan", "--blend"),
        (train.main, "--outdir a --recipe debug --kimg inf", "--kimg"),
        (train.main, "--outdir a --recipe debug --gamma nan", "--gamma"),
    ],
)
def test_commands_refuse_what_is_no_number(command, arguments, option):
    done = CliRunner().invoke(command, arguments.split())
    assert done.exit_code == 2 and f"Invalid value for '{option}'" in done.stderr
    assert "is not a finite number" in done.stderr
