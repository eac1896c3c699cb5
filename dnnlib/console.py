"""Terminal output that all commands share: error lines, time formats, the copy into log.txt."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from dnnlib.empty_options import refuse_empty_options
from dnnlib.errors import UserError
from dnnlib.files import writing

_FULL = (errno.ENOSPC, errno.EDQUOT)
# A path that may not be used, or that no file can have.
_OF_PATHS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ELOOP,
)
MAX_MESSAGE = 4000  # characters of an error on the terminal: a file may hold a value of megabytes


def report_user_errors(command: Callable) -> Callable:
    """Decorator of a command: a `UserError` becomes one line on stderr and exit code 1.

    An `OSError` for a full disk, an exhausted quota or a path that may not be used is reported in
    the same way.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            utf8 = (stream.encoding or "").lower() in ("utf-8", "utf8")
            if utf8 and isinstance(stream, io.TextIOWrapper):
                # A file name may hold bytes that are not UTF-8.
                stream.reconfigure(errors="backslashreplace")
        try:
            with warnings.catch_warnings():
                # Pillow warns of large pictures and odd tags. The importers count such pictures or
                # refuse them by name, so the warnings would only repeat that.
                warnings.filterwarnings("ignore", module=r"PIL\.")
                refuse_empty_options()
                return command(*args, **kwargs)
        except UserError as error:
            print(f"Error: {one_line(error)[:MAX_MESSAGE]}", file=sys.stderr)
            sys.exit(1)
        except OSError as error:
            remedy = _remedy(error)
            if remedy is None:
                raise
            place = one_line(error.filename or "a disk")[:MAX_MESSAGE]
            print(f"Error: {place}: {error.strerror}; {remedy}", file=sys.stderr)
            sys.exit(1)

    return wrapped


def _remedy(error: OSError) -> str | None:
    """What mends a failure of a disk or of a path; None for any other failure."""
    if error.errno in _FULL:
        return "free some space and run it again"
    if error.errno in _OF_PATHS and error.filename is not None:
        return "change its name or its rights, or name another place"
    return None


def one_line(words: object) -> str:
    """Replace line ends and control characters by spaces.

    File names and messages of libraries may contain them.
    """
    return re.sub(r"\s*[\x00-\x1f\x7f-\x9f\u2028\u2029]+\s*", " ", str(words))


def format_time(seconds: float) -> str:
    """Format a duration as '7s', '3m 05s', '2h 03m 10s' or '5d 02h 10m'."""
    s = round(seconds)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m {s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h {s // 60 % 60:02d}m {s % 60:02d}s"
    return f"{s // 86400}d {s // 3600 % 24:02d}h {s // 60 % 60:02d}m"


def progress_bar(length: int, label: str) -> AbstractContextManager[Any]:
    """A bar with the time left on stderr, whose `update(1)` counts a step. Where stderr is not a
    terminal, the label alone is printed.
    """
    import click

    return click.progressbar(length=length, label=label, file=sys.stderr, show_pos=True)


class _Tee:
    """A stream that also writes to a log file.

    The log file is unbuffered: a full disk raises at the write that fails, not when the file is
    closed.
    """

    def __init__(self, stream: TextIO, log: BinaryIO) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        length = self.stream.write(text)
        with writing(self.log.name):
            self.log.write(text.encode("utf-8", "replace"))
        return length

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def tee_to(path: Path) -> Iterator[None]:
    """Also append what the block prints on stdout and stderr to the text file `path`.

    An exception that leaves the block is appended too: a `UserError` as one line, any other with
    its traceback. Raises `UserError` if the file cannot be written.
    """
    with writing(path):
        # `with log` below closes the file. Opening it here lets `writing` name it in an error.
        log = open(path, "ab", buffering=0)  # noqa: SIM115
    with (
        log,
        contextlib.redirect_stdout(_Tee(sys.stdout, log)),
        contextlib.redirect_stderr(_Tee(sys.stderr, log)),
    ):
        try:
            yield
        except Exception as error:
            ours = isinstance(error, UserError)
            report = f"Error: {one_line(error)}\n" if ours else traceback.format_exc()
            with contextlib.suppress(OSError):  # the error may be that the log's disk is full
                log.write(report.encode("utf-8", "replace"))
            raise
