"""Import of save_to_disk folders: Arrow streams with the Image feature, one split or many."""

import json
import sys

import pytest
from PIL import Image

from datasets.report import Report
from datasets.saved_arrow import saved_pictures
from dnnlib.errors import UserError
from tests.datasets.picture_bytes import saved


def png(colour):
    return saved(Image.new("RGB", (9, 7), colour), "PNG")


def save_part(folder, rows, **state):
    """Write the files of `Dataset.save_to_disk`: state.json, dataset_info.json, an Arrow stream."""
    arrow = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    table = arrow.Table.from_pylist(rows)
    with (
        arrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        arrow.ipc.new_stream(file, table.schema) as stream,
    ):
        stream.write_table(table)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]} | state)
    )


def rows(*captions):
    return [{"image": {"bytes": png("red"), "path": None}, "text": text} for text in captions]


def test_a_dictionary_of_splits(tmp_path):
    save_part(tmp_path / "train", rows("a", " b\nc "))
    save_part(tmp_path / "validation", rows("d"))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    raws = list(saved_pictures(tmp_path, Report()))
    assert [(r.id, r.captions, r.split) for r in raws] == [
        ("train/0", ("a",), "train"),
        ("train/1", ("b c",), "train"),
        ("validation/0", ("d",), "test"),
    ]


@pytest.mark.parametrize(
    "name, split",
    [("Test", "test"), ("VALIDATION", "test"), ("Train", "train"), ("extra", "train")],
)
def test_splits_by_name(tmp_path, name, split):
    save_part(tmp_path / name, rows("a"))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    assert [raw.split for raw in saved_pictures(tmp_path, Report())] == [split]


def test_one_split_lists_of_captions_and_defects(tmp_path):
    content = [
        {"photo": {"bytes": png("red"), "path": None}, "sentences": [{"raw": "x"}, {"raw": "y"}]},
        {"photo": {"bytes": None, "path": "gone.jpg"}, "sentences": [{"raw": "z"}]},
        {"photo": {"bytes": png("red"), "path": None}, "sentences": [{"raw": " "}]},
    ]
    save_part(tmp_path / "set", content)
    report = Report()
    (raw,) = saved_pictures(tmp_path / "set", report, image_column="photo")
    assert raw.captions == ("x", "y") and report.counts == {
        "captions without picture": 1,
        "picture without captions": 1,
    }
    with pytest.raises(UserError, match="none of the columns photo, sentences is named image"):
        list(saved_pictures(tmp_path / "set", Report()))
    with pytest.raises(UserError, match="--image-column phot: .*did you mean 'photo'"):
        list(saved_pictures(tmp_path / "set", Report(), image_column="phot"))


def test_selected_rows_and_cut_files_are_refused(tmp_path):
    save_part(tmp_path / "a", rows("a"), _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(UserError, match="flatten_indices"):
        list(saved_pictures(tmp_path / "a", Report()))
    save_part(tmp_path / "b", rows("a"))
    (tmp_path / "b" / "data-00000-of-00001.arrow").write_bytes(b"no arrow")
    with pytest.raises(UserError, match="cannot be read as an Arrow stream"):
        list(saved_pictures(tmp_path / "b", Report()))


def test_other_folders_and_a_missing_package(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="neither dataset_dict.json nor state.json"):
        list(saved_pictures(tmp_path, Report()))
    (tmp_path / "state.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        list(saved_pictures(tmp_path, Report()))
