"""Draw the pictures of docs/studio.md: the studio in a real browser, in light and dark, on a desk and on a phone.

    python scripts/studio_pictures.py --out docs/studio

The scan is a phantom unless another one is given, so that the pictures show no patient.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from studio_browser import MISSING, chromium, running_browser, running_studio, shown_page
from synthorax import api

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
GREYS, COLOURS = 128, 112
"""Levels of grey and colours of a picture; more make no difference to see and files twice as large."""
COLOURED = 14
"""Red, green and blue of a pixel that is no grey differ by more than this."""
SETTLED_MS = 2500
"""Time for the 3D view, which is drawn after the planes."""


def draw(out: Path, scan: Path | None, parts: list[str]) -> None:
    """Write the pictures of some parts of the page into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_browser() as browser:
        if scan is None and "studio" in parts:
            scan = Path(folder) / "phantom.nii.gz"
            api.write_scan(scan, api.make_phantom(3, nodules=0).ct)
        arguments: list[str | Path] = ["--folder", scan.parent] if scan else []
        with running_studio(*arguments) as link:
            for part in parts:
                for name, picture in PARTS[part](browser, link, scan.name if scan else ""):
                    (out / f"{name}.png").write_bytes(picture)
                    shrink(out / f"{name}.png")
                    print(f"{name}.png", flush=True)


def shrink(file: Path) -> None:
    """Reduce a picture to `GREYS` levels of grey, which the scan has, and to `COLOURS` of its other colours."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3)
    others = pixels[np.ptp(pixels.astype(int), axis=1) > COLOURED]
    colours = Image.fromarray(others[None]).quantize(COLOURS).getpalette() or []
    greys = np.repeat(np.linspace(0, 255, GREYS).round().astype(int), 3).tolist()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*greys, *colours[: 3 * COLOURS]])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(file, optimize=True)


def studio(browser: Browser, link: str, scan: str) -> Iterator[tuple[str, bytes]]:
    """The page before and after a scan is open, with nodules, and a sheet of several seeds."""
    with shown_page(browser, link, scheme="dark") as (page, errors):
        page.click("#theme")
        yield "start-light", page.screenshot()
        page.click("#theme")
        page.click("#open")
        page.wait_for_selector(f"[data-file='{scan}']")
        yield "open-dark", page.screenshot()
        page.click(f"[data-file='{scan}']")
        page.wait_for_selector("body[data-open]")
        page.fill("#count-auto", "3")
        page.locator("#diameter-field input[type=number]").fill("14")
        page.click("#auto")
        page.wait_for_selector("body[data-steps='1']")
        page.locator("#nodules tbody tr").last.click()
        page.wait_for_timeout(SETTLED_MS)
        yield "studio-dark", page.screenshot()
        page.click("#theme")
        yield "studio-light", page.screenshot()
        yield from on_phone(page)
        page.click("#undo")
        page.wait_for_selector("body[data-steps='0']")
        page.click("#by-seed")
        page.locator("#sheet .picture").nth(6).wait_for()
        page.wait_for_timeout(SETTLED_MS)
        yield "sheet-dark", page.screenshot()
        print(*errors)


def on_phone(page: Page) -> Iterator[tuple[str, bytes]]:
    """The open page on a phone, in light and dark; it goes back to the desk, dark, in the end."""
    page.set_viewport_size(PHONE)
    page.click("#layouts [data-value=axial]")
    page.wait_for_timeout(SETTLED_MS)
    yield "phone-light", page.screenshot()
    page.click("#theme")
    yield "phone-dark", page.screenshot()
    page.set_viewport_size(DESK)
    page.click("#layouts [data-value=four]")


def reader(browser: Browser, link: str, scan: str) -> Iterator[tuple[str, bytes]]:
    """A reader test from its beginning to its result."""
    with shown_page(browser, link, scheme="dark") as (page, errors):
        page.goto(link.partition("?")[0] + "reader")
        page.fill("#reader-seed", "4")
        yield "begin-dark", page.screenshot()
        page.click("#begin-phantom")
        page.wait_for_selector("body[data-item='0']")
        yield "reader-dark", page.screenshot()
        page.set_viewport_size(PHONE)
        page.click("#theme")
        yield "phone-reader", page.screenshot()
        page.set_viewport_size(DESK)
        items = int(page.inner_text("#progress").split()[-1])
        for number in range(items):
            page.wait_for_selector(f"body[data-item='{number}']")
            page.locator(".call").nth((7 * number + 3) % 10).click()
        page.wait_for_selector("body[data-result]")
        yield "result-light", page.screenshot()
        print(*errors)


PARTS = {"studio": studio, "reader": reader}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--part", choices=PARTS, action="append")
    given = parser.parse_args()
    if chromium() is None:
        raise SystemExit(f"studio_pictures: {MISSING}")
    draw(given.out, given.scan, given.part or list(PARTS))
