"""calc_metrics.py as a user runs it: list, JSON lines, one-line errors, two ranks, nothing heavy
for --help.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import calc_metrics
import train
from dnnlib.errors import UserError
from metrics.command import DEFAULT_METRICS, folder_defaults, named_evaluations, seed_blocks
from metrics.evaluations import EVALUATIONS
from networks.snapshot import Snapshot
from tests.commands.forked import start_ranks
from tests.metrics.calc import calc, run

ROOT = Path(calc_metrics.__file__).parent


def lines_of(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_list_names_every_evaluation():
    result = CliRunner().invoke(calc_metrics.main, ["list"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == set(EVALUATIONS)
    assert all(
        row.summary in lines[name] and len(lines[name]) <= 120 for name, row in EVALUATIONS.items()
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys, calc_metrics; calc_metrics.main(['calc', '--help'], standalone_mode=False); "
        "names = ('torch', 'numpy', 'timm', 'transformers', 'open_clip'); "
        "print([m for m in names if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_json_lines_on_stdout_and_in_the_file(network, archive, tmp_path):
    out = tmp_path / "scores" / "metrics.jsonl"
    result = calc(
        "--network",
        network.parent,
        "--data",
        archive,
        "--metrics",
        "scale_x2, tile_exact",
        "--num",
        3,
        "--cache",
        tmp_path,
        "--out",
        out,
    )
    assert result.exit_code == 0, result.stderr
    records = lines_of(result.stdout)
    assert [r["metric"] for r in records] == ["scale_x2", "tile_exact"] and len(
        result.stdout.splitlines()
    ) == 2
    assert lines_of(out.read_text()) == records
    assert records[1]["value"] < 1e-5 and records[0]["psnr"]["centers"] == records[0]["value"]
    assert records[0]["snapshot_sha256"] == Snapshot.from_pretrained(network).sha256
    assert records[0]["num_generated"] == 3 and "pictures of 32x32: 3/3" in result.stderr


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"--metrics": "kid_lite"}, "did you mean 'kid_lite2'?"),
        ({"--metrics": ","}, "name at least one"),
        ({"--num": "1"}, "--num-images 1"),
        ({"--trunc": "nan"}, "--trunc nan"),
        ({"--network": "no/such/run"}, "no/such/run"),
        ({"--data": "no/such.zip"}, "no/such.zip"),
        ({"--device": "gpu7"}, "--device gpu7"),
        pytest.param(
            {"--ops": "cuda"},
            "--ops cuda: ",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here"),
        ),
    ],
)
def test_mistakes_are_one_line(network, archive, tmp_path, change, complaint):
    options = {
        "--network": str(network),
        "--data": str(archive),
        "--metrics": "tile_exact",
        "--cache": str(tmp_path),
    }
    result = calc(*(part for pair in (options | change).items() for part in pair))
    assert result.exit_code == 1
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: ") and complaint in result.stderr


def test_the_blocks_of_a_run_have_a_limit():
    assert seed_blocks(None) == [None] and seed_blocks("0-2, 5") == [0, 1, 2, 5]
    with pytest.raises(UserError, match="--seed 0-1000000: at most 1000000 seeds a run"):
        seed_blocks("0-1000000")


def test_gen_makes_the_pictures_of_one_evaluation(network, archive, tmp_path):
    line = ("gen", "--network", network, "--data", archive, "--outdir", tmp_path / "made")
    result = run(*line, "--metrics", "fid10k,kid10k", "--num", 1, "--device", "cpu")
    assert result.exit_code == 1 and not (tmp_path / "made").exists()
    assert "Error: --metrics fid10k,kid10k: only one evaluation's" in result.stderr


def test_usage_errors_are_clicks_own(network):
    assert calc("--network", network).exit_code == 2
    assert calc("--network", network, "--data", "x.zip", "--batch-gpu", "0").exit_code == 2


@pytest.mark.slow
def test_two_ranks_give_the_numbers_of_one(network, archive, tmp_path):
    arguments = [
        "--network",
        network,
        "--data",
        archive,
        "--metrics",
        "kid_lite2,scale_x2,tile_exact",
        "--num",
        "7",
        "--batch-gpu",
        "2",
        "--cache",
    ]
    (single,) = (calc(*arguments, tmp_path / "one"),)
    command = ("calc_metrics.py", "calc", "--device", "cpu", *arguments, tmp_path / "two")
    outputs = [rank.wait() for rank in start_ranks(*command)]
    assert [output.returncode for output in outputs] == [0, 0], outputs
    assert outputs[1].stdout == ""  # only rank 0 speaks
    one, two = lines_of(single.stdout), lines_of(outputs[0].stdout)
    assert (
        [r["metric"] for r in one]
        == [r["metric"] for r in two]
        == ["kid_lite2", "scale_x2", "tile_exact"]
    )
    for a, b in zip(one, two, strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=1e-4, abs=1e-5), a["metric"]


@pytest.mark.parametrize("command", [calc_metrics.calc, train.main])
def test_torchrun_takes_no_flag_for_its_own(command):
    """torchrun reads a prefix of one of its options as that option, wherever it stands."""
    from torch.distributed.run import get_args_parser

    theirs = [option for action in get_args_parser()._actions for option in action.option_strings]
    ours = {
        option
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    } - {"--num"}
    assert "--num-images" in ours or command is train.main
    assert not [option for option in ours if any(other.startswith(option) for other in theirs)]


@pytest.mark.parametrize(
    "line, words",
    [
        ('{"metric": "kid_lite2", "value": "x"}', "line 2: field 'value' cannot be 'x'"),
        ('{"metric": ["kid_lite2"], "value": 1}', "line 2: field 'metric' cannot be ['kid_lite2']"),
        ('{"metric": "kid_lite2", "value": 1, "seed": []}', "line 2: field 'seed' cannot be []"),
        ('{"metric": "kid_lite2", "value": 2}', "--metrics fid10k: a hold kid_lite2; name one"),
    ],
)
def test_compare_refuses_bad_records_and_evaluations_without_a_score(tmp_path, line, words):
    file = tmp_path / "a.jsonl"
    file.write_text('{"metric": "kid_lite2", "value": 1}\n' + line + "\n")
    done = run("compare", file, "--metrics", "fid10k")
    assert done.exit_code == 1 and words in done.stderr and done.stdout == ""
    (error,) = done.stderr.splitlines()
    assert str(file) in error or "fid10k" in words


def scores_in(folder, value, seed=0, name="scores.jsonl", **fields):
    folder.mkdir(parents=True, exist_ok=True)
    record = {"metric": "kid_lite2", "value": value, "seed": seed, **fields}
    (folder / name).write_text(json.dumps(record) + "\n")
    return folder / name


def test_compare_names_rows_by_whole_names_and_keeps_paths_with_an_equals_sign(tmp_path):
    runs = ("lr0.001", "lr0.002", "lr=3", "a.b.jsonl")
    for number, name in enumerate(runs[:3], start=1):
        scores_in(tmp_path / name, number)
    scores_in(tmp_path, 4, name=runs[3])
    table = json.loads(
        run("compare", *(tmp_path / name for name in runs), "--format", "json").stdout
    )
    means = {name: row["kid_lite2"]["mean"] for name, row in table.items()}
    assert means == {"lr0.001": 1, "lr0.002": 2, "lr=3": 3, "a.b": 4}


def test_compare_merges_only_what_has_one_given_name(tmp_path):
    a, b = scores_in(tmp_path / "a", 1), scores_in(tmp_path / "b", 3, seed=1)
    done = run("compare", f"x={a}", f"x={b}", "--format", "json")
    assert json.loads(done.stdout)["x"]["kid_lite2"]["num_blocks"] == 2
    for pair in ((a, b), (a, f"scores={b}"), (f"scores={a}", b)):
        done = run("compare", *pair)
        assert done.exit_code == 1 and done.stdout == ""
        assert f"{pair[0]} and {pair[1]} would share the row scores" in done.stderr
        assert "NAME=PATH" in done.stderr


def test_two_networks_are_no_seed_blocks_of_one_run(tmp_path):
    a = scores_in(tmp_path / "a", 1, snapshot_sha256="1")
    b = scores_in(tmp_path / "b", 3, seed=1, snapshot_sha256="2")
    for pair in ((a, b), (a.parent, b.parent)):
        done = run("compare", *(f"x={path}" for path in pair))
        assert done.exit_code == 1 and "another network" in done.stderr
        assert f"x={pair[1]}: " in done.stderr and "give it another NAME" in done.stderr


def test_a_pipe_in_a_name_stays_in_its_cell(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"metric": "kid_lite2", "value": 1}\n')
    assert "| a\\|b | 1 |" in run("compare", f"a|b={tmp_path / 'a.jsonl'}").stdout


def test_defaults_of_a_folder_need_no_network(capsys):
    chosen = folder_defaults(named_evaluations(DEFAULT_METRICS))
    assert [one.name for one in chosen] == DEFAULT_METRICS.split(",")[:4]
    assert capsys.readouterr().err == "Left out scale_x2, tile_exact: they need --network\n"
