"""Videos: what the files hold, that frames are pulled one by one, and what is refused."""

import struct
import sys
import weakref

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from dnnlib.errors import UserError
from torch_utils.video_files import check_video, rule_of, write_video

FACTS = {"kind": "zoom", "prompt": "an apple \u00e4"}
COUNT = 11
NAMES = ("v.mp4", "v.webp", "v")


def frame(number, height=48, width=64):
    """One colour a frame; the red says which."""
    image = torch.empty(3, height, width, dtype=torch.uint8)
    image[:] = torch.tensor([20 * number + 20, 128, 60], dtype=torch.uint8)[:, None, None]
    return image


def frames_of(path):
    """uint8 [H, W, 3] of every frame."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    if path.suffix == ".webp":
        with Image.open(path) as image:
            found = []
            for one in ImageSequence.Iterator(image):
                found.append(np.asarray(one.convert("RGB")))
            return found
    return [np.asarray(Image.open(one)) for one in sorted(path.glob("*.png"))]


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_is_there_at_its_size_and_in_its_colour(name, tmp_path):
    write_video(tmp_path / name, map(frame, range(COUNT)), COUNT, 12.5, FACTS)
    found = frames_of(tmp_path / name)
    assert len(found) == COUNT
    for number, pixels in enumerate(found):
        assert pixels.shape == (48, 64, 3)
        expected = frame(number).permute(1, 2, 0).numpy()
        assert np.abs(pixels.astype(int) - expected).max() <= (0 if name == "v" else 5), number
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_mp4_has_its_rate_and_its_format(tmp_path):
    write_video(tmp_path / "v.mp4", map(frame, range(COUNT)), COUNT, 23.976, FACTS)
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(23.976, abs=1e-3)
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert container.metadata["comment"].startswith('EIDGAN {"kind": "zoom"')


def test_a_webp_lasts_as_long_as_asked_and_repeats(tmp_path):
    write_video(tmp_path / "v.webp", map(frame, range(COUNT)), COUNT, 24, FACTS)
    with Image.open(tmp_path / "v.webp") as image:
        assert image.info["loop"] == 0
        lasts = []
        for number in range(COUNT):
            image.seek(number)
            image.load()
            lasts.append(image.info["duration"])
    assert sum(lasts) == round(COUNT * 1000 / 24)


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_pulled_one_by_one(name, tmp_path):
    alive: weakref.WeakSet = weakref.WeakSet()

    def drawn():
        for number in range(COUNT):
            image = frame(number)
            alive.add(image)
            assert len(alive) <= 2  # this one, and one that is being written
            yield image

    write_video(tmp_path / name, drawn(), COUNT, 24, FACTS)


@pytest.mark.parametrize("name", NAMES)
def test_only_a_video_of_ours_is_replaced(name, tmp_path):
    target = tmp_path / name
    for count in (3, COUNT):
        write_video(target, map(frame, range(count)), count, 24, FACTS)
        assert len(frames_of(target)) == count
    check_video(target, 64, 48, 5, 24)
    other = tmp_path / ("mine" + name[1:])
    (other / "x" if name == "v" else other).parent.mkdir(exist_ok=True)
    mine = other / "0.png" if name == "v" else other
    mine.write_bytes(b"mine")
    for call in (
        lambda: check_video(other, 64, 48, 5, 24),
        lambda: write_video(other, map(frame, range(3)), 3, 24, FACTS),
    ):
        with pytest.raises(UserError, match="so it is left as it is"):
            call()
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("comment, ours", [(b"EIDGAN {}", True), (b"mine", False)])
def test_a_webp_is_ours_by_its_comment_alone_whatever_its_size(comment, ours, tmp_path):
    """Image.open refuses a file of this size."""
    side = (16383 - 1).to_bytes(3, "little")
    chunks = b""
    for name, data in (
        (b"VP8X", bytes([4, 0, 0, 0]) + side + side),
        (b"odd ", b"x"),
        (b"XMP ", comment),
    ):
        chunks += name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    data = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    for length in range(0, len(data) + 1):
        (tmp_path / "v.webp").write_bytes(data[:length])
        fault = rule_of(tmp_path / "v.webp")(tmp_path / "v.webp")
    assert (fault is None) == ours


@pytest.mark.parametrize("name", NAMES)
def test_a_video_that_fails_leaves_the_old_one(name, tmp_path):
    target = tmp_path / name
    write_video(target, map(frame, range(3)), 3, 24, FACTS)

    def failing():
        yield frame(0)
        yield frame(1)
        raise UserError("frame 2 is not finite")

    with pytest.raises(UserError, match="frame 2"):
        write_video(target, failing(), 3, 24, FACTS)
    assert len(frames_of(target)) == 3 and [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name, size, frames, fps, words",
    [
        ("v.mp4", (65, 48), 10, 24, "size 65x48: H.264 takes even sides only; use --size 66x48"),
        ("v.mp4", (64, 47), 10, 24, "use --size 64x48, or name a .webp file or a folder"),
        ("v.webp", (16384, 4), 10, 24, ".webp takes at most 16383 pixels a side"),
        ("v.mp4", (64, 48), 1, 24, "--frames 1: a video needs at least 2"),
        ("v", (64, 48), 0, 24, "--frames 0: a video needs at least 2"),
        ("v", (64, 48), 10, 0, "--fps 0: expected a number from 0.1 to 240"),
        ("v", (64, 48), 10, float("nan"), "--fps nan: expected"),
        ("v.gif", (64, 48), 10, 24, "v.gif: expected a name that ends in .mp4 or .webp"),
    ],
)
def test_what_no_file_can_hold(name, size, frames, fps, words, tmp_path):
    with pytest.raises(UserError) as refusal:
        check_video(tmp_path / name, *size, frames, fps)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    check_video(tmp_path / "v.webp", 65, 47, 2, 24)  # odd sides are for the others


@pytest.mark.parametrize("name", ["v.mp4", "v.webp", "frames"])
def test_a_place_that_cannot_be_written_is_known_before_the_first_frame(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{name}: cannot be written .Not a directory."):
        check_video(tmp_path / "file" / name, 64, 48, 5, 24)


def test_pyav_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="needs PyAV, which is not installed; run 'pip install av'"):
        check_video(tmp_path / "v.mp4", 64, 48, 5, 24)
    for name in ("v.webp", "v"):
        check_video(tmp_path / name, 64, 48, 5, 24)
