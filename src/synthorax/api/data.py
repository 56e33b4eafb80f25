"""Scans: prepared, told about, handed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synthorax.errors import InputError

if TYPE_CHECKING:
    from synthorax.datasets.export_items import Report
    from synthorax.datasets.phantoms import Phantom
    from synthorax.datasets.store import Annotated, Store
    from synthorax.io.scans import Scan
    from synthorax.volume import Volume

SourceKind = Literal["lidc", "luna16", "scans", "patches"]


def prepare(
    kind: SourceKind,
    source: str | Path,
    out: str | Path,
    *,
    table: str | Path | None = None,
    readers: int = 2,
    structures: str | None = None,
    annotated: Annotated | None = None,
    patient_from: str = "auto",
    synthetic: Sequence[str | Path] | None = None,
    only_train: bool = False,
    tissue: bool = False,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    train_patients: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
) -> Store:
    """Turn a source of scans into a store that every other verb reads, split by patient.

    Run again, it goes on where it stopped, and takes up what has changed in the source.

    Args:
        kind: what the source is: `lidc` and `luna16` as downloaded; `scans`, a folder of whole scans; `patches`,
            the images of a table (`annotations.nodule_table`).
        table: of nodules; every `nodules.csv` of the source and its subfolders if not given.
        readers: of LIDC's four who must have marked a voxel.
        structures: regular expression of the names of DICOM segments and structures that are nodules; if not given,
            those whose names or codes say so (`io.structure_names.is_nodule`).
        annotated: whether every nodule of every scan is known: `all`, `some` or `none-known`. If not given, images of a
            table are `all`, scans with masks `some`, others `none-known`. Healthy places are taken from `all`, and far
            from anything dense from `some`. A scan whose annotations could not all be read is never `all`.
        patient_from: how patients of `scans` and `patches` are told apart where no table says so: `auto`, by DICOM
            headers and by folders; `folder`, the first folder below the source; `name`, the image's name; or a
            regular expression whose first group in the path is the patient.
        synthetic: folders that `inject` or `sample` wrote, or folders above such folders; their scans join the store. A
            scan made from one of a patient of the store is that patient's; others are split like patients.
        only_train: synthetic scans, those of the source too, are training scans alone, so that validation and test
            stay real. Those made from scans or outlines of patients of validation or test are left out and told, and
            so are those whose maker has seen such patients, or does not tell whom it has seen.
        tissue: make a label map of each case's tissues by its HU (`anatomy.tissue`), its nodules in it.
        split: shares of patients in train, val and test, where the source does not say.
        train_patients: keep at most so many of train, as if there were no more; all if not given.
        workers: processes; one a core if not given.
        cluster: address of a Dask scheduler to use instead.

    Raises:
        InputError: nothing readable in the source, or a folder that holds something else.
        OutputError: the store cannot be written.
    """
    from synthorax.datasets import reader_lists, source_lists
    from synthorax.datasets.case import ANNOTATED
    from synthorax.datasets.joined import join
    from synthorax.datasets.prepare import prepare_store
    from synthorax.io.structure_names import wanted_structures
    from synthorax.provenance import fingerprint

    if not 1 <= readers <= 4:
        raise InputError("readers", str(readers), "1 to 4 of the four readers")
    if annotated is not None and annotated not in ANNOTATED:
        raise InputError("annotated", repr(annotated), ", ".join(ANNOTATED))
    wanted_structures(structures)  # refuses what is no regular expression
    folder = Path(source).resolve()
    if not folder.exists():
        raise InputError(source, "nothing", "a folder of scans")
    if Path(out).resolve() in (folder, *folder.parents) and Path(out).exists():
        raise InputError(out, "the source itself, or a folder that holds it", "another folder, which may lie in it")
    rows = Path(table).resolve() if table else None
    made = [Path(each).resolve() for each in synthetic or ()]
    for each in made:
        if each == folder or each in folder.parents or folder in each.parents or each in made[made.index(each) + 1 :]:
            raise InputError(each, "a folder that is read anyway", "a folder beside the source, once")
    where = fingerprint(" ".join(map(str, [folder, rows, *made])).encode("utf-8", "surrogatepass"))[:12]
    # A store tells nothing of the machine it was made on.
    request: dict[str, Any] = {"kind": kind, "source": folder.name, "place": where, "split": list(split), "seed": seed}
    request |= {"synthetic": [each.name for each in made]} if made else {}
    request |= {"only_train": True} if only_train else {}
    if kind in ("patches", "scans"):
        chosen = {"structures": structures, "annotated": annotated}
        request |= {name: value for name, value in chosen.items() if value is not None}
        request |= {"patient_from": patient_from} if patient_from != "auto" else {}
    if kind == "patches":
        tables = [rows] if rows else [folder] if folder.is_file() else source_lists.find_tables(folder)
        found = source_lists.patch_sources(tables, structures, stated=annotated, patient_from=patient_from)
    elif kind == "scans":
        found = source_lists.scan_sources(folder, rows, structures, stated=annotated, patient_from=patient_from)
    elif kind in ("lidc", "luna16"):
        request["readers"] = readers
        found = (reader_lists.lidc_sources if kind == "lidc" else reader_lists.luna16_sources)(folder, readers)
    else:
        raise InputError("kind of source", repr(kind), "lidc, luna16, scans or patches")
    return prepare_store(
        found.sources,
        Path(out).resolve(),
        request,
        notes=found.notes,
        joined=join(made, found.sources, only_train),
        tissue=tissue,
        fractions=split,
        train_patients=train_patients,
        seed=seed,
        workers=workers,
        cluster=cluster,
        overwrite=overwrite,
    )


def prepare_phantom(
    out: str | Path,
    scans: int = 20,
    *,
    spacing_mm: tuple[float, float, float] | None = (1.5, 1.5, 1.5),
    nodules: float = 2.5,
    tissue: bool = False,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    train_patients: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
) -> Store:
    """Make a store of phantom patients: chest CT with nodules of real shapes, without any data of one's own.

    Run again, it goes on where it stopped. The nodules of train, val and test have the shapes of different patients.

    Args:
        scans: how many.
        spacing_mm: (z, y, x); each scan's own, as scanners vary, if None.
        nodules: mean number in a scan.
        tissue: keep the label map of each phantom's tissues, its nodules in it.
        split: shares of patients in train, val and test.
        train_patients: keep at most so many of train, as if there were no more; all if not given.
        workers: processes; one a core if not given.
        cluster: address of a Dask scheduler to use instead.

    Raises:
        InputError: nothing asked for, or a folder that holds something else.
        OutputError: the store cannot be written.
    """
    from synthorax.datasets.phantoms import phantom_sources
    from synthorax.datasets.prepare import prepare_store

    sources = phantom_sources(scans, seed, spacing_mm=spacing_mm, nodules=nodules, fractions=split)
    request: dict[str, Any] = {
        "kind": "phantom",
        "source": "phantom",
        "scans": scans,
        "spacing_zyx_mm": list(spacing_mm) if spacing_mm else "varied",
        "nodules": nodules,
        "split": list(split),
        "seed": seed,
    }
    return prepare_store(
        sources,
        Path(out).resolve(),
        request,
        tissue=tissue,
        fractions=split,
        train_patients=train_patients,
        seed=seed,
        workers=workers,
        cluster=cluster,
        overwrite=overwrite,
    )


def make_phantom(
    seed: int,
    *,
    spacing_mm: tuple[float, float, float] | None = (1.5, 1.5, 1.5),
    nodules: float = 2.5,
) -> Phantom:
    """A phantom patient with all that is true of it: scan, nodules, lobes, airways, vessels, tissues.

    Args:
        spacing_mm: (z, y, x); the seed's own scanner's if None.
        nodules: mean number.
    """
    from synthorax.datasets.phantoms import make_phantom as make

    return make(seed, spacing_mm=spacing_mm, nodules=nodules)


def open_store(path: str | Path) -> Store:
    """A prepared store, open for reading.

    Raises:
        InputError: no store, or one that was not finished.

    >>> import synthorax as sx
    >>> store = sx.open_store("store")
    >>> [case.case_id for case in store.in_split("train")]
    ['train00', 'train01']
    >>> case = store.read("train00")
    >>> case.ct.shape, case.nodules[0].attributes.diameter_mm
    ((32, 32, 32), 4.5)
    """
    from synthorax.datasets.store import Store

    return Store(Path(path))


def read_scan(path: str | Path, series: str | None = None) -> Scan:
    """A CT scan in HU with its geometry: a DICOM folder, NIfTI, MHA, MHD or NRRD.

    Args:
        series: UID of a DICOM series, or its end, where a folder holds several.

    Raises:
        InputError: nothing readable there, or no CT in HU.

    >>> import synthorax as sx
    >>> scan = sx.read_scan("chest.nii.gz")
    >>> scan.ct.shape, scan.ct.spacing_mm
    ((60, 64, 96), (4.0, 4.0, 4.0))
    """
    from synthorax.io.scans import read_scan as read

    return read(Path(path), series)


def export(
    source: str | Path,
    out: str | Path,
    layout: str,
    *,
    name: str = "nodules",
    unknown: str = "leave-out",
    voxelless: str = "refuse",
    overwrite: bool = False,
) -> Report:
    """Write a store or a folder of samples in the layout that nnU-Net or MONAI reads.

    Args:
        layout: `nnunet` or `monai`.
        name: of the data set.
        unknown: what becomes of a scan of which not every nodule is known: `leave-out`, or `include`, which takes what
            is not marked for background.
        voxelless: what becomes of a nodule by centre and diameter alone: `refuse`; `balls` of its diameter; such balls
            with nnU-Net's `ignore` label; or `leave-out`, its scan. MONAI's boxes need the diameter alone.

    Returns:
        What was written, and notes on what was left out, painted or renamed; they are in `dataset.json` too.

    Raises:
        InputError: no store and no samples; samples without images for nnU-Net; nodules that the layout cannot hold; a
            folder that holds something else, or the source itself.
        OutputError: the folder cannot be written.
    """
    from synthorax.datasets import export as layouts
    from synthorax.datasets.export_items import sample_items, store_items
    from synthorax.datasets.store import Store, is_store
    from synthorax.io.atomic import claiming

    source, out = Path(source), Path(out)
    items = store_items(Store(source)) if is_store(source) else sample_items(source)
    inside, around = source.resolve(), out.resolve()
    if inside == around or inside in around.parents or around in inside.parents:
        raise InputError(out, f"{source} itself, or a folder within or around it", "a folder beside it")
    with claiming(out, overwrite=overwrite, sources=[source]):
        return layouts.export(items, out, layout, name=name, unknown=unknown, voxelless=voxelless, overwrite=overwrite)


def write_scan(
    path: str | Path,
    scan: Volume,
    *,
    mark: str | None = None,
    about: Mapping[str, Any] | None = None,
    source: Scan | None = None,
    keep_identity: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a scan as NIfTI, MHA, MHD or NRRD, by the name's suffix, or else as a folder of DICOM slices.

    Args:
        mark: says inside the file that it is synthetic, and what made it; there is a sidecar then too.
        about: what else the sidecar tells.
        source: the scan it was made from. A DICOM series gives its acquisition, and nothing of its patient
            unless `keep_identity` is set.

    Raises:
        InputError: a folder that holds something else.
        OutputError: it cannot be written.

    >>> import synthorax as sx
    >>> scan = sx.read_scan("chest.nii.gz").ct
    >>> sx.write_scan("made.nii.gz", scan, mark="SYNTHETIC: to try it out")
    >>> sx.verify("made.nii.gz")[0].text
    'SYNTHETIC: to try it out'
    """
    from synthorax.io.scans import write_scan as write

    write(Path(path), scan, mark=mark, about=about, source=source, keep_identity=keep_identity, overwrite=overwrite)
