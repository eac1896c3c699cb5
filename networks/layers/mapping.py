"""Mapping network (EIDGAN section 2): k latent tokens -> style codes, modulated by the words of the prompt."""

from __future__ import annotations

import torch
from torch import nn

from networks.layers.cross_attention import CrossAttentionModulation
from networks.layers.linear import EqualLinear, unit_second_moment


class TokenMapping(nn.Module):
    """z [N, k, d], words [N, L, d_w] or None, mask [N, L] -> style codes [N, k, d].

    A shared MLP acts on every token; a learned embedding tells the tokens apart; words modulate the codes by
    cross-attention (eq. 7 with X = codes, Y = words); a second MLP follows. word_dim = 0 leaves the words out.
    """

    def __init__(self, num_tokens: int, dim: int, word_dim: int, *, num_layers: int, lr_multiplier: float,
                 attention_dim: int, num_heads: int) -> None:
        super().__init__()
        def mlp(depth: int) -> nn.Sequential:
            return nn.Sequential(*(EqualLinear(dim, dim, activate=True, lr_multiplier=lr_multiplier) for _ in range(depth)))

        self.embedding = nn.Parameter(torch.randn(num_tokens, dim))
        self.before = mlp(num_layers // 2)
        self.attention = CrossAttentionModulation(
            dim, word_dim, attention_dim=attention_dim, num_heads=num_heads) if word_dim else None
        self.after = mlp(num_layers - num_layers // 2)

    def forward(self, z: torch.Tensor, words: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor:
        tokens = unit_second_moment(unit_second_moment(z) + self.embedding)
        tokens = self.before(tokens)
        if self.attention is not None:
            tokens = self.attention(tokens, unit_second_moment(words), mask)
        return self.after(tokens)
