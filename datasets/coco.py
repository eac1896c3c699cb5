"""MS-COCO captions, 2014 and 2017, from the official picture folders and `captions_*.json` files.

Ids are COCO's picture ids. Pictures are sorted by id, so the archive does not depend on their order
in the annotation file.
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
    """The pictures of one annotation file that have a caption and a picture file, sorted by id.

    images: a folder such as train2014/. captions: a file such as captions_train2014.json.
    split: 'train' or 'test'. report: counts the pictures and captions that are left out.
    Raises `UserError` for a missing folder and for a file without COCO captions.
    """
    folder, file = Path(images), Path(captions)
    if not folder.is_dir():
        raise UserError(
            f"--images {folder}: no such folder; unpack train2014.zip or val2014.zip from "
            "cocodataset.org there"
        )
    if not file.is_file():
        raise UserError(f"--captions {file}: no such file; {WHERE}")
    names, texts = _parse(file, report)
    raws = []
    # COCO's pictures lie in one folder without subfolders, so there is no link to follow.
    source = SourceFolder(folder, "--images", follow_links=None)
    source.tell_left_out(report)
    listed = set()
    for number in sorted(names):
        name, sentences = names[number], texts.pop(number, ())
        try:
            file_name = source.find(name)
            listed.add(file_name)
        except MissingFile as error:
            file_name, missing = None, error
        if not sentences:
            report.defect("picture without captions", name)
        elif file_name is None:
            report.defect(
                "captions without picture",
                name,
                f"captions without picture: {missing} in {folder.name}",
            )
        else:
            raws.append(RawPicture(str(number), name, source.files[file_name], sentences, split))
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
            f"--captions {file}: none of its {len(names)} pictures is in {folder}; do year and "
            "split agree?"
        )
    return raws


def split_of(captions: str | os.PathLike) -> str:
    """'train', or 'test' for COCO's val, by the name of the annotation file.

    Raises `UserError` if the name holds neither word.
    """
    name = Path(captions).name.lower()
    if "train" in name:
        return "train"
    if "val" in name or "test" in name:
        return "test"
    raise UserError(
        f"--captions {captions}: the name says neither train nor val; pass --split train or "
        "--split test"
    )


def _parse(file: Path, report: Report) -> tuple[dict[int, str], dict[int, tuple[str, ...]]]:
    """(file name by picture id, cleaned captions by picture id, sorted by the captions' ids)."""
    mended: list[str] = []
    content = read_json(file, mended)
    report.mended(mended)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("images", "annotations")
    ):
        raise UserError(f"{file}: the lists 'images' and 'annotations' are missing; {WHERE}")
    names: dict[int, str] = {}
    for number, item in enumerate(content["images"]):
        place = f"{file}: images[{number}]"
        key, name = _field(item, "id", int, place), _field(item, "file_name", str, place)
        if Path(name).name != name:
            raise UserError(f"{place}: file_name must be a plain name, got {name!r}")
        if names.setdefault(key, name) != name:
            raise UserError(f"{place}: id {key} is there twice")
    captions: dict[int, list[tuple[int, str]]] = {}  # (caption id, text) by picture id
    for number, item in enumerate(content["annotations"]):
        place = f"{file}: annotations[{number}]"
        if "caption" not in item if isinstance(item, dict) else True:
            raise UserError(
                f"{place}: no 'caption'; this is another kind of annotation file (instances, "
                f"keypoints?); {WHERE}"
            )
        key = _field(item, "image_id", int, place)
        for text in report.clean([item["caption"]]) or (None,):
            if text is None:
                report.defect(
                    "empty caption", f"annotation {item.get('id', number)}", "empty caption"
                )
            else:
                caption_id = item["id"] if isinstance(item.get("id"), int) else number
                captions.setdefault(key, []).append((caption_id, text))
    return names, {key: tuple(text for _, text in sorted(rows)) for key, rows in captions.items()}


def _field(item: Any, key: str, kind: type, place: str) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get(key), kind):
        raise UserError(f"{place}: {key!r} is missing or not of type {kind.__name__}")
    return item[key]
