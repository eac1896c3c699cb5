"""WebDataset shards: tar files of samples whose members share a name up to the first dot, as img2dataset writes them.

A sample is a picture (jpg, png, webp) with a caption in NAME.txt, or under `caption` in NAME.json. Shards are read once,
in order of their names; nothing is extracted to disk.
"""

from __future__ import annotations

import glob
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from datasets.importing import RawPicture, Report, clean_captions
from dnnlib.errors import UserError

_PICTURES = ("jpg", "jpeg", "png", "webp")


def find_shards(source: str) -> list[Path]:
    """Tar files of a folder, a glob pattern or one path, sorted. Raises `UserError` when there is none."""
    path = Path(source)
    found = sorted(path.glob("*.tar")) if path.is_dir() else sorted(map(Path, glob.glob(source)))
    if not found:
        raise UserError(f"--source {source}: no .tar files there; give a folder of img2dataset shards or a pattern")
    return found


def shard_pictures(shards: Sequence[str | os.PathLike], split: str, report: Report) -> Iterator[RawPicture]:
    """All usable samples; a cut shard yields what comes before the cut. Ids are sample keys, made unique by shard."""
    seen: set[str] = set()
    for shard in map(Path, shards):
        try:
            with tarfile.open(shard, "r|*") as tar:
                for key, members in _samples(tar):
                    raw = _sample(shard, key, members, split, seen, report)
                    if raw is not None:
                        yield raw
            _check_end(shard)
        except (tarfile.TarError, EOFError, OSError) as error:
            report.defect("damaged shard", shard.name, f"damaged shard: {error}")


def _check_end(shard: Path) -> None:
    # The library takes a file that was cut between two members for a whole one.
    with open(shard, "rb") as file:
        file.seek(max(0, shard.stat().st_size - tarfile.BLOCKSIZE))
        if shard.suffix == ".tar" and file.read().strip(b"\0"):
            raise tarfile.ReadError("the end mark is missing")


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, bytes by ending) of consecutive members with one key."""
    key = ""
    members: dict[str, bytes] = {}
    for member in tar:
        if not member.isfile():
            continue
        path = PurePosixPath(member.name)
        stem, _, ending = path.name.partition(".")
        own = str(path.with_name(stem))
        if own != key and members:
            yield key, members
            members = {}
        key = own
        file = tar.extractfile(member)
        data = file.read() if file is not None else b""
        if len(data) != member.size:
            raise tarfile.ReadError(f"{member.name} is cut short")
        members[ending.lower()] = data
    if members:
        yield key, members


def _sample(shard: Path, key: str, members: dict[str, bytes], split: str, seen: set[str], report: Report) -> RawPicture | None:
    name = f"{shard.name}/{key}"
    picture = next((members[ending] for ending in _PICTURES if ending in members), None)
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
        texts = clean_captions([members["txt"].decode("utf-8-sig", errors="replace")])
        if texts:
            return texts
    if record is None:
        report.met("damaged json", name)
        return ()
    found = record.get("captions", record.get("caption", ()))
    return clean_captions(found if isinstance(found, list) else [found])


def _record(members: dict[str, bytes]) -> dict | None:
    try:
        record = json.loads(members.get("json", b"{}"))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _status(members: dict[str, bytes]) -> str:
    record = _record(members) or {}
    status, why = record.get("status"), record.get("error_message")
    return f": {status} {why or ''}".rstrip() if status and status != "success" else ""
