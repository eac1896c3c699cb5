from __future__ import annotations

import pytest
import torch

from torch_utils import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bf16_where_the_device_is_fast_at_it(monkeypatch, fast):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: fast)
    assert precision.resolve(CPU) == ("bf16" if fast else "fp32")
    assert (precision.resolve(CPU, "bf16"), precision.resolve(CPU, "fp32")) == ("bf16", "fp32")


def test_float32_stays_float32_and_the_setting_comes_back():
    places = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [place.allow_tf32 for place in places]
    with pytest.raises(ValueError), precision.no_tf32():
        assert not any(place.allow_tf32 for place in places)
        raise ValueError
    assert [place.allow_tf32 for place in places] == before


@pytest.mark.parametrize("name,dtype", [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast_multiplies_in_the_precision_asked_for(name, dtype):
    with precision.autocast(CPU, name):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
