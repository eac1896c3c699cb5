"""generate.py video: every kind of video as a file, and what is refused in one line."""

import json

import av
import pytest
from click.testing import CliRunner
from PIL import Image, ImageSequence

import generate
from networks.generators import preset
from networks.snapshot import Snapshot

SMALL = ("--frames", 4, "--size", "24x16")


def video(network, out, *more):
    words = ["video", "--network", network, "--device", "cpu", "--out", out, *more]
    return CliRunner().invoke(generate.main, list(map(str, words)))


def refused(done):
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    return line


@pytest.mark.parametrize(
    "kind, more",
    [
        ("zoom", ("--prompt", "a cat", "--center", "0.2,0.3", "--octaves", "2")),
        ("pan", ("--prompt", "a cat", "--shift", "0,0.5", "--seeds", 7)),
        ("rotate", ("--prompt", "a cat")),
        ("latent", ("--prompt", "a cat", "--seeds", "0-1", "--trunc", "0.7")),
        ("prompt", ("--from", "a cat", "--to", "a dog", "--text-noise", "0.1")),
    ],
)
def test_every_kind_is_drawn(kind, more, network, tmp_path):
    done = video(network, tmp_path / "v", "--kind", kind, *SMALL, *more)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "v") and "frames" in done.stderr
    facts = json.loads((tmp_path / "v" / "frames.json").read_text())
    assert facts["kind"] == kind and facts["frames"] == 4 and facts["fps"] == 24
    pictures = [Image.open(tmp_path / "v" / f"{number}.png") for number in range(4)]
    assert {picture.size for picture in pictures} == {(24, 16)}
    assert len({picture.tobytes() for picture in pictures}) >= 3  # a zoom passes places twice


def test_files_of_videos(network, tmp_path):
    for name in ("v.mp4", "v.webp"):
        done = video(network, tmp_path / name, "--kind", "zoom", "--prompt", "a cat", *SMALL)
        assert done.exit_code == 0, done.stderr
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert len(list(container.decode(video=0))) == 4
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (24, 16, 24)
    with Image.open(tmp_path / "v.webp") as image:
        assert len(list(ImageSequence.Iterator(image))) == 4 and image.size == (24, 16)


CAT = ("--prompt", "a cat")


@pytest.mark.parametrize(
    "kind, more, words",
    [
        ("zoom", (*CAT, "--frames", 1), "--frames 1: a video needs at least 2"),
        ("zoom", (*CAT, "--fps", 0), "--fps 0: expected a number from 0.1 to 240"),
        ("zoom", (*CAT, "--from", "x"), "--from: does not fit --kind zoom; it belongs to"),
        ("latent", (*CAT, "--to", "x"), "--to: does not fit --kind latent"),
        ("prompt", (*CAT, "--from", "a", "--to", "b"), "--prompt: does not fit --kind prompt"),
        ("prompt", ("--from", "a"), "needs two prompts, --from TEXT and --to TEXT"),
        ("prompt", ("--from", "a", "--to", " "), "--to: the prompt is empty"),
        ("zoom", (), 'no prompt; give --prompt "a red apple"'),
        ("latent", (*CAT, "--seeds", "3"), "walks between at least two seeds"),
        ("pan", (*CAT, "--seeds", "3-4"), "--kind pan draws one seed"),
        ("zoom", (*CAT, "--seeds", "x"), "expected numbers and ranges"),
        ("zoom", (*CAT, "--center", "1"), "center '1': expected two numbers X,Y"),
        ("pan", (*CAT, "--shift", "nan,0"), "shift 'nan,0': expected two numbers"),
        ("zoom", (*CAT, "--octaves", "nan"), "--octaves nan: expected a number"),
        ("zoom", (*CAT, "--octaves", "20"), "cannot tell apart; use a smaller --octaves"),
        ("zoom", (*CAT, "--window", "0,0,0,1"), "x0 < x1"),
        ("latent", (*CAT, "--window", "0,0,1e-9,1"), "in float32 cannot tell apart"),
        ("zoom", (*CAT, "--size", "0x5"), "0x5"),
        (
            "prompt",
            ("--from", "a", "--to", "b", "--octaves", 3),
            "--octaves has no effect on --kind",
        ),
        ("rotate", (*CAT, "--shift", "1,0"), "--shift has no effect on --kind rotate"),
        ("pan", (*CAT, "--center", "0,0"), "--center has no effect on --kind pan"),
        ("zoom", (*CAT, "--size", "25x16"), "H.264 takes even sides only; use --size 26x16"),
        ("zoom", (*CAT, "--size", "70000x2"), "at most 65536"),
        ("zoom", (*CAT, "--trunc", "nan"), "--trunc nan: expected a number"),
        (
            "zoom",
            (*CAT, "--trunc-center", "global"),
            "--trunc-center: has no effect with --trunc 1",
        ),
    ],
)
def test_what_cannot_be_is_one_line(kind, more, words, network, tmp_path):
    assert words in refused(video(network, tmp_path / "v.mp4", "--kind", kind, *more))
    assert not list(tmp_path.iterdir())


def test_words_that_are_no_option(network, tmp_path):
    done = video(network, tmp_path / "v.mp4", "--kind", "spin")
    assert done.exit_code == 2 and "'spin' is not one of 'zoom', 'pan', 'rotate'" in done.stderr
    assert "expected a name that ends in .mp4" in refused(
        video(network, tmp_path / "v.avi", "--kind", "zoom", *CAT)
    )


def test_a_system_of_one_size_walks_but_does_not_zoom(tmp_path):
    Snapshot(preset("stylegan2-tiny").build(), "hashed", 32).save_pretrained(tmp_path / "s")
    walk = video(tmp_path / "s", tmp_path / "v", "--kind", "latent", *CAT, "--frames", 3)
    assert walk.exit_code == 0, walk.stderr
    line = refused(video(tmp_path / "s", tmp_path / "w", "--kind", "zoom", *CAT))
    assert "a stylegan2 network draws 32x32 of the whole frame only" in line
    assert not (tmp_path / "w").exists()


def test_a_network_without_text_takes_no_prompt(tmp_path):
    config = preset("creps-tiny").with_text(0, 0)
    from dataclasses import replace

    config = replace(config, sentence_dim=0)
    Snapshot(config.build(), "", 16).save_pretrained(tmp_path / "s")
    done = video(tmp_path / "s", tmp_path / "v", "--kind", "latent", *SMALL)
    assert done.exit_code == 0, done.stderr
    for more in (("--kind", "zoom", *CAT), ("--kind", "prompt", "--from", "a", "--to", "b")):
        line = refused(video(tmp_path / "s", tmp_path / "w", *more))
        assert "was trained without text and reads no prompt" in line
    line = refused(video(tmp_path / "s", tmp_path / "w", "--kind", "prompt"))
    assert "needs two prompts" in line


def test_the_command_without_a_subcommand_is_as_before(network, tmp_path):
    done = CliRunner().invoke(
        generate.main, ["--network", str(network), "--prompts", "video", "--outdir", str(tmp_path)]
    )
    assert done.exit_code == 0 and (tmp_path / "0-video-seed0000.png").exists()
    shown = CliRunner().invoke(generate.main, ["--help"]).output
    assert "--network" in shown and "Commands:" in shown and "  video  Draw a moving" in shown
    assert "--octaves" in CliRunner().invoke(generate.main, ["video", "--help"]).output
    assert CliRunner().invoke(generate.main, ["--version"]).exit_code == 0
