"""What a command imports: packages that take seconds and memory only where it needs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# torch._dynamo and sympy: 150 MiB. The libraries of the text and image towers: 280 MiB.
LARGE = ("torch._dynamo", "sympy", "open_clip", "transformers", "timm", "torchvision", "scipy")


@pytest.mark.slow
def test_a_picture_of_the_shipped_network_needs_torch_and_no_other_large_package(tmp_path):
    """Neither do the modules of other commands. Once prompts are encoded, the tower is freed."""
    arguments = ["generate.py", "--network", "flowers64", "--prompts", "a pink flower"]
    arguments += ["--size", "16", "--format", "tiff", "--device", "cpu", "--outdir", str(tmp_path)]
    code = (
        "import gc, runpy, sys\n"
        f"sys.argv = {arguments!r}\n"
        "try:\n    runpy.run_path('generate.py', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "from networks.text_encoders.minilm import MiniLM\n"
        "print('TOWERS', sum(isinstance(one, MiniLM) for one in gc.get_objects()))\n"
        "import explorer.painter, metrics.runner, networks.video_command, training.launch\n"
        f"print('LOADED', sorted(set({LARGE!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["TOWERS 0", "LOADED []"]
    assert list(tmp_path.glob("*.tiff"))
