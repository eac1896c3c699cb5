"""The initialisation of DCGAN (Radford et al. 2016, section 4)."""

from __future__ import annotations

from torch import nn


def dcgan_init(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02^2) and batch norm gains from N(1, 0.02^2); set biases to 0.

    For `nn.Module.apply`. Linear layers are included: at DCGAN's learning rate of 0.0002, Adam
    would hardly change weights of unit variance.
    """
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
