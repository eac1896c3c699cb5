"""Implicit maximum likelihood estimation (Li and Malik 2018), with text (Li et al. 2020).

For each real picture, several latents are drawn with its text. The latent whose picture is nearest
to the real one takes the place of the latent of this sample, and G learns to come closer. A
discriminator accepts a generator that draws a few good pictures again and again. Here each real
picture asks for a latent that shows it, so no kind of picture can be left out.

Half of the samples take part. The latents of the other half are independent draws.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from networks.coordinates import View
from networks.interfaces import Generator
from networks.patches import Patches
from torch_utils.training_stats import Collector
from training.micro_batch import MicroBatch


def compared_side(side: int) -> int:
    """The side in pixels at which pictures of a side are compared: a quarter of it, at most 16."""
    return min(max(side // 4, 1), 16)


def paired_rows(micro: MicroBatch) -> slice:
    """The rows of a micro batch that take part: those at even positions of the batch."""
    return slice(micro.rows.start % 2, None, 2)


@torch.no_grad()
def nearest_latents(
    generator: Generator, micro: MicroBatch, view: View, count: int, collector: Collector
) -> torch.Tensor:
    """The nearest of `count` latents for each row of `paired_rows`: [rows, *latent_shape].

    Distance is the mean squared difference of pictures of the side `compared_side`. An implicit
    generator draws them at this size; the pictures of another generator, drawn at `view`, are
    averaged down.
    collector: receives the mean distances of the nearest and of all latents.
    """
    rows = paired_rows(micro)
    if not len(micro.images[rows]):  # a micro batch of one sample at an odd position
        return micro.images.new_empty(0, *generator.latent_shape)
    latents = micro.normal("z-nearest", (count, *generator.latent_shape))[rows]
    text = None if micro.text is None else micro.text[rows].repeat_interleave(count)
    codes = generator.mapping(latents.flatten(0, 1), text)
    side = compared_side(micro.images.shape[-1])
    small = View.square(side) if generator.config.any_view else view
    if micro.patches is None:
        drawn = generator.synthesis(codes, small)
    else:
        boxes = micro.patches.boxes[rows].repeat_interleave(count, dim=0)
        drawn = generator.draw_patches(codes, Patches(small.width, boxes))

    drawn, real = (
        functional.interpolate(images.float(), (side, side), mode="area")
        for images in (drawn, micro.images[rows])
    )
    distance = (drawn.unflatten(0, (-1, count)) - real[:, None]).square().mean(dim=(2, 3, 4))
    collector.report("IMLE/nearest", distance.amin(dim=1))
    collector.report("IMLE/mean", distance)
    return latents[torch.arange(len(latents), device=latents.device), distance.argmin(dim=1)]
