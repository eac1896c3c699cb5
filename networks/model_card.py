"""The model card of a snapshot: a README.md whose YAML head holds what the Hugging Face Hub shows.

The fields are those of https://huggingface.co/docs/hub/model-cards. Scores become a `model-index`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dnnlib.console import one_line
from dnnlib.errors import UserError
from dnnlib.version import VERSION
from networks.interfaces import Generator

MAX_VALUE = 300  # characters of a fact
TAGS = ("gan", "any-resolution", "implicit-neural-representation")


@dataclass(frozen=True, kw_only=True)
class CardFields:
    """What a card says beyond the snapshot itself.

    license: the Hub's identifier of a licence, such as "cc-by-sa-4.0". datasets: names of the
    training data. scores: records of `calc_metrics.py calc` for this snapshot. network: what
    `--network` takes to find the snapshot. discriminator: whether the folder holds the one that the
    generator was trained with. A field that is empty is left out of the card.
    """

    license: str = ""
    datasets: Sequence[str] = ()
    scores: Sequence[Mapping[str, Any]] = ()
    network: str = "THIS_FOLDER"
    discriminator: bool = False


def model_card(
    config: Mapping[str, Any], generator: Generator, sha256: str, fields: CardFields
) -> str:
    """The text of README.md. config: the content of config.json. sha256: of the weights file.

    Raises `UserError` where a score belongs to other weights.
    """
    name = one_line(config["info"].get("recipe", config["generator"]["kind"]))[:MAX_VALUE]
    reads_text = generator.reads_text
    task = "text-to-image" if reads_text else "unconditional-image-generation"
    head: dict[str, Any] = {
        "library_name": "eidgan",
        "pipeline_tag": task,
        "tags": [*TAGS, config["generator"]["kind"]],
        "license": fields.license,
        "datasets": [*fields.datasets],
        "metrics": sorted({str(record.get("metric")) for record in fields.scores}),
        "model-index": _model_index(name, task, sha256, fields),
    }
    # JSON is a part of YAML, so its quotes protect every value.
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items() if value)
    side = config["resolution"]
    prompts = '--prompts "..." ' if reads_text else ""
    content = "the averaged generator (EMA)"
    if fields.discriminator:
        content += ", the discriminator for trainings that go on from it\n(--init-from)"
    return f"""---
{yaml}
---
# {_text(name)}

{"Text-to-image" if reads_text else "Unconditional"} GAN that draws at any resolution. The folder
holds {content} and no code.

| | |
|---|---|
{_table(config, generator, sha256)}

```
python generate.py --network {fields.network} {prompts}--seeds 0-3 --size {side}x{side}
```
"""


def _table(config: Mapping[str, Any], generator: Generator, sha256: str) -> str:
    num_parameters = sum(parameter.numel() for parameter in generator.parameters())
    facts = {
        "System": config["generator"]["kind"],
        "Parameters": f"{num_parameters:,}",
        "Trained resolution": f"{config['resolution']} x {config['resolution']}",
        "Text encoder": config["text_encoder_id"] or config["text_encoder"] or "none",
        "Weights sha256": sha256,
        "Written by": f"EIDGAN {VERSION}",
    }
    facts |= {key.replace("_", " ").capitalize(): value for key, value in config["info"].items()}
    return "\n".join(f"| {_text(key)} | {_text(value)} |" for key, value in facts.items())


def _text(value: object) -> str:
    """A value as plain text in Markdown: one line without tags, links or other marks.

    The facts of a snapshot may come from a stranger, and the Hub shows the card as a page.
    """
    return re.sub(r"([\\`*\[\]<>|#!&])", r"\\\1", one_line(value)[:MAX_VALUE])


def _model_index(name: str, task: str, sha256: str, fields: CardFields) -> list[dict[str, Any]]:
    """Scores in the form of the Hub's evaluation results; [] without scores. task: of the Hub."""
    results = []
    for record in fields.scores:
        if record.get("snapshot_sha256") != sha256:
            raise UserError(
                f"score {record.get('metric')}: was measured on other weights "
                f"(snapshot_sha256 {record.get('snapshot_sha256')}) than these "
                f"({sha256}); score this snapshot with calc_metrics.py calc --out FILE"
            )
        data = (record.get("dataset") or {}).get("name", "unnamed")
        if record.get("value") is not None:
            results.append(
                {
                    "task": {"type": task},
                    "dataset": {"name": data, "type": data},
                    "metrics": [
                        {
                            "type": record["metric"],
                            "value": record["value"],
                            "name": record["metric"],
                        }
                    ],
                }
            )
    return [{"name": name, "results": results}] if results else []
