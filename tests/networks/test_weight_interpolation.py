"""Weights between those of two pictures: the ends, the middle, tiles, and who is refused."""

from __future__ import annotations

import pytest
import torch

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import preset
from networks.generators.inrgan import FactorisedLinear
from networks.interfaces import Codes
from networks.layers.modulated import ModulatedLinear
from networks.sampling import render_tiled
from networks.weight_interpolation import SettledLinear, with_weights_between

VIEW = View(height=9, width=12, box=(-0.1, 0.2, 0.8, 0.9))


def two_pictures(kind):
    torch.manual_seed(0)
    generator = preset(f"{kind}-tiny").with_text(0, 0).build().eval()
    codes = generator.mapping(torch.randn(2, *generator.latent_shape), None)
    first, last = (Codes(codes.tokens[i : i + 1].detach(), codes.sentence[:1]) for i in (0, 1))
    return generator, first, last


def drawn(generator, first, last, weight, view=VIEW, **options):
    between = Codes(torch.lerp(first.tokens, last.tokens, weight), first.sentence)
    settled = with_weights_between(generator, first, last, weight)
    with torch.no_grad():
        return render_tiled(settled, between, view, **options)


@pytest.mark.parametrize("kind", ["inrgan", "cips", "creps"])
def test_the_ends_are_both_pictures_and_the_middle_is_neither_mean(kind):
    generator, first, last = two_pictures(kind)
    with torch.no_grad():
        a, b = (render_tiled(generator, codes, VIEW) for codes in (first, last))
        middle_codes = Codes((first.tokens + last.tokens) / 2, first.sentence)
        of_codes = render_tiled(generator, middle_codes, VIEW)
    torch.testing.assert_close(drawn(generator, first, last, 0.0), a, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(drawn(generator, first, last, 1.0), b, rtol=1e-4, atol=1e-5)
    middle = drawn(generator, first, last, 0.5)
    for other in ((a + b) / 2, of_codes):
        assert (middle - other).abs().max() > 1e-3
    tiled = drawn(generator, first, last, 0.5, tile_px=17)
    torch.testing.assert_close(tiled, middle, rtol=1e-4, atol=1e-5)
    turned = VIEW.transformed(rotate=30)
    whole = drawn(generator, first, last, 0.5, turned)
    tiled = drawn(generator, first, last, 0.5, turned, tile_px=17)
    torch.testing.assert_close(whole, tiled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["inrgan", "cips", "creps"])
def test_every_modulated_layer_has_the_weights_between(kind):
    generator, first, last = two_pictures(kind)
    settled = with_weights_between(generator, first, last, 0.25)
    num_layers = 0
    for name, layer in generator.named_modules():
        if isinstance(layer, ModulatedLinear | FactorisedLinear):
            num_layers += 1
            a, b = (layer.folded(codes.tokens[:, 0])[0] for codes in (first, last))
            found = settled.get_submodule(name)
            assert isinstance(found, SettledLinear)
            torch.testing.assert_close(found.weight, 0.75 * a + 0.25 * b)
    assert num_layers >= 5
    # Nothing else is copied, and the generator is as it was.
    assert not any(isinstance(layer, SettledLinear) for layer in generator.modules())
    pointers = {parameter.data_ptr() for parameter in generator.parameters()}
    assert all(parameter.data_ptr() in pointers for parameter in settled.parameters())


@pytest.mark.parametrize("kind", ["eidgan", "stylegan2", "vqcgan"])
def test_systems_without_such_weights_are_refused_by_type(kind):
    generator, first, last = two_pictures(kind)
    with pytest.raises(UserError, match=f"weights: {kind} cannot interpolate weights"):
        with_weights_between(generator, first, last, 0.5)
