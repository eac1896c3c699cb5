"""What the commands share about the terminal: error lines, time and size formats, the copy into log.txt."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from dnnlib.errors import UserError


def report_user_errors(command: Callable) -> Callable:
    """Decorator of a command: a `UserError` becomes one line on stderr and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(1)

    return wrapped


def format_time(seconds: float) -> str:
    """'7s', '3m 05s', '2h 03m 10s', '5d 02h 10m'."""
    s = int(round(seconds))
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m {s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h {s // 60 % 60:02d}m {s % 60:02d}s"
    return f"{s // 86400}d {s // 3600 % 24:02d}h {s // 60 % 60:02d}m"


class _Tee:
    """A stream that writes to two others."""

    def __init__(self, first, second) -> None:
        self.first, self.second = first, second

    def write(self, text: str) -> int:
        self.second.write(text)
        return self.first.write(text)

    def flush(self) -> None:
        self.first.flush()
        self.second.flush()

    def __getattr__(self, name: str):
        return getattr(self.first, name)


@contextlib.contextmanager
def tee_to(path: Path) -> Iterator[None]:
    """Append everything printed inside the block (stdout and stderr) to the text file `path` as well."""
    with open(path, "a", encoding="utf-8", buffering=1) as log:
        with contextlib.redirect_stdout(_Tee(sys.stdout, log)), contextlib.redirect_stderr(_Tee(sys.stderr, log)):
            yield
