"""The rules of docs/design.md that a test can check: layers, sizes, imports, no foreign code."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The packages that each package may import. Imports run down only; networks and datasets are peers.
LAYERS = {
    "dnnlib": set(),
    "torch_utils": {"dnnlib"},
    "networks": {"torch_utils", "dnnlib"},
    "datasets": {"torch_utils", "dnnlib"},
    "explorer": {"networks", "torch_utils", "dnnlib"},
    "metrics": {"networks", "datasets", "torch_utils", "dnnlib"},
    "training": {"metrics", "networks", "datasets", "torch_utils", "dnnlib"},
    "configs": {"training", "metrics", "networks", "datasets", "torch_utils", "dnnlib"},
}
COMMANDS = sorted(path.stem for path in ROOT.glob("*.py"))
FOLDERS = [*LAYERS, "tests", "benchmarks"]
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")) + sorted(
    ROOT.glob("*.py")
)


def name_of(path):
    return str(path.relative_to(ROOT))


def imports_of(path):
    """(line, top-level name) of every absolute import in a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module.split(".")[0]


def upward_imports(path, layer):
    ours = set(LAYERS) | set(COMMANDS) | {"tests", "benchmarks"}
    return [
        f"{name_of(path)}:{line} {layer} -> {name}"
        for line, name in imports_of(path)
        if name in ours - LAYERS[layer] - {layer}
    ]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_down_only(layer):
    faults = [
        fault
        for path in sorted((ROOT / layer).rglob("*.py"))
        for fault in upward_imports(path, layer)
    ]
    assert not faults, "\n".join(faults)


# The rooms of metrics/, from the bottom up. Each one imports only rooms that stand before it.
ROOMS_OF_METRICS = (
    "arithmetic",
    "pictures",
    "features",
    "measures",
    "evaluations",
    "session",
    "runner",
    "make_reference",
    "write_pictures",
    "report",
    "command",
)


def test_imports_in_metrics_run_down_only():
    faults, rooms = [], set()
    for path in sorted((ROOT / "metrics").rglob("*.py")):
        room = path.relative_to(ROOT / "metrics").with_suffix("").parts[0]
        if room == "__init__":
            continue
        rooms.add(room)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metrics"):
                found = node.module.split(".")[1:] or [alias.name for alias in node.names]
                if ROOMS_OF_METRICS.index(found[0]) > ROOMS_OF_METRICS.index(room):
                    faults.append(f"{name_of(path)}:{node.lineno} {room} -> {found[0]}")
    assert not faults, "\n".join(faults)
    assert rooms == set(ROOMS_OF_METRICS)


def test_the_layer_check_sees_an_upward_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "networks" / "x.py"
    path.parent.mkdir()
    path.write_text("def f():\n    from training.ema import Ema\n    return Ema\n")
    assert upward_imports(path, "networks") == ["networks/x.py:2 networks -> training"]


def test_dnnlib_knows_no_torch():
    assert not [
        name_of(path)
        for path in (ROOT / "dnnlib").rglob("*.py")
        if "torch" in {name for _, name in imports_of(path)}
    ]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            place = f"{name_of(path)}:{node.lineno} {node.name}"
            assert (node.end_lineno or 0) - node.lineno < 80, place


@pytest.mark.parametrize("path", [p for p in SOURCES if "tests" not in p.parts], ids=name_of)
def test_modules_open_with_a_docstring_and_stay_safe(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens with what it is"
    assert "NVIDIA " + "CORPORATION" not in text, "a licence header of code that is not ours"
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg in ("weights_only", "allow_pickle"):
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            line = node.value.lineno
            assert value is (node.arg == "weights_only"), f"line {line}: executes what it reads"


HEAVY = (
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "transformers",
    "numpy",
    "scipy",
    "PIL",
    "tensorboard",
    "resvg_py",
)


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c != "demo"] + ["networks.describe", "training.dual_encoder"]
)
def test_help_is_cheap(command):
    """--help loads no heavy module at all."""
    code = (
        f"import sys, runpy; sys.argv = ['{command}', '--help']\n"
        f"try:\n    runpy.run_module('{command}', run_name='__main__')\n"
        f"except SystemExit:\n    pass\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout[-300:]


MODULES = [
    name_of(p)[:-3].replace("/", ".").removesuffix(".__init__")
    for p in SOURCES
    if p.relative_to(ROOT).parts[0] in LAYERS
]


@pytest.mark.slow
def test_importing_everything_has_no_side_effect():
    """Importing all modules makes no CUDA context, draws nothing and loads no large package."""
    code = (
        "import sys, importlib, torch\nbefore = torch.get_rng_state()\n"
        f"for name in {MODULES!r}:\n    importlib.import_module(name)\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert torch.equal(before, torch.get_rng_state())\n"
        "late = {'open_clip', 'timm', 'transformers', 'huggingface_hub'}\n"
        "assert not late & set(sys.modules), late & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


HELP = {
    command.replace(".", "-").replace("_", "-"): command
    for command in runpy.run_path(str(ROOT / "docs/help/write.py"))["MODULES"]
}


@pytest.mark.parametrize("page", HELP)
def test_help_pages_are_current(page):
    """docs/help/*.txt holds the output of --help; `make help-pages` writes the files."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/help/write.py"), "--print", HELP[page]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (ROOT / "docs/help" / f"{page}.txt").read_text(encoding="utf-8"), (
        "run make help-pages"
    )


PAGES = sorted(
    path
    for folder in (".", "docs", "docs/help", "benchmarks/results")
    for path in (ROOT / folder).glob("*")
    if path.suffix in (".md", ".txt", ".yml", ".toml")
)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pages_hold_no_conflict_of_two_branches(path):
    marks = ("<" * 7 + " ", ">" * 7 + " ")
    assert not [
        line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(marks)
    ]
