"""Ranks that a command starts without torchrun: their errors, and their end."""

import datetime
import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from dnnlib.errors import UserError
from torch_utils.distributed import gather_objects, main_first, on_main, process_group, rank
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


def _work_alone() -> None:
    with process_group(torch.device("cpu")):
        backend = dist.group.WORLD._get_backend(torch.device("cpu"))
        backend._set_default_timeout(datetime.timedelta(seconds=1))
        on_main(lambda: time.sleep(3))
        assert main_first(lambda: time.sleep(3) if rank() == 0 else 7) in (None, 7)


@pytest.mark.slow
def test_ranks_wait_longer_for_work_of_rank_0_than_for_each_other():
    with local_ranks(2, _work_alone):
        _work_alone()


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
