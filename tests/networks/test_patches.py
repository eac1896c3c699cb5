"""Patches of generators: one square for each sample equals a crop of that sample's whole frame."""

import pytest
import torch

from networks.coordinates import View
from networks.generators import QuantizedConfig, preset
from networks.layers.vector_quantizer import VectorQuantizerConfig
from networks.patches import PLACE_DIM, Patches
from tests.networks.test_generator_contract import ANY_SCALE, VARIANTS, build, latents, text_for

# Cells of a frame of 32 x 32: (left, top) of squares of 8 x 8.
CORNERS = [(0, 0), (24, 8), (5, 19)]
BOXES = torch.tensor([[x / 32, y / 32, 8 / 32] for x, y in CORNERS], dtype=torch.float64)


@pytest.mark.parametrize("name", ANY_SCALE)
def test_a_patch_is_the_crop_of_the_whole_render(name):
    config, generator = build(name)
    text = text_for(config, 3) if generator.reads_text else None
    with torch.no_grad():
        codes = generator.mapping(latents(generator, 3), text)
        whole = generator.synthesis(codes, View.square(32))
        patches = generator.draw_patches(codes, Patches(8, BOXES))
    crops = [whole[i, :, y : y + 8, x : x + 8] for i, (x, y) in enumerate(CORNERS)]
    torch.testing.assert_close(patches, torch.stack(crops), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["eidgan", "creps", "eidgan-place", "eidgan-noattention"])
def test_all_patches_at_once_equal_one_by_one_and_so_do_gradients(name):
    config, generator = build(name)
    assert generator.takes_patches
    codes = generator.mapping(latents(generator, 3), text_for(config, 3))
    boxes = torch.tensor([[-0.3, 0.1, 0.4], [0.2, 0.9, 0.31], [0.0, 0.0, 1.0]], dtype=torch.float64)
    together = generator.draw_patches(codes, Patches(6, boxes))
    weights = [p for p in generator.parameters() if p.requires_grad]
    of_all = torch.autograd.grad(
        together.square().sum(), weights, allow_unused=True, retain_graph=True
    )
    generator.takes_patches = False
    alone = generator.draw_patches(codes, Patches(6, boxes))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    of_each = torch.autograd.grad(alone.square().sum(), weights, allow_unused=True)
    for a, b in zip(of_all, of_each, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_quantised_generator_draws_patches_as_its_generator_does():
    book = VectorQuantizerConfig(num_codes=8, code_dim=4, slots=2)
    for kind, together in (("eidgan", True), ("cips", False)):
        config = QuantizedConfig(generator=preset(f"{kind}-tiny"), quantizer=book)
        generator = config.build().eval()
        assert generator.takes_patches is together and config.any_view
        codes = generator.mapping(latents(generator, 3), text_for(config, 3))
        assert generator.draw_patches(codes, Patches(4, BOXES)).shape == (3, 3, 4, 4)


def test_which_generators_draw_any_view():
    assert {name for name, config in VARIANTS.items() if not config.any_view} == set(
        VARIANTS
    ) - set(ANY_SCALE)


@pytest.mark.parametrize("convention", ["centers", "endpoints"])
def test_coordinates_are_those_of_views_bit_for_bit(convention):
    boxes = torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    patches = Patches(7, boxes, convention)
    for i, view in enumerate(patches.views()):
        assert view.convention == convention
        assert torch.equal(patches.rows()[i], view.rows())
        assert torch.equal(patches.columns()[i], view.columns())
    assert torch.equal(patches[3:5].rows(), patches.rows()[3:5])


def test_place_codes_tell_scale_and_place_apart():
    places = [(x / 4, y / 4) for x in range(-2, 3) for y in range(-2, 3)]
    boxes = torch.tensor(
        [(x, y, 2.0**-octave) for octave in (0, 1, 2, 3) for x, y in places], dtype=torch.float64
    )
    codes = Patches(8, boxes).codes()
    assert codes.shape == (100, PLACE_DIM) and codes.dtype == torch.float32
    torch.testing.assert_close(codes.square().mean(dim=1), torch.ones(100))
    distances = torch.cdist(codes, codes) + torch.eye(100) * 9
    assert distances.min() > 0.3


def test_places_stand_beside_the_text_or_alone():
    patches, text = Patches(8, BOXES), text_for(preset("eidgan-tiny"), 3)
    both = patches.joined_to(text, torch.device("cpu"))
    assert torch.equal(both.words, text.words) and torch.equal(both.mask, text.mask)
    assert torch.equal(both.sentence[:, -PLACE_DIM:], patches.codes())
    sentence = both.sentence[:, :-PLACE_DIM]
    torch.testing.assert_close(sentence.square().mean(dim=1), torch.ones(3))
    cosine = torch.nn.functional.cosine_similarity(sentence, text.sentence)
    torch.testing.assert_close(cosine, torch.ones(3))
    assert torch.equal(patches.joined_to(None, torch.device("cpu")).sentence, patches.codes())
