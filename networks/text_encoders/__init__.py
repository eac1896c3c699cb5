"""The table of text encoders: from the `spec` of a recipe to a frozen tower; see docs/text_encoders.md.

    small                      EfficientNet-lite0 + MiniLM + our heads: embedded, needs no hub, may guide training
    small-heldout              the same on EfficientNet-lite2 and another seed: for scoring only
    open_clip                  short for open_clip:ViT-B-32-quickgelu/openai
    open_clip:MODEL/WEIGHTS    any open_clip model with a pretrained tag or a local checkpoint
    hashed                     a random vector a word, text only, no weights: for tests and the debug recipe
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError

if TYPE_CHECKING:
    import torch

    from networks.interfaces import ImageTextEncoder, TextEncoder

NAMES = ("small", "small-heldout", "open_clip", "hashed")
DEFAULT_OPEN_CLIP = "ViT-B-32-quickgelu/openai"


def load_encoder(spec: str, device: torch.device | str = "cpu") -> ImageTextEncoder | TextEncoder:
    """The frozen encoder named by `spec` on `device`; `hashed` has no image tower, all others have.

    Raises `UserError` for an unknown spec, for missing weights and for files that hold something else.
    """
    name, colon, rest = spec.partition(":")
    if name == "open_clip" and bool(rest) == bool(colon):
        from networks.text_encoders.open_clip_encoder import load_open_clip

        return load_open_clip(rest or DEFAULT_OPEN_CLIP, device)
    if spec in ("small", "small-heldout"):
        from networks.text_encoders.small import load_small

        return load_small(spec, device)
    if spec == "hashed":
        from networks.text_encoders.hashed import HashedEncoder

        return HashedEncoder(device)
    known = [*NAMES, f"open_clip:{DEFAULT_OPEN_CLIP}"]
    raise UserError(f"text encoder {spec!r} is unknown; {nearest(spec, known)}")


def encoder_widths(spec: str) -> tuple[int, int]:
    """(sentence_dim, word_dim) of an encoder, also of an open_clip one whose weights are not here yet."""
    name, _, rest = spec.partition(":")
    if name == "open_clip":
        import open_clip

        config = open_clip.get_model_config((rest or DEFAULT_OPEN_CLIP).partition("/")[0]) or {}
        if "width" in config.get("text_cfg", {}):
            return config["embed_dim"], config["text_cfg"]["width"]
    encoder = load_encoder(spec)
    return encoder.sentence_dim, encoder.word_dim
