"""Mapping network: latent tokens and text -> style codes.

EIDGAN (section 2) has several tokens and reads the words by cross-attention. All other systems have
one token and read the sentence as StyleGAN2 reads a class: embedded, normalised and concatenated to
z.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from networks.layers.cross_attention import CrossAttentionModulation
from networks.layers.linear import EqualLinear, unit_second_moment


class TokenMapping(nn.Module):
    """z [N, k, d], words [N, L, d_w], mask [N, L], sentence [N, d_s] -> style codes [N, k, d].

    One MLP is applied to every token. With several tokens, a learned embedding is added to each.
    After half of the layers the words modulate the tokens by cross-attention (eq. 7 with
    X = tokens, Y = words).

    num_tokens, dim: k and d.
    lr_multiplier: factor of the MLP's learning rate. StyleGAN's 0.01 keeps long runs stable; in a
        few thousand steps the MLP then hardly changes.
    sentence_dim: d_s; 0 = without the sentence.
    word_dim: d_w; 0 = without words (and then `words` is None).
    attention_dim, num_heads: see `CrossAttentionModulation`.
    """

    def __init__(
        self,
        num_tokens: int,
        dim: int,
        *,
        num_layers: int,
        lr_multiplier: float = 0.01,
        sentence_dim: int = 0,
        word_dim: int = 0,
        attention_dim: int = 0,
        num_heads: int = 1,
    ) -> None:
        super().__init__()
        widths = [dim * 2 if sentence_dim else dim, *[dim] * num_layers]
        layers = [
            EqualLinear(a, b, activate=True, lr_multiplier=lr_multiplier)
            for a, b in pairwise(widths)
        ]
        self.embedding = nn.Parameter(torch.randn(num_tokens, dim)) if num_tokens > 1 else None
        self.sentence = EqualLinear(sentence_dim, dim) if sentence_dim else None
        self.before = nn.Sequential(*layers[: num_layers // 2])
        self.attention = (
            CrossAttentionModulation(
                dim, word_dim, attention_dim=attention_dim, num_heads=num_heads
            )
            if word_dim
            else None
        )
        self.after = nn.Sequential(*layers[num_layers // 2 :])

    def forward(
        self,
        z: torch.Tensor,
        words: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        sentence: torch.Tensor | None = None,
    ) -> torch.Tensor:
        tokens = unit_second_moment(z)
        if self.embedding is not None:
            tokens = unit_second_moment(tokens + self.embedding)
        if self.sentence is not None:
            assert sentence is not None
            embedded = unit_second_moment(self.sentence(unit_second_moment(sentence)))
            embedded = embedded.to(tokens.dtype).unsqueeze(1).expand_as(tokens)
            tokens = torch.cat([tokens, embedded], dim=2)
        tokens = self.before(tokens)
        if self.attention is not None:
            assert words is not None
            tokens = self.attention(tokens, unit_second_moment(words), mask)
        return self.after(tokens)
