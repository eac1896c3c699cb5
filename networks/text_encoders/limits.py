"""Captions with more tokens than a text encoder reads: how commands find them and warn of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from networks.interfaces import TextEncoder

_SHOWN = 60  # characters of a caption that a warning shows


def cut_captions(encoder: TextEncoder | None, captions: Iterable[str]) -> tuple[list[str], int]:
    """(distinct captions that are too long for `encoder`, number of tokens that it reads).

    ([], 0) for an encoder without a limit, and where `encoder` is None.
    """
    find = getattr(encoder, "cut", None)
    return ([], 0) if find is None else find(list(dict.fromkeys(captions)))


def told_cut(cut: Collection[str], max_tokens: int) -> str:
    """One line of warning about captions that are too long: the first one and a count of the rest.

    cut, max_tokens: as `cut_captions` returns them, with at least one caption.
    """
    first = next(iter(cut))
    shown = first if len(first) <= _SHOWN else f"{first[:_SHOWN]} ..."
    others = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
    return (
        f"Warning: longer than the {max_tokens} tokens that the text encoder reads, so the end "
        f"is ignored: {shown!r}{others}"
    )


def cut_line(encoder: TextEncoder | None, captions: Iterable[str]) -> str | None:
    """The warning of `told_cut` for these captions; None where the encoder reads all of them."""
    cut, max_tokens = cut_captions(encoder, captions)
    return told_cut(cut, max_tokens) if cut else None
