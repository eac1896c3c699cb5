"""LSUN (Yu et al. 2015): LMDB databases with an encoded picture (WebP or JPEG) under each key.

A database is a folder such as church_outdoor_train_lmdb from the official zip. LSUN has no
captions; the folder's name gives the category and the split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets.conventions.made import caption_of, check_template
from datasets.importing import RawPicture
from datasets.report import Report
from dnnlib.errors import UserError, library_errors
from dnnlib.names import printable

_DATA_FILE = "data.mdb"
# The official test set test_lmdb has no category. `train` is a split, but also a category of LSUN:
# a name that is `train` or `train_lmdb` means the category.
_NAME = re.compile(
    r"(?:(?:(?P<category>.+)_)?(?P<split>train|val|test)|(?P<bare>.+?))(?:_lmdb)?", re.IGNORECASE
)


class Database:
    """One database, open for reading without a lock file; `len` is the number of its pictures.

    split: 'train', 'test', or 'auto': by the folder's name, where val and test are test.
    template: a caption with {} for the category; None for no captions.
    Raises `UserError` if the folder is no LMDB database, if its file is damaged, and if the package
    lmdb is missing.
    """

    def __init__(self, folder: Path, split: str, template: str | None) -> None:
        self.folder = folder
        if not (folder / _DATA_FILE).is_file():
            raise UserError(
                f"--source {printable(folder)}: no {_DATA_FILE} there; unpack the "
                "category's zip and give the folder that ends in _lmdb"
            )
        category, named = category_and_split(folder.resolve().name)
        self.split = named if split == "auto" else split
        if template and "{}" in template and category is None:
            raise UserError(
                f"--source {printable(folder)}: its name says no category for "
                "--caption-template; rename it, such as bedroom_test_lmdb, or give "
                "--no-captions"
            )
        self.captions = (caption_of(template, category or ""),) if template else ()
        self._environment = self._open()

    def __len__(self) -> int:
        with library_errors(self._damaged):
            return self._environment.stat()["entries"]

    def pictures(self, report: Report) -> Iterator[RawPicture]:
        """All pictures in the order of their keys; the keys become ids."""
        with library_errors(self._damaged), self._environment.begin() as transaction:
            for key, value in transaction.cursor():
                name = printable(key.decode("utf-8", "surrogateescape"))
                if not value:
                    report.defect("damaged picture", name, "the value is empty")
                    continue
                yield RawPicture(
                    name,
                    f"{printable(self.folder.name)}: {name}",
                    bytes(value),
                    self.captions,
                    self.split,
                )

    def _open(self) -> Any:
        try:
            import lmdb
        except ImportError:
            raise UserError("reading LSUN needs the package lmdb: pip install lmdb") from None
        with library_errors(self._damaged):
            environment = lmdb.open(
                str(self.folder),
                readonly=True,
                lock=False,
                readahead=False,
                create=False,
                max_readers=1,
            )
            # The library maps the file into memory. Reading past the end of a truncated file would
            # kill the process, so compare its size with the one that its header gives.
            needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            size = (self.folder / _DATA_FILE).stat().st_size
        if size < needed:
            raise self._damaged(f"it has {size} of {needed} bytes")
        return environment

    def _damaged(self, reason: str) -> UserError:
        return UserError(
            f"{printable(self.folder / _DATA_FILE)} cannot be read as an LMDB "
            f"({reason}); unpack it again"
        )


def category_and_split(name: str) -> tuple[str | None, str]:
    """(category, split) of a database: 'bedroom_val_lmdb' -> ('bedroom', 'test').

    The category of 'test_lmdb' is None. The split of a name without one, such as 'cat', is train.
    """
    match = _NAME.fullmatch(name)
    assert match is not None  # the pattern matches any name
    named = (match["split"] or "train").lower()
    category = match["category"] or match["bare"] or (match["split"] if named == "train" else None)
    return category, "train" if named == "train" else "test"


def open_databases(
    folders: Sequence[Path], split: str, template: str | None, no_captions: bool, report: Report
) -> list[Database]:
    """Open the databases and record the origin of the captions in the report.

    split, template: as in `Database`. Raises `UserError` unless exactly one of a template and
    `no_captions` is given.
    """
    if (template is None) != no_captions:
        raise UserError(
            "LSUN has no captions; give either --no-captions or --caption-template "
            "'a photo of a {}'"
        )
    if template is not None:
        check_template(template)
    report.captions_from = f"--caption-template {template!r}" if template else "--no-captions"
    return [Database(folder, split, template) for folder in folders]


def lsun_pictures(databases: Sequence[Database], report: Report) -> Iterator[RawPicture]:
    """The pictures of several databases, one after the other."""
    for database in databases:
        yield from database.pictures(report)
