"""Recipes of the other systems and of EIDGAN's ablations: `<system>-<data set and size>`.

They share EIDGAN's data and schedule, so that the generators can be compared. At 64 x 64 nothing
but the generator differs, and all generators have about the same number of multiply-adds; systems
without text have no mismatched text, and `creps` has the path length penalty. On
coco256 the systems with text share EIDGAN's discriminator and losses, with two exceptions:
stylegan2clip has StyleGAN2's residual discriminator, and vqcgan has the discriminator, the losses
and the optimiser of DCGAN. `creps` is the published unconditional network with end-point
coordinates, path length regularisation and, on coco256, a residual discriminator. docs/configs.md
has the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from configs.eidgan import eidgan_coco256, eidgan_flowers64, eidgan_openmoji64
from networks.discriminators import (
    DcganDiscriminatorConfig,
    DiscriminatorConfig,
    FrozenFeaturesConfig,
    Stylegan2DiscriminatorConfig,
    WaveletDiscriminatorConfig,
)
from networks.generators import CrepsConfig, EidganConfig, preset
from training.config import AdamConfig, TrainConfig
from training.loss_config import LossConfig

BASES: dict[str, Callable[[], TrainConfig]] = {
    "openmoji64": eidgan_openmoji64,
    "coco256": eidgan_coco256,
    "flowers64": eidgan_flowers64,
}

# At 64 x 64: sizes with about the multiply-adds of EIDGAN there, 0.13 billion.
_SMALL_SIZES: dict[str, dict[str, Any]] = {
    "crepsclip": {"channels": (128, 128, 128, 128)},
    "inrganclip": {"channel_base": 4096, "channel_max": 112},
    "cipsclip": {"channels": 64},
    "stylegan2clip": {"channel_base": 2048, "channel_max": 96},
    "vqcgan": {"channel_base": 2560, "channel_max": 320},
}


def nodual(creps: CrepsConfig) -> EidganConfig:
    """EIDGAN of the same sizes without its two modulations.

    With the same weights it computes the same pictures as `creps` (a test).
    """
    return EidganConfig(
        sentence_dim=creps.sentence_dim,
        word_dim=0,
        num_tokens=1,
        token_dim=creps.style_dim,
        mapping_layers=creps.mapping_layers,
        mapping_lr_multiplier=creps.mapping_lr_multiplier,
        text_noise=creps.text_noise,
        channels=creps.channels,
        thickness=creps.thickness,
        features=creps.features,
        decoder_hidden=creps.decoder_hidden,
        refinement=creps.refinement,
        bandwidth=creps.bandwidth,
        place=creps.place,
        samples=creps.samples,
        output=creps.output,
        spectral=False,
        attention=False,
        bypass=False,
        styled_lines=True,
        summed_lines=creps.summed_lines,
    )


def _unconditional(base: TrainConfig, **loss: Any) -> LossConfig:
    return replace(base.loss, mismatch=0.0, cong=0.0, **loss)


def _residual(base: TrainConfig) -> DiscriminatorConfig:
    discriminator = base.discriminator
    if _shares_all(base):
        return discriminator
    assert isinstance(discriminator, WaveletDiscriminatorConfig)
    return Stylegan2DiscriminatorConfig(
        resolution=discriminator.resolution,
        channel_base=discriminator.channel_base,
        channel_max=discriminator.channel_max,
        sentence_dim=discriminator.sentence_dim,
        feature_dim=discriminator.feature_dim,
        group_size=discriminator.group_size,
    )


def _shares_all(base: TrainConfig) -> bool:
    """Whether the systems share even the discriminator and the optimisers: at 64 x 64."""
    return isinstance(base.discriminator, FrozenFeaturesConfig)


def _swap(generator: str, base: TrainConfig) -> TrainConfig:
    """Nothing but the generator changes."""
    config: Any = preset(f"{generator}-small" if _shares_all(base) else generator)
    if _shares_all(base):
        assert isinstance(base.generator, EidganConfig)
        names = ("text_noise", "mapping_lr_multiplier", "output", "place")
        shared = {name: getattr(base.generator, name) for name in names if hasattr(config, name)}
        config = replace(config, **shared, **_SMALL_SIZES[generator])
    return replace(base, generator=config)


def _creps(base: TrainConfig) -> TrainConfig:
    config = _swap("crepsclip", base)
    assert isinstance(config.generator, CrepsConfig)
    return replace(
        config,
        generator=replace(config.generator, sentence_dim=0, convention="endpoints"),
        discriminator=_residual(base),
        loss=_unconditional(base, cond=0.0, path_length=0.1, path_length_interval=4),
    )  # see losses.path_lengths


def _stylegan2clip(base: TrainConfig) -> TrainConfig:
    return replace(_swap("stylegan2clip", base), discriminator=_residual(base))


def _vqcgan(base: TrainConfig) -> TrainConfig:
    if _shares_all(base):
        return _swap("vqcgan", base)
    adam = AdamConfig(lr=0.0002, beta1=0.5, beta2=0.999)
    return replace(
        _swap("vqcgan", base),
        optimizer_g=adam,
        optimizer_d=adam,
        loss=LossConfig(r1_gamma=0.0, mismatch=1.0),
        discriminator=DcganDiscriminatorConfig(
            resolution=base.resolution, channel_base=8192, channel_max=512
        ),
    )


def _ablated(base: TrainConfig, **fields: Any) -> TrainConfig:
    return replace(base, generator=replace(base.generator, **fields))


def _nodual(base: TrainConfig) -> TrainConfig:
    config = _swap("crepsclip", base)
    assert isinstance(config.generator, CrepsConfig)
    return replace(config, generator=nodual(config.generator))


def _uncond(base: TrainConfig) -> TrainConfig:
    return _ablated(replace(base, loss=_unconditional(base)), sentence_dim=0, word_dim=0)


SYSTEMS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "creps": _creps,
    "crepsclip": partial(_swap, "crepsclip"),
    "inrganclip": partial(_swap, "inrganclip"),
    "cipsclip": partial(_swap, "cipsclip"),
    "stylegan2clip": _stylegan2clip,
    "vqcgan": _vqcgan,
    "eidgan-nospectral": partial(_ablated, spectral=False),
    # Words reach the codes by cross-attention too, so they leave with it.
    "eidgan-noattention": partial(_ablated, attention=False, word_dim=0),
    "eidgan-nodual": _nodual,
    "eidgan-uncond": _uncond,
    "eidgan-sentence": partial(_ablated, word_dim=0),
    "eidgan-words": partial(_ablated, sentence_dim=0),
}


def system_recipe(system: str, base: str) -> TrainConfig:
    return replace(SYSTEMS[system](BASES[base]()), recipe=f"{system}-{base}")


SYSTEM_RECIPES = {
    f"{system}-{base}": partial(system_recipe, system, base) for base in BASES for system in SYSTEMS
}
