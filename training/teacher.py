"""AnyresGAN's teacher (Chai et al. 2022): G keeps what the network showed from which it started.

A discriminator of patches reads pieces of pictures. It knows how details look and little of what a
whole picture shows, so G forgets the latter in a training on patches. The teacher is the network of
`--init-from`, frozen. Both draw the same latents and texts, the teacher at the size at which it was
trained. Averaged down to the pixels of one patch, the frames of both have to be the same. So what
is finer than that is free to change: the discriminator decides it.
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
from torch_utils.tensors import to_device


class Teacher:
    """The network of a snapshot that draws what a generator should draw.

    path: a snapshot, a run folder or a name on the hub. side: of the pictures that D reads, in
    pixels. Frames are compared at this size, or at that of the teacher if it is smaller. Raises
    `UserError` if the teacher reads other latents or other text features than `generator`.
    """

    def __init__(
        self, path: str | Path, generator: Generator, device: torch.device, side: int
    ) -> None:
        snapshot = Snapshot.from_pretrained(path)
        self.network = snapshot.generator.to(device).eval().requires_grad_(False)
        self.view = View.square(snapshot.resolution)
        self.side = min(side, snapshot.resolution)
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
            frames = self._shrunk(self.network(latents, text, self.view))
        if patches is None:
            return (self._shrunk(images) - frames).abs().mean()
        # Without autocast: positions and means in bf16 would be too inexact.
        with torch.autocast(images.device.type, enabled=False):
            boxes = to_device(patches.boxes.float(), images.device)
            return self._of_patches(images.float(), frames, boxes)

    def _shrunk(self, images: torch.Tensor) -> torch.Tensor:
        """float32 pictures [N, 3, side, side]: area means."""
        return functional.interpolate(images.float(), (self.side, self.side), mode="area")

    def _of_patches(
        self, images: torch.Tensor, frames: torch.Tensor, boxes: torch.Tensor
    ) -> torch.Tensor:
        """The same for patches [N, 3, R, R] whose corners and extents are `boxes` [N, 3] float32.

        A patch is averaged down to the pixels that the teacher's frame has on it, `side` at most.
        All patches are computed at once. Pixels that a patch does not have count nothing.
        """
        corner, extent = boxes[:, :2], boxes[:, 2:]
        count = (extent * self.side).round().clamp(1, self.side)  # [N, 1] pixels a side
        index = torch.arange(self.side, device=boxes.device)
        at = corner[:, :, None] + ((index + 0.5) * (extent / count))[:, None]  # [N, 2, M]
        counts = ((at >= 0) & (at <= 1) & (index < count)[:, None]).float()
        weight = counts[:, 1, :, None] * counts[:, 0, None]  # [N, M, M]
        grid = torch.stack(torch.broadcast_tensors(at[:, 0, None], at[:, 1, :, None]), dim=-1)
        seen = functional.grid_sample(
            frames, grid * 2 - 1, padding_mode="border", align_corners=False
        )
        means = _area_means(images.shape[-1], count.long(), index)[:, None]  # [N, 1, M, R]
        difference = (means @ images @ means.mT - seen).abs() * weight[:, None]
        return (difference.sum(dim=(1, 2, 3)) / (3 * weight.sum(dim=(1, 2))).clamp(min=1)).mean()


def _area_means(side: int, count: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The matrices that average `side` pixels down to each of `count` [N, 1]: [N, M, side] float32.

    Pixel i is the mean of pixels floor(i side / count) to ceil((i + 1) side / count) - 1, as in
    `interpolate(mode="area")`. index: 0 to M - 1; rows from `count` on belong to no pixel.
    """
    first = index * side // count
    last = ((index + 1) * side + count - 1) // count
    pixel = torch.arange(side, device=index.device)
    taken = (pixel >= first[:, :, None]) & (pixel < last[:, :, None])
    return taken.float() / (last - first)[:, :, None]


def _inputs(generator: Generator) -> tuple:
    """The sizes of what the mapping network reads."""
    config = generator.config
    return (*generator.latent_shape, config.sentence_dim, config.word_dim)
