"""Several methods putting nodules at the same sites of a scan, to compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthorax.api.earlier_edits import earlier_edits
from synthorax.api.edit_requests import (
    LungFinderName,
    as_patients,
    finder_of,
    method_of,
    points_of,
    read_scan_given,
    recorded_options,
    request_of,
)
from synthorax.api.known_nodules import known_nodules
from synthorax.errors import InputError
from synthorax.makers import EditKind, as_recorded
from synthorax.nodule import Nodule, NoduleAttributes, kind_in_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.editing.edited import Edited
    from synthorax.editing.plan import AutoLidc
    from synthorax.figures import Slice
    from synthorax.hub import Model
    from synthorax.io.scans import Scan
    from synthorax.makers import Method
    from synthorax.volume import Volume

MOST_PICTURED = 8
"""Nodules that the picture shows at most."""
PICTURED_MM = 25.0
"""Distance in mm around a nodule that the picture shows; twice the diameter if that is more."""
BEFORE = "before"
"""Caption of the scan without new nodules, which no method may have as its name."""


def inject_each(
    scan: str | Path | Scan | Volume,
    methods: Sequence[str | Path | Model | Method],
    *,
    at_mm: Sequence[float] | Sequence[Sequence[float]] = (),
    auto: int | AutoLidc = 0,
    diameter_mm: float | Sequence[float] = (),
    attributes: NoduleAttributes | None = None,
    seed: int = 0,
    site: Site = "lung",
    clearance: Clearance | None = None,
    labels: str | Path | Volume | None = None,
    lungs: LungFinderName = "density",
    series: str | None = None,
    force: bool = False,
    out: str | Path | None = None,
    patient: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> dict[str, Edited]:
    """Put nodules into a chest CT with each of several methods, at the same sites.

    Args:
        scan: as in `inject`.
        methods: two or more methods, each as in `inject`; all of them must take the attributes and options.
        out: folder to write: a folder for each method, as `inject` writes it, and nodules.csv, manifest.json and a
            picture of all nodules.
        at_mm, auto, diameter_mm, attributes, seed, site, clearance, labels: as in `inject`.
        lungs, series, force, patient, keep_identity, overwrite, device, options: as in `inject`.

    Returns:
        The result of each method, by the method's name.

    Raises:
        InputError: as `inject`; or there are fewer than two methods.
        OutputError: the folder cannot be written.
    """
    from synthorax import hub
    from synthorax.editing.scan import inject_by_each
    from synthorax.io.atomic import check_folder_is_free

    if out is not None:
        check_folder_is_free(Path(out), overwrite=overwrite)
    request = request_of(points_of(at_mm), auto, diameter_mm, attributes, site, clearance, force)
    finder = finder_of(lungs)
    chosen = methods_by_name(methods, options, device)
    for method in chosen.values():
        hub.check_uses(method, [request.attributes], "injects")
    source = as_patients(read_scan_given(scan, series, force), patient, keep_identity)
    known = known_nodules(source, labels)
    made = inject_by_each(source, request, [*chosen.values()], seed, finder, known.labels)
    earlier = earlier_edits(source)
    edited = {}
    for name, given, one in zip(chosen, methods, made, strict=True):
        about = request.about() | {"lungs": lungs, **recorded_options(given, "injects", options)}
        one = one.noting([*source.notes, *known.notes_of_injection()])
        edited[name] = earlier.before(known.before(replace(one, about=about)), seed)
    if out is not None:
        write_each(Path(out), edited, seed, source, keep_identity=keep_identity, overwrite=overwrite)
    return edited


def methods_by_name(
    methods: Sequence[str | Path | Model | Method], options: Mapping[str, Any], device: str
) -> dict[str, Method]:
    """Return several methods by name, which is the name of a method's folder: as it was given, or else its system's.

    Raises:
        InputError: there are fewer than two methods, or one does not inject or lacks an option.
    """
    if len(methods) < 2:
        raise InputError("methods", str(len(methods)), "two or more to compare")
    found: dict[str, Method] = {}
    for method in methods:
        maker = method_of(method, "injects", options, device)
        stem = str(as_recorded(method)) if isinstance(method, str | Path) else maker.name
        number, name = 1, stem
        while name in found or name == BEFORE:
            number, name = number + 1, f"{stem}-{number + 1}"
        found[name] = maker
    return found


def write_each(
    out: Path,
    edited: Mapping[str, Edited],
    seed: int,
    source: Scan,
    *,
    patient_id: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    alone: bool = True,
) -> None:
    """Write the results of several methods with a picture; the arguments are those of `write_side_by_side`."""
    from synthorax.editing.side_by_side import write_side_by_side
    from synthorax.io.dicom_kept import kept_elements

    left = kept_elements(source.dicom, keep_identity=keep_identity)[1] if source.dicom else ()

    def picture(file: Path) -> list[str]:
        return draw_sites(file, source.ct, edited)

    write_side_by_side(
        out,
        {name: one.noting(left) for name, one in edited.items()},
        seed,
        source=source,
        about={name: one.about for name, one in edited.items()},
        picture=picture,
        patient_id=patient_id,
        keep_identity=keep_identity,
        overwrite=overwrite,
        alone=alone,
    )


def draw_sites(file: Path, before: Volume, edited: Mapping[str, Edited]) -> list[str]:
    """Draw a row for each site: the slice through its middle, before, and after each edit with the nodule's outline.

    The captions say which nodule and slice it is, by which method it was made or erased, its measured and its requested
    diameter, and the requested texture and malignancy. A line below explains the outlines.

    Args:
        file: PNG file to write.
        before: the scan before the edits.
        edited: name of each edit's method to its result; a single edit may have an empty name. All have the same sites.

    Returns:
        The ids of the nodules that the picture shows, at most `MOST_PICTURED`: those that are not visible in their
        surroundings, and the first of the others.
    """
    import numpy as np

    from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices
    from synthorax.geometry import orient

    whole = orient(before, "LPS")
    volumes = {name: (orient(one.ct, "LPS").voxels, orient(one.mask, "LPS").voxels) for name, one in edited.items()}
    none = np.zeros(whole.shape[1:], bool)
    panels = []
    first = next(iter(edited.values()))
    shown = _pictured(first.nodules)
    for i in shown:
        nodule = first.nodules[i]
        z, y, x = np.rint(whole.to_voxel(nodule.center_mm)).astype(int).tolist()
        diameter_mm = float(nodule.extra.get("wanted_diameter_mm") or nodule.attributes.diameter_mm or 0)
        wide = max(PICTURED_MM, 2 * diameter_mm)
        half = int(np.ceil(wide / whole.spacing_mm[2]))
        height_mm = whole.to_world((z, y, x))[2]
        named = nodule.nodule_id if first.kind == "erase" and not nodule.label else f"nodule {nodule.nodule_id}"
        caption = f"{named}, {BEFORE}\naxial slice at z = {height_mm:.1f} mm"
        panels.append(Slice(whole.voxels[z], none, caption, (y, x), REAL, half, pixel_mm=whole.spacing_mm[2]))
        for name, one in edited.items():
            hu, mask = (voxels[z] for voxels in volumes[name])
            outlined = mask == one.nodules[i].label if one.kind == "inject" else none
            caption = _caption(one.kind, one.nodules[i], name)
            others = (mask > 0) & ~outlined & _around(mask.shape, (y, x), half)
            panels.append(Slice(hu, outlined, caption, (y, x), SYNTHETIC, half, others, whole.spacing_mm[2]))
    rated = any(kind_in_words(one.nodules[i].attributes) for one in edited.values() for i in shown)
    figure = ct_slices(panels, half=half, columns=1 + len(edited), below=_below(first.kind, panels, rated))
    figure.savefig(file, format="png")
    return [first.nodules[i].nodule_id for i in shown]


def _around(shape: Sequence[int], middle: tuple[int, int], half: int) -> NDArray[np.bool_]:
    """Return the pixels [y, x] of a slice that a picture shows.

    Args:
        shape: pixels (y, x) of the slice.
        middle: pixel (y, x) in the middle of the picture.
        half: pixels on each side of it.
    """
    import numpy as np

    shown, (y, x) = np.zeros(shape, bool), middle
    shown[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = True
    return shown


def _pictured(nodules: Sequence[Nodule]) -> list[int]:
    """Return the indices of the nodules to show, in their order: those that are not visible go before the others."""
    chosen = sorted(range(len(nodules)), key=lambda i: nodules[i].extra.get("visible") != "no")
    return sorted(chosen[:MOST_PICTURED])


def _below(kind: EditKind, panels: Sequence[Slice], rated: bool) -> str:
    """Return the lines below the slices of nodules that were injected or erased.

    Args:
        kind: whether they were injected or erased.
        panels: the slices.
        rated: whether a caption shows ratings.
    """
    lines = []
    if kind == "inject":
        lines.append("Line: mask of the nodule.")
        if rated:
            ratings = "Ratings are those requested or, if none, of the nodule behind its outline or sample"
            lines.append(f"{ratings}; none is measured.")
    if any(panel.others is not None and panel.others.any() for panel in panels):
        lines.append("Dots: other nodules of the mask.")
    return "\n".join(lines)


def _caption(kind: EditKind, nodule: Nodule, name: str) -> str:
    """Return the lines above a slice after an edit.

    Args:
        kind: whether the nodule was injected or erased.
        nodule: the nodule.
        name: name of the method among several; empty to name the method that the nodule states.
    """
    from textwrap import wrap

    from synthorax.editing.erase import is_gone
    from synthorax.figures import CAPTION_CHARACTERS

    method, diameter_mm = name or nodule.extra.get("method", ""), nodule.attributes.diameter_mm or 0.0
    if kind == "erase":
        lines = [f"erased by {method}", f"a nodule of {diameter_mm:.1f} mm"]
        lines += ["not removed"] * (not is_gone(nodule))
    else:
        asked = nodule.extra.get("wanted_diameter_mm", "")
        asked = f", {float(asked):.3g} mm requested" if asked else ""
        lines = [f"made by {method}", f"mask of {diameter_mm:.1f} mm{asked}", kind_in_words(nodule.attributes)]
        lines += ["not visible in its surroundings"] * (nodule.extra.get("visible") == "no")
    return "\n".join(part for line in lines for part in wrap(line, CAPTION_CHARACTERS))
