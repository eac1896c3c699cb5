"""Sine and cosine of an exported graph, made of additions, multiplications and floor.

The language of WebGPU promises only 2^-11 for its sine and cosine, and nothing beyond [-pi, pi],
but it rounds sums and products correctly. So x is first reduced to r = x - 2 pi k with k the
nearest integer to x / (2 pi) (Cody and Waite, Software Manual for the Elementary Functions, 1980).
Then sin x = 2 sin(r / 2) cos(r / 2), cos x = 1 - 2 sin(r / 2)^2, and both halves are polynomials
in r^2. The error is below 1e-6 for |k| up to 2^20. Beyond, neighbouring float32 numbers lie half a
radian or more apart, so no result has a meaning; it stays in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

PART_BITS, NUM_PARTS = 4, 6
FARTHEST = 4.0  # of r: the rounding of x / (2 pi) may leave it a little beyond pi
DEGREE = 5  # in r^2


def _parts_of_turn() -> list[float]:
    """2 pi as a sum of numbers of `PART_BITS` bits, and of a rest. The products of these with an
    integer below 2^20 are exact in float32, and so are their differences from x.
    """
    parts, rest = [], 2 * math.pi
    for _ in range(NUM_PARTS - 1):
        unit = 2.0 ** (math.frexp(rest)[1] - PART_BITS)
        parts.append(round(rest / unit) * unit)
        rest -= parts[-1]
    return [*parts, rest]


def _polynomial(function: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """Coefficients in r^2, highest first, that interpolate an even function of r at the points of
    Chebyshev.
    """
    domain = (0.0, FARTHEST**2)
    series = np.polynomial.Chebyshev.interpolate(lambda z: function(np.sqrt(z)), DEGREE, domain)
    return [float(one) for one in series.convert(kind=np.polynomial.Polynomial).coef[::-1]]


PARTS = _parts_of_turn()
SINE = _polynomial(lambda r: np.sinc(r / (2 * math.pi)))  # 2 sin(r / 2) / r
COSINE = _polynomial(lambda r: np.cos(r / 2))


def _reduced(x: torch.Tensor) -> torch.Tensor:
    turns = torch.floor(x * (0.5 / math.pi) + 0.5)
    for part in PARTS:
        x = x - turns * part
    return x.clamp(-FARTHEST, FARTHEST)


def _at(coefficients: Sequence[float], z: torch.Tensor) -> torch.Tensor:
    result = z * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        result = result * z + coefficient
    return result


def sine(x: torch.Tensor) -> torch.Tensor:
    """sin x for float32 x."""
    r = _reduced(x)
    z = r * r
    return r * _at(SINE, z) * _at(COSINE, z)


def cosine(x: torch.Tensor) -> torch.Tensor:
    """cos x for float32 x."""
    r = _reduced(x)
    chord = r * _at(SINE, r * r)  # 2 sin(r / 2)
    return 1 - chord * chord * 0.5


def replace_waves(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program with `sine` and `cosine` in the place of the operators."""
    return program.run_decompositions(
        {torch.ops.aten.sin.default: sine, torch.ops.aten.cos.default: cosine}
    )
