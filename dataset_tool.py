"""Prepare, show and check data sets of pictures, with captions in any usual form or without."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from datasets.import_options import (
    DEST,
    FOLLOW_LINKS,
    RESOLUTION,
    import_options,
    import_to,
    print_summary,
    progress,
)
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from dnnlib.names import printable
from dnnlib.version import VERSION

MAX_SIDE_PX = 4096


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="EIDGAN")
def main() -> None:
    """Prepare and check data sets of captioned pictures.

    A data set is an uncompressed zip (or a folder) of PNGs of one size with a dataset.json that holds captions, ids,
    splits, source and licence.
    """


@main.command()
@DEST
@RESOLUTION
@click.option(
    "--max-images",
    metavar="N",
    type=click.IntRange(min=1),
    help="Only N drawings, spread over all.",
)
@click.option(
    "--seed",
    metavar="INT",
    type=int,
    default=0,
    show_default=True,
    help="Deals the concepts out to train (85 %) and test (15 %).",
)
@report_user_errors
def openmoji(dest: Path, resolution: str, max_images: int | None, seed: int) -> None:
    """Render the OpenMoji drawings (CC-BY-SA-4.0) with captions from their names and colours.

    Needs no network: drawings and names come from the installed Python packages. Variants of one concept, such as
    skin tones, stay on one side of the train / test split. Drawings without an English name are left out.

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
    print_summary(dest, entries, size)
    click.echo(f"Left out {len(unnamed)} drawings that have no English name.")


def _import_to(resolution: str, **options: Any) -> AbstractContextManager:
    """`import_to`, which opens with a report and a function that writes, for a checked size."""
    from networks.coordinates import parse_size

    return import_to(size=parse_size(resolution, MAX_SIDE_PX), **options)


@main.command()
@click.option(
    "--source",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Pictures, in subfolders too, with captions in one of the forms above.",
)
@click.option(
    "--captions-from",
    metavar="FORM",
    help="Which captions to take.  [default: the first that is there]",
)
@click.option(
    "--caption-column", metavar="NAME", help="Of a table.  [default: captions, caption, text, ...]"
)
@click.option(
    "--caption-template",
    metavar="TEXT",
    help="Make captions such as 'a photo of a {}', with the name of the picture's folder "
    "in place of {}: a leading number (001., n02085620-) is dropped, underscores become "
    "spaces. Without {} all pictures get the same caption.",
)
@click.option(
    "--no-captions",
    is_flag=True,
    help="Import the pictures without captions; train.py --cond false trains on them.",
)
@click.option(
    "--test-share",
    metavar="SHARE",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="About this share of the pictures, by the hash of their names, is kept for "
    "scores, where neither the captions' file nor folders named train, test or "
    "validation say a split.",
)
@FOLLOW_LINKS
@import_options
@report_user_errors
def folder(
    source: Path,
    captions_from: str | None,
    caption_column: str | None,
    caption_template: str | None,
    no_captions: bool,
    test_share: float,
    follow_links: bool,
    **options: Any,
) -> None:
    """Import a folder of pictures; hidden files are left out.

    Forms of captions, in the order of preference; docs/datasets.md says what each looks like:
    captions.jsonl, metadata.jsonl, metadata.csv, metadata.parquet (Hugging Face imagefolder),
    captions.csv, captions.tsv, flickr8k, flickr30k, and beside each picture NAME.txt, NAME.caption
    or NAME.json.

    Pictures are taken in every format that Pillow reads, but for PDF, EPS and films. EXIF rotation,
    greyscale, transparency (over white), CMYK, palettes, 16 bits and colour profiles are handled;
    resizing is Lanczos. What cannot be used is counted and skipped, and dataset.json lists it.

    Example: dataset_tool.py folder --source photos --dest data/photos256.zip --resolution 256x256
    """
    from datasets.folder import Captions, folder_pictures, refuse_captionless

    captions = Captions(captions_from, caption_template, no_captions, caption_column)
    with _import_to(**options) as (report, write):
        raws = folder_pictures(
            source, report, test_share, follow_links=follow_links, captions=captions
        )
        refuse_captionless(source, raws, report)
        write(raws, f"folder {printable(source.resolve().name)}")


@main.command()
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Folder of pictures, such as train2014; repeat it together with --captions for two splits.",
)
@click.option(
    "--captions",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Annotation file of that folder, such as annotations/captions_train2014.json.",
)
@click.option(
    "--split",
    type=click.Choice(["auto", "train", "test"]),
    default="auto",
    show_default=True,
    help="auto: by the file's name, train is train and val is test.",
)
@import_options
@report_user_errors
def coco(images: tuple[Path, ...], captions: tuple[Path, ...], split: str, **options: Any) -> None:
    """Import MS-COCO 2014 or 2017 from the official pictures and captions. Ids are COCO's.

    Captions are stripped and their newlines folded. Pictures without captions, captions without
    pictures, greyscale and damaged files are counted, and listed in dataset.json. A picture of both
    splits is kept in test alone.

    Example: dataset_tool.py coco --images train2014 --captions annotations/captions_train2014.json
    --dest data/coco-train256.zip --resolution 256x256
    """
    from datasets.coco import coco_pictures, split_of

    if len(images) != len(captions):
        raise UserError(
            f"--images is there {len(images)} times and --captions {len(captions)} times; give one for one"
        )
    with _import_to(**options) as (report, write):
        raws = []
        for folder, file in zip(images, captions, strict=True):
            side = split_of(file) if split == "auto" else split
            raws += coco_pictures(folder, file, side, report)
        write(raws, f"MS-COCO {', '.join(printable(path.name) for path in captions)}")


@main.command()
@click.option(
    "--root", metavar="DIR", type=click.Path(path_type=Path), required=True, help="CUB_200_2011."
)
@click.option(
    "--captions",
    metavar="DIR|FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder text or text_c10 with CLASS/NAME.txt, or a JSON file.",
)
@click.option(
    "--split",
    default="official",
    show_default=True,
    metavar="official|attngan:FILE",
    help="train_test_split.txt, or AttnGAN's train/filenames.pickle or test/filenames.pickle.",
)
@click.option(
    "--crop",
    type=click.Choice(["none", "box75"]),
    default="none",
    show_default=True,
    help="box75: the square about the bounding box that AttnGAN and its successors train and score on.",
)
@FOLLOW_LINKS
@import_options
@report_user_errors
def cub(
    root: Path, captions: Path, split: str, crop: str, follow_links: bool, **options: Any
) -> None:
    """Import Caltech-UCSD Birds 200-2011 with the ten captions a picture. Ids are CLASS/NAME.

    Pickled file lists are read without running what is in them.

    Example: dataset_tool.py cub --root CUB_200_2011 --captions birds/text
    --split attngan:birds/test/filenames.pickle --crop box75 --dest data/cub256.zip --resolution 256x256
    """
    from datasets.cub import ATTNGAN_BOX_SCALE, cub_pictures

    rule = "official" if split == "official" else "attngan"
    with _import_to(**options) as (report, write):
        raws = cub_pictures(root, captions, split, report, follow_links=follow_links)
        write(
            raws,
            f"CUB-200-2011, split {rule}",
            crop=crop,
            box_scale=ATTNGAN_BOX_SCALE if crop == "box75" else None,
        )


@main.command()
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder jpg.",
)
@click.option(
    "--captions",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder text_c10.",
)
@click.option(
    "--labels",
    metavar="MAT",
    type=click.Path(path_type=Path),
    help="imagelabels.mat, to check the classes of the captions.",
)
@click.option(
    "--split",
    metavar="MAT|reed:DIR",
    help="setid.mat, or the folder with Reed et al.'s testclasses.txt.  [default: all are train]",
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
    """Import Oxford-102 flowers with the ten captions a picture. Ids are class_00077/image_00001.

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
    help="Shards: a folder, or such as 'cc3m/000*.tar'.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Of all pictures.",
)
@import_options
@report_user_errors
def webdataset(source: str, split: str, **options: Any) -> None:
    """Import tar shards as img2dataset writes them: NAME.jpg, or any other picture, with NAME.txt
    or NAME.json.

    Example: dataset_tool.py webdataset --source cc3m --dest data/cc3m256.zip --resolution 256x256
    """
    from datasets.tar_shards import find_shards, shard_pictures

    with _import_to(**options) as (report, write):
        shards = find_shards(source)
        write(shard_pictures(shards, split, report), f"WebDataset, {len(shards)} shards")


@main.command()
@click.option(
    "--source",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="What save_to_disk wrote.",
)
@click.option("--image-column", metavar="NAME", help="[default: image, img, ...]")
@click.option("--caption-column", metavar="NAME", help="[default: captions, caption, text, ...]")
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
@click.option(
    "--source",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="A database such as bedroom_train_lmdb; repeat it for more.",
)
@click.option(
    "--split",
    type=click.Choice(["auto", "train", "test"]),
    default="auto",
    show_default=True,
    help="auto: by the folder's name, val and test are test.",
)
@click.option(
    "--caption-template",
    metavar="TEXT",
    help="Make captions such as 'a photo of a {}', "
    "with the category of the folder's name in place of {}.",
)
@click.option(
    "--no-captions",
    is_flag=True,
    help="Import the pictures without captions; train.py --cond false trains on them.",
)
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
        write(
            lsun_pictures(databases, report),
            f"LSUN {', '.join(printable(path.resolve().name) for path in source)}",
            sum(map(len, databases)),
        )


@main.command("encode-text")
@click.option("--data", metavar="ZIP|DIR", required=True, help="The data set.")
@click.option(
    "--text-encoder",
    metavar="SPEC",
    default="small",
    show_default=True,
    help="small, small-heldout, hashed or open_clip:MODEL/WEIGHTS.",
)
@click.option(
    "--cache",
    metavar="DIR",
    help="Where features go.  [default: .cache beside the data, as train.py does]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@report_user_errors
def encode_text(data: str, text_encoder: str, cache: str | None, device: str) -> None:
    """Compute the text features of all captions of a data set ahead of training. Nothing to do where they are there.

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
    for split in sorted(everything.splits):  # train.py caches its split alone
        dataset = TextImageDataset(data, split=split)
        captions = sorted(
            {text for index in range(len(dataset)) for text in dataset.captions(index)}
        )
        made = CachedTextEncoder.build(encoder, captions, folder)
        click.echo(f"{made.folder}: {len(captions)} captions of {split} by {encoder.id}")


@main.command()
@click.option(
    "--source",
    metavar="ZIP|DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="A data set of this program.",
)
@click.option(
    "--dest",
    metavar="ZIP|DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Where to write: a .zip archive, or a folder. Nothing may be there.",
)
@click.option(
    "--format",
    type=click.Choice(["stylegan"]),
    required=True,
    help="The program whose loader must accept it.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    default="train",
    show_default=True,
    help="Of the pictures.",
)
@click.option(
    "--labels",
    type=click.Choice(["none", "class"]),
    default="none",
    show_default=True,
    help="class: number the folders of the ids, as in CUB's CLASS/NAME.",
)
@report_user_errors
def convert(source: Path, dest: Path, format: str, split: str, labels: str) -> None:
    """Write a data set for another program. StyleGAN's takes squares of a power of two, and has no
    place for captions.

    Example: dataset_tool.py convert --source data/cub256.zip --dest cub-stylegan.zip
    --format stylegan --labels class
    """
    from datasets.stylegan import write_stylegan

    assert format == "stylegan"
    for line in write_stylegan(source, dest, split=split, classes=labels == "class"):
        click.echo(line)


@main.command()
@click.option(
    "--source",
    metavar="ZIP|DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The data set.",
)
@report_user_errors
def verify(source: Path) -> None:
    """Open every picture of a data set and check sizes, captions, ids and splits.

    Prints a line a fault and leaves with exit code 1; a sound data set gets one line and exit code 0.
    """
    from datasets.stylegan import open_archive
    from datasets.verify import archive_faults

    num_faults = 0
    for fault in archive_faults(source):
        click.echo(fault)
        num_faults += 1
    if num_faults:
        click.echo(f"{source}: {num_faults} faults", err=True)
        sys.exit(1)
    archive = open_archive(source)
    print_summary(source, archive.entries(), archive.resolution)


@main.command()
@click.option(
    "--source",
    metavar="ZIP|DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The data set.",
)
@click.option(
    "--dest",
    metavar="PNG",
    type=click.Path(path_type=Path),
    required=True,
    help="Where to write the sheet; an earlier sheet is replaced.",
)
@click.option(
    "--num-images",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Pictures on the sheet.",
)
@click.option(
    "--seed", metavar="INT", type=int, default=0, show_default=True, help="Draws the pictures."
)
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    default="all",
    show_default=True,
    help="Which pictures to draw from and to count.",
)
@report_user_errors
def show(source: Path, dest: Path, num_images: int, seed: int, split: str) -> None:
    """Draw some pictures of a data set with their captions, and print how large, how many, how long
    and how often the same they are. Letters that Pillow's own font lacks are drawn without accents
    or as question marks.

    Example: dataset_tool.py show --source data/photos256.zip --dest sheet.png
    """
    from datasets.contact_sheet import check_sheet, dataset_table, draw_sheet
    from datasets.statistics import table_lines
    from datasets.text_image import TextImageDataset

    check_sheet(dest)
    dataset = TextImageDataset(source, split=split)
    drawn = draw_sheet(dataset, dest, num_images, seed)
    with progress(range(len(dataset)), "Counting") as bar:
        table = dataset_table(dataset, (dataset[index] for index in bar))
    for line in table_lines(table):
        click.echo(line)
    click.echo(f"{dest}: {drawn} of {len(dataset)} pictures")


if __name__ == "__main__":
    # A stopped run must clean up its temporary file, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
