"""Power-function averages: comparison with integrals of their profiles, and reconstruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from configs import recipe
from dnnlib.errors import UserError
from networks.snapshot import Snapshot
from tests.training.steps import make_trainer, run_steps
from training.averages_file import averages_of, read_averages, write_averages
from training.config import EmaConfig
from training.ema import PowerAverages
from training.power_profiles import (
    LONGEST,
    Profiles,
    exponent_of,
    inner_products,
    nearest_reachable,
    reconstruct,
    relative_length,
)
from training.reconstruction import write_reconstructions

BATCH = 50
TAKEN = torch.tensor(True)


def profile(time, end, sigma_rel):
    """The profile at `time` [N] from its definition, for an average that ends at `end`."""
    exponent = exponent_of(sigma_rel)
    return np.where(time <= end, (exponent + 1) / end * (time / end) ** exponent, 0.0)


def midpoints(end, count=200_000):
    return (np.arange(count) + 0.5) * end / count


@pytest.mark.parametrize("sigma_rel", [0.005, 0.05, 0.1, 0.2, 0.288])
def test_the_exponent_gives_a_profile_of_that_length(sigma_rel):
    assert relative_length(exponent_of(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-12)
    time = midpoints(1.0)
    weights = profile(time, 1.0, sigma_rel) / len(time)
    mean = weights @ time
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert (weights @ (time - mean) ** 2) ** 0.5 == pytest.approx(sigma_rel, rel=1e-5)


def test_the_exponents_of_the_paper():
    assert exponent_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent_of(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent_of(LONGEST) == pytest.approx(0, abs=1e-9)


def test_inner_products_are_integrals():
    a = Profiles.of_lengths([3.0, 7.0], [0.05, 0.2])
    b = Profiles.of_lengths([5.0, 7.0, 2.0], [0.1, 0.25, 0.05])
    time = midpoints(7.0)
    rows, columns = (
        np.array(
            [
                profile(time, end, relative_length(g))
                for end, g in zip(p.times, p.exponents, strict=True)
            ]
        )
        for p in (a, b)
    )
    np.testing.assert_allclose(inner_products(a, b), rows @ columns.T * 7.0 / len(time), rtol=1e-4)


class Walk(nn.Module):
    """A model whose parameters follow a random walk over steps."""

    def __init__(self, num_steps):
        super().__init__()
        rng = np.random.default_rng(0)
        self.path = rng.normal(size=(num_steps, 6)).cumsum(0) / num_steps**0.5
        # The initial value, which must not enter any average.
        self.weight = nn.Parameter(torch.full((2, 3), 100.0))

    def step(self, index):
        self.weight.data = torch.tensor(self.path[index].reshape(2, 3), dtype=torch.float32)

    def direct(self, num_steps, sigma_rel):
        """The integral of profile times parameters, which are constant within a step."""
        time = midpoints(num_steps, 400 * num_steps)
        weights = profile(time, num_steps, sigma_rel) * num_steps / len(time)
        return (weights @ self.path[time.astype(int)]).reshape(2, 3)


def walk(num_steps, sigma_rels):
    """Yield (model, averages) after every step."""
    model = Walk(num_steps)
    averages = PowerAverages(model, sigma_rels)
    for index in range(num_steps):
        model.step(index)
        averages.update(model, BATCH, TAKEN)
        yield model, averages


def test_the_update_is_the_integral_of_the_profile():
    lengths = (0.03, 0.1, 0.25)
    for index, (model, averages) in enumerate(walk(500, lengths)):
        if index + 1 in (1, 2, 37, 500):
            assert averages.images == (index + 1) * BATCH
            for length in lengths:
                average = averages.averages[length]["weight"].numpy()
                np.testing.assert_allclose(average, model.direct(index + 1, length), atol=2e-5)


def test_a_skipped_step_changes_nothing():
    model = Walk(2)
    averages = PowerAverages(model, (0.1,))
    averages.update(model, BATCH, ~TAKEN)  # before the first average exists
    assert averages.images == 0 and not averages.averages[0.1]["weight"].any()
    averages.update(model, BATCH, TAKEN)
    assert torch.equal(averages.averages[0.1]["weight"], model.weight)
    model.step(1)
    averages.update(model, BATCH, ~TAKEN)
    assert averages.images == BATCH and (averages.averages[0.1]["weight"] == 100).all()


def test_a_length_between_two_is_rebuilt_from_many_moments():
    """The error is below 0.2 % of the walk's spread; that of each stored length is above 10 %."""
    sums, times, lengths, model = [], [], [], Walk(1600)
    for index, (_, averages) in enumerate(walk(1600, (0.05, 0.1))):
        if (index + 1) % 50 == 0:
            for length, average in averages.averages.items():
                sums.append(average["weight"].double().numpy().copy())
                times.append(float(averages.images))
                lengths.append(length)
    stored = Profiles.of_lengths(times, lengths)
    result = reconstruct(stored, times[-1], 0.07)
    wanted, spread = model.direct(1600, 0.07), model.path.std()
    error = np.abs(np.tensordot(result.weights, np.array(sums), 1) - wanted).max()
    error_of_stored = min(np.abs(average - wanted).max() for average in sums[-2:])
    assert error < 0.002 * spread and error_of_stored > 0.1 * spread
    assert result.residual < 0.002 and result.weights.sum() == pytest.approx(1, abs=1e-4)


def test_the_residual_is_the_distance_of_the_profiles():
    stored = Profiles.of_lengths([2.0, 2.0, 4.0, 4.0], [0.1, 0.2, 0.1, 0.2])
    time = midpoints(4.0)
    parts = np.array(
        [profile(time, end, length) for end, length in ((2, 0.1), (2, 0.2), (4, 0.1), (4, 0.2))]
    )
    for length in (0.03, 0.15, 0.28):
        result, wanted = reconstruct(stored, 4.0, length), profile(time, 4.0, length)
        distance = np.linalg.norm(result.weights @ parts - wanted) / np.linalg.norm(wanted)
        assert result.residual == pytest.approx(distance, rel=1e-3)
        best = np.linalg.lstsq(parts.T, wanted, rcond=None)[0]
        np.testing.assert_allclose(result.weights, best, atol=1e-3)
    assert reconstruct(stored, 4.0, 0.2).error < 1e-3
    assert nearest_reachable(stored, 4.0, 0.03, 0.1) == pytest.approx(0.074, abs=0.01)


@pytest.mark.parametrize("values", [(0.05, 0.3), (0.0,), (0.1, 0.1)])
def test_lengths_that_cannot_be_are_refused(values):
    with pytest.raises(UserError, match=r"ema\.posthoc: "):
        EmaConfig(posthoc=values)


def test_the_averages_leave_the_training_as_it_is(openmoji32):
    plain = make_trainer(recipe("debug"))
    kept = make_trainer(replace(recipe("debug"), ema=replace(recipe("debug").ema, posthoc=(0.1,))))
    for trainer in (plain, kept):
        run_steps(trainer, openmoji32, 2)
    assert set(kept.objects) - set(plain.objects) == {"power_averages"}
    assert plain.ema.state_dict().keys() == kept.ema.state_dict().keys()
    for part in ("generator", "ema"):
        other = kept.objects[part].state_dict()
        assert all(
            torch.equal(value, other[name])
            for name, value in plain.objects[part].state_dict().items()
        )


def test_numbers_beyond_float16_are_kept(tmp_path):
    model = Walk(1)
    model.weight.data.fill_(1e5)
    averages = PowerAverages(model, (0.1,))
    write_averages(tmp_path, 0, averages, "run")
    assert not list(tmp_path.iterdir())  # before the first step
    averages.update(model, BATCH, TAKEN)
    write_averages(tmp_path, 12, averages, "run")
    ((name, value),) = read_averages(averages_of(tmp_path)[12], 0)
    assert name == "weight" and (value == 1e5).all()


def drifting_run(network, run_dir, num_moments):
    """A run folder with the snapshot `network` and averages of parameters that move in a line."""
    generator = Snapshot.from_pretrained(network).generator
    Snapshot(generator, "hashed", 16, {}).save_pretrained(run_dir / network.name)
    start = {name: p.clone() for name, p in generator.named_parameters()}
    averages = PowerAverages(generator, (0.05, 0.1))
    for moment in range(1, num_moments + 1):
        for step in range(10):
            for name, parameter in generator.named_parameters():
                parameter.copy_(start[name] * (moment - 1 + (step + 1) / 10))
            averages.update(generator, 100, TAKEN)
        write_averages(run_dir, moment, averages, "run")
    return start


@pytest.mark.slow
def test_snapshots_of_other_lengths_and_moments(network, tmp_path):
    """Each parameter is `start` times the time in kimg at the end of its step.

    So its average is `start` times the mean time of the profile plus half a step, which is
    T (g + 1) / (g + 2) + 0.05, within 0.2 % of T in float16.
    """
    start = drifting_run(network, tmp_path / "run", 16)
    for kimg in (16, 9):
        (record,) = write_reconstructions(tmp_path / "run", [0.07], kimg, tmp_path)
        assert record["residual"] < 0.02 and record["num_averages"] == 2 * kimg
        # The run has no snapshot of the moment, so the newest one gives the buffers.
        assert record["buffers_of"] == network.name
        made = Snapshot.from_pretrained(record["network"])
        assert (made.info["sigma_rel"], made.info["kimg"]) == (0.07, kimg)
        exponent = exponent_of(0.07)
        factor = kimg * (exponent + 1) / (exponent + 2) + 0.05
        for name, parameter in made.generator.named_parameters():
            bound = 0.002 * kimg * start[name].abs().max().item() + 1e-6
            torch.testing.assert_close(parameter, factor * start[name], rtol=0, atol=bound)


def test_files_that_do_not_belong_together_are_refused(network, tmp_path):
    run_dir = tmp_path / "run"
    drifting_run(network, run_dir, 2)
    averages = PowerAverages(Walk(1), (0.1,))
    averages.update(Walk(1), 3000, TAKEN)
    for run_id, words in (
        ("other", "averages-000001.* is of another run than averages-000003"),
        ("run", "'0/weight'|tensor 'weight' does not fit the generator"),
    ):
        write_averages(run_dir, 3, averages, run_id)
        with pytest.raises(UserError, match=words):
            list(write_reconstructions(run_dir, [0.1], None, tmp_path))
    (run_dir / "averages-000003.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"averages-000003\.safetensors cannot be read"):
        list(write_reconstructions(run_dir, [0.1], None, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
