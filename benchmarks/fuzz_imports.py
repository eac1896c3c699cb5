"""Feed damaged files to the readers of pictures, archives and text: a fuzz test.

`python -m benchmarks.fuzz_imports` runs it. An input is a small valid file of which some bytes are
replaced, flipped, cut out, repeated or overwritten. Each input goes through the reader that an
import uses for its kind. A reader may accept the file, skip it with a reason, or raise `UserError`.
Any other exception would be a traceback for a user: this script counts it, prints the seed that
reproduces the input, and exits with code 1. Inputs are read in child processes, so that crashes of
a library are counted as well.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import date
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from PIL import ExifTags, Image

from benchmarks.harness import RECORD
from datasets.archive import Archive, Picture, write_archive
from datasets.folder import folder_pictures
from datasets.importing import import_pictures
from datasets.packed_files import ZipFiles
from datasets.picture_files import load_rgb
from datasets.report import Report
from datasets.stylegan import open_archive
from datasets.tar_shards import shard_pictures
from datasets.verify import archive_faults
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF")
TABLES = {
    "captions.jsonl": '{"file": "a.png", "captions": ["a red cat", "caf\u00e9"], '
    '"split": "test"}\n',
    "metadata.jsonl": '{"file_name": "a.png", "text": "a red cat on a mat"}\n',
    "metadata.csv": 'file_name,text\na.png,"a red cat, on a mat"\n',
    "captions.tsv": "file\tcaption\na.png\ta red cat on a mat\n",
    "results.csv": "image_name| comment_number| comment\na.png| 0| a red cat on a mat .\n",
    "a.json": '{"captions": ["a red cat", "half an emoji \\ud83d"], "prompt": "no"}',
    "a.txt": "a red cat\r\na cat on a mat\r\n",
}


class Kind(NamedTuple):
    """A kind of input.

    made: makes a file's name and bytes from random numbers. read: reads the file as an import does.
    whole: whether `made` returns a valid file, which must be damaged before it is read.
    """

    made: Callable[[random.Random], tuple[str, bytes]]
    read: Callable[[Path], None]
    whole: bool = True


def picture(draw: random.Random, form: str | None = None) -> tuple[str, bytes]:
    """A picture of noise. form: Pillow's name of the format; None draws one."""
    form = form or draw.choice(FORMATS)
    rich = form in ("PNG", "TIFF")
    mode = draw.choice(("RGB", "L", "RGBA", "P", "I;16") if rich else ("RGB", "L"))
    pixels = np.frombuffer(draw.randbytes(16 * 12 * 3), np.uint8).reshape(12, 16, 3)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form)
    return f"a.{form.lower()}", buffer.getvalue()


def exif(draw: random.Random) -> tuple[str, bytes]:
    """A valid picture with a damaged EXIF block."""
    block, base = Image.Exif(), ExifTags.Base
    values = {
        base.Orientation: draw.randint(0, 9),
        base.XResolution: 72.5,
        base.Software: "fuzz",
        base.DateTime: "2026:11:25 00:00:00",
        base.ColorSpace: 1,
        base.Make: "nobody",
    }
    for tag in draw.sample(sorted(values), 4):
        block[tag] = values[tag]
    buffer, form = io.BytesIO(), draw.choice(("JPEG", "PNG", "WEBP"))
    damaged = mutated(block.tobytes(), draw)
    Image.new("RGB", (16, 12), (200, 30, 30)).save(buffer, form, exif=damaged)
    return f"a.{form.lower()}", buffer.getvalue()


def zipped(draw: random.Random) -> tuple[str, bytes]:
    """A data set of this program, or one of StyleGAN's tools."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zip")
        if draw.random() < 0.5:
            noise = np.frombuffer(draw.randbytes(8 * 8 * 3), np.uint8).reshape(8, 8, 3)
            write_archive(
                path,
                iter([Picture(noise, "a", ("a red cat",), "train")]),
                (8, 8),
                {"source": "fuzz"},
            )
        else:
            method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
            with zipfile.ZipFile(path, "w", method) as archive:
                archive.writestr("00000/img0.png", picture(draw, "PNG")[1])
                archive.writestr("dataset.json", json.dumps({"labels": [["00000/img0.png", 1]]}))
        return "a.zip", path.read_bytes()


def tarred(draw: random.Random) -> tuple[str, bytes]:
    buffer, members = io.BytesIO(), [picture(draw, "PNG"), ("a.txt", b"a red cat")]
    if draw.random() < 0.5:
        members[1] = ("a.json", b'{"caption": "a red cat", "status": "success"}')
    form = draw.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return "a.tar", buffer.getvalue()


def table(draw: random.Random) -> tuple[str, bytes]:
    name = draw.choice(sorted(TABLES))
    encoding = draw.choice(("utf-8", "utf-8-sig", "utf-16", "cp1252"))
    return name, (TABLES[name] * draw.randint(1, 3)).encode(encoding)


def read_picture(path: Path) -> None:
    load_rgb(path)


def read_zip(path: Path) -> None:
    """Read a zip as `verify`, `train.py --data` and `--source X.zip` do."""
    for _ in archive_faults(path):
        pass
    files = ZipFiles(path)
    for name in ("dataset.json", "00000/img0.png"):
        with contextlib.suppress(KeyError):
            files.read(name)
    try:
        Archive(path).entries()
    except UserError:
        open_archive(path)


def read_tar(path: Path) -> None:
    report = Report()
    for _ in import_pictures(shard_pictures([path], "train", report), (8, 8), report):
        pass


def read_table(path: Path) -> None:
    sound = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sound, "PNG")
    (path.parent / "a.png").write_bytes(sound.getvalue())
    report = Report()
    for _ in import_pictures(folder_pictures(path.parent, report, 0.0), (8, 8), report):
        pass


KINDS = {
    "EXIF block": Kind(exif, read_picture, whole=False),
    "picture": Kind(picture, read_picture),
    "zip": Kind(zipped, read_zip),
    "tar": Kind(tarred, read_tar),
    "captions": Kind(table, read_table),
}


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The data after one to four changes: bytes replaced, a bit flipped, a part cut or repeated."""
    result = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if not result:
            break
        start = draw.randrange(len(result))
        end = min(len(result), start + draw.choice((1, 1, 2, 4, 16, 256)))
        change = draw.randrange(7)
        if change == 0:
            result[start:end] = draw.randbytes(end - start)
        elif change == 1:
            result[start] ^= 1 << draw.randrange(8)
        elif change == 2:
            del result[start:end]
        elif change == 3:
            result[start:start] = result[start:end]
        elif change == 4:
            result[start:end] = bytes(end - start)
        elif change == 5:
            result[start:end] = b"\xff" * (end - start)
        else:
            del result[start:]
    return bytes(result)


def outcome(name: str, seed: int) -> tuple[str, str]:
    """The result of one input: 'read', 'refused' or 'traceback', and the reason."""
    kind, draw = KINDS[name], random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory() as folder:
        file, data = kind.made(draw)
        path = Path(folder, file)
        path.write_bytes(mutated(data, draw) if kind.whole else data)
        try:
            kind.read(path)
        except UserError as error:
            return "refused", str(error)
        except Exception:  # this script counts exceptions of every type
            return "traceback", traceback.format_exc(limit=-3)
    return "read", ""


def many(name: str, seeds: range) -> tuple[Counter[str], list[tuple[int, str]]]:
    """The counts of results, and the seeds of tracebacks with their texts."""
    warnings.simplefilter("ignore")  # Pillow's warnings of decompression bombs are no errors
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # silence libtiff, which prints to stderr
    counts: Counter[str] = Counter()
    failures = []
    for seed in seeds:
        result, reason = outcome(name, seed)
        counts[result] += 1
        if result == "traceback":
            failures.append((seed, reason))
    return counts, failures


def run(name: str, seeds: range, chunk: int = 500) -> tuple[Counter[str], list[tuple[int, str]]]:
    """`many` in child processes. If a process dies, all of its inputs count as 'crash'."""
    counts: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    pool = ProcessPoolExecutor(1)
    for start in range(seeds.start, seeds.stop, chunk):
        part = range(start, min(start + chunk, seeds.stop))
        try:
            part_counts, part_failures = pool.submit(many, name, part).result()
        except BrokenProcessPool:
            part_counts = Counter({"crash": len(part)})
            part_failures = [(start, "the process died")]
            pool = ProcessPoolExecutor(1)
        counts += part_counts
        failures += part_failures
    pool.shutdown()
    return counts, failures


@click.command()
@click.option(
    "--num", default=100_000, show_default=True, help="Number of inputs, a fifth for each kind."
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(list(KINDS)),
    multiple=True,
    help="Read only this kind; may be repeated.",
)
@click.option("--seed", default=0, show_default=True, help="The first seed of each kind.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the record to this file."
)
@report_user_errors
def main(num: int, kinds: tuple[str, ...], seed: int, json_path: Path | None) -> None:
    """Read damaged files of every kind and count the results."""
    if json_path is not None:
        refuse_foreign(json_path, RECORD)
    rows, failed = [], False
    for name in kinds or KINDS:
        began = time.monotonic()
        share = num // len(KINDS)
        counts, failures = run(name, range(seed, seed + share))
        row = {"kind": name, "inputs": share} | {
            key: counts[key] for key in ("read", "refused", "traceback", "crash")
        }
        rows.append(row | {"seconds": round(time.monotonic() - began, 1)})
        click.echo("  ".join(f"{key}={value}" for key, value in rows[-1].items()))
        for number, text in failures[:5]:
            click.echo(f"    seed {number}: {text}")
        failed = failed or bool(failures)
        if json_path is not None:
            record = {
                "benchmark": "fuzz_imports",
                "date": date.today().isoformat(),
                "seed": seed,
                "rows": rows,
            }
            write_json(json_path, record, ours=RECORD)
    sys.exit(failed)


if __name__ == "__main__":
    main()
