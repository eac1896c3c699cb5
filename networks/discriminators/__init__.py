"""The table of discriminators."""

from __future__ import annotations

from networks.discriminators.stylegan2 import Stylegan2DiscriminatorConfig
from networks.discriminators.wavelet import WaveletDiscriminatorConfig

DiscriminatorConfig = WaveletDiscriminatorConfig | Stylegan2DiscriminatorConfig

DISCRIMINATORS = {config.kind: config for config in (WaveletDiscriminatorConfig, Stylegan2DiscriminatorConfig)}
