"""The real commands on small real data: train, generate, score; one line for each wrong input."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tests.commands.forked import run_command, succeed
from tests.commands.wrong_inputs import WRONG, Inputs


@pytest.fixture(scope="module")
def run(openmoji32, tmp_path_factory):
    """The folder of a debug run of 64 images."""
    outdir = tmp_path_factory.mktemp("runs") / "debug"
    succeed(
        "train.py",
        "--outdir",
        outdir,
        "--recipe",
        "debug",
        "--data",
        openmoji32,
        *"--tick 0.016 --snap 2 --metrics kid_lite2 --set metric_num=8".split(),
    )
    return outdir


@pytest.mark.slow
def test_a_run_leaves_everything_that_users_look_for(run):
    names = {path.name for path in run.iterdir()}
    assert {
        "training_options.json",
        "stats.jsonl",
        "log.txt",
        "reals.png",
        "fakes000000.png",
        "metric-kid_lite2.jsonl",
        "network-snapshot-000000",
        "training-state-000000.pt",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [record["images"] for record in records] == [16, 32, 48, 64]
    wanted = {
        "tick",
        "kimg",
        "elapsed_s",
        "sec_per_kimg",
        "images_per_s",
        "eta_s",
        "cpu_gib",
        "gpu_gib",
        "augment_p",
        "skipped",
        "Loss/D",
        "Loss/G",
        "Loss/R1",
        "Gradient/G",
        "Gradient/D",
    }
    assert wanted <= records[-1].keys()
    line = [
        line for line in (run / "log.txt").read_text().splitlines() if line.startswith("tick ")
    ][-1]
    for word in (
        "tick 4",
        "kimg",
        "sec/kimg",
        "img/s",
        "eta",
        "augment",
        "loss",
        "grad",
        "skipped 0",
    ):
        assert word in line
    card = (run / "network-snapshot-000000" / "README.md").read_text()
    assert "| Recipe | debug |" in card and "hashed-64-v1" in card
    assert "kimg 0.064 " in line and "operators: plain PyTorch;" in (run / "log.txt").read_text()


@pytest.mark.slow
def test_a_dry_run_prints_what_would_run(tmp_path):
    done = succeed(
        "train.py",
        "--outdir",
        tmp_path / "x",
        *"--recipe eidgan-coco256 -n --set text_encoder=hashed".split(),
        *"--set discriminator.kind=stylegan2".split(),
    )
    config = json.loads(done.stdout)
    assert (
        config["generator"]["sentence_dim"]
        == config["generator"]["word_dim"]
        == config["discriminator"]["sentence_dim"]
        == 64
    )
    assert (
        config["discriminator"]["kind"] == "stylegan2"
        and "spectral_scale" not in config["discriminator"]
    )
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_finished_run_started_again_does_nothing(run, openmoji32):
    before = (run / "stats.jsonl").read_text()
    done = succeed(
        "train.py",
        "--outdir",
        run,
        "--recipe",
        "debug",
        "--data",
        openmoji32,
        *"--tick 0.016 --snap 2 --metrics kid_lite2 --set metric_num=8".split(),
    )
    assert "Resumed from training-state-000000.pt at 64 images" in done.stdout
    assert (run / "stats.jsonl").read_text() == before


@pytest.mark.slow
def test_pictures_carry_their_origin_and_do_not_depend_on_batch_or_tile(run, tmp_path):
    base = (
        "generate.py",
        "--network",
        run,
        "--prompts",
        "a red apple",
        "--prompts",
        "Flag: Chad!",
        *"--seeds 0-1,7 --size 50x30 --grid".split(),
    )
    succeed(*base, "--outdir", tmp_path / "a")
    succeed(*base, "--outdir", tmp_path / "b", "--batch-gpu", 1, "--tile", 101)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "0-a-red-apple-seed0000.png",
        "1-a-red-apple-seed0001.png",
        "2-a-red-apple-seed0007.png",
        "3-flag-chad-seed0000.png",
        "4-flag-chad-seed0001.png",
        "5-flag-chad-seed0007.png",
        "grid.png",
    ]
    for name in names:
        with Image.open(tmp_path / "a" / name) as a, Image.open(tmp_path / "b" / name) as b:
            assert a.size == ((150, 60) if name == "grid.png" else (50, 30))
            assert max(abs(x - y) for x, y in zip(a.tobytes(), b.tobytes(), strict=True)) <= 1
            if name == "4-flag-chad-seed0001.png":
                assert isinstance(a, PngImageFile)
                assert (
                    a.text["prompt"] == "Flag: Chad!"
                    and a.text["seed"] == "1"
                    and len(a.text["snapshot"]) == 64
                )
                assert a.text["size"] == "50x30" and a.text["window"] == "0.0,0.0,1.0,1.0"


@pytest.mark.slow
def test_windows_prompt_files_and_truncation(run, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\n\na dog\n")
    base = (
        "generate.py",
        "--network",
        run / "network-snapshot-000000",
        "--prompts-file",
        tmp_path / "prompts.txt",
    )
    succeed(*base, "--outdir", tmp_path / "whole", "--size", "64x64")
    succeed(
        *base, "--outdir", tmp_path / "part", "--size", "32x16", "--window", "0.25,0.5,0.75,0.75"
    )
    succeed(
        *base,
        "--outdir",
        tmp_path / "outside",
        *"--window -0.5,0,1.5,1 --trunc 0.5 --size 24x12".split(),
    )
    with (
        Image.open(tmp_path / "whole/1-a-dog-seed0000.png") as whole,
        Image.open(tmp_path / "part/1-a-dog-seed0000.png") as part,
    ):
        cut = whole.crop((16, 32, 48, 48))
        assert max(abs(x - y) for x, y in zip(cut.tobytes(), part.tobytes(), strict=True)) <= 1
    assert sorted(p.name for p in (tmp_path / "outside").iterdir()) == [
        "0-a-cat-seed0000.png",
        "1-a-dog-seed0000.png",
    ]


@pytest.mark.slow
def test_scores_are_one_json_line_each(run, openmoji32):
    done = succeed(
        "calc_metrics.py",
        "calc",
        "--network",
        run,
        "--data",
        openmoji32,
        "--metrics",
        "tile_exact,scale_x2",
        "--num",
        4,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["metric"] for record in records] == ["tile_exact", "scale_x2"]
    assert records[0]["value"] < 1e-5
    assert {"centers", "endpoints"} <= records[1]["psnr"].keys()


@pytest.mark.slow
def test_transfer_starts_from_weights_but_at_image_zero(run, openmoji32, tmp_path):
    done = succeed(
        "train.py",
        "--outdir",
        tmp_path / "next",
        "--recipe",
        "debug",
        "--data",
        openmoji32,
        "--init-from",
        run,
        *"--kimg 0.008 --report-to none".split(),
    )
    assert (
        "Started from" in done.stdout
        and "tensors of G taken, 0 new" in done.stdout
        and "tensors of D taken, 0 new" in done.stdout
    )
    assert json.loads((tmp_path / "next/stats.jsonl").read_text().splitlines()[0])["images"] == 8


@pytest.mark.slow
def test_a_start_that_failed_does_not_bind_the_next(openmoji32, tmp_path):
    base = (
        "train.py",
        "--outdir",
        tmp_path / "run",
        "--recipe",
        "debug",
        "--data",
        openmoji32,
        *"--kimg 0.008 --report-to none".split(),
    )
    assert "does not exist" in run_command(*base, "--init-from", tmp_path / "nothing").stderr
    succeed(*base)


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_get_one_clear_line(case, run, openmoji32, tmp_path):
    code, arguments, words = WRONG[case]
    done = run_command(*arguments(Inputs(run, openmoji32, tmp_path)))
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and words in done.stderr
    # generate.py prints a line before the first picture, which then cannot be written.
    if code == 1 and case != "pictures that cannot be":
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.glob("out/*.zip"))
