"""Are training pictures copied? Distances of features to the nearest training picture.

The test pictures, which the generator never saw, say what is near: one in a hundred of them is
nearer to a training picture than the threshold. A larger share of the generated pictures hints at
copies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dnnlib.errors import UserError
from metrics.arithmetic.pairwise import blocks, real_and_fake
from metrics.measures.base import Evaluation, Fields, Measure, Session
from metrics.pictures.specifications import Reference

if TYPE_CHECKING:
    import torch

PERCENTILE = 1
ROUNDING = 1e-5  # distances of copies, over the extent of the features, are smaller


@dataclass(frozen=True, kw_only=True)
class NearestTrain(Measure):
    """Share of pictures that are nearer to a training picture than 99 % of the test pictures.

    Distances are Euclidean distances of features.
    """

    kind = "nearest_train"
    better = "low"
    draws_sheet = True
    detector: str

    def references(self, reference: Reference) -> tuple[Reference, ...]:
        """The pictures of the split, which is "test" in the table, and those of "train"."""
        return reference, replace(reference, split="train")

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """`parts`: median distances to training pictures, their ratio, and the threshold."""
        test, train = (
            session.real(evaluation, reference).get_vectors() for reference in evaluation.references
        )
        if test.shape == train.shape and np.array_equal(test, train):
            raise UserError(
                "the real pictures have no train and test split, which this evaluation compares; "
                "give a data set of dataset_tool.py that has both"
            )
        generated = session.generated(evaluation.pictures, self.detector).get_vectors()
        of_test, of_generated = (
            nearest(train, vectors, session.device) for vectors in (test, generated)
        )
        limit = threshold(of_test)
        if limit <= ROUNDING * extent(train):
            raise UserError(
                f"{PERCENTILE} % of the test pictures or more are training pictures too, so the "
                "threshold is 0 up to rounding; this evaluation needs splits without copies: "
                "build --data anew without pictures that are in both"
            )
        if session.nearest_sheet:
            _draw_sheet(session, evaluation, of_generated, float(np.median(of_test.distance)))
        medians = [float(np.median(result.distance)) for result in (of_generated, of_test)]
        parts = {
            "generated": medians[0],
            "test": medians[1],
            "ratio": medians[0] / medians[1],
            "threshold": limit,
        }
        return {
            "value": float((of_generated.distance < limit).mean()),
            "parts": parts,
            "num_real": len(test),
            "num_train": len(train),
        }


@dataclass(frozen=True)
class Nearest:
    """`distance` float64 [N] to the nearest training picture, and its `index` int64 [N]."""

    distance: np.ndarray
    index: np.ndarray


def nearest(train: np.ndarray, vectors: np.ndarray, device: torch.device | str = "cpu") -> Nearest:
    """The nearest of train [M, d] to each of `vectors` [N, d]: Euclidean distance, float64."""
    import torch

    near, points = real_and_fake(train, vectors, 1, device)
    # Distances are computed from products, where a common offset would cost digits.
    centre = near.mean(0)
    near, points = near - centre, points - centre
    norms = near.square().sum(1)
    least = [
        (block.square().sum(1)[:, None] + norms - 2 * block @ near.T).min(1)
        for block in blocks(points)
    ]
    distance = torch.cat([part.values for part in least]).clamp_min(0).sqrt()
    index = torch.cat([part.indices for part in least])
    return Nearest(distance.cpu().numpy(), index.cpu().numpy())


def threshold(of_test: Nearest) -> float:
    """The first percentile of the distances of the test pictures, interpolated linearly."""
    return float(np.percentile(of_test.distance, PERCENTILE))


def extent(train: np.ndarray) -> float:
    """The root mean square distance of vectors [M, d] to their mean."""
    return float(np.sqrt(train.var(0, dtype=np.float64).sum()))


def _draw_sheet(session: Session, evaluation: Evaluation, neighbours: Nearest, unit: float) -> None:
    """Write the file of `--nearest-sheet` on rank 0."""
    from metrics.pictures.nearest_sheet import draw_nearest_sheet
    from torch_utils.distributed import on_main

    dest, side = session.nearest_sheet, session.resolution
    assert dest is not None
    pixels = session.generated(evaluation.pictures, "pixels").get_vectors()
    pictures = pixels.reshape(-1, 3, side, side)
    train = session.real_pictures(evaluation.references[1])
    prompts = session.image_set(evaluation.pictures).prompts
    on_main(
        lambda: draw_nearest_sheet(
            dest, pictures, prompts, train, neighbours.distance, neighbours.index, unit
        )
    )
