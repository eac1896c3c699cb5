"""Prepare, show and check data sets of pictures with or without captions."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datasets.data_set_commands import convert, show, verify
from datasets.import_options import (
    DEST,
    FOLLOW_LINKS,
    NO_CAPTIONS,
    RESOLUTION,
    SPLIT_OF_SOURCE,
    caption_options,
    choice_option,
    import_options,
    import_to,
    path_option,
    print_summary,
    progress,
    text_option,
)
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.number_options import FiniteFloat
from dnnlib.version import VERSION

if TYPE_CHECKING:
    from datasets.folder import Captions

MAX_SIDE_PX = 4096


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="EIDGAN")
def main() -> None:
    """Prepare and check data sets of captioned pictures.

    A data set is an uncompressed zip (or a folder) of PNGs with a dataset.json that holds captions,
    ids, splits, source and licence. The PNGs have one size, unless --transform none kept theirs.
    """


@main.command()
@DEST
@RESOLUTION
@click.option(
    "--max-images",
    metavar="N",
    type=click.IntRange(min=1),
    help="Render only N drawings, evenly spread over all.",
)
@click.option(
    "--seed",
    metavar="INT",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the split of concepts into train (85 %) and test (15 %).",
)
@report_user_errors
def openmoji(dest: Path, resolution: str, max_images: int | None, seed: int) -> None:
    """Render the OpenMoji drawings (CC-BY-SA-4.0) with captions from their names and colours.

    The command needs no network: drawings and names come from installed Python packages. Variants
    of one concept, such as skin tones, have the same split. Drawings without an English name are
    left out.

    Example: dataset_tool.py openmoji --dest data/openmoji64.zip --resolution 64x64
    """
    from datasets.archive import check_dest, write_archive
    from datasets.openmoji import find_emojis, openmoji_info, openmoji_pictures
    from datasets.verify import archive_faults
    from networks.coordinates import parse_size

    size = parse_size(resolution, MAX_SIDE_PX)
    check_dest(dest)
    emojis, unnamed = find_emojis(max_images, seed)
    with progress(emojis, "Rendering") as bar:
        info = openmoji_info(emojis, unnamed, seed)
        entries = write_archive(dest, openmoji_pictures(bar, size), size, info, archive_faults)
    print_summary(dest, entries)
    click.echo(f"Left out {len(unnamed)} drawings that have no English name.")


def _import_to(resolution: str, **options: Any) -> AbstractContextManager:
    """`import_to` for a size WxH in text: a context with a report and a function that writes."""
    from networks.coordinates import parse_size

    return import_to(size=parse_size(resolution, MAX_SIDE_PX), **options)


@main.command()
@path_option(
    "--source", "DIR", "Pictures, also in subfolders, with captions in one of the forms above."
)
@caption_options
@click.option(
    "--test-share",
    metavar="SHARE",
    default=0.0,
    show_default=True,
    type=FiniteFloat(min=0, max=1, max_open=True),
    help="Share of the pictures for the test split, by the hash of their names. It applies if "
    "neither the captions' file nor folders named train, test or validation give a split.",
)
@FOLLOW_LINKS
@import_options
@report_user_errors
def folder(
    source: Path, captions: Captions, test_share: float, follow_links: bool, **options: Any
) -> None:
    """Import a folder of pictures. Hidden files are left out.

    Forms of captions, by preference (docs/datasets.md describes each): captions.jsonl,
    metadata.jsonl, metadata.csv, metadata.parquet (Hugging Face imagefolder), captions.csv,
    captions.tsv, flickr8k, flickr30k, and a file NAME.txt, NAME.caption or NAME.json beside each
    picture.

    Pictures may have any format that Pillow reads, except PDF, EPS and films. EXIF rotation,
    greyscale, transparency (over white), CMYK, palettes, 16 bits and colour profiles are handled.
    Pictures are resized with Lanczos's filter. Files that cannot be used are counted, skipped and
    listed in dataset.json.

    Example: dataset_tool.py folder --source photos --dest data/photos256.zip --resolution 256x256
    """
    from datasets.folder import folder_pictures, refuse_captionless

    with _import_to(**options) as (report, write):
        raws = folder_pictures(
            source,
            report,
            test_share,
            follow_links=follow_links,
            captions=captions,
            dest=options["dest"],
        )
        refuse_captionless(source, raws, report)
        write(raws, f"folder {printable(source.resolve().name)}")


@main.command()
@path_option(
    "--images",
    "DIR",
    "Folder of pictures, such as train2014. Repeat it together with --captions for two splits.",
    multiple=True,
)
@path_option(
    "--captions",
    "FILE",
    "Annotation file of that folder, such as annotations/captions_train2014.json.",
    multiple=True,
)
@SPLIT_OF_SOURCE
@import_options
@report_user_errors
def coco(images: tuple[Path, ...], captions: tuple[Path, ...], split: str, **options: Any) -> None:
    """Import MS-COCO 2014 or 2017 from the official pictures and captions. Ids are COCO's.

    White space at the ends of captions is removed and newlines become spaces. Pictures without
    captions, captions without pictures, greyscale and damaged files are counted, and listed in
    dataset.json. A picture that is in both splits is kept only in test.

    Example: dataset_tool.py coco --images train2014 --captions annotations/captions_train2014.json
    --dest data/coco-train256.zip --resolution 256x256
    """
    from datasets.coco import coco_pictures, split_of

    if len(images) != len(captions):
        raise UserError(
            f"--images is given {len(images)} times and --captions {len(captions)} times; "
            "give each folder its file"
        )
    with _import_to(**options) as (report, write):
        raws = []
        for folder, file in zip(images, captions, strict=True):
            side = split_of(file) if split == "auto" else split
            raws += coco_pictures(folder, file, side, report)
        write(raws, f"MS-COCO {', '.join(printable(path.name) for path in captions)}")


@main.command()
@path_option("--root", "DIR", "The folder CUB_200_2011.")
@path_option(
    "--captions", "DIR|FILE", "Folder text or text_c10 with CLASS/NAME.txt, or a JSON file."
)
@text_option(
    "--split",
    "official|attngan:FILE",
    "train_test_split.txt, or AttnGAN's train/filenames.pickle or test/filenames.pickle.",
    "official",
)
@choice_option(
    "--crop",
    ["none", "box75"],
    "none",
    "box75: crop to the square around the bounding box, as AttnGAN and its successors do.",
)
@FOLLOW_LINKS
@import_options
@report_user_errors
def cub(
    root: Path, captions: Path, split: str, crop: str, follow_links: bool, **options: Any
) -> None:
    """Import Caltech-UCSD Birds 200-2011 with ten captions a picture. Ids are CLASS/NAME.

    Pickled file lists are read without running code.

    Example: dataset_tool.py cub --root CUB_200_2011 --captions birds/text
    --split attngan:birds/test/filenames.pickle --crop box75 --dest data/cub256.zip
    --resolution 256x256
    """
    from datasets.cub import ATTNGAN_BOX_SCALE, cub_pictures

    rule = "official" if split == "official" else "attngan"
    with _import_to(**options) as (report, write):
        raws = cub_pictures(root, captions, split, report, follow_links=follow_links)
        box_scale = ATTNGAN_BOX_SCALE if crop == "box75" else None
        write(raws, f"CUB-200-2011, split {rule}", crop=crop, box_scale=box_scale)


@main.command()
@path_option("--images", "DIR", "The folder jpg.")
@path_option("--captions", "DIR", "The folder text_c10.")
@path_option(
    "--labels", "MAT", "imagelabels.mat, to check the classes of the captions.", required=False
)
@text_option(
    "--split",
    "MAT|reed:DIR",
    "setid.mat, or the folder with Reed et al.'s testclasses.txt.  [default: all are train]",
)
@FOLLOW_LINKS
@import_options
@report_user_errors
def flowers(
    images: Path,
    captions: Path,
    labels: Path | None,
    split: str | None,
    follow_links: bool,
    **options: Any,
) -> None:
    """Import Oxford-102 flowers with ten captions a picture. Ids are class_00077/image_00001.

    Example: dataset_tool.py flowers --images jpg --captions text_c10 --split reed:flowers
    --dest data/flowers64.zip --resolution 64x64
    """
    from datasets.flowers import flower_pictures

    with _import_to(**options) as (report, write):
        raws = flower_pictures(
            images, captions, report, labels=labels, split=split, follow_links=follow_links
        )
        write(raws, "Oxford-102 flowers")


@main.command()
@click.option(
    "--source",
    metavar="DIR|PATTERN",
    required=True,
    help="Folder of shards, or a pattern such as 'cc3m/000*.tar'.",
)
@choice_option("--split", ["train", "test"], "train", "Split of all pictures.")
@import_options
@report_user_errors
def webdataset(source: str, split: str, **options: Any) -> None:
    """Import tar shards as img2dataset writes them. A sample is NAME.jpg, or a picture in another
    format, with NAME.txt or NAME.json.

    Example: dataset_tool.py webdataset --source cc3m --dest data/cc3m256.zip --resolution 256x256
    """
    from datasets.tar_shards import find_shards, shard_pictures

    with _import_to(**options) as (report, write):
        shards = find_shards(source)
        write(shard_pictures(shards, split, report), f"WebDataset, {len(shards)} shards")


@main.command()
@path_option("--source", "DIR", "Folder that save_to_disk wrote.")
@text_option("--image-column", "NAME", "Column with the pictures.  [default: image, img, ...]")
@text_option(
    "--caption-column", "NAME", "Column with the captions.  [default: captions, caption, text, ...]"
)
@import_options
@report_user_errors
def hf(source: Path, image_column: str | None, caption_column: str | None, **options: Any) -> None:
    """Import a data set that the Hugging Face library saved with save_to_disk (needs pyarrow).

    Example: dataset_tool.py hf --source flowers --dest data/flowers256.zip --resolution 256x256
    """
    from datasets.saved_arrow import saved_pictures

    with _import_to(**options) as (report, write):
        raws = saved_pictures(source, report, image_column, caption_column)
        write(raws, f"Hugging Face data set {printable(source.resolve().name)}")


@main.command()
@path_option(
    "--source", "DIR", "A database such as bedroom_train_lmdb; may be repeated.", multiple=True
)
@SPLIT_OF_SOURCE
@text_option(
    "--caption-template",
    "TEXT",
    "Make captions such as 'a photo of a {}', with the category from the folder's name for {}.",
)
@NO_CAPTIONS
@import_options
@report_user_errors
def lsun(
    source: tuple[Path, ...],
    split: str,
    caption_template: str | None,
    no_captions: bool,
    **options: Any,
) -> None:
    """Import LSUN's LMDB databases (needs the package lmdb). LSUN has no captions: give
    --no-captions or --caption-template. Ids are LSUN's keys.

    Example: dataset_tool.py lsun --source bedroom_train_lmdb --no-captions --max-images 100000
    --dest data/bedroom256.zip --resolution 256x256
    """
    from datasets.lsun import lsun_pictures, open_databases

    with _import_to(**options) as (report, write):
        databases = open_databases(source, split, caption_template, no_captions, report)
        names = ", ".join(printable(path.resolve().name) for path in source)
        write(lsun_pictures(databases, report), f"LSUN {names}", sum(map(len, databases)))


@main.command("encode-text")
@click.option("--data", metavar="ZIP|DIR", required=True, help="The data set.")
@text_option(
    "--text-encoder",
    "SPEC",
    "small, small:FILE, small-heldout, hashed or open_clip:MODEL/WEIGHTS.",
    "small",
)
@text_option(
    "--cache", "DIR", "Folder of the features.  [default: .cache beside the data, as in train.py]"
)
@text_option("--device", "NAME", "auto, cpu, cuda, cuda:N or mps.", "auto")
@report_user_errors
def encode_text(data: str, text_encoder: str, cache: str | None, device: str) -> None:
    """Compute the text features of all captions of a data set before training. Features that exist
    already are kept.

    Example: dataset_tool.py encode-text --data data/coco256.zip --text-encoder open_clip
    """
    from datasets.text_image import TextImageDataset
    from dnnlib.files import cache_folder, user_cache_folder
    from networks.text_encoders import load_encoder
    from networks.text_encoders.cache import CachedTextEncoder
    from networks.text_encoders.limits import cut_line
    from torch_utils.distributed import resolve_device

    folder = (
        Path(cache) if cache else cache_folder(Path(data).parent / ".cache", user_cache_folder())
    )
    everything = TextImageDataset(data, split="all")
    if not everything.has_captions:
        raise UserError(
            f"--data {data}: the pictures have no captions, so there is nothing to encode"
        )
    encoder = load_encoder(text_encoder, resolve_device(device))
    cut = cut_line(
        encoder, (text for index in range(len(everything)) for text in everything.captions(index))
    )
    if cut:
        click.echo(cut, err=True)
    # One cache for each split, because train.py reads only the cache of its split.
    for split in sorted(everything.splits):
        dataset = TextImageDataset(data, split=split)
        captions = sorted(
            {text for index in range(len(dataset)) for text in dataset.captions(index)}
        )
        cached = CachedTextEncoder.build(encoder, captions, folder)
        click.echo(f"{cached.folder}: {len(captions)} captions of {split} by {encoder.id}")


for command in (convert, verify, show):
    main.add_command(command)


if __name__ == "__main__":
    # Exit by an exception, so that an interrupted command removes its temporary files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
