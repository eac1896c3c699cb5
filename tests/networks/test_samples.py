"""Pixels that are the mean of several points."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import QuantizedConfig, preset
from networks.patches import Patches
from networks.sampling import render_tiled
from tests.networks.test_generator_contract import TINY, build, latents, text_for


@pytest.mark.parametrize("name", ["eidgan-samples", "creps-samples"])
@torch.no_grad()
def test_a_pixel_is_the_mean_of_its_points(name):
    """With `samples` s, a view equals one of s times the side with one point a pixel, averaged; so
    do turned views, patches and tiles.
    """
    config, generator = build(name)
    codes = generator.mapping(latents(generator, 2), text_for(config, 2))
    points = copy.deepcopy(generator)
    points.config = replace(config, samples=1)
    view = View(height=7, width=10, box=(-0.2, 0.1, 0.9, 1.3))
    patches = Patches(6, torch.tensor([[0.1, 0.3, 0.5], [-0.2, 0.4, 1.1]], dtype=torch.float64))
    for shown in (view, view.transformed(rotate=30), patches):
        found = generator.synthesis(codes, shown)
        expected = points.synthesis(codes, shown.scaled(config.samples))
        expected = torch.nn.functional.avg_pool2d(expected, config.samples)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    tiled = render_tiled(generator, codes, view, tile_px=60)
    torch.testing.assert_close(tiled, generator.synthesis(codes, view), rtol=0, atol=1e-5)


def test_a_pixel_of_end_points_has_no_area():
    with pytest.raises(UserError, match="samples: .* generator.convention=endpoints"):
        replace(preset("creps-tiny"), samples=2, convention="endpoints")


@torch.no_grad()
def test_a_trained_network_takes_more_points():
    """Also behind a quantiser; systems without the field refuse, but for one point."""
    quantized = QuantizedConfig(generator=preset("eidgan-tiny")).build().eval()
    for generator in (quantized, preset("creps-tiny").build().eval()):
        config = generator.config
        codes = generator.mapping(latents(generator, 1), text_for(config, 1))
        fine = generator.synthesis(codes, View.square(12))
        generator.use_samples(2)
        assert generator.samples == generator.config.samples == 2
        mean = torch.nn.functional.avg_pool2d(fine, 2)
        found = generator.synthesis(codes, View.square(6))
        torch.testing.assert_close(found, mean, rtol=0, atol=1e-5)
    for kind in ("cips", "inrgan", "stylegan2", "vqcgan"):
        generator = TINY[kind].build()
        generator.use_samples(1)
        with pytest.raises(UserError, match=f"networks of kind {kind} draw one point a pixel"):
            generator.use_samples(2)
