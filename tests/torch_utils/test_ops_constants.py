"""The mark of functions that `torch.compile` does not look into."""

from __future__ import annotations

import pytest
import torch

from torch_utils.ops.backend import registered
from torch_utils.ops.constants import constant_when_compiled


@pytest.mark.slow  # imports torch._dynamo
def test_the_mark_is_that_of_pytorch():
    def one() -> int:
        return 1

    def other() -> int:
        return 1

    assert constant_when_compiled(one) is one
    assert vars(torch.compiler.assume_constant_result(other)) == vars(one) != {}
    assert vars(one).items() <= vars(registered).items()
