"""`UserError`, the exception that is written for users, and its creation from library errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


class UserError(ValueError):
    """A mistake in the user's input. The message names the file or field and the remedy.

    The commands print the message as one line and leave with exit code 1. Every other exception is
    a bug in this program and keeps its traceback.
    """


@contextlib.contextmanager
def library_errors(refusal: Callable[[str], UserError]) -> Iterator[None]:
    """Turn any exception of a library that reads a user's file into `refusal(reason)`.

    A damaged file makes such libraries raise almost any exception, so all are caught. The block
    must hold calls of the library only, because a bug in other code would be reported as the
    user's mistake. A `UserError` passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise refusal(reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    """The message of an exception as one line of at most 200 characters.

    The name of the exception's class comes first if the message is empty or hard to understand
    without it, such as that of a `KeyError`.
    """
    words = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror
    elif not words or not isinstance(error, (OSError, ValueError, SyntaxError)):
        words = f"{type(error).__name__}: {words}".rstrip(": ")
    return words[:200]
