from __future__ import annotations

import pytest
import torch

from torch_utils.ops.modulated_linear import (
    modulated_linear,
    modulated_linear_literal,
    spectral_fold,
)


def case(n=3, p=5, c=8, o=6, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.randn(*shape, generator=g, dtype=dtype)

    spectrum = torch.complex(rand(n, c // 2 + 1), rand(n, c // 2 + 1))
    return rand(n, p, c), rand(o, c), rand(n, c), rand(o), spectrum


@pytest.mark.parametrize("channels", [8, 7])
def test_fold_equals_fft_over_features(channels):
    x, weight, _, _, spectrum = case(c=channels)
    literal = torch.einsum(
        "npc,oc->npo", torch.fft.irfft(spectrum[:, None] * torch.fft.rfft(x), n=channels), weight
    )
    weights = spectral_fold(weight.float().expand(3, -1, -1), spectrum.to(torch.complex64))
    folded = torch.einsum("npc,noc->npo", x.float(), weights)
    assert (folded - literal).abs().max() / literal.abs().max() < 5e-7


@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("activate", [True, False])
def test_layer_equals_its_literal_form(spectral, demodulate, activate):
    x, weight, style, bias, spectrum = case()
    options = {
        "spectrum": spectrum if spectral else None,
        "demodulate": demodulate,
        "activate": activate,
    }
    expected = modulated_linear_literal(x, weight, style, bias, **options)
    single = [t.float() for t in (x, weight, style, bias)]
    options["spectrum"] = spectrum.to(torch.complex64) if spectral else None
    error = (modulated_linear(*single, **options) - expected).abs().max()
    assert error / expected.abs().max() < 1e-6


def test_shared_input_equals_repeated_input():
    x, weight, style, bias, spectrum = (
        t.to(torch.complex64) if t.is_complex() else t.float() for t in case()
    )
    shared = modulated_linear(x[0], weight, style, bias, spectrum=spectrum)
    repeated = modulated_linear(x[:1].expand(3, -1, -1), weight, style, bias, spectrum=spectrum)
    assert torch.equal(shared, repeated)


def test_gradients_equal_those_of_the_literal_form():
    inputs = [t.requires_grad_() for t in case()]
    x, weight, style, bias, spectrum = inputs
    cotangent = torch.randn(
        3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    expected = torch.autograd.grad(
        (modulated_linear_literal(x, weight, style, bias, spectrum=spectrum) * cotangent).sum(),
        inputs,
    )
    actual = torch.autograd.grad(
        (modulated_linear(x, weight, style, bias, spectrum=spectrum) * cotangent).sum(), inputs
    )
    for a, b in zip(actual, expected, strict=True):
        assert b.abs().max() > 0
        assert (a - b).abs().max() / b.abs().max() < 1e-10
