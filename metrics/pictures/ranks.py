"""Pictures dealt out over ranks one by one, and what each rank made of its share brought back to every rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch_utils import distributed

T = TypeVar("T")


def shares_over_ranks(total: int, compute: Callable[[range], T]) -> list[T]:
    """`compute(indices)` with this rank's indices rank, rank + world, ... below total; the results of all ranks.

    In rank order, on every rank. An error of one rank is raised on all of them, since a rank that left alone would
    leave the others waiting.
    """
    share = range(distributed.rank(), total, distributed.world_size())
    if distributed.world_size() == 1:
        return [compute(share)]
    try:
        mine = compute(share)
    except Exception as error:  # not swallowed: raised below, on every rank
        mine = error
    shares = distributed.gather_objects(mine)
    for one in shares:
        if isinstance(one, Exception):
            raise one
    return shares


def in_order(shares: Sequence[Sequence[T]]) -> list[T]:
    """One result an index of each rank's share -> the results of all indices in order."""
    total = sum(map(len, shares))
    return [shares[index % len(shares)][index // len(shares)] for index in range(total)]


def over_ranks(total: int, compute: Callable[[range], list[T]]) -> list[T]:
    """`shares_over_ranks` where `compute` returns one result an index: all of them, in order, on every rank."""
    return in_order(shares_over_ranks(total, compute))
