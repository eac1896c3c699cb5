"""A hook of mkdocs: pages of the site that are made of files outside docs/ or of other formats.

README.md becomes the first page. CONTRIBUTING.md and CHANGELOG.md become pages, with their links
rewritten. The help texts and the notebook become Markdown. Nothing is written to docs/.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to those that mkdocs found."""
    from mkdocs.structure.files import File

    pages = {
        target: (ROOT / source).read_text(encoding="utf-8") for source, target in PAGES.items()
    }
    pages["commands.md"] = commands()
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = notebook_page(notebook)
    for target, text in pages.items():
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Every link as it is in the site: `docs/x.md` becomes `x.md`, `../CONTRIBUTING.md` becomes
    `contributing.md`, and a help text becomes the page of all commands.
    """

    def target(match: re.Match[str]) -> str:
        path, mark, anchor = match[1].removeprefix("../").partition("#")
        path = PAGES.get(path, path).removeprefix("docs/")
        if path.startswith("help/"):
            path = "commands.md"
        return f"]({re.sub(r'[.]ipynb$', '.md', path)}{mark}{anchor})"

    return re.sub(r"\]\((?!\w+:|#)([^)\s]+)\)", target, markdown)


def commands() -> str:
    """All help texts on one page."""
    parts = ["# Commands", "What `--help` prints for each command and each subcommand."]
    for path in sorted((ROOT / "docs" / "help").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        name = re.match(r"Usage: (python(?: -m)? \S+)", text)
        parts += [f"## {name[1] if name else path.stem}", f"```text\n{text.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its text, and its code in fences."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join(parts) + "\n"
