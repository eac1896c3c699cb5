"""Frames a second while the explorer's map is dragged, in Chromium without a screen.

The mouse goes round a circle, with real events of the browser, and the page counts its animation
frames. A first round loads the tiles that the circle needs, so the measured ones draw what is
loaded.
"""

from __future__ import annotations

import itertools
import math
import time

from selenium import webdriver

from benchmarks import chromium

SIZE_PX = (1280, 800)
RADIUS_PX = 100
ROUND_S = 1.0  # time of one round
EVENT_S = 1 / 120  # between two moves of the mouse, at least
LIMIT_S = 120.0  # for the page to load
DRAW = """
document.getElementById('prompt').value = arguments[0];
document.getElementById('picture').requestSubmit();
document.body.dataset.busy = 'true';
"""
COUNT = """
window.counted = [];
window.counting = requestAnimationFrame(function frame(now) {
  window.counted.push([now, document.querySelector('#map-a .leaflet-map-pane').style.transform]);
  window.counting = requestAnimationFrame(frame);
});
"""
COUNTED = "cancelAnimationFrame(window.counting); return window.counted"


def missing() -> str | None:
    """What this benchmark needs and does not find; None where all is there."""
    absent = chromium.missing()
    return f"{' and '.join(absent)} cannot be found" if absent else None


def panning(address: str, prompt: str, seconds: float) -> dict:
    """Drag the map of this prompt for so long.

    address: of the explorer. longest_frame_ms is the longest time between two frames. moved_share
    is the share of the frames in which the map lies elsewhere than in the one before.
    """
    browser = chromium.started(SIZE_PX)
    try:
        browser.get(address)
        _wait(browser, "document.body.dataset.ready === 'true'")
        browser.execute_script(DRAW, prompt)
        _wait(browser, "document.querySelectorAll('.leaflet-tile-loaded').length > 0")
        _drag(browser, ROUND_S)
        tiles = _requests(browser)
        browser.execute_script(COUNT)
        moves = _drag(browser, seconds)
        frames = browser.execute_script(COUNTED)
        more = _requests(browser) - tiles
    finally:
        browser.quit()
    pairs = [*itertools.pairwise(frames)]
    gaps = [later[0] - earlier[0] for earlier, later in pairs]
    return {
        "case": "panning",
        "seconds": round(sum(gaps) / 1000, 2),
        "frames_per_s": round(1000 * len(gaps) / sum(gaps), 1),
        "longest_frame_ms": round(max(gaps), 1),
        "moved_share": round(sum(a[1] != b[1] for a, b in pairs) / len(pairs), 2),
        "moves": moves,
        "new_tiles": more,
    }


def _wait(browser: webdriver.Chrome, condition: str) -> None:
    """Until the condition holds and nothing is loading."""
    end = time.monotonic() + LIMIT_S
    while not browser.execute_script(
        f"return {condition} && document.body.dataset.busy !== 'true'"
    ):
        fault = browser.execute_script("return document.getElementById('error').textContent")
        assert time.monotonic() < end, fault
        time.sleep(0.05)


def _requests(browser: webdriver.Chrome) -> int:
    """How many tiles the page has asked for."""
    return browser.execute_script(
        "return performance.getEntriesByType('resource').filter("
        "(entry) => entry.name.includes('/tile/')).length"
    )


def _drag(browser: webdriver.Chrome, seconds: float) -> int:
    """Press the mouse, go round for so long, and let it go where it began -> moves."""
    x, y, width, height = browser.execute_script(
        "const box = document.getElementById('map-a').getBoundingClientRect();"
        "return [box.x, box.y, box.width, box.height]"
    )
    middle = x + width / 2, y + height / 2

    def mouse(kind: str, turn: float) -> None:
        place = {
            "x": middle[0] + RADIUS_PX * math.cos(2 * math.pi * turn),
            "y": middle[1] + RADIUS_PX * math.sin(2 * math.pi * turn),
        }
        event = {"type": kind, "button": "left", "buttons": 1, "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event | place)

    moves, started = 0, time.monotonic()
    mouse("mousePressed", 0)
    while (passed := time.monotonic() - started) < seconds:
        mouse("mouseMoved", passed / ROUND_S)
        moves += 1
        left = EVENT_S - (time.monotonic() - started - passed)
        time.sleep(max(0.0, left))
    mouse("mouseReleased", 0)
    _wait(browser, "true")
    return moves
