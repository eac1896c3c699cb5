"""The one exception that a user is meant to read."""


class UserError(ValueError):
    """A mistake in what the user gave us. The message names the file or field and the remedy.

    The commands print it as one line and leave with exit code 1; every other exception is a bug of ours
    and keeps its traceback.
    """
