"""Chromium of the system and its driver, for Selenium (Debian: chromium and chromium-driver)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from selenium import webdriver

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage")  # of Chromium


def missing() -> list[str]:
    """The packages that are not installed, by their Debian names."""
    absent = [] if _browser() else ["chromium"]
    return absent + ([] if _driver() else ["chromium-driver"])


def started(
    size: tuple[int, int], more_flags: Iterable[str] = (), downloads: Path | None = None
) -> webdriver.Chrome:
    """A browser without a screen, whose window has this width and height.

    downloads: the folder of saved files. The messages of the page's console are kept.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = _browser() or ""
    switches = (*SWITCHES, "window-size={},{}".format(*size))
    for flag in (*(f"--{switch}" for switch in switches), *more_flags):
        options.add_argument(flag)
    if downloads is not None:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(_driver()))


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def _driver() -> str | None:
    return shutil.which("chromedriver")
