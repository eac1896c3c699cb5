"""Training steps on a GPU equal the CPU's, and do not wait for the device between ticks."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs import recipe
from networks.generators import preset
from networks.text_encoders import load_encoder
from torch_utils.precision import no_tf32
from training.config import AdamConfig
from training.trainer import Trainer

pytestmark = pytest.mark.gpu


def trainer_on(device, **changes):
    """The debug recipe with pixel widths that have kernels.

    With Adam's usual eps the smallest gradients make full steps, in a direction that rounding
    decides. With this one the steps are as near as the gradients are.
    """
    adam = AdamConfig(eps=0.01)
    pixels = {"thickness": 4, "features": 16, "decoder_hidden": (32, 32), "refinement": (32, 32)}
    config = replace(
        recipe("debug"),
        generator=replace(preset("eidgan-tiny"), **pixels),
        optimizer_g=adam,
        optimizer_d=adam,
        **changes,
    )
    return Trainer(config, load_encoder("hashed", device), torch.device(device))


def step(trainer):
    """On random pictures, page-locked as the loader gives them to a GPU."""
    images = torch.randint(
        256,
        (8, 3, 32, 32),
        generator=torch.Generator().manual_seed(trainer.progress.images),
        dtype=torch.uint8,
    )
    trainer.step(images.pin_memory(), [f"picture {i}" for i in range(8)])


def parameters(trainer):
    return {
        f"{name}.{key}": value
        for name in ("generator", "discriminator")
        for key, value in getattr(trainer, name).named_parameters()
    }


def assert_near(actual, expected, tolerance):
    """The error's norm against the tensor's, or against 1/1000 of all tensors' norm if less."""
    total = torch.stack([value.double().norm() for value in expected.values()]).norm()
    for name, value in expected.items():
        error = (actual[name].cpu().double() - value.double()).norm()
        assert error <= tolerance * max(value.double().norm(), 1e-3 * total), name


def test_a_step_equals_the_cpus():
    """D with R1, G, path length, augmentation: gradients, Adam's changes, logged numbers."""
    gradients, changes, logged, centres = [], [], [], []
    for device in ("cpu", "cuda:0"):
        trainer = trainer_on(device)
        before = {name: value.detach().clone() for name, value in parameters(trainer).items()}
        with no_tf32():
            step(trainer)
        after = parameters(trainer)
        changes.append({name: value.detach() - before[name] for name, value in after.items()})
        # Where a parameter has no part in a loss, one side may leave None and the other one zeros.
        gradients.append(
            {
                name: torch.zeros_like(value) if value.grad is None else value.grad
                for name, value in after.items()
            }
        )
        logged.append(trainer.collector.flush())
        centres.append(trainer.generator.tokens_mean.cpu())
    assert_near(gradients[1], gradients[0], 1e-2)  # between two CPU backends: 1.2e-3
    assert_near(changes[1], changes[0], 1e-2)
    assert logged[1] == pytest.approx(logged[0], rel=1e-4, abs=1e-5)
    torch.testing.assert_close(centres[1], centres[0], rtol=1e-4, atol=1e-6)


@contextlib.contextmanager
def waits():
    """The places, file:line, where PyTorch waits for the GPU inside the block."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [
        f"{Path(w.filename).name}:{w.lineno}"
        for w in caught
        if "synchronizing CUDA operation" in str(w.message)
    ]


def test_a_wait_is_seen():
    numbers = torch.ones(3, device="cuda")
    with waits() as found:
        numbers.sum().item()
        numbers.nonzero()
    assert len(set(found)) == 2, found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_gpu(precision):
    """Between two ticks: with R1, path length, style mixing and ADA's steps of p."""
    trainer = trainer_on("cuda:0", precision=precision)
    for _ in range(4):
        step(trainer)
    with waits() as found:
        for _ in range(4):
            step(trainer)
    assert not found, sorted(set(found))
