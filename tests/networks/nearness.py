"""Compare gradients that were computed in different ways, in spite of the kinks of leaky ReLU.

The slope of leaky ReLU jumps at 0. Where its input is as near to 0 as a rounding error, two correct
computations may take different slopes, and then the gradients of whole tensors differ. Parameters
changed by 1e-6 of their size, on one CPU, change norms of gradients by up to: 0.8 % in one backward
of `eidgan`, 1.2 % where its path length is differentiated, 5 % in a training step of `debug`. With
`smooth_activations` they change by less than 0.1 %.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from unittest import mock

import torch

from torch_utils.ops.backend import using

# Limits for gradients of plain leaky ReLU, about three times the changes named above.
ONE_BACKWARD, TWO_BACKWARDS, STEP = 0.03, 0.05, 0.15


def _smooth(x: torch.Tensor, slope: float = 0.01, inplace: bool = False) -> torch.Tensor:
    """Leaky ReLU with |x| replaced by sqrt(x^2 + 0.01)."""
    return (1 + slope) / 2 * x + (1 - slope) / 2 * (x.square() + 0.01).sqrt()


@contextlib.contextmanager
def smooth_activations() -> Iterator[None]:
    """A context of plain PyTorch operators with a smooth function in place of leaky ReLU."""
    with using("ref"), mock.patch("torch.nn.functional.leaky_relu", _smooth):
        yield


Tensors = Mapping[str, torch.Tensor] | Sequence[torch.Tensor]


def _named(tensors: Tensors) -> dict[str, torch.Tensor]:
    pairs = tensors.items() if isinstance(tensors, Mapping) else enumerate(tensors)
    return {str(name): value.detach().cpu().double() for name, value in pairs}


def assert_near(actual: Tensors, expected: Tensors, tolerance: float) -> None:
    """The norm of each error is small relative to the norm of the tensor.

    For small tensors it is compared with 1/1000 of the largest norm. So do not mix pictures and
    gradients in one call.
    """
    found, exact = _named(actual), _named(expected)
    assert found.keys() == exact.keys()
    largest = max(float(value.norm()) for value in exact.values())
    for name, value in exact.items():
        error = float((found[name] - value).norm())
        allowed = tolerance * max(float(value.norm()), 1e-3 * largest)
        assert error <= allowed, f"{name}: error {error:.2g}, allowed {allowed:.2g}"
