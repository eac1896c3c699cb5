"""The comparison page from real but tiny runs."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest
from click.testing import CliRunner

from benchmarks.comparison import main
from benchmarks.comparison_page import cautions, notes, references, score_table, training_settings
from benchmarks.comparison_scores import SETTINGS, changes, check_comparable, recipe_options
from benchmarks.comparison_statistics import ranking, spread
from configs import RECIPES, recipe
from dnnlib.errors import UserError
from networks.generators import preset
from tests.benchmarks.made_up_runs import one, scored
from training.launch import run


@pytest.fixture(scope="module")
def runs(tmp_path_factory, openmoji32):
    """Folders of three runs of 8 images each, with a learning curve of scale_x2.

    There are two seeds of a bi-line system and one of a system with one size. Both systems are
    recipes while the fixture is in use.
    """
    root, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    patch.setattr("faulthandler.enable", lambda: None)
    debug = recipe("debug")
    debug = replace(debug, loss=replace(debug.loss, style_mixing=0.0))  # these have one style code
    own = {
        kind: replace(debug, recipe=kind, generator=preset(f"{kind}-tiny"))
        for kind in ("creps", "stylegan2")
    }
    for kind, seed in (("creps", 0), ("creps", 1), ("stylegan2", 0)):
        patch.setitem(RECIPES, kind, partial(own.__getitem__, kind))
        config = replace(
            own[kind],
            seed=seed,
            data=str(openmoji32),
            device="cpu",
            kimg=0.008,
            tick_kimg=0.008,
            metrics=("scale_x2",),
            metric_num=2,
            report_to=(),
            loss=replace(own[kind].loss, r1_gamma=2.0 if kind == "creps" else 1.0),
        )
        assert run(config, root / f"{kind}-{seed}")
    yield root
    patch.undo()


def compare(openmoji32, out, *folders, metrics="scale_x2,tile_exact"):
    return CliRunner().invoke(
        main,
        [
            *map(str, folders),
            "--data",
            str(openmoji32),
            "--metrics",
            metrics,
            *"--num-images 2 --curve scale_x2".split(),
            "--note",
            "Of today.",
            "--out",
            str(out),
        ],
        catch_exceptions=False,
    )


def rows_of(text):
    return {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    }


@pytest.mark.slow
def test_the_page_from_run_folders(runs, openmoji32, tmp_path):
    out, folders = tmp_path / "comparison.md", sorted(runs.iterdir())
    assert compare(openmoji32, out, *folders).exit_code == 0
    page = out.read_text()
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 100
    text = re.sub(r"(?<!\n)\n(?![\n|#-])\s*", " ", page)  # paragraphs in one line
    rows = rows_of(text.split("## From best")[0])
    assert (
        set(rows) == {"`creps`", "`stylegan2`"}
        and rows["`creps`"][0] == "0, 1"
        and rows["`stylegan2`"][0] == "0"
    )
    # stylegan2 has one size only, so scale_x2 has no value.
    assert " to " in rows["`creps`"][3] and rows["`stylegan2`"][3] == "none [1]"
    assert (
        "[1] `stylegan2`, seed 0, `scale_x2`: a stylegan2 network draws 32x32 of the whole frame "
        "only" in text
    )
    assert (
        "All saw 8 images" in text
        and "`batch` 8, `augment.mode` ada" in text
        and "Of today." in text
    )
    assert (
        "- `scale_x2` (more is better): creps " in text
        and "Not ranked, a seed has no value: stylegan2" in text
    )
    changed = text.split("Changed from the recipes for all: ")[1].split("\n")[0]
    assert changed.startswith(
        '`kimg` 0.008, `tick_kimg` 0.008, `metrics` ["scale_x2"], `metric_num` 2. '
        "For `creps` alone: `loss.r1_gamma` 2.0. Disc"
    )
    curves = [
        json.loads((folder / "metric-scale_x2.jsonl").read_text().splitlines()[0])
        for folder in folders[:2]
    ]
    start = spread([record["value"] for record in curves])
    assert (
        "`scale_x2` of the untrained networks (2 runs, pictures as in the curves below): "
        f"{start}" in text
    )
    assert (
        "in place of the large render, a ceiling" in text
        and "favours blur" in text
        and "`eqt` and `zoom_x4` are at their limit of 100 dB" in " ".join(text.split())
        and "at most 2 pictures" in text
    )
    svg = (tmp_path / "pictures" / "comparison-curves.svg").read_text()
    assert svg.count("<polyline") == 3 and "stylegan2" in svg
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    with Image.open(tmp_path / "pictures" / "comparison.png") as picture:
        assert picture.size == (10 * 32, 3 * 32) and isinstance(picture, PngImageFile)
        assert picture.text["rows"] == "real pictures\ncreps\nstylegan2"
    kept = (folders[0] / "comparison.jsonl").read_text()
    assert compare(openmoji32, out, *folders).exit_code == 0
    assert (folders[0] / "comparison.jsonl").read_text() == kept and out.read_text() == page


@pytest.mark.parametrize(
    "name, words",
    [
        ("comparison-curves.svg", "does not begin with '<svg "),
        ("comparison.png", "is no picture that this program made"),
    ],
)
def test_foreign_pictures_are_refused_before_the_work(tmp_path, name, words):
    """The SVG begins like those of other programs. The run, which does not exist, is not read."""
    picture = tmp_path / "pictures" / name
    picture.parent.mkdir()
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 420">mine</svg>'
    picture.write_text(drawing)
    done = compare(tmp_path / "none.zip", tmp_path / "page.md", tmp_path / "none")
    assert done.exit_code == 1 and f"{name} {words}" in done.output
    assert picture.read_text() == drawing and len(list(tmp_path.rglob("*"))) == 2


@pytest.fixture
def creps(runs, openmoji32, tmp_path):
    """Copies of the bi-line system's two run folders with scores of scale_x2.

    Also returns a function that changes the records of the first folder.
    """
    folders = [
        shutil.copytree(runs / f"creps-{seed}", tmp_path / f"creps-{seed}") for seed in (0, 1)
    ]
    for folder in folders:
        (folder / "comparison.jsonl").unlink(missing_ok=True)
    assert compare(openmoji32, tmp_path / "page.md", *folders, metrics="scale_x2").exit_code == 0

    def change(**fields):
        path = folders[0] / "comparison.jsonl"
        path.write_text(
            "".join(
                json.dumps(json.loads(line) | fields) + "\n"
                for line in path.read_text().splitlines()
            )
        )
        assert (
            compare(openmoji32, tmp_path / "page.md", *folders, metrics="scale_x2").exit_code == 0
        )
        return (tmp_path / "page.md").read_text(), len(path.read_text().splitlines())

    return folders, change


def test_a_seed_that_failed_is_told(creps):
    text, lines = creps[1](value=None, note="the picture of seed 7 is not finite")
    assert (
        lines == 1 and "1 of 2 seeds) [1]" in rows_of(text.split("## From best")[0])["`creps`"][3]
    )
    assert (
        "[1] `creps`, seed 0, `scale_x2`: the picture of seed 7 is not finite" in text
        and "nothing measured. Not ranked" in text
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    (
        {"dataset": {"name": "x", "content_hash": "y", "num_items": 7}},
        {"versions": {"protocols": 0}},
        {"snapshot_sha256": "z"},
        {"protocol": {}},
        {"detector": {"name": "lite2", "weights_sha256": "f" * 64}},
    ),
    ids=lambda fields: next(iter(fields)),
)
def test_scores_of_something_else_are_not_used_again(creps, fields):
    text, lines = creps[1](value=-20000.0, **fields)
    assert lines == 2 and "-2e+04" not in text


def test_other_data_than_that_of_the_training_is_refused(creps, openmoji32, tmp_path):
    other = shutil.copytree(creps[0][0], tmp_path / "other")
    path = next(other.glob("network-snapshot-*/config.json"))
    config = json.loads(path.read_text())
    config["info"]["dataset_hash"] = "f" * 64
    path.write_text(json.dumps(config))
    done = compare(openmoji32, tmp_path / "page.md", other)
    assert (
        done.exit_code == 1
        and f"{other} was trained on other data than --data" in done.output
        and "give the data set of the runs" in done.output
    )


def test_runs_that_cannot_be_compared_are_refused():
    kid = {"protocol": 1, "detector": "a"}
    for fields, message in (
        ({"images": 16}, "has seen 16 images"),
        ({"dataset_hash": "y"}, "other data"),
        (
            {"options": dict.fromkeys(SETTINGS, 8) | {"kimg": 4}},
            "with kimg 4, r1 with 8; train all alike",
        ),
        ({"scores": {"kid": kid | {"detector": "b"}}}, "kid was measured otherwise"),
        ({}, "same recipe and seed"),
        (
            {"seed": 1, "options": dict.fromkeys([*SETTINGS, "loss.cond"], 8)},
            "loss.cond 8, r1 with .not set.; train the seeds",
        ),
    ):
        with pytest.raises(UserError, match=message):
            check_comparable(
                [one("r1", scores={"kid": kid}), one("r2", **{"scores": {"kid": kid}} | fields)]
            )
    check_comparable(
        [
            one("r1"),
            one("r2", seed=1),
            one("r3", recipe="b", options=dict.fromkeys([*SETTINGS, "loss.cond"], 8)),
        ]
    )


def test_a_run_is_held_against_its_recipe():
    options = recipe_options("creps-openmoji64", "small")
    assert options["generator.sentence_dim"] == 0 and not changes(
        one("r", recipe="creps-openmoji64", options=options)
    )
    ablated = recipe_options("eidgan-openmoji64", "small") | {"generator.word_dim": 0, "batch": 8}
    assert changes(one("r", recipe="eidgan-openmoji64", options=ablated)) == {
        "generator.word_dim": 0,
        "batch": 8,
    }
    gone = one("r", recipe="gone")
    assert (
        changes(gone) is None
        and "Not compared with a recipe, because this version has none of that name: `gone`"
        in training_settings({"gone": [gone]})
    )


def test_a_system_that_reads_no_text_has_no_text_scores(runs):
    reading, blind = (
        one(runs / "creps-0", reads_text=reads, scores={"clip_s": {"value": 0.25}})
        for reads in (True, False)
    )
    assert [
        row.split("|")[5].strip()
        for row in score_table({"a": [reading], "b": [blind]}, ["clip_s"])[2:]
    ] == ["0.25", "no text"]
    groups = scored(
        "clip_r_small",
        a=[{"value": 0.5, "real": 0.9, "chance": 0.01, "teacher": True}],
        b=[{"value": 0.4, "real": 0.8, "chance": 0.01}],
        c=[0.3],
    )
    groups["b"] = [replace(run, reads_text=False) for run in groups["b"]]
    assert ranking(groups, ["clip_r_small"])[
        0
    ] == "- `clip_r_small` (more is better): a 0.5, c 0.3" and not notes(groups, ["clip_r_small"])
    beside = "- `clip_r_small`: the real pictures of the same captions 0.9; guessing 0.01"
    assert references(groups, ["clip_r_small"], "scale_x2")[-1] == beside
    assert any(
        "`clip_r_small` uses the text encoder that the networks were" in line
        for line in cautions(groups, ["clip_r_small"])
    )
    assert not any(
        "trained with" in line for line in cautions({"c": groups["c"]}, ["clip_r_small"])
    )
