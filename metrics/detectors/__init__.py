"""Frozen feature extractors behind one interface: uint8 [N, 3, H, W] in, float32 [N, D] on the CPU out.

The network that trains a generator may score it only where the record says so (`teacher`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from networks.interfaces import ImageTextEncoder


class Detector(Protocol):
    """`resize` says in words how a picture is brought to the network's input size; it is part of the protocol."""

    name: str
    weights_sha256: str
    resize: str

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [N, 3, H, W], any device -> float32 [N, D] on the CPU."""


@runtime_checkable
class DualDetector(Detector, Protocol):
    """A detector that embeds captions into the same space; `encoder_id` names its weights as snapshots do."""

    encoder_id: str

    def text(self, captions: Sequence[str]) -> torch.Tensor:
        """Captions -> float32 [N, D] on the CPU."""


def load_detector(name: str, device: torch.device, encoders: Mapping[str, ImageTextEncoder] | None = None) -> Detector:
    """A detector of the table, on `device`. `encoders` are dual encoders that are in memory already, by spec."""
    encoders = encoders or {}
    if name in encoders:
        return _dual(name, encoders[name], device)
    return _LOADERS[name](name, device)


def detector_id(detector: Detector) -> str:
    """Everything that fixes the features of a given picture, as one string for cache keys."""
    return f"{detector.name}/{detector.weights_sha256}/{detector.resize}"


def weights_sha256(module: nn.Module) -> str:
    """sha256 over names, types, shapes and bytes of a module's state, independent of device and file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _lite2(name: str, device: torch.device) -> Detector:
    from metrics.detectors.lite2 import Lite2Detector

    return Lite2Detector(device)


def _toy(name: str, device: torch.device) -> Detector:
    from metrics.detectors.toy import ToyDetector

    return ToyDetector(device)


def _dual(name: str, encoder: ImageTextEncoder, device: torch.device) -> Detector:
    from metrics.detectors.dual_encoder import DualEncoderDetector

    return DualEncoderDetector(name, encoder, device)


def _load_dual(name: str, device: torch.device) -> Detector:
    from networks.text_encoders import load_encoder

    return _dual(name, load_encoder(name, device), device)


_LOADERS: dict[str, Callable[[str, torch.device], Detector]] = {
    "lite2": _lite2,
    "toy": _toy,
    "small": _load_dual,
    "small-heldout": _load_dual,
}
