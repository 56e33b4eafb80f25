"""`info` and `verify`: what a file or folder holds, and whether it is marked as synthetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthorax.api.about_results import ends_of, quartiles_of
from synthorax.errors import InputError
from synthorax.nodule import Nodule, malignancy_of, place_text, rating_word
from synthorax.provenance import MANIFEST
from synthorax.registry import Entry, registry
from synthorax.training.files import BEST, CONFIG, DATA, read_log

if TYPE_CHECKING:
    from synthorax.datasets.case import CaseEntry
    from synthorax.datasets.pack import Pack
    from synthorax.io.marks import FoundMark
    from synthorax.io.scans import Scan
    from synthorax.volume import Volume

MOST_DAMAGED_NAMED = 5
"""Damaged files that an error names at most."""
HASHES = {
    True: "one a file; `synthorax info STORE --check` compares them all",
    False: "one a case, none of chunks, as format 1 has it; prepare the store again to have them",
}
"""How a store's files are hashed, by whether its format is newer than 1."""
PATHS_HASH = "hash_of_source_paths"
"""Name that `info` gives to the hash of the paths of a store's sources, by which `prepare` knows them again."""
MOST_DRAWN = 6
"""Cases of a store whose label maps are drawn at most."""
MOST_LABEL_VALUES = 32
"""Voxels are counted by label only in images with at most this many different values."""


def verify(path: str | Path) -> list[FoundMark]:
    """Return the marks by which a file or folder says that it is synthetic; an empty list if it has none.

    Args:
        path: NIfTI, MHA, MHD, NRRD, STL or DICOM file, DICOM folder, folder of samples, or store.

    Raises:
        InputError: there is no such path, or a file cannot be read.
    """
    from synthorax.datasets.store import is_store
    from synthorax.io.marks import FoundMark, find_marks

    path = Path(path)
    if path.is_dir() and is_store(path):
        from synthorax.datasets.store import Store

        cases = Store(path).cases
        marks = Counter(case.synthetic for case in cases if case.synthetic)
        partly = marks.total() < len(cases)
        return [FoundMark(mark, f"{n} of {len(cases)} cases of the store", partly) for mark, n in marks.items()]
    return find_marks(path)


def info(path: str | Path, *, check: bool = False, draw: str | Path | None = None) -> dict[str, Any]:
    """Return what a store, run folder, model, result, scan, folder of scans, mask, table or array holds.

    Args:
        path: file or folder, or the name of a bundled model or of a system.
        check: read every file of a store and compare its hash with the recorded one.
        draw: PNG file to write, with slices of a store's CT beside its label maps of tissues.

    Returns:
        Facts by name, which can be written as JSON; `holds` tells the kind, such as "store" or "mask".

    Raises:
        InputError: the path does not exist or is of no known kind; with `check`, a file of the store is missing or has
            changed; `check` or `draw` is given and the path is not a store; or `draw`, and it has no label maps.
        OutputError: the picture cannot be written.
    """
    from synthorax import hub
    from synthorax.api.about_results import result_facts, study_facts, table_or_manifest, unfinished
    from synthorax.datasets.scan_folder import is_scan_folder, rows_of
    from synthorax.datasets.store import is_store
    from synthorax.io.own_kinds import STUDY_RESULTS, is_study
    from synthorax.io.walk import check_listed

    if not Path(path).exists() and str(path) in (known := hub.bundled()):
        path = known[str(path)]
    path = Path(path)
    if not path.exists():
        if (entry := registry().entries.get(str(path))) is not None:
            return _system(entry)
        raise InputError(path, "nothing", "a file or folder, or the name of a model or system")
    if check and not (path.is_dir() and is_store(path)):
        raise InputError(path, "no store", "a store, since --check compares the hashes of a store's files")
    if draw is not None and not (path.is_dir() and is_store(path)):
        raise InputError(path, "no store", "a store, since --draw shows a store's label maps of tissues")
    if path.is_dir():
        check_listed(path)
        if is_store(path):
            about = _store(path, check)
            return about | ({} if draw is None else {"drawn": _draw(path, Path(draw))})
        if (path / hub.CARD).is_file():
            card = hub.read_card(path)
            return {"holds": "bundled model", **card.facts, "card": card.text}
        if (path / CONFIG).is_file():
            return _run(path)
        if (path / MANIFEST).is_file():
            return result_facts(path)
        if is_study(path):
            return study_facts(path)
        if is_scan_folder(path):
            return {"holds": "samples that were not finished", "samples": len(rows_of(path))}
        if (stopped := unfinished(path)) is not None:
            return stopped
        return _scans(path)
    if path.name == STUDY_RESULTS and is_study(path.parent):
        return study_facts(path.parent)
    return table_or_manifest(path) or _file(path)


def _system(entry: Entry) -> dict[str, Any]:
    from synthorax.hub import bundled, system_of, training_command, uses

    facts: dict[str, Any] = {"holds": "system", "name": entry.name, "about": entry.help}
    if entry.is_trained:
        models = [name for name, folder in bundled().items() if system_of(folder).name == entry.name]
        facts["bundled_models"] = ", ".join(models) or "none"
        facts["train"] = f"`{training_command(entry)}`"
        facts["presets"] = {name: entry.about_presets.get(name, "") for name in entry.presets}
    return facts | ({"use": using.removeprefix("; ")} if (using := uses(entry.name)) else {})


def _store(path: Path, check: bool) -> dict[str, Any]:
    from synthorax.datasets import summary
    from synthorax.datasets.lineage import leaks_in_training
    from synthorax.datasets.store import Store

    store = Store(path)
    checked = store.check() if check else None
    if checked and checked.errors:
        raise _damage(path, checked.files, checked.errors)
    nodules = [nodule for case in store.cases for nodule in case.nodules]
    diameters = [n.attributes.diameter_mm for n in nodules if n.attributes.diameter_mm is not None]
    return {
        "holds": "store",
        "format": store.format,
        "hashes": HASHES[store.format > 1],
        **({"checked": f"{checked.files} files, all as they were written"} if checked else {}),
        "source": {PATHS_HASH if name == "place" else name: value for name, value in store.source.items()},
        "cases": len(store),
        **_patients(store.splits, store.cases),
        "nodules": {name: sum(len(case.nodules) for case in store.in_split(name)) for name in store.splits},
        "masked_nodules": sum(nodule.label > 0 for nodule in nodules),
        "label_maps_of_tissues": sum(case.has_tissue for case in store.cases),
        "annotated": summary.annotation_counts(store),
        "structures_not_taken": summary.structures_not_taken(store),
        "diameter_mm": quartiles_of(diameters),
        "malignancy": _by_rating([nodule.attributes.malignancy for nodule in nodules]),
        "classes": _by_class(nodules),
        "texture": _by_word("texture", [nodule.attributes.texture for nodule in nodules]),
        "shape_zyx": _bounds([case.shape for case in store.cases]),
        "spacing_zyx_mm": _bounds([case.spacing_mm for case in store.cases]),
        "synthetic_cases": sum(bool(case.synthetic) for case in store.cases),
        "synthetic_training_cases_that_may_leak": leaks_in_training(store),
        "skipped": store.skipped,
        "notes": summary.case_notes(store),
        "fingerprint": store.fingerprint,
    }


def _by_rating(values: Sequence[float | None]) -> dict[str, int]:
    """Return the number of nodules of each malignancy, rounded to a rating; the last entry counts those without one.

    >>> _by_rating([1.0, 3.7, 4.0, None])
    {'1 of 5': 1, '4 of 5': 2, 'not rated': 1}
    """
    rated = Counter(int(value + 0.5) for value in values if value is not None)
    return {f"{rating} of 5": rated[rating] for rating in sorted(rated)} | _not_rated(values)


def _by_class(nodules: Sequence[Nodule]) -> dict[str, int]:
    """Return the number of benign and of malignant nodules by the median of their readers; empty if none is rated."""
    found = Counter(malignancy_of(nodule) for nodule in nodules)
    classes = {"malignant, median 4 or more": found[1], "benign, all other rated nodules": found[0]}
    return classes if any(classes.values()) else {}


def _by_word(name: str, values: Sequence[float | None]) -> dict[str, int]:
    """Return the number of nodules of each word of a rating; the last entry counts nodules without the rating.

    >>> _by_word("texture", [1.0, 5.0, 4.8, None])
    {'solid': 2, 'ground-glass': 1, 'not rated': 1}
    """
    words = Counter(rating_word(name, value) for value in values if value is not None)
    return dict(words.most_common()) | _not_rated(values)


def _not_rated(values: Sequence[float | None]) -> dict[str, int]:
    return {"not rated": count} if (count := sum(value is None for value in values)) else {}


def _draw(path: Path, out: Path) -> str:
    """Draw CT and label maps of some cases, each in the slice with most nodule voxels; return a line about them."""
    from synthorax.anatomy.tissue import TissueClass
    from synthorax.datasets.store import Store
    from synthorax.datasets.tissue import class_shares
    from synthorax.figures import tissue_slices
    from synthorax.io.atomic import new_file

    store = Store(path)
    cases = [case for case in store.cases if case.has_tissue]
    if not cases:
        raise InputError(path, "a store without label maps of tissues", "one that was prepared with --tissue")
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, MOST_DRAWN).round().astype(int))]
    tissues, hu, captions, shares = [], [], [], []
    for entry in chosen:
        case = store.read(entry.case_id)
        assert case.tissue is not None
        area = (case.tissue == TissueClass.NODULE).sum((1, 2))
        z = int(area.argmax()) if area.any() else len(area) // 2
        tissues.append(case.tissue[z])
        hu.append(case.ct.voxels[z])
        captions.append(f"{entry.case_id[-24:]}, slice {z}")
        shares.append(class_shares(case.tissue))
    with new_file(out, overwrite=False, is_ours=lambda _: False, sources=[path]) as file:
        tissue_slices(tissues, {"CT": hu}, captions=captions).savefig(file, format="png")
    means = {name: float(np.mean([one[name] for one in shares])) for name in shares[0]}
    of_voxels = ", ".join(f"{share:.1%} {name}" for name, share in means.items())
    return f"{out.name}, {len(chosen)} of {len(cases)} cases with label maps; of their voxels {of_voxels}"


def _damage(path: Path, files: int, errors: Sequence[InputError]) -> InputError:
    """Return one error for all damaged files of a store: the error of the first, and the names of the others."""
    subject, found, expected = errors[0].args
    others = [Path(error.args[0]).relative_to(path).as_posix() for error in errors[1:]]
    named = f", and {len(others)} more damaged of {files}: {', '.join(others[:MOST_DAMAGED_NAMED])}" if others else ""
    return InputError(subject, found + named + ", ..." * (len(others) > MOST_DAMAGED_NAMED), expected)


def _run(path: Path) -> dict[str, Any]:
    from synthorax.io.mappings import read_mapping

    config, data, log = read_mapping(path / CONFIG), read_mapping(path / DATA), read_log(path)
    facts = {"holds": "run", **config, "data": _counted(data), "last": log[-1] if log else {}}
    return facts | (_best(path, log) if (path / BEST).is_file() else {})


def _best(run: Path, log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the weights that commands use of a run that was validated, and the figures of that validation."""
    from synthorax.training.run_folder import best_validation  # imports torch, which takes a second

    best = best_validation(run)
    lines = [line for line in log if line["step"] == best.get("step") and best["value"] in line.values()]
    return {"best": dict(lines[0]) if lines else best, "weights_used": f"{BEST}, those of the best validation"}


def _counted(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree with each list replaced by its length, since lists of patients have hundreds of entries."""
    return {
        name: _counted(value) if isinstance(value, dict) else len(value) if isinstance(value, list) else value
        for name, value in tree.items()
    }


def _scans(path: Path) -> dict[str, Any]:
    """Return what a folder of DICOM series or of images holds; of one with both, the series and the number of images.

    Raises:
        InputError: it has neither.
    """
    from synthorax.api.about_results import scans_facts
    from synthorax.io.images import is_image
    from synthorax.io.walk import files_below

    images = [file for file in files_below(path) if is_image(file)]
    try:
        found = _dicom(path)
    except InputError:
        if images:
            return scans_facts(path, images)
        raise
    return found | ({"images": len(images)} if images else {})


def _dicom(path: Path) -> dict[str, Any]:
    from synthorax.io.dicom import find_series, read_series_files
    from synthorax.io.scans import of_series
    from synthorax.provenance import fingerprint, synthetic_patient

    found = find_series(path)
    made: list[dict[str, Any]] = []
    for series in found:
        row: dict[str, Any] = {"uid": series.key, "patient_id": series.patient_id, "modality": series.modality}
        row |= {"description": series.description, "files": len(series.files)}
        if series.modality == "CT":
            patient = series.patient_id or series.study_uid or series.uid
            row |= {"patient_id_in_results": synthetic_patient(patient), "series_uid_sha256": fingerprint(series.uid)}
        if series.apart:
            row["apart"] = f"{series.apart} in {series.files[0].parent}"
        if series.is_localizer:
            row["unusable"] = "localizer images, which are not slices of a volume"
        elif series.modality == "CT":
            try:
                ct = read_series_files(series.files, series.left_out)
                row |= _volume(ct.volume) | {"synthetic": ct.mark, "notes": list(ct.notes)}
                row |= _nodules(replace(of_series(ct), path=path))
            except InputError as error:
                row["unusable"] = str(error)
        made.append(row)
    return {"holds": "DICOM", "series": made, "left_out": [f"{file}: {reason}" for file, reason in found.left_out]}


def _file(path: Path) -> dict[str, Any]:
    from synthorax.datasets.pack import Pack
    from synthorax.io.arrays import open_npy
    from synthorax.io.contents import what_is
    from synthorax.io.dicom import is_dicom, read_header, read_mark, read_series_files
    from synthorax.io.dicom_elements import element_text
    from synthorax.io.images import is_image, open_image
    from synthorax.io.images import read_mark as read_image_mark
    from synthorax.io.scans import Scan
    from synthorax.io.segments import list_segments
    from synthorax.io.walk import not_regular

    if is_image(path):
        if list_segments(path):
            return _segmentation(path) | {"synthetic": read_image_mark(path)}
        image = open_image(path)
        kind = "mask" if image.volume.voxels.min() >= 0 and image.volume.voxels.max() <= 255 else "image"
        facts = {**_volume(image.volume), "synthetic": read_image_mark(path), "notes": list(image.notes)}
        scan = Scan(image.volume, notes=image.notes, path=path)
        return {"holds": kind, **facts, **(_nodules(scan) if kind == "image" else {})}
    if path.suffix.lower() == ".npy":
        array = open_npy(path)
        ends = _ends(array) if array.dtype.kind in "biuf" else {}
        return {"holds": "array", "shape": list(array.shape), "dtype": str(array.dtype), **ends}
    if is_dicom(path):
        header = read_header(path)
        names = ("Modality", "PatientID", "SeriesInstanceUID", "SOPInstanceUID", "Rows", "Columns", "NumberOfFrames")
        about = {name: element_text(header, name) for name in names}
        if element_text(header, "NumberOfFrames") not in ("", "1") and about["Modality"] == "CT":
            try:
                about |= _volume(read_series_files([path]).volume)
            except InputError as error:
                about["unusable"] = str(error)
        return {"holds": "DICOM file", **about, "synthetic": read_mark(header)}
    try:
        return _pack(Pack(path))
    except InputError:
        pass  # it is no pack
    found = not_regular(path) or what_is(path) or "a file of no known kind"
    raise InputError(path, found, "a store, run, result, scan, mask, nodules.csv or array")


def _patients(splits: Mapping[str, Collection[str]], cases: Iterable[CaseEntry]) -> dict[str, Any]:
    """Return the number of patients with a case in each split, and of the other patients that a split names, if any.

    A pack and a store that was unpacked from it know the patients of the splits that were not packed.
    """
    present = {case.patient_id for case in cases}
    found = {name: len(present.intersection(patients)) for name, patients in splits.items()}
    others = {name: len(patients) - found[name] for name, patients in splits.items() if len(patients) > found[name]}
    return {"patients": found, **({"patients_without_a_case": others} if others else {})}


def _pack(pack: Pack) -> dict[str, Any]:
    return {
        "holds": "pack",
        "cases": len(pack.entries),
        **_patients(pack.splits, pack.entries),
        "nodules": sum(len(case.nodules) for case in pack.entries),
        "use": "`synthorax unpack PACK --out STORE`",
    }


def _nodules(scan: Scan) -> dict[str, Any]:
    """Return the nodules of a scan by the files beside it, with the labels that `erase --labels` takes."""
    from synthorax.api.known_nodules import known_nodules
    from synthorax.editing.plan import ball_around
    from synthorax.region import regions_of

    try:
        known = known_nodules(scan, None)
    except InputError as error:
        return {"nodules_unknown": str(error)}
    found = {}
    facts = {nodule.label: nodule for nodule in known.nodules}
    if known.labels is not None:
        for label, region in enumerate(regions_of(known.labels.voxels), start=1):
            if region.voxels:
                ball = ball_around(region, known.labels)
                wide = f"{ball.diameter_mm:.1f} mm wide"
                own = facts[label].attributes.diameter_mm if label in facts else None
                if own is not None and f"{own:.1f} mm wide" != wide:
                    wide += f" on its mask, {own:.1f} mm by its annotation"
                called = facts[label].nodule_id if label in facts else ""
                called = f"nodule {called}, " if called.isdecimal() and int(called) != label else ""
                found[str(label)] = f"{called}{place_text(ball.center_mm)} mm, {wide}"
    for nodule in known.without:
        width = nodule.attributes.diameter_mm
        wide = "of unknown diameter" if width is None else f"{width:.1f} mm wide"
        found[nodule.nodule_id.lstrip("0") or "0"] = f"{place_text(nodule.center_mm)} mm, {wide}, without a mask"
    return ({"nodules": found} if found else {}) | ({"notes_on_nodules": list(known.notes)} if known.notes else {})


def _segmentation(path: Path) -> dict[str, Any]:
    from synthorax.io.segments import read_segments

    found = read_segments(path)
    segments = [
        {"name": segment.name, "label": segment.value, "layer": segment.layer, "voxels": region.voxels}
        for segment, region in zip(found.segments, found.regions, strict=True)
    ]
    return {"holds": "segmentation", **_grid(found.grid), "segments": segments, "notes": list(found.notes)}


def _grid(volume: Volume) -> dict[str, Any]:
    from synthorax.geometry import axes_of

    return {
        "shape_zyx": list(volume.shape),
        "spacing_zyx_mm": list(volume.spacing_mm),
        "origin_xyz_mm": list(volume.origin_mm),
        "direction": np.round(volume.direction, 6).tolist(),
        "axes_xyz": axes_of(volume),
    }


def _ends(values: NDArray) -> dict[str, Any]:
    """Return the range of an array's finite values, and the number of values that are not finite if there are any."""
    finite = values if values.dtype.kind != "f" else values[np.isfinite(values)]
    about: dict[str, Any] = {"range": ends_of(finite)}
    return about | ({"values_not_finite": values.size - finite.size} if finite.size < values.size else {})


def _volume(volume: Volume) -> dict[str, Any]:
    about: dict[str, Any] = {**_grid(volume), "dtype": str(volume.voxels.dtype), **_ends(volume.voxels)}
    if volume.voxels.dtype.kind in "bu":
        labels, counts = np.unique(volume.voxels, return_counts=True)
        if len(labels) <= MOST_LABEL_VALUES:
            about["voxels_of_label"] = dict(zip(map(str, labels), counts.tolist(), strict=True))
    return about


def _bounds(rows: Sequence[Sequence[float]]) -> list[float] | dict[str, list[float]]:
    """Return the least and the largest value of each column by these names; one list if they are equal."""
    values = np.array(rows)
    least, largest = values.min(0).tolist(), values.max(0).tolist()
    return least if least == largest else {"least_of_each": least, "largest_of_each": largest}
