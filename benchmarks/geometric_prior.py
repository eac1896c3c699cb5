"""Do the codes of a generator say where things are? Ridge regression to bounding boxes.

    python -m benchmarks.geometric_prior --network runs/icons --data data/openmoji32.zip --json FILE

After Skorokhodov et al. (2021, INR-GAN), who predict key points from what a picture is made of. The
key points here are the corners of the bounding box of a drawing on a plain background, measured on
generated pictures: the background is the median colour of the border, and the box holds every row
and column with two pixels or more that differ from it. On a picture of the data set, the same rule
finds the box that the SVG has. Pictures whose box is empty or reaches the border are left out.

Features: the style codes, and the lines of a bi-line generator. Controls: the sentence and the
latents that the codes are made of, codes and lines of the same network with weights that were never
trained, and noise.
Ridge regression in closed form; its penalty is chosen by 5 folds of the training pictures. R2 is
measured on the others, against predicting the mean of the training pictures (0; 1 is exact).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.harness import RECORD, machine
from datasets.text_image import TextImageDataset
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json
from dnnlib.number_options import FiniteFloat
from dnnlib.ownership import refuse_foreign
from metrics.pictures.image_sets import image_set
from networks.coordinates import View
from networks.generators.biline import BilineState
from networks.interfaces import Codes, Generator
from networks.sampling import codes_of, draw_inputs
from networks.snapshot import Snapshot
from torch_utils.tensors import to_uint8

CORNERS = ("left", "top", "right", "bottom")
PENALTIES = np.logspace(-4, 4, 25)  # over the mean of the squared norms of the features
FOLDS, HELD_OUT = 5, 0.3
BATCH = 16


def box_of(image: torch.Tensor, threshold: float) -> np.ndarray | None:
    """The box (x0, y0, x1, y1) of a drawing in frame units; None if it has none within the frame.

    image: uint8 [3, S, S]. threshold: least difference from the background in one channel, of 255.
    """
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
    background = border.float().median(dim=1).values[:, None, None]
    differs = (image - background).abs().amax(dim=0) > threshold * 255
    rows, columns = (differs.sum(dim=axis) >= 2 for axis in (1, 0))
    y, x = (line.nonzero()[:, 0] for line in (rows, columns))
    side = image.shape[-1]
    if not len(x) or not len(y) or min(x[0], y[0]) == 0 or max(x[-1], y[-1]) == side - 1:
        return None
    return np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], dtype=float) / side


@dataclass(frozen=True)
class Drawn:
    """Boxes [N, 4] of the measurable ones of `num_drawn` pictures, and their features [N, P]."""

    boxes: np.ndarray
    features: dict[str, np.ndarray]
    num_drawn: int


@torch.no_grad()
def drawn(snapshot: Snapshot, dataset: TextImageDataset, num: int, threshold: float) -> Drawn:
    """The boxes of `num` generated pictures and what each one was made of."""
    generator, chosen = snapshot.generator, image_set(dataset, num_images=num, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = generator.config.build().eval()
    encoder, boxes, features = snapshot.load_encoder(), [], []
    for start in range(0, num, BATCH):
        batch = slice(start, start + BATCH)
        z, text = draw_inputs(generator, encoder, chosen.prompts[batch], chosen.seeds[batch])
        codes, view = codes_of(generator, z, text), View.square(snapshot.resolution)
        pictures = to_uint8(generator.synthesis(codes, view))
        parts = {"latents": z} | features_of(generator, codes, view)
        controls = features_of(untrained, untrained.mapping(z, text), view)
        parts |= {f"untrained {name}": part for name, part in controls.items()}
        if text is not None:
            parts["sentence"] = text.sentence
        for i, picture in enumerate(pictures):
            box = box_of(picture, threshold)
            if box is not None:
                boxes.append(box)
                features.append({name: part[i].flatten().numpy() for name, part in parts.items()})
    if len(boxes) < num / 2:
        raise UserError(
            f"{len(boxes)} of {num} pictures have a bounding box within the frame, half are "
            "needed; take a network of drawings on a plain background, such as OpenMoji's, or "
            "another --threshold"
        )
    stacked = {name: np.stack([one[name] for one in features]) for name in features[0]}
    noise = np.random.default_rng(0).standard_normal(stacked["codes"].shape)
    return Drawn(np.stack(boxes), stacked | {"noise": noise}, num)


def features_of(generator: Generator, codes: Codes, view: View) -> dict[str, torch.Tensor]:
    """Codes with the bypassing sentence [N, P]; for a bi-line generator the lines of all levels."""
    found = {"codes": torch.cat([codes.tokens.flatten(1), codes.sentence], dim=1)}
    state = generator.prepare(codes, view)
    if isinstance(state, BilineState):
        lines = [x.flatten(1) for x in (*state.rows, *state.columns)]
        found["lines"] = torch.cat(lines, dim=1)
    return found


def held_out_scores(features: np.ndarray, boxes: np.ndarray) -> dict:
    """R2 of each coordinate of the pictures that the regression has not seen, and its penalty.

    features: [N, P]. The regression is computed in its dual form, of products of features, so P may
    be much larger than N.
    """
    order = np.random.default_rng(0).permutation(len(boxes))
    test, train = np.split(order, [round(HELD_OUT * len(boxes))])
    middle, spread = features[train].mean(axis=0), features[train].std(axis=0)
    scaled = (features - middle)[:, spread > 0] / spread[spread > 0]
    products = scaled @ scaled.T
    products /= products[train, train].mean()

    def r2(fit: np.ndarray, look: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """[penalties, coordinates], of the pictures `look`."""
        mean = boxes[fit].mean(axis=0)
        values, vectors = np.linalg.eigh(products[np.ix_(fit, fit)])
        along = vectors.T @ (boxes[fit] - mean)
        reach = products[np.ix_(look, fit)] @ vectors
        found = [reach @ (along / (values + penalty)[:, None]) for penalty in penalties]
        wanted = boxes[look] - mean
        errors = np.array([np.square(one - wanted).sum(axis=0) for one in found])
        return 1 - errors / np.square(wanted).sum(axis=0)

    folds = np.array_split(train, FOLDS)
    inner = [r2(np.setdiff1d(train, fold), fold, PENALTIES) for fold in folds]
    penalty = PENALTIES[np.mean(inner, axis=(0, 2)).argmax()]
    (scores,) = r2(train, test, np.array([penalty]))
    return {
        "r2": float(scores.mean()),
        **dict(zip(CORNERS, scores.tolist(), strict=True)),
        "penalty": float(penalty),
        "num_features": features.shape[1],
        "num_train": len(train),
        "num_test": len(test),
    }


def spread_of(boxes: list[np.ndarray] | np.ndarray) -> dict:
    """Standard deviation of each coordinate, in frames."""
    return dict(zip(CORNERS, np.std(boxes, axis=0).tolist(), strict=True))


@click.command()
@click.option("--network", required=True, metavar="PATH", help="Snapshot or run folder.")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, metavar="ZIP|DIR", help="Prompts."
)
@click.option("--num-images", "num", type=click.IntRange(50), default=600, show_default=True)
@click.option("--threshold", type=FiniteFloat(0, 1), default=0.15, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), metavar="FILE")
@report_user_errors
def main(network: str, data: Path, num: int, threshold: float, path: Path | None) -> None:
    """Predict the bounding boxes of generated pictures from codes and lines."""
    if path:
        refuse_foreign(path, RECORD)
    torch.set_num_threads(1)
    snapshot, dataset = Snapshot.from_pretrained(network), TextImageDataset(data, split="test")
    found = drawn(snapshot, dataset, num, threshold)
    rows = [
        {"features": name} | held_out_scores(values, found.boxes)
        for name, values in found.features.items()
    ]
    for row in rows:
        click.echo(row)
    real = [box_of(dataset[i].image, threshold) for i in range(len(dataset))]
    measured = [box for box in real if box is not None]
    record = {
        "benchmark": "geometric_prior",
        "date": datetime.date.today().isoformat(),
        "machine": machine(torch.device("cpu")),
        "network": {"name": Path(network).name, "sha256": snapshot.sha256},
        "data": data.stem,
        "threshold": threshold,
        "measurable": {
            "generated": [len(found.boxes), found.num_drawn],
            "real": [len(measured), len(real)],
        },
        "spread": {"generated": spread_of(found.boxes), "real": spread_of(measured)},
        "rows": rows,
    }
    click.echo({key: record[key] for key in ("measurable", "spread")})
    if path:
        write_json(path, record, ours=RECORD)


if __name__ == "__main__":
    main()
