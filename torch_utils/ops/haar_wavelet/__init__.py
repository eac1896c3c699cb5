"""Orthonormal 2 x 2 Haar wavelet transform of pictures, channels stacked by sub-band."""

from torch_utils.ops.haar_wavelet.reference import haar_wavelet

__all__ = ["haar_wavelet"]
