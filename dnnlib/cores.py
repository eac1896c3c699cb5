"""The number of processor cores that this process may use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def num_cores() -> int:
    """Cores in this process's affinity mask, or fewer if a container's CPU quota is smaller."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
        cores = min(cores, max(1, quota // period))
    return cores
