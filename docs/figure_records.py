"""The records that docs/figures.py reads, the value at a place in them, and tables in Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ENCODERS = ROOT / "networks" / "text_encoders" / "weights"
SHIPPED = ROOT / "networks" / "shipped"
Record = Any  # the content of a JSON file


@cache
def read_record(name: str) -> Any:
    """The content of a record: `NAME`, `shipped/NAME` or `encoders/NAME`."""
    kind, _, short = name.rpartition("/")
    if kind == "shipped":
        return shipped_record(SHIPPED / short)
    path = {"": RESULTS, "encoders": ENCODERS}.get(kind, RESULTS / kind) / f"{short}.json"
    if not path.is_file():
        raise UserError(f"{path.relative_to(ROOT)}: no such record")
    return json.loads(path.read_text(encoding="utf-8"))


def shipped_record(folder: Path) -> dict[str, Any]:
    """The facts that a trained network of the repository holds.

    info: recipe, kimg, seed, training time in seconds and the like, from config.json. scores: the
    values of the model card by metric. parameters: their number. bytes: size of the weights file.
    discriminator_bytes: the same for its discriminator; None where it has none.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder.name}: no such network in networks/shipped")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    index = re.search(r"^model-index: (.*)$", card, re.MULTILINE)
    results = json.loads(index[1])[0]["results"] if index else []
    count = re.search(r"^\| Parameters \| ([\d,]+) \|$", card, re.MULTILINE)
    sizes = {path.stem: path.stat().st_size for path in folder.glob("*.safetensors")}
    return {
        "info": config["info"],
        "resolution": config["resolution"],
        "scores": {one["type"]: one["value"] for result in results for one in result["metrics"]},
        "parameters": int(count[1].replace(",", "")) if count else None,
        "bytes": sizes["model"],
        "discriminator_bytes": sizes.get("discriminator"),
    }


def look_up(data: Any, key: str, name: str) -> Any:
    """The value at a path of keys, such as `rows/size=256,format=tiff/cpu_s`.

    name: of the record, for messages. A part with `=` takes the one element of a list that has
    these values (a comma before a space belongs to a value); a number counts the elements of a list
    from 0. A missing key is a `UserError`.
    """
    for part in key.split("/"):
        if isinstance(data, list) and "=" in part:
            wanted = dict(condition.split("=", 1) for condition in re.split(",(?! )", part))
            found = [row for row in data if all(str(row.get(k)) == v for k, v in wanted.items())]
            if len(found) != 1:
                raise UserError(f"{name}: {key}: {len(found)} elements have {part}, expected 1")
            data = found[0]
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        elif isinstance(data, dict) and part in data:
            data = data[part]
        else:
            known = f"; there are {', '.join(data)}" if isinstance(data, dict) else ""
            raise UserError(f"{name}: {key}: no {part!r}{known}")
    return data


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        "|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|\n" for line in lines
    ).replace(" --- ", "---")


def only(rows: Sequence[Record], **values: Any) -> Record:
    """The one row that has these values."""
    [row] = [row for row in rows if all(row[key] == value for key, value in values.items())]
    return row
