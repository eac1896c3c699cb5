"""Pictures dealt out over ranks one by one, and their results brought back into picture order on every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch_utils import distributed

T = TypeVar("T")


def over_ranks(total: int, compute: Callable[[range], list[T]]) -> list[T]:
    """`compute(indices)` returns one result an index; this rank's indices are rank, rank + world, ... below total.

    Returns the results of all indices in order, on every rank. An error of one rank is raised on all of them, since
    a rank that left alone would leave the others waiting.
    """
    share = range(distributed.rank(), total, distributed.world_size())
    if distributed.world_size() == 1:
        return compute(share)
    try:
        mine = compute(share)
    except Exception as error:  # not swallowed: raised below, on every rank
        mine = error
    shares = distributed.gather_objects(mine)
    for one in shares:
        if isinstance(one, Exception):
            raise one
    return [shares[index % len(shares)][index // len(shares)] for index in range(total)]
