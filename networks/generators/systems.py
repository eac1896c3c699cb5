"""The union of the configs of all systems, which are distinguished by their `kind`."""

from networks.generators.cips import CipsConfig
from networks.generators.creps import CrepsConfig
from networks.generators.eidgan import EidganConfig
from networks.generators.inrgan import InrganConfig
from networks.generators.stylegan2 import Stylegan2Config
from networks.generators.vqcgan import VqcganConfig

SystemConfig = (
    EidganConfig | CrepsConfig | InrganConfig | CipsConfig | Stylegan2Config | VqcganConfig
)
