"""A process group is gone after its block; devices that are not there are named."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib.errors import UserError
from torch_utils.distributed import resolve_device

ROOT = Path(__file__).parents[2]

CODE = """
import os, torch
from torch_utils.distributed import from_main, process_group
with process_group(torch.device("cpu")):
    from_main(1)
    weight = torch.nn.Parameter(torch.ones(1))
    # The optimiser imports the module that would keep a reference to the group.
    optimizer = torch.optim.Adam([weight], foreach=True)
    weight.sum().backward()
    optimizer.step()
threads = os.listdir("/proc/self/task")
assert not [t for t in threads if "gloo" in open(f"/proc/self/task/{t}/comm").read()]
"""


@pytest.mark.slow
@pytest.mark.multi_process
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_thread_of_the_group_outlives_it():
    """Such a thread sometimes aborts the interpreter at exit."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CODE],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": "1",
            },
        )
        for rank in ("0", "1")
    ]
    errors = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors


@pytest.mark.parametrize("index", ["7", "99999999999999999999"])
def test_a_gpu_that_is_not_there(index, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match=f"--device cuda:{index}: torch sees 2 CUDA devices"):
        resolve_device(f"cuda:{index}")
