"""Time the training step of G and D with lazy R1.

    python -m benchmarks.training_step --device cuda --json FILE

A step consists of forward, backward and Adam of G and of D. R1 is computed every 16 D steps, so the
time of a step is G + 15/16 D + 1/16 (D with R1). Text features are random. Loading, augmentation
and logging are not included.

Variants: `eager` is plain PyTorch (--ops ref); `compile` is torch.compile of it, but for R1,
because torch.compile has no double backward; `ours` uses our kernels. FLOPs are those of the eager
step; the recomputation in our kernels is not included. Bytes are those that Adam moves.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.generator import text_for
from benchmarks.harness import DTYPES, Bench, benchmark_options, numbers
from networks.coordinates import View
from networks.discriminators.wavelet import WaveletDiscriminatorConfig
from networks.generators import preset
from torch_utils.ops.backend import using
from training.losses import logistic_fake, logistic_real, r1_penalty

R1_INTERVAL = 16


class Step:
    """The networks, their optimisers and one batch of a variant."""

    def __init__(
        self, name: str, resolution: int, batch: int, device: str, dtype: torch.dtype, variant: str
    ) -> None:
        torch.manual_seed(0)
        config = preset(name)
        self.generator = config.build().to(device)
        self.discriminator = (
            WaveletDiscriminatorConfig(resolution=resolution, sentence_dim=config.sentence_dim)
            .build()
            .to(device)
        )
        self.optimizers = [
            torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.0, 0.99))
            for net in (self.generator, self.discriminator)
        ]
        self.z, self.text = (
            torch.randn(batch, *self.generator.latent_shape, device=device),
            text_for(config, batch, device),
        )
        self.real, self.view = (
            torch.randn(batch, 3, resolution, resolution, device=device),
            View.square(resolution),
        )
        self.context = lambda: torch.autocast(
            torch.device(device).type, dtype, enabled=dtype != torch.float32
        )
        self.ops = "auto" if variant == "ours" else "ref"
        form: Callable[[Any], Any] = torch.compile if variant == "compile" else lambda net: net
        self.draw, self.judge = form(self.generator), form(self.discriminator)

    def generator_step(self) -> None:
        with using(self.ops):
            with self.context():
                verdict = self.judge(self.draw(self.z, self.text, self.view), self.text)
            self._update(self.optimizers[0], logistic_real(verdict.logits).mean())

    def discriminator_step(self, regularise: bool = False) -> None:
        with using(self.ops):
            real = self.real.clone().requires_grad_(regularise)
            judge = self.discriminator if regularise else self.judge
            with self.context():
                with torch.no_grad():
                    fake = self.draw(self.z, self.text, self.view)
                fakes, reals = judge(fake, self.text), judge(real, self.text)
                loss = logistic_fake(fakes.logits).mean() + logistic_real(reals.logits).mean()
                if regularise:
                    loss = loss + r1_penalty(reals.logits, real).mean() * R1_INTERVAL
            self._update(self.optimizers[1], loss)

    def _update(self, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        for net in (self.generator, self.discriminator):
            net.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


PARTS = {
    "G": Step.generator_step,
    "D": Step.discriminator_step,
    "D+R1": lambda step: step.discriminator_step(True),
}


class FlopCounter(TorchDispatchMode):
    """Counts the FLOPs of matrix products and convolutions.

    PyTorch's FlopCounterMode cannot be used: it hooks modules, which fails with R1's gradient with
    respect to a leaf tensor.
    """

    total = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def work(
    name: str,
    resolution: int,
    batch: int,
    device: str,
    dtype: torch.dtype,
    call: Callable[[Step], None],
) -> tuple[float, float]:
    """(FLOPs of the matrix products of one eager call, bytes that Adam moves).

    Adam moves seven floats for each parameter.
    """
    step = Step(name, resolution, batch, device, dtype, "eager")
    with FlopCounter() as counter:
        call(step)
    net = step.generator if call is Step.generator_step else step.discriminator
    return counter.total, 28.0 * sum(p.numel() for p in net.parameters())


@click.command()
@benchmark_options("256", "8")
@click.option(
    "--generator", "name", default="eidgan", show_default=True, help="The preset to train."
)
def main(
    name: str,
    device: str,
    resolutions: str,
    batches: str,
    dtypes: str,
    variants: str,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Time the training step."""
    arguments = dict(locals())
    bench, wanted = Bench("training_step", arguments), variants.split(",")
    for dtype in dtypes.split(","):
        for resolution in numbers(resolutions):
            for batch in numbers(batches):
                steps = {v: Step(name, resolution, batch, device, DTYPES[dtype], v) for v in wanted}
                start, labels = len(bench.rows), {"resolution": resolution, "batch": batch}
                for part, call in PARTS.items():
                    flops, moved = work(name, resolution, batch, device, DTYPES[dtype], call)
                    bench.case(
                        {"part": part} | labels,
                        {v: partial(call, s) for v, s in steps.items()},
                        dtype=dtype,
                        flops=flops,
                        bytes_moved=moved,
                    )
                for variant in wanted:
                    add_whole_step(bench, bench.rows[start:], variant, labels, dtype, batch)
                bench.write()


def add_whole_step(
    bench: Bench, rows: list[dict], variant: str, labels: dict, dtype: str, batch: int
) -> None:
    """Add the row of a whole step, computed from the rows of its parts."""
    parts = {row["part"]: row for row in rows if row["variant"] == variant}
    if any("problem" in row for row in parts.values()):
        return

    def whole(key: str) -> float:
        g, d, regularised = (parts[part][key] for part in PARTS)
        return g + d * (R1_INTERVAL - 1) / R1_INTERVAL + regularised / R1_INTERVAL

    times = {key: whole(key) for key in ("ms", "cpu_ms") if key in parts["G"]}
    bench.add(
        {"part": "step"}
        | labels
        | {"dtype": dtype, "variant": variant}
        | times
        | {
            "images_per_s": batch / times["ms"] * 1e3,
            "spread": statistics.mean(row["spread"] for row in parts.values()),
            "peak_mib": max(row["peak_mib"] for row in parts.values()),
        }
    )


if __name__ == "__main__":
    main()
