"""A text tower without weights: every word has its own fixed random unit vector, a sentence is their mean.

It knows nothing of meaning or order; tests and the debug recipe use it because it costs nothing. No image tower.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import torch
from torch import nn

from networks.interfaces import TextFeatures
from torch_utils.rng import generator_for

_DIM = 64
_END = "\x03"  # closes every sentence, so that an empty caption still has one token


@functools.lru_cache(maxsize=65536)
def _vector(word: str) -> torch.Tensor:
    """[64] float32, norm 1, a pure function of the word."""
    return nn.functional.normalize(
        torch.randn(_DIM, generator=generator_for("hashed word", word)), dim=0
    )


class HashedEncoder:
    """Text only; satisfies `TextEncoder`."""

    id = f"hashed-{_DIM}-v1"
    sentence_dim = _DIM
    word_dim = _DIM

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """Case and punctuation are ignored; the last true position is the end-of-text token."""
        rows = []
        for caption in captions:
            words = torch.stack(
                [_vector(word) for word in [*re.findall(r"\w+", caption.lower()), _END]]
            )
            sentence = words[:-1].mean(0) if len(words) > 1 else words[-1]
            rows.append(
                TextFeatures(
                    sentence[None], words[None], torch.ones(1, len(words), dtype=torch.bool)
                )
            )
        return TextFeatures.cat(rows).to(self.device)
