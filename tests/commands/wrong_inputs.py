"""Command lines with a wrong input, for `test_end_to_end.py`.

`WRONG` has the exit code, the command line as a function of `Inputs`, and words of the message.
"""

from __future__ import annotations

import shutil

import numpy as np
from PIL import Image

from datasets.archive import Picture, write_archive


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
            *"--recipe debug -n --set optimizer_g.lr=Infinity".split(),
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
            *"--recipe debug -n --set loss.r1_gama=1".split(),
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
            *"--prompts x --size 2000000x2000000".split(),
        ),
        "at most 65536",
    ),
    "boundless grid": (
        1,
        lambda f: ("generate.py", "--network", f.run, *"--prompts x --seeds 0-9999 --grid".split()),
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
        "; copy it again",
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
    """Paths of valid and faulty inputs for one case."""

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
