"""From what Pillow decodes to 8-bit sRGB: depth, transparency, inverted tones and colour profiles.

Greys of 16 bits are scaled, never clipped. Pillow reads colours of 16 bits as their high bytes.
Profiles (ICC) are converted with LittleCMS in perceptual intent.
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
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0


def colours_and_alpha(picture: Image.Image, data: bytes) -> tuple[Image.Image, Image.Image | None]:
    """(mode L, RGB or CMYK; alpha in mode L or None) of a decoded picture of the file `data`.

    Raises `ValueError` for pixels without a known range.
    """
    if picture.mode.startswith("I"):
        return _from_16_bit(picture)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range; convert them to 8 or 16 bits")
    if picture.mode == "CMYK":
        # Pillow takes every CMYK JPEG for Adobe's, which are stored inverted; others carry no mark
        # of Adobe's.
        foreign = picture.format in ("JPEG", "MPO") and "adobe" not in picture.info
        return (ImageChops.invert(picture) if foreign else picture), None
    if picture.has_transparency_data:
        _scale_transparent_colour(picture, data)
        layer = picture.convert("RGBA")
        return layer.convert("RGB"), layer.getchannel("A")
    return (picture.convert("L") if picture.mode in ("1", "L") else picture.convert("RGB")), None


def _from_16_bit(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(picture).astype(np.int64)  # also from I;16B
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
    # Pillow inverts those of 1 to 8 bits, not of 12 and 16.
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = highest - values
    return Image.fromarray(((values * 255 + highest // 2) // highest).astype(np.uint8)), alpha


def _scale_transparent_colour(picture: Image.Image, data: bytes) -> None:
    """Bring the transparent colour of a PNG from the file's depth to the 8 bits of its pixels."""
    key = picture.info.get("transparency")
    if not data.startswith(b"\x89PNG") or len(data) < 25 or isinstance(key, bytes):
        return
    depth = data[24]
    if picture.mode == "L" and depth in (2, 4) and isinstance(key, int):
        picture.info["transparency"] = key * 255 // (2**depth - 1)
    if picture.mode == "RGB" and depth == 16 and isinstance(key, tuple):
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def over_white(colours: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Mode RGB."""
    if alpha is None:
        return colours.convert("RGB")
    layer = colours.convert("RGB")
    layer.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def to_srgb(colours: Image.Image, profile: bytes | None, icc: str, met: list[str]) -> Image.Image:
    """Mode L, RGB or CMYK -> L or RGB in sRGB. What became of the profile is added to `met`."""
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
                assert moved is not None  # it is only where it works in place
                colours = moved
                met.append(CONVERTED)
    except UserError:
        fits = False
    if not fits:
        met.append(UNFIT)
    return colours


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode that a profile is for, and its way to sRGB.

    None where the profile is sRGB itself, so that such pictures keep every bit.
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
