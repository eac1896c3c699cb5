"""Dealing pictures over ranks: order is restored, and one rank's error is everybody's."""

import pytest

from metrics.pictures import ranks


@pytest.fixture
def world_of_three(monkeypatch):
    """Run `over_ranks` as each of three ranks in turn; the exchange is played back from their
    shares.
    """

    def run(total, compute, as_rank):
        def share_of(rank):
            try:
                return compute(range(rank, total, 3))
            except ValueError as error:
                return error

        monkeypatch.setattr(ranks.distributed, "world_size", lambda: 3)
        monkeypatch.setattr(ranks.distributed, "rank", lambda: as_rank)
        monkeypatch.setattr(
            ranks.distributed,
            "gather_objects",
            lambda mine: [mine if r == as_rank else share_of(r) for r in range(3)],
        )
        return ranks.over_ranks(total, compute)

    return run


@pytest.mark.parametrize("total", [1, 2, 3, 7, 9])
def test_order_is_restored(world_of_three, total):
    for rank in range(3):
        assert world_of_three(total, lambda share: [i * i for i in share], rank) == [
            i * i for i in range(total)
        ]


def test_one_ranks_error_is_raised_on_all(world_of_three):
    def compute(share):
        if 4 in share:
            raise ValueError("picture 4")
        return list(share)

    for rank in range(3):
        with pytest.raises(ValueError, match="picture 4"):
            world_of_three(6, compute, rank)


def test_a_single_process_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(ranks.distributed, "gather_objects", None)
    assert ranks.over_ranks(4, list) == [0, 1, 2, 3]
