"""Compare a device's results with the CPU's, and the limits of their differences.

Both compute in float32. The comment at a limit ("CPUs: ...") is the difference of two CPU runs that
differ only in rounding: AVX512 or SSE instructions, two threads or one, tiles or --ops ref.

The first tick compares the arithmetic alone. Convolutions with inputs that were rounded to TF32's
10 bits changed the losses of D, G and R1 at this tick by 1.2e-5, 6e-5 and 3e-4, so a difference
below the limit of 1e-5 shows that TF32 is off. Later ticks show that the trainings stay close; each
step multiplies differences by 3 to 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOSSES = ("Loss/D", "Loss/G", "Loss/R1")
FIRST_LOSS = 1e-5  # relative, first tick; CPUs: 2e-7
FIRST_GRADIENT = 1e-4  # relative, first tick: gradient norms and the path length; CPUs: 4e-6
LATER_LOSS = 3e-2  # relative, all later ticks; CPUs: 5e-3
BF16_LOSS = 2e-2  # bf16 against float32, relative, first tick; a CPU: 7e-4
LEVELS = 1.0  # largest difference of two pictures, of 255; CPUs: 1
SHARE_OF_VALUES = 5e-3  # share of a picture's values that differ at all; CPUs: 1e-4
SCORES = {"tile_exact": 1e-5, "scale_x2": 1e-2}  # absolute; CPUs: 2e-6 of 2, 1e-7 dB
OTHER_SCORES = 1e-3  # relative for scores above 1, else absolute


@dataclass(frozen=True)
class Comparison:
    """One number of the device and of the CPU.

    allowed: the limit of the difference; None allows any finite difference.
    """

    what: str
    cpu: float
    device: float
    difference: float
    allowed: float | None
    equal: bool

    @classmethod
    def of(
        cls, what: str, cpu: float, device: float, allowed: float | None, *, scale: float = 1.0
    ) -> Comparison:
        """The difference is |device - cpu| / scale."""
        difference = abs(device - cpu) / scale
        near = allowed is None or difference <= allowed
        return cls(what, cpu, device, difference, allowed, math.isfinite(difference) and near)


def compare_training(
    cpu: Sequence[dict[str, Any]],
    device: Sequence[dict[str, Any]],
    num_ticks: int,
    *,
    bf16: bool = False,
) -> list[Comparison]:
    """Compare two runs' stats.jsonl tick by tick.

    bf16: whether the device trained in bf16. Then only its losses of the first tick are compared,
    and all other numbers must be finite.
    """
    name = "bf16 " if bf16 else ""
    comparisons = [Comparison.of(f"{name}ticks", num_ticks, len(device), 0.0)]
    for index, (expected, actual) in enumerate(zip(cpu, device, strict=False)):
        tick = f"{name}image {expected['images']}"
        comparisons.append(
            Comparison.of(f"{tick}: count", expected["images"], actual["images"], 0.0)
        )
        for key, value in expected.items():
            if key.partition("/")[0] in ("Loss", "Gradient"):
                limit = _limit(key, index, bf16)
                other = actual.get(key, math.nan)
                comparisons.append(
                    Comparison.of(f"{tick}: {key}", value, other, limit, scale=abs(value))
                )
    return comparisons


def _limit(key: str, tick: int, bf16: bool) -> float | None:
    """The limit of one number in stats.jsonl. tick: its index from 0."""
    if tick:
        return LATER_LOSS if key in LOSSES and not bf16 else None
    if bf16:
        return BF16_LOSS if key in LOSSES else None
    return FIRST_LOSS if key in LOSSES else FIRST_GRADIENT


def compare_pictures(device: Path, cpu: Path) -> list[Comparison]:
    """Compare two folders of PNGs: names, sizes and values."""
    import numpy as np
    from PIL import Image

    names = sorted(path.name for path in cpu.glob("*.png"))
    comparisons = [Comparison.of("pictures", len(names), len(list(device.glob("*.png"))), 0.0)]
    for name in names:
        if not (device / name).exists():
            comparisons.append(Comparison.of(f"{name} exists", 1.0, 0.0, 0.0))
            continue
        pixels = []
        for folder in (cpu, device):
            with Image.open(folder / name) as image:
                pixels.append(np.asarray(image, np.float64))
        if pixels[0].shape != pixels[1].shape:
            comparisons.append(Comparison.of(f"{name} has its size", 1.0, 0.0, 0.0))
            continue
        distance = abs(pixels[0] - pixels[1])
        largest, share = float(distance.max()), float((distance != 0).mean())
        comparisons += [
            Comparison.of(f"{name}: largest difference", 0.0, largest, LEVELS),
            Comparison.of(f"{name}: share that differs", 0.0, share, SHARE_OF_VALUES),
        ]
    return comparisons


def compare_scores(
    device: Sequence[dict[str, Any]], cpu: Sequence[dict[str, Any]]
) -> list[Comparison]:
    """Compare two lists of records of `calc_metrics.py calc` with the same --metrics."""
    comparisons = [Comparison.of("scores", len(cpu), len(device), 0.0)]
    for expected, actual in zip(cpu, device, strict=False):
        name, value = expected["metric"], expected["value"]
        other = actual["value"] if actual["metric"] == name else math.nan
        scale = 1.0 if name in SCORES else max(1.0, abs(value))
        allowed = SCORES.get(name, OTHER_SCORES)
        comparisons.append(Comparison.of(f"score {name}", value, other, allowed, scale=scale))
    return comparisons
