"""Ranges in the types of config fields: what they hold, and what an error says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import pytest

from configs import recipe
from dnnlib.bounds import (
    AtLeastOne,
    BelowOne,
    NotNegative,
    NotNegativeInt,
    Positive,
    Probability,
    Widths,
    at_least,
    check_bounds,
)
from dnnlib.config_codec import override
from dnnlib.errors import UserError
from networks.discriminators.stylegan2 import Stylegan2DiscriminatorConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    lr: Positive = 0.1
    weight: NotNegative = 0.0
    p: Probability = 1.0
    beta: BelowOne = 0.0
    steps: AtLeastOne = 1
    workers: NotNegativeInt = 0
    codes: Annotated[int, at_least(2)] = 2
    share: Annotated[int | None, at_least(1)] = None
    widths: Widths = (1,)
    free: float = -1.0

    def __post_init__(self):
        check_bounds(self, "part.")


@pytest.mark.parametrize(
    "field,inside,outside,rule",
    [
        ("lr", 1e-9, 0.0, "must be positive"),
        ("weight", 0.0, -1e-9, "must not be negative"),
        ("p", 0.0, 1.001, "is a probability"),
        ("p", 1.0, -0.001, "is a probability"),
        ("beta", 0.999, 1.0, r"must lie in \[0, 1\)"),
        ("beta", 0.0, -0.1, r"must lie in \[0, 1\)"),
        ("steps", 1, 0, "must be at least 1"),
        ("workers", 0, -1, "must not be negative"),
        ("codes", 2, 1, "must be at least 2"),
        ("share", 1, 0, "must be at least 1"),
        ("lr", 1.0, float("nan"), "must be positive"),
        ("widths", (), (0,), "must be at least 1"),
        ("widths", (1, 2), (8, -3), "must be at least 1"),
    ],
)
def test_a_value_outside_is_named_with_its_rule(field, inside, outside, rule):
    assert getattr(Config(**{field: inside}), field) == inside
    with pytest.raises(UserError, match=f"^part.{field}: {rule}, got {re.escape(str(outside))}$"):
        Config(**{field: outside})


def test_no_value_and_no_bound_are_no_error():
    assert Config(share=None, free=-1e30).share is None


def test_the_codec_reads_the_type_below_the_bound():
    assert override(Config(), ["lr=2", "share=3"]) == Config(lr=2.0, share=3)
    with pytest.raises(UserError, match="steps: expected int"):
        override(Config(), ["steps=1.5"])
    with pytest.raises(UserError, match="part.steps: must be at least 1, got 0"):
        override(Config(), ["steps=0"])


@pytest.mark.parametrize("player", ["g", "d"])
def test_a_bad_rate_names_its_optimizer(player):
    with pytest.raises(UserError, match=f"^optimizer_{player}.lr: must be positive, got -1.0$"):
        override(recipe("debug"), [f"optimizer_{player}.lr=-1"])


@pytest.mark.parametrize(
    "name, assignment, message",
    [
        ("debug", "generator.mapping_lr_multiplier=0", "mapping_lr_multiplier: must be positive"),
        ("creps-flowers64", "generator.mapping_lr_multiplier=0", "must be positive"),
        ("debug", "generator.decoder_hidden=[0]", "decoder_hidden: must be at least 1"),
        ("debug", "generator.refinement=[-3]", "refinement: must be at least 1"),
        ("crepsclip-flowers64", "generator.refinement=[0]", "refinement: must be at least 1"),
        ("debug", "discriminator.group_size=0", "group_size: must be at least 1"),
        ("stylegan2clip-coco256", "generator.style_dim=0", "style_dim: must be at least 1"),
        ("stylegan2clip-coco256", "generator.mapping_layers=0", "mapping_layers: must be at"),
        ("debug", "loss.path_length_decay=7", "path_length_decay: is a probability"),
        ("debug", "generator.kind=[]", r"generator.kind: \[\] is unknown"),
        ("debug", 'generator={"kind":[]}', r"generator.kind: \[\] is unknown"),
    ],
)
def test_fields_that_networks_would_stumble_over(name, assignment, message):
    with pytest.raises(UserError, match=message):
        override(recipe(name), [assignment])


def test_the_group_of_the_discriminator_of_stylegan2():
    with pytest.raises(UserError, match=r"discriminator.group_size: must be at least 1, got 0"):
        Stylegan2DiscriminatorConfig(group_size=0)
