"""Captions of Flickr8k and Flickr30k in all forms of their files, with splits and wrong rows."""

import pytest

from tests.datasets.folders import fill, pictures, read

TOKENS = (
    '1_a.jpg#0\tA child in a pink dress .\n1_a.jpg#1\tA girl "going" in .\n'
    "2_b.jpg#0\tA dog .\n2_b.jpg\tno number\nonly one field\ngone.jpg.1#0\tLost .\n"
)


@pytest.mark.parametrize(
    "name, table", [("Flickr8k.token.txt", "flickr8k"), ("results_20130124.token", "flickr30k")]
)
def test_token_files(tmp_path, name, table):
    pictures(tmp_path, "Flicker8k_Dataset/1_a.jpg", "Flicker8k_Dataset/2_b.jpg")
    fill(tmp_path, **{f"Flickr8k_text/{name}": TOKENS, "Flickr8k_text/readme.txt": "x"})
    found, report = read(tmp_path)
    assert found == {
        "Flicker8k_Dataset/1_a.jpg": (
            ["A child in a pink dress .", 'A girl "going" in .'],
            "train",
        ),
        "Flicker8k_Dataset/2_b.jpg": (["A dog ."], "train"),
    }
    assert report.captions_from.startswith(f"{table} (Flickr")
    where, wrong = f"Flickr8k_text/{name}", "expected NAME.jpg#NUMBER, a tab and a caption"
    assert report.skipped == [
        {"file": f"{where}, line 4", "reason": wrong},
        {"file": f"{where}, line 5", "reason": wrong},
        {"file": "Flickr8k_text/gone.jpg.1", "reason": "no such file"},
    ]
    assert report.counts["text file without picture"] == 1


def test_flickr8k_has_splits_of_its_own(tmp_path):
    pictures(tmp_path, "i/1_a.jpg", "i/2_b.jpg", "i/3_c.jpg")
    fill(
        tmp_path,
        **{
            "t/Flickr8k__token__txt": "".join(
                f"{n}#0\tx y\n" for n in ("1_a.jpg", "2_b.jpg", "3_c.jpg")
            ),
            "t/Flickr_8k__trainImages__txt": "1_a.jpg\n",
            "t/Flickr_8k__devImages__txt": "2_b.jpg\r\n",
            "t/Flickr_8k__testImages__txt": "3_c.jpg",
        },
    )
    found, report = read(tmp_path)
    assert {name: split for name, (_, split) in found.items()} == {
        "i/1_a.jpg": "train",
        "i/2_b.jpg": "test",
        "i/3_c.jpg": "test",
    }
    assert report.split_rule == "as the files of the captions say" and not report.counts


def test_flickr_files_of_one_name_are_read_together(tmp_path):
    pictures(tmp_path, "train/1.jpg", "train/2.jpg", "val/3.jpg")
    fill(
        tmp_path,
        **{
            "train/captions__txt": "image,caption\n1.jpg,one\n1.jpg,one\n2.jpg,two\n",
            "val/captions__txt": "image,caption\n1.jpg,other\n2.jpg,two\n3.jpg,three\n",
        },
    )
    (tmp_path / "train/2.jpg").rename(tmp_path / "val/2.jpg")
    found, report = read(tmp_path)
    assert found == {
        "train/1.jpg": (["one", "one"], "train"),
        "val/2.jpg": (["two"], "test"),
        "val/3.jpg": (["three"], "test"),
    }
    assert "train/captions.txt; val/captions.txt" in report.captions_from
    # Each file names one picture that only the other folder has.
    assert report.skipped == [
        {"file": "train/2.jpg", "reason": "no such file"},
        {"file": "val/1.jpg", "reason": "no such file"},
    ]


def test_flickr_files_in_folders_of_texts_share_the_pictures(tmp_path):
    pictures(tmp_path, "i/1.jpg", "i/2.jpg")
    first, second = "1.jpg#0\tOne\n", "1.jpg#0\tOne\n1.jpg#1\tUne\n2.jpg#0\tOne\n"
    fill(tmp_path, **{"a/Flickr8k__token__txt": first, "b/Flickr8k__token__txt": second})
    assert read(tmp_path)[0] == {
        "i/1.jpg": (["One", "Une"], "train"),
        "i/2.jpg": (["One"], "train"),
    }


@pytest.mark.parametrize(
    "header, row", [("image,caption\n", "{0},this is {0}\n"), ("", "{0}#0\tthis is {0}\n")]
)
def test_flickr_names_with_folders(tmp_path, header, row):
    pictures(tmp_path, "cats/1.jpg", "cats/2.jpg", "dogs/2.jpg")
    names = ("cats/1.jpg", "dogs/1.jpg", "cats/2.jpg", "dogs/2.jpg")
    fill(tmp_path, captions__txt=header + "".join(map(row.format, names)))
    found, report = read(tmp_path)
    assert {name: texts for name, (texts, _) in found.items()} == {
        name: [f"this is {name}"] for name in names if name != "dogs/1.jpg"
    }
    assert report.skipped == [{"file": "dogs/1.jpg", "reason": "no such file"}]


def test_flickr_files_in_another_form_are_left(tmp_path):
    fill(
        pictures(tmp_path, "i/1.jpg"),
        captions__txt="image,caption\n1.jpg,one\n",
        **{"t/Flickr8k__token__txt": "1.jpg#0\tOne\n"},
    )
    found, report = read(tmp_path)
    assert found == {"i/1.jpg": (["one"], "train")}
    assert "t/Flickr8k.token.txt is left, it has another form" in report.captions_from


def test_flickr8k_with_a_header(tmp_path):
    fill(
        pictures(tmp_path, "Images/1_a.jpg"),
        captions__txt='image,caption\n1_a.jpg,A child .\n1_a.jpg,"A girl , "" here "" ."\n',
    )
    found, report = read(tmp_path)
    assert found == {"Images/1_a.jpg": (["A child .", 'A girl , " here " .'], "train")}
    assert report.captions_from == "flickr8k (Flickr8k's captions); captions.txt; column caption"


def test_flickr30k_with_bars(tmp_path):
    fill(
        pictures(tmp_path, "flickr30k_images/1.jpg", "flickr30k_images/2.jpg"),
        results__csv='image_name| comment_number| comment\n1.jpg| 0| Two "men" , a dog .\n'
        "1.jpg| 1| Friends .\n2.jpg| 4   A dog runs across the grass .\n2.jpg| 0| A dog .\n",
    )
    found, report = read(tmp_path)
    assert found == {
        "flickr30k_images/1.jpg": (['Two "men" , a dog .', "Friends ."], "train"),
        "flickr30k_images/2.jpg": (["A dog ."], "train"),
    }
    assert report.skipped == [
        {
            "file": "results.csv, line 4",
            "reason": "2 fields where the header has 3; are quotation marks missing?",
        }
    ]


def test_other_files_of_those_names_are_not_taken(tmp_path):
    fill(
        pictures(tmp_path, "captions.png"),
        captions__txt="a sheet of captions",
        results__csv="epoch,fid\n1,300\n",
    )
    found, report = read(tmp_path)
    assert found == {"captions.png": (["a sheet of captions"], "train")}
    assert report.captions_from == "NAME.txt (beside each picture)"
