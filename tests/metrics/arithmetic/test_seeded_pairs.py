"""Seeded pairs of pictures: with different keys, and with a key in common."""

from metrics.arithmetic.seeded_pairs import differing, sharing


def test_pairs():
    pairs = differing(["a", "a", "b", "c"], 50)
    assert len(pairs) == 50 and not {(0, 1), (1, 0)} & set(map(tuple, pairs.tolist()))
    assert (pairs[:, 0] != pairs[:, 1]).all() and len(differing(["a"] * 5, 9)) == 0
    keys = [("x", "y"), ("y",), ("z",), ("x", "x"), ()]
    shared = sharing(keys, 200)
    assert {frozenset(pair) for pair in shared.tolist()} == {frozenset((0, 1)), frozenset((0, 3))}
    assert sharing(keys, 9, at_least=4).shape == sharing([("a",), ("b",)], 9).shape == (0, 2)
