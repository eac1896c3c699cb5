"""Conventions of captions: files beside pictures, names of folders, no captions.

Also which of several conventions in one folder is read.
"""

import shutil

import pytest
from PIL import Image

from datasets.archive import Archive
from datasets.conventions import CONVENTIONS
from datasets.conventions.made import caption_of, check_template
from datasets.picture_files import picture_endings
from datasets.source_files import LINKED_FILE, SourceFolder
from dnnlib.errors import UserError
from tests.datasets.folders import fill, lines, pictures, read
from tests.datasets.tool import run

# files beside pictures


def test_caption_files_beside_pictures(tmp_path):
    pictures(tmp_path, "a.png", "deep/b.JPG", "c.png", "d.png")
    fill(
        tmp_path,
        a__caption="one\n\ntwo",
        d__CAPTION="\n",
        notes__caption="x",
        **{"deep/b__caption": "three"},
    )
    found, report = read(tmp_path)
    assert found == {"a.png": (["one", "two"], "train"), "deep/b.JPG": (["three"], "train")}
    assert report.captions_from == "NAME.caption (beside each picture)"
    assert report.skipped == [
        {"file": "c.png", "reason": "no caption file c.caption"},
        {"file": "d.png", "reason": "caption file d.CAPTION is empty"},
    ]
    assert report.counts == {"picture without captions": 2, "file of another kind (.caption)": 1}


@pytest.mark.parametrize(
    "content, captions",
    [
        ('{"caption": "one", "sha256": "0"}', ["one"]),
        ('{"captions": ["one", "two"]}', ["one", "two"]),
        ('{"text": "one \\ud83d"}', ["one"]),
        ('{"prompt": "one", "seed": 3}', ["one"]),
        ('\ufeff{"caption": "caf\u00e9"}', ["caf\u00e9"]),
        (
            '{"title": "x"}',
            "cannot be read: none of the keys captions, caption, text, prompt is there",
        ),
        ('["one"]', "cannot be read: none of the keys captions, caption, text, prompt is there"),
        ('{"caption": ', "cannot be read: it is not valid JSON"),
        ('{"caption": null}', "is empty"),
        ('{"caption": 5}', "holds no text"),
    ],
)
def test_json_beside_pictures(tmp_path, content, captions):
    fill(pictures(tmp_path, "a.png", "b.png"), a__json=content, b__json='{"caption": "b"}')
    found, report = read(tmp_path)
    assert report.captions_from == "NAME.json (beside each picture)"
    if isinstance(captions, list):
        assert found["a.png"] == (captions, "train")
    else:
        assert captions in report.skipped[0]["reason"] and list(found) == ["b.png"]


# choice of the convention


def every_form(folder):
    pictures(folder, "a.jpg")
    fill(
        folder,
        captions__jsonl=lines({"file": "a.jpg", "captions": ["captions.jsonl"]}),
        metadata__jsonl=lines({"file_name": "a.jpg", "text": "metadata.jsonl"}),
        metadata__csv="file_name,text\na.jpg,metadata.csv\n",
        captions__csv="file,caption\na.jpg,captions.csv\n",
        captions__tsv="file\tcaption\na.jpg\tcaptions.tsv\n",
        captions__txt="a.jpg#0\tflickr8k\n",
        results__csv="image_name| n| comment\na.jpg| 0| flickr30k\n",
        a__txt="NAME.txt",
        a__caption="NAME.caption",
        a__json='{"caption": "NAME.json"}',
    )
    return [one.name for one in CONVENTIONS if one.name != "metadata.parquet"]


def test_the_first_form_is_taken_and_the_others_are_named(tmp_path):
    names = every_form(tmp_path)
    assert len(names) == 10
    while names:
        found, report = read(tmp_path)
        assert found == {"a.jpg": ([names[0]], "train")}
        taken = names.pop(0)
        assert report.captions_from.startswith(taken)
        if names:
            assert (
                f"left: {', '.join(names)} (--captions-from {names[0]} takes it)"
                in report.captions_from
            )
        else:
            assert "left" not in report.captions_from
        (convention,) = (one for one in CONVENTIONS if one.name == taken)
        for file in convention.looks(SourceFolder(tmp_path)):
            (tmp_path / file).unlink()


def test_captions_from_takes_another_form(tmp_path):
    for name in every_form(tmp_path):
        found, report = read(tmp_path, origin=name)
        assert found == {"a.jpg": ([name], "train")} and report.captions_from.startswith(name)
    with pytest.raises(UserError, match="--captions-from NAME.tx: .*did you mean 'NAME.txt'"):
        read(tmp_path, origin="NAME.tx")
    with pytest.raises(UserError, match="metadata.parquet: no such captions .*; found: captions.j"):
        read(tmp_path, origin="metadata.parquet")
    with pytest.raises(UserError, match="--captions-from and --no-captions exclude each other"):
        read(tmp_path, origin="NAME.txt", none=True)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--caption-template", "a photo of a {}"),
        ("--caption-column", "text"),
        ("--captions-from", "NAME.txt"),
    ],
)
def test_options_of_captions_that_exclude_each_other_are_one_line(tmp_path, option, value):
    source = pictures(tmp_path / "in", "1.png")
    dest = ["--dest", tmp_path / "x.zip", "--resolution", 8]
    result = run("folder", "--source", source, *dest, "--no-captions", option, value)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ") and f"{option} and --no-captions" in result.stderr


# no captions, and class folders


def test_no_captions_is_named_as_a_remedy_and_followed(tmp_path):
    source = pictures(tmp_path / "in", "cats/1.png", "cats/2.png", "dogs/3.png")
    dest = ["--dest", tmp_path / "x.zip", "--resolution", 8, "--workers", 1]
    result = run("folder", "--source", source, *dest)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    for words in ("3 pictures without captions", "--no-captions", "--caption-template"):
        assert words in result.stderr
    result = run("folder", "--source", source, "--no-captions", *dest)
    assert result.exit_code == 0, result.output
    assert "Captions: --no-captions (none are imported)" in result.stdout
    assert [entry.captions for entry in Archive(tmp_path / "x.zip").entries()] == [()] * 3
    assert run("verify", "--source", tmp_path / "x.zip").exit_code == 0
    result = run("folder", "--source", source, "--caption-template", "a photo of a {}", *dest)
    assert result.exit_code == 0, result.output
    assert "('a photo of a {}'); 2 different, such as 'a photo of a cats'" in result.stdout
    assert [entry.captions for entry in Archive(tmp_path / "x.zip").entries()] == [
        ("a photo of a cats",),
        ("a photo of a cats",),
        ("a photo of a dogs",),
    ]


def test_no_captions_leaves_those_that_are_there(tmp_path):
    fill(pictures(tmp_path, "a.png", "b.png"), a__txt="a")
    found, report = read(tmp_path, none=True)
    assert found == {"a.png": ([], "train"), "b.png": ([], "train")}
    assert report.counts == {"file of another kind (.txt)": 1}


@pytest.mark.parametrize(
    "folder, words",
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("n02085620-Chihuahua", "Chihuahua"),
        ("church_outdoor", "church outdoor"),
        ("12_red__cars", "red cars"),
        ("747", "747"),
        ("n01440764", "n01440764"),
        ("3d_models", "3d models"),
        ("__", "__"),
    ],
)
def test_what_a_folders_name_means(folder, words):
    assert caption_of("a {}.", folder) == f"a {words}."


@pytest.mark.parametrize("template", ["", " ", "{}", "a {name}", "a {} {", "{0}"])
def test_wrong_templates(template):
    with pytest.raises(UserError, match="--caption-template .*such as 'a photo of a {}'"):
        check_template(template)


def test_class_folders_below_splits_and_pictures_without_one(tmp_path):
    pictures(tmp_path, "train/001.cat/1.png", "val/001.cat/2.png", "val/3.png")
    found, report = read(tmp_path, template="a {}")
    assert found == {
        "train/001.cat/1.png": (["a cat"], "train"),
        "val/001.cat/2.png": (["a cat"], "test"),
    }
    assert report.skipped == [
        {"file": "val/3.png", "reason": "it lies in no folder that could name its class"}
    ]
    assert read(tmp_path, template="a portrait")[0]["val/3.png"] == (["a portrait"], "test")
    result = run(
        "folder",
        "--source",
        tmp_path / "val/001.cat",
        "--caption-template",
        "a {}",
        "--dest",
        tmp_path / "x.zip",
    )
    assert "none lies in a folder that could name its class; a template without {}" in result.stderr


def test_folders_are_splits_only_where_all_are(tmp_path):
    pictures(tmp_path, "train/1.png", "test/2.png")
    assert [split for _, split in read(tmp_path, none=True, test_share=0.999)[0].values()] == [
        "test",
        "train",
    ]
    pictures(tmp_path, "holiday/3.png")
    found, report = read(tmp_path, none=True)
    assert {split for _, split in found.values()} == {"train"}
    assert report.split_rule == "all are train"
    shutil.rmtree(tmp_path / "test")
    shutil.rmtree(tmp_path / "holiday")
    found, report = read(tmp_path, none=True, test_share=0.999)
    assert found == {"train/1.png": ([], "test")} and "100% of file names" in report.split_rule


# links, file endings, and files for other commands


def test_links_that_leave_the_folder_are_named_and_left_out(tmp_path):
    pictures(tmp_path / "elsewhere", "a.png", "deep/b.png")
    fill(tmp_path / "elsewhere", a__txt="linked", **{"deep/b__txt": "deep"})
    folder = pictures(tmp_path / "in", "own.png")
    fill(folder, own__txt="own")
    for name in ("a.png", "a.txt"):
        (folder / name).symlink_to(tmp_path / "elsewhere" / name)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "more").symlink_to(tmp_path / "elsewhere" / "deep")
    (folder / "same.png").symlink_to("own.png")
    (folder / "same.txt").symlink_to("own.txt")
    found, report = read(folder)
    assert found == {"same.png": (["own"], "train"), "own.png": (["own"], "train")}
    assert {(one["file"], one["reason"]) for one in report.skipped} == {
        ("a.png", LINKED_FILE),
        ("a.txt", LINKED_FILE),
        ("gone.png", "broken link or special file"),
        ("more", "linked folder (--follow-links reads it)"),
    }
    found, report = read(folder, follow_links=True)
    assert found["more/b.png"] == (["deep"], "train") and found["a.png"] == (["linked"], "train")
    assert len(found) == 4
    fill(folder, captions__csv="file,caption\nmore/b.png,b\n")
    _, report = read(folder, follow_links=True)
    assert not [one for one in report.skipped if "more" in one["file"]]


@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
def test_every_ending_that_pillow_writes_and_opens(tmp_path):
    Image.init()
    written = []
    for ending, kind in sorted(picture_endings().items()):
        path = tmp_path / "in" / f"{ending[1:]}{ending}"
        path.parent.mkdir(exist_ok=True)
        if kind in Image.SAVE:
            mode = {"XBM": "1", "MSP": "1", "PALM": "P", "BLP": "P"}.get(kind, "RGB")
            Image.new(mode, (32, 32)).save(path, kind)
            written.append(path.name)
    assert len(written) > 30
    result = run(
        "folder",
        "--source",
        tmp_path / "in",
        "--no-captions",
        "--dest",
        tmp_path / "x.zip",
        "--resolution",
        8,
        "--workers",
        1,
    )
    assert result.exit_code == 0, result.output
    assert sorted(entry.id for entry in Archive(tmp_path / "x.zip").entries()) == sorted(written)


@pytest.mark.parametrize(
    "name, command",
    [("data.mdb", "lsun"), ("00000.tar", "webdataset"), ("data-00000-of-00001.arrow", "hf")],
)
def test_data_of_other_commands_are_recognised(tmp_path, name, command):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=f"no pictures found .*dataset_tool.py {command} reads"):
        read(tmp_path)
