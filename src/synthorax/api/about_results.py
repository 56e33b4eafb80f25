"""What `info` tells of a folder that this package wrote, of a table of nodules, and of a folder of scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthorax.errors import InputError
from synthorax.provenance import MANIFEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN_FACTS = ("synthetic", "method", "model_sha256", "seed", "patient_id", "source", "annotated", "files")
"""Entries of a manifest that `info` shows as they are."""
SHOWN_OF_STUDIES = ("study", "answer", "data", "maker", "models", "date")
"""Entries of a study's results that `info` shows as they are."""
MOST_SCANS_NAMED = 5
"""Scans of a folder that `info` names at most."""


def result_facts(folder: Path) -> dict[str, Any]:
    """Return what a folder with a manifest holds: its kind in words, how it was made, its nodules and the patients.

    Raises:
        InputError: the manifest is damaged.
    """
    from synthorax.io.mappings import read_mapping

    manifest = read_mapping(folder / MANIFEST, "manifest")
    if "samples" in manifest:
        samples = manifest.pop("samples")
        return {"holds": "samples", **manifest, "samples": len(samples) if isinstance(samples, list) else samples}
    kind = _kind(manifest)
    if kind == "result":
        return {"holds": kind, **manifest}
    about = {name: manifest[name] for name in SHOWN_FACTS if manifest.get(name) not in (None, "", {})}
    if methods := _rows(manifest, "methods"):
        about["methods"] = ", ".join(str(part.get("method")) for part in methods)
    cases = _rows(manifest, "cases")
    if cases:
        about |= {"cases": len(cases), "such_as": [case.get("case") for case in cases[:MOST_SCANS_NAMED]]}
    for name in ("nodules", "erased"):
        if isinstance(manifest.get(name), list):
            about[name] = [_nodule_facts(nodule) for nodule in _rows(manifest, name)]
        elif any(name in case for case in cases):
            about[name] = sum(len(_rows(case, name)) for case in cases)
    for name in ("failed", "notes"):
        if manifest.get(name):
            about[name] = manifest[name]
    return {
        "holds": kind,
        **about,
        **_edits(manifest),
        **_behind(manifest.get("lineage")),
        "all_facts": f"{MANIFEST} in this folder",
    }


def study_facts(folder: Path) -> dict[str, Any]:
    """Return what a study's folder holds: its name, its answer, and the means of each arm's measures.

    Raises:
        InputError: the results are damaged.
    """
    from synthorax.io.mappings import read_mapping
    from synthorax.io.own_kinds import STUDY_RESULTS

    results = read_mapping(folder / STUDY_RESULTS)
    arms: dict[str, Any] = {}
    for arm in _rows(results, "arms"):
        measures = arm.get("metrics")
        arms[str(arm.get("name"))] = {
            name: value.get("mean") if isinstance(value, dict) else value
            for name, value in (measures.items() if isinstance(measures, dict) else ())
        }
    about = {name: results[name] for name in SHOWN_OF_STUDIES if results.get(name)}
    where = {"page": "index.html", "all_facts": f"{STUDY_RESULTS} in this folder"}
    return {"holds": "study", **about, "arms": arms, **where}


def table_facts(table: Path) -> dict[str, Any]:
    """Return what a table of nodules, or a plan of the nodules of one scan, holds.

    Raises:
        InputError: it is not a valid table of nodules.
    """
    from synthorax.annotations.nodule_table import KNOWN, read_nodule_table
    from synthorax.io.tables import read_table

    columns = read_table(table, sorted(KNOWN))[0]
    if "image" not in columns and "diameter_mm" in columns:
        return _plan_facts(table)
    images = read_nodule_table(table)
    nodules = [nodule for image in images for nodule in image.nodules]
    diameters = [nodule.attributes.diameter_mm for nodule in nodules if nodule.attributes.diameter_mm is not None]
    return {
        "holds": "table of nodules",
        "images": len(images),
        "patients": len({image.patient_id for image in images if image.patient_id}),
        "nodules": len(nodules),
        "nodules_with_mask": sum(nodule.mask is not None for nodule in nodules),
        "diameter_mm": quartiles_of(diameters),
        "ratings": sorted({name for nodule in nodules for name in nodule.ratings}),
        "further_columns": sorted({name for nodule in nodules for name in nodule.extra}),
        "use": "`synthorax prepare patches FOLDER --out STORE` on the folder of the images reads it, and `inject` and "
        "`erase` take it as --plan",
    }


def _plan_facts(table: Path) -> dict[str, Any]:
    """Return what a plan of the nodules of one scan holds."""
    from synthorax.editing.plan_table import read_plan

    (nodules,) = read_plan(table).values()
    return {
        "holds": "plan of nodules",
        "nodules": len(nodules),
        "nodules_with_place": sum(one.point_mm is not None for one in nodules),
        "diameter_mm": quartiles_of([one.diameter_mm for one in nodules]),
        "use": f"`synthorax inject SCAN --plan {table.name}`, or `erase` if all have a place",
    }


def quartiles_of(values: Sequence[float]) -> dict[str, float]:
    """Return least value, quartiles and largest value by name; an empty mapping of no values.

    >>> quartiles_of([5.0, 9.0, 6.0])
    {'least': 5.0, 'lower_quartile': 5.5, 'median': 6.0, 'upper_quartile': 7.5, 'largest': 9.0}
    """
    import numpy as np

    if not len(values):
        return {}
    names = ("least", "lower_quartile", "median", "upper_quartile", "largest")
    return dict(zip(names, np.round(np.percentile(values, [0, 25, 50, 75, 100]), 3).tolist(), strict=True))


def ends_of(values: NDArray[Any]) -> dict[str, float]:
    """Return the least and the largest value by these names; an empty mapping of no values."""
    return {"least": float(values.min()), "largest": float(values.max())} if values.size else {}


def scans_facts(folder: Path, images: Sequence[Path]) -> dict[str, Any]:
    """Return what a folder of images holds, without reading their voxels.

    Args:
        folder: the folder.
        images: its images, at least one.
    """
    from synthorax.annotations.nodule_table import NODULE_TABLE
    from synthorax.datasets.discovery import masks_by_name

    masks = {mask for found in masks_by_name(images).values() for mask in found}
    names = [image.relative_to(folder).as_posix() for image in images if image not in masks]
    return {
        "holds": "folder of scans",
        "scans": len(names),
        "such_as": names[:MOST_SCANS_NAMED],
        "masks_by_name": len(masks),
        "tables": [path.relative_to(folder).as_posix() for path in sorted(folder.rglob(NODULE_TABLE))],
        "use": "`synthorax info FILE` tells of one scan; inject, erase and `prepare scans` take the folder",
    }


def _kind(manifest: Mapping[str, Any]) -> str:
    """Return the kind of a result in words; `result` for one that no kind fits."""
    files = manifest.get("files")
    names = set(files) if isinstance(files, dict) else set()
    if isinstance(manifest.get("cases"), list):
        painted = any("labels" in (case.get("files") or ()) for case in _rows(manifest, "cases"))
        return "scans painted from label maps" if painted else "edited scans, one folder for each"
    if isinstance(manifest.get("methods"), list):
        return "one scan edited by several methods, one folder for each"
    if "region" in names:
        return "scan from which nodules were erased" if "erased" in manifest else "scan with injected nodules"
    return "scan painted from a label map" if "labels" in names else "result"


def _rows(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the mappings of a list in a manifest; empty if there is no such list."""
    found = content.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _nodule_facts(nodule: Mapping[str, Any]) -> dict[str, Any]:
    attributes, extra = nodule.get("attributes") or {}, nodule.get("extra") or {}
    about = {"id": nodule.get("nodule_id"), "center_mm": nodule.get("center_mm"), **attributes}
    return about | {name: extra[name] for name in ("method", "visible", "edit") if name in extra}


def _edits(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the edits of a scan that was edited several times, a line for each."""
    request = manifest.get("request")
    edits = request.get("edits") if isinstance(request, dict) else None
    if not isinstance(edits, list):
        return {}
    return {"edits": [_edit(number, one) for number, one in enumerate(edits, start=1)]}


def _edit(number: int, one: Mapping[str, Any]) -> str:
    """Return an edit as a line: its number, which its nodules state, and the scan that was edited."""
    source = one["source"] if isinstance(one.get("source"), dict) else {}
    scan = source.get("name") or "series"
    sha = source.get("sha256") or source.get("series_uid_sha256")
    of = f", of {scan} with SHA-256 {str(sha)[:12]}..." if sha else ""
    return f"{number}: {one.get('edit')} by {one.get('method')}, seed {one.get('seed')}{of}"


def _behind(row: object) -> dict[str, Any]:
    """Return how many patients' data a lineage names."""
    from synthorax.lineage import Lineage

    try:
        lineage = Lineage.from_row(row if isinstance(row, dict) else {})
    except ValueError:
        return {"patients_behind_it": "not known, since the manifest has no valid lineage"}
    if not lineage.tells:
        return {"patients_behind_it": "not known; `prepare --only-train` leaves it out"}
    return {"patients_behind_it": {"trained_on": len(lineage.seen), "outlines_of": len(lineage.outlines)}}


def table_or_manifest(path: Path) -> dict[str, Any] | None:
    """Return what a table of nodules or a manifest holds; None for a file that is neither by its name.

    Raises:
        InputError: it has the name of one of them, and is not valid.
    """
    if not path.is_file():
        return None
    if path.name == MANIFEST:
        return {"file": f"manifest of the folder {path.absolute().parent.name}", **result_facts(path.parent)}
    return table_facts(path) if path.suffix.lower() == ".csv" else None


def unfinished(folder: Path) -> dict[str, Any] | None:
    """Return what a folder of edited scans holds whose run was stopped; None for another folder.

    Raises:
        InputError: a file of the folder is damaged.
    """
    from synthorax.editing.cases import CASES_REQUEST, is_done, is_stopped
    from synthorax.io.mappings import read_mapping

    if not is_stopped(folder):
        return None
    cases = read_mapping(folder / CASES_REQUEST)["cases"]
    if not isinstance(cases, dict):
        raise InputError(folder / CASES_REQUEST, "no cases", "a file that synthorax wrote")
    done = sum(is_done(folder / str(case)) for case in cases)
    return {"holds": "edited scans that were not finished", "cases": f"{done} of {len(cases)}", "use": "run it again"}
