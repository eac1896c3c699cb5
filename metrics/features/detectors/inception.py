"""Inception-v3 features (pool3, D = 2048), on which FID, KID and precision/recall are defined.

Pictures are brought to 299 px by one of three resize modes, then to (x - 128) / 128. The mode
`legacy_pytorch` uses x / 127.5 - 1, as pytorch-fid does.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dnnlib.errors import UserError
from dnnlib.files import sha256_of
from metrics.features.detectors.resize import DESCRIPTIONS, ResizeMode, resize
from networks.pretrained.inception import INPUT_PX, FidInception, find_weights

MODES: dict[str, ResizeMode] = {
    "inception": "legacy_tensorflow",
    "inception:legacy_pytorch": "legacy_pytorch",
    "inception:clean": "clean",
}


class InceptionDetector:
    """`name` is a key of `MODES`. weights: a local file; every record holds its sha256."""

    def __init__(self, name: str, device: torch.device, weights: Path | None = None) -> None:
        if weights is not None and not weights.is_file():
            raise UserError(f"--weights inception={weights}: no such file")
        path = weights or find_weights()
        self.name = name
        self.mode = MODES[name]
        self.resize = f"{self.mode}: {DESCRIPTIONS[self.mode]}, {INPUT_PX} px"
        self.device = device
        self.net = FidInception.load(path).to(device)
        self.weights_sha256 = sha256_of(path)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        pixels = resize(images.to(self.device, non_blocking=True), INPUT_PX, self.mode)
        return self.net(
            pixels / 127.5 - 1 if self.mode == "legacy_pytorch" else (pixels - 128) / 128
        )
