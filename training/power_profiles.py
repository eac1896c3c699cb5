"""Power-function averages: their relative lengths, and the weights that rebuild one from others.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.
The average of exponent g at time T weighs the parameters of time t by (g + 1) / T^(g + 1) t^g over
0 <= t <= T. Its relative length sigma_rel is the standard deviation of that profile divided by T.
Time may have any unit; here it is images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHORTEST = 0.005  # of lengths that are offered: g = 197
LONGEST = 12**-0.5  # of g = 0, which weighs all of the training alike
_RCOND = 1e-12  # directions of the Gram matrix below this share of its largest are rounding
_HALF_ROUNDING = 2.0**-11  # most that float16 changes a number by, relative to it


def relative_length(exponent: float) -> float:
    """sigma_rel = sqrt((g + 1) / ((g + 2)^2 (g + 3))) of the exponent g >= 0."""
    return ((exponent + 1) / ((exponent + 2) ** 2 * (exponent + 3))) ** 0.5


def exponent_of(sigma_rel: float) -> float:
    """The exponent g >= 0 of a relative length in (0, `LONGEST`], by bisection.

    The length falls as g grows, and it is below 1 / (g + 2), so that g lies in [0, 1 / sigma_rel].
    """
    low, high = 0.0, 1 / sigma_rel
    while low < (middle := (low + high) / 2) < high:
        if relative_length(middle) > sigma_rel:
            low = middle
        else:
            high = middle
    return middle


class Profiles(NamedTuple):
    """Profiles that end at `times` [N] > 0 with exponents `exponents` [N] >= 0."""

    times: np.ndarray
    exponents: np.ndarray

    @staticmethod
    def of_lengths(times: list[float], sigma_rels: list[float]) -> Profiles:
        return Profiles(np.array(times, float), np.array([exponent_of(s) for s in sigma_rels]))


def inner_products(a: Profiles, b: Profiles) -> np.ndarray:
    """Integrals over time of the products of each profile of `a` with each of `b` [N_a, N_b]:

    (g_a + 1) (g_b + 1) min(T_a, T_b)^(g_a + g_b + 1)
    / ((g_a + g_b + 1) T_a^(g_a + 1) T_b^(g_b + 1)), the powers as one exponential.
    """
    time_a, time_b = a.times[:, None], b.times[None, :]
    g_a, g_b = a.exponents[:, None], b.exponents[None, :]
    total = g_a + g_b + 1
    power = total * np.log(np.minimum(time_a, time_b))
    power = power - (g_a + 1) * np.log(time_a) - (g_b + 1) * np.log(time_b)
    return (g_a + 1) * (g_b + 1) / total * np.exp(power)


class Reconstruction(NamedTuple):
    """weights [N] of the stored averages; residual: the norm of the difference between their
    weighted profile and the wanted one, relative to the norm of the wanted one; rounding: the most
    that float16 of the stored averages adds to that, were all of them alike in size.
    """

    weights: np.ndarray
    residual: float
    rounding: float

    @property
    def error(self) -> float:
        return float(np.hypot(self.residual, self.rounding))


def reconstruct(stored: Profiles, time: float, sigma_rel: float) -> Reconstruction:
    """The weights x = A^-1 b with the least squared difference to the profile of that length at
    `time`: A holds the inner products of the stored profiles, b those with the wanted one.

    Solved for profiles of unit norm. Profiles that nearly repeat each other get the smallest
    weights that do.
    """
    wanted = Profiles.of_lengths([time], [sigma_rel])
    gram, right = inner_products(stored, stored), inner_products(stored, wanted)[:, 0]
    norms = np.sqrt(np.diag(gram))
    unit = gram / np.outer(norms, norms)
    weights = np.linalg.lstsq(unit, right / norms, rcond=_RCOND)[0] / norms
    norm = inner_products(wanted, wanted)[0, 0]
    squared = norm - 2 * weights @ right + weights @ gram @ weights
    residual = float(np.sqrt(max(squared, 0.0) / norm))
    return Reconstruction(weights, residual, _HALF_ROUNDING * float(np.linalg.norm(weights)))


def nearest_reachable(stored: Profiles, time: float, sigma_rel: float, most: float) -> float:
    """Of a hundred lengths from `SHORTEST` to `LONGEST`, spaced evenly in their logarithm, and of
    the stored lengths the nearest whose reconstruction at `time` has at most this error.

    `stored` holds a profile that ends at `time`, so there is one.
    """
    lengths = [
        *np.geomspace(SHORTEST, LONGEST, 100).tolist(),
        *map(relative_length, stored.exponents.tolist()),
    ]
    return next(
        length
        for length in sorted(lengths, key=lambda one: abs(np.log(one / sigma_rel)))
        if reconstruct(stored, time, length).error <= most
    )
