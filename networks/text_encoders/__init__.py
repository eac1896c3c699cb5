"""The table of text encoders, by the `spec` that a recipe names; see docs/text_encoders.md.

small                      EfficientNet-lite0, MiniLM and projection heads trained by this project.
                           It needs no download from a hub and may guide training.
small:FILE                 The same with heads that `training.dual_encoder` wrote to FILE.
small-heldout              `small` with EfficientNet-lite2 and another seed, for scoring only. It
                           takes :FILE as well.
open_clip                  Short for open_clip:ViT-B-32-quickgelu/openai.
open_clip:MODEL/WEIGHTS    Any open_clip model with a pretrained tag or a local checkpoint.
hashed                     One random vector for each word; text only, without weights.
                           For tests and the debug recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError

if TYPE_CHECKING:
    import torch

    from networks.interfaces import ImageTextEncoder, TextEncoder

NAMES = ("small", "small-heldout", "open_clip", "hashed")
DEFAULT_OPEN_CLIP = "ViT-B-32-quickgelu/openai"


def load_encoder(
    spec: str, device: torch.device | str = "cpu", *, weights: bool = True, images: bool = True
) -> ImageTextEncoder | TextEncoder:
    """Load the frozen encoder named by `spec` on `device`.

    weights: False = an open_clip model keeps its random initial weights, and no file of weights is
        looked for. That is enough where only the sizes of the model count.
    images: False = only texts are encoded, so the embedded encoders load no image tower.
    All encoders but `hashed` have an image tower. Raises `UserError` for an unknown spec, for
    missing weights and for weight files with wrong content.
    """
    name, target = _parse(spec)
    if name == "open_clip":
        from networks.text_encoders.open_clip_encoder import load_open_clip

        return load_open_clip(target, device, weights=weights)
    if name == "hashed":
        from networks.text_encoders.hashed import HashedEncoder

        return HashedEncoder(device)
    from networks.text_encoders.small import load_small, load_small_text

    heads = Path(target) if target else None
    return load_small(name, device, heads) if images else load_small_text(name, device, heads)


def encoder_widths(spec: str) -> tuple[int, int]:
    """(sentence_dim, word_dim) of an encoder, without building it or reading weights.

    Raises `UserError` for an unknown spec.
    """
    name, target = _parse(spec)
    if name == "open_clip":
        from networks.text_encoders.open_clip_weights import model_widths

        return model_widths(target.partition("/")[0])
    if name == "hashed":
        from networks.text_encoders.hashed import HashedEncoder

        return HashedEncoder.sentence_dim, HashedEncoder.word_dim
    from networks.text_encoders.small import EMBED_DIM, TOKEN_DIM

    return EMBED_DIM, TOKEN_DIM


def _parse(spec: str) -> tuple[str, str]:
    """Split a spec into a name of `NAMES` and what follows its colon.

    That is MODEL/WEIGHTS for `open_clip`, where it has a default. For the embedded encoders it is a
    file of heads, or "". Raises `UserError` for an unknown spec.
    """
    name, colon, target = spec.partition(":")
    if name in NAMES and bool(target) == bool(colon) and not (name == "hashed" and target):
        return name, target or (DEFAULT_OPEN_CLIP if name == "open_clip" else "")
    known = [*NAMES, f"open_clip:{DEFAULT_OPEN_CLIP}"]
    raise UserError(f"text encoder {spec!r} is unknown; {nearest(spec, known)}")
