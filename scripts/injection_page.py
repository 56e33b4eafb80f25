"""The page on injector and eraser, made from the figures that `results_injection.py` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from in_painting_page import (
    in_painting_lines,
    kid_lines,
    read_figures,
    reconstruction_lines,
    sheet_lines,
    shown_beside,
    sites_lines,
    times_lines,
    told_apart_lines,
    width_lines,
)
from in_painting_sheets import SHEET
from injection_times import MOST_ABOVE_S, MOST_GB
from pages import table, three
from synthorax.studies.healed import BESIDE_NODULE_MM
from synthorax.studies.in_painting import TEXTURE_WITHIN

INJECTOR, RENDER = "injector", "render"
FILES = {
    "geometry": "size, spacing, origin and direction as the source's",
    "outside": "voxels outside the region as the source's",
    "region as in memory": "region.dcm as in memory",
    "mask as in memory": "mask.dcm as in memory",
}
"""The checks of an edited DICOM series, by their names on the page."""


def injection_page(measured: Path, out: Path) -> Iterator[str]:
    """Give the lines of the page; pictures are copied next to it."""
    figures, painted = read_figures(measured), read_figures(measured / "in-painting")
    here = ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    minutes = figures["cpu minutes"] + painted["cpu minutes"]
    yield "# Added and erased nodules compared with real ones"
    yield ""
    yield from result_lines(figures, painted)
    yield ""
    yield f"Written by `python scripts/results_injection.py` on {date.today().isoformat()}; {here}; {minutes:.0f} CPU minutes{', quick' if figures['quick'] else ''}. Injector and eraser: CT-SGAN, appendix B."
    yield ""
    yield from summary_lines(figures, painted, measured)
    parts = {
        "Injected nodules and a detector": injected_lines(figures),
        "Injected nodules told from real ones": told_apart_lines(painted),
        "KID": kid_lines(painted),
        "Seam, diversity, texture": in_painting_lines(painted),
        "Diameters": width_lines(painted),
        "Reconstruction": reconstruction_lines(painted, INJECTOR),
        "Injected or real?": sheet_lines(measured / "in-painting", out, INJECTOR),
        "Erased nodules and a detector": erased_lines(figures),
        "Lung in the place of a nodule": healed_lines(figures),
        "Erased or healthy?": erased_sheet_lines(figures, measured, out),
        "The paper's figures": picture_lines(figures, measured, out),
        "Whole scans": times_lines(measured) if (measured / "times.json").exists() else iter(["Not timed."]),
        "DICOM": file_lines(figures),
    }
    parts = {"Sites": sites_lines(painted), **parts}
    for title, lines in parts.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield from lines


def result_lines(figures: Mapping[str, Any], painted: Mapping[str, Any]) -> Iterator[str]:
    """Return the results in a few sentences: of added nodules, and of erased ones."""
    added = figures["injected"]
    yield from first_sentences(figures, painted)
    yield ""
    real = added[INJECTOR]["called"]["real nodules"]
    shares = ", ".join(f"{name} {three(found['called']['injected'], '.0%')}" for name, found in added.items())
    same = _names(name for name, found in added.items() if found["called more"]["equivalent"])
    margin = added[INJECTOR]["called more"]["margin"]
    yield f"Added: detectors find {three(real, '.0%')} of the real nodules of held-out patients, and of synthetic ones of the same diameters and ratings {shares}; only for {same} is it shown that the share differs from that of the real ones by less than {100 * margin:g} percentage points."
    _, judged = next(iter(painted["told"].items()))
    apart = ", ".join(f"{name} {one['auc'][0]:.2f}" for name, one in judged["methods"].items() if name in added)
    yield f"A network that is trained for it can tell them from real nodules; its AUC, of which .5 would be perfect: {apart}."
    yield ""
    erased = figures["erased"]
    first = next(iter(next(iter(erased.values())).values()))["called"]
    yield f"Erased: of the places where a nodule was erased, detectors still call a nodule: {'; '.join(_erased_share(name, text, one) for name, by_text in erased.items() for text, one in by_text.items())}. Healthy sites of the same scans: {three(first['healthy sites'], '.0%')}; the nodules before: {three(first['nodules'], '.0%')}."


def first_sentences(figures: Mapping[str, Any], painted: Mapping[str, Any]) -> Iterator[str]:
    """Give the results for a reader who does not read on."""
    added = figures["injected"]
    shares = [found["called"]["injected"][0] for found in added.values()]
    real = added[INJECTOR]["called"]["real nodules"][0]
    _, judged = next(iter(painted["told"].items()))
    apart = {name: one["auc"][0] for name, one in judged["methods"].items() if name in added}
    nearest, farthest = (which(apart, key=lambda name: apart[name]) for which in (min, max))
    same = _names(name for name, found in added.items() if found["called more"]["equivalent"])
    points = f"{100 * added[INJECTOR]['called more']['margin']:g} percentage points"
    yield f"Detectors find {min(shares):.0%} to {max(shares):.0%} of added nodules and {real:.0%} of real ones; the difference is shown to be below {points} only for {same}. A network that is trained for it tells them from real ones, with an AUC of {apart[nearest]:.2f} ({nearest}) to {apart[farthest]:.2f} ({farthest}); .5 would be perfect."
    erased = {name: next(iter(by_text.values()))["called"] for name, by_text in figures["erased"].items()}
    left = ", ".join(f"{name} {called['the same places, erased'][0]:.0%}" for name, called in erased.items())
    healthy = next(iter(erased.values()))["healthy sites"][0]
    yield f"Where a nodule was erased, detectors still find one in a few places: {left}; at healthy places they find one in {healthy:.0%}."


def _erased_share(name: str, text: str, found: Mapping[str, Any]) -> str:
    more = found["called more"]
    shown = f"the same as at healthy sites within {100 * more['margin']:g} percentage points"
    return f"{name}, {text}, {three(found['called']['the same places, erased'], '.0%')}, {'' if more['equivalent'] else 'not shown to be '}{shown}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "no method"


def summary_lines(figures: Mapping[str, Any], painted: Mapping[str, Any], measured: Path) -> Iterator[str]:
    """Give a summary of the page in a table."""
    rows = []
    for name, found in figures["injected"].items():
        rows.append([f"{name}: as detectors see real nodules", _verdict(found["way left"]), "equivalence"])
    for name, by_text in figures["erased"].items():
        for text, found in by_text.items():
            rows.append([f"{name}, {text}: as detectors see healthy lung", _verdict(found["way left"]), "equivalence"])
    view, judged = next(iter(painted["told"].items()))
    for name, found in judged["methods"].items():
        rows.append([f"{name}: told from real ones, {view}", three(found["auc"], ".3f"), "AUC; .5 is perfect"])
    if (measured / "times.json").exists():
        for name, found in json.loads((measured / "times.json").read_text())["methods"].items():
            if name != RENDER:
                rows.append([f"{name}: seconds above rendering, memory", _cost(found), _goal(found)])
    yield from table(["", "found", "measure"], rows)


def injected_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give detectors' responses to injected nodules."""
    yield f"{_detectors(figures)} Each nodule was requested with the diameter and the ratings of a real one, and is compared with it. “Difference left” is the difference of the mean response from that to the real nodules, as a share of the difference between the sites before the edit and the real nodules."
    yield ""
    yield from _response_lines(figures["injected"], "real nodules")
    yield ""
    yield from _size_lines(figures["injected"])


def erased_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give detectors' responses to the places of erased nodules."""
    yield f"{_detectors(figures)} The table has real nodules and healthy sites of the same scans. “Difference left” is the difference of the mean response from that at healthy sites, as a share of the difference between the nodules and healthy sites."
    yield ""
    rows = {f"{name}, {text}": found for name, by_text in figures["erased"].items() for text, found in by_text.items()}
    yield from _response_lines(rows, "healthy sites")
    yield ""
    yield from _size_lines(rows)
    yield ""
    for name, found in rows.items():
        refused = f"; refused: {len(found['refused'])}, such as {found['refused'][0]}" if found["refused"] else ""
        yield f"- {name}: {found['n']} nodules erased, {found['doubted']} of them with `--force`, because they cannot be seen{refused}."


def healed_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give how similar an eraser's lung is to the lung of its scan."""
    yield f"The nodule's voxels after the erasure are compared with the scan's lung at least {BESIDE_NODULE_MM:g} mm from nodule and edit region; so are voxels of the same shape at healthy sites of the same scan, which have vessels too. HU: difference of the median from the lung's. Texture: roughness divided by the lung's; the goal is that of healthy sites ± {TEXTURE_WITHIN:g}. Seam: steps across the border of the region, after / before."
    yield ""
    rows = []
    for name, by_text in figures["erased"].items():
        for text, found in by_text.items():
            one = found["healed"]
            rows.append(
                [
                    f"{name}, {text}, {one['n']}",
                    f"{three(one['apart'], '.0f')}; healthy sites {three(one['site apart'], '.0f')}",
                    _verdict(one["more"], ".0f"),
                    f"{three(one['texture'], '.2f')}; healthy sites {three(one['site texture'], '.2f')}",
                    three(one["seam"], ".2f"),
                ]
            )
    yield from table(["nodules", "HU apart", "HU more than healthy sites", "texture", "seam"], rows)


def erased_sheet_lines(figures: Mapping[str, Any], measured: Path, out: Path) -> Iterator[str]:
    """Give contact sheets of erased places and healthy sites."""
    yield f"{SHEET} places of nodules that were erased given their voxels, and {SHEET} healthy sites, each of another scan, in random order; axial slices through the centre, lung window. The second picture is the key."
    yield ""
    for name in figures["erased"]:
        for file, text in ((f"sheet-{name}-erased.png", "shuffled"), (f"sheet-{name}-erased-key.png", "the key")):
            yield from shown_beside(measured, out, file, f"Healthy sites and places erased by {name}, {text}")


def picture_lines(figures: Mapping[str, Any], measured: Path, out: Path) -> Iterator[str]:
    """Give figures B.1 to B.3."""
    shown = ", ".join(f"{mm:.0f}" for mm in figures["shown mm"])
    yield f"B.1, nodules of {shown} mm added to LIDC-IDRI-0003: the volume of interest, the voxels hidden from the injector, its output, and the scan before and after."
    yield ""
    yield from shown_beside(measured, out, "injection-injector.png", "The injector, step by step")
    yield "B.2, real nodules of LIDC-IDRI-0001 and 0003 erased: the volume of interest, the eraser's output, and the scan before and after with the nodule's outline."
    yield ""
    yield from shown_beside(measured, out, "injection-eraser.png", "The eraser, step by step")
    yield "B.3, radii of LIDC-IDRI's nodules, means over their readers, compared with those drawn by `--auto lidc`."
    yield ""
    yield from shown_beside(measured, out, "injection-radii.png", "Radii of nodules")
    rows = [[name, *row] for name, row in figures["radii"].items()]
    yield from table(["", "nodules", "median radius, mm", "95th percentile, mm", "nodules a scan"], rows)


def file_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Give the checks of edited DICOM series with other readers."""
    yield "A nodule is added to the 25 original DICOM slices of LIDC-IDRI-0001, and erased from the written series; series are compared by SimpleITK (GDCM), segmentations are read by highdicom."
    yield ""
    names = list(figures["files"])
    rows = [
        [text, *("" if key not in one else "yes" if one[key] else "NO" for one in figures["files"].values())]
        for key, text in FILES.items()
    ]
    rows += [
        [
            "voxels changed, of those in the region",
            *(f"{f['changed']} of {f['region']}" for f in figures["files"].values()),
        ]
    ]
    yield from table(["", *names], rows)


def _response_lines(found: Mapping[str, Any], goal: str) -> Iterator[str]:
    """Give responses, and the two tests of equivalence."""
    rows = []
    for name, one in found.items():
        for kind, value in one["log odds"].items():
            called, n = one["called"][kind], one["places"][kind]
            rows.append([f"{name}: {kind}", n, three(value, ".2f"), three(called, ".3f")])
    yield from table(["", "places", "mean log odds", "called nodules"], rows)
    yield ""
    rows = [[name, _verdict(one["way left"]), _verdict(one["called more"], ".3f")] for name, one in found.items()]
    yield from table([f"against {goal}", "difference left", "called nodules more often"], rows)
    one = next(iter(found.values()))
    yield ""
    yield f"Intervals of 95 % over patients. Intervals of the equivalence tests are of 90 %; they lie within the margin if both one-sided tests reject. Margins, set beforehand: {one['way left']['margin']:g} of the difference, {one['called more']['margin']:g} of the places."


def _size_lines(found: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for name, one in found.items():
        for stratum, row in one["by size"].items():
            cells = [f"{kind} {v[0]:.2f}, {v[1]:.2f}" for kind, v in row.items() if kind != "n"]
            rows.append([f"{name}: {stratum}", row["n"], "; ".join(cells)])
    yield from table(["", "nodules", "mean log odds, share called nodules"], rows)


def _detectors(figures: Mapping[str, Any]) -> str:
    n = figures["detectors"]
    trained = f"{n} detectors of 24 mm cubes" if n > 1 else "A detector of 24 mm cubes"
    return f"{trained} trained on real patches of training patients; validation patients set the threshold. Tested on {figures['split']} patients, on whom no method was trained."


def _verdict(found: Mapping[str, Any], form: str = ".2f") -> str:
    said = "the same" if found["equivalent"] else "NOT SHOWN to be the same"
    return f"{three(found['value'], form)}: {said} within {found['margin']:g} (p {found['p']:.3f})"


def _cost(found: Mapping[str, Any]) -> str:
    return f"{found['above_s']:.2f} s, {found['above_user_s']:.2f} s of CPU; {found['gigabytes']:.2f} GB"


def _goal(found: Mapping[str, Any]) -> str:
    kept = min(found["above_s"], found["above_user_s"]) <= MOST_ABOVE_S and found["gigabytes"] <= MOST_GB
    return f"at most {MOST_ABOVE_S:g} s by the clock or of CPU, and {MOST_GB:g} GB: {'reached' if kept else 'MISSED'}"
