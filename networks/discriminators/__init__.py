"""The table of discriminators, by the `kind` of their configs."""

from __future__ import annotations

from typing import get_args

from networks.discriminators.dcgan import DcganDiscriminatorConfig
from networks.discriminators.frozen_features import FrozenFeaturesConfig
from networks.discriminators.stylegan2 import Stylegan2DiscriminatorConfig
from networks.discriminators.wavelet import WaveletDiscriminatorConfig

DiscriminatorConfig = (
    WaveletDiscriminatorConfig
    | Stylegan2DiscriminatorConfig
    | DcganDiscriminatorConfig
    | FrozenFeaturesConfig
)

DISCRIMINATORS = {config.kind: config for config in get_args(DiscriminatorConfig)}
