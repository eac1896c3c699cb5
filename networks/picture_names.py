"""Names of the pictures that generate.py writes, and the check of the folder they go to."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import click

from dnnlib.names import listing

GRID = "grid.png"
PICTURE_NAME = r"\d+-(.*-)?seed\d{4,}(-scales)?\.png|" + re.escape(GRID)
# Keys of the PNG texts by which we recognise the pictures of this command.
MARKS = ("snapshot", "size", "window", "truncation")


def slug(prompt: str) -> str:
    """A prompt as part of a file name: up to 48 letters and digits of any script, and hyphens."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", prompt).lower())
    return words.strip("-")[:48].strip("-") or "prompt"


def picture_names(texts: list[str], seeds: list[int], ending: str = ".png") -> list[str]:
    """The file names of all pictures, in the order in which they are generated.

    For each prompt there is a picture for each seed. An empty prompt is left out of the name.
    """
    digits = len(str(len(texts) * len(seeds) - 1))
    pairs = [(text, seed) for text in texts for seed in seeds]
    return [
        f"{i:0{digits}d}-{slug(text) + '-' if text else ''}seed{seed:04d}{ending}"
        for i, (text, seed) in enumerate(pairs)
    ]


def check_folder(outdir: Path, names: list[str]) -> None:
    """Name, on stderr, the pictures of an earlier call that stay in `outdir` or are replaced there.

    names: file names that will be written. Raises `UserError` if a file with one of these names
    exists that `generate.py` did not write.
    """
    from dnnlib.ownership import refuse_foreign
    from torch_utils.pictures import png_with

    ours = png_with(*MARKS)
    for name in names:
        refuse_foreign(outdir / name, ours)
    if outdir.is_dir():
        similar = {path.name for path in outdir.iterdir() if re.fullmatch(PICTURE_NAME, path.name)}
        earlier = {name for name in similar if ours(outdir / name) is None}
        for verb, some in (("keeps", earlier - set(names)), ("replaces", earlier & set(names))):
            if some:
                shown = listing(sorted(some), 20)
                pictures = f"{len(some)} picture{'s' * (len(some) > 1)}"
                click.echo(f"{outdir} {verb} {pictures} of an earlier call: {shown}", err=True)
