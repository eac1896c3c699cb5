"""Random streams that are identified by names and keep no state between calls.

The name of a stream is a sequence of integers and words, such as (seed, purpose, images seen).
Resuming a run, changing the batch size or adding ranks therefore never changes the numbers of a
stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed for a sequence of integers and words, equal on all machines and Pythons."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A CPU generator with the seed `seed_for(*parts)`.

    Draw on the CPU and move the result, so that every device gets the same numbers.
    """
    return torch.Generator().manual_seed(seed_for(*parts))


def normal_per_row(rows: Sequence[int], shape: Sequence[int], *parts: int | str) -> torch.Tensor:
    """Standard normal noise [N, *shape], float32, with one stream per row.

    Row i is drawn from `generator_for(*parts, rows[i])`.
    """
    return torch.stack(
        [torch.randn(tuple(shape), generator=generator_for(*parts, int(row))) for row in rows]
    )


def normal_per_seed(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Latents of generated pictures [N, *shape], float32; row i depends only on `seeds[i]`."""
    return normal_per_row(seeds, shape, "noise")
