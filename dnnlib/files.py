"""Atomic writes: a file or folder is written beside its target, synced and renamed.

So a target is whole or absent at any moment. JSON files and locked folders are here too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.ownership import Rule, refuse_foreign
from dnnlib.text import parse_json

# A temporary sibling is named `.TARGET.HOST-PROCESS.STARTRANDOM[.SUFFIX]`. The name says which
# process made it. Before a folder is replaced, the old folder moves to a sibling that ends in
# `_OLD`.
_OLD = ".old"
LOCK = ".lock"
_START = secrets.token_hex(2)  # tells this process from an earlier one with the same number
_cleaned: set[str] = set()  # folders from which this process has deleted what dead ones left
TEMPORARY = re.compile(
    r"\.(?P<target>[^/]+)\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)\."
    r"(?P<start>[0-9a-f]{4})?\w{8}(\.\w+)?"
)


def _host() -> str:
    """8 hex digits for this machine and its numbers of processes.

    Containers may share the name of a host, but each counts its processes separately.
    """
    numbers = ""
    with contextlib.suppress(OSError):  # only Linux has this file
        numbers = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32((socket.gethostname() + numbers).encode()):08x}"


_HOST = _host()


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turn a failed write below `path` into a `UserError` that names the path.

    Such failures are a full disk, missing rights or a disk that is not there.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise UserError(
            f"{path}: cannot be written ({refusal.strerror}); "
            "free space or rights there, or name another place"
        ) from None


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's error behind `error`, or None.

    `torch.save` raises a RuntimeError while it handles the OSError of the file.
    """
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error


def make_folder(path: str | os.PathLike) -> None:
    """Create a folder and its missing parents. Raises `UserError` if that fails."""
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)


def cache_folder(preferred: str | os.PathLike, other: str | os.PathLike) -> Path:
    """Return `preferred` if this process can write there, else `other`.

    In the second case, such as for a data set on a read-only disk, one line says so on stderr.
    """
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
    """The folder $XDG_CACHE_HOME/eidgan, by default ~/.cache/eidgan."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eidgan"


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Lock `folder` for this process until the block ends.

    The kernel releases the lock when the process ends for any reason. Raises `UserError` if another
    process holds the lock. It is a POSIX lock: forked workers do not inherit it, and it works
    across the machines of a shared disk. It would also end if this process opened and closed
    `.lock` a second time, so no other code opens that file.
    """
    with writing(folder):
        handle = open(Path(folder) / LOCK, "a")  # noqa: SIM115 (closed below)
    with handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(
                f"{folder} is in use by another process; "
                "wait for its end or stop it, or name another folder"
            ) from None
        except OSError as error:  # the file system has no locks
            print(
                f"{folder} cannot be locked ({error.strerror}): "
                "make sure that no second process uses it",
                flush=True,
            )
        yield


@contextlib.contextmanager
def in_turn(target: str | os.PathLike) -> Iterator[None]:
    """Run the block while no other process runs it for the same `target`, and wait until then.

    For what several processes would compute at the same time, such as a cache. The lock is a hidden
    file beside the target, which stays there. The kernel releases it when the process ends for any
    reason. Where the file system has no locks, the block runs at once. Raises `UserError` if the
    folder of the target cannot be written.
    """
    target = Path(target)
    make_folder(target.parent)
    lock = target.with_name(f".{target.name}{LOCK}")
    with writing(lock):
        # Whoever may read the file may lock it, another user of a shared folder as well.
        handle = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{target}: another process computes it; waiting for it", file=sys.stderr)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_leftovers(
    folder: str | os.PathLike, target: str | None = None, *, exclusive: bool = False
) -> None:
    """Delete the temporary files in `folder` that dead processes of this machine left.

    If the replacement of a folder was stopped half-way, the old folder is moved back.

    target: only temporary files of the target with this name; None = of every target.
    exclusive: the caller holds the lock of `folder`. Then no process is writing there, and the
    temporary files of every process and machine are deleted.
    """
    if not os.path.isdir(folder):
        return
    for path in Path(folder).iterdir():
        match = TEMPORARY.fullmatch(path.name)
        if match is None or target not in (None, match["target"]):
            continue
        if not exclusive and (match["host"] != _HOST or _alive(match)):
            continue
        original = path.with_name(match["target"])
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another user's, or gone
            if path.is_dir() and path.suffix == _OLD and not os.path.lexists(original):
                os.replace(path, original)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _alive(match: re.Match[str]) -> bool:
    """Whether the process that made a temporary file is running."""
    process = int(match["process"])
    if process == os.getpid():
        return match["start"] == _START
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's process
    return True


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike, *, ours: Rule, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block succeeds, rename it to `target`.

    ours: the rule that decides whether an existing `target` may be replaced (`dnnlib.ownership`).
    It is checked before and after the block. What killed processes left beside the target is
    deleted first, in each folder once. folder: the temporary path is a directory, and an
    existing target directory is replaced as a whole. A target that is a link stays a link. Raises
    `UserError` if the rule forbids the replacement or the system refuses to write.
    """
    target = Path(os.path.realpath(target)) if os.path.islink(target) else Path(target)
    prefix = f".{target.name}.{_HOST}-{os.getpid()}.{_START}"
    with writing(target):
        if folder:
            remove_leftovers(target.parent, target.name)
        elif (parent := os.path.realpath(target.parent)) not in _cleaned:
            _cleaned.add(parent)  # once: a list of all files for each of thousands takes too long
            remove_leftovers(parent)
        _refuse_other(target, ours, folder)
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


def check_target(target: str | os.PathLike, ours: Rule, *, folder: bool = False) -> None:
    """Raise `UserError` before long work where `atomic_path` could not write its result.

    The folder of the target, or the nearest one above that exists, gets a nameless file for a
    moment: rights alone do not tell, such as for root on a read-only disk.
    """
    target = Path(os.path.realpath(target))
    with writing(target):
        _refuse_other(target, ours, folder)
        place = target.parent
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass


def _refuse_other(target: Path, ours: Rule, folder: bool) -> None:
    """Raise `UserError` for what may not be replaced, and for a folder where a file belongs."""
    refuse_foreign(target, ours)
    if target.is_dir() and not folder:
        raise UserError(f"{target} is a folder, but a file belongs there; name another place")


def _replace_folder(temporary: Path, target: Path, prefix: str) -> None:
    """Replace the folder `target` by `temporary`.

    One call cannot do that, so the old folder is moved aside first, and moved back on failure. If
    the process is killed between the two moves, `remove_leftovers` moves the old folder back.
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
    """Write a UTF-8 text file atomically; `ours` is as in `atomic_path`."""
    with atomic_path(target, ours=ours) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike, value: Any, *, ours: Rule) -> None:
    """Write indented JSON with a final newline atomically; `ours` is as in `atomic_path`."""
    write_text(target, _json(value, indent=2) + "\n", ours=ours)


def _json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON in UTF-8. Bytes of a path that are not UTF-8 become escapes, such as \\udce9,
    of which `json.loads` makes the same path again.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def read_json(path: str | os.PathLike, mended: list[str] | None = None) -> Any:
    """Parse a JSON file; `mended` is as in `parse_json`. Raises `UserError` naming the file."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return parse_json(data, str(path), mended)


def append_json_line(path: str | os.PathLike, record: dict) -> None:
    """Append one record to a `.jsonl` file in a single write.

    If a crash cut the last line of the file, the record begins on a new line after it.
    """
    line = _json(record).encode() + b"\n"
    with writing(path), open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else b"\n" + line
        file.write(line)


def read_json_lines(
    path: str | os.PathLike, fault: Callable[[dict], str | None] = lambda record: None
) -> list[dict]:
    """All whole records of a `.jsonl` file; [] if the file does not exist.

    A last line that a crash has cut is dropped. Raises `UserError` naming any other line that is
    not a JSON object, and one of which `fault` says what is wrong.
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
        if reason := fault(record):
            raise UserError(f"{path}, line {number}: {reason}; correct or delete that line")
        records.append(record)
    return records


def file_fact(path: str | os.PathLike) -> str:
    """The name and the hash of a file, as a record says which file was read."""
    return f"{printable(Path(path).name)} (sha256 {sha256_of(path)})"


def sha256_of(path: str | os.PathLike) -> str:
    """The sha256 hash of a file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
