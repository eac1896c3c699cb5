"""Frozen networks that turn pictures uint8 [N, 3, H, W] into features float32 [N, D].

The detector "pixels" gives the pictures themselves, in uint8. A network that trained a generator
may also score it; then the record says so (`teacher`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol as Interface
from typing import runtime_checkable

import torch
from torch import nn

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from networks.interfaces import ImageTextEncoder


class Detector(Interface):
    """`resize` says in words how a picture is brought to the input size of the network."""

    name: str
    weights_sha256: str
    resize: str

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [N, 3, H, W], any device -> float32 [N, D] on the detector's device.

        Without gradient. `pixels` keeps uint8.
        """


@runtime_checkable
class DualDetector(Detector, Interface):
    """A detector that embeds captions into the same space by its `encoder`.

    `encoder_id` names its weights as snapshots do.
    """

    encoder: ImageTextEncoder
    encoder_id: str

    def text(self, captions: Sequence[str]) -> torch.Tensor:
        """Captions -> float32 [N, D] on the CPU."""


def load_detector(
    name: str,
    device: torch.device,
    encoders: Mapping[str, ImageTextEncoder] | None = None,
    weights: Mapping[str, Path] | None = None,
) -> Detector:
    """A detector by name, on `device`.

    The names are pixels, toy, lite2, lite2:fine, inception, inception:clean,
    inception:legacy_pytorch, dinov2, dinov2:base, dinov2:small, and every text encoder with an
    image tower (small, small-heldout, open_clip:MODEL/TAG). `encoders` are dual encoders that are
    in memory already, by spec. `weights` are local files by the first word of the name, or by the
    whole name. Raises `UserError` that says which file is missing and where it comes from.
    """
    encoders, weights = encoders or {}, weights or {}
    if name in encoders:
        return _dual(name, encoders[name], device)
    family = name.partition(":")[0]
    if family not in _LOADERS:
        raise UserError(f"detector {name!r} is unknown; {nearest(name, KNOWN)}")
    return _LOADERS[family](name, device, weights.get(name, weights.get(family)))


def detector_id(detector: Detector) -> str:
    """Everything that fixes the features of a given picture, as one string for cache keys."""
    return f"{detector.name}/{detector.weights_sha256}/{detector.resize}"


def detector_record(detector: Detector) -> dict[str, str]:
    """The detector as a score names it."""
    return {"name": detector.name, "weights_sha256": detector.weights_sha256}


def weights_sha256(module: nn.Module) -> str:
    """sha256 over names, types, shapes and bytes of a module's state, for any device and file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def _lite2(name: str, device: torch.device, weights: Path | None) -> Detector:
    from metrics.features.detectors.lite2 import Lite2Detector

    return Lite2Detector(device, fine=_member(name, ("lite2", "lite2:fine")) == "lite2:fine")


def _pixels(name: str, device: torch.device, weights: Path | None) -> Detector:
    from metrics.features.detectors.pixels import PixelDetector

    return PixelDetector(device)


def _toy(name: str, device: torch.device, weights: Path | None) -> Detector:
    from metrics.features.detectors.toy import ToyDetector

    return ToyDetector(device)


def _inception(name: str, device: torch.device, weights: Path | None) -> Detector:
    from metrics.features.detectors.inception import MODES, InceptionDetector

    return InceptionDetector(_member(name, MODES), device, weights)


def _dinov2(name: str, device: torch.device, weights: Path | None) -> Detector:
    from metrics.features.detectors.dinov2 import MODELS, Dinov2Detector

    return Dinov2Detector(_member(name, MODELS), device, weights)


def _dual(name: str, encoder: ImageTextEncoder, device: torch.device) -> Detector:
    from metrics.features.detectors.dual_encoder import DualEncoderDetector

    return DualEncoderDetector(name, encoder, device)


def _load_dual(name: str, device: torch.device, weights: Path | None) -> Detector:
    from networks.text_encoders import load_encoder

    spec = name
    if weights is not None:  # the model of the name, with the tensors of the file
        spec = f"{name.partition('/')[0]}/{weights}"
    try:
        encoder = load_encoder(spec, device)
    except UserError as error:
        raise UserError(f"{error}; a scorer's file is given by --weights {name}=FILE") from None
    assert isinstance(encoder, ImageTextEncoder)
    return _dual(name, encoder, device)


def _member(name: str, known: Collection[str]) -> str:
    if name not in known:
        raise UserError(f"detector {name!r} is unknown; {nearest(name, known)}")
    return name


_LOADERS: dict[str, Callable[[str, torch.device, Path | None], Detector]] = {
    "lite2": _lite2,
    "pixels": _pixels,
    "toy": _toy,
    "inception": _inception,
    "dinov2": _dinov2,
    "small": _load_dual,
    "small-heldout": _load_dual,
    "open_clip": _load_dual,
}
KNOWN = (
    *_LOADERS,
    "lite2:fine",
    "inception:clean",
    "inception:legacy_pytorch",
    "dinov2:base",
    "dinov2:small",
)
