"""MS-COCO captions, 2014 and 2017, from the official picture folders and `captions_*.json` files.

Ids are COCO's picture ids. The order is that of the ids, so the archive does not depend on the order in the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datasets.folder import count_others
from datasets.importing import RawPicture
from datasets.picture_files import is_picture_name
from datasets.report import Report
from datasets.source_files import MissingFile, SourceFolder
from dnnlib.errors import UserError
from dnnlib.files import read_json

WHERE = "the captions come in annotations_trainval2014.zip (2017) from cocodataset.org"


def coco_pictures(
    images: str | os.PathLike, captions: str | os.PathLike, split: str, report: Report
) -> list[RawPicture]:
    """All pictures of one annotation file that have a caption and a file, sorted by id; the rest goes to the report.

    images: a folder such as train2014/. captions: a file such as captions_train2014.json. Raises `UserError` for
    missing folders and for files that are no COCO captions.
    """
    folder, file = Path(images), Path(captions)
    if not folder.is_dir():
        raise UserError(
            f"--images {folder}: no such folder; unpack train2014.zip or val2014.zip from cocodataset.org there"
        )
    if not file.is_file():
        raise UserError(f"--captions {file}: no such file; {WHERE}")
    names, texts = _parse(file, report)
    raws = []
    source = SourceFolder(folder, "--images", follow_links=None)  # the pictures lie in one folder
    source.tell_left_out(report)
    listed = set()
    for number in sorted(names):
        name, sentences = names[number], texts.pop(number, ())
        try:
            found = source.find(name)
            listed.add(found)
        except MissingFile as error:
            found, missing = None, error
        if not sentences:
            report.defect("picture without captions", name)
        elif found is None:
            report.defect(
                "captions without picture",
                name,
                f"captions without picture: {missing} in {folder.name}",
            )
        else:
            raws.append(RawPicture(str(number), name, source.files[found], sentences, split))
    for number in sorted(texts):
        report.defect(
            "captions without picture",
            f"image_id {number}",
            "captions without picture: no such entry in images",
        )
    others = {name for name in source.files if name not in listed}
    for name in sorted(filter(is_picture_name, others)):
        report.defect(
            "picture without captions", name, "picture without captions: not in the annotations"
        )
    count_others({name for name in others if not is_picture_name(name)}, report)
    if not raws:
        raise UserError(
            f"--captions {file}: none of its {len(names)} pictures is in {folder}; do year and split agree?"
        )
    return raws


def split_of(captions: str | os.PathLike) -> str:
    """'train' or 'test' (COCO's val) by the name of the annotation file. Raises `UserError` where it says neither."""
    name = Path(captions).name.lower()
    if "train" in name:
        return "train"
    if "val" in name or "test" in name:
        return "test"
    raise UserError(
        f"--captions {captions}: the name says neither train nor val; pass --split train or --split test"
    )


def _parse(file: Path, report: Report) -> tuple[dict[int, str], dict[int, tuple[str, ...]]]:
    """(file name by picture id, cleaned captions by picture id in the order of their own ids)."""
    mended: list[str] = []
    content = read_json(file, mended)
    report.mended(mended)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("images", "annotations")
    ):
        raise UserError(f"{file}: the lists 'images' and 'annotations' are missing; {WHERE}")
    names: dict[int, str] = {}
    for number, item in enumerate(content["images"]):
        where = f"{file}: images[{number}]"
        key, name = _field(item, "id", int, where), _field(item, "file_name", str, where)
        if Path(name).name != name:
            raise UserError(f"{where}: file_name must be a plain name, got {name!r}")
        if names.setdefault(key, name) != name:
            raise UserError(f"{where}: id {key} is there twice")
    found: dict[int, list[tuple[int, str]]] = {}
    for number, item in enumerate(content["annotations"]):
        where = f"{file}: annotations[{number}]"
        if "caption" not in item if isinstance(item, dict) else True:
            raise UserError(
                f"{where}: no 'caption'; this is another kind of annotation file (instances, keypoints?); {WHERE}"
            )
        key = _field(item, "image_id", int, where)
        for text in report.clean([item["caption"]]) or (None,):
            if text is None:
                report.defect(
                    "empty caption", f"annotation {item.get('id', number)}", "empty caption"
                )
            else:
                found.setdefault(key, []).append(
                    (item["id"] if isinstance(item.get("id"), int) else number, text)
                )
    return names, {key: tuple(text for _, text in sorted(rows)) for key, rows in found.items()}


def _field(item: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get(key), kind):
        raise UserError(f"{where}: {key!r} is missing or not of type {kind.__name__}")
    return item[key]
