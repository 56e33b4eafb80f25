"""Draw the pictures of docs/studio.md: the studio in a real browser, in light and dark, on a desk and on a phone.

    python scripts/studio_pictures.py --out docs/studio

The scan is a phantom if none is given; the pictures then show no patient.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from studio_browser import MISSING, chromium, running_browser, running_studio, shown_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

DESK, PHONE = (1280, 800), (390, 844)
COLOURS = 128
"""Colours of a picture; more make no difference to see and files twice as large."""


def draw(out: Path, scan: Path | None, only: str) -> None:
    """Write the pictures whose names begin with `only` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = {name: how for name, how in PICTURES.items() if name.startswith(only)}
    with running_studio(*([scan] if scan else [])) as link, running_browser() as browser:
        for name, (size, scheme, show) in wanted.items():
            with shown_page(browser, link, size=size, scheme=scheme) as (page, errors):
                show(page, scan is not None)
                page.wait_for_timeout(1500)
                page.screenshot(path=out / f"{name}.png")
                shrink(out / f"{name}.png")
                print(f"{name}.png", *errors, flush=True)


def shrink(file: Path) -> None:
    """Reduce a picture to `COLOURS` colours."""
    from PIL import Image

    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def opened(page: Page, given: bool) -> None:
    """Wait for the scan that was given, or make a phantom."""
    if not given:
        page.click("[data-phantom]")
    page.wait_for_selector("body[data-open]")


def with_nodules(page: Page, given: bool) -> None:
    """Put three nodules in and go to the first."""
    opened(page, given)
    page.fill("#count-auto", "3")
    page.locator("#diameter-field input[type=number]").fill("14")
    page.click("#auto")
    page.wait_for_selector("body[data-steps='1']")
    page.locator("#nodules tbody tr").last.click()


def sheet(page: Page, given: bool) -> None:
    """Compare several seeds at a nodule's place, after taking it back."""
    with_nodules(page, given)
    page.click("#undo")
    page.wait_for_selector("body[data-steps='0']")
    page.click("#by-seed")
    page.locator("#sheet .picture").nth(6).wait_for()


def start(page: Page, given: bool) -> None:
    """Show the page before a scan is open."""


def reading(page: Page, given: bool) -> None:
    """Begin a reader test and show its first nodule."""
    page.goto(page.url.rstrip("/") + "/reader")
    page.fill("#reader-seed", "4")
    page.click("#begin-phantom")
    page.wait_for_selector("body[data-item='0']")


def result(page: Page, given: bool) -> None:
    """Finish a reader test."""
    reading(page, given)
    items = int(page.inner_text("#progress").split()[-1])
    for number in range(items):
        page.wait_for_selector(f"body[data-item='{number}']")
        page.locator(".call").nth((7 * number) % 10).click()
    page.wait_for_selector("body[data-result]")


PICTURES: dict[str, tuple[tuple[int, int], str, Callable[[Page, bool], None]]] = {
    "studio-dark": (DESK, "dark", with_nodules),
    "studio-light": (DESK, "light", with_nodules),
    "sheet-dark": (DESK, "dark", sheet),
    "start-light": (DESK, "light", start),
    "reader-dark": (DESK, "dark", reading),
    "result-light": (DESK, "light", result),
    "phone-dark": (PHONE, "dark", with_nodules),
    "phone-light": (PHONE, "light", with_nodules),
    "phone-reader": (PHONE, "light", reading),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--only", default="", help="pictures whose names begin with this")
    given = parser.parse_args()
    if chromium() is None:
        raise SystemExit(f"studio_pictures: {MISSING}")
    draw(given.out, given.scan, given.only)
