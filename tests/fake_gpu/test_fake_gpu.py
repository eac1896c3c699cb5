"""The fake device: it lets good code pass, names bad lines, and differentiates as PyTorch does."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.fake_gpu import engine
from tests.fake_gpu.device import CUDA, DeviceFault, fake_gpu, line_of_the_program
from torch_utils.tensors import to_device
from torch_utils.training_stats import Collector

FAULTS = {
    "item": lambda x: x[0, 0].item(),
    "float": lambda x: float(x.sum()),
    "if": lambda x: 1 if x.sum() > 0 else 2,
    "tolist": lambda x: x.tolist(),
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
    "unique": lambda x: x.unique(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "mask as an index": lambda x: x[x > 0],
    "assignment by a mask": lambda x: x.__setitem__(x > 0, x[0, 0]),
    "repeats": lambda x: x.repeat_interleave(x[0].long(), dim=1),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu", non_blocking=True),
    "copy_ to the CPU": lambda x: torch.zeros(2, 3).copy_(x),
    "a tensor made of numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "pageable memory": lambda x: torch.zeros(3).to(x.device, non_blocking=True),
    "a copy that waits": lambda x: torch.zeros(3).pin_memory().to(x.device),
    "one element set": lambda x: x[0, 0].copy_(torch.tensor(1.0)),  # x[0, 0] = 1.0 before 2.15
    "a CPU number in where": lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
    "float64": lambda x: x.double(),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_waits_is_a_fault_under_the_rules_only(name):
    with fake_gpu() as gpu:
        x = torch.zeros(2, 3, device=CUDA)
        with pytest.raises(DeviceFault), gpu.rules():
            FAULTS[name](x)
        if name not in (
            "nonzero",
            "equal",
            "unique",
            "masked_select",
            "mask as an index",
            "assignment by a mask",
            "repeats",
        ):
            FAULTS[name](x)  # those depend on numbers that are not there


def test_a_fault_names_its_line():
    with fake_gpu() as gpu, gpu.rules():
        collector = Collector()
        collector.report("x", torch.zeros(3, device=CUDA))
        with pytest.raises(
            DeviceFault, match=r"^torch_utils/training_stats.py:\d+: reads a number"
        ):
            collector.flush()
    assert line_of_the_program() == "a test"


def test_a_fault_leaves_pytorch_as_it_was():
    grad, load = torch.autograd.grad, torch.load
    with pytest.raises(DeviceFault), fake_gpu() as gpu, gpu.rules():
        torch.zeros((), device=CUDA).item()
    assert torch.autograd.grad is grad and torch.load is load and torch.zeros(2).sum().item() == 0


def test_what_does_not_wait_passes():
    with fake_gpu() as gpu, gpu.rules():
        x = torch.zeros(2, 3, device=CUDA)
        host = torch.arange(6.0).view(2, 3)
        assert host.sum().item() == 15 and host[host > 2].tolist() == [
            3,
            4,
            5,
        ]  # the CPU's numbers are real
        y = to_device(host[:1], CUDA) + x
        y[:1] = 1.0
        y = torch.where(y > 0, y, 0.0) * torch.tensor(2.0)
        assert y.device == CUDA and y.dtype == torch.float32 and y.shape == (2, 3)
        assert torch.full((), 3.0, device=CUDA).device == CUDA


def test_mixed_devices_and_types_fail_as_on_a_gpu():
    with fake_gpu():
        x = torch.zeros(2, 2, device=CUDA)
        with pytest.raises(RuntimeError, match="device"):
            x + torch.zeros(2, 2)
        with pytest.raises(DeviceFault, match="aten.mm.default of torch.float32, torch.bfloat16"):
            x @ x.bfloat16()
        with torch.autocast("cuda", torch.bfloat16):
            assert (x @ x).dtype == torch.bfloat16 and functional.layer_norm(
                x.bfloat16(), (2,)
            ).dtype == torch.float32


def penalised(grad, weight, x):
    """A loss that needs a second derivative: views, an activation in place, a shared weight."""
    hidden = functional.leaky_relu(functional.conv2d(x, weight, padding=1), 0.2, inplace=True)
    out = functional.conv2d(hidden, weight.transpose(0, 1), padding=1)[:, :, 1:].square().sum()
    (inner,) = grad(out, x, create_graph=True)
    return out + inner.square().sum(dim=(1, 2, 3)).mean()


def test_gradients_equal_those_of_pytorchs_engine():
    stream = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, generator=stream).requires_grad_()
    x = torch.randn(2, 3, 5, 5, generator=stream).requires_grad_()
    expected = torch.autograd.grad(penalised(torch.autograd.grad, weight, x), (weight, x))
    found = engine.grad(penalised(engine.grad, weight, x), (weight, x))
    engine.backward(penalised(engine.grad, weight, x))
    for a, b, c in zip(expected, found, (weight.grad, x.grad), strict=False):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a, c)
