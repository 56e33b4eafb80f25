"""Pictures of in-painted nodules: a shuffled contact sheet with its key, and the paper's figures 2 and 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from in_painting_made import CLASSES, Making, made_twins
from rendering_measures import Pairs
from rendering_sites import SIZE
from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices
from synthorax.seeding import generator
from synthorax.studies.painted import Painted

SHEET, SHEET_COLUMNS = 24, 8
"""Number of real nodules in a contact sheet, equal to that of synthetic ones; and panels in a row."""
LEAST_SHOWN_MM = 5.0
"""Smaller nodules are left out of the pictures of classes and seeds."""
SAME_SITE, MANY_SEEDS, MANY_SITES = 6, 6, 2
"""Sites of figure 2; seeds and sites of figure 3."""
SHOWN = (32, 32, 32)
"""Width in voxels of the patches of figures 2 and 3."""


@dataclass(frozen=True)
class Sheet:
    """The nodules of a contact sheet, panel by panel.

    Attributes:
        real: whether the panel's nodule is real.
        numbers: number of the panel's nodule among those of the sites.
    """

    real: tuple[bool, ...]
    numbers: tuple[int, ...]


def drawn_sheet(diameters_mm: NDArray[np.float64], name: str, seed: int = 0) -> Sheet:
    """Draw real and synthetic nodules in pairs of similar diameter, each of another site, and shuffle them.

    Args:
        diameters_mm: diameter of the real nodule of each site, also requested of its synthetic one, [n].
        name: name of the method; each method has a separate draw.
    """
    random = generator(seed, "sheet", name)
    order = np.argsort(diameters_mm, kind="stable")
    couples = order[: len(order) // 2 * 2].reshape(-1, 2)  # neighbours by diameter
    couples = couples[random.permutation(len(couples))[:SHEET]]
    first_is_real = random.integers(2, size=len(couples)) == 0
    real = np.where(first_is_real, couples[:, 0], couples[:, 1])
    made = np.where(first_is_real, couples[:, 1], couples[:, 0])
    shuffled = random.permutation(2 * len(couples))
    labels = np.repeat([True, False], len(couples))[shuffled].tolist()
    return Sheet(tuple(labels), tuple(np.concatenate([real, made])[shuffled].tolist()))


def contact_sheet(pairs: Pairs, making: Making, rows: Sequence[int], out: Path, seed: int = 0) -> Sheet:
    """Write a contact sheet, `sheet-NAME.png`, and its key, `sheet-NAME-key.png`.

    Args:
        pairs: real and synthetic nodules of the sites of `rows`.
    """
    made = made_twins(making, rows)
    sheet = drawn_sheet(np.array([real.asked_mm for real in pairs.reals]), making.name, seed)
    middle = SIZE // 2

    def shown(real: bool, number: int) -> tuple[NDArray, NDArray, str]:
        hu, mask = ((pairs.hu if real else made.hu), (pairs.outline if real else made.mask))
        text = f"{'real' if real else 'made'}, {pairs.reals[number].asked_mm:.0f} mm"
        return hu[number, middle], mask[number, middle], text

    write_sheet(sheet, shown, SIZE, out, making.name)
    return sheet


def write_sheet(
    sheet: Sheet, shown: Callable[[bool, int], tuple[NDArray, NDArray, str]], size: int, out: Path, name: str
) -> None:
    """Write a contact sheet, `sheet-NAME.png`, and its key, `sheet-NAME-key.png`.

    Args:
        shown: a function of whether a panel is real and of its number; it returns HU and mask [y, x] of a slice and the
            key's text.
        size: width of a slice in voxels.
    """
    none = np.zeros((size, size), bool)
    for is_key in (False, True):
        panels = []
        for panel, (real, number) in enumerate(zip(sheet.real, sheet.numbers, strict=True), start=1):
            hu, mask, text = shown(real, number)
            caption = f"{panel}: {text}" if is_key else str(panel)
            colour = REAL if real else SYNTHETIC
            panels.append(Slice(hu, mask if is_key else none, caption, (size // 2, size // 2), colour))
        figure = ct_slices(panels, half=size // 2, columns=SHEET_COLUMNS)
        figure.savefig(out / f"sheet-{name}{'-key' if is_key else ''}.png", bbox_inches="tight")


def class_pictures(making: Making, out: Path) -> None:
    """Write `classes-NAME.png`, the same sites with both classes, and `seeds-NAME.png`, with many seeds."""
    jobs, every = making.places.jobs, making.places.every
    large = [i for i in making.rows if every[jobs[i].real].asked_mm >= LEAST_SHOWN_MM]
    drawn = generator(0, "shown sites").permutation(large)[:SAME_SITE].tolist()
    of_classes = {name: making.shown(name, drawn, range(2)) for name in CLASSES}
    panels = []
    for seed in (-1, 0, 1):
        for name, made in list(of_classes.items())[: 1 if seed < 0 else None]:
            for site in range(len(drawn)):
                caption = "before" if seed < 0 else f"{name}, seed {seed}"
                panels.append(_panel(made, site, max(seed, 0), caption, before=seed < 0))
    _save(panels, len(drawn), out / f"classes-{making.name}.png")
    panels = []
    for name in CLASSES:
        made = making.shown(name, drawn[:MANY_SITES], range(MANY_SEEDS))
        for site in range(MANY_SITES):
            panels += [_panel(made, site, seed, f"{name}, seed {seed}") for seed in range(MANY_SEEDS)]
    _save(panels, MANY_SEEDS, out / f"seeds-{making.name}.png")


def _panel(made: Painted, site: int, seed: int, caption: str, *, before: bool = False) -> Slice:
    none, middle = np.zeros(SHOWN[1:], bool), [n // 2 for n in SHOWN]
    rows = np.flatnonzero((made.sites == site) & (made.seeds == seed))
    if not len(rows):
        return Slice(np.full(SHOWN[1:], -1000), none, f"{caption}: refused", middle[1:])
    one = made.rows(rows)
    mm = made.asked[site].diameter_mm or 0.0
    hu = one.around(one.before if before else one.after, SHOWN)[0]
    # A patch near the border of its cube is moved, and the place with it.
    place = np.argwhere(one.around(one.masks, SHOWN)[0]).mean(0).round().astype(int)
    return Slice(hu[place[0]], none, f"{caption}, {mm:.0f} mm", middle[1:])


def _save(panels: Sequence[Slice], columns: int, file: Path) -> None:
    ct_slices(panels, half=SHOWN[1] // 2, columns=columns).savefig(file, bbox_inches="tight")
