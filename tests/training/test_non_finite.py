"""Gradients that are not finite are never applied; the policy acts on them at the tick."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from configs import recipe
from dnnlib.errors import UserError
from tests.training.steps import make_trainer, run_steps
from training.checkpoint import read_newest
from training.config import EmaConfig
from training.gan_loss import GanLoss
from training.launch import run
from training.optimize import MAX_SKIPPED_IN_A_ROW, NonFiniteError
from training.training_loop import TrainingLoop


def newest_state(run_dir):
    newest = read_newest(run_dir)
    assert newest is not None
    return newest[1]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_non_finite_gradients_follow_the_policy(openmoji32, policy):
    trainer = make_trainer(replace(recipe("debug"), nan_policy=policy))
    run_steps(trainer, openmoji32, 1)
    weights = {name: value.clone() for name, value in trainer.discriminator.state_dict().items()}
    trainer.discriminator.requires_grad_(True)
    moments = copy.deepcopy(trainer.player_d.optimizer.state_dict()["state"])
    trainer.player_d.parameters[0].register_hook(lambda grad: grad * float("nan"))
    run_steps(trainer, openmoji32, 2)
    if policy == "stop":
        problem = r"of D was not finite in 2 of the last steps \(means of this tick: Loss/D \d"
        with pytest.raises(NonFiniteError, match=problem):
            trainer.check_finite()
    else:
        trainer.check_finite()
        assert trainer.player_d.num_skipped == 2
        means = trainer.collector.flush()
        # The mean of D's gradient norm comes from the first step.
        assert "Gradient/G" in means and math.isfinite(means["Gradient/D"])
    for name, value in trainer.discriminator.state_dict().items():
        assert torch.equal(value, weights[name])
    for index, state in trainer.player_d.optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, moments[index][name]) for name, value in state.items())


def test_a_skipped_step_changes_no_running_mean(openmoji32):
    """The centre of truncation, the mean path length and the averages of weights stay the same."""
    posthoc = EmaConfig(posthoc=(0.1,))
    trainer = make_trainer(replace(recipe("debug"), nan_policy="skip", ema=posthoc))
    run_steps(trainer, openmoji32, 2)
    powers = {name: value.clone() for name, value in trainer.powers.averages[0.1].items()}
    centre, length = trainer.generator.tokens_mean.clone(), trainer.loss.path_length_mean.clone()
    average = [p.clone() for p in trainer.ema.model.parameters()]
    with torch.no_grad():
        # If the averaged weights equal G's, an update with unchanged weights cannot change them.
        trainer.ema.model.load_state_dict(trainer.generator.state_dict())
    trainer.player_g.parameters[0].register_hook(lambda grad: grad * float("nan"))
    run_steps(trainer, openmoji32, 1)
    assert length > 0 and trainer.player_g.skipped == 2  # with the step for the path length
    assert torch.equal(trainer.generator.tokens_mean, centre)
    assert torch.equal(trainer.loss.path_length_mean, length)
    assert trainer.powers.images == 2 * trainer.config.batch < trainer.progress.images
    assert all(
        torch.equal(value, powers[name]) for name, value in trainer.powers.averages[0.1].items()
    )
    after = list(trainer.ema.model.parameters())
    assert all(
        torch.equal(p, q) for p, q in zip(after, trainer.generator.parameters(), strict=False)
    )
    assert not all(torch.equal(p, q) for p, q in zip(after, average, strict=False))


@pytest.mark.slow
def test_a_run_that_meets_such_gradients_stops_or_rolls_back(openmoji32, tmp_path, monkeypatch):
    """It does so at the next tick, before anything is saved."""
    monkeypatch.setattr("faulthandler.enable", lambda: None)  # it needs a real stderr
    discriminator_loss, broken = GanLoss.discriminator_loss, []

    def loss(self, micro, **arguments):
        value, total = discriminator_loss(self, micro, **arguments)
        if micro.stream[2:] == (40, 0):  # 40 images seen, no rollback yet
            broken.append(micro.stream)
            value = value * math.inf
        return value, total

    monkeypatch.setattr(GanLoss, "discriminator_loss", loss)
    config = replace(
        recipe("debug"),
        data=str(openmoji32),
        report_to=(),
        device="cpu",
        tick_kimg=0.016,
        snapshot_ticks=1,
    )
    problem = r"at 48 images: the gradient of D was not finite in 1 of .* tick: Loss/D \d"
    with pytest.raises(UserError, match=problem):
        run(config, tmp_path)
    assert newest_state(tmp_path)["progress"]["images"] == 32
    assert run(replace(config, nan_policy="rollback"), tmp_path)
    state = newest_state(tmp_path)
    assert state["progress"]["images"] == 64 and state["progress"]["rollbacks"] == 1
    assert len(broken) == 2
    assert all(torch.isfinite(value).all() for value in state["discriminator"].values())


def test_a_hundred_skipped_steps_in_a_row_end_the_run():
    player = make_trainer(recipe("debug")).player_g
    player.skipped_in_a_row.fill_(MAX_SKIPPED_IN_A_ROW - 1)
    player.check("skip")
    player.skipped_in_a_row += 1
    with pytest.raises(NonFiniteError, match="100 steps of G in a row"):
        player.check("skip")


@pytest.mark.parametrize(
    ("policy", "rollbacks", "advice"),
    [("stop", 0, "skip or rollback, or start"), ("rollback", 10, "skip, or start another")],
)
def test_a_run_that_rolled_back_in_vain_is_not_told_to_roll_back(policy, rollbacks, advice):
    progress = SimpleNamespace(images=16, rollbacks=rollbacks)
    loop = SimpleNamespace(
        trainer=SimpleNamespace(progress=progress), config=SimpleNamespace(nan_policy=policy)
    )
    with pytest.raises(UserError, match=f"--nan-policy {advice}.* a lower learning rate"):
        TrainingLoop._not_finite(loop, NonFiniteError("no number"))
