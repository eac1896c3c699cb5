"""Huge pictures as files: what is in them, and what a kill or a full disk leaves."""

import errno
import json
import os
import resource
import tracemalloc
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from dnnlib.errors import UserError
from tests.torch_utils.tiles import FACTS, TILING, WRITERS, draw, everything, picture
from torch_utils.deep_zoom import halved, levels
from torch_utils.tiled_files import png_fault
from torch_utils.tiling import Tiling

KINDS = ("png", "tiff", "dzi")


def test_tiles_cover_the_picture_once_and_blocks_hold_whole_tiles():
    count = np.zeros((TILING.height, TILING.width), int)
    for block in TILING.blocks():
        for tile in block.tiles:
            count[tile.rows, tile.columns] += 1
            assert block.rows.start <= tile.rows.start and tile.rows.stop <= block.rows.stop
            assert tile.rows.start == 16 * tile.row and tile.columns.start == 16 * tile.column
    assert (count == 1).all() and len(list(TILING.order())) == TILING.num_tiles == 20


@pytest.mark.parametrize("tile, block", [(20, 40), (8, 16), (32, 48), (16, 0)])
def test_tiles_that_no_format_takes(tile, block):
    with pytest.raises(UserError, match="multiple of"):
        Tiling(100, 100, tile, block)


def test_a_png_is_read_by_pillow_with_its_facts(tmp_path):
    draw(tmp_path / "a.png", "png")
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture())
        assert {name: image.info[name] for name in FACTS} == FACTS
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("keys", [("snapshot", "seed"), ("snapshot",)])
def test_a_png_is_ours_by_its_text_alone_whatever_its_size(keys, tmp_path):
    """Image.open refuses a file of this size."""
    texts = PngImagePlugin.PngInfo()
    for key in keys:
        texts.add_itxt(key, "0")
    with open(tmp_path / "a.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        size = (16384).to_bytes(4, "big")
        chunks = [(b"IHDR", size + size + bytes([8, 2, 0, 0, 0])), *texts.chunks]
        for name, data, *_ in [*chunks, (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]:
            PngImagePlugin.putchunk(file, name, data)
    assert (png_fault(tmp_path / "a.png") is None) == (len(keys) == 2)


def test_a_tiff_is_a_tiled_bigtiff_that_two_libraries_read(tmp_path):
    draw(tmp_path / "a.tiff", "tiff")
    with tifffile.TiffFile(tmp_path / "a.tiff") as tiff:
        page = tiff.pages.first
        assert tiff.is_bigtiff and page.is_tiled and page.tile == (16, 16)
        assert json.loads(page.description) == FACTS
        assert np.array_equal(page.asarray(), picture())
        end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
    assert end == (tmp_path / "a.tiff").stat().st_size  # no byte is left over
    with Image.open(tmp_path / "a.tiff") as image:
        assert np.array_equal(np.asarray(image), picture())


def test_every_level_of_a_pyramid_is_the_mean_of_the_next(tmp_path):
    draw(tmp_path / "a.dzi", "dzi")
    root = ElementTree.parse(tmp_path / "a.dzi").getroot()
    space = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert root.tag == f"{space}Image"
    assert root.attrib == {"Format": "png", "Overlap": "0", "TileSize": "16"}
    assert root.find(f"{space}Size").attrib == {"Width": "75", "Height": "50"}
    expected = picture()
    for level, (width, height) in reversed(list(enumerate(levels(75, 50)))):
        assert expected.shape == (height, width, 3)
        found = np.zeros_like(expected)
        folder = tmp_path / "a_files" / str(level)
        assert len(list(folder.iterdir())) == -(-width // 16) * -(-height // 16)
        for path in folder.iterdir():
            x, y = (16 * int(number) for number in path.stem.split("_"))
            with Image.open(path) as tile:
                found[y : y + tile.height, x : x + tile.width] = np.asarray(tile)
        assert np.array_equal(found, expected), level
        expected = halved(expected)
    assert level == 0 and (width, height) == (1, 1)


def test_halves_round_up_and_an_odd_border_counts_twice():
    pixels = np.array([[0, 1, 9], [1, 0, 10]], np.uint8)[:, :, None].repeat(3, axis=2)
    assert halved(pixels)[:, :, 0].tolist() == [[1, 10]]


def killed_at(count, target, kind, tiling=TILING):
    """Draw in a process that ends at its `count`-th wait for the disk, as by SIGKILL: nothing is
    cleaned up. Whether it came to its end before.
    """
    child = os.fork()
    if not child:
        calls = iter(range(count))

        def fsync(fd):
            if next(calls, None) is None:
                os._exit(9)

        os.fsync = fsync
        try:
            draw(target, kind, tiling)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_anywhere_ends_with_the_same_bytes(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for speed: a kill leaves what was written
    tiling = Tiling(40, 35, 16, 32)
    draw(tmp_path / "whole" / f"a.{kind}", kind, tiling)
    expected = everything(tmp_path / "whole")
    for count in range(1000):
        folder = tmp_path / str(count)
        if killed_at(count, folder / f"a.{kind}", kind, tiling):
            break
        draw(folder / f"a.{kind}", kind, tiling)
        found = everything(folder)
        temporary = [
            name for name in found if name.startswith(".")
        ]  # `remove_leftovers` deletes it
        assert {name: found[name] for name in found if name not in temporary} == expected, count
    assert count > 2 * tiling.num_tiles  # every tile waits twice


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_at_the_next_tile(kind, tmp_path, monkeypatch):
    target = tmp_path / f"a.{kind}"
    assert not killed_at(30, target, kind)
    done = (tmp_path / f"a.{kind}.part" / "done.bin").stat().st_size // 8
    assert 5 < done < TILING.num_tiles
    real, put = WRITERS[kind].put, []

    def noted(self, tile, pixels):
        put.append(tile)
        real(self, tile, pixels)

    monkeypatch.setattr(WRITERS[kind], "put", noted)
    draw(target, kind)
    assert put == list(TILING.order())[done:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_one_line_and_nothing_is_lost(kind, tmp_path, monkeypatch):
    draw(tmp_path / "whole" / f"a.{kind}", kind)
    target, real, calls = tmp_path / "out" / f"a.{kind}", os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 25:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=r"No space left on device\); free space") as refusal:
        draw(target, kind)
    assert "\n" not in str(refusal.value) and f"a.{kind}.part" in str(refusal.value)
    assert not target.exists() and (tmp_path / "out" / f"a.{kind}.part" / "done.bin").stat().st_size
    draw(target, kind)
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


def test_a_tile_that_the_system_cut_short_is_written_again(tmp_path):
    draw(tmp_path / "whole" / "a.png", "png")
    target, limits = tmp_path / "out" / "a.png", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))  # of 768 bytes a tile
    try:
        with pytest.raises(UserError, match=r"tiles.raw: cannot be written \(File too large"):
            draw(target, "png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    part = target.with_name("a.png.part")
    assert (part / "tiles.raw").stat().st_size == 3000
    assert (part / "done.bin").stat().st_size == 3 * 8
    with open(part / "done.bin", "ab") as file:
        file.write(b"\1\2\3")  # a number that a power cut has left
    draw(target, "png")
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_working_folder_is_named(kind, tmp_path):
    target = tmp_path / f"a.{kind}"
    assert not killed_at(30, target, kind)
    if kind == "dzi":
        return  # its tiles are files; one that is missing is asked of nobody
    (data,) = [
        path
        for path in target.with_name(target.name + ".part").iterdir()
        if path.name in ("picture.tiff", "tiles.raw")
    ]
    os.truncate(data, 700)
    with pytest.raises(UserError, match="is cut short; delete .*part and start again"):
        draw(target, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_writers_hold_as_much_for_a_small_picture_as_for_a_large_one(kind, tmp_path):
    draw(tmp_path / f"first.{kind}", kind)  # imports
    peaks = []
    for side in (512, 1536):
        tiling = Tiling(side, side, 128, 256)
        pixels = picture(tiling)
        tracemalloc.start()
        draw(tmp_path / f"{side}.{kind}", kind, tiling, pixels=pixels)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    strip = 16 * (1536 - 512) * 3 * 4 if kind == "png" else 0  # what a PNG's rows take
    assert peaks[1] - peaks[0] - strip < pixels.nbytes / 20
