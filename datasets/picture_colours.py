"""Convert the pixels that Pillow decodes to 8-bit sRGB.

This covers bit depth, transparency, inverted tones and colour profiles. Grey pixels of 16 bits are
scaled to 8 bits and never clipped; of colours of 16 bits, Pillow reads the high bytes. Colour
profiles (ICC) are converted by LittleCMS with perceptual intent.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageChops, ImageCms

from dnnlib.errors import UserError, library_errors

CONVERTED = "colour profile converted to sRGB"
IGNORED = "colour profile ignored"
UNFIT = "colour profile that is damaged or of another kind of picture, ignored"
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
# Formats whose pixels of 32 bits may leave the fourth byte at zero, without a meaning.
_SPARE_BYTE = frozenset({"TGA", "BMP", "DIB"})
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0


def colours_and_alpha(picture: Image.Image, data: bytes) -> tuple[Image.Image, Image.Image | None]:
    """(colours in mode L, RGB or CMYK; alpha in mode L, or None) of a decoded picture.

    data: the bytes of its file. Raises `ValueError` for pixel formats without a known range.
    """
    if picture.mode.startswith("I"):
        return _from_16_bit(picture)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range; convert them to 8 or 16 bits")
    if picture.mode == "CMYK":
        # Adobe stores the colours of a CMYK JPEG inverted and marks the file. Pillow inverts every
        # CMYK JPEG, so invert the files without Adobe's mark back.
        unmarked = picture.format in ("JPEG", "MPO") and "adobe" not in picture.info
        return (ImageChops.invert(picture) if unmarked else picture), None
    if picture.has_transparency_data:
        _scale_transparent_colour(picture, data)
        layer = picture.convert("RGBA")
        # Greys stay greys, because a grey colour profile fits no other mode.
        grey = picture.mode in GREY_MODES
        colours = layer.getchannel("R") if grey else layer.convert("RGB")
        alpha = layer.getchannel("A")
        unused = picture.format in _SPARE_BYTE and alpha.getextrema() == (0, 0)
        return colours, None if unused else alpha
    return (picture.convert("L") if picture.mode in ("1", "L") else picture.convert("RGB")), None


def _from_16_bit(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """(colours in mode L, alpha in mode L or None) of a grey picture of 9 to 16 bits."""
    values = np.asarray(picture).astype(np.int64)  # also for big-endian pixels, I;16B
    tags = getattr(picture, "tag_v2", {})
    highest = 65535
    if picture.mode != "I":
        highest = 2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    if values.min() < 0 or values.max() > highest:
        raise ValueError("32-bit pixels have no known range; convert them to 8 or 16 bits")
    key = picture.info.get("transparency")
    alpha = None
    if isinstance(key, int):
        alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    # Pillow inverts pictures of 1 to 8 bits in which white is zero, but not those of 12 and 16.
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = highest - values
    return Image.fromarray(((values * 255 + highest // 2) // highest).astype(np.uint8)), alpha


def _scale_transparent_colour(picture: Image.Image, data: bytes) -> None:
    """Convert the transparent colour of a PNG from the file's bit depth to 8 bits, in place."""
    key = picture.info.get("transparency")
    if not data.startswith(b"\x89PNG") or len(data) < 25 or isinstance(key, bytes):
        return
    depth = data[24]
    if picture.mode == "L" and depth in (2, 4) and isinstance(key, int):
        picture.info["transparency"] = key * 255 // (2**depth - 1)
    if picture.mode == "RGB" and depth == 16 and isinstance(key, tuple):
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def over_white(colours: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """The picture in mode RGB over a white background. alpha: mode L; None if it is opaque."""
    if alpha is None:
        return colours.convert("RGB")
    layer = colours.convert("RGB")
    layer.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def to_srgb(colours: Image.Image, profile: bytes | None, icc: str, met: list[str]) -> Image.Image:
    """Convert a picture in mode L, RGB or CMYK to sRGB by its colour profile.

    icc: 'convert' or 'ignore'. met: receives a remark on how the profile was treated.
    Without a usable profile, the picture is returned unchanged.
    """
    if not profile:
        return colours
    if icc == "ignore":
        met.append(IGNORED)
        return colours
    try:
        with library_errors(UserError):
            mode, transform = _transform(bytes(profile))
            fits = mode == colours.mode or mode == "RGB" and colours.mode == "L"
            if transform is not None and fits:
                moved = ImageCms.applyTransform(colours.convert(mode), transform)
                assert moved is not None  # LittleCMS returns None only if it works in place
                colours = moved
                met.append(CONVERTED)
    except UserError:
        fits = False
    if not fits:
        met.append(UNFIT)
    return colours


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode of the pictures that a profile describes, and the transform to sRGB.

    The transform is None if the profile is sRGB, so that such pictures keep their exact pixels.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode != "RGB":
        return mode, transform
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(cube), transform)).astype(int) - cube
    return mode, None if abs(moved).max() <= 1 else transform
