"""CUB import: three caption layouts, both splits, the box crop, and safe reading of pickles."""

import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from datasets import pickled_lists
from datasets.cub import cub_pictures
from datasets.importing import crop_to_box, import_pictures
from datasets.pickled_lists import read_string_list
from datasets.report import Report
from dnnlib.errors import UserError
from dnnlib.text import WINDOWS

IDS = [
    "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18",
    "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34",
    "002.Laysan_Albatross/Laysan_Albatross_0002_1027",
    "002.Laysan_Albatross/Laysan_Albatross_0003_1033",
]

MENDED = f"text mended: {WINDOWS}"


def test_official_layout(cub_root, cub_text):
    report = Report()
    raws = cub_pictures(cub_root, cub_text, "official", report)
    assert [raw.id for raw in raws] == IDS and [raw.split for raw in raws] == [
        "test",
        "train",
        "train",
        "test",
    ]
    assert (
        len(raws[0].captions) == 10 and raws[1].captions[3] == "this bird is number 1, caption 3."
    )
    assert raws[3].captions == ("a bird with a na\u00efve look",) and raws[2].box == (
        30,
        20,
        10,
        10,
    )
    made = list(import_pictures(raws, (8, 8), report, box_scale=0.75))
    assert (
        len(made) == 4
        and report.counts == {"greyscale picture": 1, MENDED: 1}
        and report.skipped == []
    )


def test_text_c10_and_its_other_files(cub_root, cub_text):
    folder = cub_text.rename(cub_text.with_name("text_c10"))
    (folder / "allclasses.txt").write_text("001.Black_footed_Albatross\n")
    (folder / "001.Black_footed_Albatross.h5").write_bytes(b"")
    report = Report()
    assert len(cub_pictures(cub_root, folder, "official", report)) == 4 and report.counts == {
        MENDED: 1
    }


@pytest.mark.parametrize("form", ["by name", "records", "one each", "coco"])
def test_captions_in_json(cub_root, tmp_path, form):
    names = {f"{key}.jpg": [f" one {n}\n", f"two {n}"] for n, key in enumerate(IDS)}
    content = (
        names
        if form == "by name"
        else [{"file_name": key, "captions": texts} for key, texts in names.items()]
    )
    if form == "one each":
        content = [{"file": key, "caption": t} for key, texts in names.items() for t in texts]
    if form == "coco":
        content = {
            "images": [{"id": n, "file_name": key} for n, key in enumerate(names)],
            "annotations": [
                {"image_id": n, "caption": text}
                for n, texts in enumerate(names.values())
                for text in texts
            ],
        }
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    raws = cub_pictures(cub_root, path, "official", Report())
    assert [raw.captions for raw in raws] == [(f"one {n}", f"two {n}") for n in range(4)]


@pytest.mark.parametrize("listed, side", [("train", IDS[:1] + IDS[2:]), ("test", IDS[1:2])])
@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_attngan_split(cub_root, cub_text, tmp_path, listed, side, protocol):
    path = tmp_path / listed / "filenames.pickle"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(side, protocol=protocol))
    raws = cub_pictures(cub_root, cub_text, f"attngan:{path}", Report())
    assert [raw.split for raw in raws] == ["train", "test", "train", "train"]


def test_the_folder_of_attngans_list_names_its_split(cub_root, cub_text, tmp_path, monkeypatch):
    path = tmp_path / "lists" / "filenames.pickle"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(IDS[1:2]))
    with pytest.raises(UserError, match="filenames.pickle: lies in the folder 'lists', which nam"):
        cub_pictures(cub_root, cub_text, f"attngan:{path}", Report())
    monkeypatch.chdir(path.parent.rename(tmp_path / "train"))
    raws = cub_pictures(cub_root, cub_text, "attngan:filenames.pickle", Report())
    assert [raw.split for raw in raws] == ["test", "train", "test", "test"]


def test_defects_are_counted(cub_root, cub_text):
    (cub_root / "images" / (IDS[0] + ".jpg")).unlink()
    (cub_root / "images" / (IDS[1] + ".jpg")).write_bytes(b"no jpeg")
    (cub_text / (IDS[2] + ".txt")).unlink()
    (cub_text / "002.Laysan_Albatross" / "Nobody.txt").write_text("a bird")
    report = Report()
    raws = cub_pictures(cub_root, cub_text, "official", report)
    assert [p.id for p in import_pictures(raws, (8, 8), report)] == IDS[3:]
    assert report.counts == {
        "captions without picture": 2,
        "picture without captions": 1,
        "damaged picture": 1,
        "greyscale picture": 1,
        MENDED: 1,
    }


def test_box_crop_is_attngans():
    picture = Image.fromarray(np.arange(40 * 30, dtype=np.uint32).reshape(30, 40).astype(np.uint8))
    # Box 10, 5, 8 x 4: centre 14, 7, half side int(8 * 0.75) = 6 -> columns 8..20, rows 1..13.
    assert np.array_equal(
        np.asarray(crop_to_box(picture, (10, 5, 8, 4), 0.75)), np.asarray(picture)[1:13, 8:20]
    )
    assert crop_to_box(picture, (30, 20, 10, 10), 0.75).size == (
        12,
        12,
    )  # 28..42 and 18..32, clipped to 40 x 30


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda root: (root / "images.txt").unlink(), "no images.txt there; .*CUB_200_2011.tgz"),
        (
            lambda root: (root / "bounding_boxes.txt").write_text("1 2.0 x 3.0 4.0\n"),
            "bounding_boxes.txt, line 1",
        ),
        (
            lambda root: (root / "train_test_split.txt").write_text("1\n"),
            "train_test_split.txt, line 1",
        ),
        (
            lambda root: (root / "train_test_split.txt").write_text("1 1\n2 2\n"),
            r"train_test_split.txt, line 2: expected 'ID 0\|1', got '2 2'",
        ),
    ],
)
def test_damaged_tables_name_file_and_line(cub_root, cub_text, damage, complaint):
    damage(cub_root)
    with pytest.raises(UserError, match=complaint):
        cub_pictures(cub_root, cub_text, "official", Report())


def test_wrong_arguments(cub_root, cub_text, tmp_path):
    for split, complaint in (
        ("half", "expected official or attngan"),
        ("attngan:nowhere", "no such file; birds.zip"),
    ):
        with pytest.raises(UserError, match=complaint):
            cub_pictures(cub_root, cub_text, split, Report())
    with pytest.raises(UserError, match="no such file or folder; .*text_c10"):
        cub_pictures(cub_root, tmp_path / "none", "official", Report())
    other = tmp_path / "test" / "filenames.pickle"
    other.parent.mkdir()
    other.write_bytes(pickle.dumps(["COCO_val2014_000000000042"]))
    with pytest.raises(UserError, match="not in images.txt"):
        cub_pictures(cub_root, cub_text, f"attngan:{other}", Report())


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("carriage_returns", [False, True])
def test_pickled_lists(tmp_path, protocol, carriage_returns):
    names = [f"{k:03d}.Bird/Bird_{k:04d}" + "x" * (k % 30) for k in range(600)]
    data = pickle.dumps(names, protocol=protocol)
    path = tmp_path / "filenames.pickle"
    path.write_bytes(data.replace(b"\n", b"\r\n") if carriage_returns else data)
    assert read_string_list(path) == names


def test_strings_of_python_2_and_shared_strings(tmp_path):
    path = tmp_path / "filenames.pickle"
    path.write_bytes(b"(lp0\r\nS'002.Laysan/A_0002'\r\np1\r\naS'B\\r'\r\np2\r\nag1\r\na.")
    assert read_string_list(path) == ["002.Laysan/A_0002", "B", "002.Laysan/A_0002"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch pickle-was-run",)


@pytest.mark.parametrize(
    "value",
    [Evil(), [Evil()], ["a", 1], {"a": "b"}, ("a",), [["a"]], "a", [b"a"]],
    ids=["object", "object in list", "number", "dict", "tuple", "nested", "string", "bytes"],
)
def test_anything_but_strings_is_refused_and_nothing_runs(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match="x.pickle is not a pickled list of strings"):
        read_string_list(tmp_path / "x.pickle")
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.mark.parametrize(
    "data,word",
    [
        (b"cos\nsystem\n(S'touch pickle-was-run'\ntR.", "it asks for os.system"),
        (b"(S'touch pickle-was-run'\nios\nsystem\n.", "it asks for os.system"),
        (
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x14touch pickle-was-run\x85R.",
            "it asks for os.system",
        ),
        (b"cbuiltins\nlist\n.", "it asks for builtins.list"),
        (b"\x80\x02\x82\x01.", "extension"),
        (b"\x80\x02U\x01aQ.", "persistent"),
    ],
    ids=["global", "inst", "stack-global", "harmless-class", "extension", "persistent-id"],
)
def test_a_hostile_pickle_runs_nothing(tmp_path, monkeypatch, data, word):
    """Every opcode by which a pickle reaches code, written by hand."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pickle").write_bytes(data)
    with pytest.raises(UserError, match=word):
        read_string_list(tmp_path / "x.pickle")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pickle"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r\xff\xff\xff\x0fX\x01\x00\x00\x00aa.",
        b"\x80\x05\x96" + (1 << 33).to_bytes(8, "little") + b"a.",
    ],
    ids=["memo", "bytes"],
)
def test_a_small_pickle_takes_little_memory(tmp_path, monkeypatch, data):
    """They name a place of the memo or a length for which the unpickler would take gigabytes."""
    (tmp_path / "x.pickle").write_bytes(data)
    monkeypatch.setattr(pickled_lists, "_PlainUnpickler", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(UserError, match="is not a pickled list"):
        read_string_list(tmp_path / "x.pickle")


@pytest.mark.parametrize(
    "data", [b"", b"text", pickle.dumps(["a", "b"])[:-3], b"\x80\x04]\x8c\xff"]
)
def test_cut_files(tmp_path, data):
    (tmp_path / "x.pickle").write_bytes(data)
    with pytest.raises(UserError, match="is not a pickled list"):
        read_string_list(tmp_path / "x.pickle")
