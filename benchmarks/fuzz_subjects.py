"""What `benchmarks.fuzz` feeds with random input: each part of the program that reads a stranger's
text, file or request.

A case is a JSON value, so that it can be kept in a file and read again. Bytes are written as text
in Latin-1. A case is accepted, or refused by `UserError`, by click or by an HTTP status below 500.
Everything else is a finding.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from benchmarks.fuzz_values import (
    INDEX,
    TABLES,
    changed,
    commands,
    damaged,
    headers,
    headers_of_arrays,
    npy,
    png,
    raw_texts,
    requests,
    texts,
    views,
)


class Subject(NamedTuple):
    """cases: the strategy. read: takes a case and an empty folder. share: of all cases."""

    cases: st.SearchStrategy[Any]
    read: Callable[[Any, Path], None]
    share: float


def read_index(case: Any, folder: Path) -> None:
    from datasets.stylegan import LabelCaptions
    from datasets.text_image import TextImageDataset
    from datasets.verify import archive_faults
    from dnnlib.console import one_line
    from dnnlib.errors import UserError

    path = folder / "a.zip"
    text = case["raw"].encode("latin-1") if "raw" in case else json.dumps(case["value"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dataset.json", text)
        archive.writestr("a.png", png())
    for fault in archive_faults(path):
        no_controls(one_line(fault))
    template = "a {}" if '"labels"' in str(text) else ""
    try:
        TextImageDataset(path, split="all", labels=LabelCaptions(template=template))[0]
    except UserError as error:
        no_controls(one_line(error))


def no_controls(text: str) -> None:
    """A line for the terminal holds no control character."""
    assert all(unicodedata.category(letter) != "Cc" for letter in text), text


def read_captions(case: Any, folder: Path) -> None:
    from datasets.folder import folder_pictures
    from datasets.report import Report
    from dnnlib.text import MAX_CAPTION

    name, text = case
    (folder / "a.png").write_bytes(png())
    (folder / name).write_bytes(text.encode("latin-1"))
    report = Report()
    for raw in folder_pictures(folder, report):
        for caption in raw.captions:
            no_controls(caption)
            assert 0 < len(caption) <= MAX_CAPTION
    for line in report.lines(True):
        no_controls(line)


@functools.cache
def snapshot() -> tuple[dict[str, Any], bytes]:
    """config.json and the weights of the smallest generator, made once."""
    import tempfile

    from networks.generators import preset
    from networks.snapshot import Snapshot

    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        torch.manual_seed(0)
        path = Path(folder, "s")
        generator = preset("eidgan-tiny").build().eval()
        Snapshot(generator, "hashed", 16, {"recipe": "x", "kimg": 1.5}).save_pretrained(path)
        config = json.loads((path / "config.json").read_text())
        return config, (path / "model.safetensors").read_bytes()


def read_config(case: Any, folder: Path) -> None:
    from networks.model_card import CardFields, model_card
    from networks.snapshot import Snapshot

    text = case["raw"] if "raw" in case else json.dumps(case["value"])
    (folder / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    (folder / "model.safetensors").write_bytes(snapshot()[1])
    read = Snapshot.from_pretrained(folder)
    read.load_encoder()
    config = {"text_encoder_id": ""} | json.loads(text)
    card = model_card(config, read.generator, "0", CardFields())
    assert "<" not in card.replace("\\<", "") and "\x1b" not in card


def read_weights(case: Any, folder: Path) -> None:
    from networks.codes_file import codes_fault
    from networks.snapshot import Snapshot

    config, weights = snapshot()
    length = int.from_bytes(weights[:8], "little")
    if "raw" in case:
        head = case["raw"].encode("latin-1")
    else:
        header = json.loads(weights[8 : 8 + length]) | case["header"]
        head = json.dumps({k: v for k, v in header.items() if v != "-"}).encode()
        head = struct.pack("<Q", case.get("length", len(head)) % 2**64) + head
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "model.safetensors"
    path.write_bytes(head + weights[8 + length :])
    codes_fault(path)
    Snapshot.from_pretrained(folder)


@functools.cache
def generator() -> Any:
    from networks.generators import preset

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return preset("eidgan-tiny").build().eval().requires_grad_(False)


@functools.cache
def codes() -> Any:
    from networks.interfaces import TextFeatures

    network, config = generator(), generator().config
    z = torch.zeros(1, *network.latent_shape)
    words = torch.zeros(1, 3, config.word_dim)
    text = TextFeatures(torch.zeros(1, config.sentence_dim), words, torch.ones(1, 3).bool())
    return network.mapping(z, text)


def read_view(case: Any, folder: Path) -> None:
    from networks.view_options import ViewOptions

    options = ViewOptions(**case)
    view = options.view(3, 2)
    options.facts()
    box = view.reach()
    assert all(np.isfinite(box)), box
    with torch.no_grad():
        picture = generator().render(generator().prepare(codes(), view), slice(None), slice(None))
    assert picture.shape == (1, 3, 3, 2)
    assert picture.isfinite().all(), picture


def read_warp(case: Any, folder: Path) -> None:
    from networks.coordinates import View
    from networks.warps import read_field

    path = folder / "a.npy"
    path.write_bytes(case.encode("latin-1"))
    field = read_field(path)
    view = View(height=2, width=2).transformed(warp=field)
    view.reach()
    view.points(slice(None), slice(None), torch.device("cpu"))


@functools.cache
def client() -> Any:
    """The explorer's application with the smallest network; requests are not limited in number."""
    import tempfile

    from starlette.testclient import TestClient

    from explorer.bounded import Rates
    from explorer.catalog import Catalog
    from explorer.guard import Guard
    from explorer.painter import Painter
    from explorer.server import Explorer

    runs = Path(tempfile.mkdtemp(prefix="fuzz-runs-"))
    atexit.register(shutil.rmtree, runs, ignore_errors=True)
    folder = runs / "network-snapshot-000001"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(snapshot()[0]))
    (folder / "model.safetensors").write_bytes(snapshot()[1])
    explorer = Explorer(Catalog(runs, None), Painter(torch.device("cpu")))
    explorer.new_pictures = explorer.new_downloads = Rates(1e9, 1 << 30)
    app = TestClient(
        Guard(explorer.app(), None), base_url="http://localhost", raise_server_exceptions=False
    )
    app.__enter__()
    state = {"network": folder.name, "prompt": "a red apple"}
    return runs, app, app.post("/pictures", json=state).json()["picture"]


def read_request(case: Any, folder: Path) -> None:
    """[path, query, body, stats.jsonl]; PICTURE in the path stands for the known picture.

    A body registers a picture, of which a tile is drawn.
    """
    from urllib.parse import quote, urlencode

    runs, app, picture = client()
    path, query, body, stats = case
    if body is not None:
        text = json.dumps(body["value"]) if "value" in body else body["raw"]
        data = text.encode("utf-8", "surrogatepass")
        answer = app.post("/pictures", content=data, headers={"content-type": "application/json"})
        if answer.status_code == 200:
            answer = app.get(f"/tile/{answer.json()['picture']}/0/0/0.png")
    else:
        if stats is not None:
            (runs / "stats.jsonl").write_text(stats, encoding="utf-8", errors="surrogatepass")
        path = quote(path.replace("PICTURE", picture), errors="replace")
        answer = app.get(f"{path}?{urlencode(query, errors='replace')}")
    assert answer.status_code < 500, (answer.status_code, answer.text[:200])


def read_command(case: Any, folder: Path) -> None:
    """[command, *arguments]: in this process, on files that do not exist."""
    import importlib

    from click.testing import CliRunner

    command, *arguments = case
    module = importlib.import_module(command)
    result = CliRunner().invoke(module.main, [*arguments, *FIXED[command]], standalone_mode=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception


NOWHERE = "/nonexistent/folder"
FIXED = {
    "generate": ["--network", NOWHERE, "--outdir", f"{NOWHERE}/out"],
    "dataset_tool": [],
    "train": ["--outdir", f"{NOWHERE}/run", "--data", f"{NOWHERE}/x.zip", "--dry-run"],
}


def read_numbers(case: Any, folder: Path) -> None:
    """A text as every option that a command parses itself."""
    from dnnlib.errors import UserError
    from dnnlib.names import listing, printable, same_name_key
    from dnnlib.seeds import parse_seeds
    from explorer.tiles import Tile, requested_part
    from networks.coordinates import parse_size, parse_window
    from networks.picture_names import picture_names, slug
    from networks.view_options import parse_pair

    for parse in (
        parse_seeds, parse_size, parse_window, lambda text: parse_pair("center", text),
        lambda text: Tile.parse(text, text, text), lambda text: requested_part(text, text, 1 << 20),
    ):  # fmt: skip
        try:
            parse(case)
        except UserError as error:
            str(error)
    no_controls(printable(case))
    no_controls(listing([case]))
    same_name_key(case)
    assert "/" not in slug(case) and len(picture_names([case], [0])[0].encode()) < 255


SUBJECTS = {
    "data set index": Subject(
        changed(INDEX).map(lambda v: {"value": v})
        | damaged(json.dumps(INDEX).encode()).map(lambda raw: {"raw": raw}),
        read_index, 0.05,
    ),
    "captions": Subject(
        st.sampled_from(sorted(TABLES)).flatmap(
            lambda name: st.tuples(st.just(name), damaged(TABLES[name]) | raw_texts).map(list)
        ),
        read_captions, 0.12,
    ),
    "config.json": Subject(
        st.deferred(
            lambda: changed(snapshot()[0]).map(lambda v: {"value": v})
            | texts.map(lambda raw: {"raw": raw})
        ),
        read_config, 0.02,
    ),
    "safetensors": Subject(
        st.fixed_dictionaries({"header": headers}, optional={"length": st.integers(0, 2**64)})
        | st.binary(max_size=64).map(lambda raw: {"raw": raw.decode("latin-1")}),
        read_weights, 0.06,
    ),
    "views": Subject(views, read_view, 0.12),
    "warp files": Subject(damaged(npy()) | headers_of_arrays, read_warp, 0.15),
    "explorer": Subject(requests, read_request, 0.05),
    "option texts": Subject(texts, read_numbers, 0.42),
    "command lines": Subject(commands, read_command, 0.01),
}  # fmt: skip
