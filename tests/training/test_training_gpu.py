"""Training steps on a GPU equal those on a CPU, and do not wait for the GPU between ticks."""

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
    """A trainer of the debug recipe, with widths of the pixel part that have kernels.

    With Adam's usual eps, the smallest gradients cause full steps, whose sign depends on rounding.
    With eps 0.01, the steps on two devices differ as little as the gradients do.
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
    """One step on random pictures in page-locked memory, where the loader puts them for a GPU."""
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
    """The norm of each error is small relative to the norm of the tensor.

    For small tensors it is compared with 1/1000 of the norm of all tensors together.
    """
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
        # The gradient of a parameter that a loss does not use may be None or zeros.
        gradients.append(
            {
                name: torch.zeros_like(value) if value.grad is None else value.grad
                for name, value in after.items()
            }
        )
        logged.append(trainer.collector.flush())
        centres.append(trainer.generator.tokens_mean.cpu())
    assert_near(gradients[1], gradients[0], 1e-2)  # two CPU backends differ by 1.2e-3
    assert_near(changes[1], changes[0], 1e-2)
    assert logged[1] == pytest.approx(logged[0], rel=1e-4, abs=1e-5)
    torch.testing.assert_close(centres[1], centres[0], rtol=1e-4, atol=1e-6)


@contextlib.contextmanager
def waits():
    """Yield a list that holds, after the block, where PyTorch waited for the GPU (file:line)."""
    places: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places += [
        f"{Path(w.filename).name}:{w.lineno}"
        for w in caught
        if "synchronizing CUDA operation" in str(w.message)
    ]


def test_a_wait_is_seen():
    numbers = torch.ones(3, device="cuda")
    with waits() as places:
        numbers.sum().item()
        numbers.nonzero()
    assert len(set(places)) == 2, places


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_gpu(precision):
    """The steps between two ticks include R1, path length, style mixing and updates of ADA's p."""
    trainer = trainer_on("cuda:0", precision=precision)
    for _ in range(4):
        step(trainer)
    with waits() as places:
        for _ in range(4):
            step(trainer)
    assert not places, sorted(set(places))
