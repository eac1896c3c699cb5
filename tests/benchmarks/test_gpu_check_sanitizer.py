"""The parts of `make gpu-check` that run compute-sanitizer: what it watches, what it prints."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu_check import findings, kernels, needs, parts
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.sanitize import sanitize

ROOT = Path(__file__).parents[2]
DTYPES = ["torch.float32", "torch.float16", "torch.bfloat16"]


def test_the_sanitizer_is_told_every_kernel():
    defined = {
        name
        for path in (ROOT / "torch_utils/ops").rglob("*.cu")
        for name in re.findall(r"(\w+_kernel)\(\w+ p\) \{", path.read_text(encoding="utf-8"))
    }
    assert set(needs.kernel_names()) == defined and len(defined) >= 7
    memcheck = parts.PARTS[-2]
    assert {f"kns={name}" for name in defined} <= set(memcheck.command)
    assert memcheck.environment == {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


class Recorder(TorchDispatchMode):
    """Records the names of our operators that run in a `with` block."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "eidgan":
            self.names.add(function._schema.name)
        return function(*args, **(kwargs or {}))


def test_what_the_sanitizer_watches_runs_every_operator(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kernels", "--device", "cpu"])
    monkeypatch.setattr(kernels, "SIZE", (1, 2, 3))
    with Recorder() as recorder:
        kernels.main()
    known = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("eidgan::")}
    assert recorder.names == {name for name in known if not name.endswith("_covers")}
    *printed, end = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in printed[:: len(printed) // 3]] == DTYPES
    assert [int(line.split()[1][:-1]) for line in printed] == list(range(len(printed)))
    assert end == findings.ALL_DONE
    monkeypatch.setattr(sys, "argv", ["kernels", "--device", "cpu", "--first", "80"])
    kernels.main()
    assert capsys.readouterr().out.splitlines() == [*printed[80:], end]


NO_RACE = "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
RACE = "RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)"
SANITIZER = {
    "========= ERROR SUMMARY: 0 errors": ((), ("ERROR SUMMARY: 0 errors",), ""),
    "========= ERROR SUMMARY: 3 errors": (("ERROR SUMMARY: 3 errors",), (), ""),
    f"========= {NO_RACE}": ((), (NO_RACE,), ""),
    f"========= {RACE}": ((RACE,), (), ""),
    "========= Error: Device not supported. Please see the Release Notes": (
        (),
        (),
        "compute-sanitizer cannot work here: Device not supported",
    ),
}


def test_its_summary_is_read():
    for line, expected in SANITIZER.items():
        assert findings.of_sanitizer(None, [line + "\n"]) == Findings(*expected), line


INTERNAL = "Internal Sanitizer Error: The Sanitizer failed to handle a hardware exception."


def test_an_internal_error_of_the_sanitizer_is_no_hazard():
    """Its summary counts it as one. A further hazard in the same process still counts."""
    died = [
        "case 7: torch.float16 linear_act 7 5",
        f"========= {INTERNAL}",
        f"========= {RACE}",
        "NOT CHECKED torch.float16 linear_act 7 5: exit code 9",
    ]
    rest = ["case 8: torch.float16 act_backward 7 5", f"========= {NO_RACE}"]
    found = findings.of_sanitizer(None, died + rest)
    own = f"torch.float16 linear_act 7 5: {INTERNAL}"
    assert found == Findings((own,), (NO_RACE,))
    two = RACE.replace("1 hazard", "2 hazards")
    found = findings.of_sanitizer(None, [*died[:2], f"========= {two}", died[3]])
    assert found.failures == (own, two)
    assert findings.of_sanitizer(None, died[::3]).failures == (died[3],)


STAND_IN = """
    import os, sys
    assert os.environ["CUDA_LAUNCH_BLOCKING"] == "1"
    for case in range(int(sys.argv[-1]), 5):
        print(f"case {case}: name {case}", flush=True)
        if case in (1, 3):
            os._exit(case)
    print("all cases done")
"""


def test_the_sanitizer_goes_on_behind_the_case_that_ended_it(capfd):
    assert sanitize([sys.executable, "-c", textwrap.dedent(STAND_IN)]) == 1
    printed = capfd.readouterr().out.splitlines()
    assert [line.split()[1][:-1] for line in printed if line.startswith("case")] == list("01234")
    assert [line for line in printed if not line.startswith("case")] == [
        "NOT CHECKED name 1: exit code 1",
        "NOT CHECKED name 3: exit code 3",
        "all cases done",
    ]
    assert sanitize([sys.executable, "-c", "exit(5)"]) == 5  # it does not work here
