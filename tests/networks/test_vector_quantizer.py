from __future__ import annotations

import pytest
import torch

from dnnlib.errors import UserError
from networks.layers.linear import unit_second_moment
from networks.layers.vector_quantizer import (
    FeatureQuantizer,
    VectorQuantizer,
    VectorQuantizerConfig,
)


def build(**fields):
    torch.manual_seed(0)
    return VectorQuantizer(
        VectorQuantizerConfig(**{"num_codes": 16, "code_dim": 4, "decay": 0.9} | fields)
    )


def vectors(n=6, t=5, seed=1):
    return torch.randn(n, t, 4, generator=torch.Generator().manual_seed(seed))


def test_codes_are_the_nearest_and_gradients_pass_straight_through():
    quantizer, x = build(commitment=0.5), vectors().requires_grad_(True)
    found = quantizer(x)
    unit = unit_second_moment(x)
    distances = (unit[:, :, None] - quantizer.codebook).square().sum(dim=3)
    assert torch.equal(found.indices, distances.argmin(dim=2))
    torch.testing.assert_close(found.codes, quantizer.codebook[found.indices])
    torch.testing.assert_close(found.commitment, 0.5 * distances.amin(dim=2).mean(dim=1) / 4)
    weights = torch.randn_like(x)
    (through,) = torch.autograd.grad((found.codes * weights).sum(), x)
    (plain,) = torch.autograd.grad((unit_second_moment(x) * weights).sum(), x)
    torch.testing.assert_close(through, plain)


def test_one_step_is_the_moving_average_of_its_equation():
    quantizer = build(restart_below=0.0)
    quantizer(vectors())
    quantizer.end_step()  # from empty: use and total hold (1 - decay) of the first step
    use, total, x = quantizer.use.clone(), quantizer.total.clone(), vectors(seed=2)
    indices = quantizer(x).indices
    quantizer.end_step()
    for code in range(16):
        chosen = unit_second_moment(x)[indices == code]
        use[code] = 0.9 * use[code] + 0.1 * len(chosen)
        total[code] = 0.9 * total[code] + 0.1 * chosen.sum(dim=0)
    torch.testing.assert_close(quantizer.use, use)
    used = use > 1e-6
    torch.testing.assert_close(quantizer.codebook[used], (total / use[:, None])[used])


def test_idle_codes_move_onto_vectors_of_the_batch_at_most_one_each():
    quantizer, few = build(num_codes=64), vectors(5, 2)
    start = quantizer.codebook.clone()
    quantizer(few)
    assert quantizer.end_step()["restarts"] == 10
    places = torch.cdist(quantizer.codebook, unit_second_moment(few).flatten(0, 1)) < 1e-6
    moved = (quantizer.codebook != start).any(dim=1)
    assert places.any(dim=0).all() and places[moved].sum(dim=1).max() == 1
    assert torch.equal(quantizer.codebook[~moved], start[~moved]) and (~moved).sum() > 40


def test_idle_codes_restart_until_all_are_in_use():
    quantizer = build()
    for step in range(3):
        quantizer(vectors(40, seed=step))
        quantizer.end_step()
    # All vectors are in one small cluster, so most codes are unused.
    far = torch.full((40, 5, 4), 1.0) + 0.01 * vectors(40)
    restarts = 0
    for _ in range(60):
        quantizer(far)
        restarts += int(quantizer.end_step()["restarts"])
    assert restarts > 5
    assert (
        torch.cdist(quantizer.codebook, unit_second_moment(far).flatten(0, 1)).amin(dim=1).max()
        < 0.2
    )


def test_nothing_restarts_where_it_is_switched_off():
    quantizer, x = build(restart_below=0.0), vectors(1, 2)
    start = quantizer.codebook.clone()
    indices = quantizer(x).indices.flatten()
    assert quantizer.end_step()["restarts"] == 0
    others = torch.ones(16, dtype=torch.bool).index_fill(0, indices, False)
    assert torch.equal(quantizer.codebook[others], start[others])


def test_restarts_do_not_flatter_the_perplexity():
    quantizer = build(num_codes=64)
    corners = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [-1, -1, 1, 1], [-1, 1, 1, -1.0]])
    for _ in range(80):
        quantizer(corners.repeat(8, 1)[:, None])
        stats = quantizer.end_step()
        assert stats["perplexity"] < 16
    assert 3 < stats["perplexity"] < 6


def test_what_a_rolled_back_step_saw_is_forgotten():
    quantizer = build()
    state = quantizer.state_dict()
    quantizer(vectors())
    quantizer.load_state_dict(state)
    assert quantizer.end_step() == {}


def test_perplexity_counts_the_codes_in_use():
    quantizer = build(num_codes=8, restart_below=0.0)
    corners = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [-1, -1, 1, 1], [-1, 1, 1, -1.0]])
    with torch.no_grad():
        quantizer.codebook[:4], quantizer.codebook[4:] = corners, 100.0
    x = corners.repeat(5, 1)[:, None]
    quantizer(x)
    stats = quantizer.end_step()
    assert stats["perplexity"].item() == pytest.approx(4, rel=1e-4) and stats["used"].item() == 0.5
    assert stats["error"].item() == pytest.approx(0, abs=1e-6)


def test_two_rounds_equal_one_and_only_training_with_gradient_counts():
    whole, halves, x = build(), build(), vectors()
    whole(x)
    for half in x.chunk(2):
        halves(half)
    whole.end_step(), halves.end_step()
    torch.testing.assert_close(whole.total, halves.total)
    before = whole.codebook.clone()
    with torch.no_grad():
        whole(x)
    whole.eval()(x)
    assert whole.end_step() == {} and torch.equal(whole.codebook, before)


def test_what_is_not_finite_moves_nothing():
    quantizer = build()
    quantizer(vectors())
    quantizer.end_step()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    del before["num_steps"]
    quantizer(vectors() * float("nan"))
    assert all(value.isnan() for value in quantizer.end_step().values())
    assert all(torch.equal(quantizer.state_dict()[name], value) for name, value in before.items())
    quantizer(vectors())
    assert all(value.isfinite() for value in quantizer.end_step().values())


def test_restarts_do_not_see_padding_nor_the_split_into_rounds():
    """The same unmasked vectors in the same order restart the same codes."""
    whole, padded, x = build(num_codes=64), build(num_codes=64), vectors()
    for _ in range(2):
        whole(x)
        wide = torch.cat([x[:4], torch.randn(4, 3, 4)], dim=1)
        padded(wide, torch.arange(8).expand(4, -1) < 5)
        padded(x[4:])
        assert whole.end_step()["restarts"] == padded.end_step()["restarts"] > 0
    torch.testing.assert_close(whole.codebook, padded.codebook)
    start = build(num_codes=64).codebook
    assert torch.equal(whole.codebook != start, padded.codebook != start)


def test_restarts_go_on_where_a_loaded_code_book_stood():
    first, second, x = build(num_codes=64), build(num_codes=64), vectors(40)
    first(x), first.end_step()
    second.load_state_dict(first.state_dict())
    for quantizer in (first, second):
        quantizer(x), quantizer.end_step()
    assert torch.equal(first.codebook, second.codebook)


def test_masked_vectors_neither_cost_nor_count():
    torch.manual_seed(0)
    quantizer = FeatureQuantizer(6, VectorQuantizerConfig(num_codes=8, code_dim=4, slots=3))
    x, mask = torch.randn(2, 5, 6), torch.arange(5) < torch.tensor([[3], [5]])
    changed = torch.where(mask[:, :, None], x, torch.randn(2, 5, 6))
    a, b = quantizer(x, mask), quantizer(changed, mask)
    assert a.codes.shape == x.shape and a.indices.shape == (2, 15)
    assert torch.equal(a.commitment, b.commitment) and torch.equal(a.codes[mask], b.codes[mask])
    quantizer.quantizer._seen.pop()
    quantizer.quantizer.end_step()
    assert quantizer.quantizer.num_steps == 1


@pytest.mark.parametrize(
    "field, value", [("num_codes", 1), ("slots", 0), ("decay", 1.0), ("commitment", -1.0)]
)
def test_wrong_fields_are_named(field, value):
    with pytest.raises(UserError, match=f"quantizer.{field}"):
        VectorQuantizerConfig(**{field: value})
