"""The real commands on small real data: train, generate, score; and one clear line for every wrong input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from datasets.archive import Picture, write_archive
from tests.commands.forked import run_command, succeed


@pytest.fixture(scope="module")
def run(openmoji32, tmp_path_factory):
    """A debug run of 64 images, from the command line."""
    outdir = tmp_path_factory.mktemp("runs") / "debug"
    succeed(
        "train.py",
        "--outdir",
        outdir,
        "--recipe",
        "debug",
        "--data",
        openmoji32,
        "--tick",
        "0.016",
        "--snap",
        "2",
        "--metrics",
        "kid_lite2",
        "--set",
        "metric_num=8",
    )
    return outdir


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


def test_a_dry_run_prints_what_would_run(tmp_path):
    done = succeed(
        "train.py",
        "--outdir",
        tmp_path / "x",
        "--recipe",
        "eidgan-coco256",
        "-n",
        "--set",
        "text_encoder=hashed",
        "--set",
        "discriminator.kind=stylegan2",
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
        "--tick",
        "0.016",
        "--snap",
        "2",
        "--metrics",
        "kid_lite2",
        "--set",
        "metric_num=8",
    )
    assert "Resumed from training-state-000000.pt at 64 images" in done.stdout
    assert (run / "stats.jsonl").read_text() == before


def test_pictures_carry_their_origin_and_do_not_depend_on_batch_or_tile(run, tmp_path):
    base = (
        "generate.py",
        "--network",
        run,
        "--prompts",
        "a red apple",
        "--prompts",
        "Flag: Chad!",
        "--seeds",
        "0-1,7",
        "--size",
        "50x30",
        "--grid",
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
        "--window",
        "-0.5,0,1.5,1",
        "--trunc",
        "0.5",
        "--size",
        "24x12",
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
        "--kimg",
        "0.008",
        "--report-to",
        "none",
    )
    assert (
        "Started from" in done.stdout
        and "tensors of G taken, 0 new" in done.stdout
        and "tensors of D taken, 0 new" in done.stdout
    )
    assert json.loads((tmp_path / "next/stats.jsonl").read_text().splitlines()[0])["images"] == 8


def test_a_start_that_failed_does_not_bind_the_next(openmoji32, tmp_path):
    base = (
        "train.py",
        "--outdir",
        tmp_path / "run",
        "--recipe",
        "debug",
        "--data",
        openmoji32,
        "--kimg",
        "0.008",
        "--report-to",
        "none",
    )
    assert "does not exist" in run_command(*base, "--init-from", tmp_path / "nothing").stderr
    succeed(*base)


def damaged_snapshot(run, where, change):
    folder = where / "snapshot"
    shutil.copytree(run / "network-snapshot-000000", folder)
    change(folder)
    return folder


WRONG = {
    "missing data": (
        1,
        lambda f: ("train.py", "--outdir", f.out, "--recipe", "debug", "--data", "data/none.zip"),
        "data/none.zip",
    ),
    "outdir that cannot be": (
        1,
        lambda f: ("train.py", "--outdir", f.data / "run", "--recipe", "debug", "--data", f.data),
        "openmoji32.zip/run: cannot be written (Not a directory)",
    ),
    "pictures that cannot be": (
        1,
        lambda f: ("generate.py", "--network", f.run, "--prompts", "x", "--outdir", f.data / "out"),
        "seed0000.png: cannot be written (Not a directory)",
    ),
    "metric without its split": (
        1,
        lambda f: (
            "train.py",
            "--outdir",
            f.out,
            "--recipe",
            "debug",
            "--data",
            f.train_only(),
            "--metrics",
            "kid_lite2",
        ),
        "--test-share 0.1), or train with --metrics none",
    ),
    "infinite rate": (
        1,
        lambda f: (
            "train.py",
            "--outdir",
            f.out,
            "--recipe",
            "debug",
            "-n",
            "--set",
            "optimizer_g.lr=Infinity",
        ),
        "config.optimizer_g.lr: must be a finite number",
    ),
    "no data": (
        1,
        lambda f: ("train.py", "--outdir", f.out, "--recipe", "debug"),
        "--data is missing",
    ),
    "truncated zip": (
        1,
        lambda f: ("train.py", "--outdir", f.out, "--recipe", "debug", "--data", f.cut_zip()),
        "cut.zip",
    ),
    "unknown recipe": (
        1,
        lambda f: ("train.py", "--outdir", f.out, "--recipe", "eidgan-coc256"),
        "did you mean 'eidgan-coco256'",
    ),
    "unknown --set key": (
        1,
        lambda f: (
            "train.py",
            "--outdir",
            f.out,
            "--recipe",
            "debug",
            "-n",
            "--set",
            "loss.r1_gama=1",
        ),
        "did you mean 'r1_gamma'",
    ),
    "wrong resolution": (
        1,
        lambda f: (
            "train.py",
            "--outdir",
            f.out,
            "--recipe",
            "eidgan-openmoji64",
            "--data",
            f.data,
        ),
        "64x64",
    ),
    "cuda ops": (
        1,
        lambda f: (
            "train.py",
            "--outdir",
            f.out,
            "--recipe",
            "debug",
            "--data",
            f.data,
            "--ops",
            "cuda",
        ),
        "--ops",
    ),
    "unknown flag": (2, lambda f: ("train.py", "--outdri", f.out), "--outdri"),
    "empty size": (
        1,
        lambda f: ("generate.py", "--network", f.run, "--prompts", "x", "--size", "0x5"),
        "0x5",
    ),
    "boundless size": (
        1,
        lambda f: (
            "generate.py",
            "--network",
            f.run,
            "--prompts",
            "x",
            "--size",
            "2000000x2000000",
        ),
        "at most 65536",
    ),
    "boundless grid": (
        1,
        lambda f: (
            "generate.py",
            "--network",
            f.run,
            "--prompts",
            "x",
            "--seeds",
            "0-9999",
            "--grid",
        ),
        "at most 65536",
    ),
    "no prompt": (1, lambda f: ("generate.py", "--network", f.run), "--prompts"),
    "bad seeds": (
        1,
        lambda f: ("generate.py", "--network", f.run, "--prompts", "x", "--seeds", "3-1"),
        "backwards",
    ),
    "bad window": (
        1,
        lambda f: ("generate.py", "--network", f.run, "--prompts", "x", "--window", "0,0,1"),
        "x0,y0,x1,y1",
    ),
    "no snapshot": (
        1,
        lambda f: ("generate.py", "--network", f.out, "--prompts", "x"),
        "does not exist",
    ),
    "snapshot without config": (
        1,
        lambda f: (
            "generate.py",
            "--network",
            f.broken(lambda s: (s / "config.json").unlink()),
            "--prompts",
            "x",
        ),
        "config.json does not exist",
    ),
    "text as weights": (
        1,
        lambda f: (
            "generate.py",
            "--network",
            f.broken(lambda s: (s / "model.safetensors").write_text("hello")),
            "--prompts",
            "x",
        ),
        "is not a safetensors file",
    ),
    "unknown metric": (
        1,
        lambda f: (
            "calc_metrics.py",
            "calc",
            "--network",
            f.run,
            "--data",
            f.data,
            "--metrics",
            "kid_lit2",
        ),
        "did you mean 'kid_lite2'",
    ),
    "boundless pictures": (
        1,
        lambda f: (
            "dataset_tool.py",
            "folder",
            "--source",
            f.captions('{"file": "a.png", "captions": ["a"]}'),
            "--dest",
            f.out / "x.zip",
            "--resolution",
            "100000x9",
        ),
        "at most 4096",
    ),
    "caption file with a wrong key": (
        1,
        lambda f: (
            "dataset_tool.py",
            "folder",
            "--source",
            f.captions('{"fiel": "a.png"}'),
            "--dest",
            f.out / "x.zip",
            "--resolution",
            "8x8",
        ),
        "fiel",
    ),
}


class Inputs:
    """Wrong and right inputs for one case."""

    def __init__(self, run, data, where):
        self.run, self.data, self.where, self.out = run, data, where, where / "out"

    def cut_zip(self):
        path = self.where / "cut.zip"
        path.write_bytes(self.data.read_bytes()[:-2000])
        return path

    def train_only(self):
        path = self.where / "train.zip"
        image = np.zeros((32, 32, 3), np.uint8)
        write_archive(path, [Picture(image, "a", ("a",), "train")], (32, 32), {})
        return path

    def broken(self, change):
        return damaged_snapshot(self.run, self.where, change)

    def captions(self, line):
        folder = self.where / "pictures"
        folder.mkdir()
        Image.new("RGB", (9, 9)).save(folder / "a.png")
        (folder / "captions.jsonl").write_text(line + "\n")
        return folder


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_get_one_clear_line(case, run, openmoji32, tmp_path):
    code, arguments, words = WRONG[case]
    done = run_command(*arguments(Inputs(run, openmoji32, tmp_path)))
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and words in done.stderr
    if (
        code == 1 and case != "pictures that cannot be"
    ):  # there it shows at the first picture, after a line on what is drawn
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.glob("out/*.zip"))
