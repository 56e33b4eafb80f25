"""Turns label maps of tissues into CT, with added nodules."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.errors import InputError
from synthorax.makers import Lineage, as_recorded
from synthorax.nodule import NoduleAttributes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.datasets.store import Store
    from synthorax.editing.cases import EditedFolder
    from synthorax.editing.label_nodules import LabelledNodules, WantedNodules
    from synthorax.hub import Model
    from synthorax.makers import Painter
    from synthorax.nodule import Nodule
    from synthorax.rendering.shapes import ShapeSource
    from synthorax.volume import Volume

BY_HU = "hu"
"""In the place of a table of codes: the label map is made from a CT by its HU."""
MOST_VOLUMES = 100_000
"""More volumes of a store than any disk has room for."""


@dataclass(frozen=True, eq=False)
class Translated:
    """A CT painted from a label map.

    Attributes:
        ct: HU, int16; None if it was written to a folder, slab by slab.
        mask: label of each nodule, uint8.
        labels: label map that was painted: `anatomy.tissue.TissueClass` of each voxel, uint8.
        nodules: the nodules of the label map and the added ones.
        lineage: the patients whose data the model was trained on or the label map and the shapes are of.
        notes: corrections, decisions, and results that differ from the request.
    """

    ct: Volume | None
    mask: Volume
    labels: Volume
    nodules: tuple[Nodule, ...]
    lineage: Lineage
    notes: tuple[str, ...]


def translate(
    labels: str | Path | Volume,
    model: str | Path | Model | Painter,
    *,
    nodules: int = 0,
    diameter_mm: float | Sequence[float] = (),
    attributes: NoduleAttributes | None = None,
    site: Site = "lung",
    clearance: Clearance | None = None,
    shapes: Any = None,
    codes: str | Path = "classes",
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
) -> Translated:
    """Paint a CT from a label map of tissues, with added nodules whose masks are known exactly.

    Args:
        labels: a label map: NIfTI, MHA, MHD, NRRD or DICOM SEG; or a volume of codes.
        model: name or run folder of a model that paints.
        nodules: number of nodules to add, at automatically chosen places in the lungs.
        diameter_mm: longest chord in a slice: one for all nodules, or one for each; if not given, that of the
            shape's own nodule, changed by up to a fifth.
        attributes: requested attributes, by which shapes with ratings are chosen.
        site, clearance: sites of the nodules and distances to other structures, see `inject`.
        shapes: source of the nodules' shapes: a mask (file or volume) or a model that makes shapes; outlines of
            LIDC-IDRI's readers if not given.
        codes: meaning of the codes: `classes`, the project's own; `thesis`, `phantom`, `totalsegmentator`; a CSV file
            with the columns `code` and `class`; or `hu` if `labels` is a CT, from which a label map is derived.
        seed: seed of all random draws, which also depend on the label map: another map gets other nodules.
        out: folder to write to, slab by slab: CT, mask, label map, nodules.csv and manifest.json.
        overwrite: replace a folder that an earlier call made.
        device: device of the model's networks.

    Raises:
        InputError: the file is no label map, has no geometry or is smaller than the model's windows; a code is not in
            the table; there are no lungs, or a nodule fits nowhere; or the model cannot paint.
        OutputError: the folder cannot be written.
    """
    from synthorax.io.atomic import check_folder_is_free

    if out is not None:
        check_folder_is_free(Path(out), overwrite=overwrite)
    painter, source = painter_of(model, device), shapes_given(shapes)
    wanted = _wanted(nodules, diameter_mm, attributes, site, clearance)
    subject: object = "labels" if not isinstance(labels, str | Path) else Path(labels)
    read, notes, own, patients = _read(labels, codes)
    job = _Job(painter, wanted, source, seed)
    made = job.labelled(subject, read)
    lineage = job.lineage(own, patients | made.outlines)
    notes = (*notes, *made.notes)
    painted = Translated(None, made.mask, made.labels, made.nodules, lineage, notes)
    if out is None:
        return replace(painted, ct=job.painted(made))
    request = {**_recorded(wanted), "codes": as_recorded(codes), "shapes": as_recorded(shapes)}
    about = _about(labels)
    _write(job, Path(out), made, lineage, notes, request, about, _patient(labels), "some", overwrite=overwrite)
    return painted


def translate_store(
    store: str | Path | Store,
    model: str | Path | Model | Painter,
    out: str | Path,
    *,
    volumes: int | None = None,
    split: str = "train",
    nodules: int = 0,
    share: float = 1.0,
    diameter_mm: float | Sequence[float] = (),
    attributes: NoduleAttributes | None = None,
    site: Site = "lung",
    clearance: Clearance | None = None,
    shapes: Any = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "cpu",
) -> EditedFolder:
    """Paint CT from the label maps of a store's cases, each into a folder; repeat the call to continue after a stop.

    Args:
        store: a store whose cases have label maps of tissues.
        volumes: number of volumes; the cases are used in turn. One for each case if not given. A larger set begins with
            the same volumes.
        split: split whose cases are used.
        share: probability that a volume gets nodules; 0.8 in the thesis. Other volumes keep the nodules of their label
            map.
        model, nodules, diameter_mm, attributes, site, clearance, shapes, seed, overwrite, device: see `translate`.

    Raises:
        InputError: see `translate`; or no case of the split has a label map, or none can be painted. A single volume
            that cannot be painted is named, and the others are painted.
        OutputError: the folder cannot be written.
    """
    from importlib.metadata import version

    from synthorax.datasets.progress import with_progress
    from synthorax.datasets.store import SPLITS, Store
    from synthorax.editing.cases import cases_begun, collected, is_done
    from synthorax.seeding import derive, generator

    opened = Store.of(store)
    if split not in SPLITS:
        raise InputError("split", repr(split), " or ".join(SPLITS))
    if not 0 <= share <= 1:
        raise InputError("share", f"{share:g}", "0 to 1")
    cases = [case for case in opened.in_split(split) if case.has_tissue]
    if not cases:
        raise InputError(
            opened.path, f"no case in {split} with a label map of tissues", "a store prepared with --tissue"
        )
    count = len(cases) if volumes is None else volumes
    if not 1 <= count <= MOST_VOLUMES:
        raise InputError("volumes", str(count), f"1 to {MOST_VOLUMES}")
    painter, source = painter_of(model, device), shapes_given(shapes)
    wanted = _wanted(nodules, diameter_mm, attributes, site, clearance)
    digits = len(str((count - 1) // len(cases)))
    ids = [f"{cases[i % len(cases)].case_id}-{i // len(cases):0{digits}d}" for i in range(count)]
    request = {**_recorded(wanted), "share": share, "shapes": as_recorded(shapes)}
    about: dict[str, Any] = {"synthorax": version("synthorax"), "store": opened.fingerprint, "split": split}
    about |= {"model": painter.lineage.model_sha256, "seed": seed, "request": request}
    failed: dict[str, str] = {}
    keys = dict.fromkeys(ids, painter.lineage.model_sha256)
    with cases_begun(Path(out), about, keys, overwrite, "volumes") as folder:
        for i, case_id in enumerate(with_progress(ids, "translate", count)):
            if is_done(folder / case_id):
                continue
            case = opened.read(cases[i % len(cases)].case_id)
            own = derive(seed, "volume", i)
            gets = generator(own, "share").random() < share
            job = _Job(painter, wanted if gets else replace(wanted, count=0, diameters_mm=()), source, own)
            assert case.tissue is not None
            try:
                made = job.labelled(case_id, replace(case.ct, voxels=case.tissue))
            except InputError as error:
                failed[case_id] = str(error)
                continue
            lineage = job.lineage(case.lineage, _patients_of(case) | made.outlines)
            source_of = {"case": case.case_id, "store": opened.fingerprint}
            patient = _synthetic(case.patient_id)
            notes = made.notes
            _write(
                job, folder / case_id, made, lineage, notes, request, source_of, patient, case.annotated, alone=False
            )
        if len(failed) == count:
            found = f"no case of {split} that can be painted as requested ({next(iter(failed.values()))})"
            raise InputError(opened.path, found, "one or more whose label maps have room for it")
        return collected(folder, about, ids, failed, ())


def painter_of(model: str | Path | Model | Painter, device: str = "cpu") -> Painter:
    """Return the painter of a name, run folder or object.

    Raises:
        InputError: there is no such model, or it cannot paint.
    """
    from synthorax import hub

    return cast("Painter", hub.find(model, "paints", device=device))


def shapes_given(shapes: Any) -> ShapeSource:
    """Return the source of shapes: a mask, a model that makes shapes, or LIDC-IDRI's outlines.

    Raises:
        InputError: the argument is none of these.
    """
    from synthorax import hub
    from synthorax.io.images import is_image
    from synthorax.rendering.config import LIDC
    from synthorax.rendering.maker import shape_source

    if isinstance(shapes, str | Path) and str(shapes) != LIDC and not is_image(Path(shapes)):
        shapes = hub.find(shapes, "makes shapes")
    return shape_source(shapes)


@dataclass(frozen=True, eq=False)
class _Job:
    """A request to paint one label map: the painter, the nodules and the seed."""

    painter: Painter
    wanted: WantedNodules
    shapes: ShapeSource
    seed: int

    def labelled(self, subject: object, labels: Volume) -> LabelledNodules:
        """Return the label map on the painter's grid with its nodules, and notes."""
        from synthorax.editing.label_nodules import put_nodules
        from synthorax.editing.painting import check_paintable, notes_on_classes, on_painters_grid

        grid, grid_notes = on_painters_grid(labels, self.painter)
        check_paintable(subject, grid, self.painter)
        try:
            made = put_nodules(grid, self.wanted, self.shapes, self._own(grid))
        except InputError as error:
            if error.args[0] == "label map":
                raise InputError(subject, *error.args[1:]) from error
            raise
        notes = (*grid_notes, *notes_on_classes(made.labels, self.painter), *made.notes)
        return replace(made, notes=notes)

    def lineage(self, maps: Lineage | None, patients: frozenset[str]) -> Lineage:
        """Return the patients behind painter, label map and shapes.

        Args:
            maps: lineage of a synthetic label map.
            patients: keys of the patients of the label map and of the added outlines.
        """
        whole = self.painter.lineage.joined(maps) if maps else self.painter.lineage
        if self.wanted.count:  # only the outlines that were added count, not all that might have been
            whole = whole.joined(self.shapes.lineage.with_outlines(()))
        return whole.with_outlines(whole.outlines | patients)

    def slabs(self, made: LabelledNodules) -> Any:
        """Return the painted CT slab by slab."""
        from synthorax.editing.painting import painted_slabs

        return painted_slabs(made.labels, self.painter, self._own(made.labels))

    def painted(self, made: LabelledNodules) -> Volume:
        """Return the painted CT in memory."""
        import numpy as np

        voxels: NDArray[np.int16] = np.concatenate([slab for _, slab in self.slabs(made)])
        return replace(made.labels, voxels=voxels)

    def _own(self, labels: Volume) -> int:
        """Return the seed for a label map; maps with another shape or position get another seed."""
        from synthorax.seeding import derive

        place = repr((labels.shape, labels.origin_mm, labels.spacing_mm)).encode()
        return derive(self.seed, "map", zlib.crc32(place))


def _wanted(
    count: int,
    diameter_mm: float | Sequence[float],
    attributes: NoduleAttributes | None,
    site: Site,
    clearance: Clearance | None,
) -> WantedNodules:
    from synthorax.anatomy.placement import Clearance
    from synthorax.api.edit_requests import one_or_several
    from synthorax.editing.label_nodules import WantedNodules
    from synthorax.nodule import check_attributes

    attributes = attributes or NoduleAttributes()
    check_attributes(attributes)
    diameters = one_or_several(diameter_mm)
    return WantedNodules(count, diameters, attributes, site, clearance or Clearance())


def _recorded(wanted: WantedNodules) -> dict[str, Any]:
    """Return the manifest's entries on the requested nodules."""
    return {
        "nodules": wanted.count,
        "diameters_mm": list(wanted.diameters_mm),
        "attributes": wanted.attributes.given(),
        "site": wanted.site,
        "clearance": vars(wanted.clearance),
    }


def _read(
    labels: str | Path | Volume, codes: str | Path
) -> tuple[Volume, tuple[str, ...], Lineage | None, frozenset[str]]:
    """Return a label map's classes on LPS axes, notes, the lineage of a synthetic map, the patient of a real one."""
    from synthorax.anatomy.label_codes import classes_of, find_table
    from synthorax.datasets.manifests import Manifests
    from synthorax.datasets.tissue import tissue_by_hu
    from synthorax.geometry import orient
    from synthorax.io.label_maps import read_label_map
    from synthorax.io.scans import read_scan

    by_hu = str(codes) == BY_HU
    table = None if by_hu else find_table(codes)
    if not isinstance(labels, str | Path):
        upright = orient(labels, "LPS")
        if table is None:
            classes, notes = tissue_by_hu(upright)
            return replace(upright, voxels=classes), notes, None, frozenset()
        found, notes = classes_of("labels", upright, table)
        return found, notes, None, frozenset()
    path = Path(labels)
    if by_hu:
        scan = read_scan(path)
        upright = orient(scan.ct, "LPS")
        classes, notes = tissue_by_hu(upright)
        found, notes = replace(upright, voxels=classes), (*scan.notes, *notes)
    else:
        assert table is not None
        image = read_label_map(path)
        found, notes = classes_of(path, orient(image.volume, "LPS"), table)
        notes = (*image.notes, *notes)
    made_by = Manifests().lineage_of(path.resolve())
    return found, notes, made_by, frozenset() if made_by else frozenset({_key(_patient_name(path))})


def _patient_name(path: Path) -> str:
    """Return the patient of an image by the rule of `prepare`: the image's name."""
    from synthorax.io.images import image_stem

    return image_stem(path.name)


def _key(patient: str) -> str:
    from synthorax.provenance import patient_key

    return patient_key(patient)


def _synthetic(patient: str) -> str:
    from synthorax.provenance import synthetic_patient

    return synthetic_patient(patient)


def _patient(labels: str | Path | Volume) -> str:
    """Return the id of the synthetic patient of a CT that is painted from a label map."""
    from synthorax.provenance import fingerprint

    if isinstance(labels, str | Path):
        return _synthetic(_patient_name(Path(labels)))
    return _synthetic(fingerprint(labels.voxels.tobytes()))


def _about(labels: str | Path | Volume) -> dict[str, str]:
    from synthorax.provenance import sha256

    if not isinstance(labels, str | Path) or not Path(labels).is_file():
        return {}
    return {"name": Path(labels).name, "sha256": sha256(Path(labels))}


def _patients_of(case: Any) -> frozenset[str]:
    """Return the keys of the patients whose anatomy or outlines are in a case's label map."""
    from synthorax.datasets.lineage import ORIGIN

    outlines = {nodule.extra.get(ORIGIN, "") for nodule in case.nodules}
    own = {case.source_patient} if case.synthetic else {_key(case.patient_id)}
    return frozenset(own | {_key(name) for name in outlines if name}) - {""}


def _write(
    job: _Job,
    out: Path,
    made: LabelledNodules,
    lineage: Lineage,
    notes: Sequence[str],
    request: dict[str, Any],
    source: dict[str, str],
    patient: str,
    annotated: str,
    *,
    overwrite: bool = False,
    alone: bool = True,
) -> None:
    from synthorax.editing.painted_output import PaintedFrom, write_painted
    from synthorax.provenance import Origin

    origin = Origin(job.painter.name, job.painter.lineage.model_sha256, job.seed)
    about = PaintedFrom(made, origin, lineage, patient, annotated, request, source, tuple(notes))
    write_painted(out, about, job.slabs(made), overwrite=overwrite, alone=alone)
