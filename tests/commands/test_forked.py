"""Commands in tests end together with all processes that they started."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.commands.forked import start_command

# The worker keeps the pipe open, and would write to it again if it were not killed.
COMMAND = """
import subprocess, sys, time
words = "import time; print('begun', flush=True); time.sleep(20); print('still here', flush=True)"
with open(sys.argv[1], "w") as pipe:
    subprocess.Popen([sys.executable, "-c", words], stdout=pipe)
time.sleep(600)
"""


@pytest.mark.multi_process
@pytest.mark.skipif(sys.platform == "win32", reason="named pipes of POSIX")
def test_a_command_that_is_late_ends_with_its_workers(tmp_path):
    (tmp_path / "command.py").write_text(COMMAND)
    os.mkfifo(tmp_path / "pipe")
    command = start_command(tmp_path / "command.py", tmp_path / "pipe")
    with open(tmp_path / "pipe") as pipe:
        assert pipe.readline() == "begun\n"
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(0)
        assert pipe.read() == ""
