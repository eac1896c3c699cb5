"""Checkpoints: the state of a list of named objects in training-state-<kimg>.pt.

A checkpoint is written atomically and read without executing pickled code. While a thread writes
it, training goes on.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from dnnlib.names import numbered
from dnnlib.ownership import in_our_folder
from networks.snapshot_folders import snapshots_in
from torch_utils.memory import is_memory_error

FORMAT = 1
PREFIX = "training-state-"
# Errors of the system that say nothing about the content of a file.
_NO_DAMAGE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def read_newest(run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest readable checkpoint of a run folder and its state; None if there is none.

    A damaged checkpoint is reported on stdout, and the one before it is read. Raises `UserError` if
    all checkpoints are damaged, if the system refuses to read one, or if it has another format. An
    out-of-memory error is passed on.
    """
    files = checkpoints(run_dir)
    for path in files:
        try:
            refuse_damage(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
            assert isinstance(state, dict)
        except Exception as error:  # damaged bytes can raise any exception in the unpickler
            if is_memory_error(error):
                raise
            if isinstance(error, OSError) and error.errno in _NO_DAMAGE:
                raise UserError(f"{path} cannot be read: {error.strerror}") from None
            print(
                f"Checkpoint {path} cannot be read ({type(error).__name__}); "
                "trying the one before it."
            )
            continue
        if state.get("format") != FORMAT:
            raise UserError(
                f"{path}: written by another version of this code; finish the run with that one"
            )
        return path, state
    if files:
        snapshots = snapshots_in(run_dir)
        remedy = (
            f"restore a backup, or start another --outdir with --init-from {snapshots[-1]}"
            if snapshots
            else "restore a backup"
        )
        raise UserError(f"{run_dir}: no {PREFIX}*.pt can be read; {remedy}")
    return None


def refuse_damage(path: Path, suffix: str = "") -> None:
    """Compare the records of a checkpoint with their checksums (CRC-32).

    `torch.save` writes the checksums, but `torch.load` does not compare them: most flipped bits
    would pass as weights. suffix: only records whose names end in it. Raises
    `zipfile.BadZipFile`, or another error of the library where the file has no such records.
    """
    with zipfile.ZipFile(path) as records:
        for name in records.namelist():
            if name.endswith(suffix):
                with records.open(name) as record:
                    while record.read(2**20):  # the end of the record compares its checksum
                        pass


def checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoints training-state-<kimg>.pt of a run folder, newest first."""
    return list(numbered(run_dir, PREFIX, ".pt").values())[::-1]


def options_in(run_dir: Path) -> dict[str, Any] | None:
    """The options with which the newest readable checkpoint was trained.

    None if there is no checkpoint, or if an earlier version wrote it without options. Tensors are
    not loaded. A damaged checkpoint is skipped without a message: `read_newest` reports it.
    """
    for path in checkpoints(run_dir):
        with contextlib.suppress(UserError), library_errors(UserError):
            refuse_damage(path, "/data.pkl")  # the record that holds all that is not a tensor
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            options = state.get("options")
            ours = isinstance(options, dict) and {"recipe", "generator"} <= options.keys()
            return options if ours else None
    return None


def copy_on_cpu(state: Any) -> Any:
    """A copy of nested dicts, lists and tuples with every tensor copied into CPU memory.

    The copy of a dict keeps its type and attributes, such as the versions in a module's state.
    """
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        copied = copy.copy(state)
        copied.update((name, copy_on_cpu(value)) for name, value in state.items())
        return copied
    if isinstance(state, (list, tuple)):
        return type(state)(copy_on_cpu(value) for value in state)
    return state


class CheckpointIO:
    """Saves and restores `objects` as training-state-<kimg>.pt in `run_dir`.

    objects: {name: object with state_dict and load_state_dict}.
    options: the options of the run as plain values, which are saved with the state.
    keep_latest: the number of checkpoints that are kept; older ones are deleted. A checkpoint of
        more images than the one just written could not be read; it stays and is not counted.

    The end of a `with` block of this object waits for the thread that writes, but raises no error
    of it: call `finish` first.
    """

    def __init__(
        self,
        run_dir: Path,
        objects: dict[str, Stateful],
        options: dict[str, Any] | None = None,
        keep_latest: int = 2,
    ) -> None:
        self.run_dir, self.objects, self.options = run_dir, objects, options
        self.keep_latest = keep_latest
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._write: Future[Path] | None = None

    def __enter__(self) -> CheckpointIO:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.shutdown()

    def save(self, images_seen: int) -> Path:
        """Write a checkpoint and return its path."""
        self.start_save(images_seen)
        path = self.finish()
        assert path is not None
        return path

    def start_save(self, images_seen: int) -> None:
        """Copy the state into CPU memory and let a thread write it as a checkpoint.

        If an earlier checkpoint is still being written, the call waits for its end first. The copy
        takes as much memory as the state until it is written. Raises the error of the earlier
        checkpoint.
        """
        self.finish()
        state = {"format": FORMAT, "options": self.options}
        state |= {name: item.state_dict() for name, item in self.objects.items()}
        path = self.run_dir / f"{PREFIX}{images_seen // 1000:06d}.pt"
        self._write = self._writer.submit(self._write_file, path, copy_on_cpu(state))

    def check(self) -> None:
        """Raise the error of the last checkpoint, if its thread has ended with one; never wait."""
        if not self.writing:
            self.finish()

    @property
    def writing(self) -> bool:
        """Whether the thread is still writing a checkpoint."""
        return self._write is not None and not self._write.done()

    def finish(self) -> Path | None:
        """Wait until the checkpoint is written -> its path; None if none was being written.

        Raises `UserError` if the system refused to write it.
        """
        write, self._write = self._write, None
        return write.result() if write is not None else None

    def _write_file(self, path: Path, state: dict[str, Any]) -> Path:
        with atomic_path(path, ours=in_our_folder) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
        files = checkpoints(self.run_dir)
        for old in files[files.index(path) + self.keep_latest :]:
            old.unlink(missing_ok=True)
        return path

    def load_latest(self) -> Path | None:
        """Restore the newest readable checkpoint and return its path; None if there is none.

        A checkpoint that is being written is waited for. Raises `UserError` as `read_newest` does,
        and if the state does not fit the objects.
        """
        self.finish()
        newest = read_newest(self.run_dir)
        if newest is None:
            return None
        self._restore(*newest)
        return newest[0]

    def _restore(self, path: Path, state: dict[str, Any]) -> None:
        parts = sorted((set(state) - {"format", "options"}) ^ set(self.objects))
        if parts:
            raise UserError(
                f"{path}: only one of this file and this run has {', '.join(parts)}; go on with "
                "the kind of --data (shards or not) and the version of this code that wrote it"
            )
        for name, item in self.objects.items():
            try:
                item.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise UserError(
                    f"{path}: {name} does not fit this configuration ({str(error).splitlines()[0]})"
                ) from None
