"""A text encoder without weights: a fixed random unit vector for each word.

The sentence embedding is the mean of the word vectors. The encoder knows neither meaning nor word
order and has no image tower. Tests and the debug recipe use it because it needs no weights.
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
_END = "\x03"  # end-of-text token; with it, an empty caption still has one token


@functools.lru_cache(maxsize=65536)
def _vector(word: str) -> torch.Tensor:
    """Unit vector [64] float32 that depends on the word only."""
    return nn.functional.normalize(
        torch.randn(_DIM, generator=generator_for("hashed word", word)), dim=0
    )


class HashedEncoder:
    """A `TextEncoder` with 64 dimensions for sentences and for words."""

    id = f"hashed-{_DIM}-v1"
    sentence_dim = _DIM
    word_dim = _DIM

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def encode_text(self, captions: Sequence[str]) -> TextFeatures:
        """N captions -> features of N rows, float32, on the encoder's device.

        Case and punctuation are ignored. The last True position of a mask is the end-of-text token.
        """
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
