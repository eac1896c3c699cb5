from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.torch_utils.emulation import DTYPES, TF32, built, compiler
from torch_utils import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bf16_where_the_device_is_fast_at_it(monkeypatch, fast):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: fast)
    assert precision.resolve(CPU) == ("bf16" if fast else "fp32")
    assert (precision.resolve(CPU, "bf16"), precision.resolve(CPU, "fp32")) == ("bf16", "fp32")


# The ways in which a user may set the precision of float32 products on GPUs, and whether TF32 is
# then allowed. torch.backends.cuda.matmul.allow_tf32 raises if it disagrees with fp32_precision.
BACKENDS: Any = torch.backends
PRODUCTS = BACKENDS.cuda.matmul
SETTINGS = {
    "nothing set": (lambda: None, False),
    "matmul.fp32_precision tf32": (lambda: setattr(PRODUCTS, "fp32_precision", "tf32"), True),
    "matmul.fp32_precision ieee": (lambda: setattr(PRODUCTS, "fp32_precision", "ieee"), False),
    "backends.fp32_precision tf32": (lambda: setattr(BACKENDS, "fp32_precision", "tf32"), True),
    "allow_tf32": (lambda: setattr(PRODUCTS, "allow_tf32", True), True),
    "not allow_tf32": (lambda: setattr(PRODUCTS, "allow_tf32", False), False),
    "matmul_precision high": (lambda: torch.set_float32_matmul_precision("high"), True),
}


@pytest.fixture(params=SETTINGS)
def tf32_allowed(request):
    change, allowed = SETTINGS[request.param]
    change()
    yield allowed
    BACKENDS.fp32_precision = "none"
    PRODUCTS.allow_tf32 = False
    PRODUCTS.fp32_precision = "none"
    assert not PRODUCTS.allow_tf32 and BACKENDS.cudnn.allow_tf32, "not PyTorch's defaults"


def test_float32_stays_float32_and_the_setting_comes_back(tf32_allowed):
    operations = PRODUCTS, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn
    before = [operation.fp32_precision for operation in operations]
    assert (before[0] == "tf32") == tf32_allowed
    with pytest.raises(ValueError, match="inside"), precision.no_tf32():
        assert "tf32" not in [operation.fp32_precision for operation in operations]
        raise ValueError("inside")
    assert [operation.fp32_precision for operation in operations] == before


@pytest.mark.slow
@pytest.mark.skipif(not compiler(), reason="no C++ compiler")
def test_the_kernels_multiply_as_the_user_set_it(tf32_allowed):
    root = Path(torch.__file__).parent
    probe = ctypes.CDLL(
        built(
            Path(__file__).with_name("glue_probe.cpp"),
            "-std=c++20",
            "-shared",
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
            "-isystem",
            f"{root}/include",
            f"-L{root}/lib",
            "-Wl,--no-as-needed",
            "-lc10",
            "-ltorch_cpu",
        )
    )
    assert probe.product_code_of_float() == (TF32 if tf32_allowed else DTYPES[torch.float32])


@pytest.mark.parametrize("name,dtype", [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast_multiplies_in_the_precision_asked_for(name, dtype):
    with precision.autocast(CPU, name):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
