"""The Inception-v3 of TensorFlow's archive of 2015-12-05, which defines FID.

It is built from torchvision's blocks.
The network differs from torchvision's in its pooling: average pooling leaves the padding out, and
the last block uses max pooling. The weight file is the one that pytorch-fid and torch-fidelity
distribute, under two names.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import inception as blocks

from dnnlib.errors import UserError
from networks.pretrained.download import checked, fetch
from networks.pretrained.frozen import freeze

INPUT_PX = 299
FEATURE_DIM = 2048
SHA256 = "6726825d"  # first digits, which the authors put into the file name
FILE_NAME = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE_NAME}"
_SAME_FILE = ("pt_inception-2015-12-05-6726825d.pth",)  # name of this file in pytorch-fid


def find_weights() -> Path:
    """Path of the weight file in the cache of torch.hub, downloaded if it is missing.

    torch-fidelity and pytorch-fid use the same cache. Raises `UserError` where the download fails
    or the file is damaged.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in (FILE_NAME, *_SAME_FILE):
        if (folder / name).is_file():
            return checked(folder / name, SHA256)
    return fetch(URL, folder / FILE_NAME, SHA256)


class FidInception(nn.Module):
    """Images [N, 3, 299, 299] in [-1, 1] -> pooled features [N, 2048] float32.

    The network is frozen and in evaluation mode.
    """

    def __init__(self) -> None:
        super().__init__()
        inception_blocks = [
            blocks.BasicConv2d,
            _BlockA,
            blocks.InceptionB,
            _BlockC,
            blocks.InceptionD,
            _BlockE,
            blocks.InceptionAux,
        ]
        self.net = blocks.Inception3(
            num_classes=1008,  # as in the TensorFlow archive
            aux_logits=False,
            inception_blocks=inception_blocks,
            init_weights=False,
        )
        self.net.Mixed_7c.pool = _max_pool
        freeze(self)

    @classmethod
    def load(cls, path: Path) -> FidInception:
        """Load the network from a file of plain tensors.

        Raises `UserError` that names the file if it holds something else.
        """
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
            raise UserError(
                f"{path} is not a checkpoint of plain tensors ({str(error).splitlines()[0][:100]})"
            ) from None
        model = cls()
        try:
            model.net.load_state_dict(tensors)
        except (RuntimeError, TypeError, AttributeError):
            raise UserError(
                f"{path} does not hold the Inception-v3 of 2015-12-05; get {URL}"
            ) from None
        return model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for name, part in self.net.named_children():
            if name == "avgpool":
                break
            images = part(images)
        return images.float().mean((2, 3))


def _mean_pool(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _max_pool(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


class _BlockA(blocks.InceptionA):
    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_mean_pool(x)),
        ]


class _BlockC(blocks.InceptionC):
    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        wide = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(wide)),
            self.branch_pool(_mean_pool(x)),
        ]


class _BlockE(blocks.InceptionE):
    pool = staticmethod(_mean_pool)

    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]
