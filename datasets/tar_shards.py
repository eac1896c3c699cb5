"""Import WebDataset shards, as img2dataset writes them.

A shard is a tar file. The members of one sample have the same name up to the first dot: a picture
NAME.jpg, or in another format, with a caption in NAME.txt or under `caption` in NAME.json. A member
such as NAME.depth.png is the picture only if there is no NAME.jpg or the like. Shards are read
once, in the order of their names, and not extracted to disk.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from datasets.importing import RawPicture
from datasets.packed_files import PackedError, TarMember, tar_members
from datasets.picture_files import is_picture_name
from datasets.report import Report
from datasets.source_files import HIDDEN
from dnnlib.errors import UserError
from dnnlib.names import is_hidden, printable
from dnnlib.text import TextError, parse_json

_TEXTS = ("txt", "json")


def find_shards(source: str) -> list[Path]:
    """The tar files of a folder, of a glob pattern or of one path, sorted.

    Raises `UserError` if there is none.
    """
    path = Path(source)
    shards = sorted(path.glob("*.tar")) if path.is_dir() else sorted(map(Path, glob.glob(source)))
    shards = [shard for shard in shards if not is_hidden(shard.name)]
    if not shards:
        raise UserError(
            f"--source {source}: no .tar files there; give a folder of img2dataset shards or "
            "a pattern"
        )
    return shards


def shard_pictures(
    shards: Sequence[str | os.PathLike], split: str, report: Report
) -> Iterator[RawPicture]:
    """The usable samples of all shards, of one split.

    A truncated shard yields the samples before its end and counts as a defect. The id of a sample
    is its key, or SHARD/KEY if an earlier shard has the same key.
    """
    seen: set[str] = set()
    for shard in map(Path, shards):
        try:
            for key, members in samples_of(tar_members(shard), report):
                raw = _sample(shard, key, members, split, seen, report)
                if raw is not None:
                    yield raw
        except PackedError as error:
            report.defect(
                "damaged shard",
                shard.name,
                f"damaged shard: {printable(error.member)} {error.reason}",
            )


def samples_of(tar: Iterator[TarMember], report: Report) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, bytes by file ending) of each run of consecutive members of a tar with the same key."""
    key, members = "", dict[str, bytes]()
    for member in tar:
        path = PurePosixPath(member.name)
        if is_hidden(member.name):
            report.note(HIDDEN)
            continue
        stem, _, ending = path.name.partition(".")
        member_key = printable((path.parent / stem).as_posix())  # a damaged name may be empty
        if member_key != key and members:
            yield key, members
            members = {}
        key = member_key
        members[ending.lower()] = _content(member, ending.lower(), report)
    if members:
        yield key, members


def _content(member: TarMember, ending: str, report: Report) -> bytes:
    """The bytes of a picture or a caption; b'' for other members, which are counted."""
    if ending in _TEXTS or is_picture_name(f"x.{ending}"):
        return member.read()
    report.note(
        f"file of another kind (.{printable(ending)})"
        if ending
        else "file of another kind (no ending)"
    )
    return b""


def _sample(
    shard: Path, key: str, members: dict[str, bytes], split: str, seen: set[str], report: Report
) -> RawPicture | None:
    """The picture of a sample; None and a defect if it is not usable. seen: ids so far."""
    name = f"{shard.name}/{key}"
    picture = picture_of(members)
    captions = captions_of(members, name, report)
    if picture is None:
        kind = "captions without picture"
        report.defect(kind, name, f"{kind}{_status(members)}")
        return None
    if not captions:
        report.defect("picture without captions", name)
        return None
    identity = key if key not in seen else f"{shard.stem}/{key}"
    if identity in seen:
        report.defect("key that is there twice", name)
        return None
    seen.add(identity)
    return RawPicture(identity, name, picture, captions, split)


def picture_of(members: dict[str, bytes]) -> bytes | None:
    """The picture of a sample: NAME.jpg rather than NAME.depth.png; None if it has none."""
    endings = (ending for ending in members if is_picture_name(f"x.{ending}"))
    ending = min(endings, key=lambda ending: "." in ending, default=None)
    return None if ending is None else members[ending]


def captions_of(members: dict[str, bytes], name: str, report: Report) -> tuple[str, ...]:
    """The captions of a sample, from its member .txt or else .json; name: for the report."""
    record = _record(members)
    if "txt" in members:
        # The whole file is one caption: img2dataset writes alt texts, which may hold newlines.
        try:
            texts = report.clean([report.decode(members["txt"])])
        except TextError as error:
            report.met("damaged text", name, error)
            texts = ()
        if texts:
            return texts
    if record is None:
        report.met("damaged json", name)
        return ()
    captions = record.get("captions", record.get("caption", ()))
    return report.clean(captions if isinstance(captions, list) else [captions])


def _record(members: dict[str, bytes]) -> dict | None:
    """The object in NAME.json; {} without such a member, None if it is damaged."""
    try:
        record = parse_json(members.get("json", b"{}"), "")
    except UserError:
        return None
    return record if isinstance(record, dict) else None


def _status(members: dict[str, bytes]) -> str:
    """Why a sample has no picture: img2dataset's error, or the endings that are not read."""
    record = _record(members) or {}
    status, why = record.get("status"), record.get("error_message")
    if status and status != "success":
        return f": {status} {why or ''}".rstrip()
    others = sorted(f".{printable(ending)}" for ending in members if ending not in _TEXTS)
    return f": {', '.join(others)} is not read here" if others else ""
