"""Every notebook runs, and is stored without outputs.

The code cells are executed in order in one namespace. That is what a kernel does with code that
has no magic commands, and it needs neither nbclient nor a Jupyter kernel, which would bring 40
packages and a process of their own.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def last_value(source, names):
    """Run a cell as Jupyter does; the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_holds_no_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in code_cells(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.slow
def test_any_size_draws_one_picture_at_many_sizes(network, monkeypatch):
    monkeypatch.setenv("EIDGAN_ROOT", str(ROOT))
    monkeypatch.setenv("EIDGAN_NETWORK", str(network))
    names: dict = {}
    values = [
        last_value("".join(cell["source"]), names)
        for cell in code_cells(ROOT / "docs" / "notebooks" / "any_size.ipynb")
    ]
    sizes = [picture.size for picture in values if picture is not None]
    assert sizes == [(16, 16), (64, 64), (96, 64), (64, 64), (128, 64)]  # trained at 16 x 16
    # The middle of what reaches half a frame beyond both sides is the frame, at the same pixels.
    frame, beyond = values[3], values[6]
    middle = beyond.crop((32, 0, 96, 64))
    assert max(abs(x - y) for x, y in zip(frame.tobytes(), middle.tobytes(), strict=True)) <= 1
    assert len(set(frame.tobytes())) > 10
