"""The strip of --compare-scales: what is shown, and that PSNR is that of the area average."""

import pytest
import torch

from dnnlib.errors import UserError
from metrics.pictures.scale_strip import parse_sides, scale_facts, scale_strip
from networks.coordinates import View
from networks.generators import preset
from networks.sampling import draw_codes, render_tiled
from networks.text_encoders import load_encoder
from torch_utils.tensors import to_uint8


def test_sides():
    assert parse_sides("256,64,1024") == [64, 256, 1024]
    for text in ("64", "64,64", "", "a,b", "0,4", "-4,8"):
        with pytest.raises(UserError, match="at least two sides in pixels"):
            parse_sides(text)
    with pytest.raises(UserError, match="96 is not a multiple of 64, the smallest side"):
        parse_sides("64,96")


def test_a_strip_shows_every_size_and_compares_area_averages():
    torch.manual_seed(0)
    generator = preset("eidgan-tiny").build().eval().requires_grad_(False)
    codes = draw_codes(generator, load_encoder("hashed"), ["a cat"], [0])
    view = View(height=5, width=5, box=(0, 0, 2, 2))
    strip, decibels = scale_strip(generator, codes, view, [8, 16, 48])
    assert strip.shape == (3, 48, 144) and strip.dtype == torch.uint8 and len(decibels) == 2
    with torch.no_grad():
        images = [
            render_tiled(generator, codes, View(height=s, width=s, box=(0, 0, 2, 2)))[0]
            for s in (8, 16, 48)
        ]
    for place, image in enumerate(images):
        factor = 48 // image.shape[1]
        shown = to_uint8(image).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        assert torch.equal(strip[:, :, 48 * place : 48 * (place + 1)], shown)
    for image, value in zip(images[1:], decibels, strict=True):
        factor = image.shape[1] // 8
        blocks = image.clamp(-1, 1).double().reshape(3, 8, factor, 8, factor).mean(dim=(2, 4))
        error = ((blocks - images[0].clamp(-1, 1)) / 2).square().mean()
        assert value == pytest.approx(float(-10 * torch.log10(error)), abs=1e-3)
    facts = scale_facts([8, 16, 48], decibels)
    assert facts["psnr"] == (
        f"16 px {decibels[0]:.2f} dB, 48 px {decibels[1]:.2f} dB (area average against 8 px)"
    )
    codes.tokens.fill_(float("nan"))
    with pytest.raises(UserError, match="8 x 8 is not finite"):
        scale_strip(generator, codes, view, [8, 16])
