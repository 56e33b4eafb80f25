"""Label maps of tissues turned into CT, with nodules put in."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.errors import InputError
from synthorax.makers import Lineage, as_told
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
        ct: int16 HU; None where it was written to a folder, slab by slab.
        mask: uint8, a label for each nodule.
        labels: uint8 of `anatomy.tissue.TissueClass`, from which it was painted.
        nodules: those that the label map had, and those put in.
        lineage: whose data stands behind it.
        notes: what was mended, decided or came out otherwise than it was asked for.
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
    """Paint a CT from a label map of tissues, with nodules put in whose masks are known to the voxel.

    Args:
        labels: a label map: NIfTI, MHA, MHD, NRRD or DICOM SEG; or a volume of codes.
        model: that paints, by its name or run folder.
        nodules: put in, in places that are found in the lungs.
        diameter_mm: longest chord in a slice: of all, or of one after the other; as wide as the shapes' own nodules,
            a fifth more or less, if not given.
        attributes: by which shapes are chosen, of those that have ratings.
        site, clearance: of the nodules, as of `inject`.
        shapes: of the nodules: a mask (file or volume), a model that makes shapes, or LIDC-IDRI's readers' outlines if
            not given.
        codes: what the codes mean: `classes`, this program's own; `thesis`, `phantom`, `totalsegmentator`; a CSV file
            with the columns `code` and `class`; or `hu`, and `labels` is a CT, of which a label map is made.
        seed: what is drawn depends on it and on the label map: one seed gives other nodules in another map.
        out: folder to write to, slab by slab: CT, mask, label map, nodules.csv and manifest.json.
        overwrite: replace a folder that an earlier call made.
        device: of the model's networks.

    Raises:
        InputError: no label map, one without geometry or smaller than the model's windows; codes that the table does
            not have; no lungs, or a diameter that fits nowhere; a model that does not paint.
        OutputError: the folder cannot be written.
    """
    from synthorax.io.atomic import check_folder_is_free

    if out is not None:
        check_folder_is_free(Path(out), overwrite=overwrite)
    painter, source = painter_of(model, device), shapes_given(shapes)
    wanted = _wanted(nodules, diameter_mm, attributes, site, clearance)
    subject: object = "labels" if not isinstance(labels, str | Path) else Path(labels)
    read, notes, told, patients = _read(labels, codes)
    job = _Job(painter, wanted, source, seed)
    made = job.labelled(subject, read)
    lineage = painter.lineage.joined(told) if told else painter.lineage
    lineage = replace(lineage, outlines=lineage.outlines | patients | made.outlines)
    notes = (*notes, *made.notes)
    painted = Translated(None, made.mask, made.labels, made.nodules, lineage, notes)
    if out is None:
        return replace(painted, ct=job.painted(made))
    request = {**_told(wanted), "codes": as_told(codes), "shapes": as_told(shapes)}
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
    """Paint CT from the label maps of a store's cases, a folder each; the same call goes on where it was stopped.

    Args:
        store: whose cases have label maps of their tissues.
        volumes: so many, the cases by turns; one of each case if not given. The first ones are the same in a larger
            set.
        split: whose patients.
        share: of the volumes that get nodules; 0.8 in the thesis. A volume that gets none keeps those that its label
            map has.
        model, nodules, diameter_mm, attributes, site, clearance, shapes, seed, overwrite, device: as of `translate`.

    Raises:
        InputError: as `translate`, or no label map in the split. A volume that cannot be made is named, and the others
            go on.
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
    request = {**_told(wanted), "share": share, "shapes": as_told(shapes)}
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
            lineage = painter.lineage.joined(case.lineage) if case.lineage else painter.lineage
            known = _patients_of(case) | made.outlines
            lineage = replace(lineage, outlines=lineage.outlines | known)
            source_of = {"case": case.case_id, "store": opened.fingerprint}
            patient = _synthetic(case.patient_id)
            notes = made.notes
            _write(
                job, folder / case_id, made, lineage, notes, request, source_of, patient, case.annotated, alone=False
            )
        if len(failed) == count:
            found = f"no case of {split} with what was asked for ({next(iter(failed.values()))})"
            raise InputError(opened.path, found, "one or more whose label maps have room for it")
        return collected(folder, about, ids, failed, ())


def painter_of(model: str | Path | Model | Painter, device: str = "cpu") -> Painter:
    """Return the painter that something names.

    Raises:
        InputError: no such model, or one that does not paint.
    """
    from synthorax import hub

    return cast("Painter", hub.find(model, "paints", device=device))


def shapes_given(shapes: Any) -> ShapeSource:
    """Return where shapes come from: a mask, a model that makes shapes, or LIDC-IDRI's outlines.

    Raises:
        InputError: none of these.
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
    """A label map to be painted: by what, with which nodules, by which seed."""

    painter: Painter
    wanted: WantedNodules
    shapes: ShapeSource
    seed: int

    def labelled(self, subject: object, labels: Volume) -> LabelledNodules:
        """The label map on the painter's grid with its nodules, and notes on all that."""
        from synthorax.editing.label_nodules import put_nodules
        from synthorax.editing.painting import check_paintable, notes_on_classes, on_painters_grid

        grid, told = on_painters_grid(labels, self.painter)
        check_paintable(subject, grid, self.painter)
        try:
            made = put_nodules(grid, self.wanted, self.shapes, self._own(grid))
        except InputError as error:
            if error.args[0] == "label map":
                raise InputError(subject, *error.args[1:]) from error
            raise
        notes = (*told, *notes_on_classes(made.labels, self.painter), *made.notes)
        return replace(made, notes=notes)

    def slabs(self, made: LabelledNodules) -> Any:
        """Slabs of the painted CT."""
        from synthorax.editing.painting import painted_slabs

        return painted_slabs(made.labels, self.painter, self._own(made.labels))

    def painted(self, made: LabelledNodules) -> Volume:
        """The painted CT in memory."""
        import numpy as np

        voxels: NDArray[np.int16] = np.concatenate([slab for _, slab in self.slabs(made)])
        return replace(made.labels, voxels=voxels)

    def _own(self, labels: Volume) -> int:
        """A seed of a label map's own: maps that differ in their shape and place have different ones."""
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


def _told(wanted: WantedNodules) -> dict[str, Any]:
    """What a manifest tells of the nodules that were asked for."""
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
    """The classes of a label map on LPS axes; notes; whose data stands behind a synthetic one; a real one's patient."""
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
    """Whose an image is, as `prepare` takes it: the image's own name."""
    from synthorax.io.images import image_stem

    return image_stem(path.name)


def _key(patient: str) -> str:
    from synthorax.provenance import patient_key

    return patient_key(patient)


def _synthetic(patient: str) -> str:
    from synthorax.provenance import synthetic_patient

    return synthetic_patient(patient)


def _patient(labels: str | Path | Volume) -> str:
    """The synthetic patient of what is painted from a label map."""
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
    """The keys of the patients whose anatomy or outlines are in a case's label map."""
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
