"""The routes: answers, refusals in sentences, and the same bytes as generate.py."""

from __future__ import annotations

import asyncio
import io
import shlex
import threading
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from starlette.testclient import TestClient

import generate
from dnnlib.errors import UserError
from explorer.bounded import Rates
from explorer.catalog import Catalog
from explorer.guard import HEADERS, Guard
from explorer.painter import REMEDY, Painter
from explorer.server import MAX_BODY, Explorer
from explorer.state import PictureState
from explorer.tiles import MAX_ZOOM, Tile
from explorer.worker import Worker
from networks.generators import preset
from networks.shipped_networks import shipped_networks
from networks.snapshot import Snapshot
from tests.explorer.conftest import NAME


def registered(client, state):
    return client.post("/pictures", json=state).json()["picture"]


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return answer.json()["error"]


def test_a_picture_and_its_tiles(client, explorer, state):
    answer = client.post("/pictures", json=state).json()
    assert answer["resolution"] == 16 and answer["reads_text"] is True and answer["note"] is None
    assert registered(client, state) == answer["picture"]
    tile = client.get(f"/tile/{answer['picture']}/1/-1/0.png")
    assert tile.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(tile.content)) as image:
        assert image.size == (256, 256) and np.array(image).std() > 1
    assert len(explorer.painter.tiles) == 1
    assert client.get(f"/tile/{answer['picture']}/1/-1/0.png").content == tile.content
    preview = client.get(f"/preview/{answer['picture']}.png?window=-1,0,1,1&size=64x32")
    with Image.open(io.BytesIO(preview.content)) as image:
        assert image.size == (64, 32)


def test_tiny_previews_do_not_outgrow_the_cache(client, explorer, state, monkeypatch):
    """A key and its entry take more memory than the file of a picture of one pixel."""
    monkeypatch.setattr(explorer.painter.tiles, "max_bytes", 5000)
    picture = registered(client, state)
    address = f"/preview/{picture}.png?size=1x1&window=0,0,1,"
    for side in range(1, 7):
        assert client.get(f"{address}{side}").status_code == 200
    assert len(explorer.painter.tiles) < 5
    long = client.get(f"{address}1.{'0' * 200}e9")  # far away, but not in its first 200 characters
    assert "has more than 200 characters" in refused(long, 400)


def test_the_page_and_its_files(client):
    page = client.get("/")
    assert "EIDGAN explorer" in page.text
    for name in ("app.js", "style.css", "leaflet.js", "leaflet.css"):
        assert f'"page/{name}"' in page.text
        assert client.get(f"/page/{name}").status_code == 200
    assert "<script>" not in page.text and "style=" not in page.text and "http" not in page.text
    for name in ("server.py", "..%2fserver.py", "%2fetc%2fpasswd"):
        assert client.get(f"/page/{name}").status_code == 404


@pytest.mark.parametrize(
    "change, window",
    [
        ({}, "0,0,1,1"),
        (
            {
                "truncation": 0.7,
                "text_noise": 0.25,
                "rotate": 30.0,
                "warp": "swirl",
                "blend": {"prompt": "a green 'leaf'", "seed": 5, "weight": 0.35},
            },
            "-0.251,-1e-3,1.25,0.75",
        ),
    ],
    ids=["plain", "everything"],
)
def test_a_download_has_the_bytes_of_its_command(client, state, tmp_path, change, window):
    picture = registered(client, state | change)
    query = f"{picture}.png?window={window}&size=40x30"
    download = client.get(f"/download/{query}")
    assert download.status_code == 200, download.text
    line = client.get(f"/command/{query.replace('.png', '')}").json()["command"]
    script, *words = shlex.split(line)[1:]
    assert script == "generate.py"
    done = CliRunner().invoke(generate.main, [*words, "--outdir", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "out").iterdir()
    assert file.read_bytes() == download.content
    assert download.headers["content-disposition"].endswith(file.name)


@pytest.mark.parametrize(
    "size, sentence",
    [
        ("900x900", None),
        ("1024x1024", "cannot tell apart"),
        ("65537x1", "at most 65536 pixels a side"),
    ],
)
def test_a_download_is_refused_where_its_command_is(
    client, explorer, state, tmp_path, size, sentence
):
    reach = 450 / 256 / 2**MAX_ZOOM  # half of what a map of 900 pixels shows at the last level
    window = ",".join(repr(0.5 + side) for side in (-reach, -reach, reach, reach))
    picture = registered(client, state)
    query = f"window={window}&size={size}"
    download = client.get(f"/download/{picture}.png?{query}")
    command = client.get(f"/command/{picture}?{query}")
    path = explorer.catalog.path_of(NAME)
    words = shlex.split(PictureState.parse(state).command(path, window, size, {}))[2:]
    done = CliRunner().invoke(generate.main, [*words, "--outdir", str(tmp_path / "out")])
    if sentence is None:
        assert done.exit_code == 0, done.output
        (file,) = (tmp_path / "out").iterdir()
        assert download.content == file.read_bytes()
        assert shlex.split(command.json()["command"])[2:] == words
    else:
        assert done.exit_code and sentence in done.output
        assert sentence in refused(download, 400) and sentence in refused(command, 400)


@pytest.mark.parametrize(
    "state, sentence",
    [
        ({"network": "/etc/passwd", "prompt": "a"}, "network '/etc/passwd': is not in the list"),
        ({"network": f"../{NAME}", "prompt": "a"}, f"network '../{NAME}': is not in the list"),
        ({"network": NAME}, f"network {NAME}: reads a prompt; type what it shall draw"),
        ({"network": NAME, "prompt": "a", "blend": {}}, f"network {NAME}: reads a prompt"),
        ([1], "picture: expected an object"),
    ],
)
def test_states_that_are_refused(client, state, sentence):
    assert refused(client.post("/pictures", json=state), 400).startswith(sentence)


def test_networks_without_a_map_or_without_text(tmp_path, state):
    textless = replace(preset("eidgan-tiny"), sentence_dim=0, word_dim=0)
    for name, config in (("stylegan2", preset("stylegan2-tiny")), ("textless", textless)):
        Snapshot(config.build().eval(), "hashed", 16).save_pretrained(tmp_path / name)
    painter = Painter(torch.device("cpu"))
    parsed = PictureState.parse(state)
    with pytest.raises(UserError, match="draw one size only, so there is no map of it"):
        painter.register(parsed, str(tmp_path / "stylegan2"))
    with pytest.raises(UserError, match="was trained without text and reads no prompt"):
        painter.register(parsed, str(tmp_path / "textless"))
    empty = PictureState.parse(state | {"prompt": ""})
    picture, facts = painter.register(empty, str(tmp_path / "textless"))
    assert not facts["reads_text"] and painter.preview(picture, "0,0,1,1", 4, 4)


def test_requests_that_are_refused(client, state):
    picture = registered(client, state)
    for part in ("window=0,0,1,1&size=1000x1000", "window=0,0,1,1", "window=1,0,0,1&size=4x4"):
        assert refused(client.get(f"/preview/{picture}.png?{part}"), 400)
    assert "at most 16777216 pixels" in refused(
        client.get(f"/download/{picture}.png?size=5000x5000"), 400
    )
    assert "the map has the levels" in refused(client.get(f"/tile/{picture}/99/0/0.png"), 400)
    assert "does not know the picture" in refused(client.get("/tile/0/0/0/0.png"), 404)
    assert refused(client.post("/pictures", content=b"{}"), 415)
    kind = {"Content-Type": "application/json"}
    assert "no JSON" in refused(client.post("/pictures", content=b"{", headers=kind), 400)
    deep = b"[" * (MAX_BODY - 1)
    assert "no JSON" in refused(client.post("/pictures", content=deep, headers=kind), 400)
    assert refused(client.post("/pictures", content=b" " * MAX_BODY + b"{}", headers=kind), 413)
    answer = client.get("/pictures")
    assert "does not take such a request" in refused(answer, 405)
    assert answer.headers["allow"] == "POST"
    assert "nothing at this address" in refused(client.get("/nothing"), 404)
    assert refused(client.get("/page/nothing.js"), 404) == "the page has no such file"


def test_a_prompt_that_is_cut_and_one_of_markup(client, state):
    prompt = "<script>alert(1)</script>"
    answer = client.post("/pictures", json=state | {"prompt": prompt})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_rates_and_a_full_queue(client, explorer, state):
    picture = registered(client, state)
    explorer.tiles = Worker("tiles", 0)
    assert "the server is busy" in refused(client.get(f"/tile/{picture}/0/0/0.png"), 503)
    explorer.tiles = Worker("tiles", 4)
    explorer.new_downloads = explorer.new_pictures = Rates(1, 2, clock=lambda: 0.0)
    address = f"/download/{picture}.png?size=2x2"
    assert [client.get(address).status_code for _ in range(3)] == [200, 200, 429]
    answer = client.post("/pictures", json=state)
    assert "too many pictures at once" in refused(answer, 429)
    assert answer.headers["retry-after"] == "1"


def test_a_prompt_is_encoded_once(explorer, state):
    painter, path = explorer.painter, explorer.catalog.path_of(NAME)
    encoder = painter.network(path).encoder.encoder
    with mock.patch.object(encoder, "encode_text", wraps=encoder.encode_text) as encode:
        for change in ({}, {"seed": 9}, {"truncation": 0.5}, {"prompt": "a dog"}):
            painter.register(PictureState.parse(state | change), path)
        assert [call.args[0] for call in encode.call_args_list] == [["a red apple"], ["a dog"]]


def test_a_picture_of_a_network_that_has_changed(explorer, state, network, tmp_path):
    painter, parsed = explorer.painter, PictureState.parse(state)
    path = tmp_path / "snapshot"
    snapshot = Snapshot.from_pretrained(network)
    snapshot.save_pretrained(path)
    first, _ = painter.register(parsed, str(path))
    snapshot.generator.tokens_mean.add_(1)
    snapshot.save_pretrained(path)
    second, _ = painter.register(parsed, str(path))
    assert first.key != second.key
    tile = Tile(0, 0, 0)
    for draw in (
        lambda: painter.codes(first),
        lambda: painter.share([(first, tile)]),
        lambda: painter.tile(first, tile),
        lambda: painter.preview(first, "0,0,1,1", 2, 2),
        lambda: painter.download(first, "0,0,1,1", 2, 2),
    ):
        with pytest.raises(UserError, match="has changed; draw the picture again"):
            draw()
    assert painter.tile(second, tile)


def test_memory_that_runs_out_while_lines_are_shared(explorer, client, state, monkeypatch):
    def share(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    picture = registered(client, state)
    monkeypatch.setattr(explorer.painter.strips, "share", share)
    sentence = refused(client.get(f"/tile/{picture}/0/0/0.png"), 400)
    assert sentence == f"out of memory: {REMEDY} (Tried to allocate 2 GiB)"


@pytest.mark.parametrize("degrees", [360, -360, 0])
def test_a_full_turn_is_no_turn(client, explorer, state, degrees):
    picture = registered(client, state | {"rotate": degrees})
    assert client.get(f"/tile/{picture}/0/0/0.png").status_code == 200
    tile, plain = Tile(0, 0, 0), registered(client, state)
    of = explorer.pictures.get
    drawn, wanted = (explorer.painter.pixels(of(name), tile) for name in (picture, plain))
    assert torch.equal(drawn, wanted)


def test_a_job_is_dropped_when_its_client_goes_away(explorer, state):
    with TestClient(explorer.app()) as client:
        picture = registered(client, state)
    gate, entered = threading.Event(), threading.Event()

    def first():
        entered.set()
        gate.wait()

    running = explorer.tiles.submit(first)
    entered.wait()
    path = f"/tile/{picture}/3/0/0.png"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
    }
    sent = []

    async def ask():
        messages: asyncio.Queue = asyncio.Queue()
        messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        task = asyncio.create_task(explorer.app()(scope, messages.get, collect))
        while explorer.tiles.num_waiting() == 0:
            await asyncio.sleep(0)
        messages.put_nowait({"type": "http.disconnect"})
        await task

    async def collect(message):
        sent.append(message)

    asyncio.run(ask())
    assert explorer.tiles.num_waiting() == 0 and sent[0]["status"] == 499
    gate.set()
    running.result()
    assert len(explorer.painter.tiles) == 0


def test_every_answer_has_the_headers(client):
    for answer in (client.get("/"), client.get("/nothing"), client.get("/options")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_a_foreign_name_of_this_machine_is_refused(explorer):
    app = Guard(explorer.app(), None)
    for base in ("http://localhost:8000", "http://127.0.0.1:1", "http://[::1]:8000"):
        assert TestClient(app, base_url=base).get("/options").status_code == 200
    for base in ("http://evil.example", "http://localhost.evil.example:8000"):
        assert refused(TestClient(app, base_url=base).get("/options"), 421)


def test_a_token_opens_the_page_once_and_a_cookie_after_it(explorer):
    client = TestClient(Guard(explorer.app(), "secret"), base_url="http://server:8000")
    for address in ("/", "/options", "/page/app.js", "/?token=wrong", "/?token="):
        assert "token" in refused(client.get(address), 401)
    assert refused(client.get("/options", headers={"Cookie": "explorer=secre"}), 401)
    answer = client.get("/?token=secret", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert client.get("/options").status_code == 200


def test_the_panel_of_a_run(client, runs):
    assert client.get("/options").json()["runs"] == ["demo"]
    found = client.get("/runs/curves?run=demo").json()
    assert found["kimg"] == [1.0, 2.0, 3.0] and found["last"] == {"kimg": 3.0, "eta_s": 60.0}
    assert found["series"] == {"Loss/D": [1.0, 1.0, 1.0], "Loss/G": [2.5, None, 1.25]}
    assert found["grids"] == ["fakes000000.png", "fakes000002.png"]
    grid = client.get("/runs/grid.png?run=demo&name=fakes000002.png")
    assert grid.content == (runs / "demo" / "fakes000002.png").read_bytes()
    for query in ("run=demo&name=reals.png", "run=..&name=fakes000002.png", "run=demo&name=../x"):
        assert refused(client.get(f"/runs/grid.png?{query}"), 400)
    assert "did you mean 'demo'" in refused(client.get("/runs/curves?run=dem"), 400)


def test_a_bug_is_a_sentence_too(explorer, monkeypatch):
    monkeypatch.setattr(explorer.catalog, "networks", lambda: 1 / 0)
    client = TestClient(explorer.app(), raise_server_exceptions=False)
    assert "its terminal shows why" in refused(client.get("/options"), 500)


def test_options_name_the_networks_and_more_of_the_command(runs, state):
    catalog = Catalog(runs, str(runs / "demo"))
    assert list(catalog.networks()) == [NAME, *shipped_networks()]
    explorer = Explorer(catalog, Painter(torch.device("cpu")), {"--device": "cpu"})
    with TestClient(explorer.app()) as client:
        picture = registered(client, state)
        line = client.get(f"/command/{picture}?size=8x8").json()["command"]
    assert line.endswith("--size 8x8 --device cpu")
