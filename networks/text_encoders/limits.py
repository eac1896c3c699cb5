"""Captions that are longer than what a text encoder reads: found by tokens, told once a command."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from networks.interfaces import TextEncoder

_SHOWN = 60  # characters of a caption


def cut_captions(encoder: TextEncoder | None, captions: Iterable[str]) -> tuple[list[str], int]:
    """Those captions, each once, of which `encoder` ignores the end; and how many tokens it reads.

    ([], 0) for encoders without a limit, and for none.
    """
    find = getattr(encoder, "cut", None)
    return ([], 0) if find is None else find(list(dict.fromkeys(captions)))


def told_cut(cut: Collection[str], max_tokens: int) -> str:
    """One line about captions that are cut: the first one and the count of the others."""
    first = next(iter(cut))
    shown = first if len(first) <= _SHOWN else f"{first[:_SHOWN]} ..."
    others = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
    return (
        f"Warning: longer than the {max_tokens} tokens that the text encoder reads, so the end "
        f"is ignored: {shown!r}{others}"
    )


def cut_line(encoder: TextEncoder | None, captions: Iterable[str]) -> str | None:
    """`told_cut` of these captions; None where all are read to their end."""
    cut, max_tokens = cut_captions(encoder, captions)
    return told_cut(cut, max_tokens) if cut else None
