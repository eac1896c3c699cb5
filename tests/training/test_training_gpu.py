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
from tests.networks.nearness import STEP, assert_near, smooth_activations
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
        cuda_graph="off",  # of steps with graphs is test_step_graph_gpu.py
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


# Limits of gradients, of Adam's changes and of logged numbers. Parameters changed by 1e-6 of their
# size, 20 times on one CPU, changed them by up to 8e-4, 2e-2 and 6e-5 with smooth activations, and
# by 5e-2, 1e-1 and 5e-3 with leaky ReLU: path length, too, depends on the slopes.
LIMITS = {"smooth": (1e-2, 5e-2, 5e-4), "leaky": (STEP, 2 * STEP, 2e-2)}


@pytest.mark.parametrize("activations", LIMITS)
def test_a_step_equals_the_cpus(activations):
    """D with R1, G, path length, augmentation: gradients, Adam's changes, logged numbers.

    With leaky ReLU, the GPU uses our kernels.
    """
    gradients, changes, logged, centres = [], [], [], []
    smooth = smooth_activations() if activations == "smooth" else contextlib.nullcontext()
    with smooth, no_tf32():
        for device in ("cpu", "cuda:0"):
            trainer = trainer_on(device)
            before = {name: value.detach().clone() for name, value in parameters(trainer).items()}
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
    of_gradients, of_changes, of_logged = LIMITS[activations]
    assert_near(gradients[1], gradients[0], of_gradients)
    assert_near(changes[1], changes[0], of_changes)
    assert logged[1] == pytest.approx(logged[0], rel=of_logged, abs=1e-5)
    torch.testing.assert_close(centres[1], centres[0], rtol=1e-4, atol=1e-5)


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
