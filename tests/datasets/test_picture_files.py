"""Pictures of every kind are decoded to the right 8-bit RGB; all faults are one kind of error."""

import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from datasets.picture_colours import CONVERTED, IGNORED, UNFIT
from datasets.picture_files import (
    METADATA_UNREADABLE,
    PictureError,
    is_picture_name,
    load_rgb,
    load_stored,
    picture_endings,
)
from dnnlib.errors import UserError
from tests.datasets.picture_bytes import (
    BAD_FRACTION,
    BOMB,
    SRGB,
    SWAPPED,
    bitmap_with_alpha,
    grey_profile,
    grey_tiff,
    png,
    png_chunk,
    saved,
)

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")


def ramp(width=16, height=8):
    """A picture in which red increases to the right and green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 50)], -1).astype(np.uint8))


def pixels(picture):
    return np.asarray(picture).astype(int)


def rgb(source, **options):
    return load_rgb(source, **options).picture


def greys(data):
    values = pixels(rgb(data, name="x"))
    assert (values == values[..., :1]).all()
    return values[..., 0].tolist()


@pytest.mark.parametrize(
    "tag, turned",
    [
        (1, lambda a: a),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
        (2, lambda a: a[:, ::-1]),
    ],
)
def test_exif_rotation(tmp_path, tag, turned):
    exif = Image.Exif()
    exif[0x0112] = tag
    ramp().save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(rgb(tmp_path / "a.png")), turned(pixels(ramp())))


def test_greyscale_and_one_bit(tmp_path):
    ramp().convert("L").save(tmp_path / "a.png")
    assert np.array_equal(
        pixels(rgb(tmp_path / "a.png")), np.repeat(pixels(ramp().convert("L"))[..., None], 3, 2)
    )
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "b.png")
    assert np.array_equal(pixels(rgb(tmp_path / "b.png"))[..., 1], 255 * np.eye(4))


def test_alpha_is_laid_over_white(tmp_path):
    picture = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.save(tmp_path / "a.png")
    assert pixels(rgb(tmp_path / "a.png")).tolist() == [[[255, 255, 255], [200, 0, 0]]]
    Image.new("LA", (1, 1), (0, 128)).save(tmp_path / "b.png")
    assert abs(pixels(rgb(tmp_path / "b.png")) - 127).max() <= 1


@pytest.mark.parametrize("kind", ["TGA", "BMP", "DIB"])
def test_an_unused_fourth_byte_is_no_transparency(kind):
    def read(*alphas):
        picture = Image.new("RGBA", (2, 1), (200, 30, 60))
        picture.putalpha(Image.frombytes("L", (2, 1), bytes(alphas)))
        data = saved(picture, kind) if kind == "TGA" else bitmap_with_alpha(picture, kind)
        return pixels(rgb(data)).tolist()

    assert read(0, 0) == [[[200, 30, 60], [200, 30, 60]]]
    assert read(0, 255) == [[[255, 255, 255], [200, 30, 60]]]


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png")
    assert pixels(rgb(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    picture.save(tmp_path / "b.png", transparency=0)
    assert pixels(rgb(tmp_path / "b.png")).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert abs(pixels(rgb(tmp_path / "a.jpg")) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 25700, 65535, 40000]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert pixels(rgb(tmp_path / f"a.{suffix}"))[0, :, 0].tolist() == [0, 1, 100, 255, 156]


def test_float_pixels_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="no known range"):
        rgb(tmp_path / "a.tif")


def test_transparent_greys_of_16_bits_are_white():
    data = png([[0, 257, 25700, 65535]], 16, 0, struct.pack(">H", 25700))
    assert greys(data) == [[0, 1, 255, 255]]


@pytest.mark.parametrize(
    "depth, values, key, right",
    [
        (4, [[0, 5, 15, 3]], 5, [[0, 255, 255, 51]]),
        (2, [[0, 1, 3, 2]], 2, [[0, 85, 255, 255]]),
        (1, [[0, 1]], 0, [[255, 255]]),
        (8, [[0, 5, 255, 3]], 3, [[0, 5, 255, 255]]),
    ],
)
def test_the_transparent_grey_counts_in_the_files_own_depth(depth, values, key, right):
    assert greys(png(values, depth, 0, struct.pack(">H", key))) == right


def test_transparent_colour_of_16_bits():
    data = png(
        [[[65535, 0, 0], [25700, 25700, 25700]]], 16, 2, struct.pack(">HHH", 25700, 25700, 25700)
    )
    assert pixels(rgb(data, name="x")).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    alpha = png([[[65535, 0, 0, 65535], [25700, 0, 0, 0]]], 16, 6)
    assert pixels(rgb(alpha, name="x")).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(
    "kind, depth, values, plain, inverted",
    [
        ("<u2", 16, [[0, 25700, 65535]], [[0, 100, 255]], [[255, 155, 0]]),
        ("u1", 8, [[0, 100, 255]], [[0, 100, 255]], [[255, 155, 0]]),
    ],
)
def test_white_may_be_zero(kind, depth, values, plain, inverted):
    values = np.array(values, kind)
    assert (
        greys(grey_tiff(values, 1, depth)) == plain
        and greys(grey_tiff(values, 0, depth)) == inverted
    )


def test_greys_of_12_bits_fill_the_range():
    packed = np.array([[0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00]], np.uint8)  # 0, 4095, 2048, 0
    data = grey_tiff(packed, 1, 12).replace(
        struct.pack("<HHII", 256, 4, 1, 6), struct.pack("<HHII", 256, 4, 1, 4)
    )
    assert greys(data) == [[0, 255, 128, 0]]


def test_adobes_cmyk_is_inverted_and_others_are_not():
    adobe = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    start = adobe.index(b"\xff\xee")
    other = adobe[:start] + adobe[start + 2 + int.from_bytes(adobe[start + 2 : start + 4], "big") :]
    assert abs(pixels(rgb(adobe, name="x")) - [255, 0, 0]).max() <= 4
    # it stores full cyan and black
    assert abs(pixels(rgb(other, name="x")) - [0, 0, 0]).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif, turned, met",
    [
        (BAD_FRACTION, True, ()),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", False, ()),
        (b"Exif\0\0MM", False, (METADATA_UNREADABLE,)),
        (b"Exif\0\0" + bytes(40), False, (METADATA_UNREADABLE,)),
    ],
)
def test_bad_exif_loses_no_picture(kind, exif, turned, met):
    loaded = load_rgb(saved(ramp(), kind, exif=exif), "phone")
    assert loaded.picture.size == ((8, 16) if turned else (16, 8))
    assert loaded.met == met


def test_unreadable_exif_is_counted_and_a_turned_avif_is_kept():
    loaded = load_rgb(saved(ramp(), "JPEG", exif=b"Exif\0\0\xc3I]\0\x08\0\0\0" + bytes(20)), "x")
    assert loaded.met == (METADATA_UNREADABLE,) and loaded.picture.size == (16, 8)
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    good = saved(ramp(), "AVIF", exif=exif.tobytes())
    bad = good.replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")  # replace the fraction by a text
    assert bad != good and load_rgb(good, "x").met == ()
    loaded = load_rgb(bad, "x")
    assert loaded.met == (METADATA_UNREADABLE,) and loaded.picture.size == (8, 16)


def test_tiffs_are_turned_once_and_by_their_own_tags():
    values = np.array([[0, 40, 80], [120, 160, 200]], np.uint8)
    assert greys(grey_tiff(values, 1, 8, [(274, 3, 6)])) == [[120, 0], [160, 40], [200, 80]]
    # an offset beyond the EXIF data
    assert greys(grey_tiff(values, 1, 8, [(34665, 4, 99_999_999)])) == values.tolist()


@pytest.mark.parametrize(
    "extra",
    [
        png_chunk(b"zTXt", b"k\0\0" + b"no zlib"),
        png_chunk(b"iCCP", b"p\0\1x"),
        b"\0\0\0\1tEXtx\0\0\0\0",
    ],
)
def test_what_a_png_says_of_itself_loses_no_pixel(extra):
    loaded = load_rgb(png([[0, 100, 255]], 8, 0, extra=extra), "x")
    assert pixels(loaded.picture)[0, :, 0].tolist() == [0, 100, 255] and loaded.grey


def test_profiles_are_converted_to_srgb_or_ignored():
    picture = Image.new("RGB", (2, 2), (200, 30, 60))
    swapped = saved(picture, "PNG", icc_profile=SWAPPED)
    loaded = load_rgb(swapped, "x")
    assert abs(pixels(loaded.picture) - [30, 200, 60]).max() <= 1 and loaded.met == (CONVERTED,)
    ignored = load_rgb(swapped, "x", icc="ignore")
    assert pixels(ignored.picture).tolist() == pixels(picture).tolist() and ignored.met == (
        IGNORED,
    )
    plain = load_rgb(saved(picture, "PNG", icc_profile=SRGB), "x")
    assert pixels(plain.picture).tolist() == pixels(picture).tolist() and plain.met == ()


def test_profiles_and_transparency_greys_and_palettes():
    see_through = Image.new("RGBA", (2, 1), (200, 30, 60, 255))
    see_through.putpixel((0, 0), (200, 30, 60, 0))
    values = pixels(rgb(saved(see_through, "PNG", icc_profile=SWAPPED), name="x"))
    assert values[0, 0].tolist() == [255, 255, 255] and abs(values[0, 1] - [30, 200, 60]).max() <= 1
    palette = Image.new("RGB", (2, 1), (200, 30, 60)).quantize(2)
    assert (
        abs(pixels(rgb(saved(palette, "PNG", icc_profile=SWAPPED), name="x")) - [30, 200, 60]).max()
        <= 2
    )
    # an RGB profile in a grey picture
    grey = load_rgb(saved(Image.new("L", (1, 1), 100), "PNG", icc_profile=SWAPPED), "x")
    assert grey.met == (CONVERTED,) and grey.grey and abs(pixels(grey.picture) - 100).max() <= 1


@pytest.mark.parametrize("mode, options", [("L", {}), ("L", {"transparency": 3}), ("LA", {})])
def test_grey_profiles_and_transparency(mode, options):
    linear = grey_profile(1.0)
    picture = Image.new("L", (2, 1), 100)
    if mode == "LA":
        picture.putalpha(255)
    loaded = load_rgb(saved(picture, "PNG", icc_profile=linear, **options), "x")
    assert loaded.met == (CONVERTED,) and loaded.grey
    # sRGB's curve of the linear value 100 / 255
    right = 255 * (1.055 * (100 / 255) ** (1 / 2.4) - 0.055)
    assert abs(pixels(loaded.picture) - right).max() <= 1


@pytest.mark.parametrize("profile", [b"nonsense", SRGB[:200], SRGB[:60] + b"\0" * 500])
def test_damaged_profiles_are_ignored_and_counted(profile):
    picture = Image.new("RGB", (2, 2), (200, 30, 60))
    loaded = load_rgb(saved(picture, "PNG", icc_profile=profile), "x")
    assert pixels(loaded.picture).tolist() == pixels(picture).tolist() and loaded.met == (UNFIT,)


def test_a_profile_of_another_kind_of_picture_is_ignored_and_counted():
    cmyk = load_rgb(
        saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", icc_profile=SRGB, quality=95),
        "x",
    )
    assert cmyk.met == (UNFIT,) and abs(pixels(cmyk.picture) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize(
    "kind, ending",
    [
        ("JPEG", ".jfif"),
        ("JPEG", ".jpe"),
        ("TGA", ".tga"),
        ("GIF", ".gif"),
        ("AVIF", ".avif"),
        ("JPEG2000", ".jp2"),
        ("PCX", ".pcx"),
        ("ICO", ".ico"),
        ("PPM", ".pnm"),
        ("SGI", ".sgi"),
        ("QOI", ".qoi"),
        ("DDS", ".dds"),
        ("BMP", ".dib"),
        ("WEBP", ".webp"),
    ],
)
def test_every_format_that_pillow_opens(tmp_path, kind, ending):
    picture = Image.new("RGB", (16, 16), (200, 30, 60))
    picture.save(tmp_path / f"x{ending}", kind)
    assert is_picture_name(f"X{ending.upper()}")
    assert abs(pixels(rgb(tmp_path / f"x{ending}")) - [200, 30, 60]).max() <= 8


def test_pages_films_and_measurements_are_left_out(tmp_path):
    assert (
        not {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".wmf", ".txt", ".zip"}
        & picture_endings().keys()
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "x.eps")
    # PostScript is never interpreted
    with pytest.raises(PictureError, match="cannot identify"):
        load_rgb(tmp_path / "x.eps")


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "the file is empty"),
        (b"text", "cannot identify image file"),
        (saved(ramp(), "PNG")[:60], "."),
        (saved(ramp(), "JPEG")[:300], "."),
        (b"GIF89a nonsense", "."),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(8), "."),
        (BOMB, "exceeds limit"),
        (grey_tiff(np.full((1, 2), -5, "<i4"), 1, 32, [(339, 3, 2)]), "no known range"),
    ],
)
def test_whatever_is_wrong_has_one_form(tmp_path, data, words):
    (tmp_path / "x.png").write_bytes(data)
    for source, name in ((data, "shard/x.png"), (tmp_path / "x.png", None)):
        with pytest.raises(PictureError, match=words) as caught:
            load_rgb(source, name)
        assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)
        assert "x.png is not a readable picture" in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    if words != "no known range":
        with pytest.raises(PictureError):
            load_stored(data, "x.png")


def test_what_the_system_refuses_is_the_files_fault_too(tmp_path):
    for path in (tmp_path / "none.png", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(PictureError, match="No such file|Is a directory|File name too long"):
            load_rgb(path)


def test_mutated_pictures_never_raise_anything_else():
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    kinds = [
        saved(noisy, kind, **options)
        for kind, options in (
            ("PNG", {"icc_profile": SWAPPED, "exif": BAD_FRACTION}),
            ("JPEG", {"exif": BAD_FRACTION, "icc_profile": SRGB}),
            ("GIF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("WEBP", {"exif": BAD_FRACTION}),
            ("BMP", {}),
            ("TGA", {}),
        )
    ]
    read = 0
    for number in range(350):
        data = bytearray(kinds[number % len(kinds)])
        for _ in range(rng.integers(1, 9)):
            data[rng.integers(0, min(len(data), 400))] = rng.integers(0, 256)
        try:
            load_rgb(bytes(data[: rng.integers(1, len(data))] if number % 5 == 0 else data), "x")
            read += 1
        except PictureError:
            pass
    assert 50 < read < 320
