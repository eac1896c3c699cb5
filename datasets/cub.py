"""Caltech-UCSD Birds 200-2011 from its official folder, with ten captions a picture.

The captions are by Reed et al. (2016) and are published apart from the pictures, in one of three
layouts: a text file for each picture, either `text/CLASS/NAME.txt` (in AttnGAN's archive) or
`text_c10/CLASS/NAME.txt` (in that of Reed et al.), or one JSON file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from datasets.importing import RawPicture
from datasets.pickled_lists import read_string_list
from datasets.report import Report
from datasets.source_files import MissingFile, SourceFolder
from dnnlib.errors import UserError
from dnnlib.files import read_json
from dnnlib.names import printable
from dnnlib.text import read_named_text, split_lines

OFFICIAL = "official"
ATTNGAN = "attngan:"
ATTNGAN_BOX_SCALE = 0.75
_SIDES = {"0": "test", "1": "train"}  # by the number in train_test_split.txt
WHERE = "CUB_200_2011.tgz comes from data.caltech.edu/records/65de6-vp158"


def cub_pictures(
    root: str | os.PathLike,
    captions: str | os.PathLike,
    split: str,
    report: Report,
    *,
    follow_links: bool = False,
) -> list[RawPicture]:
    """The pictures of images.txt with captions, a split and a file, with their bounding boxes.

    root: the folder CUB_200_2011. captions: a folder or a JSON file, see above.
    split: 'official' (train_test_split.txt: 5,994 train, 5,788 test) or 'attngan:FILENAMES.pickle'
        (8,855 train, 2,933 test; no class is in both).
    The order is that of images.txt. Raises `UserError` with the faulty file and line.
    """
    root = Path(root)
    names = {key: fields[0] for key, fields in _table(root, "images.txt", "NAME").items()}
    numbers = _table(root, "bounding_boxes.txt", "X Y WIDTH HEIGHT", _number)
    boxes = {
        key: (float(x), float(y), float(width), float(height))
        for key, (x, y, width, height) in numbers.items()
    }
    splits = _splits(root, split, names)
    texts = _captions(Path(captions), report, follow_links)
    pictures = SourceFolder(root / "images", "--root", follow_links)
    pictures.tell_left_out(report)
    raws, used = [], set()
    for key, name in names.items():
        stem = _stem(name)
        used.add(stem)
        try:
            file_name, missing = pictures.find(name), ""
        except MissingFile as error:
            file_name, missing = None, str(error)
        if stem not in texts or not texts[stem]:
            report.defect("picture without captions", name)
        elif file_name is None:
            report.defect("captions without picture", name, f"captions without picture: {missing}")
        elif key not in splits:
            report.defect("picture without split", name)
        else:
            path, box = pictures.files[file_name], boxes.get(key)
            raws.append(RawPicture(stem, name, path, texts[stem], splits[key], box))
            if key not in boxes:
                report.met("picture without bounding box", name)
    for stem in sorted(texts.keys() - used):
        report.defect(
            "captions without picture", stem, "captions without picture: not in images.txt"
        )
    if not raws:
        raise UserError(f"--captions {captions}: fits none of the {len(names)} pictures of {root}")
    return raws


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _table(
    root: Path, name: str, form: str, kind: Callable[[str], Any] = str
) -> dict[str, list[str]]:
    """The fields of one of the official text files by id, in order; a line is 'ID FORM'.

    form: a word for each field behind the id.
    kind: converts a field to check it, and raises `ValueError` or `KeyError` if it is malformed.
    """
    path = root / name
    if not path.is_file():
        raise UserError(f"--root {root}: no {name} there; {WHERE}")
    rows: dict[str, list[str]] = {}
    text, _ = read_named_text(path, printable(path), WHERE)
    for number, line in enumerate(split_lines(text), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            valid = len(fields) == 1 + len(form.split()) and [kind(field) for field in fields[1:]]
        except (ValueError, KeyError):
            valid = False
        if not valid:
            raise UserError(f"{path}, line {number}: expected 'ID {form}', got {line.strip()!r}")
        rows[fields[0]] = fields[1:]
    return rows


def _splits(root: Path, split: str, names: Mapping[str, str]) -> dict[str, str]:
    """'train' or 'test' by picture id. names: file names by id."""
    if split == OFFICIAL:
        table = _table(root, "train_test_split.txt", "0|1", _SIDES.__getitem__)
        return {key: _SIDES[fields[0]] for key, fields in table.items()}
    if not split.startswith(ATTNGAN) or split == ATTNGAN:
        raise UserError(f"--split {split}: expected official or attngan:FILENAMES.pickle")
    path = Path(split.removeprefix(ATTNGAN))
    if path.is_dir():
        path = path / "test" / "filenames.pickle"
    if not path.is_file():
        raise UserError(
            f"--split {split}: no such file; birds.zip of AttnGAN holds train/filenames.pickle and "
            "test/filenames.pickle"
        )
    side = path.absolute().parent.name
    if side not in _SIDES.values():
        raise UserError(
            f"{path}: lies in the folder {side!r}, which names no split; move it into a folder "
            "train or test, as in birds.zip of AttnGAN"
        )
    listed = {_stem(name) for name in read_string_list(path)}
    unknown = listed - {_stem(name) for name in names.values()}
    if unknown:
        raise UserError(
            f"{path}: {len(unknown)} of its {len(listed)} names are not in images.txt, such as "
            f"{min(unknown)}; is it the list of another data set?"
        )
    other = {"train": "test", "test": "train"}[side]
    return {key: side if _stem(name) in listed else other for key, name in names.items()}


def _captions(source: Path, report: Report, follow_links: bool) -> dict[str, tuple[str, ...]]:
    """Cleaned captions by 'CLASS/NAME'. Raises `UserError` if `source` has none of the layouts."""
    if source.is_file():
        return _from_json(source, report)
    if not source.is_dir():
        raise UserError(
            f"--captions {source}: no such file or folder; the captions of Reed et al. come as "
            "text/ in birds.zip of AttnGAN or as text_c10/ in cvpr2016_cub.tar.gz"
        )
    texts: dict[str, tuple[str, ...]] = {}
    folder = SourceFolder(source, "--captions", follow_links)
    folder.tell_left_out(report)
    for name, path in folder.files.items():
        # Text files at the top are lists of classes or files; captions lie one folder deeper.
        if path.parent == source or path.suffix != ".txt":
            continue
        lines = report.caption_lines(path, name)
        if lines is not None:
            texts[_stem(name)] = lines
    if not texts:
        raise UserError(
            f"--captions {source}: no CLASS/NAME.txt in it; give the folder text or text_c10"
        )
    return texts


def _from_json(path: Path, report: Report) -> dict[str, tuple[str, ...]]:
    """Cleaned captions by 'CLASS/NAME' from a JSON file.

    The file holds {"CLASS/NAME.jpg": [...]}, or [{"file": ..., "captions": [...]}, ...], or COCO's
    `images` and `annotations`. Several records of one picture add up.
    """
    mended: list[str] = []
    content = read_json(path, mended)
    report.mended(mended)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        content = _coco_form(content)
    if isinstance(content, list):
        pairs = [
            (
                _first(item, "file", "file_name", "filename", "image"),
                _first(item, "captions", "sentences", "caption"),
            )
            for item in content
        ]
        entries = [(name, texts) for name, texts in pairs if isinstance(name, str)]
    else:
        entries = list(content.items()) if isinstance(content, dict) else []
    if not entries:
        raise UserError(
            f'{path}: expected {{"CLASS/NAME.jpg": ["...", ...]}} or '
            '[{"file": ..., "captions": [...]}]'
        )
    texts: dict[str, tuple[str, ...]] = {}
    for name, captions in entries:
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(name, str) or "/" not in name or not isinstance(captions, list):
            raise UserError(
                f"{path}: entry {name!r} needs a name CLASS/NAME and a list of captions"
            )
        texts[_stem(name)] = texts.get(_stem(name), ()) + report.clean(
            c.get("raw") if isinstance(c, dict) else c for c in captions
        )
    return texts


def _coco_form(content: dict[str, Any]) -> dict[str, list[str]]:
    """Captions by file name from COCO's `images` and `annotations`."""
    pairs = [
        (_first(item, "id"), _first(item, "file_name", "filename", "file"))
        for item in content["images"]
    ]
    names = {
        key: name for key, name in pairs if isinstance(key, (int, str)) and isinstance(name, str)
    }
    texts: dict[str, list[str]] = {name: [] for name in names.values()}
    annotations = content.get("annotations")
    for item in annotations if isinstance(annotations, list) else ():
        key = _first(item, "image_id")
        if isinstance(key, (int, str)) and key in names:
            texts[names[key]].append(_first(item, "caption"))
    return texts


def _first(item: Any, *keys: str) -> Any:
    return next((item[key] for key in keys if isinstance(item, dict) and key in item), None)


def _stem(name: str) -> str:
    """'images/001.X/Y.jpg' or '001.X/Y' -> '001.X/Y'.

    The files of CUB name pictures with or without the folder `images` and the ending.
    """
    path = PurePosixPath(name.strip().replace("\\", "/"))
    stem = (
        path.with_suffix("") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".txt") else path
    )
    return "/".join(stem.parts[-2:])
