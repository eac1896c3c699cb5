"""The page in a real browser (`tests.explorer.chromium`)."""

from __future__ import annotations

import shlex
import time
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import generate
from benchmarks.explorer_panning import panning
from tests.commands.forked import start_command
from tests.explorer.chromium import MARKS, Page
from tests.explorer.conftest import NAME

pytestmark = MARKS


class Server:
    """explore.py as a process that can be ended and started again on its port."""

    def __init__(self, runs, *more):
        self.runs, self.more, self.port = runs, more, 0
        self.start()

    def start(self):
        words = ("--runs", self.runs, "--port", self.port, "--device", "cpu", *self.more)
        self.command = start_command("explore.py", *words)
        output = self.command.files[0]
        while "Open " not in output.read_text():
            assert self.command.process.is_alive(), self.command.files[1].read_text()
            time.sleep(0.02)
        self.address = output.read_text().split("Open ")[1].split()[0]
        self.port = urlsplit(self.address).port or 0


@pytest.fixture(scope="module")
def server(runs):
    server = Server(runs)
    yield server
    server.command.kill()


@pytest.fixture
def page(browser, server):
    """The page, opened anew; at the end, its console must hold no error but refused requests."""
    page = Page(browser)
    page.open(server.address)
    browser.get_log("browser")
    yield page
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert [text for text in messages if "Failed to load resource" not in text] == []


def test_type_pan_zoom_and_come_back_by_the_link(page, server):
    page.type("prompt", "a <b>red</b> apple", Keys.ENTER)
    page.drawn()
    assert page.tiles() >= 4 and page.element("error").text == ""
    assert page.link()["prompt"] == "a+%3Cb%3Ered%3C%2Fb%3E+apple"
    assert "a <b>red</b> apple" in page.script("document.getElementById('status').textContent")

    view = page.element("map-a")
    view.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    page.until(lambda: float(page.link()["x"]) > 0.6)
    zoom = float(page.link()["zoom"])
    for _ in range(10):
        view.send_keys(Keys.ADD)
    page.until(lambda: float(page.link()["zoom"]) == zoom + 10)
    page.drawn()
    level = round(zoom + 10)
    assert level >= 10 and page.requests(f"/{level}/")
    for _ in range(14):
        view.send_keys(Keys.SUBTRACT)
    page.until(lambda: float(page.link()["zoom"]) == -3)
    page.drawn()
    assert page.requests("/-3/")

    page.click("home")
    page.until(lambda: float(page.link()["zoom"]) == zoom)
    page.type("seed", "11", Keys.TAB)
    page.drawn()
    here, link = page.browser.current_url, page.link()
    page.open(here)
    page.drawn()
    assert page.link() == link and page.element("seed").get_attribute("value") == "11"
    assert page.tiles() >= 4


def test_the_benchmark_drags_the_map_and_counts_its_frames(server):
    row = panning(server.address, "a red apple", 0.5)
    assert 0.3 < row["seconds"] < 10 and 0 < row["frames_per_s"] < 70
    assert row["moves"] > 3 and row["moved_share"] > 0 and row["new_tiles"] == 0


class Fingers:
    """Touches of the screen, as Chromium makes them of a touch screen."""

    def __init__(self, browser):
        self.command = browser.execute_cdp_cmd

    def move(self, *paths):
        """One finger for each path, a sequence of (x, y) in pixels; all paths have one length."""
        for number, places in enumerate(zip(*paths, strict=True)):
            points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
            kind = "touchMove" if number else "touchStart"
            self.command("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        self.command("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.fixture
def fingers(page, server):
    """A page on a touch screen."""
    command = page.browser.execute_cdp_cmd
    command("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    page.open(server.address)
    yield Fingers(page.browser)
    command("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_a_finger_drags_and_two_fingers_zoom(page, fingers):
    page.type("prompt", "a red apple", Keys.ENTER)
    page.drawn()
    zoom = float(page.link()["zoom"])
    fingers.move([(300 - 10 * i, 300) for i in range(13)])
    page.until(lambda: page.link()["x"] != "0.5")
    assert float(page.link()["x"]) == pytest.approx(0.5 + 120 / (256 * 2**zoom), abs=0.1)
    assert float(page.link()["y"]) == pytest.approx(0.5, abs=0.02)
    # From 80 pixels apart to 160: one level more.
    steps = range(9)
    fingers.move([(310 - 40 - 5 * i, 320) for i in steps], [(310 + 40 + 5 * i, 320) for i in steps])
    page.until(lambda: float(page.link()["zoom"]) != zoom)
    assert float(page.link()["zoom"]) == pytest.approx(zoom + 1, abs=0.25)
    page.drawn()
    assert page.tiles() >= 2 and page.element("error").text == ""


def test_side_by_side_moves_together(page):
    page.type("prompt", "a red apple", Keys.ENTER)
    page.drawn()
    page.click("compare")
    page.type("prompt2", "a green leaf", Keys.TAB)
    page.drawn()
    assert page.tiles(pane="map-a") >= 2 and page.tiles(pane="map-b") >= 2
    assert page.link()["compare"] == "true" and page.link()["prompt2"] == "a+green+leaf"
    names = {name.split("/tile/")[1].split("/")[0] for name in page.requests("/tile/")}
    assert len(names) == 2
    page.element("map-b").send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    page.until(lambda: float(page.link()["y"]) > 0.6)
    outlines = "[...document.querySelectorAll('path.outline')].map((e) => e.getBoundingClientRect()"
    tops = page.script(f"{outlines}.top)")
    assert len(tops) == 2 and max(tops) - min(tops) < 1.5  # Leaflet rounds each map to a pixel


def test_a_download_is_what_the_copied_command_writes(page, downloads, tmp_path):
    page.type("prompt", "a red apple", Keys.ENTER)
    page.type("width", "48")
    page.type("height", "32")
    page.click("download")
    page.until(lambda: list(downloads.glob("*.png")))
    (file,) = downloads.glob("*.png")
    page.click("copy-command")
    page.until(lambda: page.element("copied").get_attribute("value"))
    words = shlex.split(page.element("copied").get_attribute("value"))[2:]
    done = CliRunner().invoke(generate.main, [*words, "--outdir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_sliders_interpolation_and_an_error(page):
    page.click("draw")
    page.until(lambda: page.element("error").text)
    assert page.element("error").text == f"network {NAME}: reads a prompt; type what it shall draw"
    page.type("prompt", "a red apple", Keys.ENTER)
    page.drawn()
    assert page.element("error").text == ""
    page.click("play")
    page.until(lambda: "type the prompt or the seed" in page.element("error").text)
    page.type("to-seed", "9", Keys.TAB)
    page.click("play")
    page.until(lambda: float(page.element("weight").get_attribute("value")) >= 0.2)
    page.click("play")
    page.drawn()
    assert page.element("play").get_attribute("aria-pressed") == "false"
    assert page.tiles() >= 4 and float(page.link()["weight"]) > 0
    page.element("rotate").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.link().get("rotate") == "1")
    page.drawn()


def test_the_training_panel(page):
    page.click("training-open")
    page.until(lambda: page.script("document.querySelectorAll('#charts polyline').length") == 2)
    assert "3.0 kimg" in page.element("run-facts").text
    assert page.element("grid-image").get_attribute("alt") == "Samples after 2 kimg"
    page.until(lambda: page.script("document.getElementById('grid-image').naturalWidth") == 8)


def test_every_control_has_a_name(page):
    unnamed = page.script(
        "[...document.querySelectorAll('input, select, textarea, button')].filter((e) => "
        "!(e.labels && e.labels.length) && !e.textContent.trim() && "
        "!e.getAttribute('aria-label')).map((e) => e.id)"
    )
    assert unnamed == []
    page.browser.find_element(By.TAG_NAME, "body").send_keys("/")
    assert page.script("document.activeElement.id") == "prompt"
    for wanted in ("light", "dark", None):
        page.click("theme")
        assert page.script("document.documentElement.dataset.theme || null") == wanted


def test_a_server_that_dies_and_comes_back(page, server):
    page.type("prompt", "a red apple", Keys.ENTER)
    page.drawn()
    server.command.kill()
    page.type("prompt", "a green leaf", Keys.ENTER)
    page.until(lambda: "The explorer does not answer" in page.element("error").text)
    server.start()
    page.until(lambda: not page.element("error").text)
    page.drawn()
    assert page.tiles() >= 4


def test_a_server_that_comes_back_with_another_token(page, runs):
    server = Server(runs, "--host", "127.0.0.2")  # not one of the names that need no token
    try:
        page.open(server.address)
        page.type("prompt", "a red apple", Keys.ENTER)
        page.drawn()
        said = page.script("document.getElementById('status').textContent")
        assert said == "Shown: a red apple, seed 0" and page.tiles() >= 4
        server.command.kill()
        page.type("prompt", "a green leaf", Keys.ENTER)
        page.until(lambda: "The explorer does not answer" in page.element("error").text)
        old = server.address
        server.start()
        assert server.address != old
        page.until(lambda: "open the link with its token" in page.element("error").text)
        assert page.script("document.getElementById('status').textContent") == ""
        page.open(server.address)
        page.type("prompt", "a green leaf", Keys.ENTER)
        page.drawn()
        assert page.tiles() >= 4 and page.element("error").text == ""
    finally:
        server.command.kill()
