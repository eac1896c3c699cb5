"""Text of every encoding is decoded to the right characters, and repairs are reported."""

from __future__ import annotations

import json

import pytest

from dnnlib.errors import UserError
from dnnlib.text import (
    CONTROL,
    HALF,
    LOST,
    LOST_SPACES,
    WIDE,
    WINDOWS,
    TextError,
    decode_text,
    mend_text,
    parse_json,
    read_text,
    split_lines,
)

PLAIN = "a caf\u00e9 \u2026 and a \U0001f600\r\nsecond line\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_taken_as_it_is(encoding):
    assert decode_text(PLAIN.encode(encoding)) == (PLAIN, ()) and decode_text(b"") == ("", ())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("rest", [b"", b"\0"])
def test_wide_encodings_with_and_without_a_mark(encoding, mark, rest):
    data = (("\ufeff" if mark else "") + PLAIN).encode(encoding)
    assert decode_text(data + (rest if "16" in encoding else b"")) == (PLAIN, (WIDE,))


def test_wide_text_of_other_scripts_needs_its_mark():
    assert decode_text("\ufeff\u4e00\u4e8c\u4e09 \u56db".encode("utf-16-le")) == (
        "\u4e00\u4e8c\u4e09 \u56db",
        (WIDE,),
    )


@pytest.mark.parametrize(
    "data, text, mended",
    [
        (b"this bird\x92s wing \x85 is red", "this bird\u2019s wing \u2026 is red", (WINDOWS,)),
        # both encodings in one file
        ("caf\u00e9 ".encode() + b"na\xefve", "caf\u00e9 na\u00efve", (WINDOWS,)),
        (b"cut at the end: \xe2\x80", "cut at the end: \u00e2\u20ac", (WINDOWS,)),
        ("a\ufffd\ufffdred\ufffd\ufffdbird".encode(), "a red bird", (LOST_SPACES,)),
        ("bird\ufffds".encode(), "bird\ufffds", (LOST,)),
        (b"\xed\xa0\xbd\xed\xb8\x80 joined", "\U0001f600 joined", ()),
        ("\ud83d\udc8d ring".encode("utf-8", "surrogatepass"), "\U0001f48d ring", ()),
        (b"low half \xed\xb2\x8d", "low half ", (HALF,)),
        (b"half \xed\xa0\xbd here", "half  here", (HALF,)),
        (b"nul\0 bell\x07 tab\t feed\x0cend", "nul bell tab\t feed end", (CONTROL,)),
        ("two\u2028lines \ufeff".encode(), "two lines ", (CONTROL,)),
        ("bird\u0092s \u0085 \u0081".encode(), "bird\u2019s \u2026 ", (WINDOWS, CONTROL)),
    ],
)
def test_single_bytes_and_characters(data, text, mended):
    assert decode_text(data) == (text, mended)
    text.encode()


@pytest.mark.parametrize(
    "data",
    [
        "\u043f\u0440\u0438\u0432\u0435\u0442".encode("cp1251"),
        "\u4f60\u597d\u4e16\u754c".encode("gbk"),
        b"\x89PNG\r\n\x1a\n" + bytes(range(32)) * 4,
    ],
)
def test_unknown_encodings_are_refused(data):
    with pytest.raises(TextError):
        decode_text(data)


def test_strings_out_of_json():
    assert mend_text(json.loads('"a smile \\ud83d"')) == ("a smile ", (HALF,))
    assert mend_text("\ud83d\ude00\u200d\U0001f525") == ("\U0001f600\u200d\U0001f525", ())
    assert mend_text("plain \u00e9") == ("plain \u00e9", ())


def test_lines_end_at_line_ends_alone():
    assert split_lines("a\u2026b\x85c\nd\r\ne\rf\u2028g") == ["a\u2026b\x85c", "d", "e", "f\u2028g"]


def test_json_of_any_encoding(tmp_path):
    mended: list[str] = []
    assert parse_json('{"a": 1}'.encode("utf-16"), "x", mended) == {"a": 1} and mended == [WIDE]
    assert parse_json(b'\xef\xbb\xbf{"a": "\xe9"}', "x") == {"a": "\u00e9"}
    for data in (b"", b"{", b"[" * 200_000, b"[" + b"9" * 5000 + b"]", b"\x89PNG" + bytes(100)):
        with pytest.raises(UserError, match="^x.json is not valid JSON") as caught:
            parse_json(data, "x.json")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    with pytest.raises(TextError, match="^No such file"):
        read_text(tmp_path / "none.txt")
