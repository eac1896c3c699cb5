"""Style-modulated linear layer with optional spectral modulation (EIDGAN eq. 5 and 6)."""

from __future__ import annotations

import torch
from torch import nn

from networks.layers.linear import EqualLinear
from torch_utils.ops.modulated_linear import modulated_linear, modulated_weights
from torch_utils.ops.modulated_linear.reference import LEAKY_GAIN


class SpectralGain(nn.Module):
    """Style y [N, d_y] -> spectrum Mod(W, y) of eq. 6, [N, C // 2 + 1] complex64.

    The spectrum is a learned complex spectrum W times a complex affine function of y. Both are 1 at
    the start, so the spectral modulation starts as the identity.
    """

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__()
        num_frequencies = channels // 2 + 1
        # Real and imaginary part of each frequency.
        self.spectrum = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(num_frequencies, 1))
        self.affine = EqualLinear(style_dim, 2 * num_frequencies, weight_init=0.0)
        with torch.no_grad():
            self.affine.bias[:num_frequencies] = 1.0

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        real, imaginary = self.affine.single(y).chunk(2, dim=1)
        return torch.view_as_complex(self.spectrum) * torch.complex(real, imaginary)


class ModulatedLinear(nn.Module):
    """x [N, P, C], or [P, C] shared by all samples, and style y [N, d_y] -> [N, P, O].

    spectral: use the spectral modulation of eq. 6.
    demodulate: normalise each output to unit variance, as in StyleGAN2.
    activate: apply a leaky ReLU with slope 0.2 and gain sqrt(2).
    weight_init: standard deviation of the weights at the start.
    See `torch_utils.ops.modulated_linear`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_dim: int,
        *,
        spectral: bool = False,
        demodulate: bool = True,
        activate: bool = True,
        weight_init: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels) * weight_init)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        # Without demodulation the variance of the styles reaches the output, so it starts small.
        self.affine = EqualLinear(
            style_dim, in_channels, bias_init=1.0, weight_init=1.0 if demodulate else 0.2
        )
        self.spectral = SpectralGain(style_dim, in_channels) if spectral else None
        self.demodulate, self.activate = demodulate, activate

    def folded(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(weight [N, O, C], bias [O]) with all gains: output = lrelu(x @ weight.T + bias)."""
        gain = LEAKY_GAIN if self.activate else 1.0
        spectrum = self.spectral(y) if self.spectral is not None else None
        weight = modulated_weights(
            self.weight, self.affine.single(y), spectrum, demodulate=self.demodulate, gain=gain
        )
        return weight, self.bias * gain

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        spectrum = self.spectral(y) if self.spectral is not None else None
        return modulated_linear(
            x,
            self.weight,
            self.affine.single(y),
            self.bias,
            spectrum=spectrum,
            demodulate=self.demodulate,
            activate=self.activate,
        )
