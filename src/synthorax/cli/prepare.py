"""`synthorax prepare`."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import Parameter

from synthorax.api import lidc_shapes, prepare, prepare_phantom
from synthorax.api.data import SourceKind
from synthorax.cli.options import parse_zyx
from synthorax.datasets import summary
from synthorax.datasets.lidc import LidcRequest
from synthorax.datasets.shape_files import SHAPE_TABLE
from synthorax.datasets.store import Annotated, Store
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder
from synthorax.io.tables import write_table
from synthorax.provenance import MANIFEST, write_manifest
from synthorax.screen import say

MOST_GRID_VOXELS = 2**21
"""Of a nodule's grid: 128 along each axis. Some two thousand of them are held at once, in four bytes a voxel."""


def shapes(
    *,
    out: Path,
    readers: int = 2,
    grid: str = "20,40,40",
    spacing: str = "1.25,0.7,0.7",
    overwrite: bool = False,
) -> None:
    """Real nodule shapes of LIDC-IDRI as one stack: shapes.npy, nodules.csv, manifest.json.

    The annotations come with the package; no download is needed.

    Parameters
    ----------
    out
        Folder to write.
    readers
        A voxel belongs to a nodule if at least so many of the four readers marked it, 1 to 4.
    grid
        Voxels Z,Y,X. A nodule that does not fit is left out and counted.
    spacing
        Voxel size Z,Y,X in mm.
    overwrite
        Replace a folder that an earlier call made.
    """
    voxels = parse_zyx(grid, "--grid", "Z,Y,X voxels, as in 20,40,40", int, most=MOST_GRID_VOXELS)
    spacing_mm = parse_zyx(spacing, "--spacing", "Z,Y,X in mm, as in 1.25,0.7,0.7", float)
    request = LidcRequest(readers, voxels, spacing_mm)
    with atomic_folder(out, overwrite=overwrite) as folder:
        made = lidc_shapes(readers=request.readers, grid=request.grid, spacing_mm=request.spacing_mm)
        np.save(folder / "shapes.npy", made.shapes.occupancy)
        write_table(folder / SHAPE_TABLE, [record.row() for record in made.shapes.records])
        write_manifest(
            folder / MANIFEST,
            {
                "source": "LIDC-IDRI annotations (CC BY 3.0), doi:10.7937/K9/TCIA.2015.LO9QL9SX",
                "readers": readers,
                "spacing_zyx_mm": list(spacing_mm),
                "counts": made.counts,
                "fingerprint": made.shapes.fingerprint,
            },
        )
    say(f"{out}: " + ", ".join(f"{count} {what}" for what, count in made.counts.items()))


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class StoreOptions:
    """What every source of scans is prepared with.

    Parameters
    ----------
    out
        Store to write, a Zarr 3 group.
    tissue
        Keep a label map of each case's tissues (outside, lung and other, fat, water, soft, bone, nodule), from which
        systems paint CT. The phantom knows its own; of other scans the HU tell.
    split
        Shares of patients in train, val and test, where the source does not say.
    train_patients
        Keep at most so many of train, as if there were no more: what do few patients teach, and what helps then?
    seed
        Decides who is in which.
    workers
        Processes; one a core if not given.
    cluster
        Address of a Dask scheduler to use instead.
    overwrite
        Replace a store of another request.
    """

    out: Path
    tissue: typing.Annotated[bool, Parameter(negative="")] = False
    split: str = "0.7,0.1,0.2"
    train_patients: int | None = None
    seed: int = 0
    workers: int | None = None
    cluster: str | None = None
    overwrite: bool = False


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class SyntheticOptions:
    """Synthetic scans that join the store.

    Parameters
    ----------
    synthetic
        Folder that inject or sample wrote, or one above several; may be given several times. A scan made from one of a
        patient of the store is that patient's; others are split like patients.
    only_train
        Synthetic scans are training scans alone, so that validation and test stay real. Those that know patients of
        validation or test (by their source, an outline or what their maker has seen) are left out and named.
    """

    synthetic: typing.Annotated[list[Path] | None, Parameter(negative="")] = None
    only_train: typing.Annotated[bool, Parameter(negative="")] = False


def lidc(source: Path, *, readers: int = 2, made: SyntheticOptions = SyntheticOptions(), options: StoreOptions) -> None:
    """LIDC-IDRI as downloaded into a store: every CT series with what its readers marked.

    Run it again to go on where it stopped. Scans that cannot be read are left out and named.

    Parameters
    ----------
    source
        Folder with the DICOM series and XML files; a NIfTI or MHA scan beside its XML will do as well. Where a
        series has no XML, the annotation table in the package is used.
    readers
        A voxel belongs to a nodule if at least so many of the four readers marked it, 1 to 4.
    """
    _prepare("lidc", source, options, readers=readers, **vars(made))


def luna16(
    source: Path, *, readers: int = 2, made: SyntheticOptions = SyntheticOptions(), options: StoreOptions
) -> None:
    """LUNA16 as downloaded into a store: scans with nodules, candidates, voxels and ratings.

    Run it again to go on where it stopped. Patients, voxels and ratings come from the LIDC table in the package.

    Parameters
    ----------
    source
        Folder with subset0 to subset9 and annotations.csv; candidates_V2.csv or candidates.csv is used if there.
    readers
        A voxel belongs to a nodule if at least so many of the four readers marked it, 1 to 4.
    """
    _prepare("luna16", source, options, readers=readers, **vars(made))


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class OwnOptions:
    """How scans of one's own are read.

    Parameters
    ----------
    structures
        Regular expression of the DICOM segments and structures that are nodules, found anywhere in the name. If not
        given, those whose names (nodule, lesion, tumour, mass, GTV, ...) or codes say nodule. Others are named.
    annotated
        Whether every nodule is known: all, some or none-known. If not given, images of a table are all, scans with
        masks some, others none-known. Healthy places are taken from all, and far from anything dense from some.
    patient_from
        How patients are told apart where no table says so: auto (by DICOM headers, and by folders), folder (the first
        below the source), name (the image's), or a regular expression whose first group in the path is the patient.
    """

    structures: str | None = None
    annotated: Annotated | None = None
    patient_from: str = "auto"


def scans(
    source: Path,
    *,
    table: Path | None = None,
    own: OwnOptions = OwnOptions(),
    made: SyntheticOptions = SyntheticOptions(),
    options: StoreOptions,
) -> None:
    """A folder of whole CT scans into a store, with or without nodules.

    DICOM series, NIfTI, MHA, MHD and NRRD. DICOM SEG and RTSTRUCT that were drawn on a series become nodule masks.
    Folders that `inject` and `sample` wrote are read with their tables. Run it again to go on where it stopped.

    Parameters
    ----------
    source
        Folder, or one scan.
    table
        CSV of nodules, as `prepare patches --help` says; if not given, every nodules.csv of the folder and its
        subfolders. `image` may also be a series UID or a patient id.
    """
    _prepare("scans", source, options, table=table, **vars(own), **vars(made))


def patches(
    source: Path,
    *,
    table: Path | None = None,
    own: OwnOptions = OwnOptions(),
    made: SyntheticOptions = SyntheticOptions(),
    options: StoreOptions,
) -> None:
    """Images and masks of a table into a store: your own nodules, cropped or whole.

    The table is a CSV file with a row a nodule and the columns:

    - image: file or DICOM folder, relative to the table; several rows may name one.
    - mask: image of the nodule's voxels, above 0 or equal to mask_label, probabilities from a half on; or a DICOM SEG,
      RTSTRUCT or Slicer segmentation, where mask_label is the number, value or name of a segment.
    - center_x_mm, center_y_mm, center_z_mm, diameter_mm: instead of a mask; world millimetres, LPS.
    - patient_id: the unit of splits; if missing, --patient-from says how patients are told apart.
    - split: train, val or test; dealt out by --split if missing.
    - malignancy, texture, spiculation, lobulation, sphericity, margin, calcification, subtlety, internal_structure:
      LIDC's ratings, one number, or one a reader with spaces between; may be missing.

    A row with neither mask nor centre is an image without a nodule. Other columns are kept.

    Parameters
    ----------
    source
        Folder with nodules.csv and the images it names; or a folder above several such folders.
    table
        Another table; images are relative to it.
    """
    _prepare("patches", source, options, table=table, **vars(own), **vars(made))


def phantom(*, scans: int = 20, spacing: str = "1.5,1.5,1.5", nodules: float = 2.5, options: StoreOptions) -> None:
    """Phantom patients into a store: chest CT with nodules of real shapes and exact truth; no data is needed.

    Run it again to go on where it stopped. Train, val and test have nodules of different LIDC-IDRI patients' shapes.

    Parameters
    ----------
    scans
        How many.
    spacing
        Voxel size Z,Y,X in mm, or varied: slices of 0.6 to 2.5 mm and pixels of 0.6 to 0.9 mm, another for each scan.
    nodules
        Mean number in a scan.
    """
    expected = "Z,Y,X in mm, as in 1.5,1.5,1.5, or varied"
    spacing_mm = None if spacing == "varied" else parse_zyx(spacing, "--spacing", expected, float)
    store = prepare_phantom(scans=scans, spacing_mm=spacing_mm, nodules=nodules, **_given(options))
    _tell(options.out, store)


def _prepare(kind: SourceKind, source: Path, options: StoreOptions, **of_kind: Any) -> None:
    """Prepare a store and tell what is in it."""
    _tell(options.out, prepare(kind, source, **_given(options), **of_kind))


def _given(options: StoreOptions) -> dict[str, Any]:
    """The options as the API takes them."""
    try:
        shares = [float(part) for part in options.split.split(",")]
    except ValueError as error:
        raise InputError("--split", repr(options.split), "three shares, as in 0.7,0.1,0.2") from error
    return vars(options) | {"split": shares}


def _tell(out: Path, store: Store) -> None:
    """Show what is in a store and what is not: the first line as the result, the others as remarks."""
    first, *more = summary.summary_lines(store)
    for line in more:
        say(f"  {line}", error=True)
    say(f"{out}: {first}")
