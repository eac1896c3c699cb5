"""Random streams as pure functions of what they are for.

Nothing here keeps a state between calls: a stream is named by integers and words (seed, purpose, images seen,
index ...), so resuming a run, changing the batch size or adding ranks never shifts anybody's draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed from any sequence of integers and words; the same on every machine and Python version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A CPU `torch.Generator` seeded by `seed_for(*parts)`. Draw on the CPU, then move: same bits on any device."""
    return torch.Generator().manual_seed(seed_for(*parts))


def normal_per_row(rows: Sequence[int], shape: Sequence[int], *parts: int | str) -> torch.Tensor:
    """Standard normal noise with one stream per row, `generator_for(*parts, row)`.  # [N, *shape] float32"""
    return torch.stack(
        [torch.randn(tuple(shape), generator=generator_for(*parts, int(row))) for row in rows]
    )


def normal_per_seed(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """The latents of pictures: row i depends on `seeds[i]` alone.  # [N, *shape] float32"""
    return normal_per_row(seeds, shape, "noise")
