"""Training of the projection heads of the embedded dual encoders.

    python -m training.dual_encoder --data data/x.zip --outdir runs/heads

The loss is the symmetric InfoNCE on cached features of frozen towers. Training uses the train split
and all captions of a picture. With several data sets, each batch comes from one of them in turn,
because a batch of icons and flowers would be too easy. Variants of one OpenMoji concept, such as
skin tones, are near-duplicates. So a batch holds one picture of each concept, and retrieval is
measured with one picture of each concept, the first by id. In other data sets, every picture is a
concept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.version import VERSION

if TYPE_CHECKING:
    import torch
    from torch import nn

    from datasets.text_image import TextImageDataset
    from training.tower_features import TowerFeatures

RANKS = (1, 5, 10)
VARIANT_NAMES = ("native", "64px", "32px")  # training.tower_features.CLEAN_SIZES_PX


@dataclass(frozen=True, kw_only=True)
class HeadTraining:
    """Hyperparameters of the training of the heads.

    steps: on each data set. batch: concepts in a batch. rate: peak learning rate of AdamW.
    num_variants: variants of each picture (`training.tower_features`).
    """

    seed: int
    steps: int = 400
    batch: int = 512
    rate: float = 1e-3
    weight_decay: float = 0.5
    dropout: float = 0.3
    num_variants: int = 6


def concept_groups(ids: Sequence[str]) -> list[list[int]]:
    """Row numbers grouped by concept, in order of first appearance.

    ids: of the pictures. An id that is not a sequence of code points is a concept by itself.
    """
    from datasets.openmoji import concept_of

    groups: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        try:
            concept = concept_of(tuple(int(part, 16) for part in name.split("-")))
        except ValueError:
            concept = name
        groups.setdefault(concept, []).append(row)
    return list(groups.values())


@dataclass(frozen=True)
class Lessons:
    """Tower features of the pictures and captions of a split, and the picture rows by concept."""

    features: TowerFeatures
    groups: list[list[int]]

    def draw(self, config: HeadTraining, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a batch of concepts -> tower features of images [n, F] and texts [n, 384].

        A picture, one of its variants and one of its captions are drawn for each concept.
        """
        import torch

        chosen = torch.randperm(len(self.groups), generator=rng)[: config.batch].tolist()
        draws = torch.rand(3, len(chosen), generator=rng).tolist()
        rows: list[int] = []
        variants: list[int] = []
        captions: list[int] = []
        for concept, u, v, w in zip(chosen, *draws, strict=True):
            row = self.groups[concept][int(u * len(self.groups[concept]))]
            caption_rows = self.features.caption_rows[row]
            rows.append(row)
            variants.append(int(v * config.num_variants))
            captions.append(caption_rows[int(w * len(caption_rows))])
        return self.features.images[variants, rows].float(), self.features.texts[captions]


def train_heads(sets: Sequence[Lessons], config: HeadTraining) -> tuple[nn.Module, nn.Module]:
    """Train and return the image head and the text head, in evaluation mode.

    Each step takes a batch from one of the data sets `sets`, in turn.
    """
    import torch

    from networks.text_encoders.small import ImageHead, text_head
    from torch_utils.rng import generator_for, seed_for

    rng = generator_for("head batches", config.seed)
    steps = config.steps * len(sets)
    # Initialisation and dropout draw from torch's global stream, which is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("heads", config.seed))
        heads = torch.nn.ModuleList([ImageHead(config.dropout), text_head(config.dropout)])
        log_scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        optimizer = torch.optim.AdamW(
            [*heads.parameters(), log_scale], config.rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.rate, steps, pct_start=0.1)
        for step in range(steps):
            images, texts = sets[step % len(sets)].draw(config, rng)
            scale = log_scale.clamp(max=math.log(100)).exp()
            loss = info_nce(heads[0](images), heads[1](texts), scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step // len(sets) % 50 == 0 or step >= steps - len(sets):
                click.echo(
                    f"step {step}: loss {loss.item():.3f}, scale {log_scale.exp().item():.1f}",
                    err=True,
                )
    return heads[0].eval(), heads[1].eval()


def info_nce(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE: the mean cross-entropy of both directions over cosine * scale -> [].

    images, texts: [N, d]; row i of one matches row i of the other. scale: [].
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    logits = scale * normalize(images, dim=1) @ normalize(texts, dim=1).T
    targets = torch.arange(len(logits))
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


def retrieval(images: torch.Tensor, texts: torch.Tensor) -> dict[str, Any]:
    """Recall in percent in both directions among N pairs, its chance level, and mean cosines.

    images, texts: [N, d]; row i of one matches row i of the other.
    """
    from torch.nn.functional import normalize

    cosines = normalize(images.double(), dim=1) @ normalize(texts.double(), dim=1).T
    count = len(cosines)
    matched = cosines.diagonal()
    ranks = {
        "image_to_text": (cosines > matched[:, None]).sum(1),
        "text_to_image": (cosines > matched[None, :]).sum(0),
    }
    recall = {
        direction: {f"R@{k}": round(100 * (rank < k).double().mean().item(), 1) for k in RANKS}
        for direction, rank in ranks.items()
    }
    mismatched = (cosines.sum() - matched.sum()) / (count * (count - 1))
    return recall | {
        "num": count,
        "chance": {f"R@{k}": round(100 * k / count, 2) for k in RANKS},
        "cosine_matched": round(matched.mean().item(), 3),
        "cosine_mismatched": round(mismatched.item(), 3),
    }


def evaluate(lessons: Lessons, heads: tuple[nn.Module, nn.Module]) -> dict[str, Any]:
    """Retrieval between one picture of each concept and the first caption of that picture.

    It is measured at every size of `CLEAN_SIZES_PX`. The first caption of an OpenMoji drawing is
    its name.
    """
    import torch

    features = lessons.features
    rows = [group[0] for group in lessons.groups]
    names = features.texts[[features.caption_rows[row][0] for row in rows]]
    with torch.no_grad():
        texts = heads[1](names)
        return {
            name: retrieval(heads[0](features.images[variant, rows].float()), texts)
            for variant, name in enumerate(VARIANT_NAMES)
        }


@click.command()
@click.version_option(VERSION, prog_name="EIDGAN")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Archive with a train and a test split; may be repeated.",
)
@click.option(
    "--encoder",
    type=click.Choice(["small", "small-heldout"]),
    default="small",
    show_default=True,
    help="Encoder whose heads are trained.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Seed of heads, batches and variants.  [default: the seed of the shipped encoder]",
)
@click.option(
    "--steps",
    type=click.IntRange(min=20),
    default=400,
    show_default=True,
    help="Steps on each data set.",
)
@click.option(
    "--outdir",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the heads and their record, ENCODER.safetensors and ENCODER.json.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    default="data/cache",
    show_default=True,
    help="Folder that keeps tower features between runs.",
)
@report_user_errors
def main(
    data: tuple[Path, ...],
    encoder: str,
    seed: int | None,
    steps: int,
    outdir: Path,
    cache_dir: Path,
) -> None:
    """Train the projection heads of an embedded dual encoder and measure their retrieval."""
    import json

    from safetensors.torch import save

    from dnnlib.files import atomic_path, sha256_of, write_json
    from dnnlib.ownership import json_with, refuse_foreign
    from networks.text_encoders.small import (
        SPECS,
        assemble,
        heads_fault,
        heads_state,
        load_heads,
    )

    target = outdir / f"{encoder}.safetensors"
    refuse_foreign(target, heads_fault)
    refuse_foreign(target.with_suffix(".json"), is_record := json_with("encoder", "sha256"))
    config = HeadTraining(seed=SPECS[encoder].seed if seed is None else seed, steps=steps)
    sets = [open_splits(path) for path in data]
    lessons = [
        {split: lessons_of(encoder, d, config, cache_dir) for split, d in splits.items()}
        for splits in sets
    ]
    heads = train_heads([of["train"] for of in lessons], config)
    with atomic_path(target, ours=heads_fault) as temporary:
        temporary.write_bytes(save(heads_state(*heads)))
    load_heads(target, *heads)  # the heads of the file are measured, which are rounded to fp16
    record: dict[str, Any] = {
        "encoder": encoder,
        "command": "python -m training.dual_encoder "
        + "".join(f"--data {path} " for path in data)
        + f"--encoder {encoder} --seed {config.seed} --steps {steps} --outdir {outdir}",
        "config": asdict(config),
        "towers": f"EfficientNet-{SPECS[encoder].image_tower} at 96 x 96, colour shares, MiniLM-L6",
        "rule": "one picture (first by id) of each concept against its first caption; percent",
        "sha256": sha256_of(target),
        "encoder_id": assemble(encoder, *heads).id,
        "data": [described(splits, of, heads) for splits, of in zip(sets, lessons, strict=True)],
    }
    write_json(target.with_suffix(".json"), record, ours=is_record)
    click.echo(
        json.dumps(
            {
                "file": str(target),
                "unseen_concepts": {
                    one["name"]: one["unseen_concepts"]["native"] for one in record["data"]
                },
            }
        )
    )


def open_splits(path: Path) -> dict[str, TextImageDataset]:
    """Open the train and test splits of an archive.

    Raises `UserError` if captions are missing, or if a split has less than two concepts.
    """
    from datasets.text_image import TextImageDataset

    splits = {split: TextImageDataset(path, split=split) for split in ("train", "test")}
    if not splits["train"].has_captions:
        raise UserError(f"--data {path}: the pictures have no captions to train the heads with")
    for name, dataset in splits.items():
        if len(concept_groups([dataset.id(i) for i in range(len(dataset))])) < 2:
            raise UserError(f"--data {path}: the {name} split needs at least two concepts")
    return splits


def lessons_of(
    encoder: str, dataset: TextImageDataset, config: HeadTraining, cache_dir: Path
) -> Lessons:
    """Tower features of all pictures and captions of a split, from `cache_dir` if possible."""
    from training.tower_features import tower_features

    features = tower_features(encoder, dataset, config.num_variants, config.seed, cache_dir)
    return Lessons(features, concept_groups([dataset.id(i) for i in range(len(dataset))]))


def described(
    splits: dict[str, TextImageDataset],
    lessons: dict[str, Lessons],
    heads: tuple[nn.Module, nn.Module],
) -> dict[str, Any]:
    """The entry of a data set in the record, with retrieval in both splits."""
    train = splits["train"]
    return {
        "name": train.name,
        "content_hash": train.content_hash,
        "licence": train.info.get("licence"),
        "attribution": train.info.get("attribution"),
        "num_pictures": {split: len(d) for split, d in splits.items()},
        "num_concepts": {split: len(of.groups) for split, of in lessons.items()},
        "seen_concepts": evaluate(lessons["train"], heads),
        "unseen_concepts": evaluate(lessons["test"], heads),
    }


if __name__ == "__main__":
    main()
