"""Files that are either whole or absent: write beside the target, sync, rename."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.ownership import Rule, refuse_foreign
from dnnlib.text import parse_json

# A temporary sibling is `.TARGET.HOST-PROCESS.RANDOM[.SUFFIX]`, so that one can tell whose it was.
# Before a folder is replaced, the old one moves to a sibling that ends in `_OLD`.
_OLD = ".old"
LOCK = ".lock"
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_TEMPORARY = re.compile(r"\.(?P<target>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)\.\w{8}(\.\w+)?")


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """The system's refusal to write below `path` becomes a `UserError` that names it: no space, no right, no such disk."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise UserError(
            f"{path}: cannot be written ({refusal.strerror}); free space or rights there, or name another "
            "place"
        ) from None


def _refusal(error: BaseException | None) -> OSError | None:
    # torch.save raises its own error over that of the file it writes to
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error


def make_folder(path: str | os.PathLike) -> None:
    """The folder and its parents, where they are missing. Raises `UserError`."""
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)


def cache_folder(preferred: str | os.PathLike, other: str | os.PathLike) -> Path:
    """`preferred` if one can write there, else `other`, and one line that says so (a data set on a read-only disk)."""
    place = Path(preferred).absolute()
    while not place.exists():
        place = place.parent
    if place.is_dir() and os.access(place, os.W_OK):
        return Path(preferred)
    print(
        f"{preferred} cannot be written, so features are kept in {other}",
        file=sys.stderr,
        flush=True,
    )
    return Path(other)


def user_cache_folder() -> Path:
    """$XDG_CACHE_HOME/eidgan, by default ~/.cache/eidgan."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eidgan"


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Hold `folder` for this process; the kernel lets go when the process ends, however it ends.

    Raises `UserError` where another process holds it. A POSIX lock: forked workers do not inherit it, and it reaches over
    the machines of a shared disk. (It also ends when this process opens `.lock` once more and closes it: nobody does.)
    """
    with writing(folder):
        handle = open(Path(folder) / LOCK, "a")  # noqa: SIM115 (closed below)
    with handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(
                f"{folder} is in use by another process; wait for its end or stop it, or name another folder"
            ) from None
        except OSError as error:  # a disk without locks
            print(
                f"{folder} cannot be locked ({error.strerror}): make sure that no second process uses it",
                flush=True,
            )
        yield


def remove_leftovers(
    folder: str | os.PathLike, target: str | None = None, *, exclusive: bool = False
) -> None:
    """Delete temporary siblings (of one target, or all) that dead processes of this machine left.

    A folder whose replacement was stopped half-way gets its old content back. exclusive: the caller
    holds the folder's lock, so those of every process and machine are left over.
    """
    if not os.path.isdir(folder):
        return
    for path in Path(folder).iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or target not in (None, match["target"]):
            continue
        if not exclusive and (match["host"] != _HOST or _alive(int(match["process"]))):
            continue
        original = path.with_name(match["target"])
        if path.is_dir() and path.suffix == _OLD and not os.path.lexists(original):
            os.replace(path, original)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return (
        process != os.getpid()
    )  # our own number, from before: nobody asks between two writes of his own


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike, *, ours: Rule, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `target` to fill; on success it takes the target's name.

    ours: the rule by which something that lies at `target` may be replaced, see `dnnlib.ownership`;
    it is asked before and after the filling. With `folder=True` the sibling is a directory, and an
    existing target directory is replaced as a whole. A linked target stays a link. Raises
    `UserError` for what is not ours and where the system refuses to write.
    """
    target = Path(os.path.realpath(target)) if os.path.islink(target) else Path(target)
    prefix = f".{target.name}.{_HOST}-{os.getpid()}."
    with writing(target):
        if folder:
            remove_leftovers(target.parent, target.name)
        refuse_foreign(target, ours)
        if target.is_dir() and not folder:
            raise UserError(f"{target} is a folder, but a file belongs there; name another place")
        target.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            temporary.chmod(0o755)
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
            os.close(handle)
            temporary = Path(name)
            temporary.chmod(0o644)
        try:
            yield temporary
            _sync(temporary, *temporary.rglob("*"))
            refuse_foreign(target, ours)
            if folder and target.is_dir():
                _replace_folder(temporary, target, prefix)
            else:
                os.replace(temporary, target)
            _sync(target.parent)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def _replace_folder(temporary: Path, target: Path, prefix: str) -> None:
    """A folder cannot be replaced in one call, so the old one moves aside, and back on failure.

    Where the process is killed between the two, `remove_leftovers` moves it back.
    """
    aside = Path(tempfile.mkdtemp(prefix=prefix, suffix=_OLD, dir=target.parent))
    try:
        os.replace(target, aside)
        os.replace(temporary, target)
    except BaseException:
        if not target.exists():
            os.replace(aside, target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _sync(*paths: Path) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(target: str | os.PathLike, text: str, *, ours: Rule) -> None:
    """Atomic `Path.write_text` in UTF-8; `ours` as in `atomic_path`."""
    with atomic_path(target, ours=ours) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike, value: Any, *, ours: Rule) -> None:
    """Atomic, indented, with a final newline; `ours` as in `atomic_path`."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n", ours=ours)


def read_json(path: str | os.PathLike, mended: list[str] | None = None) -> Any:
    """Parse a JSON file; `mended` as in `parse_json`. Raises `UserError` that names the file."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return parse_json(data, str(path), mended)


def append_json_line(path: str | os.PathLike, record: dict) -> None:
    """Add one record to a `.jsonl` file in a single write, after a cut line on a line of its own."""
    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    with writing(path), open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else b"\n" + line
        file.write(line)


def read_json_lines(path: str | os.PathLike) -> list[dict]:
    """All whole records of a `.jsonl` file ([] when there is none); a line cut by a crash at the end is dropped.

    Raises `UserError` naming any other line that is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise UserError(
                f"{path}, line {number}: not valid JSON ({error}); delete that line"
            ) from None
        records.append(record)
    return records


def sha256_of(path: str | os.PathLike) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
