"""The one exception that a user is meant to read, and how the exceptions of libraries become one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


class UserError(ValueError):
    """A mistake in what the user gave us. The message names the file or field and the remedy.

    The commands print it as one line and leave with exit code 1; every other exception is a bug of ours
    and keeps its traceback.
    """


@contextlib.contextmanager
def library_errors(refusal: Callable[[str], UserError]) -> Iterator[None]:
    """The border to a library that reads a user's file: what it raises becomes `refusal(reason)`.

    A damaged file makes such libraries raise almost anything, so there is no list of exceptions
    here. Nothing but the library's own calls belongs inside. A `UserError` passes as it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise refusal(reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    """What an exception says, in one line of at most 200 characters.

    Its kind goes in front where the words alone say little.
    """
    words = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror
    elif not words or not isinstance(error, (OSError, ValueError, SyntaxError)):
        words = f"{type(error).__name__}: {words}".rstrip(": ")
    return words[:200]
