"""Import of a folder of pictures, with captions in any of `datasets.conventions`, or without."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from datasets.columns import split_named
from datasets.conventions import CONVENTIONS
from datasets.conventions.base import Convention, Reading, Row
from datasets.conventions.beside import stem_key
from datasets.conventions.made import NO_CAPTIONS, TEMPLATE, from_template
from datasets.conventions.own_lines import CAPTIONS_FILE as CAPTIONS_FILE
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
_OTHER_COMMANDS = {".mdb": "lsun", ".tar": "webdataset", ".arrow": "hf"}  # by ending of a file


@dataclass(frozen=True)
class Captions:
    """What the user says of captions; at most one of origin, template and none.

    origin: the name of a convention. template: as in `datasets.conventions.made`. none: there are
    none. column: of a table that holds the captions.
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
    """What all rows of one picture say. file: None where it is missing, for a reason."""

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
) -> list[RawPicture]:
    """All pictures with captions below `folder`, sorted by path, or in the order of a table; ids
    are paths.

    test_share: see `split_of`; splits that a table or folders named train and test give stay. What
    else is there is counted. The report learns where captions and splits come from. Raises
    `UserError` for a missing folder, for one without pictures or captions, and for files of
    captions that cannot be read.
    """
    source = SourceFolder(folder, follow_links=follow_links)
    source.tell_left_out(report)
    pictures = source.pictures()
    convention, files, told = _choose(source, captions)
    if not pictures and not files:
        count_others(set(source.files), report)
        raise UserError(_no_pictures(source, report))
    if convention is None:
        count_others(set(source.files) - pictures.keys(), report, pictures)
        raise UserError(
            f"--source {printable(source.path)}: {len(pictures)} pictures without "
            f"captions: none of {', '.join(one.name for one in CONVENTIONS)} is there; " + _REMEDIES
        )
    reading = Reading(source, files, report, captions.column)
    listed = _listed(convention, reading)
    if captions.column is not None and not reading.tables:
        raise UserError(
            f"--caption-column {captions.column}: the captions come from {convention}, "
            "which is no table with columns; leave it out, or choose a table with "
            "--captions-from"
        )
    report.captions_from = "; ".join([str(convention), *reading.details, *told])
    others = source.files.keys() - {one.file for one in listed} - set(reading.files)
    unlisted = set(filter(is_picture_name, others))
    report.note(f"picture that {convention.name} does not list", len(unlisted))
    count_others(others - unlisted, report, pictures)
    raws = _usable(listed, source, report, bare=convention is NO_CAPTIONS)
    return _split(raws, report, test_share)


def refuse_captionless(folder: str | os.PathLike, raws: list[RawPicture], report: Report) -> None:
    """Raise `UserError`, with the remedies, where `folder_pictures` found no caption to use."""
    if raws or report.counts[WITHOUT_PICTURE]:
        return
    what = f"--source {printable(folder)}: no picture has captions that can be used; "
    if report.captions_from.startswith(TEMPLATE):
        raise UserError(
            f"{what}none lies in a folder that could name its class; a template "
            "without {} gives all pictures one caption"
        )
    raise UserError(what + _REMEDIES)


def split_of(name: str, test_share: float) -> str:
    """'test' for about that share of all names, by their hash alone: a picture keeps its side when
    others come or go.
    """
    return "test" if seed_for("folder split", name) < test_share * 2**63 else "train"


def count_others(names: set[str], report: Report, pictures: Iterable[str] = ()) -> None:
    """Count the files that are neither pictures nor captions, by their ending."""
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
    """The convention, its files, and what else is to be said of the choice."""
    if captions.none:
        return NO_CAPTIONS, [], []
    if captions.template is not None:
        return from_template(captions.template), [], []
    found = {one.name: (one, files) for one in CONVENTIONS if (files := one.looks(source))}
    wanted = captions.origin
    if wanted is not None:
        names = [one.name for one in CONVENTIONS]
        if wanted not in names:
            raise UserError(
                f"--captions-from {wanted}: no such convention; {nearest(wanted, names)}"
            )
        if wanted not in found:
            there = ", ".join(found) or "none that is known"
            raise UserError(
                f"--captions-from {wanted}: no such captions in "
                f"{printable(source.path)}; found: {there}"
            )
    elif not found:
        return None, [], []
    chosen = wanted or next(iter(found))
    left = [name for name in found if name != chosen]
    told = [f"left: {', '.join(left)} (--captions-from {left[0]} takes it)"] if left else []
    return *found[chosen], told


def _listed(convention: Convention, reading: Reading) -> list[_Listed]:
    """The pictures that a convention speaks of, in order, each with all of its captions."""
    found: dict[str, _Listed] = {}
    spelled: dict[tuple[str, str], _Listed] = {}
    bases = _by_base(reading.source) if convention.anywhere else None
    for row in convention.reads(reading):
        one = spelled.get((row.folder, row.name))
        if one is None:
            try:
                file, missing = _find(reading.source, row, bases), ""
            except MissingFile as error:
                file, missing = None, str(error)
            shown = printable(file or str(PurePosixPath(row.folder) / row.name))
            one = found.get(file or shown)
            if one is None:
                one = found[file or shown] = _Listed(shown, file, missing)
            elif convention.once:
                raise UserError(
                    f"{row.where}: {shown} is listed twice; put all its captions in one line"
                )
            spelled[row.folder, row.name] = one
        elif convention.once:
            raise UserError(
                f"{row.where}: {one.name} is listed twice; put all its captions in one line"
            )
        one.texts += reading.report.clean(row.texts)
        one.reason = one.reason or row.reason
        one.split = "test" if "test" in (one.split, row.split) else row.split or one.split
    return list(found.values())


def _find(source: SourceFolder, row: Row, bases: dict[str, list[str]] | None) -> str:
    """The file that a row means. bases: files by their last name, where any folder will do."""
    places = [os.path.normpath(os.path.join(row.folder, row.name)) if row.folder else row.name]
    if bases is not None:
        places.append(row.name)
    reasons = []
    for place in dict.fromkeys([*places, *(place.strip() for place in places)]):
        try:
            return source.find(place)
        except MissingFile as error:
            reasons.append(error)
    same = bases.get(same_name_key(row.name.strip()), []) if bases else []
    if len(same) > 1:
        raise MissingFile(f"several folders have a file of that name: {', '.join(same[:3])}")
    if not same:
        raise reasons[0]
    return same[0]


def _by_base(source: SourceFolder) -> dict[str, list[str]]:
    bases: dict[str, list[str]] = {}
    for name in source.pictures():
        bases.setdefault(same_name_key(PurePosixPath(name).name), []).append(name)
    return bases


def _usable(
    listed: list[_Listed], source: SourceFolder, report: Report, *, bare: bool
) -> list[RawPicture]:
    """bare: pictures without captions are wanted. Splits are '' where no file says one."""
    raws = []
    for one in listed:
        if not one.texts and not bare:
            report.defect(WITHOUT_CAPTIONS, one.name, one.reason)
        elif one.file is None:
            report.defect(WITHOUT_PICTURE, one.name, one.missing)
        else:
            raws.append(
                RawPicture(
                    one.name, one.name, source.files[one.file], tuple(one.texts), one.split or ""
                )
            )
    return raws


def _split(raws: list[RawPicture], report: Report, test_share: float) -> list[RawPicture]:
    """With splits: as the captions' files say, else as the folders say, else by `split_of`.

    Folders say it where every picture lies in one at the top that is called train, test,
    validation or the like, and not all of them in train.
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
    told = [raw.split for raw in raws if raw.split]
    rules = ["as the files of the captions say"] if told else []
    report.split_rule = ", else ".join(rules if len(told) == len(raws) else [*rules, rule])
    return [replace(raw, split=raw.split or side) for raw, side in zip(raws, sides, strict=True)]


def _no_pictures(source: SourceFolder, report: Report) -> str:
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
