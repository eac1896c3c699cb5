"""generate.py --format and --compare-scales, and that the command goes on after a kill."""

import os
import time

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

import generate
from networks import huge_pictures
from tests.commands.forked import start_command, succeed

NAME = "0-a-cat-seed0000"


def draw(network, outdir, *more, prompt="a cat"):
    words = [
        "--network",
        network,
        "--outdir",
        outdir,
        "--device",
        "cpu",
        "--prompts",
        prompt,
        *more,
    ]
    return CliRunner().invoke(generate.main, list(map(str, words)))


def refused(done):
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    return line


def test_all_formats_hold_the_same_pixels(network, tmp_path, monkeypatch):
    size = ("--size", "530x40", "--window", "-1,0,2,1", "--trunc", "0.7")
    assert draw(network, tmp_path, *size).exit_code == 0
    with Image.open(tmp_path / f"{NAME}.png") as image:
        whole, facts = np.asarray(image), image.info
    for kind in ("tiff", "dzi"):
        done = draw(network, tmp_path, *size, "--format", kind)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.strip() == str(tmp_path / f"{NAME}.{kind}")
        assert f"{NAME}.{kind}, tiles" in done.stderr
    assert np.array_equal(tifffile.imread(tmp_path / f"{NAME}.tiff"), whole)
    folder = tmp_path / f"{NAME}_files" / "10"
    tiles = [np.asarray(Image.open(folder / f"{column}_0.png")) for column in (0, 1)]
    assert np.array_equal(np.concatenate(tiles, axis=1), whole)
    monkeypatch.setattr(huge_pictures, "MAX_WHOLE_PX", 1000)
    (tmp_path / f"{NAME}.png").unlink()
    assert draw(network, tmp_path, *size).exit_code == 0  # in tiles now
    with Image.open(tmp_path / f"{NAME}.png") as image:
        assert np.array_equal(np.asarray(image), whole) and image.info == facts
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{NAME}.png",
        f"{NAME}.tiff",
        f"{NAME}.dzi",
        f"{NAME}_files",
    }


@pytest.mark.parametrize("kind", ["png", "tiff", "dzi"])
def test_a_repeated_command_draws_only_what_is_not_finished(kind, network, tmp_path, monkeypatch):
    monkeypatch.setattr(huge_pictures, "MAX_WHOLE_PX", 100)
    names = [f"{n}-a-cat-seed000{n}.{kind}" for n in (0, 1)]
    more = ("--format", kind, "--size", "20x20", "--seeds")
    assert draw(network, tmp_path, *more, "0-1").exit_code == 0
    (tmp_path / names[1]).unlink()
    done = draw(network, tmp_path, *more, "0-1")
    assert done.stdout.split() == [str(tmp_path / name) for name in names]
    assert f"{names[0]} is finished; delete it to draw it again" in done.stderr
    assert f"{names[0]}, tiles" not in done.stderr and f"{names[1]}, tiles" in done.stderr
    done = draw(network, tmp_path, *more, "0-1", "--trunc", "0.5")
    assert done.exit_code == 0 and "is finished" not in done.stderr
    huge_pictures.working_folder(tmp_path / names[0]).mkdir()  # of a run that was killed
    done = draw(network, tmp_path, *more, "0-1", "--trunc", "0.5")
    assert f"{names[0]}, tiles" in done.stderr and f"{names[1]} is finished" in done.stderr


@pytest.mark.slow
@pytest.mark.multi_process
def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(network, tmp_path):
    def words(outdir, seed=0):
        return (
            "generate.py",
            "--network",
            network,
            "--outdir",
            outdir,
            "--prompts",
            "a cat",
            "--size",
            "1600x1100",
            "--format",
            "tiff",
            "--device",
            "cpu",
            "--seeds",
            seed,
        )

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    part = killed / f"{NAME}.tiff.part"
    command = start_command(*words(killed))
    while not (part / "done.bin").exists() or os.path.getsize(part / "done.bin") < 2 * 8:
        assert command.process.is_alive(), command.wait()
        time.sleep(0.002)
    command.kill()
    done = os.path.getsize(part / "done.bin") // 8
    assert done < 12 and not (killed / f"{NAME}.tiff").exists()
    other = draw(network, killed, "--size", "1600x1101", "--format", "tiff")
    assert "the unfinished run of another command (size '1600x1100'; now size '1600x1101')" in (
        refused(other)
    )
    errors = succeed(*words(killed)).stderr
    assert f"{part.name}: {done} of 12 pieces are done, going on" in errors
    succeed(*words(whole))
    for outdir in (killed, whole):
        assert os.listdir(outdir) == [f"{NAME}.tiff"]
    assert (killed / f"{NAME}.tiff").read_bytes() == (whole / f"{NAME}.tiff").read_bytes()


@pytest.mark.parametrize(
    "more, words",
    [
        (("--format", "tiff", "--grid"), "--format tiff: --grid writes PNG"),
        (("--format", "dzi", "--compare-scales", "8,16"), "--compare-scales writes PNG"),
        (("--format", "dzi", "--size", "1048577x4"), "at most 1048576 pixels a side"),
        (("--size", "65537x4"), "at most 65536 pixels a side and 2^30 in all; use --format tiff"),
        (("--compare-scales", "8,16", "--grid"), "leave --grid out"),
        (("--compare-scales", "8,16", "--size", "8x8"), "leave --size out"),
        (("--compare-scales", "8,12"), "12 is not a multiple of 8"),
        (("--compare-scales", "8"), "at least two sides"),
        (("--compare-scales", "16384,32768"), "at most 65536 pixels a side"),
        (("--format", "tiff", "--trunc", "nan"), "--trunc nan: expected a number"),
    ],
)
def test_what_cannot_be_is_one_line(network, more, words, tmp_path):
    assert words in refused(draw(network, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_names_those_that_there_are(network, tmp_path):
    done = draw(network, tmp_path, "--format", "bmp")
    assert done.exit_code == 2 and "'bmp' is not one of 'png', 'tiff', 'dzi'" in done.stderr


def test_every_target_is_checked_before_the_first_picture(network, tmp_path):
    (tmp_path / "1-a-cat-seed0001.tiff").write_bytes(b"mine")
    done = draw(network, tmp_path, "--seeds", "0-1", "--size", "20x20", "--format", "tiff")
    assert "1-a-cat-seed0001.tiff is no TIFF file that this program made" in refused(done)
    assert os.listdir(tmp_path) == ["1-a-cat-seed0001.tiff"]


def test_a_strip_of_sizes_is_printed_and_kept(network, tmp_path):
    for _ in range(2):
        done = draw(network, tmp_path, "--compare-scales", "8,16,64")
        assert done.exit_code == 0, done.stderr
    with Image.open(tmp_path / f"{NAME}-scales.png") as image:
        assert image.size == (192, 64)
        assert image.info["size"] == "8,16,64"
        assert image.info["enlarged"] == "to 64 px by the nearest pixel"
        assert done.stdout.strip() == f"{tmp_path / NAME}-scales.png: {image.info['psnr']}"
        assert image.info["psnr"].endswith("dB (area average against 8 px)")
