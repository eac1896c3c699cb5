"""EIDGAN's recipes: the two data sets of the paper, and those that a laptop can train on.

The paper fixes the model, the losses and the resolution. It does not fix the schedule;
docs/configs.md names our choices and what each recipe costs.
"""

from __future__ import annotations

from dataclasses import replace

from datasets.patches import PatchConfig
from networks.discriminators import FrozenFeaturesConfig, WaveletDiscriminatorConfig
from networks.generators import EidganConfig, preset
from training.config import AdamConfig, AugmentConfig, EmaConfig, TextConfig, TrainConfig
from training.loss_config import LossConfig

CLIP = "open_clip:ViT-B-32-quickgelu/openai"


def eidgan_coco256() -> TrainConfig:
    """MS-COCO at 256 x 256: 8 GPUs x 16 images, 25,000 kimg."""
    return TrainConfig(
        recipe="eidgan-coco256",
        resolution=256,
        text_encoder=CLIP,
        text_cache=False,
        generator=preset("eidgan"),
        discriminator=WaveletDiscriminatorConfig(resolution=256),
        loss=LossConfig(r1_gamma=2.0, cond=0.5, cong=0.5, temperature=0.1),
        augment=AugmentConfig(mode="noaug"),
        ema=EmaConfig(half_life_kimg=20.0),
        batch=128,
        mirror=True,
        kimg=25000.0,
        tick_kimg=4.0,
        snapshot_ticks=50,
        metrics=("kid_lite2",),
        workers=4,
    )


def eidgan_cub256() -> TrainConfig:
    """CUB-200-2011 at 256 x 256: 8,855 pictures, so augmentation adapts and R1 is smaller."""
    return replace(
        eidgan_coco256(),
        recipe="eidgan-cub256",
        augment=AugmentConfig(mode="ada"),
        batch=64,
        kimg=10000.0,
        ema=EmaConfig(half_life_kimg=10.0),
        loss=LossConfig(r1_gamma=1.0, cond=0.5, cong=0.5, temperature=0.1),
    )


def eidgan_flowers64() -> TrainConfig:
    """Oxford-102 flowers at 64 x 64, a discriminator on frozen features: 20 to 55 min on a core."""
    small = preset("eidgan-small")
    assert isinstance(small, EidganConfig)
    return TrainConfig(
        recipe="eidgan-flowers64",
        resolution=64,
        text_encoder="small",
        generator=replace(
            small,
            channels=(128, 128, 128, 128),
            mapping_lr_multiplier=0.1,
            bypass=False,
            output="linear",
            pooling="linear",
            place=True,
            text_noise=0.5,
        ),
        discriminator=FrozenFeaturesConfig(resolution=64, sentence_dim=256, input_px=64),
        text=TextConfig(noise=0.5),
        loss=LossConfig(
            adversarial="hinge", shared_fakes=True, r1_gamma=0.0, mismatch=1.0, imle=1.0
        ),
        optimizer_g=AdamConfig(lr=0.002),
        optimizer_d=AdamConfig(lr=0.002),
        lr_decay=0.5,
        ema=EmaConfig(half_life_kimg=10.0, rampup=0.1),
        augment=AugmentConfig(
            mode="fixed",
            p=1.0,
            whole_pixels=True,
            scale=0.0,
            brightness=0.0,
            contrast=0.0,
            saturation=0.0,
            cutout=0.0,
        ),
        batch=64,
        kimg=60.0,
        tick_kimg=1.0,
        snapshot_ticks=10,
        metrics=("kid_lite2",),
        metric_num=500,
        workers=1,
    )


def eidgan_nospectral_flowers128() -> TrainConfig:
    """Flowers at 128 x 128, for one GPU: 250 kimg at 64 x 64, then whole pictures of 128 x 128.

    The generator is larger than that of `eidgan-flowers64` and has no spectral modulation, as in
    the run that docs/experiment_log.md reports. Ten minutes on an H100.
    """
    base = eidgan_flowers64()
    assert isinstance(base.generator, EidganConfig)
    assert isinstance(base.discriminator, FrozenFeaturesConfig)
    return replace(
        base,
        recipe="eidgan-nospectral-flowers128",
        resolution=128,
        generator=replace(
            base.generator,
            token_dim=128,
            channels=(384, 384, 384, 384),
            features=32,
            decoder_hidden=(64, 64),
            refinement=(64, 64),
            bandwidth=4.0,
            spectral=False,
        ),
        discriminator=replace(base.discriminator, resolution=128, input_px=128),
        ema=EmaConfig(half_life_kimg=15.0, rampup=0.1),
        batch=128,
        start_resolution=64,
        start_kimg=250.0,
        kimg=734.0,
        tick_kimg=2.0,
        snapshot_ticks=20,
    )


def eidgan_openmoji64() -> TrainConfig:
    """OpenMoji at 64 x 64: hours on a core, minutes on a GPU.

    Drawings have a flat white background, which `output="clip"` makes easy. Noise on the sentence
    changes their colours, so sampling adds none. The training is longer than that of
    `eidgan-flowers64`, with a longer average of the weights.
    """
    base = eidgan_flowers64()
    assert isinstance(base.generator, EidganConfig)
    return replace(
        base,
        recipe="eidgan-openmoji64",
        generator=replace(base.generator, output="clip", text_noise=0.0),
        ema=EmaConfig(half_life_kimg=20.0, rampup=0.1),
        kimg=700.0,
        tick_kimg=2.0,
        snapshot_ticks=40,
    )


def eidgan_openmoji64_anyres() -> TrainConfig:
    """Icons that are sharp at every size: `openmoji64` trains on with patches of 64 x 64.

    The patches show drawings that were rendered at 256 x 256 or larger, at scales 1 to 4. Half of
    the batch are whole drawings at 64 x 64. A pixel is the mean of four points, because an edge
    that is sharp at one scale is jagged at the others. Patches are resized without halos, which
    drawings do not have.

    The run starts from the network that comes with the repository, which has no spectral
    modulation. That network is also the teacher, which keeps what whole drawings show. A teacher
    excludes IMLE.
    """
    base = eidgan_openmoji64()
    assert isinstance(base.generator, EidganConfig)
    return replace(
        base,
        recipe="eidgan-openmoji64-anyres",
        generator=replace(base.generator, samples=2, spectral=False),
        loss=replace(base.loss, imle=0.0, teacher=30.0),
        ema=EmaConfig(half_life_kimg=3.0, rampup=0.1),
        patches=PatchConfig(side=64, scale=(1.0, 4.0), filter="hamming"),
        init_from="openmoji64",
        batch=32,
        kimg=22.0,
        snapshot_ticks=4,
    )


def eidgan_openmoji32() -> TrainConfig:
    """The demo: OpenMoji at 32 x 32, ten minutes on 2 cores that are fast in bf16.

    The frozen network reads the pictures at 48 x 48. IMLE tries four latents a picture: the search
    for the nearest of eight took more than a third of a step. D learns at half of the usual rate,
    which made `kid_lite2` differ less from seed to seed.
    """
    base = eidgan_openmoji64()
    assert isinstance(base.discriminator, FrozenFeaturesConfig)
    return replace(
        base,
        recipe="eidgan-openmoji32",
        resolution=32,
        discriminator=replace(base.discriminator, resolution=32, input_px=48),
        loss=replace(base.loss, imle_latents=4),
        optimizer_d=replace(base.optimizer_d, lr=0.001),
        ema=EmaConfig(half_life_kimg=10.0, rampup=0.1),
        kimg=64.0,
        tick_kimg=1.0,
        snapshot_ticks=10,
        metrics=(),
    )


def debug() -> TrainConfig:
    """For tests and a first look: seconds on a CPU.

    R1, mismatched text, path length, style mixing and ADA are on. The recipe computes in float32,
    so that numbers of different runs can be compared.
    """
    return TrainConfig(
        recipe="debug",
        resolution=32,
        text_encoder="hashed",
        text_cache=False,
        generator=preset("eidgan-tiny"),
        discriminator=WaveletDiscriminatorConfig(
            resolution=32,
            channel_base=256,
            channel_max=32,
            sentence_dim=64,
            feature_dim=0,
            spectral_scale=8,
            group_size=2,
        ),
        loss=LossConfig(
            r1_gamma=1.0,
            r1_interval=2,
            mismatch=1.0,
            path_length=1.0,
            path_length_interval=2,
            style_mixing=0.5,
        ),
        augment=AugmentConfig(mode="ada", p=0.2),
        ema=EmaConfig(half_life_kimg=0.5),
        batch=8,
        kimg=0.064,
        tick_kimg=0.016,
        snapshot_ticks=1,
        workers=0,
        precision="fp32",
    )
