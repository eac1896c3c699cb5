"""Every test: one thread, no network, no waiting for the disk, no GPU test without a GPU."""

from __future__ import annotations

import gc
import os
import socket

# One thread each, also in the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)  # the networks of tests are too small for more
# A test that is killed leaves its files in the memory of the system, so nothing waits for the disk.
# Tests of `os.fsync` put another function in its place.
os.fsync = lambda fd: None


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    real = socket.socket.connect

    def connect(self, address):
        host = address[0] if isinstance(address, tuple) else address
        if self.family == socket.AF_UNIX or host in ("127.0.0.1", "::1", "localhost"):
            return real(self, address)
        raise OSError(f"a test tried to reach {host}")

    monkeypatch.setattr(socket.socket, "connect", connect)


def pytest_collection_finish():
    """Exempt the imported modules from garbage collection, which would visit them every time."""
    gc.freeze()


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def openmoji32(tmp_path_factory):
    """A real archive: 40 OpenMoji pictures at 32 x 32.

    Pictures of one concept are in one split.
    """
    from datasets.archive import write_archive
    from datasets.openmoji import find_emojis, openmoji_info, openmoji_pictures

    path = tmp_path_factory.mktemp("data") / "openmoji32.zip"
    emojis, unnamed = find_emojis(max_images=40)
    pictures, info = openmoji_pictures(emojis, (32, 32)), openmoji_info(emojis, unnamed)
    write_archive(path, pictures, (32, 32), info)
    return path


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The folder of a snapshot of the smallest generator, with drawn weights, for 16 x 16."""
    from networks.generators import preset
    from networks.snapshot import Snapshot

    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = preset("eidgan-tiny").build().eval()
    folder = tmp_path_factory.mktemp("run") / "network-snapshot-000001"
    Snapshot(generator, "hashed", 16, {"recipe": "test"}).save_pretrained(folder)
    return folder
