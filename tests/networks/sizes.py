"""Networks small enough for tests."""

from __future__ import annotations

from typing import Any

SMALL_FROZEN: dict[str, Any] = {  # fields of FrozenFeaturesConfig
    "input_px": 32,
    "channels": (8, 16),
    "head_channels": 8,
    "pixel_channels": 8,
}
