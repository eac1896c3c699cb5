"""What an import left out, met and mended, counted by kind; printed at its end and kept in
`dataset.json`.
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
from dnnlib.text import TextError, decode_text, mend_text, read_text, split_lines

_MOST_LINES = 20


@dataclass
class Report:
    """skipped: what was left out, by name; counts: everything, by kind. Both grow while pictures
    are read.

    `strict` turns the first defect into a `UserError`. captions_from, split_rule: in words, where a
    folder's captions and splits were found. statistics: `datasets.statistics` of what was imported,
    empty until the end.
    """

    strict: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    skipped: list[dict[str, str]] = field(default_factory=list)
    captions_from: str = ""
    split_rule: str = ""
    statistics: dict[str, Any] = field(default_factory=dict)

    def defect(self, kind: str, file: str, reason: object = "") -> None:
        """Leave out a picture or a caption: named in `skipped`, counted under `kind`."""
        self.skipped.append(
            {"file": printable(file), "reason": printable(" ".join(str(reason or kind).split()))}
        )
        self.met(kind, file, reason)

    def met(self, kind: str, file: str, reason: object = "") -> None:
        """Count something that is odd but usable, such as a greyscale picture."""
        self.note(kind)
        if self.strict:
            detail = f" ({' '.join(str(reason).split())})" if reason and str(reason) != kind else ""
            raise UserError(
                f"{printable(file)}: {kind}{detail}; leave out --strict to count such "
                "files and go on"
            )

    def left_out(self, kind: str, file: str) -> None:
        """Name and count what is no defect but may be missed, such as a linked folder."""
        self.skipped.append({"file": printable(file), "reason": kind})
        self.note(kind)

    def note(self, kind: str, count: int = 1) -> None:
        """Count what is no defect, such as a hidden file or a colour profile that was converted."""
        if count:
            self.counts[printable(kind)] += count

    def decode(self, data: bytes) -> str:
        """`decode_text`, with what was mended counted. Raises `TextError`."""
        text, mended = decode_text(data)
        self.mended(mended)
        return text

    def clean(self, texts: Iterable[Any]) -> tuple[str, ...]:
        """Captions: mended, stripped, with newlines and other white space folded to single spaces.

        Empty ones and what is no text are left out.
        """
        cleaned = []
        for text in texts:
            if isinstance(text, str):
                text, mended = mend_text(text)
                self.mended(mended)
                cleaned.append(" ".join(text.split()))
        return tuple(text for text in cleaned if text)

    def caption_lines(self, path: Path, name: str) -> tuple[str, ...] | None:
        """The captions of a text file, one a line; None, and a defect, where it is no text."""
        try:
            text, mended = read_text(path)
        except TextError as error:
            self.defect("caption file that cannot be read", name, error)
            return None
        self.mended(mended)
        return self.clean(split_lines(text))

    def mended(self, kinds: Iterable[str]) -> None:
        """Count what `dnnlib.text` mended."""
        for kind in kinds:
            self.note(f"text mended: {kind}")

    def lines(self, written: bool) -> Iterator[str]:
        """For the terminal: the first files left out with their reasons, all kinds with their
        counts, how many in all.

        written: whether there is a `dataset.json` that lists them.
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
            where = ", listed under 'skipped' in dataset.json" if written else ""
            yield f"Skipped {len(self.skipped)} files or captions in all{where}."
        if written and self.statistics:
            yield from table_lines(self.statistics)
