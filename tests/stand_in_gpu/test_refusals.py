"""What a GPU refuses the stand-in refuses too, and what a GPU does in other ways than a CPU."""

from __future__ import annotations

import json

import pytest

from tests.commands.forked import run_command

FAULTS = """
import json, os, numpy, torch

def fork():
    child = os.fork()
    if child == 0:
        try:
            torch.ones(2, device="cuda")
        except RuntimeError as error:
            os._exit("forked subprocess" in str(error))
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("forked subprocess")

here, there, other = torch.ones(2), torch.ones(2, device="cuda"), torch.ones(2, device="cuda:1")
layer = torch.nn.Linear(2, 2).to("cuda")
faults = {
    "mixed": lambda: there + here, "two GPUs": lambda: there + other, "input": lambda: layer(here),
    "in place": lambda: torch.zeros(()).add_(there[0]), "fork": fork,
    "index": lambda: here[torch.zeros(1, dtype=int, device="cuda")],
    "numpy": lambda: there.numpy(), "asarray": lambda: numpy.asarray(there),
    "pinned": lambda: there.pin_memory(), "ordinal": lambda: torch.ones(2, device="cuda:2"),
    "generator": lambda: torch.randn(2, generator=torch.Generator(), device="cuda"),
    "unawaited": lambda: there.to("cpu", non_blocking=True),
    "data": lambda: setattr(there, "data", here),
}
told = {}
for name, fault in faults.items():
    try:
        fault()
    except (RuntimeError, TypeError) as error:
        told[name] = str(error)
assert here.pin_memory().is_pinned() and not here.is_pinned()
number, indices = torch.tensor(3.0), torch.zeros(2, dtype=int)
assert torch.equal((there * number + there[indices]).cpu(), torch.full((2,), 4.0))
assert torch.equal(there.to(other).cpu(), here) and layer.weight.is_cuda and other.get_device() == 1
weight, given = layer.weight, torch.full((2, 2), 3.0, device="cuda")
weight.data = given
weight.sum().backward()
assert weight.sum() == 12 and weight.grad.sum() == 4 and weight.requires_grad
given.add_(1)  # the numbers are shared, and the shape is that of the assigned tensor
there.data = given.half()
assert weight.sum() == 16 and there.shape == (2, 2) and there.dtype == torch.float16
torch.cuda.synchronize()
with torch.cuda.device(1):
    assert torch.ones(1, device="cuda").get_device() == torch.cuda.current_device() == 1
before = torch.cuda.get_rng_state()
torch.rand(2, device="cuda")
assert not torch.equal(before, torch.cuda.get_rng_state())
print(json.dumps(told))
"""
DEVICES = "Expected all tensors to be on the same device"
TOLD = {
    "mixed": DEVICES,
    "two GPUs": DEVICES,
    "input": DEVICES,
    "in place": DEVICES,
    "index": DEVICES,
    "numpy": "Tensor.cpu()",
    "asarray": "Tensor.cpu()",
    "pinned": "only dense CPU tensors",
    "generator": "device type for generator",
    "unawaited": "non_blocking",
    "ordinal": "invalid device ordinal",
    "fork": "forked subprocess",
    "data": "takes no .data from the CPU",
}


@pytest.mark.slow
def test_the_stand_in_refuses_what_a_gpu_refuses(tmp_path):
    (tmp_path / "faults.py").write_text(FAULTS)
    done = run_command("tests/stand_in_gpu", tmp_path / "faults.py")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == TOLD.keys()
    for name, words in TOLD.items():
        assert words in told[name]
