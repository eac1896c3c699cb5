"""Numbers of channels at the scales of convolutional generators and discriminators."""

from __future__ import annotations

from typing import Literal

from dnnlib.errors import UserError


def scale_widths(
    player: Literal["generator", "discriminator"],
    resolution: int,
    channel_base: int,
    channel_max: int,
) -> dict[int, int]:
    """{scale: number of channels} with min(channel_base / scale, channel_max) channels at a scale.

    The scales are the powers of two from 4 to `resolution`, ascending for a generator and
    descending for a discriminator. Raises `UserError` for a resolution that is no power of two of
    at least 8, and for too few channels.
    """
    if resolution < 8 or resolution & (resolution - 1):
        raise UserError(
            f"{player}.resolution: must be a power of two of at least 8, got {resolution}"
        )
    if channel_base < resolution or channel_max < 2:
        raise UserError(
            f"{player}.channel_base: must be at least the resolution ({resolution}) and "
            f"channel_max at least 2, got {channel_base} and {channel_max}"
        )
    scales = [2**i for i in range(2, resolution.bit_length())]
    return {
        scale: min(channel_base // scale, channel_max)
        for scale in (scales if player == "generator" else reversed(scales))
    }
