"""Import a folder of pictures, with captions in a form of `datasets.conventions` or without."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from datasets.columns import split_named
from datasets.conventions import CONVENTIONS
from datasets.conventions.base import Convention, Reading, Row
from datasets.conventions.captions_jsonl import CAPTIONS_FILE as CAPTIONS_FILE
from datasets.conventions.made import NO_CAPTIONS, TEMPLATE, from_template
from datasets.conventions.sidecars import stem_key
from datasets.importing import RawPicture
from datasets.picture_files import is_picture_name
from datasets.report import Report
from datasets.source_files import MissingFile, SourceFolder
from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from dnnlib.names import printable, same_name_key
from torch_utils.rng import seed_for

WITHOUT_CAPTIONS, WITHOUT_PICTURE = "picture without captions", "captions without picture"
_REMEDIES = (
    "--no-captions imports pictures without, and --caption-template 'a photo of a {}' "
    "makes captions of their folders' names"
)
# The importing command for files of other kinds, by the ending of the file.
_OTHER_COMMANDS = {".mdb": "lsun", ".tar": "webdataset", ".arrow": "hf"}


@dataclass(frozen=True)
class Captions:
    """The user's choice of captions. At most one of origin, template and none may be set.

    origin: the name of a convention, from --captions-from.
    template: a text with {} for the class, from --caption-template.
    none: whether the pictures are imported without captions, from --no-captions.
    column: the table's column with the captions, from --caption-column.
    Raises `UserError` for options that exclude each other.
    """

    origin: str | None = None
    template: str | None = None
    none: bool = False
    column: str | None = None

    def __post_init__(self) -> None:
        given = [
            option
            for option, value in (
                ("--captions-from", self.origin),
                ("--caption-template", self.template),
                ("--no-captions", self.none),
            )
            if value
        ]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} exclude each other; give one of them")
        if self.column is not None and (self.template is not None or self.none):
            raise UserError(f"--caption-column and {given[0]} exclude each other; give one of them")


@dataclass
class _Listed:
    """The rows of one picture, put together.

    file: its name in the source's files; None if there is no such file, then `missing` says why.
    reason: why there are no texts, if that is known.
    """

    name: str
    file: str | None
    missing: str
    texts: list[str] = field(default_factory=list)
    split: str | None = None
    reason: str = ""


def folder_pictures(
    folder: str | os.PathLike,
    report: Report,
    test_share: float = 0.0,
    *,
    follow_links: bool = False,
    captions: Captions = Captions(),
    dest: Path | None = None,
) -> list[RawPicture]:
    """The pictures with captions below `folder`, sorted by path or in the order of a table.

    Ids are paths relative to `folder`.
    report: counts all files that are not imported, and records the origin of captions and splits.
    test_share: share of the pictures that `split_of` puts into test, from 0 to below 1. It applies
        only if neither a captions' file nor folders named train or test give a split.
    dest: where the data set goes. A folder of pictures must not lie in `folder`: the next import
        would read it.
    Raises `UserError` for a missing folder, for a folder without pictures or captions, for
    captions' files that cannot be read, and for such a `dest`.
    """
    # Choose the convention of captions.
    source = SourceFolder(folder, follow_links=follow_links)
    if dest is not None and dest.suffix.lower() != ".zip" and source.has_read(dest):
        raise UserError(
            f"--dest {printable(dest)} lies inside --source, so the next import would read it as "
            "pictures; name a place outside, or a .zip file"
        )
    source.tell_left_out(report)
    pictures = source.pictures()
    convention, files, remarks = _choose(source, captions)
    if not pictures and not files:
        count_others(set(source.files), report)
        raise UserError(_no_pictures(source, report))
    if convention is None:
        count_others(set(source.files) - pictures.keys(), report, pictures)
        raise UserError(
            f"--source {printable(source.path)}: {len(pictures)} pictures without "
            f"captions: none of {', '.join(one.name for one in CONVENTIONS)} is there; " + _REMEDIES
        )

    # Read its captions.
    reading = Reading(source, files, report, captions.column)
    listed = _listed(convention, reading)
    if captions.column is not None and not reading.tables:
        raise UserError(
            f"--caption-column {captions.column}: the captions come from {convention}, "
            "which is no table with columns; leave it out, or choose a table with "
            "--captions-from"
        )
    report.captions_from = "; ".join([str(convention), *reading.details, *remarks])

    # Count the files that hold neither captions nor listed pictures.
    others = source.files.keys() - {one.file for one in listed} - set(reading.files)
    unlisted = set(filter(is_picture_name, others))
    report.note(f"picture that {convention.name} does not list", len(unlisted))
    count_others(others - unlisted, report, pictures)
    raws = _usable(listed, source, report, bare=convention is NO_CAPTIONS)
    return _split(raws, report, test_share)


def refuse_captionless(folder: str | os.PathLike, raws: list[RawPicture], report: Report) -> None:
    """Raise `UserError` with the remedies if `folder_pictures` returned no picture with captions.

    raws, report: the result and the report of `folder_pictures`.
    """
    if raws or report.counts[WITHOUT_PICTURE]:
        return
    problem = f"--source {printable(folder)}: no picture has captions that can be used; "
    if report.captions_from.startswith(TEMPLATE):
        raise UserError(
            f"{problem}none lies in a folder that could name its class; a template "
            "without {} gives all pictures one caption"
        )
    raise UserError(problem + _REMEDIES)


def split_of(name: str, test_share: float) -> str:
    """'test' for about the share `test_share` of all names, else 'train'.

    The split depends on the hash of the name alone, so it stays the same when other pictures are
    added or removed.
    """
    return "test" if seed_for("folder split", name) < test_share * 2**63 else "train"


def count_others(names: set[str], report: Report, pictures: Iterable[str] = ()) -> None:
    """Count files that are neither pictures nor captions, by their ending.

    pictures: a text file that belongs to none of these pictures is counted as such.
    """
    texts = {name for name in names if name.lower().endswith(".txt")}
    stems = {stem_key(name) for name in pictures} if texts else set()
    for name in names:
        ending = PurePosixPath(name).suffix.lower()
        if name in texts and stem_key(name) not in stems:
            report.note("text file without picture")
        else:
            report.note(f"file of another kind ({ending or 'no ending'})")


def _choose(
    source: SourceFolder, captions: Captions
) -> tuple[Convention | None, list[str], list[str]]:
    """(convention, its files, remarks for the report); the convention is None if none is found."""
    if captions.none:
        return NO_CAPTIONS, [], []
    if captions.template is not None:
        return from_template(captions.template), [], []
    available = {one.name: (one, files) for one in CONVENTIONS if (files := one.looks(source))}
    wanted = captions.origin
    if wanted is not None:
        names = [one.name for one in CONVENTIONS]
        if wanted not in names:
            raise UserError(
                f"--captions-from {wanted}: no such convention; {nearest(wanted, names)}"
            )
        if wanted not in available:
            shown = ", ".join(available) or "none that is known"
            raise UserError(
                f"--captions-from {wanted}: no such captions in "
                f"{printable(source.path)}; found: {shown}"
            )
    elif not available:
        return None, [], []
    chosen = wanted or next(iter(available))
    unused = [name for name in available if name != chosen]
    remarks = (
        [f"left: {', '.join(unused)} (--captions-from {unused[0]} takes it)"] if unused else []
    )
    return *available[chosen], remarks


def _listed(convention: Convention, reading: Reading) -> list[_Listed]:
    """The pictures that a convention lists, in order, each with all of its captions."""
    listed: dict[str, _Listed] = {}  # by file name, or by the row's name if there is no file
    spelled: dict[tuple[str, str], _Listed] = {}  # by the folder and name of a row
    bases = _by_base(reading.source) if convention.anywhere else None
    for row in convention.reads(reading):
        one = spelled.get((row.folder, row.name))
        if one is None:
            try:
                file, missing = _find(reading.source, row, bases), ""
            except MissingFile as error:
                file, missing = None, str(error)
            shown = printable(file or str(PurePosixPath(row.folder) / row.name))
            one = listed.get(file or shown)
            if one is None:
                one = listed[file or shown] = _Listed(shown, file, missing)
            elif convention.once:
                raise UserError(
                    f"{row.place}: {shown} is listed twice; put all its captions in one line"
                )
            spelled[row.folder, row.name] = one
        elif convention.once:
            raise UserError(
                f"{row.place}: {one.name} is listed twice; put all its captions in one line"
            )
        one.texts += reading.report.clean(row.texts)
        one.reason = one.reason or row.reason
        one.split = "test" if "test" in (one.split, row.split) else row.split or one.split
    return list(listed.values())


def _find(source: SourceFolder, row: Row, bases: dict[str, list[str]] | None) -> str:
    """The file that a row means. Raises `MissingFile` with the reason if there is none.

    bases: files by name without folders, for conventions that allow any folder; else None. Where
        the row's folder has pictures, only they are guessed: if `test` lacks 1.jpg, its captions
        do not describe the 1.jpg of `train`.
    """
    # Look below the row's folder, then below the source; last without spaces at the ends.
    own = os.path.normpath(os.path.join(row.folder, row.name)) if row.folder else row.name
    guessed = f"{row.folder}/" if row.folder and source.holds_pictures(row.folder) else ""
    paths = [own] if bases is None else [own, row.name]
    reasons = []
    for path in dict.fromkeys([*paths, *(path.strip() for path in paths)]):
        try:
            file = source.find(path)
        except MissingFile as error:
            reasons.append(error)
        else:
            if path in (own, own.strip()) or file.startswith(guessed):
                return file
    # Look for a file of this name in any folder.
    same = bases.get(same_name_key(row.name.strip()), []) if bases else []
    same = [name for name in same if name.startswith(guessed)]
    if len(same) > 1:
        raise MissingFile(f"several folders have a file of that name: {', '.join(same[:3])}")
    if not same:
        raise reasons[0]
    return same[0]


def _by_base(source: SourceFolder) -> dict[str, list[str]]:
    """Pictures by file name without folders, in the form of `same_name_key`."""
    bases: dict[str, list[str]] = {}
    for name in source.pictures():
        bases.setdefault(same_name_key(PurePosixPath(name).name), []).append(name)
    return bases


def _usable(
    listed: list[_Listed], source: SourceFolder, report: Report, *, bare: bool
) -> list[RawPicture]:
    """The listed pictures that can be imported; the others are counted as defects.

    bare: whether pictures without captions are wanted. The split is '' if no file gives one.
    """
    raws = []
    for one in listed:
        if not one.texts and not bare:
            report.defect(WITHOUT_CAPTIONS, one.name, one.reason)
        elif one.file is None:
            report.defect(WITHOUT_PICTURE, one.name, one.missing)
        else:
            path, texts = source.files[one.file], tuple(one.texts)
            raws.append(RawPicture(one.name, one.name, path, texts, one.split or ""))
    return raws


def _split(raws: list[RawPicture], report: Report, test_share: float) -> list[RawPicture]:
    """The pictures with their splits, and the rule of the splits in the report.

    A split in the captions' file comes first, then the folder's name, then `split_of`. Folder names
    count only if every picture lies in a folder named train, test, validation or the like at the
    top of the source, and at least one lies in a folder of test.
    """
    named = [split_named(raw.id.split("/")[0]) if "/" in raw.id else None for raw in raws]
    sides = [side for side in named if side is not None]
    if len(sides) < len(raws) or "test" not in sides:
        sides = [split_of(raw.id, test_share) for raw in raws]
        rule = (
            f"{test_share:.0%} of file names by their hash are test"
            if test_share
            else "all are train"
        )
    else:
        rule = "by the folders named train, test or validation"
    listed = [raw.split for raw in raws if raw.split]
    rules = ["as the files of the captions say"] if listed else []
    report.split_rule = ", else ".join(rules if len(listed) == len(raws) else [*rules, rule])
    return [replace(raw, split=raw.split or side) for raw, side in zip(raws, sides, strict=True)]


def _no_pictures(source: SourceFolder, report: Report) -> str:
    """The message for a source without pictures, with the command that reads its other files."""
    counts = ", ".join(f"{count} x {kind}" for kind, count in sorted(report.counts.items()))
    endings = {PurePosixPath(name).suffix.lower() for name in source.files}
    hints = [
        f"; dataset_tool.py {command} reads {ending} files"
        for ending, command in _OTHER_COMMANDS.items()
        if ending in endings
    ]
    return (
        f"--source {printable(source.path)}: no pictures found"
        + (f" ({counts})" if counts else "")
        + "".join(hints)
    )
