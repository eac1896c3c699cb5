"""Means of scalars over a tick and over ranks.

Reporting a value does not wait for the device; only `Collector.flush` does.
"""

from __future__ import annotations

import torch

from torch_utils.distributed import gather_objects


class Collector:
    """Sums and counts of named values. Call `report` at any time and `flush` once a tick."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int | torch.Tensor] = {}

    def report(self, name: str, values: torch.Tensor, *, finite_only: bool = False) -> None:
        """Add every element of `values` (any shape, any device) to the mean of `name`.

        finite_only: add only the elements that are finite.
        """
        values, count = values.detach().float(), values.numel()
        if finite_only:
            finite = values.isfinite()
            values, count = values.masked_fill(~finite, 0.0), finite.sum()
        self.sums[name] = self.sums.get(name, 0) + values.sum()
        self.counts[name] = self.counts.get(name, 0) + count

    def merge(self, other: Collector) -> None:
        """Add the sums and counts of another collector, which stays as it is."""
        for name, total in other.sums.items():
            self.sums[name] = self.sums.get(name, 0) + total
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]

    def flush(self) -> dict[str, float]:
        """Return the mean over all ranks of every name since the last flush, and start anew.

        Names are in the order of their first report. A name without a counted element is left out.
        This is a collective call that waits for the device.
        """
        counts = {name: int(count) for name, count in self.counts.items()}
        local = {name: (float(total), counts[name]) for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        merged: dict[str, tuple[float, int]] = {}
        for part in gather_objects(local):
            for name, (total, count) in part.items():
                before = merged.get(name, (0.0, 0))
                merged[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in merged.items() if count}
