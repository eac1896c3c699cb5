"""AnyresGAN's teacher (Chai et al. 2022): G keeps what the network showed from which it started.

A discriminator of patches reads pieces of pictures. It knows how details look and little of what a
whole picture shows, so G forgets the latter in a training on patches. The teacher is the network of
`--init-from`, frozen. Both draw the same latents and texts. G's picture, averaged down to the size
at which the teacher was trained, has to be the teacher's picture.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from dnnlib.errors import UserError
from networks.coordinates import View
from networks.interfaces import Generator, TextFeatures
from networks.patches import Patches
from networks.snapshot import Snapshot


class Teacher:
    """The network of a snapshot that draws what a generator should draw.

    path: a snapshot, a run folder or a name on the hub. Raises `UserError` if its network reads
    other latents or other text features than `generator`.
    """

    def __init__(self, path: str | Path, generator: Generator, device: torch.device) -> None:
        snapshot = Snapshot.from_pretrained(path)
        self.network = snapshot.generator.to(device).eval().requires_grad_(False)
        self.side = snapshot.resolution
        if _inputs(self.network) != _inputs(generator):
            raise UserError(
                f"loss.teacher: {path} reads latents and text of the sizes {_inputs(self.network)},"
                f" this generator those of {_inputs(generator)}; train the same mapping network, "
                "or set loss.teacher=0"
            )

    def distance(
        self,
        latents: torch.Tensor,
        text: TextFeatures | None,
        images: torch.Tensor,
        patches: Patches | None,
    ) -> torch.Tensor:
        """The mean absolute difference of G's pictures from the teacher's.  # []

        latents: [N, *latent_shape]. text: N texts, or None. images: G's pictures of them
        [N, 3, R, R] in [-1, 1]: whole frames, or `patches` of them. What lies outside of the frame
        does not count.
        """
        with torch.no_grad():
            frames = self.network(latents, text, View.square(self.side)).float()
        if patches is None:
            return (_shrunk(images, self.side) - frames).abs().mean()
        differences = [
            self._of_patch(image, frame, box)
            for image, frame, box in zip(images, frames, patches.boxes.tolist(), strict=True)
        ]
        return torch.stack(differences).mean()

    def _of_patch(
        self, image: torch.Tensor, frame: torch.Tensor, box: tuple[float, float, float]
    ) -> torch.Tensor:
        """The same for one patch, whose corner and extent are (x, y, e) in frame units."""
        x, y, extent = box
        side = max(1, round(self.side * extent))
        offsets = (torch.arange(side, device=image.device) + 0.5) * (extent / side)
        at = torch.stack(torch.meshgrid(y + offsets, x + offsets, indexing="ij")[::-1], dim=-1)
        seen = functional.grid_sample(
            frame[None], at[None] * 2 - 1, padding_mode="border", align_corners=False
        )[0]
        inside = ((at >= 0) & (at <= 1)).all(dim=-1)
        difference = (_shrunk(image[None], side)[0] - seen).abs() * inside
        return difference.sum() / (3 * inside.sum()).clamp(min=1)


def _shrunk(images: torch.Tensor, side: int) -> torch.Tensor:
    """float32 pictures [N, 3, side, side]: area means."""
    return functional.interpolate(images.float(), size=(side, side), mode="area")


def _inputs(generator: Generator) -> tuple:
    """The sizes of what the mapping network reads."""
    config = generator.config
    return (*generator.latent_shape, config.sentence_dim, config.word_dim)
