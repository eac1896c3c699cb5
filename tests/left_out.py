"""What `make test` leaves out here for lack of software that requirements.txt does not install.

    python -m tests.left_out

It prints a line for each group of tests, with what to install.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

from explorer.web_runtime import PACKAGE, cached_archive

ONNX = ("onnx", "onnxscript", "onnxruntime")


def left_out() -> Iterator[str]:
    """The lines."""
    if not shutil.which("chromedriver"):
        yield (
            "Skipped: the tests in a browser (tests/explorer); chromium and chromium-driver are "
            "not installed"
        )
    lacking = [name for name in ONNX if importlib.util.find_spec(name) is None]
    lacking += [] if cached_archive().is_file() else [PACKAGE]
    if lacking:
        yield (
            "Skipped: the tests of ONNX files and of the page without a server "
            "(tests/networks/test_exported.py, tests/explorer/test_static_page.py); "
            f"`make setup-exports` installs {', '.join(lacking)}"
        )


if __name__ == "__main__":
    for line in left_out():
        print(line)
