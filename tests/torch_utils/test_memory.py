"""Memory that runs out becomes a `UserError`; every other error passes unchanged."""

import pytest
import torch

from dnnlib.errors import UserError
from torch_utils.memory import memory_errors


def test_memory_that_runs_out_gets_the_remedy():
    for fail in (
        lambda: torch.empty(1 << 58),
        lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB")),
    ):
        with pytest.raises(UserError, match="out of memory: lower --x"), memory_errors("lower --x"):
            fail()
    with (
        pytest.raises(UserError, match="out of memory: lower --y"),
        memory_errors(lambda: "lower --y"),  # computed after the error
    ):
        torch.empty(1 << 58)
    with pytest.raises(RuntimeError, match="shape"), memory_errors("lower --x"):
        torch.zeros(2).view(3)


def _raise(error):
    raise error
