"""Profiles of power-function averages, and the weights that rebuild one average from others.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.
The average with exponent g at time T weights the parameters of time t by (g + 1) / T^(g + 1) t^g
for 0 <= t <= T. This function is the profile of the average. The relative length sigma_rel of the
average is the standard deviation of the profile divided by T. Time may have any unit; here it is
images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHORTEST = 0.005  # the shortest relative length that is offered: g = 197
LONGEST = 12**-0.5  # the longest relative length: g = 0, a uniform profile
_RCOND = 1e-12  # singular values of the Gram matrix below this share of the largest are rounding
_HALF_ROUNDING = 2.0**-11  # the largest relative rounding error of float16


def relative_length(exponent: float) -> float:
    """The relative length sigma_rel = sqrt((g + 1) / ((g + 2)^2 (g + 3))) of an exponent g >= 0."""
    return ((exponent + 1) / ((exponent + 2) ** 2 * (exponent + 3))) ** 0.5


def exponent_of(sigma_rel: float) -> float:
    """The exponent g >= 0 of a relative length in (0, `LONGEST`], by bisection.

    The relative length falls as g grows and is below 1 / (g + 2). So g is in [0, 1 / sigma_rel].
    """
    low, high = 0.0, 1 / sigma_rel
    while low < (middle := (low + high) / 2) < high:
        if relative_length(middle) > sigma_rel:
            low = middle
        else:
            high = middle
    return middle


class Profiles(NamedTuple):
    """N profiles. times: T [N] > 0, at which they end. exponents: g [N] >= 0."""

    times: np.ndarray
    exponents: np.ndarray

    @staticmethod
    def of_lengths(times: list[float], sigma_rels: list[float]) -> Profiles:
        """Profiles of the relative lengths `sigma_rels` [N] that end at `times` [N]."""
        return Profiles(np.array(times, float), np.array([exponent_of(s) for s in sigma_rels]))


def inner_products(a: Profiles, b: Profiles) -> np.ndarray:
    """Integrals over time of the product of each profile of `a` with each profile of `b`.

    They are (g_a + 1) (g_b + 1) min(T_a, T_b)^(g_a + g_b + 1)
    / ((g_a + g_b + 1) T_a^(g_a + 1) T_b^(g_b + 1)), [N_a, N_b]. The powers are computed as one
    exponential, because each alone could overflow.
    """
    time_a, time_b = a.times[:, None], b.times[None, :]
    g_a, g_b = a.exponents[:, None], b.exponents[None, :]
    total = g_a + g_b + 1
    power = total * np.log(np.minimum(time_a, time_b))
    power = power - (g_a + 1) * np.log(time_a) - (g_b + 1) * np.log(time_b)
    return (g_a + 1) * (g_b + 1) / total * np.exp(power)


class Reconstruction(NamedTuple):
    """The weights that rebuild an average from N stored averages, and the errors of the result.

    weights: [N].
    residual: the norm of the difference between the weighted sum of the stored profiles and the
        wanted profile, divided by the norm of the wanted profile.
    rounding: a bound for the error that the rounding of the stored averages to float16 adds, for
        stored averages of equal size.
    """

    weights: np.ndarray
    residual: float
    rounding: float

    @property
    def error(self) -> float:
        """The root of the sum of squares of `residual` and `rounding`."""
        return float(np.hypot(self.residual, self.rounding))


def reconstruct(stored: Profiles, time: float, sigma_rel: float) -> Reconstruction:
    """Find the weights x = A^-1 b whose profile is nearest to that of `sigma_rel` at `time`.

    The weights minimise the squared difference of the profiles. A holds the inner products of the
    stored profiles with each other, b their inner products with the wanted profile. The system is
    solved for profiles of unit norm. If stored profiles are nearly equal, the solution is not
    unique, and the smallest weights are chosen.
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
    """The relative length nearest to `sigma_rel` whose reconstruction at `time` is good enough.

    The candidates are the stored lengths and a hundred lengths from `SHORTEST` to `LONGEST` with a
    constant ratio. most: the largest error that is accepted. `stored` must hold a profile that ends
    at `time`, so at least one candidate is accepted.
    """
    lengths = [
        *np.geomspace(SHORTEST, LONGEST, 100).tolist(),
        *map(relative_length, stored.exponents.tolist()),
    ]
    return next(
        length
        for length in sorted(lengths, key=lambda length: abs(np.log(length / sigma_rel)))
        if reconstruct(stored, time, length).error <= most
    )
