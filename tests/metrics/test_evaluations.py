"""The table of evaluations: frozen, named, and changed only visibly."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys

import pytest

from dnnlib.errors import UserError
from metrics.evaluations import (
    EVALUATIONS,
    badness,
    better,
    evaluations_named,
    overrides_of,
    served,
)


def test_rows_are_frozen_and_named():
    for name, row in EVALUATIONS.items():
        assert row.name == name and row.summary
        for part, field in ((row, "name"), (row.pictures, "seed"), (row.measure, "detector")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field, "x")


def test_every_row_knows_which_way_is_better():
    more = {name for name in EVALUATIONS if better(name) == "high"}
    assert more == {
        name for name in EVALUATIONS if re.match("pr|dc|clip_|scale_|zoom_|eq|ppd|vendi", name)
    }
    assert {name for name in EVALUATIONS if better(name) == "one"} == {"lattice", "motif"}
    with pytest.raises(UserError, match="no such evaluation"):
        better("kid_lite")


@pytest.mark.parametrize(
    "name, values",
    [  # from the best to the worst
        ("swd", (0, 1, 2)),
        ("ppd", (2, 1, 0.5)),
        ("motif", (1, 0.9, 1.2, 0.5, 3, 0)),
    ],
)
def test_the_best_value_has_the_least_badness(name, values):
    worst_first = values[::-1]
    assert sorted(worst_first, key=lambda value: badness(name, value)) == list(values)


def test_no_stand_in_is_called_fid_or_clip_score():
    embedded = {"lite2", "lite2:fine", "toy", "small", "small-heldout"}
    for name, row in EVALUATIONS.items():
        if row.measure.detector in embedded:
            assert not name.startswith(("fid", "fd_", "cmmd")) and name.rpartition("_")[2] in (
                "lite2",
                "small",
                "heldout",
            ), name
        assert row.measure.detector != "lite0"


def test_names_of_the_evaluation_plan_are_there():
    sets = [
        f"{stem}{of}"
        for of in ("30k_coco256", "30k_cub256", "10k")
        for stem in ("fid", "kid", "cmmd", "fd_dinov2_", "pr", "dc")
    ]
    others = [
        "fid30k_coco256_clean",
        "fid30k_coco256_train",
        "fid30k_cub256_dfgan",
        "clip_s",
        "clip_s_heldout",
        "clip_r",
        "fid50k_full",
        "kid_full_lite2",
        "clip_r_prime",
        "scale_x2",
        "scale_x4",
        "scale_x8",
        "zoom_x4",
        "eqt",
        "eqt_frac",
        "eqr",
        "detail_x2",
        "detail_x4",
        "detail_x8",
        "tile_exact",
        "pfid50k",
        "fid_extrapolated",
        "kid_lite2",
        "clip_s_small",
        "clip_s_small_heldout",
        "clip_r_small",
    ]
    assert set(sets + others) <= set(EVALUATIONS)


def test_a_name_says_what_the_row_does():
    for name, row in EVALUATIONS.items():
        counted = re.search(r"(?<!\d)(\d\d)k(_|$)", name)
        assert counted is None or row.pictures.num_images == 1000 * int(counted[1]), name
        assert (row.data == "MS-COCO") == ("coco" in name) and (row.data == "CUB") == (
            "cub" in name
        )
        assert (row.resolution == 256) == name.endswith(
            ("256", "256_clean", "256_train", "256_dfgan")
        )
    assert EVALUATIONS["fid30k_coco256_train"].reference.split == "train"
    assert EVALUATIONS["fid30k_cub256_dfgan"].reference.expand == "flip_shift"


# Name and sha256 (8 digits) of the record of each row. Whoever changes a row on purpose raises
# PROTOCOLS_VERSION, or gives the row another name. New rows need not stand here.
FROZEN = """
    fid30k_coco256 94bbe762 kid30k_coco256 21ef50da cmmd30k_coco256 acb8226f
    fd_dinov2_30k_coco256 197f3491 pr30k_coco256 bcde0628 dc30k_coco256 6e74a81a
    fid30k_coco256_clean 8bd3f564 fid30k_coco256_train dae17ee4 fid30k_cub256 b3ebee68
    kid30k_cub256 1a0d908e cmmd30k_cub256 93a8a9ab fd_dinov2_30k_cub256 11c68524 pr30k_cub256
    042c51f6 dc30k_cub256 9d914b58 fid30k_cub256_dfgan 735b77ba fid10k be3896d3 kid10k 43cf13de
    cmmd10k 61c377c4 fd_dinov2_10k fd8b22e1 pr10k ace7c25a dc10k 4310fb85 fid10k_clean 82a2d556
    fid50k_full eb89feca kid_full_lite2 cda72257 clip_s acc3b3a9 clip_s_heldout ff16df83 clip_r
    c6803134 clip_r_prime a8e042f6 detail_x2 d5a55b45 detail_x2_lite2 2cac016e detail_x4
    a0ec2de8 detail_x4_lite2 79038196 detail_x8 50a4bb86 detail_x8_lite2 19693021
    pfid50k c9353b8b pkid_lite2 650d21b6 fid_extrapolated
    66140e92 kid_extrapolated_lite2 43a94a35 scale_x2 833c3daa scale_x4 c3ac6b7c tile_exact
    9941b1f4 swd bf5eac5d lattice 570b2279 motif f062e581 ppd 1252c606 kid_lite2 3fb4991b
    pr_lite2 89dcf432 dc_lite2 02ce5cd8 nearest_train_lite2 c86ac648 clip_s_small 1b7d2700
    clip_s_small_heldout 7b3e7dc2 clip_r_small 98ecb3f5 scale_x8
    b170353a zoom_x4 ab4da99d eqt 42157a21 eqt_frac ee7aedad eqr 8fd17394
""".split()


@pytest.mark.parametrize("name, digest", list(zip(FROZEN[::2], FROZEN[1::2], strict=True)))
def test_rows_do_not_change(name, digest):
    record = json.dumps(EVALUATIONS[name].record())
    assert hashlib.sha256(record.encode()).hexdigest()[:8] == digest, record


def test_records_call_a_sight_view():
    record = EVALUATIONS["detail_x2"].record()
    assert record["pictures"]["view"] == record["reference"]["view"] == "x2"
    assert record["measure"] == {"kind": "detail", "detector": "inception", "factor": 2}
    assert EVALUATIONS["tile_exact"].record()["measure"] == {"kind": "tile_exact"}


def test_overrides_are_recorded():
    row = EVALUATIONS["kid_lite2"]
    assert overrides_of(row) == {}
    assert overrides_of(row.with_overrides(num=1000, seed=0)) == {}
    assert overrides_of(row.with_overrides(num=10, truncation=0.7)) == {
        "num_images": 10,
        "truncation": 0.7,
    }


def test_number_is_a_ceiling_for_self_comparisons():
    assert EVALUATIONS["kid_lite2"].with_overrides(num=5000).pictures.num_images == 5000
    assert EVALUATIONS["tile_exact"].with_overrides(num=5000).pictures.num_images == 4
    assert EVALUATIONS["tile_exact"].with_overrides(num=2).pictures.num_images == 2
    with pytest.raises(UserError, match="--num-images 1"):
        EVALUATIONS["tile_exact"].with_overrides(num=1)


def test_names_keep_their_order_and_the_nearest_is_offered():
    rows = evaluations_named(["tile_exact", "kid_lite2", "tile_exact"])
    assert [row.name for row in rows] == ["tile_exact", "kid_lite2"]
    with pytest.raises(UserError, match="kid_lite.*did you mean 'kid_lite2'"):
        evaluations_named(["kid_lite"])
    with pytest.raises(UserError, match="at least one"):
        evaluations_named([])


def test_what_a_data_set_lacks():
    rows = evaluations_named(["kid_lite2", "clip_s_small", "kid_full_lite2", "clip_r"])
    assert served(rows, {"train", "test"}, True) == (rows, {})
    kept, others = served(rows, {"train", "test"}, False)
    assert [row.name for row in kept] == ["kid_lite2", "kid_full_lite2"]
    ((lack, names),) = others.items()
    assert lack.startswith("captions") and names == ["clip_s_small", "clip_r"]
    kept, others = served(rows, {"train"}, True)
    assert [row.name for row in kept] == ["kid_full_lite2"]
    assert all(lack.startswith("test split; score against all pictures") for lack in others)


def test_the_table_and_its_measures_load_no_torch():
    """Names are checked before anything heavy is loaded."""
    code = "import sys, metrics.evaluations; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
