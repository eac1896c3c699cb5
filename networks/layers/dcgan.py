"""How DCGAN starts its layers (Radford et al. 2016, section 4)."""

from __future__ import annotations

from torch import nn


def dcgan_init(module: nn.Module) -> None:
    """Weights N(0, 0.02^2); gains of a batch norm N(1, 0.02^2); biases 0. For `nn.Module.apply`.

    Linear layers too: beside them, Adam at DCGAN's 0.0002 would hardly move weights of unit variance.
    """
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
