"""Networks without memory have the names, shapes and dtypes of real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from networks.generators import PRESETS, preset
from torch_utils.meta import WithoutMemory


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-tiny")])
def test_every_kind_of_generator_has_the_state_of_a_real_one(name):
    with WithoutMemory():
        shapes = preset(name).build().state_dict()
    expected = preset(name).build().state_dict()
    assert {key: (x.shape, x.dtype) for key, x in shapes.items()} == {
        key: (x.shape, x.dtype) for key, x in expected.items()
    }
    assert not [key for key, x in shapes.items() if not x.is_meta and x.numel() > 1000]


def test_a_network_of_many_gigabytes_takes_no_memory():
    wide = replace(preset("eidgan"), sentence_dim=1 << 16, word_dim=1 << 16)
    with WithoutMemory():
        state = wide.build().state_dict()
    assert sum(x.nbytes for x in state.values() if x.is_meta) > 1 << 30
    assert sum(x.nbytes for x in state.values() if not x.is_meta) < 1 << 20
