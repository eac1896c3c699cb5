"""Read and write archives in the format of StyleGAN's tools.

The format is a zip or a folder of pictures with a `dataset.json` of class labels:
{"labels": [["00000/img00000000.png", 3], ...]} or {"labels": null}; the file may be missing.
`open_archive` reads such an archive as an `Archive`. `write_stylegan` writes what StyleGAN3's
loader accepts: an uncompressed zip of squares of one size, a power of two, with one channel count.
Labels that are vectors are not supported.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.archive import FORMAT, INDEX, Archive, check_ending
from datasets.archive_store import open_store, picture_name, png_bytes
from datasets.picture_files import PictureError, is_picture_name, load_stored, stored_header
from dnnlib.errors import UserError
from dnnlib.files import atomic_path, read_json
from dnnlib.names import listing, printable
from dnnlib.ownership import never, refuse_foreign
from dnnlib.text import read_named_text, split_lines

# Number of pictures whose headers are checked when a data set is opened. Every picture is checked
# again when it is read.
NUM_CHECKED = 1000
# A key that we add to StyleGAN's dataset.json; StyleGAN's loader reads only `labels`.
CLASS_NAMES = "class_names"
_PLACE = "{}"


@dataclass(frozen=True, kw_only=True)
class LabelCaptions:
    """How to make captions of class labels.

    template: a text with {} for the class; '' makes no captions.
    names: a file with the names of the classes, one a line in the order of the labels, or JSON (a
        list, or {"0": name, ...}). '' takes the names in `dataset.json`, or else the label numbers.
    Raises `UserError` for a template without {}, and for names without a template.
    """

    template: str = ""
    names: str = ""

    def __post_init__(self) -> None:
        if self.template and _PLACE not in self.template:
            raise UserError(
                f"--caption-template {self.template!r}: write {_PLACE} where the class "
                "goes, such as 'a photo of a {}'"
            )
        if self.names and not self.template:
            raise UserError("--class-names: needs --caption-template, such as 'a photo of a {}'")


NO_CAPTIONS = LabelCaptions()


def open_archive(path: str | os.PathLike, labels: LabelCaptions = NO_CAPTIONS) -> Archive:
    """Open a data set of this program, one of StyleGAN's tools, or a zip or folder of pictures.

    labels: how to make captions of class labels.
    Raises `UserError` if the path is none of these, and if captions are wanted but there are no
    labels.
    """
    return _AnyArchive(path, labels)


class _AnyArchive(Archive):
    """An archive of this program, or one of StyleGAN's that looks like one of this program."""

    def __init__(self, path: str | os.PathLike, labels: LabelCaptions) -> None:
        self._labels = labels
        super().__init__(path)

    def _read_index(self) -> bytes:
        without_index = INDEX not in self._files and any(map(is_picture_name, self._files))
        return b'{"labels": null}' if without_index else super()._read_index()

    def _checked(self, index: Any) -> dict[str, Any]:
        if not isinstance(index, dict) or "format" in index or "labels" not in index:
            ours = super()._checked(index)
            if self._labels.template:
                raise UserError(
                    "--caption-template is for archives of StyleGAN's tools; captions of a data "
                    f"set of this program, such as {printable(self.path)}, are made at its import"
                )
            return ours
        self.modes = ("RGB", "L")
        self._files = {name: self._files[name] for name in self._files if is_picture_name(name)}
        if not self._files:
            raise UserError(f"{self.path}: no pictures in it")
        captions = _captions(index, self.names, self._labels, self.path)
        items = [
            {"file": name, "id": name, "captions": captions.get(name, []), "split": "train"}
            for name in self.names
        ]
        metadata = {
            "format": FORMAT,
            "source": "pictures as they are",
            "resolution": self._size(),
            "items": items,
        }
        self._index = json.dumps(metadata).encode()  # so that the content hash covers the captions
        return metadata

    def _size(self) -> list[int]:
        """[width, height] of the pictures, from the headers of at most `NUM_CHECKED` + 1 of them.

        If these differ, all headers are read and a `UserError` names the pictures that differ.
        """
        names = self.names
        checked = names[:: -(-len(names) // NUM_CHECKED)] + names[-1:]
        headers = [self._header(name) for name in checked]
        modes, sizes = {mode for mode, _ in headers}, {size for _, size in headers}
        if len(sizes) > 1 or modes - set(self.modes):
            raise UserError(self._what_differs())
        return list(headers[0][1])

    def _header(self, name: str) -> tuple[str, tuple[int, int]]:
        try:
            return stored_header(self.read(name), f"{self.path}: {name}")
        except PictureError as error:
            return f"unreadable ({error.reason})", (0, 0)

    def _what_differs(self) -> str:
        headers = {name: self._header(name) for name in self.names}
        sound = Counter(size for mode, size in headers.values() if mode in self.modes)
        usual = sound.most_common(1)[0][0] if sound else None
        odd = [
            f"{name} ({_form(*header)})"
            for name, header in headers.items()
            if header[0] not in self.modes or header[1] != usual
        ]
        form = "RGB or greyscale"
        if usual:
            form += f" of {usual[0]}x{usual[1]} as the others"
        remedy = "prepare them" if self.zip is None else "unpack and prepare them"
        return (
            f"--data {printable(self.path)}: {len(odd)} of {len(headers)} pictures are not "
            f"{form}: {listing(odd, 10)}; {remedy} with dataset_tool.py folder "
            "--resolution WxH"
        )


def _form(mode: str, size: tuple[int, int]) -> str:
    return f"{mode} {size[0]}x{size[1]}" if any(size) else mode


def _captions(
    index: Mapping[str, Any], files: Sequence[str], wanted: LabelCaptions, path: Path
) -> dict[str, list[str]]:
    """A list of one caption by file, made of the labels in `index`; empty without a template.

    Raises `UserError` if the labels do not fit the files, or the class names do not fit the labels.
    """
    if not wanted.template:
        return {}
    place = f"--caption-template: {printable(path)}: {INDEX}"
    labels = index["labels"]
    if not labels:
        raise UserError(
            f"{place} holds no class labels to make captions of; of class folders, "
            "dataset_tool.py folder --caption-template makes them"
        )
    if not isinstance(labels, list) or not all(map(_is_label, labels)):
        raise UserError(
            f'{place}: labels must be a list of ["00000/img00000000.png", 3], whole '
            "numbers from 0 on"
        )
    by_file: dict[str, int] = dict(labels)
    for fault, names in (
        ("without a label", set(files) - by_file.keys()),
        ("labelled but not there", by_file.keys() - set(files)),
    ):
        if names:
            raise UserError(f"{place}: {len(names)} pictures are {fault}: {listing(sorted(names))}")
    class_names = _class_names(wanted, index, sorted(set(by_file.values())))
    return {
        name: [wanted.template.replace(_PLACE, class_names[label])]
        for name, label in by_file.items()
    }


def _is_label(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and type(pair[1]) is int
        and pair[1] >= 0
    )


def _class_names(
    wanted: LabelCaptions, index: Mapping[str, Any], labels: Sequence[int]
) -> dict[int, str]:
    """The name of each label. labels: the distinct label numbers, sorted."""
    if wanted.names:
        place, listed = f"--class-names {printable(wanted.names)}", _read_names(Path(wanted.names))
    elif CLASS_NAMES in index:
        place, listed = f"{INDEX}: {CLASS_NAMES}", index[CLASS_NAMES]
    else:
        return {label: str(label) for label in labels}
    if isinstance(listed, list):
        listed = {str(label): name for label, name in enumerate(listed)}
    if not isinstance(listed, dict):
        listed = {}
    names = {label: listed.get(str(label)) for label in labels}
    missing = [
        label for label, name in names.items() if not isinstance(name, str) or not name.strip()
    ]
    if missing:
        raise UserError(f"{place}: there is no name for label {listing(map(str, missing))}")
    return {label: str(name) for label, name in names.items()}


def _read_names(path: Path) -> Any:
    if path.suffix.lower() == ".json":
        return read_json(path)
    text, _ = read_named_text(path, f"--class-names {printable(path)}:")
    return [line.strip() for line in split_lines(text.rstrip())]


def write_stylegan(source: Path, dest: Path, *, split: str, classes: bool) -> list[str]:
    """Write the pictures of a data set of this program for StyleGAN3.

    split: a split of the data set, or 'all'.
    classes: whether to write class labels: the sorted folders of the ids (CLASS/NAME in CUB),
        numbered from 0.
    Returns lines for the terminal. Raises `UserError` for pictures that the format cannot hold, and
    if `dest` exists.
    """
    # Check the data set and the destination.
    archive = Archive(source)
    width, height = archive.resolution
    if width != height or width & (width - 1):
        raise UserError(
            f"{source}: pictures are {width}x{height}, but StyleGAN takes squares of a "
            "power of two; import them again with such a --resolution"
        )
    as_folder = check_ending(dest)
    refuse_foreign(dest, never)
    everything = archive.entries()
    entries = [entry for entry in everything if split in ("all", entry.split)]
    if not entries:
        raise UserError(f"{source}: no picture has the split {split!r}; give another --split")

    # Write the pictures and their labels.
    names = _classes(entry.id for entry in entries) if classes else []
    number = {name: label for label, name in enumerate(names)}
    labels = []
    with (
        atomic_path(dest, folder=as_folder, ours=never) as temporary,
        open_store(temporary, as_folder) as store,
    ):
        for i, entry in enumerate(entries):
            mode, pixels = load_stored(archive.read(entry.file), f"{source}: {entry.file}")
            if mode != "RGB" or pixels.shape[:2] != (height, width):
                raise UserError(
                    f"{source}: {entry.file} is not RGB {width}x{height}; "
                    "dataset_tool.py verify lists all faults"
                )
            store.add(picture_name(i), png_bytes(pixels))
            if classes:
                labels.append([picture_name(i), number[_class(entry.id)]])
        index = {"labels": labels if classes else None} | ({CLASS_NAMES: names} if classes else {})
        store.add(INDEX, json.dumps(index).encode())

    # Say what was written and what was left out.
    labelled = "no labels (--labels class takes the folders of the ids)"
    if classes:
        labelled = f"labels of {len(names)} classes"
    lines = [f"{dest}: {len(entries)} pictures of {width}x{height} for StyleGAN, {labelled}"]
    if num_captions := sum(len(entry.captions) for entry in entries):
        lines.append(f"Left out {num_captions} captions, for which the format has no place.")
    if len(entries) < len(everything):
        num_left = len(everything) - len(entries)
        lines.append(f"Left out {num_left} pictures of the other split (--split all takes them).")
    return lines


def _class(name: str) -> str:
    """The folder of an id: 'CLASS/NAME' -> 'CLASS'."""
    return name.rpartition("/")[0]


def _classes(ids: Iterable[str]) -> list[str]:
    """The distinct folders of the ids, sorted. Raises `UserError` if an id has no folder."""
    ids = list(ids)
    bare = [name for name in ids if not _class(name)]
    if bare:
        raise UserError(
            f"--labels class: {len(bare)} of {len(ids)} ids have no folder CLASS/ "
            f"({listing(bare)}); leave --labels out"
        )
    return sorted(set(map(_class, ids)))
