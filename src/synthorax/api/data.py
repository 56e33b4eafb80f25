"""Reading and writing scans, and preparing and exporting stores."""

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
    """Read a source of scans and annotations into a store, split by patient.

    The same call resumes a call that was stopped, and reads what has changed in the source.

    Args:
        kind: kind of the source: `lidc` and `luna16` as downloaded; `scans`, a folder of whole scans; `patches`, the
            images of a table (`annotations.nodule_table`).
        source: folder of the source.
        out: store to write, a Zarr 3 group.
        table: CSV file of nodules; by default every `nodules.csv` in the source and its subfolders.
        readers: number of LIDC's four readers, 1 to 4, who must have marked a voxel of a nodule.
        structures: regular expression for the names of DICOM segments and structures that are nodules; by default those
            whose name or code means nodule (`io.structure_names.is_nodule`).
        annotated: whether the annotations have `all` nodules of each scan, `some`, or `none-known`. By default `all`
            for images of a table, `some` for scans with masks, and `none-known` for other scans. Patches without a
            nodule are taken from scans with `all`, and from scans with `some`, far from dense voxels. A scan with an
            annotation that cannot be read is never `all`.
        patient_from: how to find the patient of an image that the table gives none for: `auto`, DICOM headers, or else
            folders; `folder`, the first one below the source; `name`, of the image; or a regular expression whose first
            group matches the patient in the path.
        synthetic: folders that `inject`, `sample` or `translate` wrote, or folders of such folders; their scans join
            the store. A scan made from a scan of a patient in the store is in that patient's split; the others are
            split like patients.
        only_train: put all synthetic scans, including those in the source, into the training split, so that validation
            and test have real scans alone. A synthetic scan is left out and named if it was made with knowledge of
            validation or test patients (source scan, outlines, or the model's training data), or if the patients whom
            its model was trained on are not recorded.
        tissue: add a label map of tissues to each case, made from HU (`anatomy.tissue`) and the nodule masks.
        split: shares of patients in train, val and test, for patients whose split the source does not give.
        train_patients: largest number of training patients; all if None.
        seed: seed of the split.
        workers: number of processes; by default one for each core.
        cluster: address of a Dask scheduler to use instead of processes here.
        overwrite: replace a store that was made with other options or from another source.

    Raises:
        InputError: no scan in the source can be read, an option is not valid, or `out` has something else.
        OutputError: the store cannot be written.
    """
    from synthorax.annotations.nodule_table import NODULE_TABLE
    from synthorax.datasets import reader_lists, source_lists
    from synthorax.datasets.case import ANNOTATED
    from synthorax.datasets.joined import join
    from synthorax.datasets.prepare import prepare_store
    from synthorax.io.own_kinds import own_kind
    from synthorax.io.structure_names import wanted_structures
    from synthorax.io.walk import files_below
    from synthorax.provenance import fingerprint

    if not 1 <= readers <= 4:
        raise InputError("readers", str(readers), "1 to 4 of the four readers")
    if annotated is not None and annotated not in ANNOTATED:
        raise InputError("annotated", repr(annotated), ", ".join(ANNOTATED))
    wanted_structures(structures)  # an error if it is not a regular expression
    folder = Path(source).resolve()
    if not folder.exists():
        raise InputError(source, "nothing", "a folder of scans")
    if folder.is_dir() and (own := own_kind(folder)):
        raise InputError(source, own.name, f"a folder of scans; {own.use}")
    if Path(out).resolve() in (folder, *folder.parents) and Path(out).exists():
        raise InputError(out, "the source, or a folder around it", "another folder, which may be inside the source")
    rows = Path(table).resolve() if table else None
    made = [Path(each).resolve() for each in synthetic or ()]
    for each in made:
        if each == folder or each in folder.parents or folder in each.parents or each in made[made.index(each) + 1 :]:
            raise InputError(each, "a folder that is read already", "a folder outside the source, given once")
    where = fingerprint(" ".join(map(str, [folder, rows, *made])).encode("utf-8", "surrogatepass"))[:12]
    # No paths, so that a store reveals nothing about the machine that it was made on.
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
        found = reader_lists.with_unread_xml(found, folder) if folder.is_dir() else found
    elif kind in ("lidc", "luna16"):
        request["readers"] = readers
        try:
            found = (reader_lists.lidc_sources if kind == "lidc" else reader_lists.luna16_sources)(folder, readers)
        except InputError as error:
            tables = [path for path in files_below(folder) if path.name == NODULE_TABLE] if kind == "luna16" else []
            if error.args[0] == folder and tables:
                content = f"no annotations.csv of LUNA16, but {tables[0].relative_to(folder)}"
                expected = "LUNA16 as downloaded; `synthorax prepare patches` reads the images of a nodules.csv"
                raise InputError(source, content, expected) from error
            raise
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
    """Make a store of phantom patients: chest CT with nodules of real shapes and exact masks. It needs no data.

    The same call resumes a call that was stopped. The nodule shapes of train, val and test are from different
    LIDC-IDRI patients.

    Args:
        out: store to write, a Zarr 3 group.
        scans: number of scans, one for each patient.
        spacing_mm: voxel spacing (z, y, x); if None, drawn for each scan, as scanners vary.
        nodules: mean number of nodules in a scan.
        tissue: add each phantom's exact label map of tissues, nodules included.
        split: shares of patients in train, val and test.
        train_patients: largest number of training patients; all if None.
        seed: seed of phantoms, nodules and split. It is in the patients' ids, `phantom-s9-0000`, unless it is 0.
        workers: number of processes; by default one for each core.
        cluster: address of a Dask scheduler to use instead of processes here.
        overwrite: replace a store that was made with other options.

    Raises:
        InputError: an option is not valid, or `out` has something else.
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
    """Return a phantom patient: scan, nodules, lobes, airways, vessels and tissues, all exactly known.

    Args:
        seed: seed of the patient; the same seed gives the same patient.
        spacing_mm: voxel spacing (z, y, x); if None, drawn with the seed, as scanners vary.
        nodules: mean number of nodules.
    """
    from synthorax.datasets.phantoms import make_phantom as make

    return make(seed, spacing_mm=spacing_mm, nodules=nodules)


def open_store(path: str | Path) -> Store:
    """Open a prepared store for reading.

    Raises:
        InputError: there is no store at `path`, or it is not finished.

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
    """Read a CT scan in HU with its geometry.

    Args:
        path: DICOM folder or file, NIfTI, MHA, MHD or NRRD.
        series: UID of a DICOM series, or the end of it, if the folder has several.

    Returns:
        The scan: `ct` has HU [z, y, x] with spacing, origin and direction, `notes` what was assumed.

    Raises:
        InputError: the scan cannot be read, or is not a CT in HU.

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
        source: store, or folder that `sample` wrote.
        out: folder to write.
        layout: `nnunet` or `monai`.
        name: name of the data set.
        unknown: scans that may have nodules without an annotation: `leave-out`, or `include`, with unmarked voxels as
            background.
        voxelless: nodules with a centre and diameter but no mask, for nnU-Net: `refuse`, an error; `balls`, a ball of
            that diameter; `ignore`, the ball with nnU-Net's ignore label; or `leave-out`, leave out their scans.
        overwrite: replace a folder that an earlier call wrote.

    Returns:
        What was written, and notes on what was left out, drawn or renamed; `dataset.json` has them too.

    Raises:
        InputError: the source is neither a store nor samples; samples without images, for nnU-Net; nodules that the
            layout cannot represent; or `out` has something else, or is inside or around the source.
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
        raise InputError(out, f"{source}, or a folder inside or around it", "a folder elsewhere")
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
    """Write a scan as NIfTI, MHA, MHD or NRRD, by the suffix of its name, or else as a folder of DICOM slices.

    Args:
        path: file, or folder of DICOM slices, to write.
        scan: HU [z, y, x] with geometry.
        mark: text that is written into the file and says that it is synthetic and what made it; a JSON file beside it
            has the text too. None for a scan that is not synthetic.
        about: more entries of the JSON file.
        source: scan that this one was made from. If it is a DICOM series, its acquisition parameters are copied to the
            new headers, and its patient and study only with `keep_identity`.
        keep_identity: keep the patient and study of `source`.
        overwrite: replace what an earlier call wrote.

    Raises:
        InputError: `path` has something that no earlier call wrote.
        OutputError: the scan cannot be written.

    >>> import synthorax as sx
    >>> scan = sx.read_scan("chest.nii.gz").ct
    >>> sx.write_scan("made.nii.gz", scan, mark="SYNTHETIC: to try it out")
    >>> sx.verify("made.nii.gz")[0].text
    'SYNTHETIC: to try it out'
    """
    from synthorax.io.scans import write_scan as write

    write(Path(path), scan, mark=mark, about=about, source=source, keep_identity=keep_identity, overwrite=overwrite)
