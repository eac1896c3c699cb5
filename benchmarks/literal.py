"""The generator's layers as their equations are written, without fusion: a baseline for timings.

Every position gets its FFT, bias, activation and gain make one tensor each, and attention has
explicit queries, keys and values.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from unittest import mock

import torch
from torch.nn import functional

from torch_utils.ops.biline.reference import biline_compose
from torch_utils.ops.modulated_linear.reference import (
    DEMODULATION_EPS,
    LEAKY_GAIN,
    LEAKY_SLOPE,
    spectral_fold,
)


def activated(y: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(y, LEAKY_SLOPE) * LEAKY_GAIN


def modulated_linear(x, weight, style, bias, *, spectrum=None, demodulate=True, activate=True):
    if x.ndim == 2:
        x = x.expand(style.shape[0], -1, -1)
    if spectrum is not None:
        x = torch.fft.irfft(spectrum.unsqueeze(1) * torch.fft.rfft(x.float()), n=x.shape[-1])
    scaled = weight.unsqueeze(0) * style.unsqueeze(1)
    if demodulate:
        effective = scaled if spectrum is None else spectral_fold(scaled, spectrum)
        scaled = scaled * (effective.square().sum(dim=2, keepdim=True) + DEMODULATION_EPS).rsqrt()
    else:
        scaled = scaled / math.sqrt(weight.shape[1])
    y = torch.bmm(x, scaled.to(x.dtype).transpose(1, 2)) + bias
    return activated(y) if activate else y


def equal_linear(layer, x):
    gain = LEAKY_GAIN if layer.activate else 1.0
    y = functional.linear(x, layer.weight * (layer.weight_gain / gain)) + layer.bias * (
        layer.bias_gain / gain
    )
    return activated(y) if layer.activate else y


def attention(layer, x, tokens, mask=None):
    """softmax(Q K^T / sqrt(d)) V, then gamma * LN(x) + beta, for every position."""

    def heads(y):
        return y.unflatten(-1, (layer.num_heads, layer.head_dim)).transpose(1, 2)

    normalised = functional.layer_norm(x, x.shape[-1:])
    query, key, value = (
        heads(layer.query(normalised)),
        heads(layer.key(tokens)),
        heads(layer.value(tokens)),
    )
    scores = query @ key.transpose(2, 3) / math.sqrt(layer.head_dim)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    attended = (scores.softmax(dim=-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
    return layer.gamma(attended) * normalised + layer.beta(attended)


def pixel_mlp(features, weights, biases):
    """The layers of a pixel MLP, with the gain after the activation and not in the weights."""
    for weight, bias in zip(weights, biases, strict=True):
        features = activated(functional.linear(features, weight / LEAKY_GAIN) + bias / LEAKY_GAIN)
    return features


def biline_decode(features, rows, columns, weights, biases):
    return (pixel_mlp(features, weights, biases) + biline_compose(rows, columns)) / math.sqrt(2)


@contextlib.contextmanager
def literal() -> Iterator[None]:
    """A context in which generators use the functions of this module; needs --ops ref."""
    with contextlib.ExitStack() as stack:
        for target, form in (
            ("networks.layers.modulated.modulated_linear", modulated_linear),
            ("networks.layers.linear.EqualLinear.forward", equal_linear),
            ("networks.layers.cross_attention.CrossAttentionModulation.forward", attention),
            ("networks.generators.biline.pixel_mlp", pixel_mlp),
            ("networks.generators.biline.biline_decode", biline_decode),
        ):
            stack.enter_context(mock.patch(target, form))
        yield
