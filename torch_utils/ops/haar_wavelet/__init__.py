"""Orthonormal 2 x 2 Haar wavelet transform of pictures; sub-bands are stacked as channels."""

from torch_utils.ops.haar_wavelet.reference import haar_wavelet

__all__ = ["haar_wavelet"]
