"""The table of generators and their presets.

A new generator needs a file in this folder, a line in the union of systems.py, a preset here and a
recipe in configs/.
"""

from __future__ import annotations

from typing import get_args

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from networks.generators.cips import CipsConfig
from networks.generators.creps import CrepsConfig
from networks.generators.eidgan import EidganConfig
from networks.generators.inrgan import InrganConfig
from networks.generators.quantized import QuantizedConfig
from networks.generators.stylegan2 import Stylegan2Config
from networks.generators.systems import SystemConfig
from networks.generators.vqcgan import VqcganConfig
from networks.layers.vector_quantizer import VectorQuantizerConfig

GeneratorConfig = SystemConfig | QuantizedConfig

GENERATORS: dict[str, type[GeneratorConfig]] = {
    config.kind: config for config in get_args(GeneratorConfig)
}

_SYSTEMS: dict[str, SystemConfig] = {
    # The size of the paper at 256 x 256: 18 M parameters with the text features of ViT-B/32.
    "eidgan": EidganConfig(),
    # For fast sampling: the same trunk with half the thickness, and a sixth of the cost on pixels.
    "eidgan-fast": EidganConfig(
        thickness=4, features=16, decoder_hidden=(32, 32), refinement=(64, 32)
    ),
    # For 64 x 64 on CPUs, with the embedded data set and the text encoder `small` (sentences of
    # width 256, words of width 384).
    "eidgan-small": EidganConfig(
        sentence_dim=256,
        word_dim=384,
        channels=(256, 256, 256, 128),
        thickness=4,
        features=16,
        decoder_hidden=(32, 32),
        refinement=(32, 32),
        attention_dim=64,
        bandwidth=3.0,
        styled_lines=True,
        output="tanh",
    ),
    "creps": CrepsConfig(),
    "creps-narrow": CrepsConfig(style_dim=64),
    "crepsclip": CrepsConfig(sentence_dim=512),
    "inrganclip": InrganConfig(sentence_dim=512),
    "cipsclip": CipsConfig(sentence_dim=512),
    "stylegan2clip": Stylegan2Config(sentence_dim=512),
    "vqcgan": VqcganConfig(),
    # Baselines for eidgan-small, with about the same number of multiply-adds at 64 x 64. The
    # recipes make them smaller (configs/systems.py), as they do with eidgan-small.
    "crepsclip-small": CrepsConfig(
        sentence_dim=256,
        style_dim=128,
        mapping_layers=4,
        channels=(256, 256, 256, 128),
        thickness=4,
        features=16,
        decoder_hidden=(32, 32),
        refinement=(32, 32),
        bandwidth=3.0,
        output="tanh",
    ),
    "inrganclip-small": InrganConfig(
        resolution=64,
        sentence_dim=256,
        style_dim=128,
        channel_base=6144,
        channel_max=160,
        start_resolution=8,
        extra_from=32,
        embedding=32,
        output="tanh",
    ),
    "cipsclip-small": CipsConfig(
        resolution=64,
        sentence_dim=256,
        style_dim=128,
        channels=96,
        num_layers=8,
        embedding=32,
        output="tanh",
    ),
    "stylegan2clip-small": Stylegan2Config(
        resolution=64,
        sentence_dim=256,
        style_dim=128,
        mapping_layers=4,
        channel_base=3072,
        channel_max=160,
        output="tanh",
    ),
    "vqcgan-small": VqcganConfig(
        resolution=64, sentence_dim=256, word_dim=384, channel_base=4096, channel_max=512
    ),
    # For tests: all parts of each system at small widths.
    "eidgan-tiny": EidganConfig(
        sentence_dim=64,
        word_dim=64,
        num_tokens=4,
        token_dim=16,
        mapping_layers=2,
        channels=(32, 32),
        thickness=2,
        features=8,
        decoder_hidden=(16,),
        refinement=(16, 16),
        attention_dim=16,
        num_heads=2,
        bandwidth=2.0,
    ),
    "creps-tiny": CrepsConfig(
        sentence_dim=64,
        style_dim=16,
        mapping_layers=2,
        channels=(32, 32),
        thickness=2,
        features=8,
        decoder_hidden=(16,),
        refinement=(16, 16),
        bandwidth=2.0,
    ),
    "inrgan-tiny": InrganConfig(
        resolution=32,
        sentence_dim=64,
        style_dim=16,
        channel_base=512,
        channel_max=32,
        rank=4,
        start_resolution=8,
        extra_from=32,
        embedding=8,
    ),
    "cips-tiny": CipsConfig(
        resolution=32,
        sentence_dim=64,
        style_dim=16,
        mapping_layers=2,
        channels=32,
        num_layers=4,
        embedding=16,
        bandwidth=2.0,
    ),
    "stylegan2-tiny": Stylegan2Config(
        resolution=32,
        sentence_dim=64,
        style_dim=16,
        mapping_layers=2,
        channel_base=512,
        channel_max=32,
    ),
    "vqcgan-tiny": VqcganConfig(
        resolution=32,
        sentence_dim=64,
        word_dim=64,
        latent_dim=16,
        channel_base=512,
        channel_max=32,
        quantizer=VectorQuantizerConfig(num_codes=32, code_dim=8, slots=8),
    ),
}
PRESETS: dict[str, GeneratorConfig] = {
    **_SYSTEMS,
    # For tests: a generator with quantised text.
    "quantized-tiny": QuantizedConfig(
        generator=_SYSTEMS["eidgan-tiny"],
        quantizer=VectorQuantizerConfig(num_codes=32, code_dim=8, slots=4),
    ),
}


def preset(name: str) -> GeneratorConfig:
    """The preset `name`. Raises `UserError` that names the nearest preset for an unknown name."""
    if name not in PRESETS:
        raise UserError(f"unknown generator {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name]
