"""Oxford-102 flowers from the official files, with ten captions a picture by Reed et al. (2016).

Nilsback and Zisserman's `102flowers.tgz` holds jpg/image_00001.jpg and so on; `imagelabels.mat`
holds the class of each picture and `setid.mat` its split. Reed et al. published the captions, one a
line, in `text_c10/class_00001/image_06734.txt`. Their lists of classes define another split, in
which no class is in both train and test.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.importing import RawPicture
from datasets.report import Report
from datasets.source_files import MissingFile, SourceFolder
from dnnlib.errors import UserError, library_errors
from dnnlib.names import printable
from dnnlib.text import read_named_text, split_lines

REED = "reed:"
_SETS = {"trnid": "train", "valid": "train", "tstid": "test"}  # of setid.mat
_LISTS = {
    "trainvalclasses.txt": "train",
    "trainclasses.txt": "train",
    "valclasses.txt": "train",
    "testclasses.txt": "test",
}


def flower_pictures(
    images: str | os.PathLike,
    captions: str | os.PathLike,
    report: Report,
    *,
    labels: str | os.PathLike | None = None,
    split: str | None = None,
    follow_links: bool = False,
) -> list[RawPicture]:
    """The pictures that have captions and a file, in order of their numbers.

    images, captions: the folders `jpg` and `text_c10`.
    labels: `imagelabels.mat`, to check the classes in the captions' folder names.
    split: `setid.mat`, whose train and validation parts are train; or `reed:DIR` with the files
        `testclasses.txt` and `trainvalclasses.txt`; or None, then all pictures are train.
    Ids are `class_00077/image_00001`. Raises `UserError` with the faulty file.
    """
    texts = _captions(Path(captions), report, follow_links)
    _check_labels(texts, labels)
    split_of = _splits(split, texts)
    pictures = SourceFolder(images, "--images", follow_links)
    pictures.tell_left_out(report)
    raws = []
    for number, (folder, lines) in sorted(texts.items()):
        name = f"image_{number:05d}.jpg"
        try:
            path = pictures.files[pictures.find(name)]
        except MissingFile as error:
            report.defect("captions without picture", name, f"captions without picture: {error}")
            continue
        if not lines:
            report.defect("picture without captions", name)
        elif number not in split_of:
            report.defect("picture without split", name)
        else:
            raws.append(
                RawPicture(f"{folder}/image_{number:05d}", name, path, lines, split_of[number])
            )
    used = {f"image_{number:05d}.jpg" for number in texts}
    for name in sorted(pictures.files.keys() - used):
        if _number(name) is not None:
            report.defect("picture without captions", name)
    if not raws:
        raise UserError(
            f"--captions {captions}: fits none of the pictures of --images {images}; "
            "they are named image_00001.jpg and so on"
        )
    return raws


def _number(name: str) -> int | None:
    """'class_00001/image_06734.txt' -> 6734."""
    match = re.fullmatch(r"image_(\d+)", PurePosixPath(name).stem)
    return int(match[1]) if match else None


def _captions(
    source: Path, report: Report, follow_links: bool
) -> dict[int, tuple[str, tuple[str, ...]]]:
    """(class folder, cleaned captions) by a picture's number."""
    texts: dict[int, tuple[str, tuple[str, ...]]] = {}
    files = SourceFolder(source, "--captions", follow_links)
    files.tell_left_out(report)
    for name, path in files.files.items():
        number, folder = _number(name), path.parent.name
        if path.suffix != ".txt" or number is None or not re.fullmatch(r"class_\d+", folder):
            continue
        lines = report.caption_lines(path, name)
        if lines is not None:
            texts[number] = folder, lines
    if not texts:
        raise UserError(
            f"--captions {source}: no class_00001/image_06734.txt in it; give the "
            "folder text_c10 of Reed et al.'s cvpr2016_flowers.tar.gz"
        )
    return texts


def _numbers(path: Path, option: str, *names: str) -> dict[str, np.ndarray]:
    """Variables of a MATLAB file by name, each int64 [N]. Raises `UserError` if one is missing."""
    from scipy.io import loadmat  # imported here, so that the commands start without scipy

    if not path.is_file():
        raise UserError(f"{option} {path}: no such file")
    with library_errors(
        lambda reason: UserError(f"{option} {path}: not a MATLAB file that can be read ({reason})")
    ):
        content = loadmat(str(path))
        missing = [name for name in names if name not in content]
        if missing:
            raise UserError(
                f"{option} {path}: it holds no {' and no '.join(missing)}; is it "
                "another of the official files?"
            )
        return {name: np.asarray(content[name]).astype(np.int64).reshape(-1) for name in names}


def _check_labels(
    texts: Mapping[int, tuple[str, object]], labels: str | os.PathLike | None
) -> None:
    """Raise `UserError` if imagelabels.mat and the captions' folders give different classes."""
    if labels is None:
        return
    classes = _numbers(Path(labels), "--labels", "labels")["labels"]
    wrong = [
        number
        for number, (folder, _) in texts.items()
        if not 1 <= number <= len(classes)
        or classes[number - 1] != int(folder.removeprefix("class_"))
    ]
    if wrong:
        raise UserError(
            f"--labels {labels}: {len(wrong)} of {len(texts)} captioned pictures have "
            f"another class there, such as image_{min(wrong):05d}; are captions and "
            "labels of the same data set?"
        )


def _splits(split: str | None, texts: Mapping[int, tuple[str, object]]) -> dict[int, str]:
    """'train' or 'test' by a picture's number."""
    if split is None:
        return dict.fromkeys(texts, "train")
    if not split.startswith(REED):
        parts = _numbers(Path(split), "--split", *_SETS)
        return {int(number): side for name, side in _SETS.items() for number in parts[name]}
    folder = Path(split.removeprefix(REED))
    sides: dict[str, str] = {}
    for name, side in _LISTS.items():
        if (folder / name).is_file():
            text, _ = read_named_text(folder / name, f"--split: {printable(folder / name)}")
            sides |= {line.strip(): side for line in split_lines(text) if line.strip()}
    if "test" not in sides.values() or "train" not in sides.values():
        raise UserError(
            f"--split {split}: testclasses.txt and trainvalclasses.txt must be there, "
            "with a class such as class_00001 a line"
        )
    return {number: sides[name] for number, (name, _) in texts.items() if name in sides}
