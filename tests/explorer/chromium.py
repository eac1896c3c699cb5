"""A browser (`benchmarks.chromium`), and what the tests do with the explorer's page.

Tests are skipped where Chromium or its driver is not installed.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from selenium.webdriver.common.by import By

from benchmarks import chromium

SIZE_PX = (900, 700)
PATIENCE_S = 30

MARKS = [
    pytest.mark.slow,
    pytest.mark.multi_process,
    pytest.mark.skipif(
        bool(chromium.missing()), reason="needs the packages chromium and chromium-driver"
    ),
]


def started(downloads, more_flags=()):
    """A browser that saves downloads in this folder."""
    return chromium.started(SIZE_PX, ("--force-prefers-reduced-motion", *more_flags), downloads)


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line of log for each request."""

    def log_message(self, format, *arguments):
        pass


@contextlib.contextmanager
def served(folder):
    """The address of a static host that serves this folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Page:
    """What the tests do with the page."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, address):
        self.browser.get("about:blank")
        self.browser.get(address)
        self.until(lambda: self.script("document.body.dataset.ready === 'true'"))
        self.script("performance.setResourceTimingBufferSize(5000)")

    def script(self, expression):
        return self.browser.execute_script(f"return {expression}")

    def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, self.element("error").text
            time.sleep(0.03)

    def element(self, name):
        return self.browser.find_element(By.ID, name)

    def type(self, name, text, *keys):
        field = self.element(name)
        field.clear()
        field.send_keys(text, *keys)

    def click(self, name):
        self.browser.execute_script("arguments[0].click()", self.element(name))

    def drawn(self):
        """Wait until nothing is loading any more."""
        self.until(lambda: self.script("document.body.dataset.busy === 'false'"))

    def tiles(self, pane="map-a"):
        """How many tiles a map shows."""
        return self.script(f"document.querySelectorAll('#{pane} .leaflet-tile-loaded').length")

    def link(self):
        """The state in the address; places have the page's defaults where it holds none."""
        fragment = self.browser.current_url.partition("#")[2]
        given = dict(part.split("=") for part in fragment.split("&") if part)
        return {"x": "0.5", "y": "0.5", "zoom": "1"} | given

    def requests(self, part):
        names = self.script("performance.getEntriesByType('resource').map((e) => e.name)")
        return [name for name in names if part in name]
