"""Thick bi-line composition (EIDGAN eq. 4; CREPS) and the per-pixel decoder between two levels."""

from torch_utils.ops.biline.reference import biline_compose, biline_decode, pixel_mlp

__all__ = ["biline_compose", "biline_decode", "pixel_mlp"]
