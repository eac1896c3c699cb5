"""Where real pictures and captions come from, and how they are opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datasets.archive import INDEX
from datasets.stylegan import NO_CAPTIONS, LabelCaptions
from datasets.text_image import TextImageDataset
from dnnlib.errors import UserError
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.sights import RealPictures, real_side
from metrics.pictures.specifications import Reference


@dataclass(frozen=True)
class Sources:
    """The files that a user named.

    - `data`: a data set, for captions and real pictures.
    - `reference`: statistics, a folder or a data set that replaces the real pictures of `data`.
    - `large`: a data set with larger real pictures.
    - `weights`: local files of detectors by name.
    - `labels`: how captions are made of the class labels of `data`.
    - `framed`: real pictures are the frames of `data`, shrunk to the size that an evaluation asks
      for, as in training on patches. Data sets of native sizes are always read so.
    """

    data: Path | None = None
    reference: Path | None = None
    large: Path | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    labels: LabelCaptions = NO_CAPTIONS
    framed: bool = False

    @property
    def statistics(self) -> Path | None:
        """The reference if it is a file of statistics, which holds features and no pictures."""
        path = self.reference
        return path if path is not None and path.suffix == ".npz" and path.is_file() else None

    def dataset(self, split: str) -> TextImageDataset:
        """A split of `data`. Raises `UserError` if there is none."""
        if self.data is None:
            raise UserError(
                "--data is missing: the data set whose captions and real pictures are used"
            )
        return TextImageDataset(self.data, split=split, labels=self.labels)

    def reals(self, reference: Reference, side: int) -> Reals:
        """The real pictures of a reference beside generated ones of `side` pixels.

        Raises `UserError` for an option that is missing.
        """
        path, option = self.reference or self.data, "--ref" if self.reference else "--data"
        if reference.sight != "native" and not (self.framed and self.large is None):
            path, option = self.large, "--data-large"
        if path is not None:
            pictures = open_pictures(path, reference.split)
            if isinstance(pictures, PictureFolder):
                return Reals(pictures, f"{option} {path}", cacheable=False)
            if pictures.native and reference.sight == "patch":
                raise UserError(
                    f"{option} {path}: its pictures have different sizes, but windows are cut from "
                    "pictures of one size; name a data set of one size with --data-large"
                )
            if (pictures.native or self.framed) and reference.sight != "patch":
                pictures = pictures.framed(real_side(reference.sight, side))
            return Reals(pictures, f"{option} {path}", cacheable=True)
        if reference.sight == "native":
            raise UserError("--data or --ref is missing: the real pictures to compare with")
        raise UserError(
            "--data-large is missing: this evaluation needs real pictures larger than the "
            "network's, as a data set of dataset_tool.py (OpenMoji renders at any --resolution)"
        )


@dataclass(frozen=True)
class Reals:
    """Real pictures, the option and file that named them, and whether features may be cached."""

    pictures: RealPictures
    option: str
    cacheable: bool


def open_pictures(path: Path, split: str) -> TextImageDataset | PictureFolder:
    """A split of a data set, or all pictures of a plain folder."""
    if path.is_dir() and not (path / INDEX).is_file():
        return PictureFolder(path)
    return TextImageDataset(path, split=split)
