"""The table of protocols: frozen, named, and changed only visibly."""

import dataclasses
import re

import pytest

from dnnlib.config_codec import from_dict, to_dict
from dnnlib.errors import UserError
from metrics.evaluations import PROTOCOLS, badness, better, overrides_of, protocols_named, served
from metrics.pictures.specifications import Protocol


def test_rows_are_frozen_and_named():
    for name, row in PROTOCOLS.items():
        assert row.name == name and row.summary
        for part, field in ((row, "name"), (row.pictures, "seed"), (row.measure, "detector")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field, "x")


def test_every_row_knows_which_way_is_better():
    more = {name for name in PROTOCOLS if better(name) == "high"}
    assert more == {name for name in PROTOCOLS if re.match("pr|dc|clip_|scale_|ppd", name)}
    assert {name for name in PROTOCOLS if better(name) == "one"} == {"lattice", "motif"}
    with pytest.raises(UserError, match="no such protocol"):
        better("kid_lite")


@pytest.mark.parametrize("name, values", [  # from the best to the worst
    ("swd", (0, 1, 2)), ("ppd", (2, 1, 0.5)), ("motif", (1, 0.9, 1.2, 0.5, 3, 0))])
def test_the_best_value_has_the_least_badness(name, values):
    worst_first = values[::-1]
    assert sorted(worst_first, key=lambda value: badness(name, value)) == list(values)


def test_no_stand_in_is_called_fid_or_clip_score():
    embedded = {"lite2", "toy", "small", "small-heldout"}
    for name, row in PROTOCOLS.items():
        if row.measure.detector in embedded:
            assert not name.startswith(("fid", "fd_", "cmmd")) and name.rpartition("_")[2] in ("lite2", "small", "heldout"), name
        assert row.measure.detector != "lite0"


def test_names_of_the_evaluation_plan_are_there():
    sets = [f"{stem}{of}" for of in ("30k_coco256", "30k_cub256", "10k") for stem in
            ("fid", "kid", "cmmd", "fd_dinov2_", "pr", "dc")]
    others = ["fid30k_coco256_clean", "fid30k_coco256_train", "fid30k_cub256_dfgan", "clip_s", "clip_s_heldout", "clip_r",
              "fid50k_full", "kid_full_lite2",
              "clip_r_prime", "scale_x2", "scale_x4", "detail_x2", "detail_x4", "tile_exact", "pfid50k", "fid_extrapolated",
              "kid_lite2", "clip_s_small", "clip_s_small_heldout", "clip_r_small"]
    assert set(sets + others) <= set(PROTOCOLS)


def test_a_name_says_what_the_row_does():
    for name, row in PROTOCOLS.items():
        counted = re.search(r"(?<!\d)(\d\d)k(_|$)", name)
        assert counted is None or row.pictures.num_images == 1000 * int(counted[1]), name
        assert (row.data == "MS-COCO") == ("coco" in name) and (row.data == "CUB") == ("cub" in name)
        assert (row.resolution == 256) == name.endswith(("256", "256_clean", "256_train", "256_dfgan"))
    assert PROTOCOLS["fid30k_coco256_train"].reference.split == "train"
    assert PROTOCOLS["fid30k_cub256_dfgan"].reference.expand == "flip_shift"


@pytest.mark.parametrize("row", PROTOCOLS.values(), ids=PROTOCOLS)
def test_survive_json(row):
    assert from_dict(Protocol, to_dict(row)) == row


def test_overrides_are_recorded():
    row = PROTOCOLS["kid_lite2"]
    assert overrides_of(row) == {}
    assert overrides_of(row.with_overrides(num=1000, seed=0)) == {}
    assert overrides_of(row.with_overrides(num=10, truncation=0.7)) == {"num_images": 10, "truncation": 0.7}


def test_number_is_a_ceiling_for_self_comparisons():
    assert PROTOCOLS["kid_lite2"].with_overrides(num=5000).pictures.num_images == 5000
    assert PROTOCOLS["tile_exact"].with_overrides(num=5000).pictures.num_images == 4
    assert PROTOCOLS["tile_exact"].with_overrides(num=2).pictures.num_images == 2
    with pytest.raises(UserError, match="--num-images 1"):
        PROTOCOLS["tile_exact"].with_overrides(num=1)


def test_names_keep_their_order_and_the_nearest_is_offered():
    rows = protocols_named(["tile_exact", "kid_lite2", "tile_exact"])
    assert [row.name for row in rows] == ["tile_exact", "kid_lite2"]
    with pytest.raises(UserError, match="kid_lite.*did you mean 'kid_lite2'"):
        protocols_named(["kid_lite"])
    with pytest.raises(UserError, match="at least one"):
        protocols_named([])


def test_what_a_data_set_lacks():
    rows = protocols_named(["kid_lite2", "clip_s_small", "kid_full_lite2", "clip_r"])
    assert served(rows, {"train", "test"}, True) == (rows, {})
    kept, others = served(rows, {"train", "test"}, False)
    assert [row.name for row in kept] == ["kid_lite2", "kid_full_lite2"]
    (lack, names), = others.items()
    assert lack.startswith("captions") and names == ["clip_s_small", "clip_r"]
    kept, others = served(rows, {"train"}, True)
    assert [row.name for row in kept] == ["kid_full_lite2"]
    assert all(lack.startswith("test split; score against all pictures") for lack in others)
