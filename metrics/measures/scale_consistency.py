"""Do a render at S and one at a multiple of S show the same picture? PSNR, SSIM, MS-SSIM and LPIPS.

The large render is brought down to S by an exact area average. Agreement does not measure detail:
a bicubic enlargement agrees almost perfectly. Its numbers are in the same record, as an upper
bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dnnlib.errors import UserError
from metrics.measures.base import Evaluation, Fields, Measure, Session

if TYPE_CHECKING:
    import torch

    from networks.coordinates import Convention, View

    Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class ScaleConsistency(Measure):
    """Agreement of renders at S and at factor x S. `value` is the mean PSNR in dB."""

    kind = "scale_consistency"
    better = "high"
    detector = None
    factor: int

    def score(self, session: Session, evaluation: Evaluation) -> Fields:
        """Each distance for both conventions of a view, and with a bicubic enlargement.

        MS-SSIM is None for pictures that are smaller than its five octaves. LPIPS is None for
        small pictures and where its weights are missing; `lpips_note` says why.
        """
        from metrics.pictures.ranks import over_ranks
        from networks.coordinates import View

        native = View.square(session.resolution)
        distances, extra = _distances(session, native.height)
        fields: Fields = {"psnr": {}, "ssim": {}, "ms_ssim": {}, "lpips": {}}
        conventions: tuple[Convention, ...] = ("centers", "endpoints")
        for convention in conventions:
            view = replace(native, convention=convention)
            rendered = partial(
                self._agreement, session, evaluation, view=view, distances=[*distances.values()]
            )
            records = over_ranks(evaluation.pictures.num_images, rendered)
            for name in records[0]:
                means = np.mean([one[name] for one in records], axis=0).tolist()
                for distance, mean in zip(distances, means, strict=True):
                    fields[distance][name] = mean
        value = fields["psnr"]["centers"]
        present = {name: field or None for name, field in fields.items()}
        return {"value": value, "unit": "dB"} | present | extra

    def _agreement(
        self,
        session: Session,
        evaluation: Evaluation,
        share: range,
        *,
        view: View,
        distances: list[Distance],
    ) -> list[dict[str, list[float]]]:
        """For each picture of the share: the distances by the name of the large render."""
        from metrics.arithmetic.similarity import enlarge, shrink, to_unit

        records = []
        renders = (
            session.render(evaluation.pictures, share, size)
            for size in (view, view.scaled(self.factor))
        )
        for pair in zip(*renders, strict=True):
            small, large = (to_unit(image[None]) for image in pair)
            others: dict[str, torch.Tensor] = {view.convention: shrink(large, self.factor)}
            if view.convention == "centers":
                others["bicubic"] = shrink(enlarge(small, self.factor), self.factor)
            records.append(
                {
                    name: [distance(small, other).item() for distance in distances]
                    for name, other in others.items()
                }
            )
        return records


def _distances(session: Session, side: int) -> tuple[dict[str, Distance], Fields]:
    """The distances that this side allows, by name, and what the record says of LPIPS."""
    from metrics.arithmetic.similarity import MS_SSIM_MIN_PX, ms_ssim, psnr, ssim

    distances: dict[str, Distance] = {"psnr": psnr, "ssim": ssim}
    if side >= MS_SSIM_MIN_PX:
        distances["ms_ssim"] = ms_ssim
    try:
        lpips = distances["lpips"] = session.lpips()
    except UserError as error:
        return distances, {"lpips_note": str(error)}
    return distances, {"lpips_weights_sha256": lpips.weights_sha256}
