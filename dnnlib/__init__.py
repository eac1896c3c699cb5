"""Helpers that every other package may import: configs, files, text, errors, the console.

They need the standard library only and never import torch.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python gets this line, not a syntax error)
    sys.exit(
        f"Error: Python 3.11 or newer is needed, this is {sys.version.split()[0]}; "
        "`make setup PYTHON=python3.12` makes .venv"
    )
