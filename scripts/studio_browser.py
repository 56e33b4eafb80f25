"""A running studio and a real browser without a screen, for the pictures of the page and for its tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium; install it with `apt-get install chromium`"
NO_VIEWER = "no viewer; fetch it with `make studio`"
FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--hide-scrollbars",
)
"""WebGL 2 is computed by the processor: machines that test have no screen."""
PATIENCE_MS = 600_000
"""A busy machine with two cores takes minutes where a free one takes seconds."""


def chromium() -> str | None:
    """Return the path of an installed Chromium; None if there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def running_studio(*arguments: str | Path) -> Iterator[str]:
    """Run `synthorax studio` with these arguments; yield its link."""
    command = [sys.executable, "-m", "synthorax", "studio", *map(str, arguments), "--port", "0", "--no-browser"]
    studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert studio.stdout is not None
        line = studio.stdout.readline()
        if "http" not in line:
            raise RuntimeError(f"the studio did not start: {line!r}")
        yield line[line.index("http") :].strip()
    finally:
        studio.terminate()
        studio.wait(30)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run Chromium without a screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shown_page(
    browser: Browser, link: str, *, size: Sequence[int] = (1280, 800), scheme: Any = "dark"
) -> Iterator[tuple[Page, list[str]]]:
    """Open the studio's link in a page of its own; yield the page and the errors that it has reported so far."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(link)
    page.wait_for_selector("body[data-ready]")
    try:
        yield page, errors
    finally:
        context.close()
