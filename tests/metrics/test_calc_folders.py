"""calc_metrics.py on folders of pictures: gen, ref, compare, foreign statistics, and torch-fidelity
on the same folders.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.metrics.calc import calc, records_of, run


def write_folder(folder, count, seed, size=20, low=0):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(low, 256, (size, size, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((24, 24), Image.Resampling.BICUBIC).save(
            folder / f"{index:03d}.png"
        )
    return folder


@pytest.mark.slow
def test_gen_then_calc_gives_the_networks_own_numbers(network, archive, tmp_path):
    metrics = "kid_lite2,clip_s_small,clip_r_small"
    common = ["--data", archive, "--metrics", metrics, "--num-images", 9, "--cache", tmp_path]
    direct = records_of(calc("--network", network, *common))
    made = run(
        "gen",
        "--network",
        network,
        "--data",
        archive,
        "--metrics",
        "kid_lite2",
        "--num-images",
        9,
        "--outdir",
        tmp_path / "pictures",
        "--device",
        "cpu",
        "--batch-gpu",
        4,
    )
    assert made.exit_code == 0 and json.loads(made.stdout)["num_images"] == 9
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files[0] == "captions.jsonl" and files[-1] == "pictures.json" and len(files) == 11
    again = records_of(calc("--images", tmp_path / "pictures", *common))
    assert again["kid_lite2"]["value"] == pytest.approx(direct["kid_lite2"]["value"], rel=1e-5)
    assert again["clip_s_small"]["value"] == pytest.approx(
        direct["clip_s_small"]["value"], rel=1e-5
    )
    assert again["clip_s_small"]["shuffled"] == pytest.approx(
        direct["clip_s_small"]["shuffled"], rel=1e-5
    )
    assert again["clip_r_small"]["real"] is not None and again["clip_r_small"]["num_real"] == 9
    assert again["kid_lite2"]["images"]["num_files"] == 9
    assert again["kid_lite2"]["text_encoder"] == "hashed-64-v1"
    refused = run(
        "gen",
        "--network",
        network,
        "--data",
        archive,
        "--outdir",
        archive.parent,
        "--device",
        "cpu",
    )
    assert refused.exit_code == 1
    assert "holds noise.zip and no pictures.json of `gen`" in refused.stderr


@pytest.mark.slow
def test_ref_file_stands_in_for_the_pictures(archive, tmp_path):
    pictures = write_folder(tmp_path / "made", 14, 0)
    real = write_folder(tmp_path / "real", 12, 1, low=40)
    metrics = "kid_lite2,pr_lite2,dc_lite2"
    direct = records_of(
        calc("--images", pictures, "--ref", real, "--metrics", metrics, "--num-images", 14)
    )
    made = run(
        "ref",
        "--data",
        real,
        "--metrics",
        metrics,
        "--dest",
        tmp_path / "ref.npz",
        "--device",
        "cpu",
        "--batch-gpu",
        5,
    )
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["entries"] == [
        {
            "detector": json.loads(made.stdout)["entries"][0]["detector"],
            "pictures": "test, native, none",
            "count": 12,
            "rows": True,
        }
    ]
    through = records_of(
        calc(
            "--images",
            pictures,
            "--ref",
            tmp_path / "ref.npz",
            "--metrics",
            metrics,
            "--num-images",
            14,
        )
    )
    for name, record in direct.items():
        assert through[name]["value"] == pytest.approx(record["value"], rel=1e-5, abs=1e-7), name
        assert len(through[name]["reference_file"]["sha256"]) == 64
    wrong = calc(
        "--images",
        write_folder(tmp_path / "other", 3, 0),
        "--ref",
        tmp_path / "ref.npz",
        "--metrics",
        "clip_s_small",
    )
    assert wrong.exit_code == 1


@pytest.mark.slow
def test_a_row_that_lacks_something_does_not_stop_the_others(
    network, archive, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = calc(
        "--network",
        network,
        "--data",
        archive,
        "--num-images",
        3,
        "--cache",
        tmp_path,
        "--metrics",
        "fid30k_coco256,kid30k_coco256,fid10k,kid10k,detail_x2_lite2,clip_s,tile_exact",
    )
    assert result.exit_code == 1
    assert [json.loads(line)["metric"] for line in result.stdout.splitlines()] == ["tile_exact"]
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert any(
        line.startswith("Error: fid30k_coco256, kid30k_coco256: defined at 256x256")
        for line in errors
    )
    assert any(
        line.startswith("Error: fid10k, kid10k: ")
        and "weights-inception-2015-12-05" in line
        and "github.com" in line
        for line in errors
    )
    assert any(
        line.startswith("Error: detail_x2_lite2: --data-large is missing") for line in errors
    )
    assert any(
        line.startswith("Error: clip_s: ") and "ViT-B-32-quickgelu/openai" in line
        for line in errors
    )


@pytest.mark.slow
def test_larger_real_pictures(network, archive, write_pictures, tmp_path, openmoji32):
    metrics = "detail_x2_lite2,pkid_lite2,kid_extrapolated_lite2"
    large = calc(
        "--network",
        network,
        "--data",
        archive,
        "--data-large",
        openmoji32,
        "--metrics",
        metrics,
        "--num-images",
        4,
        "--cache",
        tmp_path,
    )
    lines = {json.loads(line)["metric"]: json.loads(line) for line in large.stdout.splitlines()}
    assert (
        set(lines) == {"detail_x2_lite2", "pkid_lite2"}
        and lines["detail_x2_lite2"]["enlarged"] is not None
    )
    assert (
        "Error: kid_extrapolated_lite2: --data-large" in large.stderr
        and "24x24 are needed" in large.stderr
    )
    again = calc(
        "--network",
        network,
        "--data",
        archive,
        "--data-large",
        openmoji32,
        "--metrics",
        metrics,
        "--num-images",
        4,
        "--cache",
        tmp_path,
        "--batch-gpu",
        3,
    )
    for line in again.stdout.splitlines():
        assert json.loads(line)["value"] == pytest.approx(
            lines[json.loads(line)["metric"]]["value"], rel=1e-3
        )  # uint8 rounding


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (
            ["--images", "{made}", "--ref", "{real}", "--metrics", "kid_lite2"],
            "has 4 pictures, the evaluation takes 1000; pass --num-images 4",
        ),
        (
            ["--images", "{made}", "--ref", "{real}", "--metrics", "tile_exact", "--num", "4"],
            "give --network",
        ),
        (
            ["--images", "{made}", "--ref", "{real}", "--metrics", "clip_s_small", "--num", "4"],
            "have no caption",
        ),
        (
            ["--images", "{made}", "--ref", "{small}", "--metrics", "kid_lite2", "--num", "4"],
            "24x24 are needed",
        ),
        (
            ["--images", "{made}", "--ref", "{text}", "--metrics", "kid_lite2", "--num", "4"],
            "is not a whole zip archive",
        ),
        (["--images", "{empty}", "--ref", "{real}"], "no pictures in it"),
        (
            ["--images", "{mixed}", "--ref", "{real}", "--metrics", "kid_lite2", "--num", "4"],
            "must have one size",
        ),
        (["--images", "{made}", "--ref", "none"], "none does not exist"),
        (["--images", "{made}", "--ref", "{real}", "--weights", "inception"], "expected NAME=FILE"),
        (
            ["--images", "{made}", "--ref", "{real}", "--weights", "inceptoin={text}"],
            "no evaluation reads inceptoin; did you mean 'inception'",
        ),
        (["--images", "{made}", "--ref", "{real}", "--seed", "2-1"], "--seed 2-1: the range 2-1"),
        (["--images", "{made}", "--ref", "{real}", "--seed", "x"], "expected numbers and ranges"),
        (
            ["--images", "{made}", "--ref", "{real}", "--seed", "0-2"],
            "--seed, --trunc, --size and --samples choose what a network makes",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, complaint):
    places = {
        name: str(tmp_path / name) for name in ("made", "real", "small", "text", "empty", "mixed")
    }
    for name in ("made", "real", "mixed"):
        write_folder(tmp_path / name, 4, 0)
    Image.new("RGB", (30, 30)).save(tmp_path / "mixed" / "003.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "small").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "small" / "a.png")
    (tmp_path / "text").write_text("x")
    result = calc(*(argument.format(**places) for argument in arguments))
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 1 and len(errors) == 1 and complaint in errors[0], result.stderr


@pytest.mark.slow
def test_blocks_and_compare(network, archive, tmp_path):
    for name, psi in (("full", 1.0), ("half", 0.5)):
        result = calc(
            "--network",
            network,
            "--data",
            archive,
            "--metrics",
            "kid_lite2",
            "--num",
            4,
            "--seed",
            "0-2",
            "--trunc",
            psi,
            "--cache",
            tmp_path,
            "--out",
            tmp_path / f"{name}.jsonl",
        )
        assert result.exit_code == 0 and [
            json.loads(line)["seed"] for line in result.stdout.splitlines()
        ] == [0, 1, 2]
    paths = [tmp_path / "full.jsonl", f"psi_0.5={tmp_path / 'half.jsonl'}"]
    table = run("compare", *paths)
    assert (
        table.exit_code == 0
        and "Warning: kid_lite2: psi_0.5 differs from full in overrides" in table.stderr
    )
    values = [
        json.loads(line)["value"] for line in (tmp_path / "full.jsonl").read_text().splitlines()
    ]
    cells = json.loads(run("compare", *paths, "--format", "json").stdout)["full"]["kid_lite2"]
    assert cells["mean"] == pytest.approx(np.mean(values)) and cells["spread"] == pytest.approx(
        np.std(values, ddof=1)
    )
    assert table.stdout.splitlines()[2].startswith("| full | ") and "(3) |" in table.stdout
    latex = run("compare", *paths, "--format", "latex").stdout
    assert r"psi\_0.5 & " in latex and r"\pm" in latex and latex.count(r"\\") == 3
    assert run("compare", tmp_path / "none.jsonl").exit_code == 1
    assert run("compare", *paths, "--metrics", "kid").exit_code == 1


@pytest.mark.slow
def test_two_folders_as_torch_fidelitys_command_scores_them(random_inception, tmp_path):
    made = write_folder(tmp_path / "made", 12, 0)
    real = write_folder(tmp_path / "real", 10, 1, low=60)
    asked = ("--metrics", "fid10k,kid10k,pr10k", "--num", 12)
    weights = ("--weights", f"inception={random_inception}")
    ours = records_of(calc("--images", made, "--ref", real, *asked, *weights))
    # What its 0.4.0 printed for these folders and weights. The tolerances are loose, since
    # convolutions differ between machines.
    assert ours["fid10k"]["value"] == pytest.approx(1.28348099, rel=1e-3)
    assert ours["kid10k"]["value"] == pytest.approx(0.00234453, rel=1e-2)
    pytest.importorskip("torch_fidelity")
    switches = "--fid --kid --prc --cpu --json --silent --no-cache"
    # Its own choice for precision and recall is VGG16.
    features = "--feature-extractor inception-v3-compat --feature-layer-prc 2048"
    command = [*switches.split(), *features.split(), "--kid-subset-size", 10]
    command += ["--input1", made, "--input2", real]
    command += ["--feature-extractor-weights-path", random_inception]
    done = subprocess.run(
        [sys.executable, "-m", "torch_fidelity.fidelity", *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(done.stdout)
    assert ours["fid10k"]["value"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    # Their kernel sums are float32.
    kid = [theirs[f"kernel_inception_distance_{part}"] for part in ("mean", "std")]
    assert ours["kid10k"]["value"] == pytest.approx(kid[0], rel=1e-4)
    assert ours["kid10k"]["spread"] == pytest.approx(kid[1], rel=1e-3)
    assert ours["pr10k"]["value"] == pytest.approx(theirs["precision"])
    assert ours["pr10k"]["recall"] == pytest.approx(theirs["recall"])


def test_names_of_other_bytes_are_recorded(tmp_path):
    folder = write_folder(tmp_path / os.fsdecode(b"caf\xe9"), 4, 0)
    line = ("--images", folder, "--ref", folder, "--metrics", "kid_lite2", "--num-images", 4)
    found = records_of(calc(*line, "--cache", tmp_path, "--out", tmp_path / "out.jsonl"))
    names = [found["kid_lite2"][of]["name"] for of in ("images", "reference_file")]
    assert names == ["caf\u00e9", "caf\u00e9"]
