"""The report of an import: what it left out, repaired or found odd, counted by kind.

The report is printed at the end of an import and kept in `dataset.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.statistics import table_lines
from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.text import MAX_CAPTION, TextError, decode_text, mend_text, read_text, split_lines

_MOST_LINES = 20
TOO_LONG = f"caption of more than {MAX_CAPTION} characters, left out"


@dataclass
class Report:
    """Collects the report while pictures are read.

    strict: raise a `UserError` at the first defect.
    counts: number of events by kind, of all methods below.
    skipped: {"file": ..., "reason": ...} of each file or caption that was left out.
    captions_from, split_rule: the origin of captions and splits, in words.
    statistics: the table of `datasets.statistics` of the imported pictures; empty until the end.
    """

    strict: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    skipped: list[dict[str, str]] = field(default_factory=list)
    captions_from: str = ""
    split_rule: str = ""
    statistics: dict[str, Any] = field(default_factory=dict)

    def defect(self, kind: str, file: str, reason: object = "") -> None:
        """Add a picture or caption that is left out to `skipped`, and count it under `kind`.

        reason: why, if that says more than `kind`. Raises `UserError` if `strict`.
        """
        self.skipped.append(
            {"file": printable(file), "reason": printable(" ".join(str(reason or kind).split()))}
        )
        self.met(kind, file, reason)

    def met(self, kind: str, file: str, reason: object = "") -> None:
        """Count a file that is odd but used, such as a greyscale picture.

        Raises `UserError` if `strict`.
        """
        self.note(kind)
        if self.strict:
            detail = f" ({' '.join(str(reason).split())})" if reason and str(reason) != kind else ""
            raise UserError(
                f"{printable(file)}: {kind}{detail}; leave out --strict to count such "
                "files and go on"
            )

    def left_out(self, kind: str, file: str) -> None:
        """Add a file to `skipped` and count it, without a defect: for example a linked folder."""
        self.skipped.append({"file": printable(file), "reason": kind})
        self.note(kind)

    def note(self, kind: str, count: int = 1) -> None:
        """Count events that are no defects, such as hidden files or converted colour profiles."""
        if count:
            self.counts[printable(kind)] += count

    def decode(self, data: bytes) -> str:
        """`decode_text` that counts its repairs. Raises `TextError`."""
        text, mended = decode_text(data)
        self.mended(mended)
        return text

    def clean(self, texts: Iterable[Any]) -> tuple[str, ...]:
        """Captions with broken characters repaired and all white space folded to single spaces.

        Empty captions, captions of more than `MAX_CAPTION` characters and elements that are not
        texts are left out.
        """
        cleaned = []
        for text in texts:
            if isinstance(text, str):
                text, mended = mend_text(text)
                self.mended(mended)
                cleaned.append(" ".join(text.split()))
        self.note(TOO_LONG, sum(len(text) > MAX_CAPTION for text in cleaned))
        return tuple(text for text in cleaned if 0 < len(text) <= MAX_CAPTION)

    def caption_lines(self, path: Path, name: str) -> tuple[str, ...] | None:
        """The captions of a text file, one a line. A file that is no text is a defect: None."""
        try:
            text, mended = read_text(path)
        except TextError as error:
            self.defect("caption file that cannot be read", name, error)
            return None
        self.mended(mended)
        return self.clean(split_lines(text))

    def mended(self, kinds: Iterable[str]) -> None:
        """Count repairs of `dnnlib.text`."""
        for kind in kinds:
            self.note(f"text mended: {kind}")

    def lines(self, written: bool) -> Iterator[str]:
        """The report for the terminal: the first skipped files, the counts by kind and the total.

        written: whether `dataset.json` was written, which lists all skipped files.
        """
        if self.captions_from:
            yield f"Captions: {self.captions_from}"
        if self.split_rule:
            yield f"Splits: {self.split_rule}"
        for entry in self.skipped[:_MOST_LINES]:
            yield f"Skipped {entry['file']}: {entry['reason']}"
        for kind, count in sorted(self.counts.items()):
            yield f"{count} x {kind}"
        if self.skipped:
            pointer = ", listed under 'skipped' in dataset.json" if written else ""
            yield f"Skipped {len(self.skipped)} files or captions in all{pointer}."
        if written and self.statistics:
            yield from table_lines(self.statistics)
