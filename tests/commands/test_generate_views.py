"""`generate.py` with the options of a view: what it draws and records, and what it refuses."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from generate import main
from networks.generators import preset
from networks.snapshot import Snapshot


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("views") / "s"
    Snapshot(preset("eidgan-tiny").build(), "hashed", 32).save_pretrained(folder)
    return folder


def generate(snapshot, out, *options):
    arguments = [
        "--network",
        str(snapshot),
        "--prompts",
        "x",
        "--device",
        "cpu",
        "--outdir",
        str(out),
    ]
    return CliRunner().invoke(main, [*arguments, *options])


def picture(snapshot, out, *options):
    done = generate(snapshot, out, *options)
    assert done.exit_code == 0, done.output
    with Image.open(out / "0-x-seed0000.png") as image:
        return np.asarray(image).astype(int), image.info


def test_the_command_draws_transformed_views(snapshot, tmp_path):
    plain, facts = picture(snapshot, tmp_path / "plain")
    assert facts["window"] == "0.0,0.0,1.0,1.0" and "view" not in facts
    zoomed, facts = picture(snapshot, tmp_path / "zoom", "--zoom", "2", "--size", "16")
    assert abs(zoomed - plain[8:24, 8:24]).max() <= 1 and facts["view"] == "zoom=2.0"
    turned, facts = picture(snapshot, tmp_path / "turned", "--rotate", "90", "--exact")
    assert abs(turned - np.rot90(plain)).max() <= 1 and facts["view"] == "rotate=90.0 exact=True"
    right, _ = picture(snapshot, tmp_path / "right", "--translate", "0.25,0")
    assert abs(right[:, 8:] - plain[:, :-8]).max() <= 1
    np.save(tmp_path / "right.npy", np.full((3, 5, 2), (-0.25, 0)))
    moved, _ = picture(snapshot, tmp_path / "moved", "--warp", str(tmp_path / "right.npy"))
    assert abs(moved - right).max() <= 1
    wide, facts = picture(snapshot, tmp_path / "wide", "--window", "3:2", "--size", "48x32")
    assert abs(wide[:, 8:40] - plain).max() <= 1 and facts["window"] == "-0.25,0.0,1.25,1.0"


def test_a_pixel_may_be_the_mean_of_several_points(snapshot, tmp_path):
    plain, facts = picture(snapshot, tmp_path / "plain", "--size", "64")
    assert "samples" not in facts
    smooth, facts = picture(snapshot, tmp_path / "smooth", "--samples", "2")
    assert facts["samples"] == "2"
    # The plain picture is rounded and clipped before its mean is taken, the smooth one after.
    mean = plain.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    inside = ((plain > 0) & (plain < 255)).reshape(32, 2, 32, 2, 3).all(axis=(1, 3))
    assert inside.mean() > 0.5 and abs(smooth - mean)[inside].max() <= 1.01
    one_size = tmp_path / "one-size"
    Snapshot(preset("stylegan2-tiny").build(), "hashed", 32).save_pretrained(one_size)
    done = generate(one_size, tmp_path / "out", "--samples", "2")
    assert done.exit_code == 1 and not (tmp_path / "out").exists()
    assert done.stderr == (
        "Error: samples 2: networks of kind stylegan2 draw one point a pixel; leave it out\n"
    )


def test_a_stretched_picture_is_announced_with_the_window_that_does_not_stretch(snapshot, tmp_path):
    done = generate(snapshot, tmp_path / "wide", "--size", "50x30")
    assert "The content is stretched 1.67 times in width. --window 5:3 shows" in done.stderr
    for fitting in (("--size", "50x30", "--window", "5:3"), ("--size", "16x16")):
        assert "is stretched" not in generate(snapshot, tmp_path / "fits", *fitting).stderr


def test_python_takes_the_shape_of_a_window_too(snapshot, tmp_path):
    wide, _ = picture(snapshot, tmp_path / "wide", "--window", "3:2", "--size", "48x32")
    loaded = Snapshot.from_pretrained(snapshot)
    image = loaded.draw("x", width=48, height=32, window="3:2")
    assert np.array_equal(np.asarray(image), wide)


def test_it_counts_pictures_and_exact_leaves_plain_views_alone(snapshot, tmp_path):
    one = generate(snapshot, tmp_path / "one", "--exact")
    assert one.stderr.startswith("1 picture of 32x32 on cpu"), one.output
    two = generate(snapshot, tmp_path / "two", "--seeds", "0-1")
    assert two.stderr.startswith("2 pictures of 32x32 on cpu"), two.output
    first, same = (
        np.asarray(Image.open(tmp_path / name / "0-x-seed0000.png")) for name in ("one", "two")
    )
    assert (first == same).all()


@pytest.mark.parametrize(
    "options",
    [
        ("--window", "0.5,0,0.5000001,1"),
        ("--zoom", "1e9"),
        ("--zoom", "1e5", "--compare-scales", "8,64"),
        ("--zoom", "1e9", "--format", "tiff"),
    ],
)
def test_it_refuses_pixels_that_float32_cannot_tell_apart(snapshot, tmp_path, options):
    done = generate(snapshot, tmp_path / "out", *options)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert "cannot tell apart; use a smaller size, a smaller zoom or a larger window" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, line",
    [
        (["--zoom", "0"], "Error: zoom 0.0: must be a finite number above 0"),
        (["--center", "a,b"], "Error: center 'a,b': expected two numbers X,Y"),
        (
            ["--center", "0.2,0.3"],
            "Error: --center has no effect without --zoom, --rotate or --shear",
        ),
        (["--window", "0,0,1,0"], "Error: window '0,0,1,0': expected x0,y0,x1,y1"),
        (["--warp", "twirl"], "Error: warp 'twirl': is neither a known warp nor a .npy file"),
        (["--warp", "none.npy"], "Error: warp none.npy: is not a readable .npy file of numbers"),
    ],
)
def test_it_refuses_bad_options_in_one_line(tmp_path, options, line):
    """Before the network is read: there is none."""
    done = generate(tmp_path / "none", tmp_path / "out", *options)
    assert done.exit_code == 1 and done.stderr.startswith(line) and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
