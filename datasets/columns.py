"""Columns of tables by their usual names, and the optional package pyarrow that reads some tables."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError

CAPTION_COLUMNS = (
    "captions",
    "caption",
    "text",
    "texts",
    "sentences",
    "sentence",
    "prompt",
    "description",
    "comment",
)
TEST_SPLITS = ("test", "validation", "val", "valid", "dev")
TRAIN_SPLITS = ("train", "training", "restval")  # restval: Karpathy's rest of COCO's val


def choose_column(
    columns: Collection[str], wanted: str | None, usual: tuple[str, ...], option: str, where: str
) -> str:
    """The column that the user wants, else the first of the usual names that is there.

    Raises `UserError`, which names `option` and the columns of `where`.
    """
    if wanted is not None:
        if wanted not in columns:
            raise UserError(
                f"{option} {wanted}: {where} has no such column; {nearest(wanted, columns)}"
            )
        return wanted
    found = usual_column(columns, usual)
    if found is None:
        raise UserError(
            f"{where}: none of the columns {', '.join(columns)} is named "
            f"{' or '.join(usual)}; name it with {option}"
        )
    return found


def usual_column(columns: Collection[str], usual: tuple[str, ...]) -> str | None:
    """The first of the usual names that is there, in capitals or not."""
    lower = {name.lower(): name for name in columns}
    return next((name if name in columns else lower[name] for name in usual if name in lower), None)


def split_named(name: str) -> str | None:
    """'train' or 'test' for what other data sets call their splits; None for other words."""
    word = name.strip().lower()
    return "test" if word in TEST_SPLITS else "train" if word in TRAIN_SPLITS else None


def import_pyarrow(files: str) -> Any:
    """The package. Raises `UserError` with the command that installs it; files: what it is for."""
    try:
        import pyarrow
    except ImportError:
        raise UserError(f"reading {files} needs the package pyarrow: pip install pyarrow") from None
    return pyarrow
