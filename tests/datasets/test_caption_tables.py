"""Tables of captions: imagefolder's metadata, captions.csv and captions.tsv.

Each table is found and read with the right captions and splits. Wrong rows are counted by file and
line.
"""

import sys
import unicodedata

import pytest

from datasets.folder import folder_pictures
from datasets.report import Report
from dnnlib.errors import UserError
from tests.datasets.folders import fill, lines, pictures, read
from tests.datasets.tool import run

# Hugging Face imagefolder


def test_imagefolder_with_a_file_a_split(tmp_path):
    pictures(tmp_path, "train/a.png", "train/deep/b.jpg", "validation/a.png", "test/c.png")
    fill(
        tmp_path,
        **{
            "train/metadata__jsonl": lines(
                {"file_name": "a.png", "text": "first\nline", "width": 9},
                {"file_name": "deep/b.jpg", "text": "second"},
            ),
            "validation/metadata__jsonl": lines({"file_name": "a.png", "text": "third"}),
            "test/metadata__jsonl": lines({"file_name": "c.png", "text": "fourth"}),
        },
    )
    found, report = read(tmp_path)
    assert found == {
        "train/a.png": (["first line"], "train"),
        "train/deep/b.jpg": (["second"], "train"),
        "validation/a.png": (["third"], "test"),
        "test/c.png": (["fourth"], "test"),
    }
    assert report.captions_from == "metadata.jsonl (Hugging Face imagefolder); column text"
    assert report.split_rule == "by the folders named train, test or validation"
    assert not report.counts and not report.skipped


def test_imagefolder_in_csv_with_quotes_and_a_chosen_column(tmp_path):
    pictures(tmp_path, "1.png", "2.png", "3.png")
    fill(
        tmp_path,
        metadata__csv='file_name,text,long\r\n1.png,one,"a red, round ""thing"""\r\n'
        '2.png,two,"over\ntwo lines"\r\n\r\n3.png,three\r\n',
    )
    found, report = read(tmp_path, column="long")
    assert found == {
        "1.png": (['a red, round "thing"'], "train"),
        "2.png": (["over two lines"], "train"),
    }
    assert report.skipped == [
        {
            "file": "metadata.csv, line 6",
            "reason": "2 fields where the header has 3; are quotation marks missing?",
        }
    ]
    assert report.counts == {"wrong row": 1, "picture that metadata.csv does not list": 1}
    assert read(tmp_path)[0] == {"1.png": (["one"], "train"), "2.png": (["two"], "train")}
    with pytest.raises(UserError, match="--caption-column lonk: .*did you mean 'long'"):
        read(tmp_path, column="lonk")


def test_imagefolder_in_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    pictures(tmp_path, "train/a.png", "train/b.png", "test/c.png")
    for side, rows in (
        (
            "train",
            [
                {"file_name": "a.png", "captions": ["x", " y "], "n": 1},
                {"file_name": None, "captions": ["lost"], "n": 2},
                {"file_name": "b.png", "captions": None, "n": 3},
            ],
        ),
        ("test", [{"file_name": "c.png", "captions": ["z"], "n": 4}]),
    ):
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / side / "metadata.parquet")
    found, report = read(tmp_path)
    assert found == {"train/a.png": (["x", "y"], "train"), "test/c.png": (["z"], "test")}
    assert report.skipped == [
        {"file": "train/metadata.parquet, line 2", "reason": "no file name under 'file_name'"},
        {"file": "train/b.png", "reason": "no captions"},
    ]
    (tmp_path / "test/metadata.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(UserError, match="test/metadata.parquet cannot be read as a Parquet file"):
        read(tmp_path)


def test_parquet_without_the_package(tmp_path, monkeypatch):
    fill(pictures(tmp_path, "a.png"), metadata__parquet=b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="Parquet files needs .* pip install pyarrow"):
        read(tmp_path)


def test_wrong_lines_of_metadata_jsonl_are_counted(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    fill(
        tmp_path,
        metadata__jsonl=lines(
            {"file_name": "a.png", "text": "a"},
            '{"file_name": ',
            "",
            [1],
            {"text": "nobody"},
            {"file_name": "b.png"},
            {"file_name": "b.png", "text": 7},
            {"file_name": "../x.png", "text": "x"},
            {"file_name": "gone.png", "text": "x"},
            {"file_name": "a.png", "text": "again"},
        ),
    )
    found, report = read(tmp_path)
    assert found == {"a.png": (["a", "again"], "train")}
    reasons = {entry["file"]: entry["reason"] for entry in report.skipped}
    assert reasons.pop("metadata.jsonl, line 2").startswith("the line is not valid JSON (")
    assert reasons == {
        "metadata.jsonl, line 4": "expected an object, got [1]",
        "metadata.jsonl, line 5": "no file name under 'file_name'",
        "b.png": "no captions",
        "../x.png": "must be a path below the source folder",
        "gone.png": "no such file",
    }
    with pytest.raises(UserError, match="metadata.jsonl, line 2: wrong row"):
        folder_pictures(tmp_path, Report(strict=True))


def test_a_table_without_the_columns_names_them(tmp_path):
    fill(pictures(tmp_path, "a.png"), metadata__csv="name,text\na.png,a\n", a__txt="beside")
    with pytest.raises(
        UserError, match="none of the columns name, text is named file_name; .*--captions-from"
    ):
        read(tmp_path)
    assert read(tmp_path, origin="NAME.txt")[0] == {"a.png": (["beside"], "train")}
    fill(tmp_path, metadata__csv="file_name,label\na.png,1\n")
    with pytest.raises(
        UserError,
        match="none of the columns file_name, label is named captions or .*--caption-column",
    ):
        read(tmp_path)


# captions.csv and captions.tsv


def test_captions_csv_with_several_rows_a_picture_and_splits(tmp_path):
    pictures(tmp_path, "images/a.png", "images/b.png", "images/c.png", "top.png")
    fill(
        tmp_path,
        captions__csv="Filename,Caption,split\na.png,first,train\nb.png,other,val\n"
        "a.png,second,train\nimages/c.png,third,\ntop.png,fourth,holdout\n",
    )
    found, report = read(tmp_path)
    assert found == {
        "images/a.png": (["first", "second"], "train"),
        "images/b.png": (["other"], "test"),
        "images/c.png": (["third"], "train"),
    }
    assert report.skipped == [
        {
            "file": "captions.csv, line 6",
            "reason": "the split 'holdout' is none of train, test, validation",
        }
    ]
    assert report.split_rule == "as the files of the captions say, else all are train"
    assert report.captions_from == "captions.csv; column Caption"


def test_the_column_of_splits_is_found_in_capitals_too(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    fill(tmp_path, captions__csv="File,Caption,Split\na.png,first,Train\nb.png,second,TEST\n")
    assert read(tmp_path)[0] == {"a.png": (["first"], "train"), "b.png": (["second"], "test")}


def test_a_split_that_only_late_rows_give(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.conventions.records._PEEKED_ROWS", 1)
    pictures(tmp_path, "a.png", "b.png")
    fill(
        tmp_path,
        metadata__jsonl=lines(
            {"file_name": "a.png", "text": "first"},
            {"file_name": "b.png", "text": "second", "Split": "test"},
        ),
    )
    assert read(tmp_path)[0] == {"a.png": (["first"], "train"), "b.png": (["second"], "test")}


@pytest.mark.parametrize(
    "files, options, complaint",
    [
        (
            {"a__txt": "beside"},
            {},
            "captions come from NAME.txt .*, which is no table with columns",
        ),
        (
            {"captions__jsonl": lines({"file": "a.png", "captions": ["a"]})},
            {},
            "captions come from captions.jsonl, which is no table",
        ),
        (
            {"Flickr8k__token__txt": "a.png#0\ta dog"},
            {},
            "captions come from flickr8k .*, which is no",
        ),
        ({}, {"template": "a {}"}, "--caption-column and --caption-template exclude each other"),
        ({}, {"none": True}, "--caption-column and --no-captions exclude each other"),
    ],
)
def test_a_column_is_asked_of_what_is_no_table(tmp_path, files, options, complaint):
    fill(pictures(tmp_path, "a.png"), **files)
    with pytest.raises(UserError, match=complaint):
        read(tmp_path, column="long", **options)


def test_captions_tsv_in_utf16_and_without_header(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    fill(
        tmp_path,
        captions__tsv='a.png\ta caf\u00e9, \u201cred\u201d\nb.png\tthe 5" screen\n'.encode(
            "utf-16"
        ),
    )
    found, report = read(tmp_path)
    assert found == {
        "a.png": (["a caf\u00e9, \u201cred\u201d"], "train"),
        "b.png": (['the 5" screen'], "train"),
    }
    assert report.counts == {"text mended: text in UTF-16 or UTF-32": 1}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_in_a_csv(tmp_path, separator):
    table = f'image{separator}caption\na.png{separator}"red, round; small"\n'
    fill(pictures(tmp_path, "a.png"), captions__csv=table)
    assert read(tmp_path)[0] == {"a.png": (["red, round; small"], "train")}


def test_a_tsv_with_and_without_quotation(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    fill(tmp_path, captions__tsv='file\tcaption\na.png\t"a ""red"" one"\nb.png\tb "blue"\n')
    found, report = read(tmp_path)
    assert found == {"a.png": (['a "red" one'], "train"), "b.png": (['b "blue"'], "train")}
    fill(tmp_path, captions__tsv='file\tcaption\na.png\t"Stop" on a sign\nb.png\t"open\n')
    found, report = read(tmp_path)
    assert found == {"a.png": (['"Stop" on a sign'], "train"), "b.png": (['"open'], "train")}
    assert "quotation marks belong to the text" in report.captions_from


def test_an_open_quotation_mark_is_counted_and_not_a_long_caption(tmp_path):
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    fill(
        tmp_path,
        captions__csv='file,caption\na.png,"lost\nb.png,inside\nc.png,"quoted"\nd.png,good\n',
    )
    found, report = read(tmp_path)
    assert found == {"d.png": (["good"], "train")}
    (wrong,) = report.skipped
    assert wrong["file"] == "captions.csv, lines 2 to 4" and "quotation mark" in wrong["reason"]


def test_names_may_be_relative_to_the_table_or_to_the_source(tmp_path):
    pictures(tmp_path, "images/a.png", "images/b.png", "images/c.png", "more/d.png", "more/e.png")
    fill(
        tmp_path,
        **{
            "texts/captions__csv": "file,caption\n../images/a.png,a\nimages/b.png,b\n"
            "c.png,c\n../../x.png,x\n",
            "more/captions__csv": "file,caption\nd.png,d\nmore/e.png,e\n../images/a.png,f\n",
        },
    )
    found, report = read(tmp_path)
    assert found == {
        "images/a.png": (["f", "a"], "train"),
        "images/b.png": (["b"], "train"),
        "images/c.png": (["c"], "train"),
        "more/d.png": (["d"], "train"),
        "more/e.png": (["e"], "train"),
    }
    assert [one["reason"] for one in report.skipped] == ["must be a path below the source folder"]


@pytest.mark.parametrize("name", ["captions.csv", "captions.tsv"])
def test_a_picture_missing_beside_its_table_is_not_taken_elsewhere(tmp_path, name):
    pictures(tmp_path, "1.png", "train/1.png", "train/3.png", "test/2.png", "test/deep/4.png")
    rows = ["file,caption", "1.png,a dog", "2.png,a pig", "train/3.png,a cow", "4.png,a cat"]
    table = "\n".join(rows).replace(",", "," if name.endswith("csv") else "\t")
    fill(tmp_path, **{f"test/{name}": table})
    found, report = read(tmp_path)
    assert {file: texts for file, (texts, _) in found.items()} == {
        "test/2.png": ["a pig"],
        "test/deep/4.png": ["a cat"],
    }
    assert report.skipped == [
        {"file": "test/1.png", "reason": "no such file"},
        {"file": "test/train/3.png", "reason": "no such file"},
    ]


def test_a_name_alone_must_be_unique(tmp_path):
    pictures(tmp_path, "x/a.png", "y/a.png", "x/b.png")
    fill(tmp_path, captions__csv="file,caption\na.png,which\nb.png,this\n")
    found, report = read(tmp_path)
    assert found == {"x/b.png": (["this"], "train")}
    assert report.skipped == [
        {"file": "a.png", "reason": "several folders have a file of that name: x/a.png, y/a.png"}
    ]


@pytest.mark.parametrize("table", ["", "file,caption\n", "file,caption\na.png,\n"])
def test_a_table_without_captions_names_the_remedies(tmp_path, table):
    fill(pictures(tmp_path / "in", "a.png"), captions__csv=table)
    result = run("folder", "--source", tmp_path / "in", "--dest", tmp_path / "x.zip")
    assert (
        result.exit_code == 1
        and "no picture has captions that can be used; --no-captions" in result.stderr
        and "Captions: captions.csv" in result.stdout
    )


@pytest.mark.parametrize("name, mark", [("captions.csv", ","), ("captions.tsv", "\t")])
def test_columns_of_one_name_are_refused(tmp_path, name, mark):
    pictures(tmp_path, "a.png")
    table = tmp_path / name
    table.write_text("file_name,caption, caption,,\na.png,one,two,,\n".replace(",", mark))
    with pytest.raises(UserError, match=rf"{name}: several columns are named caption; rename"):
        read(tmp_path)
    table.write_text("file_name,caption,,\na.png,one,,\n".replace(",", mark))
    assert read(tmp_path)[0] == {"a.png": (["one"], "train")}


def test_spaces_around_a_name(tmp_path):
    pictures(tmp_path, "a b.png", " c.png")
    fill(tmp_path, captions__csv="file,caption\na b.png ,a\n c.png, c\n")
    assert read(tmp_path)[0] == {"a b.png": (["a"], "train"), " c.png": (["c"], "train")}


def test_names_in_tables_on_other_systems(tmp_path):
    name = unicodedata.normalize("NFD", "caf\u00e9.png")
    pictures(tmp_path, f"in/{name}", "in/b.png")
    fill(tmp_path, captions__csv="file,caption\nin\\caf\u00e9.png,coffee\nin\\b.png,b\n")
    assert list(read(tmp_path)[0]) == [f"in/{name}", "in/b.png"]
    (tmp_path / "captions.csv").unlink()
    fill(tmp_path, **{"in/caf\u00e9__json": '{"caption": "coffee"}'})
    assert read(tmp_path)[0] == {f"in/{name}": (["coffee"], "train")}
