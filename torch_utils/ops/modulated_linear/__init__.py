"""Style-modulated linear layer with the spectral modulation of EIDGAN (eq. 6) folded into its weights."""

from torch_utils.ops.modulated_linear.reference import (
    modulated_linear, modulated_linear_literal, modulated_weights, spectral_fold,
)

__all__ = ["modulated_linear", "modulated_linear_literal", "modulated_weights", "spectral_fold"]
