"""`synthorax prepare`."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import Group, Parameter

from synthorax.api import lidc_shapes, prepare, prepare_phantom
from synthorax.api.data import SourceKind
from synthorax.cli.options import Cluster, Out, Overwrite, Seed, Workers, parse_zyx
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
"""Voxels of a nodule's grid at most, 128^3: about two thousand grids of four bytes a voxel are in memory at once."""


def shapes(
    *,
    out: Out,
    readers: int = 2,
    grid: str = "20,40,40",
    spacing: str = "1.25,0.7,0.7",
    overwrite: Overwrite = False,
) -> None:
    """Write LIDC-IDRI's nodule shapes as one array: shapes.npy [n, z, y, x], nodules.csv and manifest.json.

    The annotations come with the package, so no download is needed.

    Parameters
    ----------
    out
        Folder to write.
    readers
        A voxel belongs to a nodule if at least this many of the four readers marked it, 1 to 4.
    grid
        Voxels Z,Y,X of each shape. Nodules that do not fit are left out and counted.
    spacing
        Voxel spacing Z,Y,X in mm.
    overwrite
        Replace a folder that an earlier call wrote.
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
    """Options of every store.

    Parameters
    ----------
    out
        Store to write, a Zarr 3 group.
    tissue
        Add a label map of tissues (outside, lung and other, fat, water, soft, bone, nodule) to each case, for systems
        that make CT from label maps. It is exact for phantoms, and from HU for other scans.
    split
        Shares of patients in train, val and test, for patients whose split the source does not give.
    train_patients
        Keep at most this many training patients, to test what helps when there are few.
    seed
        Seed of the split; for phantoms, also of the patients and their nodules.
    workers
        Number of processes; by default one for each core.
    cluster
        Address of a Dask scheduler to use instead of processes here, such as tcp://host:8786.
    overwrite
        Replace a store that was made with other options or from another source.
    """

    out: Out
    tissue: typing.Annotated[bool, Parameter(negative="")] = False
    split: str = "0.7,0.1,0.2"
    train_patients: int | None = None
    seed: Seed = 0
    workers: Workers = None
    cluster: Cluster = None
    overwrite: Overwrite = False


@Parameter(name="*", group=Group("Synthetic scans", sort_key=1))
@dataclass(kw_only=True, frozen=True)
class SyntheticOptions:
    """Synthetic scans to add to the store.

    Parameters
    ----------
    synthetic
        Folder that inject, sample or translate wrote, or a folder of such folders; may be repeated. A scan made from a
        scan of a patient in the store is in that patient's split; the others are split like patients.
    only_train
        Add synthetic scans to the training split only, so that validation and test have real scans alone. Scans made
        with knowledge of validation or test patients (source scan, outlines, or the model's training data) are left
        out and named.
    """

    synthetic: typing.Annotated[list[Path] | None, Parameter(negative="")] = None
    only_train: typing.Annotated[bool, Parameter(negative="")] = False


def lidc(source: Path, *, readers: int = 2, made: SyntheticOptions = SyntheticOptions(), options: StoreOptions) -> None:
    """Make a store from LIDC-IDRI as downloaded: every CT series with its readers' annotations.

    The same command resumes a run that was stopped. Scans that cannot be read are left out and named.

    Parameters
    ----------
    source
        Folder with the DICOM series and XML files. NIfTI or MHA scans beside their XML files are read too. A series
        without an XML file has its annotations from the table in the package.
    readers
        A voxel belongs to a nodule if at least this many of the four readers marked it, 1 to 4.
    """
    _prepare("lidc", source, options, readers=readers, **vars(made))


def luna16(
    source: Path, *, readers: int = 2, made: SyntheticOptions = SyntheticOptions(), options: StoreOptions
) -> None:
    """Make a store from LUNA16 as downloaded: scans with nodules, candidates, masks and ratings.

    The same command resumes a run that was stopped. Patients, masks and ratings come from the LIDC table in the
    package.

    Parameters
    ----------
    source
        Folder with subset0 to subset9, annotations.csv, and optionally candidates_V2.csv or candidates.csv.
    readers
        A voxel belongs to a nodule if at least this many of the four readers marked it, 1 to 4.
    """
    _prepare("luna16", source, options, readers=readers, **vars(made))


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class OwnOptions:
    """How your own scans are read.

    Parameters
    ----------
    structures
        Regular expression for the names of DICOM segments and structures that are nodules; it may match a part of the
        name. By default those whose name (nodule, lesion, tumour, mass, GTV, ...) or code means nodule; the others are
        named in a note.
    annotated
        Whether the annotations have all nodules of each scan, some, or none-known. By default all for images of a
        table, some for scans with masks, and none-known for other scans. Patches without a nodule are taken from
        scans with all, and from scans with some, far from dense voxels.
    patient_from
        How to find the patient of an image that the table gives none for: auto (DICOM headers, or else folders),
        folder (the first one below SOURCE), name (of the image), or a regular expression whose first group matches the
        patient in the path.
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
    """Read a folder of whole CT scans, with or without nodules, into a store.

    Scans are DICOM series, NIfTI, MHA, MHD or NRRD. The DICOM SEG and RTSTRUCT of a series become its nodule masks, and
    folders that `inject`, `sample` or `translate` wrote are read with their tables. The same command resumes a run that
    was stopped.

    Parameters
    ----------
    source
        Folder, or one scan.
    table
        CSV file of nodules, with the columns that `prepare patches --help` lists; by default every nodules.csv in
        SOURCE and its subfolders. In this table, `image` may also be a series UID or a patient id.
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
    """Read your own images and nodule masks, listed in a table, into a store. Images are whole scans or crops.

    The table is a CSV file with one row for each nodule and the columns:

    - image: file or DICOM folder, relative to the table; several rows may have the same image.
    - mask: image in which the nodule's voxels are above 0; with mask_label, equal to it; in an image of fractions, 0.5
      or more; or a DICOM SEG, RTSTRUCT or Slicer segmentation, of which mask_label is the number, value or name of a
      segment.
      Without mask_label, each separate piece of the mask is a nodule; if the row has a centre, only the piece there.
    - center_x_mm, center_y_mm, center_z_mm, diameter_mm: world mm (LPS), for a nodule without a mask. With a mask,
      diameter_mm replaces the mask's largest width in an axial slice.
    - patient_id: patient of the image; if the column is missing, --patient-from finds the patients.
    - split: train, val or test; if the column is missing, --split sets the shares.
    - malignancy, texture, spiculation, lobulation, sphericity, margin, calcification, subtlety, internal_structure:
      LIDC's ratings, one number, or one for each reader with spaces between them; optional. Malignancy is 1 to 5; for
      a known diagnosis write 1, benign, or 5, malignant. Three ratings may be words: texture (ground-glass,
      part-solid, solid), calcification (popcorn, laminated, solid, non-central, central, none) and internal_structure
      (soft, fluid, fat, air).

    A row without mask, centre, diameter, ratings and nodule_id is an image without a nodule. A row with some of these
    but neither mask nor centre is left out and named. Other columns are kept.

    Parameters
    ----------
    source
        Folder with nodules.csv and its images; or a folder of several such folders.
    table
        Another table; its images are relative to the table's folder.
    """
    _prepare("patches", source, options, table=table, **vars(own), **vars(made))


def phantom(*, scans: int = 20, spacing: str = "1.5,1.5,1.5", nodules: float = 2.5, options: StoreOptions) -> None:
    """Make a store of phantom patients: chest CT with nodules of real shapes and exact masks. It needs no data.

    The same command resumes a run that was stopped. The nodule shapes of train, val and test are from different
    LIDC-IDRI patients.

    Parameters
    ----------
    scans
        Number of scans.
    spacing
        Voxel spacing Z,Y,X in mm; or varied, for slices of 0.6 to 2.5 mm and pixels of 0.6 to 0.9 mm, drawn for each
        scan.
    nodules
        Mean number of nodules in a scan.
    """
    expected = "Z,Y,X in mm, as in 1.5,1.5,1.5, or varied"
    spacing_mm = None if spacing == "varied" else parse_zyx(spacing, "--spacing", expected, float)
    store = prepare_phantom(scans=scans, spacing_mm=spacing_mm, nodules=nodules, **_given(options))
    _tell(options.out, store)


def _prepare(kind: SourceKind, source: Path, options: StoreOptions, **of_kind: Any) -> None:
    """Prepare a store from a source and print what it holds."""
    _tell(options.out, prepare(kind, source, **_given(options), **of_kind))


def _given(options: StoreOptions) -> dict[str, Any]:
    """Return the options as keywords of `synthorax.api.prepare`."""
    try:
        shares = [float(part) for part in options.split.split(",")]
    except ValueError as error:
        raise InputError("--split", repr(options.split), "three shares, as in 0.7,0.1,0.2") from error
    return vars(options) | {"split": shares}


def _tell(out: Path, store: Store) -> None:
    """Print a summary of a store: cases and nodules on stdout, and what was left out or lacks masks on stderr."""
    first, *more = summary.summary_lines(store)
    for line in more:
        say(f"  {line}", error=True)
    say(f"{out}: {first}")
