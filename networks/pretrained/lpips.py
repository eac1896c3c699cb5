"""LPIPS 0.1 (Zhang et al. 2018, eq. 1) on AlexNet.

The distance sums, over five layers, the weighted squared differences of unit feature vectors,
averaged over positions. The five weight vectors come from the PyPI package `lpips`. The AlexNet
weights come from torch.hub's cache; they are not downloaded here.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from dnnlib.errors import UserError
from dnnlib.files import sha256_of
from networks.pretrained.download import checked
from networks.pretrained.frozen import freeze, package_file

MIN_PX = 31  # AlexNet's last feature map is empty for smaller pictures
FILE_NAME = "alexnet-owt-7be5be79.pth"
URL = f"https://download.pytorch.org/models/{FILE_NAME}"
_SHA256 = "7be5be79"  # first digits, which torchvision puts into the file name
_HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
_RELUS = (1, 4, 7, 9, 11)  # indices of the layers that are compared
_NORM_EPS = 1e-10


class Lpips(nn.Module):
    """Images a and b [N, 3, H, W] in [0, 1] -> distances [N] float32; 0 for equal images.

    H and W must be at least `MIN_PX`. The network is frozen. `weights_sha256` is the hash of the
    AlexNet weights.

    weights: a file of torchvision's AlexNet weights; None takes the file in torch.hub's cache.
    Raises `UserError` that names what is missing.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        heads = package_file("lpips", "weights/v0.1/alex.pth", "lpips==0.1.4", _HEADS_SHA256)
        path = weights or _cached_backbone()
        from torchvision.models import alexnet  # a slow import, which other commands do not need

        self.weights_sha256 = sha256_of(path)
        with torch.device("meta"):
            self.features = alexnet().features
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            self.features.load_state_dict(
                {
                    name.removeprefix("features."): tensor
                    for name, tensor in tensors.items()
                    if name.startswith("features.")
                },
                assign=True,
            )
        except (
            pickle.UnpicklingError,
            RuntimeError,
            EOFError,
            OSError,
            ValueError,
            AttributeError,
        ):
            raise UserError(f"{path} is not torchvision's AlexNet; get {URL}") from None
        self.heads = nn.ParameterList(
            torch.load(heads, map_location="cpu", weights_only=True).values()
        )  # [1, C, 1, 1] each
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1))
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1))
        freeze(self)

    @torch.no_grad()
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a, b = ((x.to(self.mean) - self.mean) / self.std for x in (a, b))
        total = torch.zeros(len(a), device=a.device)
        heads = iter(self.heads)
        for index, layer in enumerate(self.features[: _RELUS[-1] + 1]):
            a, b = layer(a), layer(b)
            if index in _RELUS:
                difference = (_unit(a) - _unit(b)).square()
                total += (difference * next(heads)).sum(1).mean((1, 2))
        return total


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / (x.norm(dim=1, keepdim=True) + _NORM_EPS)


def _cached_backbone() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE_NAME
    if not path.is_file():
        raise UserError(f"LPIPS needs {path}; download {URL} there, or pass --weights alexnet=FILE")
    return checked(path, _SHA256)
