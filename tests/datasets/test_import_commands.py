"""dataset_tool.py coco, cub, webdataset, hf and encode-text as users run them."""

import pickle
from pathlib import Path

import pytest

from datasets.text_image import TextImageDataset
from networks.text_encoders.cache import CachedTextEncoder
from networks.text_encoders.hashed import HashedEncoder
from tests.datasets.tool import run


def coco(root, *more):
    return run(
        "coco",
        "--images",
        root / "train2014",
        "--captions",
        root / "annotations/captions_train2014.json",
        "--dest",
        root / "coco.zip",
        "--resolution",
        "16x16",
        *more,
    )


def test_coco(coco_root):
    result = coco(coco_root, "--workers", 2)
    assert result.exit_code == 0, result.stderr
    assert "4 pictures of 16x16 (4 train, 0 test) with 5 captions" in result.stdout
    assert "1 x damaged picture" in result.stdout and "1 x greyscale picture" in result.stdout
    dataset = TextImageDataset(coco_root / "coco.zip")
    assert [dataset[i].id for i in range(4)] == ["9", "25", "30", "34"]
    assert dataset.info["defects"]["damaged picture"] == 1 and len(dataset.info["skipped"]) == 4
    assert run("verify", "--source", coco_root / "coco.zip").exit_code == 0
    first = (coco_root / "coco.zip").read_bytes()
    coco(coco_root, "--workers", 1)
    assert (coco_root / "coco.zip").read_bytes() == first


def test_coco_strict_leaves_nothing(coco_root):
    result = coco(coco_root, "--strict")
    assert (
        result.exit_code == 1
        and result.stderr.count("Error: ") == 1
        and not (coco_root / "coco.zip").exists()
    )
    assert (
        run("coco", "--images", "a", "--images", "b", "--captions", "c", "--dest", "d").exit_code
        == 1
    )


def test_linked_folders_are_named_and_followed_when_asked(coco_root, cub_root, cub_text, tmp_path):
    (coco_root / "train2014/part").symlink_to(cub_root)
    told = coco(coco_root).stdout
    assert "Skipped part: linked folder\n" in told and "--follow-links" not in told
    link = cub_root / "images/001.Black_footed_Albatross"
    link.rename(tmp_path / "moved")
    link.symlink_to(tmp_path / "moved")
    arguments = [
        "cub",
        "--root",
        cub_root,
        "--captions",
        cub_text,
        "--dest",
        tmp_path / "x.zip",
        "--resolution",
        16,
    ]
    told = run(*arguments)
    assert (
        "Skipped 001.Black_footed_Albatross: linked folder" in told.stdout
        and ": 2 pictures of" in told.stdout
    )
    assert ": 4 pictures of" in run(*arguments, "--follow-links").stdout


def test_cub_with_attngans_split_and_crop(cub_root, cub_text, tmp_path):
    path = tmp_path / "test" / "filenames.pickle"
    path.parent.mkdir()
    path.write_bytes(
        pickle.dumps(["001.Black_footed_Albatross/Black_Footed_Albatross_0009_34"], protocol=2)
    )
    result = run(
        "cub",
        "--root",
        cub_root,
        "--captions",
        cub_text,
        "--split",
        f"attngan:{path}",
        "--crop",
        "box75",
        "--dest",
        tmp_path / "cub.zip",
        "--resolution",
        "16",
    )
    assert result.exit_code == 0 and "(3 train, 1 test)" in result.stdout, result.stderr
    assert TextImageDataset(tmp_path / "cub.zip").info["crop"] == "box75"


def test_encode_text_is_what_training_looks_for(openmoji32, tmp_path):
    result = run(
        "encode-text",
        "--data",
        openmoji32,
        "--text-encoder",
        "hashed",
        "--cache",
        tmp_path,
        "--device",
        "cpu",
    )
    assert result.exit_code == 0 and "captions of train by hashed-64-v1" in result.stdout
    dataset = TextImageDataset(openmoji32, split="train")
    captions = [caption for i in range(len(dataset)) for caption in dataset.captions(i)]
    before = sorted(path.name for path in tmp_path.iterdir())
    cached = CachedTextEncoder.build(HashedEncoder(), captions, tmp_path)
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == before
        and Path(cached.folder).name in result.stdout
    )


@pytest.mark.parametrize(
    "command, options, complaint",
    [
        ("webdataset", ["--source", "none"], "no .tar files"),
        ("hf", ["--source", "none"], "neither dataset_dict.json"),
        ("cub", ["--root", "none", "--captions", "none"], "no images.txt"),
        ("coco", ["--images", "none", "--captions", "train.json"], "no such folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, command, options, complaint):
    result = run(command, *options, "--dest", tmp_path / "x.zip")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and complaint in result.stderr
    assert not (tmp_path / "x.zip").exists()
