"""Parts of pages on in-painted nodules, from the figures that `results_in_painting.py measure` wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from in_painting_made import RENDER
from in_painting_sheets import MANY_SEEDS, SAME_SITE, SHEET
from injection_times import MOST_ABOVE_S, MOST_GB
from pages import table, three
from pasted_nodules import LIKE_NOISE, PASTED
from rendering_measures import RIM_MM
from rendering_page import profile_lines
from rendering_sites import SIZE, WIDEST_MM
from synthorax.figures import REAL, SYNTHETIC
from synthorax.metrics.borders import SEEN_REACH_MM
from synthorax.metrics.roughness import CORE_DEPTH_MM
from synthorax.metrics.seam import LEAST_SPHERE_MM
from synthorax.metrics.seed_diversity import DIVERSITY_BLUR_MM
from synthorax.studies.class_taken import NODULE_MEASURES
from synthorax.studies.in_painting import INNER_SEAM_WITHIN, LEAST_SEED_DIVERSITY, TEXTURE_WITHIN
from synthorax.studies.told_apart import LEAST_BLURRED, POWER, TELLER, TOLD_APART_BLUR_VOXELS

CONTROL = "real nodules, pasted"
METHOD_COLOURS = (REAL, SYNTHETIC, "#9a9a9a", "#5b8c5a", "#8a5aa8", "#b0413e")
"""Colours of real nodules and of methods."""
IN_PAINTING = {
    "seam": "seam: steps across the border, after / before",
    "inner_seam": "the same across the worst sphere inside",
    "rank": "share of places elsewhere in the scan with smaller steps, after",
    "own_rank": "the same before",
    "diversity_hu": "diversity in HU",
    "diversity_shape": "diversity in shape",
    "texture": "texture: nodule / lung around",
    "texture_to_real": "texture / that of real nodules alike",
    "texture_bare": "texture, noise not put back",
    "texture_bare_to_real": "texture, noise not put back / that of real nodules alike",
    "lung": "replaced lung: after / before",
    "lung_bare": "the same, noise not put back",
}
"""Figures of `InPaintingFigures`, as the page names them."""
ERRORS = {
    "told": "given outline and attributes",
    "blank": "the same, given an empty outline",
    "flat": "no network: the outline painted flat",
    "lung": "no network: lung alone",
}
OVERLAPS = {
    "mask_seen": "the mask returned, and the nodule seen in the reconstruction",
    "mask_real": "the mask returned, and the reader's outline",
    "seen_real": "the nodule seen in the reconstruction, and the outline",
    "real_seen_real": "the nodule seen in the real patch, and the outline",
}


def read_figures(measured: Path) -> dict[str, Any]:
    """Return the figures of a folder."""
    found: dict[str, Any] = json.loads((measured / "figures.json").read_text())
    return found


def named(name: str) -> str:
    """Return a method's name on the page."""
    return CONTROL if name == PASTED else name


def sites_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give the description of the sites."""
    counts = ", ".join(f"{n} of {split} patients" for split, n in figures["sites"].items())
    yield f"Sites: {counts}, on whom no method was trained. A site has no nodule, lies in a cube of another patient than the nodule whose attributes are requested there, and has as much dense tissue"
    yield f"in each shell around it as that nodule has. Nodules have a LUNA16 diameter of at most {WIDEST_MM:g} mm. KID and the test of whether nodules can be told apart use the {figures['common sites']} sites at which every method made a nodule."
    yield ""
    yield f"The control is not a method: real nodules of training patients, of similar diameter and texture, are pasted at the same sites, each drawn from the {LIKE_NOISE} whose scans' noise is most similar to the site's. Seam, texture and"
    yield "diversity are valid measures if they have the same values for these as for real nodules at their own places; for diversity only sites count at which the two seeds drew different nodules."


def in_painting_lines(figures: Mapping[str, Any], methods: Sequence[str] = ()) -> Iterator[str]:
    """Give seam, diversity and texture by method, and the goals that are missed.

    Args:
        methods: methods to show; all if empty.
    """
    rows = _chosen(figures, methods)
    yield f"Steps across the border of the edit region are averaged along it; so are those across spheres from {LEAST_SPHERE_MM:g} mm outside the requested ball, where a method's own edge may lie (goal {1 + INNER_SEAM_WITHIN:g}). Diversity: distance of two seeds at one site over that of two real nodules alike in diameter and texture, after a Gaussian of {DIVERSITY_BLUR_MM:g} mm, and as 1 - Dice"
    yield f"of the masks; the goal is {LEAST_SEED_DIVERSITY:g}. Texture: roughness deeper than {CORE_DEPTH_MM:g} mm in the outline divided by that of the lung around it, before the edit; the goals are 1 ± {TEXTURE_WITHIN:g} relative to similar real nodules, and for replaced lung."
    yield "Intervals of 95 % over patients."
    yield ""
    cells = [
        [text, *(f"{three(found[name]['value'], '.2f')}, {found[name]['n']}" for found in rows.values())]
        for name, text in IN_PAINTING.items()
    ]
    yield from table(["figure, number measured", *map(named, rows)], cells)
    yield ""
    real = next(iter(rows.values()))["texture_real"]
    yield f"The texture of {real['n']} real nodules is {three(real['value'], '.2f')} times that of the lung around them."
    yield ""
    for name, found in rows.items():
        missed = "; ".join(map(_in_words, found["missed"])) or "no goal is missed"
        refused = f" Refused at {len(found['refused'])} places: {found['refused'][0]}." if found["refused"] else ""
        yield f"- {named(name)}: {missed}.{refused}"


def _chosen(figures: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """Return the in-painting figures of some methods and of the control."""
    every = {name: one["in-painting"] for name, one in figures["methods"].items()}
    return {name: found for name, found in every.items() if not methods or name in (*methods, PASTED)}


def kid_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give the KID of patches by method."""
    yield f"KID x 1000 to the real nodules of training patients, by features of features-24mm on patches of {SIZE} mm; {figures['common sites']} patches in each set. In brackets: bounds that contain 95 % of the values for random subsets of half the set."
    yield ""
    yield from table(["", "KID x 1000"], [[named(name), three(found, ".0f")] for name, found in figures["kid"].items()])


def above(value: float) -> str:
    """Return a difference as words: so much above, or below."""
    return f"{abs(value):.0f} {'above' if value >= 0 else 'below'}"


def hu_by_class_lines(figures: Mapping[str, Any], out: Path, name: str) -> Iterator[str]:
    """Give the KID of the most frequent class, and HU of nodules by class and by distance from the edge."""
    sets, alone = figures["profiles"], figures["kid of a class"]
    kind = alone["kind"]
    real = sets["real"][kind]["hu"]
    of_all, of_kind = figures["kid"], alone["kid"]
    above_rendering = above(of_all[name][0] - of_all[RENDER][0])
    dense, rendered = (above(sets[each][kind]["hu"] - real) for each in (name, RENDER))
    yield f"KID x 1000 of {name} is {above_rendering} that of rendering. Of the {alone['n']} {kind} nodules alone it is {three(of_kind[name], '.0f')} for {name}, {three(of_kind[RENDER], '.0f')} for rendering and {three(of_kind['real'], '.0f')} for real ones. The median HU in the masks of these nodules is {dense} that in the outlines of real ones, by rendering {rendered};"
    yield f"the means of single nodules by {name} have a standard deviation of {sets[name][kind]['spread']:.0f} HU, those of real ones {sets['real'][kind]['spread']:.0f}."
    yield ""
    yield "HU within the outlines of the readers, and within the masks returned. `Between` is the standard deviation of the nodules' means, `within` the median of the standard deviations inside a nodule, `deep` the HU deeper than 2 mm, `profile` the mean absolute difference from the real profile."
    deaf = [each for each in sets if each != "real" and "calcification" not in figures["methods"][each]["heeds"]]
    if deaf:
        yield f"Methods that cannot be given a calcification: {', '.join(deaf)}."
    yield ""
    yield from profile_lines(sets, METHOD_COLOURS[: len(sets)], out / f"profiles-{name}.png")


def told_apart_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give AUCs of a newly trained network that distinguishes synthetic from real nodules."""
    yield f"A fresh {TELLER.network.kind} of {TELLER.steps} steps is trained to distinguish synthetic from real patches, and tested on other patients; an AUC of .5 is perfect. It is only valid with its controls: the interval of real against real must contain .5, and real against the same patches blurred by"
    yield f"{TOLD_APART_BLUR_VOXELS:g} voxel must be {LEAST_BLURRED:g} at least. The nodule alone is the ball of the real nodule's mask and {RIM_MM:g} mm about it."
    for view, one in figures["told"].items():
        yield ""
        rows = [
            [
                named(name),
                three(found["auc"], ".3f"),
                three(found["less rendered"], "+.3f") if found["less rendered"] else "",
            ]
            for name, found in one["methods"].items()
        ]
        control = one["controls"]
        rows += [["real against real", three(control["same"], ".3f"), ""]]
        rows += [["real against blurred", three(control["blurred"], ".3f"), ""]]
        yield from table([view, "AUC", "minus rendering's"], rows)
        yield ""
        fault = control["void"]
        valid = f"The verdict {fault}." if fault else "Both controls are as required, so these AUCs are valid."
        yield f"{figures['common sites']} real and as many synthetic patches: an AUC of {one['smallest']:.3f} would be detected with a power of {POWER:.0%}. {valid}"


def width_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give requested and measured diameters."""
    widths = {name: one["widths"] for name, one in {"real": figures, **figures["methods"]}.items() if "widths" in one}
    has_half_way = any("above half-way" in found for found in widths.values())
    yield "Rank correlation of the requested diameter with the full width at half maximum (FWHM) of the nodule's radial HU profile, and with the longest chord of its mask. Invisible: nodules that the noise hides."
    if has_half_way:
        yield "Of real nodules the diameter is the longest chord of a reader's outline. Above half-way: the correlation by the FWHM less the mean of rendering's and the real nodules'."
    yield ""
    rows = []
    for name, found in widths.items():
        medians = " / ".join(f"{value:.1f}" for value in found["median asked, half-width, mask"])
        half_way = [three(found.get("above half-way"), "+.2f")] if has_half_way else []
        hidden = f"{found['invisible']} of {found['n']}"
        by = [three(found[kind], ".2f") for kind in ("half-width", "mask")]
        rows.append(["real nodules" if name == "real" else named(name), *by, *half_way, medians, hidden])
    heads = ["by the FWHM", "by the mask", *["above half-way"] * has_half_way]
    yield from table(["", *heads, "medians asked / FWHM / mask, mm", "invisible"], rows)


def sheet_lines(measured: Path, out: Path, name: str) -> Iterator[str]:
    """Give the contact sheet of a method, and its key."""
    yield f"{SHEET} real and {SHEET} synthetic nodules in pairs of similar diameter, of {2 * SHEET} sites, in random order; axial slices through the centre, {SIZE} mm wide, lung window. The second picture is the key."
    yield ""
    for file, text in ((f"sheet-{name}.png", "shuffled"), (f"sheet-{name}-key.png", "the key")):
        yield from shown_beside(measured, out, file, f"Real nodules and nodules by {name}, {text}")


def class_lines(figures: Mapping[str, Any], measured: Path, out: Path, name: str) -> Iterator[str]:
    """Give the effect of requesting the other class, for a method that uses malignancy."""
    readers, real = figures["readers"], figures["real measures"]
    yield f"At the same sites and with the same seeds, benign (malignancy 1) and malignant (5) nodules are requested by diameter and class only. A classifier of malignancy that was trained on real training patients only ({readers['n']} trainings, mean probability) is applied to both."
    yield ""
    rows = [
        [
            f"real nodules of {split} patients",
            three(found["auc"], ".3f"),
            three(found["pairs of like size"], ".3f") if "pairs of like size" in found else "",
        ]
        for split, found in readers.items()
        if split != "n"
    ]
    figures_of = figures["methods"][name]["class"]
    for which, found in figures_of.items():
        rows.append(
            [f"{name}, {which}, {found['pairs']} pairs", three(found["auc"], ".3f"), three(found["wins"], ".3f")]
        )
    yield from table(
        ["", "AUC", "of like size: AUC of real pairs; share of made pairs whose malignant one scores higher"], rows
    )
    yield ""
    rows = []
    for which, found in figures_of.items():
        for measure, one in found["measures"].items():
            means = real["means"][measure]
            rows.append(
                [
                    f"{which}: {measure}",
                    f"{one['benign']:.3g}",
                    f"{one['malignant']:.3g}",
                    three(one["difference"], "+.3g"),
                    f"{one['p']:.3f}",
                    f"{means['benign']:.3g} / {means['malignant']:.3g}",
                ]
            )
    yield from table(["", "benign", "malignant", "difference in pairs", "p", "real, benign / malignant"], rows)
    yield ""
    yield "; ".join(f"{measure}: {text}" for measure, text in NODULE_MEASURES.items()) + "."
    correlations = [
        f"{measure} and the rating of {one['rating']} {three(one['correlation'], '.2f')}"
        for measure, one in real["ratings"].items()
    ]
    yield f"The visible nodule is everything denser than half-way between the lung and its core, up to {SEEN_REACH_MM:g} mm beyond its mask. Rank correlations on {real['n']} real nodules: {', '.join(correlations)}."
    yield ""
    yield from shown_beside(
        measured, out, f"classes-{name}.png", f"{SAME_SITE} sites before, and painted as both classes with two seeds"
    )
    yield from shown_beside(
        measured, out, f"seeds-{name}.png", f"Two sites and {MANY_SEEDS} seeds, benign above malignant"
    )


def _in_words(missed: str) -> str:
    """Return a missed goal, which begins with the name of a figure, with the page's words for the figure."""
    figure, _, rest = missed.partition(" ")
    return f"{IN_PAINTING.get(figure, figure)} {rest}"


def reconstruction_lines(figures: Mapping[str, Any], name: str) -> Iterator[str]:
    """Give how well a method reconstructs held-out nodules."""
    found = figures["methods"][name]["reconstruction"]
    yield f"{found['n']} real nodules of held-out patients are hidden by the ball and filled. The table has the mean absolute HU error over the hidden voxels, within the network's window. Flat: {found['flat HU']} HU, the mean of training nodules, in the outline, and lung around it;"
    yield "lung is the mean of the patch's visible lung. An in-painter that refuses an empty outline has no figure for it."
    if refused := found.get("refused"):
        yield f"Refused: {len(refused)}, such as {refused[0]}."
    yield ""
    yield from table(["fill", "error, HU"], [[text, three(found[key], ".0f")] for key, text in ERRORS.items()])
    yield ""
    yield from table(["masks", "Dice"], [[text, three(found[key], ".2f")] for key, text in OVERLAPS.items()])


def times_lines(measured: Path) -> Iterator[str]:
    """Give time and memory of an injection into a whole scan, from `times.json` of `injection_times.py`."""
    times = json.loads((measured / "times.json").read_text())
    here = ", ".join(f"{key} {value}" for key, value in times["machine"].items())
    yield f"Adding one nodule to a scan of 512 x 512 x 140 voxels with `synthorax inject`, or erasing one with `erase`, from start to end of the process; medians of processes that take turns. The goal is {MOST_ABOVE_S:g} s above rendering and {MOST_GB:g} GB. {here}."
    yield ""
    rows = [
        [
            name,
            f"{found['seconds']:.2f}",
            f"{found['user']:.2f}",
            f"{found['above_s']:+.2f}" if "above_s" in found else "",
            f"{found['above_user_s']:+.2f}" if "above_user_s" in found else "",
            f"{found['gigabytes']:.2f}",
        ]
        for name, found in times["methods"].items()
    ]
    yield from table(["", "seconds", "CPU s", "seconds above rendering", "CPU s above rendering", "GB at most"], rows)


def shown_beside(measured: Path, out: Path, file: str, text: str) -> Iterator[str]:
    """Give a picture of the measured folder, copied next to the page."""
    if measured.resolve() != out.resolve():
        shutil.copyfile(measured / file, out / file)
    yield f"![{text}]({file})"
    yield ""


def whole_page(measured: Path, out: Path) -> Iterator[str]:
    """Give all parts as one page."""
    figures = read_figures(measured)
    here = ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    yield "# In-painted nodules beside real ones"
    yield ""
    yield f"{here}; {figures['cpu minutes']} CPU minutes{', quick' if figures['quick'] else ''}."
    yield ""
    yield from sites_lines(figures)
    parts = {
        "Seam, diversity, texture": in_painting_lines(figures),
        "KID": kid_lines(figures),
        "Told apart from real ones": told_apart_lines(figures),
        "Diameters": width_lines(figures),
    }
    for name, one in figures["methods"].items():
        if name != PASTED:
            parts[f"{name}: HU by class"] = hu_by_class_lines(figures, out, name)
            parts[f"{name}: real or made?"] = sheet_lines(measured, out, name)
        if "class" in one:
            parts[f"{name}: does the class take?"] = class_lines(figures, measured, out, name)
        if "reconstruction" in one:
            parts[f"{name}: reconstruction"] = reconstruction_lines(figures, name)
    for title, lines in parts.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield from lines
