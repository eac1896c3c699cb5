"""Transformed views: every generator of any scale draws them, and they show what they should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from networks.coordinates import View
from networks.generators import line_tables
from networks.interfaces import ViewError
from networks.sampling import render_tiled
from networks.warps import Field, Fisheye, Swirl, Warp, Wave
from tests.networks.test_generator_contract import (
    ANY_SCALE,
    SIDE,
    VARIANTS,
    build,
    latents,
    text_for,
)

HALF_STEP = 1 / 255  # of 8 bits, in a picture of [-1, 1]
PLAIN = View(height=24, width=30)
FIELD = Field(torch.tensor([[[0.1, 0.0], [0.0, 0.2]], [[-0.1, 0.1], [0.3, 0.0]]]))
WARPED = {
    "identity": replace(PLAIN, warp=Warp()),
    "affine": PLAIN.transformed(
        zoom=1.5, center=(0.3, 0.6), rotate=33, shear=0.2, translate=(0.1, 0)
    ),
    "swirl": replace(PLAIN, box=(-0.5, 0, 1, 1.5)).transformed(warp=Swirl()),
    "fisheye": PLAIN.transformed(warp=Fisheye(), zoom=0.5),
    "wave": PLAIN.transformed(warp=Wave(), rotate=-90),
    "field": PLAIN.transformed(warp=FIELD),
    "endpoints": replace(PLAIN, convention="endpoints").transformed(rotate=180),
}
BILINE = [name for name in ANY_SCALE if VARIANTS[name].kind in ("eidgan", "creps", "quantized")]


@pytest.fixture
def short_tables(monkeypatch):
    """Tables shorter than the number of pixels of a small view, so that small views use them."""
    monkeypatch.setattr(line_tables, "PER_CYCLE", 20)


def codes_of(name, n=2):
    config, generator = build(name)
    return generator, generator.mapping(latents(generator, n), text_for(config, n))


def exactly(view):
    return replace(view, warp=replace(view.warp, exact=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", WARPED)
@pytest.mark.parametrize("name", ANY_SCALE)
@torch.no_grad()
def test_tiles_equal_the_whole(name, kind, short_tables):
    generator, codes = codes_of(name)
    whole = render_tiled(generator, codes, WARPED[kind], tile_px=1 << 20)
    assert whole.shape == (2, 3, 24, 30) and whole.isfinite().all()
    tiles = render_tiled(generator, codes, WARPED[kind], tile_px=2 * 70)
    assert (tiles - whole).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ANY_SCALE if not name.endswith("-samples")])
@torch.no_grad()
def test_views_show_the_content_at_their_points(name):
    """The identity equals the plain view, a rotation by 90 degrees the rotated plain picture; a
    warp shows, at each pixel, what a plain view of one pixel shows at its point.
    """
    generator, codes = codes_of(name, 1)

    def drawn(view):
        return generator.synthesis(codes, view)

    square = View.square(16)
    plain = drawn(square)
    assert square.transformed(zoom=1, center=(0.2, 0.9), rotate=360, shear=0) == square
    assert (drawn(replace(square, warp=Warp(exact=True))) - plain).abs().max() < 1e-4
    turned = drawn(square.transformed(rotate=90, exact=True))
    assert (turned - plain.rot90(1, (2, 3))).abs().max() < 1e-4
    assert (turned - plain).abs().max() > 1e-2
    view = exactly(WARPED["field"])
    image = drawn(view)
    for row, column in ((0, 0), (5, 23), (23, 29)):
        x, y = view.points(slice(row, row + 1), slice(column, column + 1), torch.device("cpu"))
        box = (x.item() - 1e-3, y.item() - 1e-3, x.item() + 1e-3, y.item() + 1e-3)
        pixel = drawn(View(height=1, width=1, box=box))
        assert (image[:, :, row, column] - pixel[:, :, 0, 0]).abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", BILINE)
@torch.no_grad()
def test_a_table_agrees_with_lines_at_every_pixel(name):
    """At the default spacing: below half a step of 8 bits but for one value in a thousand."""
    generator, codes = codes_of(name, 1)
    view = View(height=64, width=64).transformed(rotate=20, zoom=1.2, warp=Wave())
    prepared = generator.prepare(codes, view)
    assert prepared.tables is not None and generator.prepare(codes, exactly(view)).tables is None
    table, exact = generator.synthesis(codes, view), generator.synthesis(codes, exactly(view))
    error = (table - exact).abs().flatten()
    assert 0 < error.quantile(0.999) < HALF_STEP and error.max() < 2 * HALF_STEP


@torch.no_grad()
def test_the_layout_of_the_pixels_changes_nothing(monkeypatch, short_tables):
    generator, codes = codes_of("eidgan")
    image = generator.synthesis(codes, WARPED["affine"])
    monkeypatch.setattr(line_tables, "ACROSS_CPU", line_tables.ACROSS_GPU)
    assert (generator.synthesis(codes, WARPED["affine"]) - image).abs().max() < 1e-5


@torch.no_grad()
def test_the_error_of_a_table_falls_with_its_spacing(monkeypatch):
    generator, codes = codes_of("eidgan", 1)
    view, errors = View.square(64).transformed(rotate=20), []
    exact = generator.synthesis(codes, exactly(view))
    for per_cycle in (8, 32, 128):
        monkeypatch.setattr(line_tables, "PER_CYCLE", per_cycle)
        errors.append((generator.synthesis(codes, view) - exact).square().mean().sqrt().item())
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0


@torch.no_grad()
def test_a_view_without_worth_for_tables_evaluates_every_pixel():
    generator, codes = codes_of("eidgan", 1)
    few, far = (
        View.square(8).transformed(rotate=20),
        View.square(256).transformed(rotate=20, zoom=0.01),
    )
    assert all(generator.prepare(codes, view).tables is None for view in (few, far))
    near = View.square(64).transformed(rotate=20, zoom=100)
    tables = generator.prepare(codes, near).tables
    assert tables is not None and tables[0].values.shape[1] < 50


@torch.no_grad()
def test_prepared_coarse_cells_equal_those_of_each_pixel(monkeypatch):
    generator, codes = codes_of("inrgan")
    view = WARPED["affine"]
    prepared = generator.synthesis(codes, view)
    assert generator.prepare(codes, view).cells is not None
    monkeypatch.setattr("networks.generators.inrgan.MAX_CELLS", 0)
    assert generator.prepare(codes, view).cells is None
    assert (generator.synthesis(codes, view) - prepared).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["eidgan", "creps", "cips", "inrgan", "quantized"])
def test_gradients_pass_through_a_warped_view(name, short_tables):
    """They equal those of the plain view, because the identity shows the same picture."""
    config, generator = build(name)
    z, text = latents(generator, 2), text_for(config, 2)
    gradients = []
    for view in (PLAIN, replace(PLAIN, warp=Warp(exact=True)), replace(PLAIN, warp=Warp())):
        generator.zero_grad()
        generator(z, text, view).square().mean().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in generator.parameters() if p.grad is not None])
        )
    plain, exact, table = gradients
    assert (exact - plain).norm() < 1e-3 * plain.norm()
    assert (table - plain).norm() < 0.1 * plain.norm()


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ANY_SCALE])
def test_a_native_system_refuses_them_by_type(name):
    config, generator = build(name)
    view = View.square(SIDE).transformed(rotate=90)
    with pytest.raises(
        ViewError, match="of the whole frame only, not 32x32 .centers., transformed"
    ):
        generator(latents(generator, 1), text_for(config, 1), view)
