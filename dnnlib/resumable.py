"""Long work in numbered pieces that goes on after a kill: a working folder beside the result.

The folder holds `state.json`, which says what the work is, and `done.bin`, one 64-bit number a
finished piece. A piece counts as finished once its number is on the disk, and the number is written
after the data of the piece were synced. So a kill or a power cut loses the piece in progress only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from dnnlib.errors import UserError
from dnnlib.files import atomic_path, locked, read_json, write_json, writing
from dnnlib.names import printable
from dnnlib.ownership import in_our_folder, json_with, never, refuse_foreign

STATE, DONE = "state.json", "done.bin"
_NUMBER = struct.Struct("<Q")


class Work:
    """Work in progress in `folder`; `done` holds one number for each finished piece, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / DONE
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = len(data) - len(data) % _NUMBER.size  # a power cut may leave part of a number
        self.done = [number for (number,) in _NUMBER.iter_unpack(data[:whole])]
        with writing(self._path), open(self._path, "ab") as file:
            file.truncate(whole)

    def finish_piece(self, number: int) -> None:
        """Append the number of a piece whose data are synced. Raises `UserError`."""
        with writing(self._path), open(self._path, "r+b") as file:
            # A write that a full disk cut short is overwritten, never followed.
            file.seek(len(self.done) * _NUMBER.size)
            file.write(_NUMBER.pack(number))
            sync(file)
        self.done.append(number)

    def remove(self) -> None:
        """Delete the working folder; the result is in place."""
        # Data files are deleted first and the state file last. If the deletion is interrupted, the
        # state file still marks the folder as ours and as finished.
        for path in self.folder.iterdir():
            if path.name not in (STATE, DONE):
                path.unlink()
        self._path.unlink()
        shutil.rmtree(self.folder)


def sync(file: BinaryIO) -> None:
    """Wait until the disk holds what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: str | os.PathLike) -> None:
    """Wait until the disk holds the names of the files in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_workplace(path: Path) -> str | None:
    """The rule of ownership for working folders."""
    return json_with("command", "pieces")(path / STATE) and f"holds no {STATE} of an unfinished run"


@contextlib.contextmanager
def resumable_work(
    folder: str | os.PathLike, command: Mapping[str, str], pieces: int
) -> Iterator[Work]:
    """Open the working folder of a command, or make it; one process at a time.

    command: what decides the result, by name, such as seed and size. pieces: how many there are.
    The caller removes the folder when the result is in place. Raises `UserError` where the folder
    belongs to another command or process, or was not made by this program.
    """
    folder, stated = Path(folder), dict(command)
    refuse_foreign(folder, is_workplace)
    if not (folder / STATE).exists():
        with atomic_path(folder, ours=never, folder=True) as temporary:
            state = {"command": stated, "pieces": pieces}
            write_json(temporary / STATE, state, ours=in_our_folder)
    with locked(folder):
        _refuse_another_command(folder, stated)
        work = Work(folder)
        if work.done:
            done = f"{len(work.done)} of {pieces} pieces are done"
            print(f"{printable(folder)}: {done}, going on", file=sys.stderr, flush=True)
        yield work


def _refuse_another_command(folder: Path, command: dict[str, str]) -> None:
    recorded = read_json(folder / STATE)["command"]
    names = [name for name in {**command, **recorded} if command.get(name) != recorded.get(name)]
    if names:
        there = ", ".join(f"{name} {recorded.get(name)!r}" for name in names)
        here = ", ".join(f"{name} {command.get(name)!r}" for name in names)
        raise UserError(
            f"{printable(folder)} is the unfinished run of another command ({there}; now {here}); "
            "repeat that command to finish it, name another place, or delete that folder"
        )
