"""Take the pictures of the explorer's page, with Chromium and its driver.

    python docs/pictures/make_explorer.py --runs runs

explorer.jpg: the map of one picture, with its options. explorer-side.jpg: two prompts side by side
and the panel of the first run below --runs that has a log.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

import click
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from selenium.webdriver.common.keys import Keys

from benchmarks import chromium
from dnnlib.console import report_user_errors
from dnnlib.errors import UserError
from tests.commands.forked import start_command
from tests.explorer.chromium import Page, started

PROMPT = "a pink flower with a yellow center and pointed petals"
OTHER = "the petals are white and the center is yellow"
SEED = "4"


def shot(page: Page, path: Path) -> None:
    """Save what the browser shows as a JPEG of 1024 pixels' width."""
    page.drawn()
    image = Image.open(io.BytesIO(page.browser.get_screenshot_as_png())).convert("RGB")
    height = round(image.height * 1024 / image.width)
    image.resize((1024, height), Image.Resampling.LANCZOS).save(path, quality=88)


@click.command()
@click.option("--network", default="flowers64", show_default=True, metavar="PATH|NAME")
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Folder of runs.")
@click.option(
    "--outdir",
    default=Path(__file__).parent,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the two files [default: docs/pictures]",
)
@report_user_errors
def main(network: str, runs: str, outdir: Path) -> None:
    """Write explorer.jpg and explorer-side.jpg."""
    if absent := chromium.missing():
        raise UserError(f"not installed: {', '.join(absent)}; install these packages")
    command = start_command("explore.py", "--network", network, "--runs", runs, "--port", "0")
    with tempfile.TemporaryDirectory() as downloads:
        browser = started(downloads)
        try:
            browser.set_window_size(1280, 800)
            while "Open " not in command.files[0].read_text():
                if not command.process.is_alive():
                    raise UserError(command.files[1].read_text())
                time.sleep(0.02)
            page = Page(browser)
            page.open(command.files[0].read_text().split("Open ")[1].split()[0])
            page.type("seed", SEED, Keys.TAB)
            page.type("prompt", PROMPT, Keys.ENTER)
            shot(page, outdir / "explorer.jpg")
            page.click("compare")
            page.type("prompt2", OTHER, Keys.ENTER)
            page.click("options-open")
            page.click("training-open")
            shot(page, outdir / "explorer-side.jpg")
        finally:
            browser.quit()
            command.kill()


if __name__ == "__main__":
    main()
