"""Pictures are dealt out over ranks one by one, and every rank receives the results of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch_utils import distributed

T = TypeVar("T")


def shares_over_ranks(total: int, compute: Callable[[range], T]) -> list[T]:
    """The results of `compute(indices)` of all ranks, in rank order, on every rank.

    The indices of a rank are rank, rank + world, ... below total. An error of one rank is raised on
    all of them, since the others would wait for ever for a rank that left alone.
    """
    share = range(distributed.rank(), total, distributed.world_size())
    if distributed.world_size() == 1:
        return [compute(share)]
    try:
        mine = compute(share)
    except Exception as error:  # it is raised below, on every rank
        mine = error
    shares = distributed.gather_objects(mine)
    for one in shares:
        if isinstance(one, Exception):
            raise one
    return shares


def in_order(shares: Sequence[Sequence[T]]) -> list[T]:
    """The results of all indices in order, from the results of each rank's share."""
    total = sum(map(len, shares))
    return [shares[index % len(shares)][index // len(shares)] for index in range(total)]


def over_ranks(total: int, compute: Callable[[range], list[T]]) -> list[T]:
    """The results of all indices in order, on every rank; `compute` gives one result an index."""
    return in_order(shares_over_ranks(total, compute))
