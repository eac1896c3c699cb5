"""Tiles equal one picture of the same part: no seam shows, at any zoom, turned or warped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dnnlib.errors import UserError
from explorer.painter import Painter
from explorer.state import PictureState
from explorer.strips import Strips
from explorer.tiles import FARTHEST, MAX_ZOOM, MIN_ZOOM, Tile, requested_part
from networks.coordinates import View
from networks.generators import preset
from networks.sampling import render_tiled
from networks.snapshot import Snapshot


def painted(network, **state):
    painter = Painter(torch.device("cpu"))
    parsed = PictureState.parse({"network": "x", "prompt": "a red apple", **state})
    return painter, painter.register(parsed, str(network))[0]


@torch.no_grad()
def difference(painter, picture, first, rows, together=True):
    """The largest difference between rows x 2 tiles and one picture of the same part."""
    numbers = [(first.x + i, first.y + j) for j in range(rows) for i in range(2)]
    tiles = [Tile(first.z, *number) for number in numbers]
    if together:
        painter.share([(picture, tile) for tile in tiles])
    pixels = [painter.pixels(picture, tile) for tile in tiles]
    mosaic = torch.cat([torch.cat(pixels[2 * j : 2 * j + 2], dim=2) for j in range(rows)], dim=1)
    view = replace(
        picture.state.view_options("0,0,1,1").view(),
        height=256 * rows,
        width=512,
        box=(*first.box[:2], *tiles[-1].box[2:]),
    )
    generator = painter.network(picture.path).generator
    whole = render_tiled(generator, painter.codes(picture), view)[0]
    return (mosaic - whole).abs().max().item()


@pytest.mark.parametrize("first, together", [(Tile(0, -1, -1), True), (Tile(6, 40, 90), False)])
def test_tiles_of_lines(network, first, together):
    painter, picture = painted(network)
    assert difference(painter, picture, first, 2, together) < 1e-5


@pytest.mark.parametrize("change", [{"rotate": 30}, {"warp": "wave"}], ids=str)
def test_tiles_of_tables(network, change):
    """The two tiles lie in two frames, so each reads a table of its own."""
    painter, picture = painted(network, **change)
    assert difference(painter, picture, Tile(1, 1, 0), 1) < 1e-5


def saved(config, folder):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = config.build().eval()
    Snapshot(generator, "hashed", 16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["cips-tiny", "inrgan-tiny", "creps-tiny"])
def test_tiles_of_other_systems(name, tmp_path):
    painter, picture = painted(saved(preset(name), tmp_path / "snapshot"))
    assert difference(painter, picture, Tile(2, 1, -1), 1) < 1e-5


@pytest.mark.parametrize("change", [{}, {"rotate": 30}], ids=str)
def test_tiles_whose_pixels_are_means_of_points(change, tmp_path):
    config = replace(preset("eidgan-tiny"), samples=2)
    painter, picture = painted(saved(config, tmp_path / "snapshot"), **change)
    assert difference(painter, picture, Tile(1, 1, 0), 2) < 1e-5


def test_a_tile_does_not_depend_on_what_was_kept(network):
    painter, picture = painted(network)
    tile, other = Tile(1, 0, 0), Tile(1, 5, 0)
    first = painter.pixels(picture, tile)
    painter.pixels(picture, other)
    assert torch.equal(painter.pixels(picture, tile), first)
    painter.strips = Strips(0)  # keeps nothing
    assert (painter.pixels(picture, tile) - first).abs().max() < 1e-5


def test_tables_serve_all_zoom_levels_of_their_frame():
    assert Tile(3, -1, 9).frame() == Tile(0, -1, 1) and Tile(-2, 5, 5).frame() == Tile(-2, 5, 5)
    assert Tile(5, -32, 31).frame() == Tile(0, -1, 0)


@pytest.mark.parametrize("z", [MIN_ZOOM - 1, MAX_ZOOM + 1])
def test_zoom_is_bounded(z):
    with pytest.raises(UserError, match="the map has the levels"):
        Tile(z, 0, 0)


def test_neighbouring_pixels_have_coordinates_of_their_own():
    for z in (0, MAX_ZOOM):
        last = Tile(z, FARTHEST - 1, 0)
        last.view().check_steps()
        assert last.view().columns().unique().numel() == 256
        with pytest.raises(UserError, match="the map ends here"):
            Tile(z, FARTHEST, 0)
    beyond = View(height=256, width=256, box=(FARTHEST, 0, FARTHEST + 1, 1))
    with pytest.raises(UserError, match="cannot tell apart"):
        beyond.check_steps()


def test_addresses_and_parts_are_checked():
    assert Tile.parse("-2", "3", "-4") == Tile(-2, 3, -4)
    for wrong in ("1.5", "", "a", "1" * 10, "+1"):
        with pytest.raises(UserError, match="the address of a tile"):
            Tile.parse("0", wrong, "0")
    assert requested_part("-1,0,1,1", "20x10", 200) == (20, 10)
    for window, size in (("0,0,1", "1x1"), ("0,0,1,1", "20x11"), ("0,0,1e9,1", "1x1"), ("x", "x")):
        with pytest.raises(UserError):
            requested_part(window, size, 200)
    assert View(height=1, width=1, box=Tile(1, 1, 1).box).box == (0.5, 0.5, 1.0, 1.0)
