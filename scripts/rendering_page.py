"""The page on rendered nodules: one or two versions of the renderer compared with real nodules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pages import picture, table, three
from rendering_measures import KINDS, LEAST, RIM_MM, VIEWS, Made, Pairs, judged_file, read_judged
from rendering_sites import SIZE, SPICULATED, WIDEST_MM
from synthorax import figures
from synthorax.errors import InputError
from synthorax.metrics.appearance import EDGES_MM
from synthorax.seeding import generator
from synthorax.studies.told_apart import LEAST_BLURRED, POWER, TELLER, TOLD_APART_BLUR_VOXELS, TOLD_APART_FOLDS, Judged

COLUMNS = 8
SHEETS = {
    "spiculated": f"spiculated (mean rating of {SPICULATED:g} or more)",
    "ground glass": "ground glass (mean texture up to 2)",
    "part-solid": "part-solid (mean texture between 2 and 4.5)",
    "4 mm": "stated diameter of 3 to 5 mm",
}
MAIN_KINDS = ("solid", "part-solid", "ground glass")
"""Classes whose HU the page's result states."""
BEFORE_COLOUR = "#9a9a9a"
CLASSES = ("all", *KINDS, "spiculated")


@dataclass(frozen=True, eq=False)
class Version:
    """A version of the renderer, measured.

    Attributes:
        name: `before` or `after`.
        figures: figures that `results_rendering.py measure` wrote.
    """

    name: str
    figures: Mapping[str, Any]
    made: Made
    judged: Mapping[str, Judged]

    @classmethod
    def of(cls, name: str, folder: Path) -> Version:
        """Read a folder of `results_rendering.py measure`."""
        figures_of = json.loads((folder / "figures.json").read_text())
        return cls(
            name,
            figures_of,
            Made.of(folder / "made.npz"),
            {view: read_judged(folder / judged_file(view)) for view in VIEWS},
        )


def page(pairs: Pairs, versions: Sequence[Version], times: Mapping[str, Any] | None, out: Path) -> Iterator[str]:
    """Give the lines of the page."""
    last = versions[-1].figures
    here = ", ".join(f"{k} {v}" for k, v in last["machine"].items())
    counts = {split: int(pairs.rows("all", split).sum()) for split in ("train", "val", "test")}
    yield f"Written by `make results-rendering` on {date.today().isoformat()}: {here}. Seed 0."
    yield ""
    yield f"{len(pairs.jobs)} rated nodules of luna16-nodules with a LUNA16 diameter of at most {WIDEST_MM:g} mm ({', '.join(f'{n} of {split} patients' for split, n in counts.items())}). Each has a rendered twin with the mean of"
    yield "its readers' ratings, a diameter equal to the longest chord of the outline with the median volume among its readers, the outline of another nodule, of a training patient, and a place"
    yield "in a cube of another patient of the same split. The place has no nodule within 11 mm along each axis and healthy lung at its centre; in each shell around it there is as much dense tissue, and lung of similar HU, as around the real nodule. The constants of rendering"
    yield "were chosen on the training patients."
    yield ""
    yield "## By eye"
    yield ""
    yield from sheets(pairs, versions, out)
    yield "## HU"
    yield ""
    yield from hu_lines(versions, out)
    yield ""
    yield "## Told apart from real ones"
    yield ""
    yield from told_apart_lines(pairs, versions)
    yield ""
    yield "## KID"
    yield ""
    yield from kid_lines(versions)
    yield ""
    yield "## Invisible ones"
    yield ""
    yield from invisible_lines(versions)
    yield ""
    yield "## Diameters"
    yield ""
    yield from diameter_lines(versions)
    if times is not None:
        yield ""
        yield "## Seconds"
        yield ""
        yield from time_lines(times)
    yield ""
    yield "Former names of the package that had several meanings, and their new names, are in [names.md](../names.md)."


def result(versions: Sequence[Version]) -> str:
    """Return the page's result in two or three sentences."""
    version = versions[-1]
    curves, judged = version.figures["curves"], version.figures["told"]["whole"]["test"]["all"]
    gaps = {kind: abs(curves["made"][kind]["hu"] - curves["real"][kind]["hu"]) for kind in MAIN_KINDS}
    differs = ", ".join(f"{gap:.0f} HU for {kind}" for kind, gap in gaps.items())
    earlier = ""
    if len(versions) > 1:
        before = versions[0].figures["told"]["whole"]["test"]["all"]
        earlier = f" The renderer before this one had {auc(before)}; the tables call the two `before` and `after`."
    return f"A newly trained network distinguishes rendered from real nodules of test patients with an AUC of {auc(judged)}; .5 would be perfect. The median HU of rendered and real nodules differ by {differs}.{earlier}"


def chosen(pairs: Pairs, group: str) -> NDArray[np.int64]:
    """Return the nodules of a contact sheet: of test patients in random order, then of validation, then of training patients."""
    order = generator(0, "sheet", group).permutation(np.flatnonzero(of_group(pairs, group)))
    rank = np.array([("test", "val", "train").index(pairs.reals[i].split) for i in order])
    return np.asarray(order[np.argsort(rank, kind="stable")][:COLUMNS])


def of_group(pairs: Pairs, group: str, split: str = "") -> NDArray[np.bool_]:
    """Return which nodules a contact sheet is drawn from, bool [n]."""
    if group != "4 mm":
        return pairs.rows(group, split)
    return np.array([3 <= real.stated_mm <= 5 for real in pairs.reals]) & pairs.rows("all", split)


def sheets(pairs: Pairs, versions: Sequence[Version], out: Path) -> Iterator[str]:
    """Give middle axial slices of real nodules above their rendered twins."""
    yield f"{COLUMNS} nodules a sheet, drawn by the seed from the test patients; where these have fewer, the rest from val, then train, as the captions say. The upper row is real;"
    which = " (before: an earlier version of the renderer; after: this one)" if len(versions) > 1 else ""
    yield f"below it {' and '.join(version.name for version in versions)}{which}: each the twin of the nodule above. Axial slices through the middle, {SIZE} mm wide, lung window."
    yield ""
    for group, title in SHEETS.items():
        rows = chosen(pairs, group)
        panels = []
        none = np.zeros((SIZE, SIZE), bool)
        middle = (SIZE // 2, SIZE // 2)
        for i in rows:
            real = pairs.reals[i]
            caption = f"{real.split}, {real.stated_mm:.0f} mm, texture {real.nodule.attributes.texture:.1f}"
            panels.append(figures.Slice(pairs.hu[i, SIZE // 2], none, caption, middle))
        for version in versions:
            panels += [figures.Slice(version.made.hu[i, SIZE // 2], none, version.name, middle) for i in rows]
        shown = figures.ct_slices(panels, half=SIZE // 2, columns=len(rows))
        yield f"{title[0].upper()}{title[1:]}; test patients have {sum(of_group(pairs, group, 'test'))}:"
        yield ""
        yield from picture(shown, out / f"rendering-{group.replace(' ', '-')}.png", f"{title}, real and rendered")


def hu_lines(versions: Sequence[Version], out: Path) -> Iterator[str]:
    """Give HU in the mask and profiles by class."""
    sets = {"real": versions[0].figures["curves"]["real"]} | {v.name: v.figures["curves"]["made"] for v in versions}
    yield "Nodules of validation and test patients: HU within the readers' outline of median volume, and within the same outline when it is rendered with the nodule's ratings at the place of its twin. `Between` is the standard deviation of the nodules' means, `within` the median of the standard deviations inside a nodule, `deep` the HU"
    yield "more than 2 mm inside the outline, `profile` the mean absolute difference from the real profile. Calcified nodules are clipped at 1023 HU."
    yield ""
    colours = [figures.REAL, *([BEFORE_COLOUR] if len(versions) > 1 else []), figures.SYNTHETIC]
    yield from profile_lines(sets, colours, out / "rendering-profiles.png")


def profile_lines(
    sets: Mapping[str, Mapping[str, Mapping[str, Any]]], colours: Sequence[str], file: Path
) -> Iterator[str]:
    """Give a table of HU by class, and a picture of the profiles.

    Args:
        sets: results of `rendering_measures.curves` by name; those of real nodules are named `real`.
        colours: colours of the sets' lines.
        file: file of the picture, PNG.
    """
    rows = []
    middle = (np.array(EDGES_MM[:-1]) + EDGES_MM[1:]) / 2
    panels: dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for kind, real in sets["real"].items():
        panel = panels.setdefault(f"{kind}, {real['n']}", {})
        for name, found in sets.items():
            if kind not in found:
                continue
            one, curve = found[kind], as_array(found[kind]["curve"])
            panel[name] = (middle, curve)
            gap = "" if name == "real" else f"{np.nanmean(abs(curve - as_array(real['curve']))):.0f}"
            deep = "" if one["deep"] is None else f"{one['deep']:.0f}"
            rows.append(
                [f"{kind}, {one['n']}", name, *(f"{one[key]:.0f}" for key in ("hu", "spread", "within")), deep, gap]
            )
    yield from table(["nodules", "", "HU, median", "between", "within", "deep", "profile"], rows)
    yield ""
    figure = figures.lines(panels, colours, "mm from the edge of the outline", "HU, median")
    yield from picture(figure, file, "HU by distance from the edge of the outline")


def as_array(curve: Sequence[float | None]) -> NDArray[np.float64]:
    """Return a curve as an array; NaN if a value is unknown."""
    return np.array([np.nan if value is None else value for value in curve])


def told_apart_lines(pairs: Pairs, versions: Sequence[Version]) -> Iterator[str]:
    """Give AUCs of a newly trained network by class and by visible part, with its controls."""
    yield f"A new network ({TELLER.network.kind}) sees windows of {TELLER.size[0]} mm. It is trained for {TELLER.steps} steps on the patients of two of {TOLD_APART_FOLDS} folds and tested on the third. The AUC by which it distinguishes rendered from"
    yield "real nodules is .5 if it cannot. Intervals of 95 % over patients. The patients are divided into two halves, so that the two controls, real against real patches and real against"
    yield f"the same patches blurred by {TOLD_APART_BLUR_VOXELS:g} voxel, have equal numbers of patients and similar mean HU: the interval of the first must contain .5, the second must be at least {LEAST_BLURRED:g}."
    yield ""
    rows = []
    for view, known in versions[-1].figures["controls"].items():
        same, blurred = three(known["same"], ".3f"), three(known["blurred"], ".3f")
        rows.append([view, same, blurred, known["void"] or "counts"])
    yield from table(["the network is shown", "real against real", "real against blurred", "the verdict"], rows)
    yield ""
    yield f"“The nodule alone” is the ball around its mask and a margin of {RIM_MM:g} mm, “the surroundings alone” everything else; hidden voxels have the same HU in both kinds. What the network finds in the surroundings"
    yield "alone is due to the place, or to parts of the nodule that reach beyond the ball."
    yield ""
    for title, split in (("test patients", "test"), ("all patients", "every")):
        for view in VIEWS:
            rows = []
            for kind in CLASSES:
                cells = [version.figures["told"][view][split][kind] for version in versions]
                row = [f"{kind}, {cells[0]['n']}", *(auc(cell) for cell in cells)]
                if len(versions) > 1:
                    row.append(change(pairs, versions, view, kind, "" if split == "every" else split))
                rows.append([*row, f"{cells[0]['smallest']:.3f}" if cells[0]["smallest"] else ""])
            heads = [version.name for version in versions] + (["after less before"] if len(versions) > 1 else [])
            smallest = f"smallest AUC found in {POWER:.0%} of cases"
            yield from table([f"{view}, {title}", *heads, smallest], rows)
            yield ""
    yield f"Classes of fewer than {LEAST} nodules have no figure. The constants were chosen on the training patients, who are among “all patients”; those rows are shown because some classes have few test nodules."


def auc(cell: Mapping[str, Any]) -> str:
    """Return an AUC with its interval as text."""
    return three(cell["auc"], ".3f") if cell["auc"] else "too few"


def change(pairs: Pairs, versions: Sequence[Version], view: str, kind: str, split: str) -> str:
    """Return the difference of the AUC after and before, with its interval over the same patients."""
    rows = np.tile(pairs.rows(kind, split), 2)
    if rows.sum() >= 2 * LEAST:
        with suppress(InputError):
            found = versions[-1].judged[view].less(versions[0].judged[view], rows)
            return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    return ""


def kid_lines(versions: Sequence[Version]) -> Iterator[str]:
    """Give the KID of rendered and real nodules."""
    yield "KID x 1000 to the real nodules of training patients, by features of features-24mm on patches of 22 mm; in a row of a class, to the real training nodules of that class. In brackets: bounds"
    yield "that contain 95 % of the values for random subsets of half the size of the smaller set."
    yield ""
    names = list(dict.fromkeys(name for version in versions for name in version.figures["kid"]))
    rows = []
    for name in names:
        cells = [three(version.figures["kid"][name], ".0f") for version in versions]
        same = not name.startswith("made")
        rows.append([name, *(cells[-1:] * len(cells) if same else cells)])
    yield from table(["", *(version.name for version in versions)], rows)


def invisible_lines(versions: Sequence[Version]) -> Iterator[str]:
    """Give the numbers of nodules hidden by noise, and whether they have a note."""
    yield "A nodule is invisible if the mean HU in a ball of its requested diameter exceeds that of the surrounding shell by less than 2 standard deviations of the noise, averaged over as many voxels. `Faint` nodules are ground glass of 3 to 5 mm, requested"
    yield "at places of test patients to see whether each invisible nodule gets a note."
    yield ""
    rows = []
    for version in versions:
        for kind, one in version.figures["invisible"].items():
            rows.append([version.name, kind, *(one[key] for key in ("n", "real", "made", "without a note", "noted"))])
    yield from table(
        ["", "class", "nodules", "invisible, real", "invisible, made", "of these without a note", "with a note"],
        rows,
    )


def diameter_lines(versions: Sequence[Version]) -> Iterator[str]:
    """Give requested and measured diameters."""
    yield "Test patients. Rank correlation of the requested or stated diameter with the full width at half maximum (FWHM) of the nodule's radial HU profile, and with the longest chord of its mask."
    yield ""
    rows = []
    for version in versions:
        for name, one in version.figures["diameters"].items():
            if version is versions[-1] or name.startswith("made"):
                medians = " / ".join(f"{value:.1f}" for value in one["median asked, half-width, mask"])
                label = f"{name}, {version.name}" if name.startswith("made") else name
                rows.append([label, three(one["half-width"], ".3f"), three(one["mask"], ".3f"), medians])
    yield from table(["", "by the FWHM", "by the mask", "medians asked / FWHM / mask, mm"], rows)


def time_lines(times: Mapping[str, Any]) -> Iterator[str]:
    """Give the time of an injection, and of its parts."""
    yield "Adding one 8 mm nodule at an automatically chosen place to 512 x 512 x 140 voxels, as a whole process that writes scan, mask, region and manifest. Medians of five runs in which the versions take turns; shares are of"
    yield "the time under Python's profiler."
    yield ""
    rows, shares = [], []
    for name, found in times.items():
        for version, one in found.items():
            rows.append([name, version, *(f"{one[key]:.2f}" for key in ("seconds", "fastest", "user", "gigabytes"))])
            shares.append([name, version, ", ".join(f"{part} {share:.0%}" for part, share in one["parts"].items())])
    yield from table(["", "", "seconds", "fastest", "user CPU", "GB"], rows)
    yield ""
    yield from table(["", "", "where the time goes"], shares)
