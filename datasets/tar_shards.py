"""WebDataset shards: tar files of samples whose members share a name up to the first dot, as
img2dataset writes them.

A sample is a picture of any kind that is read here, with a caption in NAME.txt, or under `caption`
in NAME.json. Shards are read once, in order of their names; nothing is extracted to disk.
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
    """Tar files of a folder, a glob pattern or one path, sorted. Raises `UserError` when there is none."""
    path = Path(source)
    found = sorted(path.glob("*.tar")) if path.is_dir() else sorted(map(Path, glob.glob(source)))
    found = [shard for shard in found if not is_hidden(shard.name)]
    if not found:
        raise UserError(
            f"--source {source}: no .tar files there; give a folder of img2dataset shards or a pattern"
        )
    return found


def shard_pictures(
    shards: Sequence[str | os.PathLike], split: str, report: Report
) -> Iterator[RawPicture]:
    """All usable samples; a cut shard yields what comes before the cut. Ids are sample keys, made unique by shard."""
    seen: set[str] = set()
    for shard in map(Path, shards):
        try:
            for key, members in _samples(shard, report):
                raw = _sample(shard, key, members, split, seen, report)
                if raw is not None:
                    yield raw
        except PackedError as error:
            report.defect(
                "damaged shard",
                shard.name,
                f"damaged shard: {printable(error.member)} {error.reason}",
            )


def _samples(shard: Path, report: Report) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, bytes by ending) of consecutive members with one key."""
    key, members = "", dict[str, bytes]()
    for member in tar_members(shard):
        path = PurePosixPath(member.name)
        if is_hidden(member.name):
            report.note(HIDDEN)
            continue
        stem, _, ending = path.name.partition(".")
        own = printable((path.parent / stem).as_posix())  # a damaged name may be empty
        if own != key and members:
            yield key, members
            members = {}
        key = own
        members[ending.lower()] = _content(member, ending.lower(), report)
    if members:
        yield key, members


def _content(member: TarMember, ending: str, report: Report) -> bytes:
    """b'' for what is neither a picture nor a caption."""
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
    name = f"{shard.name}/{key}"
    picture = next(
        (data for ending, data in members.items() if is_picture_name(f"x.{ending}")), None
    )
    captions = _captions(members, name, report)
    if picture is None:
        kind = "captions without picture"
        report.defect(kind, name, f"{kind}{_status(members)}")
        return None
    if not captions:
        report.defect("picture without captions", name)
        return None
    own = key if key not in seen else f"{shard.stem}/{key}"
    if own in seen:
        report.defect("key that is there twice", name)
        return None
    seen.add(own)
    return RawPicture(own, name, picture, captions, split)


def _captions(members: dict[str, bytes], name: str, report: Report) -> tuple[str, ...]:
    record = _record(members)
    if "txt" in members:
        # One text a sample: img2dataset does not split captions by line, and alt texts hold newlines.
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
    found = record.get("captions", record.get("caption", ()))
    return report.clean(found if isinstance(found, list) else [found])


def _record(members: dict[str, bytes]) -> dict | None:
    try:
        record = parse_json(members.get("json", b"{}"), "")
    except UserError:
        return None
    return record if isinstance(record, dict) else None


def _status(members: dict[str, bytes]) -> str:
    record = _record(members) or {}
    status, why = record.get("status"), record.get("error_message")
    if status and status != "success":
        return f": {status} {why or ''}".rstrip()
    others = sorted(f".{printable(ending)}" for ending in members if ending not in _TEXTS)
    return f": {', '.join(others)} is not read here" if others else ""
