"""The table of protocols: frozen, named, and changed only visibly."""

import dataclasses

import pytest

from dnnlib.config_codec import from_dict, to_dict
from dnnlib.errors import UserError
from metrics.protocols import PROTOCOLS, Protocol, overrides_of, protocols_named


def test_rows_are_frozen_and_named():
    for name, row in PROTOCOLS.items():
        assert row.name == name and row.summary
        for part, field in ((row, "name"), (row.pictures, "seed"), (row.measure, "detector")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field, "x")


def test_no_stand_in_is_called_fid_or_clip_score():
    assert {"kid_lite2", "clip_s_small", "clip_s_small_heldout", "clip_r_small", "scale_x2", "scale_x4",
            "tile_exact"} == set(PROTOCOLS)
    assert not any(row.measure.detector == "lite0" for row in PROTOCOLS.values())


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
