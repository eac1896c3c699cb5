"""fit_lines.py: thicker lines fit better, and the low rank is the truncated SVD."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from dnnlib.errors import UserError
from fit_lines import main, parse_thickness, read_picture
from networks.line_fitting import fit_lines, low_rank


@pytest.fixture
def picture(tmp_path):
    """A disc and a diagonal stripe, 20 px wide and 16 px high: of no low rank."""
    y, x = np.mgrid[:16, :20]
    pixels = np.full((16, 20, 3), 230, np.uint8)
    pixels[(x - 7) ** 2 + (y - 8) ** 2 < 30] = (200, 40, 30)
    pixels[abs(x - y - 4) < 2] = (20, 90, 160)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def invoke(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.mark.slow
def test_thicker_lines_fit_better(picture, tmp_path):
    out = tmp_path / "out"
    line = ("--picture", picture, "--steps", 150, "--thickness", "4,1,16", "--outdir", out)
    done = invoke(*line)
    record = json.loads((out / "fit_lines.json").read_text())
    assert record["size"] == "20x16" and len(done.stdout.splitlines()) == 5
    lines = [row["lines"] for row in record["fits"]]
    assert [row["size"] for row in lines] == [1, 4, 16]
    thin, middle, thick = (row["psnr"] for row in lines)
    assert thin + 1 < middle < thick - 1
    assert [row["numbers"] for row in lines] == [(16 + 20) * 8 * d + 1443 for d in (1, 4, 16)]
    for row in record["fits"]:
        short = row["low_rank"]["numbers"] < row["lines"]["numbers"]
        assert not short or row["low_rank"]["size"] == 16  # full rank
    with Image.open(out / "fit_lines.png") as strip:
        assert strip.size == (4 * 20, 2 * 16) and strip.info["thickness"] == "1,4,16"
        with Image.open(picture) as original:
            assert np.array_equal(np.array(strip)[:16, :20], np.array(original))
    invoke(*line)  # its files may be replaced


def test_the_low_rank_is_the_truncated_svd(picture):
    target = read_picture(str(picture), 128)
    found = low_rank(target, 3 * (16 + 20) * 2 + 1)
    assert (found.size, found.numbers) == (3, 3 * 3 * (16 + 20))
    for colour, expected in zip(found.image, target.numpy(), strict=True):
        left, values, right = np.linalg.svd(expected, full_matrices=False)
        np.testing.assert_allclose(colour, left[:, :3] * values[:3] @ right[:3], atol=1e-5)
    error = ((found.image.clamp(-1, 1) - target) / 2).square().mean()
    assert found.psnr == pytest.approx(-10 * torch.log10(error).item(), abs=1e-4)
    assert low_rank(target, 10**6).size == 16


def test_the_seed_decides_alone(picture):
    target = read_picture(str(picture), 128)
    torch.manual_seed(5)
    first = fit_lines(target, 2, steps=3, seed=1).image
    assert torch.equal(first, fit_lines(target, 2, steps=3, seed=1).image)
    assert not torch.equal(first, fit_lines(target, 2, steps=3, seed=2).image)


def test_a_name_of_other_bytes_is_recorded(picture, tmp_path):
    other = picture.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    invoke("--picture", other, "--thickness", 1, "--steps", 1, "--outdir", tmp_path)
    assert json.loads((tmp_path / "fit_lines.json").read_text())["picture"] == "caf\u00e9.png"
    with Image.open(tmp_path / "fit_lines.png") as strip:
        assert strip.info["fit_lines"] == "caf\u00e9.png"


def test_bad_input_is_one_line(picture, tmp_path):
    assert parse_thickness("8, 1,02,1") == [1, 2, 8]
    for text in ("", "0", "1,,2", "-1", "1.5", "65", "9" * 5000, "1,10000", "1,0"):
        with pytest.raises(UserError, match="expected whole numbers from 1 to 64"):
            parse_thickness(text)
    target = read_picture(str(picture), 10)
    assert target.shape == (3, 8, 10)

    def refused(*arguments):
        error = invoke(*arguments, code=1).stderr.splitlines()[-1]
        assert error.startswith("Error: ")
        return error

    assert "nothing.png" in refused("--picture", tmp_path / "nothing.png", "--outdir", tmp_path)
    before = "fit_lines.json: cannot be written"  # before the picture is read
    assert before in refused("--picture", tmp_path / "nothing.png", "--outdir", picture)
    (tmp_path / "fit_lines.json").write_text("a letter")
    assert "is no JSON file with" in refused("--picture", picture, "--outdir", tmp_path)
