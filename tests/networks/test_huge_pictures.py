"""Pictures drawn in blocks equal pictures in one piece, and hold one block at a time."""

import weakref

import numpy as np
import pytest
import tifffile
import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import preset
from networks.huge_pictures import (
    MAX_WHOLE_PX,
    check_size,
    check_target,
    draw_huge,
    draw_tiles,
    is_streamed,
    part_of,
)
from networks.sampling import draw_codes, render_tiled
from networks.text_encoders import load_encoder
from torch_utils.tensors import to_uint8
from torch_utils.tiling import Tiling

SYSTEMS = ("eidgan-tiny", "creps-tiny", "cips-tiny", "inrgan-tiny")
VIEW = View(height=90, width=131, box=(-0.1, 0.0, 1.3, 1.0))
TILING = Tiling(131, 90, 16, 48)
FACTS = {"snapshot": "0a1b", "seed": "3", "prompt": "a red apple"}


def drawn(name):
    torch.manual_seed(0)
    generator = preset(name).build().eval().requires_grad_(False)
    return generator, draw_codes(generator, load_encoder("hashed"), ["a red apple"], [3])


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_no_seam_is_seen(name):
    generator, codes = drawn(name)
    with torch.no_grad():
        whole = render_tiled(generator, codes, VIEW)[0]
    image = torch.full_like(whole, torch.nan)
    for tile, pixels in draw_tiles(generator, codes, VIEW, TILING, tile_px=200):
        image[:, tile.rows, tile.columns] = pixels
    assert (image - whole).abs().max() < 1e-5
    assert torch.equal(to_uint8(image), to_uint8(whole))


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_seams_of_a_turned_view_stay_below_half_a_step_of_8_bits(name):
    """Each block reads its lines from a table of its own. With exact lines there is no seam."""
    generator, codes = drawn(name)
    for exact, most in ((False, 1 / 255), (True, 1e-5)):
        view = VIEW.transformed(rotate=33, exact=exact)
        with torch.no_grad():
            whole = render_tiled(generator, codes, view)[0]
        for tile, pixels in draw_tiles(generator, codes, view, TILING):
            assert (pixels - whole[:, tile.rows, tile.columns]).abs().max() < most


def test_parts_have_the_samples_of_the_whole():
    view = View(height=9973, width=1000, box=(-0.3, 0.1, 1.7, 0.9))
    rows, columns = slice(4001, 6049), slice(512, 1000)
    part = part_of(view, rows, columns)
    assert (part.rows() - view.rows()[rows]).abs().max() < 1e-7
    assert (part.columns() - view.columns()[columns]).abs().max() < 1e-7
    square = View(height=1 << 16, width=1 << 16)
    rows = slice(63488, 65536)
    assert torch.equal(part_of(square, rows, rows).rows(), square.rows()[rows])


class Traced(torch.nn.Module):
    """A generator that counts which of its prepared views are alive."""

    samples = 1

    def __init__(self):
        super().__init__()
        self.alive: weakref.WeakSet = weakref.WeakSet()
        self.views: list[View] = []

    def prepare(self, codes, view):
        class Lines:
            rows, columns = view.rows(), view.columns()

        lines = Lines()
        self.alive.add(lines)
        self.views.append(view)
        assert len(self.alive) == 1
        return lines

    def render(self, prepared, rows, columns):
        assert len(self.alive) == 1
        y, x = prepared.rows[rows, None], prepared.columns[None, columns]
        return torch.stack([y * x, y + x, y - x])[None]


def test_the_lines_of_one_block_are_alive_whatever_the_size():
    generator, codes = Traced(), drawn("creps-tiny")[1]
    for side in (96, 480):
        generator.views.clear()
        tiling = Tiling(side, side, 16, 48)
        for _, pixels in draw_tiles(generator, codes, View.square(side), tiling):
            assert pixels.shape == (3, 16, 16)
        assert len(generator.views) == (side // 48) ** 2  # each block is prepared once
        assert {(view.height, view.width) for view in generator.views} == {(48, 48)}
    assert not generator.alive


@pytest.mark.parametrize("skip", [0, 1, 9, 10, 53])
def test_skipped_tiles_are_not_prepared(skip):
    generator, codes = Traced(), drawn("creps-tiny")[1]
    tiles = [tile for tile, _ in draw_tiles(generator, codes, VIEW, TILING, skip)]
    assert tiles == list(TILING.order())[skip:]
    blocks = [block for block in TILING.blocks() if any(tile in tiles for tile in block.tiles)]
    assert len(generator.views) == len(blocks)


def test_a_file_holds_what_is_drawn_and_another_command_is_refused(tmp_path):
    generator, codes = drawn("eidgan-tiny")
    target = tmp_path / "a.tiff"
    draw_huge(generator, codes, VIEW, target, "tiff", FACTS, tiling=TILING)
    with torch.no_grad():
        whole = to_uint8(render_tiled(generator, codes, VIEW)[0])
    assert np.array_equal(tifffile.imread(target), whole.permute(1, 2, 0).numpy())

    class Killed(BaseException):
        pass

    def stop(*_):
        raise Killed

    generator.register_forward_pre_hook(stop)
    render, calls = generator.render, iter(range(5))
    generator.render = lambda *args: render(*args) if next(calls, None) is not None else stop()
    before = target.read_bytes()
    with pytest.raises(Killed):
        draw_huge(generator, codes, VIEW, target, "tiff", FACTS, tiling=TILING)
    generator.render = render
    for facts, tiling, named in (
        (FACTS | {"seed": "4"}, TILING, "seed '3'; now seed '4'"),
        (FACTS, Tiling(131, 90, 32, 32), "tiles '16 in blocks of 48'; now"),
    ):
        with pytest.raises(UserError, match=named):
            draw_huge(generator, codes, VIEW, target, "tiff", facts, tiling=tiling)
    assert target.read_bytes() == before  # the finished picture stays until the next is finished
    draw_huge(generator, codes, VIEW, target, "tiff", FACTS, tiling=TILING)
    assert target.read_bytes() == before and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "kind, name",
    [
        ("png", "a.png"),
        ("tiff", "a.tiff"),
        ("dzi", "a.dzi"),
        ("dzi", "a_files/7/0_0.png"),
        ("tiff", "a.tiff.part"),
        ("png", "a.png.part/notes.txt"),
    ],
)
def test_what_is_not_ours_stays(kind, name, tmp_path):
    generator, codes = drawn("eidgan-tiny")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(UserError, match="so it is left as it is"):
        draw_huge(generator, codes, VIEW, tmp_path / f"a.{kind}", kind, FACTS, tiling=TILING)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["png", "tiff", "dzi"])
def test_a_picture_of_ours_is_replaced(kind, tmp_path):
    generator, codes = drawn("eidgan-tiny")
    view, target = View.square(40), tmp_path / f"a.{kind}"
    for size, seed in ((70, "1"), (40, "2")):
        view = View.square(size)
        draw_huge(
            generator,
            codes,
            view,
            target,
            kind,
            FACTS | {"seed": seed},
            tiling=Tiling(size, size, 16, 32),
        )
    check_target(target, kind)
    assert {path.name for path in tmp_path.iterdir()} <= {f"a.{kind}", "a_files"}
    assert len(list(tmp_path.glob("a_files/6/*"))) == (9 if kind == "dzi" else 0)  # 40 px: 3 x 3


def test_pixels_that_are_not_finite_are_named(tmp_path):
    generator, codes = drawn("eidgan-tiny")
    codes.tokens.fill_(float("nan"))
    with pytest.raises(UserError, match="'a red apple' with seed 3 is not finite"):
        draw_huge(generator, codes, VIEW, tmp_path / "a.tiff", "tiff", FACTS, tiling=TILING)


def test_sizes_beyond_the_formats():
    for kind in ("tiff", "dzi"):
        check_size(1 << 20, 1, kind)
        with pytest.raises(UserError, match="at most 1048576 pixels a side"):
            check_size(1, (1 << 20) + 1, kind)
    check_size(65536, 16384, "png")
    for size in ((65537, 1), (65536, 16385)):
        with pytest.raises(
            UserError, match="at most 65536 pixels a side.*use --format tiff or dzi"
        ):
            check_size(*size, "png")
    assert is_streamed(View.square(8), "tiff") and not is_streamed(View.square(4096), "png")
    assert is_streamed(View(height=4096, width=MAX_WHOLE_PX // 4096 + 1), "png")
