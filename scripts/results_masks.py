#!/usr/bin/env python3
"""Measure the masks of synthetic nodules, and of real ones that the segmenter was not trained on; write docs/results/masks.md.

    python scripts/results_masks.py --out docs/results [--model ac-wgan]

SYNTHORAX_REAL_DATA names a folder with `luna16-nodules`. The store is kept in build/results-masks. It takes three
minutes of one core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pages import picture, spread, table, titled
from synthorax import api, hub
from synthorax.datasets.patches import PatchDataset, Place
from synthorax.datasets.places import negative_places, outlined_places
from synthorax.datasets.store import Store
from synthorax.figures import SYNTHETIC, Slice, ct_slices
from synthorax.io.atomic import atomic_file
from synthorax.makers import Generator, Samples
from synthorax.metrics.bootstrap import Statistic, difference, mean_of, patient_bootstrap
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameters_mm
from synthorax.shapes.overlap import dice
from synthorax.studies.conditions import half_widths_mm, rank_correlation_of
from synthorax.studies.patch_makers import samples_for
from synthorax.studies.results import machine
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.tasks.made_masks import nodule_in_the_middle, nodule_voxels

SEED = 0
MADE = 400
OFFSET_MM = 9.0
"""Largest distance in mm that a real nodule is moved from the centre of its window along each axis."""
BALLS = tuple(np.arange(0.9, 1.41, 0.05).round(2).tolist())
"""Diameters of centred balls, as factors of the stated one; the validation patients select the best."""
FAINT = 3.5
"""Nodules with a texture below this are ground glass or part-solid."""
BANDS_MM = (0.0, 6.0, 8.0, 12.0, 18.0, np.inf)
SHOWN_MM, SHOWN_TEXTURES = (5.0, 8.0, 12.0, 18.0), (1.0, 1.0, 2.0, 3.0, 3.0, 5.0, 5.0, 5.0)
SHEET = "masks-made.png"


@dataclass(frozen=True, eq=False)
class Windows:
    """Real nodules in windows, with readers' masks and the segmenter's.

    Attributes:
        places: places of the nodules.
        ct: patches within -1 to 1, [n, 1, z, y, x].
        truth: readers' masks, bool [n, z, y, x].
        found: all voxels that the segmenter marks as nodule, bool [n, z, y, x].
        spec: grid of the windows.
    """

    places: Sequence[Place]
    ct: NDArray[np.float32]
    truth: NDArray[np.bool_]
    found: NDArray[np.bool_]
    spec: PatchSpec

    @classmethod
    def of(cls, store: Store, places: Sequence[Place], spec: PatchSpec, system: AcWgan, cache: Path) -> Windows:
        """Cut the windows and segment them."""
        assert system.segmenter is not None
        patches = PatchDataset(store, places, spec, cache=cache)
        rows = patches.rows(range(len(patches)))
        found = nodule_voxels(system.segmenter, rows["ct"])
        return cls(places, rows["ct"].numpy(), rows["mask"][:, 0].numpy() > 0, found, spec)

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """The components at the centre, chosen as for generated nodules."""
        return np.stack([nodule_in_the_middle(voxels, self.spec.spacing_mm) for voxels in self.found])

    @property
    def patients(self) -> list[str]:
        """The patient of each nodule."""
        return [place.patient_id for place in self.places]

    def attribute(self, name: str, missing: float = np.nan) -> NDArray[np.float64]:
        """The readers' attributes of each nodule."""
        values = [getattr(place.nodule.attributes, name) if place.nodule else None for place in self.places]
        return np.array([missing if value is None else value for value in values])

    def balls(self, share: float) -> NDArray[np.bool_]:
        """Return balls at the centre, with the stated diameters times a factor."""
        radius_mm = share * self.attribute("diameter_mm")[:, None, None, None] / 2
        balls: NDArray[np.bool_] = self.spec.distances_mm() <= radius_mm
        return balls


def estimate(statistic: Statistic, units: Sequence[str] | NDArray[np.int64], form: str = ".3f") -> str:
    """Return a figure with its interval over patients, or over samples, as text."""
    found = patient_bootstrap(statistic, np.asarray(units), seed=SEED).interval()
    return spread(found.value, found.low, found.high, form)


def dice_lines(windows: Windows, moved: Windows, best: float, result: list[str]) -> Iterator[str]:
    """Give the Dice with readers' masks, of the segmenter and of centred balls."""
    mm, texture = windows.attribute("diameter_mm"), windows.attribute("texture", missing=5.0)
    strata = {"all": mm > 0, "below 8 mm": mm < 8, "from 8 mm": mm >= 8, "ground glass, part-solid": texture < FAINT}
    is_in = moved.truth.any((1, 2, 3))
    arms = {
        "segmenter, nodule in the middle": (windows, dice(windows.masks, windows.truth)),
        f"segmenter, nodule up to {OFFSET_MM:g} mm off along each axis": (moved, dice(moved.found, moved.truth)),
        "centred ball of the stated diameter": (windows, dice(windows.balls(1), windows.truth)),
        f"centred ball of {best:g} times it": (windows, dice(windows.balls(best), windows.truth)),
        "centred ball, nodule off as above": (moved, dice(moved.balls(best), moved.truth)),
    }
    rows = []
    for name, (where, overlaps) in arms.items():
        counted = is_in if where is moved else np.ones(len(mm), bool)
        cells = [estimate(mean_of(overlaps, rows_in & counted), where.patients) for rows_in in strata.values()]
        rows.append([name, *cells])
    yield from table(["", *(f"{name} ({int(inside.sum())})" for name, inside in strata.items())], rows)
    result.append(
        f"The masks of ac-wgan's nodules come from a segmenter. On real nodules of test patients its Dice with readers' masks is {rows[0][1]}; that of a centred ball of {best:g} times the stated diameter is {rows[3][1]}."
    )
    yield ""
    own = mean_of(dice(windows.masks, windows.truth))
    gains = {
        f"{share:g}": estimate(difference(own, mean_of(dice(windows.balls(share), windows.truth))), windows.patients)
        for share in (1.0, best)
    }
    less = "; ".join(f"that of the ball of {share} times the stated diameter: {gain}" for share, gain in gains.items())
    yield f"The segmenter's Dice in the middle less {less}."


def empty_lines(store: Store, windows: Windows, system: AcWgan, cache: Path) -> Iterator[str]:
    """Give how often the segmenter finds a nodule at the centre of windows without one."""
    places = negative_places(store, store.in_split("test"), windows.spec, 1, SEED, cache=cache)
    empty = Windows.of(store, places, windows.spec, system, cache)
    share = estimate(mean_of(empty.masks.any((1, 2, 3)).astype(float)), empty.patients)
    missed = int((~windows.masks.any((1, 2, 3))).sum())
    yield f"It finds no nodule at the centre for {missed} of the {len(windows.places)} nodules. In {len(places)} windows of test patients without a nodule it finds one at the centre in a share of {share}; it is only used on patches with a generated nodule."


def correlation_lines(columns: Mapping[str, NDArray[np.float64]], units: NDArray) -> Iterator[str]:
    """Give rank correlations of all pairs of diameter definitions, for nodules with all of them."""
    known = np.all([np.isfinite(column) for column in columns.values()], axis=0)
    names = list(columns)
    rows = []
    for i, name in enumerate(names[:-1]):
        others = names[i + 1 :]
        cells = [estimate(rank_correlation_of(columns[name][known], columns[b][known]), units[known]) for b in others]
        rows.append([name, *[""] * i, *cells])
    yield from table(["", *names[1:]], rows)


def band_lines(columns: Mapping[str, NDArray[np.float64]], first: str) -> Iterator[str]:
    """Give medians and 10th to 90th percentiles, by bands of the first column."""
    rows = []
    for low, high in pairwise(BANDS_MM):
        inside = (columns[first] >= low) & (columns[first] < high)
        if not inside.any():
            continue
        band = f"below {high:g}" if not low else f"from {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"
        cells = []
        for column in columns.values():
            values = column[inside & np.isfinite(column)]
            low_mm, high_mm = np.quantile(values, [0.1, 0.9]).tolist() if len(values) else (0.0, 0.0)
            cells.append(spread(float(np.median(values)), low_mm, high_mm, ".1f") if len(values) else "none")
        rows.append([band, int(inside.sum()), *cells])
    yield from table([f"{first}, mm", "nodules", *columns], rows)


def made_diameters(samples: Samples) -> dict[str, NDArray[np.float64]]:
    """Return diameters of synthetic nodules: requested, in the table, and by FWHM."""
    asked = np.array([one[0].diameter_mm for one in samples.asked], float)
    stated = [one[0] for one in samples.nodules]
    table_mm = np.array([nodule.attributes.diameter_mm if nodule.label else np.nan for nodule in stated], float)
    seen = np.clip(samples.ct, *samples.spec.window_hu)
    return {"asked": asked, "in the table": table_mm, "FWHM": half_widths_mm(seen, samples.spec.spacing_mm)}


def real_diameters(windows: Windows) -> dict[str, NDArray[np.float64]]:
    """Return diameters of real nodules: stated, of readers' masks, of the segmenter's masks, and by FWHM."""
    hu, spacing = windows.spec.to_hu(windows.ct[:, 0]), windows.spec.spacing_mm
    return {
        "stated": windows.attribute("diameter_mm"),
        "readers' mask": axial_diameters_mm(windows.truth, spacing),
        "segmenter's mask": axial_diameters_mm(windows.masks, spacing),
        "FWHM": half_widths_mm(hu, spacing),
    }


def sheet(maker: Generator, out: Path) -> Iterator[str]:
    """Write middle slices of synthetic nodules with their masks."""
    asked = [(NoduleAttributes(diameter_mm=mm, texture=t),) for mm in SHOWN_MM for t in SHOWN_TEXTURES]
    made = Samples.joined(maker.sample(asked, SEED + 1))
    z, y, x = (n // 2 for n in made.spec.size)
    panels = []
    for hu, mask, one, nodules in zip(made.ct, made.arrays["mask"], asked, made.nodules, strict=True):
        known = f"{nodules[0].attributes.diameter_mm:.1f} mm" if nodules[0].label else "no mask"
        caption = f"asked {one[0].diameter_mm:g} mm, texture {one[0].texture:g}: {known}"
        panels.append(Slice(hu[z], mask[z] > 0, caption, (y, x), SYNTHETIC))
    figure = ct_slices(panels, half=max(y, x), columns=len(SHOWN_TEXTURES))
    yield from picture(figure, out / SHEET, "middle slices of made nodules with the outlines of their masks")


def best_ball(windows: Windows) -> float:
    """Return the ball with the largest mean Dice."""
    return max(BALLS, key=lambda share: float(dice(windows.balls(share), windows.truth).mean()))


def page(real: Path, work: Path, out: Path, name: str, result: list[str]) -> Iterator[str]:
    """The lines of the page; adds the sentences of its result."""
    store = api.prepare("patches", real / "luna16-nodules", work / "store")
    model = hub.load(name)
    system, maker = cast(AcWgan, model.system), cast(Generator, hub.find(model, "makes patches"))
    spec, cache = maker.spec, work / "cache"

    def outlined(split: str) -> list[Place]:
        return outlined_places(store.in_split(split))

    places = outlined("test")
    offsets = generator(SEED, "offsets").uniform(-OFFSET_MM, OFFSET_MM, (len(places), 3))
    off = [
        replace(place, center_mm=cast(tuple[float, float, float], tuple((place.center_mm + offset).tolist())))
        for place, offset in zip(places, offsets, strict=True)
    ]
    windows, moved = (Windows.of(store, each, spec, system, cache) for each in (places, off))
    best = best_ball(Windows.of(store, outlined("val"), spec, system, cache))
    drawn = generator(SEED, "asked").integers(0, len(outlined("train")), MADE)
    known = [place.nodule.attributes for place in outlined("train") if place.nodule]
    wide = maker.spec.widest_mm
    chosen = [known[i] for i in drawn if (known[i].diameter_mm or np.inf) <= wide]
    made = samples_for(maker, chosen, SEED)
    diameters, real_ones = made_diameters(made), real_diameters(windows)
    ratio = float(np.median(real_ones["readers' mask"] / real_ones["stated"]))

    here = ", ".join(f"{k} {v}" for k, v in machine().items())
    weights = sum(p.numel() for p in system.segmenter.parameters()) if system.segmenter else 0
    yield f"Written by `make results-masks` on {date.today().isoformat()}: {here}. Seed {SEED}. Weights of {name}: {model.sha256[:16]}."
    yield ""
    yield f"A segmenter of {weights:,} weights, which is a part of the model, gives generated nodules their masks. It was trained on the {len(store.splits['train'])} training patients of the store: windows of {spec.size[0]} mm at random offsets, a third"
    yield "of them without a nodule. The mask is the component nearest to the centre; the diameter in `nodules.csv` is the mask's longest chord within an axial slice."
    yield ""
    yield "## On real nodules of test patients"
    yield ""
    yield f"Mean Dice with readers' masks, {len(places)} nodules of {len(set(windows.patients))} patients, 95 % intervals over patients; the header has the numbers of nodules. The factor {best:g} of the better ball was chosen on the validation patients."
    yield ""
    yield from dice_lines(windows, moved, best, result)
    yield ""
    yield from empty_lines(store, windows, system, cache)
    yield ""
    yield "## Diameters of real nodules"
    yield ""
    yield "Rank correlations, of the same nodules; FWHM is the full width at half maximum of the nodule's radial HU profile:"
    yield ""
    yield from correlation_lines(real_ones, np.array(windows.patients))
    yield ""
    yield "Medians and 10th to 90th percentiles, mm:"
    yield ""
    yield from band_lines(real_ones, "stated")
    yield ""
    yield f"LUNA16's stated diameters are smaller than the longest chord of the readers' masks: in the median the chord is {ratio:.2f} times as long. Requested diameters are of the first kind and those in the table of the second, so for a nodule that meets its request the table has a diameter larger by this factor."
    yield ""
    yield "## Diameters of made nodules"
    yield ""
    yield f"{len(made)} nodules, requested with attributes drawn from those of training nodules up to {wide:g} mm. {int(np.isnan(diameters['in the table']).sum())} got no mask; their rows say that the diameter is the requested one."
    yield ""
    yield "Rank correlations, 95 % intervals over nodules:"
    yield ""
    asked_mm, measured_mm = diameters["asked"], diameters["in the table"]
    has_mask = np.isfinite(measured_mm)
    found = estimate(rank_correlation_of(asked_mm[has_mask], measured_mm[has_mask]), np.flatnonzero(has_mask), ".2f")
    result.append(f"Diameters of the masks have a rank correlation of {found} with the requested diameters.")
    yield from correlation_lines(diameters, np.arange(len(made)))
    yield ""
    yield "Medians and 10th to 90th percentiles, mm:"
    yield ""
    yield from band_lines(diameters, "asked")
    yield ""
    yield from sheet(maker, out)


def main() -> None:
    """Measure everything, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="ac-wgan")
    chosen = parser.parse_args()
    work = Path("build") / "results-masks"
    work.mkdir(parents=True, exist_ok=True)
    result: list[str] = []
    measured = page(Path(os.environ["SYNTHORAX_REAL_DATA"]), work, chosen.out, chosen.model, result)
    lines = titled("Masks of synthetic nodules", result, measured)
    with atomic_file(chosen.out / "masks.md") as file:
        file.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
