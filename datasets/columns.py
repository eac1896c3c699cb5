"""Find the columns of a table by their usual names; import the optional package pyarrow."""

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
    columns: Collection[str], wanted: str | None, usual: tuple[str, ...], option: str, place: str
) -> str:
    """The column `wanted`; if that is None, the first of the `usual` names that the table has.

    option: the flag that chooses the column. place: the file, for messages.
    Raises `UserError` with the option and the columns if there is no such column.
    """
    if wanted is not None:
        if wanted not in columns:
            raise UserError(
                f"{option} {wanted}: {place} has no such column; {nearest(wanted, columns)}"
            )
        return wanted
    column = usual_column(columns, usual)
    if column is None:
        raise UserError(
            f"{place}: none of the columns {', '.join(columns)} is named "
            f"{' or '.join(usual)}; name it with {option}"
        )
    return column


def usual_column(columns: Collection[str], usual: tuple[str, ...]) -> str | None:
    """The first of the `usual` names that is a column, whether in capitals or not; else None."""
    lower = {name.lower(): name for name in columns}
    return next((name if name in columns else lower[name] for name in usual if name in lower), None)


def split_named(name: str) -> str | None:
    """'train' or 'test' for a split's name in another data set; None for unknown names."""
    word = name.strip().lower()
    return "test" if word in TEST_SPLITS else "train" if word in TRAIN_SPLITS else None


def import_pyarrow(files: str) -> Any:
    """The package pyarrow. files: the kind of files that it reads, for the message.

    Raises `UserError` with the command that installs pyarrow if it is missing.
    """
    try:
        import pyarrow
    except ImportError:
        raise UserError(f"reading {files} needs the package pyarrow: pip install pyarrow") from None
    return pyarrow
