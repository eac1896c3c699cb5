"""Captions as people keep them beside their pictures: each convention is found by looking, read
with the right captions and splits, and its wrong rows are counted by file and line.
"""

import json
import shutil
import sys
import unicodedata
from pathlib import PurePosixPath

import pytest
from PIL import Image

from datasets.archive import Archive
from datasets.conventions import CONVENTIONS
from datasets.conventions.made import caption_of, check_template
from datasets.folder import Captions, folder_pictures
from datasets.picture_files import picture_endings
from datasets.report import Report
from datasets.source_files import SourceFolder
from dnnlib.errors import UserError
from tests.datasets.conftest import picture
from tests.datasets.test_import_commands import run


def fill(folder, **files):
    """Pictures by the names given, and text files by name; `__` in a name is a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            picture(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8", newline="")
    return folder


def pictures(folder, *names):
    return fill(folder, **dict.fromkeys(names))


def read(folder, *, test_share=0.0, follow_links=False, **options):
    """(captions and split by id, report) of a folder."""
    report = Report()
    raws = folder_pictures(folder, report, test_share, follow_links=follow_links,
                           captions=Captions(**options))
    return {raw.id: (list(raw.captions), raw.split) for raw in raws}, report


def lines(*records):
    return "\n".join(record if isinstance(record, str) else json.dumps(record)
                     for record in records)


# Hugging Face imagefolder

def test_imagefolder_with_a_file_a_split(tmp_path):
    pictures(tmp_path, "train/a.png", "train/deep/b.jpg", "validation/a.png", "test/c.png")
    fill(tmp_path, **{
        "train/metadata__jsonl": lines({"file_name": "a.png", "text": "first\nline", "width": 9},
                                       {"file_name": "deep/b.jpg", "text": "second"}),
        "validation/metadata__jsonl": lines({"file_name": "a.png", "text": "third"}),
        "test/metadata__jsonl": lines({"file_name": "c.png", "text": "fourth"})})
    found, report = read(tmp_path)
    assert found == {
        "train/a.png": (["first line"], "train"), "train/deep/b.jpg": (["second"], "train"),
        "validation/a.png": (["third"], "test"), "test/c.png": (["fourth"], "test")}
    assert report.captions_from == "metadata.jsonl (Hugging Face imagefolder); column text"
    assert report.split_rule == "by the folders named train, test or validation"
    assert not report.counts and not report.skipped


def test_imagefolder_in_csv_with_quotes_and_a_chosen_column(tmp_path):
    pictures(tmp_path, "1.png", "2.png", "3.png")
    fill(tmp_path, metadata__csv='file_name,text,long\r\n1.png,one,"a red, round ""thing"""\r\n'
         '2.png,two,"over\ntwo lines"\r\n\r\n3.png,three\r\n')
    found, report = read(tmp_path, column="long")
    assert found == {"1.png": (['a red, round "thing"'], "train"),
                     "2.png": (["over two lines"], "train")}
    assert report.skipped == [{"file": "metadata.csv, line 6", "reason":
                               "2 fields where the header has 3; are quotation marks missing?"}]
    assert report.counts == {"wrong row": 1, "picture that metadata.csv does not list": 1}
    assert read(tmp_path)[0] == {"1.png": (["one"], "train"), "2.png": (["two"], "train")}
    with pytest.raises(UserError, match="--caption-column lonk: .*did you mean 'long'"):
        read(tmp_path, column="lonk")


def test_imagefolder_in_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    pictures(tmp_path, "train/a.png", "train/b.png", "test/c.png")
    for side, rows in (("train", [{"file_name": "a.png", "captions": ["x", " y "], "n": 1},
                                  {"file_name": None, "captions": ["lost"], "n": 2},
                                  {"file_name": "b.png", "captions": None, "n": 3}]),
                       ("test", [{"file_name": "c.png", "captions": ["z"], "n": 4}])):
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / side / "metadata.parquet")
    found, report = read(tmp_path)
    assert found == {"train/a.png": (["x", "y"], "train"), "test/c.png": (["z"], "test")}
    assert report.skipped == [
        {"file": "train/metadata.parquet, line 2", "reason": "no file name under 'file_name'"},
        {"file": "train/b.png", "reason": "no captions"}]
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
    fill(tmp_path, metadata__jsonl=lines(
        {"file_name": "a.png", "text": "a"}, '{"file_name": ', "", [1], {"text": "nobody"},
        {"file_name": "b.png"}, {"file_name": "b.png", "text": 7}, {"file_name": "../x.png", "text": "x"},
        {"file_name": "gone.png", "text": "x"}, {"file_name": "a.png", "text": "again"}))
    found, report = read(tmp_path)
    assert found == {"a.png": (["a", "again"], "train")}
    reasons = {entry["file"]: entry["reason"] for entry in report.skipped}
    assert reasons.pop("metadata.jsonl, line 2").startswith("the line is not valid JSON (")
    assert reasons == {
        "metadata.jsonl, line 4": "expected an object, got [1]",
        "metadata.jsonl, line 5": "no file name under 'file_name'", "b.png": "no captions",
        "../x.png": "must be a path below the source folder", "gone.png": "no such file"}
    with pytest.raises(UserError, match="metadata.jsonl, line 2: wrong row"):
        folder_pictures(tmp_path, Report(strict=True))


def test_a_table_without_the_columns_names_them(tmp_path):
    fill(pictures(tmp_path, "a.png"), metadata__csv="name,text\na.png,a\n", a__txt="beside")
    with pytest.raises(UserError, match="none of the columns name, text is named file_name; .*"
                       "--captions-from"):
        read(tmp_path)
    assert read(tmp_path, origin="NAME.txt")[0] == {"a.png": (["beside"], "train")}
    fill(tmp_path, metadata__csv="file_name,label\na.png,1\n")
    with pytest.raises(UserError, match="none of the columns file_name, label is named captions or "
                       ".*--caption-column"):
        read(tmp_path)


# captions.csv and captions.tsv

def test_captions_csv_with_several_rows_a_picture_and_splits(tmp_path):
    pictures(tmp_path, "images/a.png", "images/b.png", "images/c.png", "top.png")
    fill(tmp_path, captions__csv="Filename,Caption,split\na.png,first,train\nb.png,other,val\n"
         "a.png,second,train\nimages/c.png,third,\ntop.png,fourth,holdout\n")
    found, report = read(tmp_path)
    assert found == {"images/a.png": (["first", "second"], "train"),
                     "images/b.png": (["other"], "test"), "images/c.png": (["third"], "train")}
    assert report.skipped == [{"file": "captions.csv, line 6", "reason":
                               "the split 'holdout' is none of train, test, validation"}]
    assert report.split_rule == "as the files of the captions say, else all are train"
    assert report.captions_from == "captions.csv; column Caption"


def test_captions_tsv_in_utf16_and_without_header(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    fill(tmp_path, captions__tsv="a.png\ta caf\u00e9, \u201cred\u201d\nb.png\tthe 5\" screen\n"
         .encode("utf-16"))
    found, report = read(tmp_path)
    assert found == {"a.png": (["a caf\u00e9, \u201cred\u201d"], "train"),
                     "b.png": (['the 5" screen'], "train")}
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
    fill(tmp_path, captions__csv='file,caption\na.png,"lost\nb.png,inside\n'
         'c.png,"quoted"\nd.png,good\n')
    found, report = read(tmp_path)
    assert found == {"d.png": (["good"], "train")}
    (wrong,) = report.skipped
    assert wrong["file"] == "captions.csv, lines 2 to 4" and "quotation mark" in wrong["reason"]


def test_names_may_be_relative_to_the_table_or_to_the_source(tmp_path):
    pictures(tmp_path, "images/a.png", "images/b.png", "texts/c.png")
    fill(tmp_path, **{"texts/captions__csv": "file,caption\n../images/a.png,a\nimages/b.png,b\n"
                      "c.png,c\n../../x.png,x\n"})
    found, report = read(tmp_path)
    assert found == {"images/a.png": (["a"], "train"), "images/b.png": (["b"], "train"),
                     "texts/c.png": (["c"], "train")}
    assert [one["reason"] for one in report.skipped] == ["must be a path below the source folder"]


def test_a_name_alone_must_be_unique(tmp_path):
    pictures(tmp_path, "x/a.png", "y/a.png", "x/b.png")
    fill(tmp_path, captions__csv="file,caption\na.png,which\nb.png,this\n")
    found, report = read(tmp_path)
    assert found == {"x/b.png": (["this"], "train")}
    assert report.skipped == [{"file": "a.png", "reason":
                               "several folders have a file of that name: x/a.png, y/a.png"}]


@pytest.mark.parametrize("table", ["", "file,caption\n", "file,caption\na.png,\n"])
def test_a_table_without_captions_names_the_remedies(tmp_path, table):
    fill(pictures(tmp_path / "in", "a.png"), captions__csv=table)
    result = run("folder", "--source", tmp_path / "in", "--dest", tmp_path / "x.zip")
    assert result.exit_code == 1 and "no picture has captions that can be used; --no-captions" in \
        result.stderr and "Captions: captions.csv" in result.stdout


def test_spaces_around_a_name(tmp_path):
    fill(pictures(tmp_path, "a b.png", " c.png"), captions__csv="file,caption\na b.png ,a\n c.png, c\n")
    assert read(tmp_path)[0] == {"a b.png": (["a"], "train"), " c.png": (["c"], "train")}


def test_names_in_tables_on_other_systems(tmp_path):
    name = unicodedata.normalize("NFD", "caf\u00e9.png")
    pictures(tmp_path, f"in/{name}", "in/b.png")
    fill(tmp_path, captions__csv="file,caption\nin\\caf\u00e9.png,coffee\nin\\b.png,b\n")
    assert list(read(tmp_path)[0]) == [f"in/{name}", "in/b.png"]
    (tmp_path / "captions.csv").unlink()
    fill(tmp_path, **{"in/caf\u00e9__json": '{"caption": "coffee"}'})
    assert read(tmp_path)[0] == {f"in/{name}": (["coffee"], "train")}


# files beside pictures

def test_caption_files_beside_pictures(tmp_path):
    pictures(tmp_path, "a.png", "deep/b.JPG", "c.png", "d.png")
    fill(tmp_path, a__caption="one\n\ntwo", d__CAPTION="\n", notes__caption="x", **{
        "deep/b__caption": "three"})
    found, report = read(tmp_path)
    assert found == {"a.png": (["one", "two"], "train"), "deep/b.JPG": (["three"], "train")}
    assert report.captions_from == "NAME.caption (beside each picture)"
    assert report.skipped == [{"file": "c.png", "reason": "no caption file c.caption"},
                              {"file": "d.png", "reason": "caption file d.CAPTION is empty"}]
    assert report.counts == {"picture without captions": 2, "file of another kind (.caption)": 1}


@pytest.mark.parametrize("content, captions", [
    ('{"caption": "one", "sha256": "0"}', ["one"]), ('{"captions": ["one", "two"]}', ["one", "two"]),
    ('{"text": "one \\ud83d"}', ["one"]), ('{"prompt": "one", "seed": 3}', ["one"]),
    ('\ufeff{"caption": "caf\u00e9"}', ["caf\u00e9"]),
    ('{"title": "x"}', "cannot be read: none of the keys captions, caption, text, prompt is there"),
    ('["one"]', "cannot be read: none of the keys captions, caption, text, prompt is there"),
    ('{"caption": ', "cannot be read: it is not valid JSON"), ('{"caption": null}', "is empty"),
])
def test_json_beside_pictures(tmp_path, content, captions):
    fill(pictures(tmp_path, "a.png", "b.png"), a__json=content, b__json='{"caption": "b"}')
    found, report = read(tmp_path)
    assert report.captions_from == "NAME.json (beside each picture)"
    if isinstance(captions, list):
        assert found["a.png"] == (captions, "train")
    else:
        assert captions in report.skipped[0]["reason"] and list(found) == ["b.png"]


# Flickr8k and Flickr30k

TOKENS = ("1_a.jpg#0\tA child in a pink dress .\n1_a.jpg#1\tA girl \"going\" in .\n"
          "2_b.jpg#0\tA dog .\n2_b.jpg\tno number\nonly one field\ngone.jpg.1#0\tLost .\n")


@pytest.mark.parametrize("name, table", [("Flickr8k.token.txt", "flickr8k"),
                                         ("results_20130124.token", "flickr30k")])
def test_token_files(tmp_path, name, table):
    pictures(tmp_path, "Flicker8k_Dataset/1_a.jpg", "Flicker8k_Dataset/2_b.jpg")
    fill(tmp_path, **{f"Flickr8k_text/{name}": TOKENS, "Flickr8k_text/readme.txt": "x"})
    found, report = read(tmp_path)
    assert found == {
        "Flicker8k_Dataset/1_a.jpg": (["A child in a pink dress .", 'A girl "going" in .'], "train"),
        "Flicker8k_Dataset/2_b.jpg": (["A dog ."], "train")}
    assert report.captions_from.startswith(f"{table} (Flickr")
    where, wrong = f"Flickr8k_text/{name}", "expected NAME.jpg#NUMBER, a tab and a caption"
    assert report.skipped == [{"file": f"{where}, line 4", "reason": wrong},
                              {"file": f"{where}, line 5", "reason": wrong},
                              {"file": "gone.jpg.1", "reason": "no such file"}]
    assert report.counts["text file without picture"] == 1


def test_flickr8k_has_splits_of_its_own(tmp_path):
    pictures(tmp_path, "i/1_a.jpg", "i/2_b.jpg", "i/3_c.jpg")
    fill(tmp_path, **{"t/Flickr8k__token__txt": "".join(f"{n}#0\tx y\n" for n in (
        "1_a.jpg", "2_b.jpg", "3_c.jpg")), "t/Flickr_8k__trainImages__txt": "1_a.jpg\n",
        "t/Flickr_8k__devImages__txt": "2_b.jpg\r\n", "t/Flickr_8k__testImages__txt": "3_c.jpg"})
    found, report = read(tmp_path)
    assert {name: split for name, (_, split) in found.items()} == {
        "i/1_a.jpg": "train", "i/2_b.jpg": "test", "i/3_c.jpg": "test"}
    assert report.split_rule == "as the files of the captions say" and not report.counts


def test_flickr8k_with_a_header(tmp_path):
    fill(pictures(tmp_path, "Images/1_a.jpg"),
         captions__txt='image,caption\n1_a.jpg,A child .\n1_a.jpg,"A girl , "" here "" ."\n')
    found, report = read(tmp_path)
    assert found == {"Images/1_a.jpg": (["A child .", 'A girl , " here " .'], "train")}
    assert report.captions_from == "flickr8k (Flickr8k's captions); captions.txt; column caption"


def test_flickr30k_with_bars(tmp_path):
    fill(pictures(tmp_path, "flickr30k_images/1.jpg", "flickr30k_images/2.jpg"),
         results__csv='image_name| comment_number| comment\n1.jpg| 0| Two "men" , a dog .\n'
         "1.jpg| 1| Friends .\n2.jpg| 4   A dog runs across the grass .\n2.jpg| 0| A dog .\n")
    found, report = read(tmp_path)
    assert found == {"flickr30k_images/1.jpg": (['Two "men" , a dog .', "Friends ."], "train"),
                     "flickr30k_images/2.jpg": (["A dog ."], "train")}
    assert report.skipped == [{"file": "results.csv, line 4", "reason":
                               "2 fields where the header has 3; are quotation marks missing?"}]


def test_other_files_of_those_names_are_not_taken(tmp_path):
    fill(pictures(tmp_path, "captions.png"), captions__txt="a sheet of captions",
         results__csv="epoch,fid\n1,300\n")
    found, report = read(tmp_path)
    assert found == {"captions.png": (["a sheet of captions"], "train")}
    assert report.captions_from == "NAME.txt (beside each picture)"


# which convention

def every_form(folder):
    pictures(folder, "a.jpg")
    fill(folder, captions__jsonl=lines({"file": "a.jpg", "captions": ["captions.jsonl"]}),
         metadata__jsonl=lines({"file_name": "a.jpg", "text": "metadata.jsonl"}),
         metadata__csv="file_name,text\na.jpg,metadata.csv\n",
         captions__csv="file,caption\na.jpg,captions.csv\n",
         captions__tsv="file\tcaption\na.jpg\tcaptions.tsv\n",
         captions__txt="a.jpg#0\tflickr8k\n", results__csv="image_name| n| comment\na.jpg| 0| flickr30k\n",
         a__txt="NAME.txt", a__caption="NAME.caption", a__json='{"caption": "NAME.json"}')
    return [one.name for one in CONVENTIONS if one.name != "metadata.parquet"]


def test_the_first_form_is_taken_and_the_others_are_named(tmp_path):
    names = every_form(tmp_path)
    assert len(names) == 10
    while names:
        found, report = read(tmp_path)
        assert found == {"a.jpg": ([names[0]], "train")}
        left = f"left: {', '.join(names[1:])} (--captions-from" if names[1:] else "left"
        assert report.captions_from.startswith(names[0]) and (left in report.captions_from) == bool(names[1:])
        files = [one.looks(SourceFolder(tmp_path)) for one in CONVENTIONS if one.name == names[0]][0]
        for file in files:
            (tmp_path / file).unlink()
        names.pop(0)


def test_captions_from_takes_another_form(tmp_path):
    for name in every_form(tmp_path):
        found, report = read(tmp_path, origin=name)
        assert found == {"a.jpg": ([name], "train")} and report.captions_from.startswith(name)
    with pytest.raises(UserError, match="--captions-from NAME.tx: .*did you mean 'NAME.txt'"):
        read(tmp_path, origin="NAME.tx")
    with pytest.raises(UserError, match="metadata.parquet: no such captions in .*; found: captions.j"):
        read(tmp_path, origin="metadata.parquet")
    with pytest.raises(UserError, match="--captions-from and --no-captions exclude each other"):
        read(tmp_path, origin="NAME.txt", none=True)


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
        ("a photo of a cats",), ("a photo of a cats",), ("a photo of a dogs",)]


def test_no_captions_leaves_those_that_are_there(tmp_path):
    fill(pictures(tmp_path, "a.png", "b.png"), a__txt="a")
    found, report = read(tmp_path, none=True)
    assert found == {"a.png": ([], "train"), "b.png": ([], "train")}
    assert report.counts == {"file of another kind (.txt)": 1}


@pytest.mark.parametrize("folder, words", [
    ("001.Black_footed_Albatross", "Black footed Albatross"), ("n02085620-Chihuahua", "Chihuahua"),
    ("church_outdoor", "church outdoor"), ("12_red__cars", "red cars"), ("747", "747"),
    ("n01440764", "n01440764"), ("3d_models", "3d models"), ("__", "__")])
def test_what_a_folders_name_means(folder, words):
    assert caption_of("a {}.", folder) == f"a {words}."


@pytest.mark.parametrize("template", ["", " ", "{}", "a {name}", "a {} {", "{0}"])
def test_wrong_templates(template):
    with pytest.raises(UserError, match="--caption-template .*such as 'a photo of a {}'"):
        check_template(template)


def test_class_folders_below_splits_and_pictures_without_one(tmp_path):
    pictures(tmp_path, "train/001.cat/1.png", "val/001.cat/2.png", "val/3.png")
    found, report = read(tmp_path, template="a {}")
    assert found == {"train/001.cat/1.png": (["a cat"], "train"),
                     "val/001.cat/2.png": (["a cat"], "test")}
    assert report.skipped == [{"file": "val/3.png", "reason":
                               "it lies in no folder that could name its class"}]
    assert read(tmp_path, template="a portrait")[0]["val/3.png"] == (["a portrait"], "test")
    result = run("folder", "--source", tmp_path / "val/001.cat", "--caption-template", "a {}",
                 "--dest", tmp_path / "x.zip")
    assert "none lies in a folder that could name its class; a template without {}" in result.stderr


def test_folders_are_splits_only_where_all_are(tmp_path):
    pictures(tmp_path, "train/1.png", "test/2.png")
    assert [split for _, split in read(tmp_path, none=True, test_share=0.999)[0].values()] == [
        "test", "train"]
    pictures(tmp_path, "holiday/3.png")
    found, report = read(tmp_path, none=True)
    assert {split for _, split in found.values()} == {"train"}
    assert report.split_rule == "all are train"
    shutil.rmtree(tmp_path / "test")
    shutil.rmtree(tmp_path / "holiday")
    found, report = read(tmp_path, none=True, test_share=0.999)
    assert found == {"train/1.png": ([], "test")} and "100% of file names" in report.split_rule


# links, endings, and what other commands read

def test_linked_files_are_read_and_linked_folders_named(tmp_path):
    pictures(tmp_path / "elsewhere", "a.png", "deep/b.png")
    fill(tmp_path / "elsewhere", a__txt="linked", **{"deep/b__txt": "deep"})
    folder = pictures(tmp_path / "in", "own.png")
    fill(folder, own__txt="own")
    for name in ("a.png", "a.txt"):
        (folder / name).symlink_to(tmp_path / "elsewhere" / name)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "more").symlink_to(tmp_path / "elsewhere" / "deep")
    found, report = read(folder)
    assert found == {"a.png": (["linked"], "train"), "own.png": (["own"], "train")}
    assert {(one["file"], one["reason"]) for one in report.skipped} == {
        ("gone.png", "broken link or special file"),
        ("more", "linked folder (--follow-links reads it)")}
    found, report = read(folder, follow_links=True)
    assert found["more/b.png"] == (["deep"], "train") and len(found) == 3
    fill(folder, captions__csv="file,caption\nmore/b.png,b\n")
    _, report = read(folder, follow_links=True)
    assert not [one for one in report.skipped if "more" in one["file"]]


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
    result = run("folder", "--source", tmp_path / "in", "--no-captions", "--dest", tmp_path / "x.zip",
                 "--resolution", 8, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert sorted(entry.id for entry in Archive(tmp_path / "x.zip").entries()) == sorted(written)


@pytest.mark.parametrize("name, command", [("data.mdb", "lsun"), ("00000.tar", "webdataset"),
                                           ("data-00000-of-00001.arrow", "hf")])
def test_data_of_other_commands_are_recognised(tmp_path, name, command):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=f"no pictures found .*dataset_tool.py {command} reads"):
        read(tmp_path)
    assert PurePosixPath(name).suffix in (".mdb", ".tar", ".arrow")
