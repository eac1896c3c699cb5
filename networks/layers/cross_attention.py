"""Cross-attention modulation (EIDGAN eq. 7 and 8): u(X, Y) = gamma(a) * Xn + beta(a), a = Attention(q(Xn), k(Y), v(Y)).

Xn is LayerNorm over the channels of each position, so a position's value never depends on which others are sampled.
q, k, v, gamma and beta are linear, hence they fold: q goes into the keys and gamma, beta go into the values, once a
sample. With h heads and k tokens a position then costs C (h k + 2 h k) MACs instead of 3 C d_a, and no q, a, gamma or
beta of its own width d_a is ever made.

Shapes: N batch, P positions, C channels of X, T tokens of Y, h heads, e width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from networks.layers.linear import EqualLinear


class CrossAttentionModulation(nn.Module):
    """x [N, P, C], tokens [N, T, d_t], mask [N, T] bool or None -> [N, P, C].

    Starts near u = Xn: gamma's bias is 1, beta's 0. Masked tokens receive no attention; every row of the mask needs
    at least one True.
    """

    def __init__(self, channels: int, token_dim: int, *, attention_dim: int, num_heads: int) -> None:
        super().__init__()
        assert attention_dim % num_heads == 0
        self.num_heads, self.head_dim = num_heads, attention_dim // num_heads
        self.query = EqualLinear(channels, attention_dim)
        self.key = EqualLinear(token_dim, attention_dim)
        self.value = EqualLinear(token_dim, attention_dim)
        self.gamma = EqualLinear(attention_dim, channels, bias_init=1.0, weight_init=0.2)
        self.beta = EqualLinear(attention_dim, channels, weight_init=0.2)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim))

    def forward(self, x: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        normalised = functional.layer_norm(x, x.shape[-1:])
        key, value = self._heads(self.key(tokens)), self._heads(self.value(tokens))  # [N, T, h, e]

        weight, bias = self.query.folded()
        scale = 1 / math.sqrt(self.head_dim)
        key = key * scale
        folded_key = torch.einsum("nthe,hec->ncht", key, weight.unflatten(0, (self.num_heads, self.head_dim)).to(key.dtype))
        offset = torch.einsum("nthe,he->nht", key, self._heads(bias).to(key.dtype))
        if mask is not None:
            offset = offset.masked_fill(~mask.unsqueeze(1), -1e4 if offset.dtype == torch.float16 else -1e9)
        scores = torch.baddbmm(offset.flatten(1).unsqueeze(1), normalised.to(key.dtype), folded_key.flatten(2))
        attention = scores.unflatten(2, offset.shape[1:]).softmax(dim=-1).flatten(2).to(key.dtype)  # [N, P, h T]

        gamma = self._modulation(self.gamma, value, attention)
        beta = self._modulation(self.beta, value, attention)
        return torch.addcmul(beta, gamma, normalised.to(gamma.dtype))

    def _modulation(self, layer: EqualLinear, value: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """layer(sum_t attention_t value_t), with the layer folded into the values."""
        weight, bias = layer.folded()
        folded = torch.einsum("nthe,che->nhtc", value, self._heads(weight).to(value.dtype))
        return torch.baddbmm(bias.to(value.dtype), attention, folded.flatten(1, 2))
