"""What `make test` leaves out here for lack of software that requirements.txt does not install.

    python -m tests.left_out

It prints a line for each group of tests, with what to install.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from benchmarks import chromium
from explorer.web_runtime import PACKAGE, cached_archive

ONNX = ("onnx", "onnxscript", "onnxruntime")


def left_out() -> Iterator[str]:
    """The lines."""
    if absent := chromium.missing():
        verb = "is" if len(absent) == 1 else "are"
        yield (
            "Skipped: the tests in a browser (tests/explorer); "
            f"{' and '.join(absent)} {verb} not installed"
        )
    lacking = [name for name in ONNX if importlib.util.find_spec(name) is None]
    lacking += [] if cached_archive().is_file() else [PACKAGE]
    if lacking:
        yield (
            "Skipped: the tests of ONNX files and of the page without a server "
            "(such as tests/networks/test_exported.py and tests/explorer/test_static_page.py); "
            f"`make setup-exports` installs {', '.join(lacking)}"
        )


if __name__ == "__main__":
    for line in left_out():
        print(line)
