"""Which pictures are scored and under which conditions: what a record says, what compare does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from metrics.evaluations import EVALUATIONS
from metrics.pictures.folder_subject import FolderSubject
from metrics.pictures.picture_folder import PictureFolder
from metrics.pictures.sights import real_sight, window_corner
from metrics.pictures.specifications import Pictures, Reference
from metrics.report import differences, latex, markdown, tabulate
from tests.metrics.calc import calc, records_of, run


def record(result, metric):
    return records_of(result)[metric]


@pytest.fixture(scope="module")
def sorted_pictures(tmp_path_factory):
    """20 pictures of 24 x 24 sorted into two class folders: of one colour, of noise."""
    folder, rng = tmp_path_factory.mktemp("sorted"), np.random.default_rng(0)
    for number in range(20):
        place = folder / ("a_flat" if number < 10 else "b_noise")
        place.mkdir(exist_ok=True)
        pixels = np.empty((24, 24, 3), np.uint8)
        pixels[:] = rng.integers(0, 256, (1, 1, 3) if number < 10 else pixels.shape, dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_part_of_a_folder_is_a_fair_draw(sorted_pictures, tmp_path):
    def kid(images, num):
        return record(
            calc(
                "--images",
                images,
                "--ref",
                sorted_pictures,
                "--metrics",
                "kid_lite2",
                "--num-images",
                num,
            ),
            "kid_lite2",
        )

    first = kid(sorted_pictures / "a_flat", 10)  # what the first 10 files would score
    part, whole = kid(sorted_pictures, 10), kid(sorted_pictures, 20)
    assert part["drawn"] == {"pictures": 10, "of": 20, "seed": 0}
    assert whole["drawn"] == {"pictures": 20, "of": 20, "seed": None}
    assert first["value"] > 5 * abs(part["value"] - whole["value"])


def test_a_draw_is_seeded_and_begins_the_larger_one(sorted_pictures):
    subject = FolderSubject(PictureFolder(sorted_pictures))

    def files(num, seed=0):
        return subject.files(Pictures(num_images=num, seed=seed))

    assert files(10) == files(15)[:10] != files(10, seed=1) and len(set(files(15))) == 15
    assert files(20) == list(range(20)) and 2 < sum(file < 10 for file in files(10)) < 8


def test_a_folder_of_gen_keeps_what_gen_says_of_the_network(sorted_pictures, tmp_path):
    folder = shutil.copytree(sorted_pictures, tmp_path / "made")
    network = {"snapshot_sha256": "f" * 64, "text_noise": 0.5, "samples": 2}
    origin = {"items": {}, "protocol": {}, **network}
    (folder / "pictures.json").write_text(json.dumps(origin))
    identity = FolderSubject(PictureFolder(folder)).identity()
    assert {name: identity.get(name) for name in network} == network


@pytest.mark.parametrize(
    ("made_for", "scored_as", "fields"),
    [
        ("kid_full_lite2", "clip_s_small_heldout", {"split"}),
        ("ppd", "kid_lite2", {"captions", "seeds_per_prompt"}),
        ("ppd", "ppd", set()),
    ],
)
def test_prompts_of_gen_that_an_evaluation_does_not_ask_for_are_told(
    sorted_pictures, tmp_path, made_for, scored_as, fields
):
    folder = shutil.copytree(sorted_pictures, tmp_path / "made")
    protocol = EVALUATIONS[made_for].record()
    (folder / "pictures.json").write_text(json.dumps({"items": {}, "protocol": protocol}))
    asked = replace(EVALUATIONS[scored_as].pictures, num_images=20)
    found = FolderSubject(PictureFolder(folder)).drawn(asked)
    told = {name: protocol["pictures"][name] for name in fields}
    assert found.get("made_for", {}) == told and ("made_for" in found) == bool(fields)
    table = tabulate(
        {
            label: [{"metric": scored_as, "value": 1.0, "num_generated": 20, **of}]
            for label, of in (("network", {}), ("folder", found))
        }
    )
    notes = "".join(differences(table).values())
    assert all(f"made_for.{name} ({value}, None)" in notes for name, value in told.items())
    assert bool(notes) == bool(fields)


def test_windows_of_a_part_of_the_real_pictures_are_a_fair_draw(sorted_pictures):
    pictures, seen = PictureFolder(sorted_pictures), []

    class Spy:
        name, content_hash, resolution = "spy", "", pictures.resolution

        def __len__(self):
            return len(pictures)

        def __getitem__(self, index):
            seen.append(index)
            return pictures[index]

    for count in (12, 20, 32):
        view = real_sight(Spy(), Reference(sight="patch"), 8, count, "--data-large")
        assert ("drawn" in view.tag) == (count != 20)
        for index in range(count):
            view.read(index)
    assert 2 < sum(index < 10 for index in seen[:12]) < 10 and len(set(seen[:12])) == 12
    assert seen[12:32] == list(range(20)) == seen[32:52]
    assert seen[52:] == seen[:12]


@pytest.mark.parametrize(("width", "height"), [(48, 24), (24, 49), (24, 24)])
def test_windows_are_of_the_square_in_the_middle(tmp_path, width, height):
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    Image.fromarray(np.stack([rows, columns, rows], axis=2)).save(tmp_path / "0.png")
    sight = real_sight(PictureFolder(tmp_path), Reference(sight="patch"), 8, 400, "--data-large")
    corners = np.array([sight.read(index)[:2, 0, 0].numpy() for index in range(400)])
    middle = np.array([(height - 24) // 2, (width - 24) // 2])
    assert (corners.min(0) == middle).all() and (corners.max(0) == middle + 24 - 8).all()
    expected = [window_corner("real", index, 8, 24) for index in range(400)]
    assert (corners == np.array(expected) + middle).all()
    assert ("frame" in sight.tag) == (width != height)


@pytest.fixture(scope="module")
def scored(network, archive, tmp_path_factory):
    """The same pictures scored from the network and from the folder that gen wrote: two files."""
    place = tmp_path_factory.mktemp("scored")
    how = ("--seed", 1, "--trunc", 0.5, "--num-images", 9)
    made = run(
        "gen",
        "--network",
        network,
        "--data",
        archive,
        "--metrics",
        "kid_lite2",
        "--outdir",
        place / "pictures",
        "--device",
        "cpu",
        *how,
    )
    assert made.exit_code == 0, made.stderr
    common = ("--data", archive, "--metrics", "clip_r_small", "--cache", place / "cache")
    for name, arguments in (
        ("network", ["--network", network, *how]),
        ("folder", ["--images", place / "pictures", "--num-images", 9]),
    ):
        done = calc(*arguments, *common, "--out", place / f"{name}.jsonl")
        assert done.exit_code == 0, done.stderr
    return place


def records(path):
    return {one["metric"]: one for one in map(json.loads, path.read_text().splitlines())}


@pytest.mark.slow
def test_a_folder_of_gen_has_the_conditions_of_the_network(scored):
    network, folder = (
        records(scored / f"{name}.jsonl")["clip_r_small"] for name in ("network", "folder")
    )
    for field in (
        "value",
        "real",
        "chance",
        "num_distractors",
        "pool",
        "pool_from",
        "seed",
        "overrides",
        "teacher",
        "protocol",
        "dataset",
    ):
        assert folder[field] == network[field], field
    assert (folder["num_distractors"], folder["pool_from"]) == (11, "split")
    done = run("compare", scored / "network.jsonl", scored / "folder.jsonl")
    assert done.exit_code == 0 and done.stderr == "" and "[1]" not in done.stdout


@pytest.mark.slow
def test_captions_of_the_split_find_its_pool_and_others_are_told(scored, archive, tmp_path):
    theirs = shutil.copytree(scored / "pictures", tmp_path / "theirs")
    (theirs / "pictures.json").unlink()

    def score(name):
        out = tmp_path / f"{name}.jsonl"
        found = record(
            calc(
                "--images",
                theirs,
                "--data",
                archive,
                "--metrics",
                "clip_r_small",
                "--num-images",
                9,
                "--cache",
                tmp_path,
                "--out",
                out,
            ),
            "clip_r_small",
        )
        return found, out

    found, _ = score("same")
    assert (found["pool_from"], found["num_distractors"]) == ("split", 11)
    assert found["teacher"] is None
    lines = (theirs / "captions.jsonl").read_text().splitlines()
    (theirs / "captions.jsonl").write_text(
        "\n".join(
            json.dumps({"file": json.loads(line)["file"], "captions": [f"my own caption {number}"]})
            for number, line in enumerate(lines)
        )
    )
    found, out = score("other")
    assert (found["pool_from"], found["num_distractors"]) == ("scored pictures", 8)
    assert found["real"] is None
    done = run("compare", scored / "network.jsonl", out, "--metrics", "clip_r_small")
    assert done.exit_code == 0 and "**" not in done.stdout
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("Warning: clip_r_small: other differs from network in ")
    for words in (
        "num_distractors (8, 11)",
        "pool_from (scored pictures, split)",
        "teacher (None, False)",
    ):
        assert words in warning and words in done.stdout


RESULTS = {
    "value": 3.0,
    "spread": 1.0,
    "seconds": 99.0,
    "snapshot_sha256": "f" * 64,
    "real": 0.3,
    "prime": 1.0,
    "device": "cuda",
    "seed": 1,
    "text_encoder": "another",
    "note": "none",
}
CONDITIONS = {
    "num_generated": 8,
    "num_real": 7,
    "num_distractors": 5,
    "pool": 7,
    "split": "train",
    "view": {},
    "teacher": True,
    "resize": "another",
    "data_checked": None,
    "reference_file": {"name": "x"},
    "detector": {"name": "small", "weights_sha256": "f" * 64},
    "versions": {"protocols": 0},
    "dataset": {"name": "noise", "content_hash": "f" * 64, "num_items": 12},
    "overrides": {"truncation": 0.7},
    "data_large": {"name": "x"},
    "a_field_of_tomorrow": 1,
}


@pytest.mark.parametrize("field", [*RESULTS, *CONDITIONS])
def test_compare_looks_at_every_condition(scored, field):
    ours = records(scored / "network.jsonl")["clip_r_small"]
    other = ours | {"value": ours["value"] + 1} | {field: (RESULTS | CONDITIONS)[field]}
    table = tabulate({"ours": [ours], "other": [other]})
    notes = list(differences(table).values())
    if field in RESULTS:
        assert notes == [] and "**" in markdown(table) and "boldmath" in latex(table)
    else:
        assert len(notes) == 1 and field in notes[0]
        assert "**" not in markdown(table) and "boldmath" not in latex(table)
        assert f"[1] {notes[0]}" in markdown(table) and " [1] |" in markdown(table)
        assert "$^{1}$" in latex(table)


def test_a_record_of_the_first_files_in_path_order_is_told(scored):
    now = records(scored / "folder.jsonl")["clip_r_small"]
    now["images"] = now["images"] | {"num_files": 300}
    before = {name: value for name, value in now.items() if name != "drawn"}
    (note,) = differences(tabulate({"now": [now], "before": [before]})).values()
    assert "the first pictures in path order (True, None)" in note


def test_a_folder_of_real_pictures_is_known_by_its_content(sorted_pictures, scored, tmp_path):
    hashes = []
    for number in range(2):
        place = tmp_path / str(number) / "real"
        place.mkdir(parents=True)
        for index in range(4):
            file = f"{10 * number + index}.png"
            shutil.copy(sorted_pictures / ("b_noise" if number else "a_flat") / file, place)
        found = record(
            calc(
                "--images",
                sorted_pictures,
                "--ref",
                place,
                "--metrics",
                "kid_lite2",
                "--num-images",
                4,
            ),
            "kid_lite2",
        )
        hashes.append(found["reference_file"]["content_hash"])
    assert hashes[0] != hashes[1] and len(hashes[0]) == 64


@pytest.mark.slow
def test_a_measure_that_cannot_be_computed_does_not_stop_the_others(network, archive, tmp_path):
    out = tmp_path / "scores.jsonl"
    done = calc(
        "--network",
        network,
        "--data",
        archive,
        "--cache",
        tmp_path,
        "--num-images",
        3,
        "--metrics",
        "pr_lite2,dc_lite2,clip_s_small_heldout",
        "--out",
        out,
    )
    assert done.exit_code == 1 and list(records(out)) == ["clip_s_small_heldout"]
    told = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert told == [
        f"Error: {name}: at least {count} generated pictures are needed, there are 3; "
        f"give --num-images {count} or more"
        for name, count in (("pr_lite2", 4), ("dc_lite2", 6))
    ]
    assert (
        done.stderr.splitlines()[-1] == "1 of 3 evaluations scored; not scored: pr_lite2, dc_lite2"
    )
    again = calc(
        "--network",
        network,
        "--data",
        archive,
        "--cache",
        tmp_path,
        "--metrics",
        "pr_lite2",
        "--num-images",
        4,
    )
    assert again.exit_code == 0, again.stderr  # the advice holds
