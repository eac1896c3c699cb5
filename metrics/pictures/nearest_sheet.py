"""The picture of `--nearest-sheet`: generated pictures beside their nearest training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datasets.contact_sheet import MARK, check_sheet, contact_sheet
from datasets.text_image import Record
from dnnlib.errors import UserError
from dnnlib.files import check_target
from metrics.pictures.sights import RealPictures
from torch_utils.pictures import png_with, save_png

NUM_PAIRS = 24
_PAIRS_A_ROW = 4


def asked_sheet(name: str | None, is_drawn: bool, ref: str | None, num_blocks: int) -> Path | None:
    """The file of `--nearest-sheet`; None if the option is not given.

    is_drawn: whether one of the evaluations draws the sheet. Raises `UserError` if none does, if
    several blocks of seeds would draw it one over the other, for a name that is not that of a PNG,
    for a file that is not a sheet of this program, and for a place that cannot be written.
    """
    if name is None:
        return None
    if not is_drawn:
        raise UserError("--nearest-sheet is drawn by nearest_train_lite2; name it in --metrics")
    if ref is not None and Path(ref).suffix == ".npz":
        raise UserError(
            f"--nearest-sheet needs training pictures, and --ref {ref} holds only "
            "features; give --data without --ref"
        )
    if num_blocks > 1:
        raise UserError("--nearest-sheet shows the pictures of one seed; give --seed one number")
    check_sheet(Path(name), "--nearest-sheet")
    check_target(Path(name), png_with(MARK))
    return Path(name)


def draw_nearest_sheet(
    dest: Path,
    pictures: np.ndarray,
    prompts: Sequence[str],
    train: RealPictures,
    distances: np.ndarray,
    indices: np.ndarray,
    unit: float,
) -> None:
    """Write the `NUM_PAIRS` pictures with the least distance, the nearest first.

    pictures: uint8 [N, 3, H, W] with a prompt each. distances, indices: [N], the distance of each
    picture to its nearest picture in `train`, and the number of that one. unit: the distance that
    is called 1 below a picture, which is the median of the test pictures.
    """
    records = []
    for index in np.argsort(distances, kind="stable")[:NUM_PAIRS].tolist():
        nearest = train[int(indices[index])]
        text = f"picture {index}: {distances[index] / unit:.2f} of the test median"
        records += [
            Record(torch.from_numpy(pictures[index]), (prompts[index] or "-",), text),
            Record(nearest.image, nearest.captions[:1], nearest.id),
        ]
    sheet = contact_sheet(records, columns=2 * _PAIRS_A_ROW)
    save_png(
        dest,
        torch.from_numpy(np.array(sheet)).permute(2, 0, 1),
        {MARK: train.name},
        ours=png_with(MARK),
    )
