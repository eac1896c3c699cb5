"""Recipes: each is a function that returns a complete `TrainConfig`.

A variant calls the function of its base recipe and changes fields.
"""

from __future__ import annotations

from collections.abc import Callable

from configs.eidgan import (
    debug,
    eidgan_coco256,
    eidgan_cub256,
    eidgan_flowers64,
    eidgan_nospectral_flowers128,
    eidgan_openmoji32,
    eidgan_openmoji64,
    eidgan_openmoji64_anyres,
)
from configs.systems import SYSTEM_RECIPES
from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from training.config import TrainConfig

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "eidgan-coco256": eidgan_coco256,
    "eidgan-cub256": eidgan_cub256,
    "eidgan-openmoji64": eidgan_openmoji64,
    "eidgan-openmoji64-anyres": eidgan_openmoji64_anyres,
    "eidgan-openmoji32": eidgan_openmoji32,
    "eidgan-flowers64": eidgan_flowers64,
    "eidgan-nospectral-flowers128": eidgan_nospectral_flowers128,
    "debug": debug,
} | SYSTEM_RECIPES


def recipe(name: str) -> TrainConfig:
    """The config of that recipe. Raises `UserError` that names the nearest one."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()
