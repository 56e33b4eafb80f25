"""Reading nodule masks from NumPy stacks, image files, and folders of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.masked import note_on_nodules, separate_nodules
from synthorax.datasets.patients import first_names
from synthorax.datasets.shapes import LUNG_SPACING_MM, ShapeRecord, ShapeSet
from synthorax.errors import InputError
from synthorax.io.arrays import open_npy
from synthorax.io.atomic import MARK
from synthorax.io.fractions import as_labels
from synthorax.io.images import is_image, open_image
from synthorax.io.mappings import read_mapping
from synthorax.io.segments import list_segments, read_segments
from synthorax.io.tables import read_table
from synthorax.io.walk import real_path
from synthorax.provenance import MANIFEST
from synthorax.region import Region
from synthorax.shapes.resampling import resample
from synthorax.volume import check_spacing

MOST_SHAPES_IN_MAP = 1000
SHAPE_TABLE = "nodules.csv"
"""Name of the table in a folder that `prepare shapes` wrote, and of a table that names the patients of masks."""
ANALYZER_THRESHOLD = 0.1
"""LuNG's analyzer counts a voxel of a NumPy stack as nodule if its value exceeds this. Images are masks or
probabilities instead (`io.fractions`)."""

HAS_FRACTIONS = " has fractions, like LuNG's seeds"
"""Part of the note on a NumPy array that is not a mask."""


@dataclass(frozen=True, eq=False)
class NoduleMask:
    """One nodule of a file.

    Attributes:
        name: name of the file, with the row or label in it.
        values: occupancy, float32, or mask, bool, [z, y, x].
        spacing_mm: voxel size (z, y, x).
        notes: sentences about assumptions made for its file.
        is_of_stack: whether it is a row of a NumPy array, which is on the model's grid.
        file: the file; None if not known.
    """

    name: str
    values: NDArray[np.float32] | NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    notes: tuple[str, ...] = ()
    is_of_stack: bool = False
    file: Path | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask of the nodule, bool [z, y, x]."""
        return self.values > ANALYZER_THRESHOLD


def read_nodule_masks(path: Path, spacing_mm: Sequence[float] | None = None) -> list[NoduleMask]:
    """Return a list of all nodules that `nodule_masks` yields."""
    return list(nodule_masks(path, spacing_mm))


def nodule_masks(path: Path, spacing_mm: Sequence[float] | None = None) -> Iterator[NoduleMask]:
    """Yield every nodule of a file, or of the files of a folder, reading one file at a time.

    A `.npy` array [n, z, y, x] has a nodule in each row. An array [z, y, x], like an image, has one for each of its
    labels 1, 2, ...; if there is a single label, one for each of its pieces that are more than
    `annotations.masked.SAME_NODULE_MM` apart, which are named FILE:1, FILE:2, ..., with a note. Axes keep their order
    in the file; directions are ignored.

    Args:
        path: file or folder.
        spacing_mm: voxel size (z, y, x) of NumPy arrays; by default that of the manifest beside them, or otherwise
            LuNG's. Images have their own.

    Raises:
        InputError: a file is missing, unreadable, of another kind or shape, or empty, or has values out of range.
    """
    if spacing_mm is not None:
        check_spacing(spacing_mm)
    files = _files(path)
    spacing = tuple(spacing_mm or noted_spacing(path) or LUNG_SPACING_MM)
    for file in files:
        for found in _of_file(file, spacing):
            mask = replace(found, file=file)
            if not mask.mask.any():
                raise InputError(mask.name, "an empty mask", "the mask of a nodule")
            yield mask


def read_shape_set(
    path: Path, grid: tuple[int, int, int], spacing_mm: tuple[float, float, float], *, every: bool = False
) -> ShapeSet:
    """Read the nodules of a file or folder as shapes on one grid.

    NumPy stacks must be on the grid and are not changed; images are resampled. Shapes of a folder that `prepare shapes`
    wrote, and of the stack in it, keep their patients and ratings. The patients of other masks are those of the rows
    of a `nodules.csv`, beside the masks or in the folder above, that name them in the column `mask`, or in `image`.
    If any is missing, the set does not tell its patients. Nodules larger than the grid are left out and counted in a
    note.

    Args:
        path: file or folder.
        grid: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x) of the grid.
        every: refuse a nodule larger than the grid, so that row i of the set is nodule i of the file.

    Raises:
        InputError: see `nodule_masks`; or a stack is on another grid, or a nodule, without `every` each nodule, is
            larger than the grid.
    """
    noted = noted_spacing(path)
    if noted is not None and not np.allclose(noted, spacing_mm):
        raise InputError(path, f"voxels of {noted} mm", f"{tuple(spacing_mm)} mm, as the model has")
    shapes, records, files, too_large = [], [], [], []
    notes: dict[str, None] = {}
    for nodule in read_nodule_masks(path, spacing_mm):
        # The fractions of a stack need no assumption here.
        notes |= dict.fromkeys(note for note in nodule.notes if not (nodule.is_of_stack and HAS_FRACTIONS in note))
        if nodule.is_of_stack:
            if nodule.values.shape != grid:
                raise InputError(nodule.name, f"{nodule.values.shape} voxels", f"{grid}, the model's grid")
            shape: NDArray | None = nodule.values
        else:
            shape = resample(nodule.mask, nodule.spacing_mm, grid, spacing_mm)
        if shape is None:
            if every:
                raise InputError(nodule.name, f"a nodule {larger_than(grid, spacing_mm)}", "a smaller one")
            too_large.append(nodule.name)
            continue
        shapes.append(shape)
        files.append(nodule.file)
        records.append(ShapeRecord(shape_id=nodule.name, patient_id=nodule.name))
    if not shapes:
        raise InputError(path, f"only nodules {larger_than(grid, spacing_mm)}", "smaller ones, or a larger grid")
    if too_large:
        larger = larger_than(grid, spacing_mm)
        notes[f"{path.name}: nodules left out: {len(too_large)} {larger}: {first_names(too_large)}"] = None
    folder = path if path.is_dir() else path.parent
    table = folder / SHAPE_TABLE
    if (folder / MARK).is_file() and table.is_file() and (path == folder or _is_of_shapes(table)):
        records = _read_records(table, len(shapes))
        return ShapeSet(np.array(shapes, np.float32), spacing_mm, tuple(records), tuple(notes))
    owners = _owners(table)
    with suppress(InputError):  # a table in the folder above may be about something else
        owners = _owners(folder.parent / SHAPE_TABLE) | owners
    owned = [owners.get(real_path(file), "") for file in files if file is not None]
    if tells := len(owned) == len(records) and all(owned):
        records = [replace(record, patient_id=owner) for record, owner in zip(records, owned, strict=True)]
    return ShapeSet(np.array(shapes, np.float32), spacing_mm, tuple(records), tuple(notes), tells)


def larger_than(grid: Sequence[int], spacing_mm: Sequence[float]) -> str:
    """Return what is said of nodules that do not fit into a grid.

    Args:
        grid: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x).
    """
    size = " x ".join(f"{mm:.1f}" for mm in np.multiply(grid, spacing_mm))
    return f"larger than the model's grid of {size} mm (z, y, x; see its setting grid)"


def noted_spacing(path: Path) -> tuple[float, float, float] | None:
    """Return the voxel size (z, y, x) in the manifest of a folder, or of a file's folder, that this package wrote.

    None if there is no such manifest.

    Raises:
        InputError: the manifest is damaged.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / MARK).is_file() or not (manifest := folder / MANIFEST).is_file():
        return None
    try:
        z, y, x = read_mapping(manifest, "manifest")["spacing_zyx_mm"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(manifest, "no spacing_zyx_mm", "the manifest that synthorax wrote there") from error
    return float(z), float(y), float(x)


def _is_of_shapes(table: Path) -> bool:
    """Return whether a table is one that `prepare shapes` wrote, with a row for each shape of a stack."""
    return "shape_id" in read_table(table)[0]


def _owners(table: Path) -> dict[Path, str]:
    """Return the patient of each file that a table names in `mask` or `image`, by its real path.

    The patient is empty if rows that name the file differ. A missing table names no file.

    Raises:
        InputError: the table cannot be read.
    """
    found: dict[Path, set[str]] = {}
    for row in read_table(table) if table.is_file() else []:
        for column in ("mask", "image"):
            if name := (row.get(column) or "").strip():
                found.setdefault(real_path(table.parent / name), set()).add((row.get("patient_id") or "").strip())
    return {path: patients.pop() if len(patients) == 1 else "" for path, patients in found.items()}


def _read_records(table: Path, n: int) -> list[ShapeRecord]:
    """Read the records that `prepare shapes` wrote beside its stack, one for each shape."""
    rows = read_table(table)
    try:
        records = [ShapeRecord.from_row(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(table, f"columns {', '.join(rows[0])}", "the table of `prepare shapes`") from error
    if len(records) != n:
        raise InputError(table, f"{len(records)} rows", f"one for each of the {n} shapes beside it")
    return records


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(path, "nothing", "a .npy stack, an image, or a folder of them")
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if (is_image(f) or f.suffix == ".npy") and f.name[0] != ".")
        if not files:
            raise InputError(path, "a folder without masks", ".npy, .nii, .nii.gz, .mha, .mhd or .nrrd files")
        names = [file.name.split(".")[0] for file in files]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(path, f"{twice[0]} in several formats", "every nodule once")
        return files
    if not is_image(path) and path.suffix != ".npy":
        raise InputError(path, f"a file named *{path.suffix}", ".npy, .nii, .nii.gz, .mha, .mhd or .nrrd")
    return [path]


def _of_file(file: Path, spacing_mm: Sequence[float]) -> Iterator[NoduleMask]:
    if file.suffix == ".npy":
        z, y, x = spacing_mm
        rows, is_one_mask = _read_stack(file)
        for i, values in enumerate(rows):
            fractions = values.dtype == np.float32 and bool(((values > 0) & (values < 1)).any())
            note = f"{file.name}{HAS_FRACTIONS}; voxels above {ANALYZER_THRESHOLD} count as nodule"
            whole = NoduleMask(f"{file.name}[{i}]", values, (z, y, x), (note,) * fractions, is_of_stack=True)
            yield from _apart(whole, file) if is_one_mask else [whole]
        return
    if list_segments(file):
        found = read_segments(file)
        for segment, region in zip(found.segments, found.regions, strict=True):
            name, mask = f"{file.name}:{segment.name}", region.within((0, 0, 0), found.grid.shape)
            whole = NoduleMask(name, mask, found.grid.spacing_mm, found.notes)
            yield from _apart(whole, file) if len(found.segments) == 1 else [whole]
        return
    image = open_image(file)
    voxels, notes = as_labels(file, image.volume.voxels)
    labels = _labels(voxels, file)
    for label in labels if len(labels) > 1 else [None]:
        name = file.name if label is None else f"{file.name}:{label}"
        mask = voxels != 0 if label is None else voxels == label
        whole = NoduleMask(name, mask, image.volume.spacing_mm, (*image.notes, *notes))
        yield from _apart(whole, file) if label is None else [whole]


def _apart(whole: NoduleMask, file: Path) -> Iterator[NoduleMask]:
    """Yield the separate nodules of a mask of one label, named FILE:1, FILE:2, ...; one nodule as it is."""
    region = Region.of(whole.mask)
    nodules = separate_nodules(whole.name, region, whole.spacing_mm) if region.voxels else [region]
    if len(nodules) == 1:
        yield whole
        return
    notes = (*whole.notes, *note_on_nodules(file.name, nodules))
    for number, nodule in enumerate(nodules, start=1):
        own = nodule.within((0, 0, 0), whole.values.shape)
        values = np.where(own, whole.values, np.zeros((), whole.values.dtype))
        yield replace(whole, name=f"{file.name}:{number}", values=values, notes=notes)


def _read_stack(file: Path) -> tuple[Iterable[NDArray], bool]:
    """Return the nodules of a NumPy array, and whether they are one mask, whose pieces may be several nodules."""
    array = open_npy(file)
    if array.ndim not in (3, 4) or not array.size:
        raise InputError(file, f"shape {array.shape}", "[n, z, y, x] or [z, y, x]")
    values = checked_masks(np.array(array), file)
    if values.dtype == np.float32:
        return (values, False) if values.ndim == 4 else (values[None], True)
    if values.ndim == 4:
        return values != 0, False
    labels = _labels(values, file)
    return [values == label for label in labels], len(labels) == 1


def _labels(voxels: NDArray, file: Path) -> NDArray:
    """Return the labels of a map in ascending order; for an empty map, label 1, so that the caller finds it empty."""
    labels = np.unique(voxels[voxels != 0])
    if len(labels) > MOST_SHAPES_IN_MAP:
        raise InputError(file, f"{len(labels)} labels", f"a mask, or a map of at most {MOST_SHAPES_IN_MAP} nodules")
    return labels if len(labels) else np.array([1])


def checked_masks(voxels: NDArray, file: object) -> NDArray:
    """Return voxels as float32 from 0 to 1, or as integers or bool from 0.

    Args:
        voxels: voxels of a mask.
        file: the file, for errors.

    Raises:
        InputError: the voxels have other values.
    """
    if voxels.dtype.kind not in "buif":
        raise InputError(file, f"voxels of type {voxels.dtype}", "bool, integers or floats")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(file, "NaN or infinite voxels", "a mask")
    if voxels.dtype.kind == "f" and voxels.max() > 1 and (voxels == np.rint(voxels)).all():
        voxels = voxels.astype(np.int64)
    low, high = voxels.min(), voxels.max()
    if low < 0 or (voxels.dtype.kind == "f" and high > 1):
        raise InputError(file, f"values from {low:g} to {high:g}", "values from 0 to 1, or labels 0, 1, 2, ...")
    return voxels.astype(np.float32) if voxels.dtype.kind == "f" else voxels
