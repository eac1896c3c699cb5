"""Both towers of a dual encoder as a detector, for CLIP-S and R-precision.

Embeddings are not normalised here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import nn

from metrics.features.detectors import weights_sha256
from networks.interfaces import ImageTextEncoder
from torch_utils.tensors import from_uint8

_TEXT_BATCH = 256


class DualEncoderDetector:
    """`name` is the spec that `load_encoder` takes. The encoder resizes pictures itself."""

    resize = "the encoder's own"

    def __init__(self, name: str, encoder: ImageTextEncoder, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.encoder = encoder
        self.encoder_id = encoder.id
        self.weights_sha256 = _weights_hash(encoder)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder.encode_image(
            from_uint8(images.to(self.device, non_blocking=True))
        ).float()

    @torch.no_grad()
    def text(self, captions: Sequence[str]) -> torch.Tensor:
        parts = [
            self.encoder.encode_text(captions[i : i + _TEXT_BATCH]).sentence
            for i in range(0, len(captions), _TEXT_BATCH)
        ]
        return torch.cat(parts).float().cpu()


def _weights_hash(encoder: ImageTextEncoder) -> str:
    module = encoder if isinstance(encoder, nn.Module) else getattr(encoder, "model", None)
    if module is None:  # nothing to hash but the id, which names the weights
        return hashlib.sha256(encoder.id.encode()).hexdigest()
    return weights_sha256(module)
