"""Implicit maximum likelihood: the nearest of several latents takes part in the losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from configs import recipe
from dnnlib.errors import UserError
from networks.coordinates import View
from networks.generators import preset
from networks.patches import Patches
from tests.networks.test_generator_contract import text_for
from torch_utils.training_stats import Collector
from training.imle import compared_side, nearest_latents, paired_rows
from training.micro_batch import MicroBatch

SIDE, COUNT = 32, 3


def micro_batch(rows=slice(0, 4), patches=None):
    images = torch.rand(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    part = None if patches is None else patches[rows]
    return MicroBatch(
        images[rows], text_for(preset("eidgan-tiny"), 8)[rows], rows, 8, (0, "step", 0, 0), part
    )


def nearest_by_hand(generator, micro, row, draw):
    """The latent of `row`, found one picture at a time."""
    candidates = micro.normal("z-nearest", (COUNT, *generator.latent_shape))[row]
    real = torch.nn.functional.avg_pool2d(micro.images[row], SIDE // 8)
    distances = []
    for candidate in candidates:
        codes = generator.mapping(candidate[None], micro.text[row : row + 1])
        distances.append((draw(codes)[0] - real).square().mean())
    return candidates[torch.stack(distances).argmin()]


@pytest.mark.parametrize("kind", ["eidgan", "inrgan", "stylegan2"])
@torch.no_grad()
def test_the_nearest_latent_is_that_of_a_search_by_hand(kind):
    generator, micro = preset(f"{kind}-tiny").build(), micro_batch()

    def draw(codes):
        if kind == "stylegan2":
            return torch.nn.functional.avg_pool2d(generator.synthesis(codes, View.square(SIDE)), 4)
        return generator.synthesis(codes, View.square(8))

    found = nearest_latents(generator, micro, View.square(SIDE), COUNT, Collector())
    for latent, row in zip(found, (0, 2), strict=True):
        assert torch.equal(latent, nearest_by_hand(generator, micro, row, draw))


def test_pictures_are_compared_at_a_quarter_of_their_side_at_most_at_16():
    assert [compared_side(side) for side in (32, 64, 256)] == [8, 16, 16]


@torch.no_grad()
def test_patches_are_compared_at_their_places():
    generator = preset("eidgan-tiny").build()
    boxes = torch.tensor([[0.1 * i, 0.05 * i, 0.3] for i in range(8)], dtype=torch.float64)
    micro = micro_batch(patches=Patches(SIDE, boxes))
    found = nearest_latents(generator, micro, View.square(SIDE), COUNT, Collector())
    for latent, row in zip(found, (0, 2), strict=True):
        place = Patches(8, boxes[row : row + 1])
        by_hand = nearest_by_hand(
            generator, micro, row, lambda codes, place=place: generator.draw_patches(codes, place)
        )
        assert torch.equal(latent, by_hand)


@torch.no_grad()
def test_rows_and_latents_do_not_depend_on_the_split():
    generator = preset("eidgan-tiny").build()
    found = []
    for split in ([slice(0, 8)], [slice(0, 3), slice(3, 4), slice(4, 8)]):
        latents = torch.zeros(8, *generator.latent_shape)
        for rows in split:
            micro = micro_batch(rows)
            latents[rows][paired_rows(micro)] = nearest_latents(
                generator, micro, View.square(SIDE), COUNT, Collector()
            )
        found.append(latents)
    assert torch.equal(*found)
    assert found[0][::2].abs().amin(dim=tuple(range(1, found[0].ndim))).gt(0).all()
    assert not found[0][1::2].any()


def test_imle_without_shared_fakes_is_refused():
    loss = recipe("eidgan-flowers64").loss
    for change in ({"shared_fakes": False}, {"style_mixing": 0.9}):
        with pytest.raises(UserError, match="loss.imle: .*add --set loss.shared_fakes=true"):
            replace(loss, imle=1.0, **change)
