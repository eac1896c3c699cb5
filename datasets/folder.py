"""Import of a folder of captioned pictures: `NAME.txt` beside each picture (a caption a line), or
one `captions.jsonl`.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from datasets.archive import SPLITS
from datasets.importing import RawPicture
from datasets.picture_files import is_picture_name
from datasets.report import Report
from datasets.source_files import MissingFile, SourceFolder, is_below
from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.text import TextError, parse_json, read_text, split_lines
from torch_utils.rng import seed_for

CAPTIONS_FILE = "captions.jsonl"
_TEXT_ENDINGS = (".txt", ".TXT")


def folder_pictures(folder: str | os.PathLike, report: Report, test_share: float = 0.0, *,
                    follow_links: bool = False) -> list[RawPicture]:
    """All pictures with captions below `folder`, sorted by path (in file order with a
    captions.jsonl); ids are paths.

    test_share: see `split_of`; a split that captions.jsonl names stays. What else is there is
    counted. Raises `UserError` for a missing folder and for a malformed captions.jsonl, naming the
    line and the key.
    """
    source = SourceFolder(folder, follow_links=follow_links)
    for kind, _ in source.left_out:
        report.note(kind)
    read = _from_captions_file if CAPTIONS_FILE in source.files else _from_texts
    raws = read(source, report, test_share)
    if not raws and not report.skipped:
        counts = ", ".join(f"{count} x {kind}" for kind, count in sorted(report.counts.items()))
        raise UserError(f"--source {printable(folder)}: no pictures found" +
                        (f" ({counts})" if counts else ""))
    return raws


def split_of(name: str, test_share: float) -> str:
    """'test' for about that share of all names, by their hash alone: a picture keeps its side when others come or go."""
    return "test" if seed_for("folder split", name) < test_share * 2 ** 63 else "train"


def split_rule(test_share: float) -> str:
    """How splits were dealt, for `dataset.json`."""
    return (f"{test_share:.0%} of file names by their hash are test, where captions.jsonl names no "
            "split")


def count_others(names: set[str], report: Report) -> None:
    """Count the files that are neither pictures nor captions, by their ending."""
    for name in names:
        report.note(f"file of another kind ({PurePosixPath(name).suffix.lower() or 'no ending'})")


def _from_texts(source: SourceFolder, report: Report, test_share: float) -> list[RawPicture]:
    raws, used = [], set()
    for name, path in source.pictures().items():
        used.add(name)
        captions = _captions_beside(source, name, report, used)
        if captions:
            identity = printable(name)
            split = split_of(identity, test_share)
            raws.append(RawPicture(identity, identity, path, captions, split))
    others = source.files.keys() - used
    texts = {name for name in others if name.lower().endswith(".txt")}
    report.note("text file without picture", len(texts))
    count_others(others - texts, report)
    return raws


def _captions_beside(source: SourceFolder, name: str, report: Report,
                     used: set[str]) -> tuple[str, ...]:
    stem, kind = str(PurePosixPath(name).with_suffix("")), "picture without captions"
    for ending in _TEXT_ENDINGS:
        try:
            text_file = source.find(stem + ending)
            break
        except MissingFile:
            continue
    else:
        report.defect(kind, name, f"no caption file {PurePosixPath(stem).name}.txt")
        return ()
    used.add(text_file)
    try:
        text, mended = read_text(source.files[text_file])
    except TextError as error:
        report.defect(kind, name,
                      f"caption file {PurePosixPath(text_file).name} cannot be read: {error}")
        return ()
    report.mended(mended)
    captions = report.clean(split_lines(text))
    if not captions:
        report.defect(kind, name, f"caption file {PurePosixPath(text_file).name} is empty")
    return captions


def _from_captions_file(source: SourceFolder, report: Report,
                        test_share: float) -> list[RawPicture]:
    path = source.files[CAPTIONS_FILE]
    try:
        text, mended = read_text(path)
    except TextError as error:
        raise UserError(f"{printable(path)} cannot be read: {error}") from None
    report.mended(mended)
    raws: dict[str, RawPicture] = {}
    listed = {CAPTIONS_FILE}
    for number, line in enumerate(split_lines(text), start=1):
        where = f"{printable(path)}, line {number}"
        if not line.strip():
            continue
        file, captions, split = _parse_line(line, where)
        try:
            found, missing = source.find(file), ""
        except MissingFile as error:
            found, missing = None, str(error)
        name = printable(found or file)
        if name in listed:
            raise UserError(f"{where}: {name} is listed twice; put all its captions in one line")
        listed.add(name)
        texts = report.clean(captions)
        if not texts:
            report.defect("picture without captions", name, "no captions")
        elif found is None:
            report.defect("captions without picture", name, missing)
        else:
            split = split or split_of(name, test_share)
            raws[found] = RawPicture(name, name, source.files[found], texts, split)
    others = {name for name in source.files if printable(name) not in listed}
    pictures = set(filter(is_picture_name, others))
    report.note(f"picture that {CAPTIONS_FILE} does not list", len(pictures))
    count_others(others - pictures, report)
    return list(raws.values())


def _parse_line(line: str, where: str) -> tuple[str, list[str], str | None]:
    record = parse_json(line, where)
    if not isinstance(record, dict):
        raise UserError(f'{where}: expected {{"file": ..., "captions": [...]}}, got {line.strip()[:60]}')
    keys = ("file", "captions", "split")
    for key in record:
        if key not in keys:
            raise UserError(f"{where}: unknown key {key!r}; {nearest(key, keys)}")
    for key in keys[:2]:
        if key not in record:
            raise UserError(f"{where}: key {key!r} is missing")
    file, captions, split = record["file"], record["captions"], record.get("split")
    if not isinstance(file, str) or not file.strip() or not is_below(file):
        raise UserError(f"{where}: 'file' must be a path below the source folder, got {file!r}")
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise UserError(f"{where}: 'captions' must be a list of texts, got {captions!r}")
    if split not in (None, *SPLITS):
        raise UserError(f"{where}: 'split' must be one of {', '.join(SPLITS)}, got {split!r}")
    return file, captions, split
