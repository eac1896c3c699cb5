"""What the file of a picture says about it, so that it can be drawn again; the check of pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dnnlib.errors import UserError
from networks.view_options import ViewOptions

if TYPE_CHECKING:
    import torch

    from networks.coordinates import View
    from networks.interfaces import Generator


def facts_of(
    snapshot: str, view: View, view_options: ViewOptions, sampling: dict[str, str]
) -> dict[str, str]:
    """What the files say of all pictures of a run.

    snapshot: the SHA-256 of the weights. sampling: of `sampling_facts`.
    """
    size = f"{view.width}x{view.height}"
    return {"snapshot": snapshot, "size": size, **view_options.facts(), **sampling}


def sampling_facts(
    generator: Generator, truncation: float, center: str, text_noise: float | None
) -> dict[str, str]:
    """What the files say of the truncation, of the noise on the sentences and of the points of a
    pixel where it has several.

    text_noise: None means the value of the network, which is left out where it is 0.
    """
    if text_noise is None:
        text_noise = generator.config.text_noise or None
    facts = {"truncation": f"{truncation} ({center})"}
    if generator.samples > 1:
        facts["samples"] = str(generator.samples)
    return facts if text_noise is None else facts | {"text_noise": str(text_noise)}


def about(text: str, seed: int) -> dict[str, str]:
    """What a file says of one picture: its prompt, where there is one, and its seed."""
    return ({"prompt": text} if text else {}) | {"seed": str(seed)}


def refuse_overflow(image: torch.Tensor, prompt: str | None, seed: int | str | None) -> None:
    """Raises `UserError` for a float picture with pixels that are not finite."""
    if not math.isfinite(float(image.sum())):
        raise UserError(
            f"the picture of {prompt or ''!r} with seed {seed} is not finite: the network "
            "overflows there; take an earlier snapshot, a --trunc nearer 1 or a --window nearer "
            "the frame"
        )
