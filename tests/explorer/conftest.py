"""A folder of runs with one network, and the explorer that serves it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from explorer.catalog import Catalog
from explorer.guard import Guard
from explorer.painter import Painter
from explorer.server import Explorer
from tests.explorer import chromium

NAME = "demo/network-snapshot-000001"


@pytest.fixture(scope="session")
def runs(network, tmp_path_factory):
    """The folder of runs: a snapshot, three records, one of them half-written, and two grids."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(network, folder / NAME)
    records = [
        {"kimg": kimg, "eta_s": 60.0, "Loss/G": loss, "Loss/D": 1.0, "tick": kimg}
        for kimg, loss in ((1.0, 2.5), (2.0, float("nan")), (3.0, 1.25))
    ]
    lines = [json.dumps(record) for record in records] + ['{"kimg": 4.0, "Lo']
    (folder / "demo" / "stats.jsonl").write_text("\n".join(lines))
    for name in ("fakes000000.png", "fakes000002.png", "reals.png"):
        Image.new("RGB", (8, 8)).save(folder / "demo" / name)
    return folder


@pytest.fixture
def explorer(runs):
    return Explorer(Catalog(runs, None), Painter(torch.device("cpu")))


@pytest.fixture
def client(explorer):
    with TestClient(Guard(explorer.app(), None), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def state():
    return {"network": NAME, "prompt": "a red apple", "seed": 3}


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(downloads):
    browser = chromium.started(downloads)
    yield browser
    browser.quit()
