"""The page without a server: what `export.py --format html` writes, in a real browser.

Skipped where Chromium, the packages of ONNX or the archive of onnxruntime-web is missing. The
archive is in the user's cache after one `export.py --format html` on a machine with network.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from selenium.webdriver.common.keys import Keys

import export
from explorer.static_page import page_fault
from explorer.tiles import Tile
from explorer.web_runtime import cached_archive
from networks.coordinates import View
from networks.generators import preset
from networks.interfaces import codes_between
from networks.sampling import draw_codes
from networks.snapshot import Snapshot
from tests.explorer.chromium import MARKS, Page, served, started
from torch_utils.tensors import to_uint8

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
PROMPTS = ("a red apple", "a green leaf on the water")
EMPTY = '<!DOCTYPE html><link rel="icon" href="data:,">'  # no map, whose tiles would take minutes
LIMIT = 1e-3  # largest difference from PyTorch, for values in [-1, 1]

pytestmark = [
    *MARKS,
    pytest.mark.skipif(not ONNX, reason="ONNX is optional: requirements-optional.txt"),
    pytest.mark.skipif(
        not cached_archive().is_file(), reason="onnxruntime-web is not in the cache"
    ),
]

SAMPLES = 2


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A snapshot that is exported in half the time of the smallest preset. Each pixel is the mean
    of four points, so the page has to know how many places a pixel takes.
    """
    small = {"channels": (16,), "refinement": (8,), "decoder_hidden": ()}
    config = replace(preset("eidgan-tiny"), samples=SAMPLES, **small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = config.build().eval()
    path = tmp_path_factory.mktemp("run") / "network-snapshot-000001"
    Snapshot(generator, "hashed", 16, {"recipe": "test"}).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """The page of a small network that knows two prompts."""
    out = tmp_path_factory.mktemp("static") / "page"
    prompts = [word for prompt in PROMPTS for word in ("--prompts", prompt)]
    line = ["--network", str(network), "--format", "html", "--out", str(out), *prompts]
    done = CliRunner().invoke(export.main, line)
    assert done.exit_code == 0, done.output
    assert "Largest difference of the graphs from PyTorch" in done.stderr
    assert "offers the given prompts only" in done.stderr
    return out


def test_a_folder_with_a_file_of_the_user_is_not_replaced(folder):
    assert page_fault(folder) is None
    (folder / "CNAME").write_text("example.org")
    assert "also holds CNAME, which this program did not write" in str(page_fault(folder))
    (folder / "CNAME").unlink()
    assert "no graphs/facts.json of export.py --format html" in str(page_fault(folder / "page"))


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as address:
        yield address


@pytest.fixture
def page(browser, address):
    """The page, opened anew; at the end, its console must hold no error."""
    page = Page(browser)
    browser.get_log("browser")  # what other tests have left
    page.open(address)
    page.drawn()
    yield page
    messages = browser.get_log("browser")
    assert [entry for entry in messages if entry["level"] == "SEVERE"] == []


def called(page, body):
    """The result of JavaScript that may use `server`, the module of the page."""
    return page.browser.execute_async_script(
        "const [body, done] = arguments; const run = new Function('server', "
        "`return (async () => { ${body} })()`); import(new URL('page/server.js', document.baseURI))"
        ".then(run).then(done, (error) => done(String(error)));",
        body,
    )


def drawn_by(page, state, view):
    """The pixels of a view that the browser draws.  # [3, H, W]"""
    x0, y0, x1, y1 = view.box
    found = called(
        page,
        f"const {{ picture }} = await server.register({json.dumps(state)});"
        f"const rows = server.centres({y0}, {y1}, {SAMPLES * view.height});"
        f"const columns = server.centres({x0}, {x1}, {SAMPLES * view.width});"
        "return [...await server.pixelsOf(server.codesOfPicture(picture), rows, columns)];",
    )
    assert isinstance(found, list), found
    return torch.tensor(found).view(3, view.height, view.width)


def state_of(**fields):
    return {"prompt": PROMPTS[0], "seed": 0, "truncation": 1, "text_noise": None} | fields


def codes_of(snapshot, state):
    """What PyTorch draws for a state."""
    drawn = functools.partial(
        draw_codes,
        snapshot.generator,
        snapshot.load_encoder(),
        truncation=state["truncation"],
        text_noise=state["text_noise"],
    )
    codes, blend = drawn([state["prompt"]], [state["seed"]]), state.get("blend")
    if blend:
        codes = codes_between(codes, drawn([blend["prompt"]], [blend["seed"]]), blend["weight"])
    return codes


def difference(page, network):
    """The largest difference of a picture that the browser draws from PyTorch."""
    snapshot, state, view = Snapshot.from_pretrained(network), state_of(), View(height=24, width=40)
    found = drawn_by(page, state, view)
    with torch.no_grad():
        expected = snapshot.generator.synthesis(codes_of(snapshot, state), view)[0]
    return (found - expected).abs().max().item()


@pytest.mark.parametrize(
    "state",
    [
        state_of(),
        state_of(prompt=PROMPTS[1], seed=63, truncation=0.6, text_noise=0.4),
        state_of(seed=7, blend={"prompt": PROMPTS[1], "seed": 9, "weight": 0.25}),
    ],
    ids=["plain", "truncated", "interpolated"],
)
def test_the_browser_draws_what_pytorch_draws(page, network, state):
    snapshot = Snapshot.from_pretrained(network)
    view = View(height=24, width=40, box=(-0.4, 0.1, 1.3, 0.7))
    found = drawn_by(page, state, view)
    with torch.no_grad():
        expected = snapshot.generator.synthesis(codes_of(snapshot, state), view)[0]
    assert expected.std() > 0.01
    worst = (found - expected).abs().max()
    assert worst < LIMIT, worst


def test_a_tile_is_the_picture_rounded(page, network):
    snapshot, state, tile = Snapshot.from_pretrained(network), state_of(seed=5), Tile(3, 2, -1)
    found = called(
        page,
        f"const {{ picture }} = await server.register({json.dumps(state)});"
        f"const address = `/tile/${{picture}}/{tile.z}/{tile.x}/{tile.y}.png`;"
        "const bytes = await (await server.ask(address)).bytes();"
        "return btoa(String.fromCharCode(...bytes));",
    )
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB"))
    with torch.no_grad():
        drawn = snapshot.generator.synthesis(codes_of(snapshot, state), tile.view())[0]
    expected = to_uint8(drawn).permute(1, 2, 0).numpy()
    assert image.shape == expected.shape and expected.std() > 1
    assert np.abs(image.astype(int) - expected).max() <= 1


def test_pan_zoom_and_come_back_by_the_link(page):
    assert page.link()["prompt"] == "a+red+apple" and page.tiles() >= 2
    view, zoom = page.element("map-a"), float(page.link()["zoom"])
    for _ in range(10):
        view.send_keys(Keys.ADD)
    page.until(lambda: float(page.link()["zoom"]) == zoom + 10)
    page.drawn()
    assert page.tiles() >= 2 and page.element("error").text == ""
    here = page.browser.current_url
    page.open(here)
    page.drawn()
    assert page.browser.current_url == here and page.tiles() >= 2


def test_what_the_page_cannot_do_is_a_sentence_or_absent(page):
    for name in ("training-open", "rotate", "warp", "copy-command"):
        assert not page.element(name).is_displayed()
    page.type("prompt", "a blue whale", Keys.ENTER)
    page.until(lambda: "the prompts of its list only" in page.element("error").text)
    page.type("prompt", PROMPTS[1], Keys.ENTER)
    page.drawn()
    assert page.element("error").text == ""
    page.type("seed", "64", Keys.TAB)
    page.until(lambda: "holds the seeds 0 to 63" in page.element("error").text)
    assert called(page, "return (await server.register({rotate: 5})).picture") == (
        "Error: Rotation and warps need the server of explore.py."
    )


def test_a_download_has_the_size_that_was_asked(page, downloads):
    page.type("width", "300")
    page.type("height", "500")  # more than one stripe
    page.click("download")
    page.until(lambda: list(downloads.glob("a-red-apple-seed*.png")))
    (file,) = downloads.glob("a-red-apple-seed*.png")
    image = Image.open(file)
    assert image.size == (300, 500) and np.asarray(image)[-1].std() > 1


def test_no_script_of_a_stranger_runs(page):
    page.browser.execute_script(
        "const one = document.createElement('script'); one.textContent = 'window.ran = true';"
        "document.head.append(one);"
    )
    assert page.browser.execute_script("return window.ran === undefined")
    (refusal,) = [one for one in page.browser.get_log("browser") if one["level"] == "SEVERE"]
    assert "Content Security Policy" in refusal["message"]


def test_webgpu_is_refused_where_there_is_none(page, address):
    page.browser.get(f"{address}?gpu")
    page.until(lambda: "offers no WebGPU" in page.element("error").text)


# Takes the place of the runtime for WebGPU: WebAssembly, whose pictures are brighter by OFFSET.
# It draws CALLS times, and fails after that.
PRETENDED = """
import * as ort from "./ort.wasm.bundle.min.mjs";
export const { Tensor } = ort;
export const env = { wasm: {} };
const binary = new URL("./ort-wasm-simd-threaded.wasm", import.meta.url).href;
Object.assign(ort.env.wasm, { wasmPaths: { wasm: binary }, numThreads: 1 });
async function create(address, { executionProviders: [first] }) {
  const session = await ort.InferenceSession.create(address, { executionProviders: ["wasm"] });
  if (first === "wasm") return session;
  let calls = 0;
  const run = async (feeds) => {
    calls += 1;
    if (calls > CALLS) throw new Error("the device is lost");
    const { data, dims } = (await session.run(feeds)).image;
    return { image: new Tensor("float32", data.map((value) => value + OFFSET), dims) };
  };
  return { inputNames: session.inputNames, run };
}
export const InferenceSession = { create };
"""


@contextlib.contextmanager
def pretending(folder, copy, offset, calls="Infinity"):
    """The address of a copy of the page whose runtime for WebGPU is `PRETENDED`."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.asyncify.wasm"))
    (copy / "empty.html").write_text(EMPTY)
    text = PRETENDED.replace("OFFSET", str(offset)).replace("CALLS", str(calls))
    (copy / "runtime" / "ort.webgpu.bundle.min.mjs").write_text(text)
    with served(copy) as address:
        yield f"{address}empty.html"


@pytest.fixture(scope="module", params=[LIMIT / 2, LIMIT * 2], ids=["near", "far"])
def pretended(request, folder, tmp_path_factory):
    """The address of a page whose runtime for WebGPU is `PRETENDED`, and its offset."""
    copy = tmp_path_factory.mktemp("pretended") / "page"
    with pretending(folder, copy, request.param) as address:
        yield address, request.param


# What `navigator.gpu` of a page offers.
ADAPTERS = {
    "processor": "{ info: {} }",
    "software": "{ info: { isFallbackAdapter: true } }",
    "older software": "{ isFallbackAdapter: true }",
    "none": "null",
}


def offer(browser, offered):
    """Have `navigator.gpu` of the open page offer one of `ADAPTERS`."""
    browser.execute_script(
        "Object.defineProperty(navigator, 'gpu', { value: { requestAdapter: async () => ("
        f"{ADAPTERS[offered]}) }} }});"
    )


@pytest.mark.parametrize("offered", ADAPTERS)
@pytest.mark.parametrize("asked", ["", "?gpu", "?cpu"], ids=["default", "gpu", "cpu"])
def test_webgpu_draws_where_it_is_real_and_agrees(browser, pretended, network, offered, asked):
    address, offset = pretended
    browser.get(address + asked)
    offer(browser, offered)
    page, agrees = Page(browser), offset < LIMIT
    if asked == "?gpu" and offered == "none":
        assert "offers no WebGPU" in called(page, "await server.ask('/options')")
        return
    by_gpu = asked == "?gpu" or (asked == "" and offered == "processor" and agrees)
    assert difference(page, network) == pytest.approx(offset if by_gpu else 0, abs=LIMIT / 10)


def test_webassembly_takes_over_where_webgpu_fails_later(browser, folder, network, tmp_path):
    offset = LIMIT / 2
    calls = 2  # the comparison with WebAssembly, and one picture
    with pretending(folder, tmp_path / "page", offset, calls) as address:
        browser.get(address)
        offer(browser, "processor")
        page = Page(browser)
        for expected in (offset, 0, 0):
            assert difference(page, network) == pytest.approx(expected, abs=LIMIT / 10)


@pytest.fixture(scope="module")
def software_gpu(tmp_path_factory):
    """A browser whose WebGPU is computed in software."""
    flags = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    browser = started(tmp_path_factory.mktemp("downloads"), flags)
    browser.set_script_timeout(300)  # a minute on a slow core, with the shaders
    yield browser
    browser.quit()


@pytest.fixture
def empty_page(folder, address):
    (folder / "empty.html").write_text(EMPTY)
    yield f"{address}empty.html"
    (folder / "empty.html").unlink()


def test_webgpu_draws_what_pytorch_draws(software_gpu, empty_page, network):
    software_gpu.get(f"{empty_page}?gpu")
    offered = software_gpu.execute_async_script(
        "const [done] = arguments; Promise.resolve(navigator.gpu && "
        "navigator.gpu.requestAdapter()).then((found) => done(Boolean(found)));"
    )
    if not offered:
        pytest.skip("this Chromium computes no WebGPU in software")
    assert difference(Page(software_gpu), network) < LIMIT / 10
