"""Ranks that a command starts without torchrun: their errors, and their end."""

import os
import signal

import pytest
import torch

from dnnlib.errors import UserError
from torch_utils.distributed import gather_objects, process_group, rank
from torch_utils.local_ranks import local_ranks

pytestmark = pytest.mark.multi_process


def _fail_in_rank_1() -> None:
    with process_group(torch.device("cpu")):
        assert gather_objects((rank(), torch.get_num_threads())) == [(0, 1), (1, 1)]
        if rank() == 1:
            raise UserError("picture 7 is damaged")
        gather_objects(None)


def _die_in_rank_1() -> None:
    with process_group(torch.device("cpu")):
        if rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        gather_objects(None)


@pytest.mark.slow
def test_an_error_of_another_rank_is_raised_in_rank_0():
    before = dict(os.environ)
    with pytest.raises(UserError, match="^picture 7 is damaged$"), local_ranks(2, _fail_in_rank_1):
        _fail_in_rank_1()
    assert dict(os.environ) == before


@pytest.mark.slow
def test_a_rank_that_was_killed_is_named():
    with (
        pytest.raises(UserError, match="process 1 was ended by SIGKILL"),
        local_ranks(2, _die_in_rank_1),
    ):
        _die_in_rank_1()


def test_one_rank_starts_nothing():
    with local_ranks(1, _fail_in_rank_1):
        assert "WORLD_SIZE" not in os.environ
