"""Cross-attention modulation (EIDGAN eq. 7 and 8).

u(X, Y) = gamma(a) * Xn + beta(a) with a = Attention(q(Xn), k(Y), v(Y)). Xn is LayerNorm over the
channels of each position, so the result at a position does not depend on the other positions.

q, k, v, gamma and beta are linear. Therefore q is folded into the keys, and gamma and beta are
folded into the values, once for each sample. A position then costs 3 C h T MACs instead of
3 C d_a, and no tensor of width d_a is computed for a position.

Shapes: N batch, P positions, C channels of X, T tokens of Y, h heads, e width of a head, d_a = h e
attention width.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from networks.layers.linear import EqualLinear
from torch_utils.ops.backend import compute_dtype
from torch_utils.precision import at_least_single, no_autocast


class CrossAttentionModulation(nn.Module):
    """x [N, P, C], tokens [N, T, d_t], mask [N, T] bool or None -> [N, P, C].

    At the start u is near Xn, because the bias of gamma is 1 and the bias of beta is 0. Tokens
    where the mask is False receive no attention. Every row of the mask needs at least one True.
    """

    def __init__(
        self, channels: int, token_dim: int, *, attention_dim: int, num_heads: int
    ) -> None:
        super().__init__()
        assert attention_dim % num_heads == 0
        self.num_heads, self.head_dim = num_heads, attention_dim // num_heads
        self.query = EqualLinear(channels, attention_dim)
        self.key = EqualLinear(token_dim, attention_dim)
        self.value = EqualLinear(token_dim, attention_dim)
        self.gamma = EqualLinear(attention_dim, channels, bias_init=1.0, weight_init=0.2)
        self.beta = EqualLinear(attention_dim, channels, weight_init=0.2)

    def forward(
        self, x: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        dtype = compute_dtype(x)
        # Autocast would cast to float32 for LayerNorm and softmax and back after them. It would
        # also cast the weights, which are larger than the keys and values of a few tokens.
        with no_autocast(x.device):
            key, value = (layer(at_least_single(tokens)) for layer in (self.key, self.value))
            normalised = functional.layer_norm(x.to(dtype), x.shape[-1:])
            attention = self._attention(normalised, key, mask)
            gamma = torch.bmm(attention, self._values(self.gamma, value, dtype))
            beta = self._values(self.beta, value, dtype)
            return (gamma * normalised).baddbmm_(attention, beta)

    def _attention(
        self, normalised: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Attention weights softmax(q(normalised) key / sqrt(e)) [N, P, h T].

        q is folded into the keys.
        """
        dtype, query = normalised.dtype, self.query
        key = key * (query.weight_gain / math.sqrt(self.head_dim))
        bias = query.bias * (query.bias_gain / query.weight_gain)
        weight, bias = (x.unflatten(0, (self.num_heads, -1)) for x in (query.weight, bias))
        folded = self._by_token(torch.bmm(self._by_head(key), weight), key, dtype)
        offset = self._by_token(torch.bmm(self._by_head(key), bias.unsqueeze(2)), key, dtype)
        offset = offset.transpose(1, 2)  # [N, 1, h T]
        if mask is not None:
            masked = ~mask.repeat(1, self.num_heads).unsqueeze(1)
            offset = offset.masked_fill(masked, -1e4 if dtype == torch.float16 else -1e9)
        scores = torch.baddbmm(offset, normalised, folded.transpose(1, 2))
        return scores.unflatten(2, (self.num_heads, -1)).softmax(dim=-1).flatten(2)

    def _values(self, layer: EqualLinear, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Values [N, h T, C] with `layer` folded in: layer(a) = attention weights @ these values.

        The attention weights of a head sum to 1, so each token of a head carries 1 / h of the bias.
        """
        weight = layer.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)  # [h, e, C]
        folded = torch.baddbmm(
            layer.bias,
            self._by_head(value),
            weight,
            beta=layer.bias_gain / self.num_heads,
            alpha=layer.weight_gain,
        )
        return self._by_token(folded, value, dtype)

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """[N, T, h e] -> [h, N T, e]"""
        return x.unflatten(2, (self.num_heads, -1)).flatten(0, 1).transpose(0, 1)

    def _by_token(self, x: torch.Tensor, like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """[h, N T, C] -> [N, h T, C], contiguous; `like` [N, T, h e] gives N and T."""
        x = x.unflatten(1, like.shape[:2]).transpose(0, 1)
        return x.to(dtype, memory_format=torch.contiguous_format).flatten(1, 2)
