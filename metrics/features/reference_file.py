"""Statistics of real pictures in one .npz: `calc_metrics.py ref` writes it, `calc --ref` reads it.

The file has one entry for each detector: mean and covariance in float64 (ddof 1), or the feature
vectors. Its `index` is JSON text. A file of another tool with `mu` and `sigma` is read as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.packed_files import refuse_bombs
from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path
from metrics.features.detectors import Detector, detector_id
from metrics.features.extraction import Features
from metrics.features.moments import Moments
from metrics.features.references import arrays_of, features_of
from metrics.features.wants import Wants

_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """Features of one detector. `tag` says what was seen of the pictures."""

    detector: str
    tag: str
    features: Features


def write_reference(path: Path, entries: list[Entry], origin: dict[str, Any]) -> None:
    """Write the file as a whole. `origin`: name, content hash and source of the pictures."""
    index = {
        "format": _FORMAT,
        "ddof": 1,
        **origin,
        "entries": [
            {"detector": entry.detector, "tag": entry.tag, "count": entry.features.count}
            for entry in entries
        ],
    }
    arrays: dict[str, Any] = {}
    for number, entry in enumerate(entries):
        arrays |= arrays_of(entry.features, f"{number}/")
    with atomic_path(path, ours=reference_fault) as temporary:
        np.savez(temporary, index=np.array(json.dumps(index)), **arrays)


def reference_fault(path: Path) -> str | None:
    """The rule of ownership (`dnnlib.ownership`) for what `write_reference` wrote."""
    try:
        return "holds mu and sigma of another tool" if ReferenceFile(path).foreign else None
    except UserError:
        return "is no reference statistics of this program"


def _check_index(index: dict[str, Any]) -> None:
    """Raises `ValueError` for an index whose entries have another form."""
    entries, size = index.get("entries", []), index.get("resolution", [1, 1])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("its entries are no list of objects")
    for entry in entries:
        for name, kind in {"detector": str, "tag": str, "count": int}.items():
            if not isinstance(entry.get(name), kind):
                raise ValueError(f"{name} of an entry is missing or of another type")
    if not (isinstance(size, list) and [type(side) for side in size] == [int, int]):
        raise ValueError("its resolution is not [width, height]")


class ReferenceFile:
    """A file of statistics. Raises `UserError` for one that is damaged or something else."""

    def __init__(self, path: Path) -> None:
        self.path = path

        def refusal(reason: str) -> UserError:
            return UserError(
                f"--ref {path} is no reference statistics ({reason}); make them with "
                "calc_metrics.py ref, or give a folder of pictures"
            )

        with library_errors(refusal), np.load(path, allow_pickle=False) as archive:
            refuse_bombs(archive.zip)
            self.foreign = "mu" in archive and "sigma" in archive
            self.index = {} if self.foreign else dict(json.loads(str(archive["index"])))
            if not self.foreign:
                _check_index(self.index)
            self._mu_sigma = (archive["mu"], archive["sigma"]) if self.foreign else None
        if not self.foreign and self.index.get("format") != _FORMAT:
            raise UserError(
                f"--ref {path}: format {self.index.get('format')} is not {_FORMAT}; make it again "
                "with ref"
            )

    @property
    def resolution(self) -> tuple[int, int] | None:
        """(width, height) of the pictures, where the file says so."""
        if "resolution" not in self.index:
            return None
        width, height = self.index["resolution"]
        return width, height

    def features(self, detector: Detector, tag: str, wants: Wants) -> Features:
        """The entry of this detector (name, weights and resize) and of this tag.

        Raises `UserError` if the file has no such entry, or not what is wanted of it.
        """
        if self.foreign:
            return self._foreign(wants)
        wanted = detector_id(detector)
        entries = list(enumerate(self.index["entries"]))
        fitting = [(number, entry) for number, entry in entries if entry["detector"] == wanted]
        if not fitting:
            held = ", ".join(sorted({entry["detector"].split("/")[0] for _, entry in entries}))
            raise UserError(
                f"--ref {self.path} holds nothing of {detector.name} with these weights "
                f"(it holds {held}); make it again with calc_metrics.py ref and the same --metrics"
            )
        same = [pair for pair in fitting if pair[1]["tag"] == tag]
        if not same:
            raise UserError(
                f"--ref {self.path} holds {fitting[0][1]['tag']!r} of {detector.name}, "
                f"but {tag!r} is needed"
            )
        number, entry = same[0]

        def refusal(reason: str) -> UserError:
            return UserError(f"--ref {self.path} is damaged ({reason}); make it again with ref")

        with library_errors(refusal), np.load(self.path, allow_pickle=False) as archive:
            features = features_of(archive, entry["count"], f"{number}/")
        if "vectors" in wants and features.vectors is None:
            raise UserError(
                f"--ref {self.path} holds only mean and covariance of {detector.name}; KID, CMMD, "
                "precision and density need features: make it again with ref and the same --metrics"
            )
        return features

    def _foreign(self, wants: Wants) -> Features:
        assert self._mu_sigma is not None
        mean, covariance = (np.asarray(array, np.float64) for array in self._mu_sigma)
        if "vectors" in wants or mean.ndim != 1 or covariance.shape != (len(mean),) * 2:
            raise UserError(
                f"--ref {self.path} holds only mu and sigma of another tool, which is enough for "
                "FID alone"
            )
        return Features(0, None, Moments(0, mean, covariance))
