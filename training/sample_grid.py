"""The grids reals.png and fakes<kimg>.png, with the same prompts and latents at every snapshot."""

from __future__ import annotations

from pathlib import Path

import torch

from datasets.shard_loader import ShardDataset
from datasets.text_image import TextImageDataset
from dnnlib.ownership import in_our_folder
from networks.coordinates import View
from networks.interfaces import Generator, TextEncoder
from networks.sampling import iterate_images
from torch_utils.pictures import grid, save_png
from torch_utils.rng import generator_for
from torch_utils.tensors import to_uint8

NUM_COLUMNS, NUM_ROWS = 8, 4


class SampleGrid:
    """32 pictures of the data set, chosen by the seed, and fakes for their first captions.

    Without captions, the prompts are empty.
    """

    def __init__(
        self, dataset: TextImageDataset | ShardDataset, seed: int, resolution: int
    ) -> None:
        order = torch.randperm(len(dataset), generator=generator_for(seed, "sample grid"))
        self.indices = order[: NUM_COLUMNS * NUM_ROWS].tolist()
        self.dataset, self.resolution = dataset, resolution
        self.prompts = [(dataset.captions(i) or ("",))[0] for i in self.indices]

    def save_reals(self, path: Path) -> None:
        """Write the grid of real pictures."""
        save_png(
            path,
            grid([self.dataset[i].image for i in self.indices], NUM_COLUMNS),
            ours=in_our_folder,
        )

    def save_fakes(
        self, path: Path, generator: Generator, encoder: TextEncoder | None, device: torch.device
    ) -> None:
        """Write the grid of fakes; the PNG text `prompts` holds the captions, one a line."""
        stream = iterate_images(
            generator,
            encoder,
            self.prompts,
            range(len(self.prompts)),
            View.square(self.resolution),
            device=device,
        )
        text = {"prompts": "\n".join(self.prompts)} if any(self.prompts) else None
        save_png(
            path,
            grid([to_uint8(sample.image) for sample in stream], NUM_COLUMNS),
            text,
            ours=in_our_folder,
        )
