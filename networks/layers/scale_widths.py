"""Channels of a convolutional network's scales, for generators and discriminators alike."""

from __future__ import annotations

from typing import Literal

from dnnlib.errors import UserError


def scale_widths(
    player: Literal["generator", "discriminator"],
    resolution: int,
    channel_base: int,
    channel_max: int,
) -> dict[int, int]:
    """{scale: min(channel_base / scale, channel_max)} in the order the player visits them: a generator from 4 up to
    `resolution`, a discriminator from there down. Raises `UserError`.
    """
    if resolution < 8 or resolution & (resolution - 1):
        raise UserError(
            f"{player}.resolution: must be a power of two of at least 8, got {resolution}"
        )
    if channel_base < resolution or channel_max < 2:
        raise UserError(
            f"{player}.channel_base: must be at least the resolution ({resolution}) and channel_max at least 2, "
            f"got {channel_base} and {channel_max}"
        )
    scales = [2**i for i in range(2, resolution.bit_length())]
    return {
        scale: min(channel_base // scale, channel_max)
        for scale in (scales if player == "generator" else reversed(scales))
    }
