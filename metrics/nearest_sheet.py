"""A sheet of the generated pictures nearest to training pictures, each beside that one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datasets.contact_sheet import MARK, check_sheet, contact_sheet
from datasets.text_image import Record
from dnnlib.ownership import refuse_foreign
from metrics.nearest import Nearest
from metrics.sights import RealPictures
from torch_utils.pictures import png_with, save_png

NUM_PAIRS = 24
_PAIRS_A_ROW = 4


def check_nearest_sheet(dest: Path) -> None:
    """Raise `UserError` for a name that is not a PNG's, or for a file that is no sheet of ours."""
    check_sheet(dest, "--nearest-sheet")
    refuse_foreign(dest, png_with(MARK))


def draw_nearest_sheet(dest: Path, pictures: np.ndarray, prompts: Sequence[str],
                       train: RealPictures, found: Nearest, unit: float) -> None:
    """Write the `NUM_PAIRS` pictures with the least distance, the nearest first.

    pictures: uint8 [N, 3, H, W] with a prompt each. found: of each its nearest picture in `train`.
    unit: the distance that is called 1 below a picture, the median of the test pictures.
    """
    records = []
    for index in np.argsort(found.distance, kind="stable")[:NUM_PAIRS].tolist():
        beside = train[int(found.index[index])]
        told = f"picture {index}: {found.distance[index] / unit:.2f} of the test median"
        records += [Record(torch.from_numpy(pictures[index]), (prompts[index] or "-",), told),
                    Record(beside.image, beside.captions[:1], beside.id)]
    sheet = contact_sheet(records, columns=2 * _PAIRS_A_ROW)
    save_png(dest, torch.from_numpy(np.array(sheet)).permute(2, 0, 1), {MARK: train.name},
             ours=png_with(MARK))
