"""A folder of synthetic scans: written one by one, resumed after a stop, and listed in one table and one manifest.

    images/00000.nii.gz    HU, marked as synthetic in the header
    masks/00000.nii.gz     labels of its nodules, if nodules were put into it
    nodules.csv            one row for each nodule, from which `prepare patches` makes a store
    manifest.json          the maker, and the details of each scan
    request.json           the request; a folder with scans of another request is refused
    samples.jsonl          a line for each finished scan, written after its files

A scan is finished when its line is written; a scan that a kill or a full disk left unfinished is made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthorax.annotations.nodule_table import NODULE_TABLE, nodule_cells
from synthorax.errors import InputError, OutputError, reason
from synthorax.io.atomic import MARK, atomic_file, check_folder_is_free, other_than_ours, working_in, write_mark
from synthorax.io.locks import clear_leftovers
from synthorax.io.mappings import read_mapping
from synthorax.io.nifti import NIFTI_SUFFIX, nifti_writer, write_nifti
from synthorax.io.requests import differing_options
from synthorax.io.tables import even_rows, write_table
from synthorax.lineage import Lineage
from synthorax.makers import ScanStream
from synthorax.nodule import Nodule
from synthorax.provenance import MANIFEST, Origin, manifest_writer
from synthorax.volume import Volume

SCANS_REQUEST, SCANS_MADE = "request.json", "samples.jsonl"
"""Files of a folder of scans with the request, and with the list of finished scans."""
SCANS_RECIPE = 1
"""Version of the recipe, part of the request; raise it when the same request would give other scans."""
IMAGES_FOLDER, MASKS_FOLDER = "images", "masks"


@dataclass(frozen=True)
class ScanFolder:
    """The content of a folder of synthetic scans.

    Attributes:
        out: the folder.
        scans: number of scans.
        nodules: number of nodules put into them.
        notes: sentences about results that differ from the request, each after the name of its scan.
    """

    out: Path
    scans: int
    nodules: int
    notes: tuple[str, ...]


@contextmanager
def scans_begun(out: Path, request: Mapping[str, Any], n: int, overwrite: bool) -> Iterator[dict[int, dict[str, Any]]]:
    """Reserve a folder for `n` scans of a request while the block runs; yield the rows of scans finished earlier.

    Args:
        out: the folder.
        request: the request without `n`, which may grow.
        n: number of scans.
        overwrite: remove scans of another request.

    Yields:
        Index of each finished scan to its row.

    Raises:
        InputError: the folder holds something else, scans of another request, or more than `n` scans of this one.
        OutputError: the folder cannot be written.
    """
    with working_in(out) as out:
        wanted = json.loads(json.dumps(request))
        begun = _request(out)
        if begun is None:
            check_folder_is_free(out, overwrite=True)
            if any(out.iterdir()):
                raise InputError(out, "a result of another kind", "an empty or new folder")
        elif begun != wanted and not overwrite:
            other = differing_options(begun, wanted)
            raise InputError(out, f"scans of another request ({other})", "the same request, or --overwrite")
        for folder in (IMAGES_FOLDER, MASKS_FOLDER):
            clear_leftovers(out / folder)
        rows = rows_of(out) if begun == wanted else {}
        if begun not in (None, wanted):
            _remove(out)
        if len(rows) > n:
            raise InputError(out, f"{len(rows)} scans of this request", f"-n {len(rows)} or more, or another folder")
        for name in (NODULE_TABLE, MANIFEST):
            (out / name).unlink(missing_ok=True)
        (out / IMAGES_FOLDER).mkdir(exist_ok=True)
        with atomic_file(out / SCANS_REQUEST) as file:
            file.write_text(json.dumps(wanted, indent=1) + "\n")
        yield rows


def is_scan_folder(path: Path) -> bool:
    """Return whether a folder holds synthetic scans, finished or not."""
    return (path / SCANS_MADE).is_file() and _request(path) is not None


def rows_of(out: Path) -> dict[int, dict[str, Any]]:
    """Return the rows of finished scans by index; truncated lines, and scans whose files are missing, are left out."""
    rows: dict[int, dict[str, Any]] = {}
    with suppress(OSError):
        for line in (out / SCANS_MADE).read_text(errors="replace").splitlines():
            with suppress(ValueError, TypeError, LookupError):
                row = json.loads(line)
                files = [*row["files"].values(), *row.get("masks", {}).values()]
                if all((out / file).is_file() for file in files):
                    rows[int(row["index"])] = row
    return rows


def scan_name(index: int) -> str:
    """Return the name of a scan's files without their suffix."""
    return f"{index:05d}"


def write_stream(out: Path, index: int, stream: ScanStream, origin: Origin) -> dict[str, Any]:
    """Write a scan slab by slab as it is made, completely or not at all; return its row.

    Args:
        out: the folder.
        index: index of the scan.
        stream: the scan.
        origin: maker and seed, for the mark of generated voxels.

    Raises:
        InputError: the slabs do not have the stream's shape.
        OutputError: a file cannot be written.
    """
    file = f"{IMAGES_FOLDER}/{scan_name(index)}{NIFTI_SUFFIX}"
    with nifti_writer(out / file, stream.grid(), origin.mark) as write:
        for slab in stream.checked():
            write(slab)
    return row_of(index, file, stream)


def write_with_nodules(
    out: Path, index: int, stream: ScanStream, ct: Volume, mask: Volume, nodules: Sequence[Nodule], origin: Origin
) -> dict[str, Any]:
    """Write a scan into which nodules were put, and their mask; return its row.

    Args:
        out: the folder.
        index: index of the scan.
        stream: the scan before nodules were added.
        ct: HU with the nodules.
        mask: labels of the nodules.
        nodules: the nodules.
        origin: maker and seed, for the mark of generated voxels.

    Raises:
        OutputError: a file cannot be written.
    """
    name = scan_name(index) + NIFTI_SUFFIX
    files = {folder: f"{folder}/{name}" for folder in (IMAGES_FOLDER, MASKS_FOLDER)}
    (out / MASKS_FOLDER).mkdir(exist_ok=True)
    write_nifti(out / files[MASKS_FOLDER], mask, origin.mark)
    write_nifti(out / files[IMAGES_FOLDER], ct, origin.mark)
    entries = {"masks": {"nifti": files[MASKS_FOLDER]}, "nodules": [nodule.row() for nodule in nodules]}
    return row_of(index, files[IMAGES_FOLDER], stream) | entries


def row_of(index: int, file: str, stream: ScanStream) -> dict[str, Any]:
    """Return the manifest's entry of a scan without nodules."""
    return {
        "files": {"nifti": file},
        "index": index,
        "asked": [],
        "shape_zyx": list(stream.shape),
        "spacing_zyx_mm": list(stream.spacing_mm),
        **stream.details,
        "nodules": [],
        "notes": list(stream.notes),
    }


def add_row(out: Path, row: Mapping[str, Any]) -> None:
    """Append a scan's row to the list of finished scans.

    Raises:
        OutputError: the list cannot be written.
    """
    try:
        with open(out / SCANS_MADE, "a") as stream:
            stream.write("\n" + json.dumps(row, allow_nan=False))  # the newline ends a truncated line
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(out / SCANS_MADE, reason(error)) from error


def finish_scans(
    out: Path, rows: Mapping[int, dict[str, Any]], lineage: Lineage, annotated: str, about: Mapping[str, Any]
) -> ScanFolder:
    """Write the table of nodules and the manifest of all scans.

    Args:
        out: the folder.
        rows: index of each scan to its row.
        lineage: lineage of all makers together.
        annotated: whether all nodules of the scans are known.
        about: further entries of the manifest.

    Raises:
        OutputError: a file cannot be written.
    """
    ordered = [rows[index] for index in sorted(rows)]
    notes = [f"{scan_name(row['index'])}: {note}" for row in ordered for note in row["notes"]]
    nodules = [(row, Nodule.from_row(one)) for row in ordered for one in row["nodules"]]
    head = {**about, "annotated": annotated, "lineage": lineage.row(), "formats": ["nifti"]}
    try:
        if nodules:
            write_table(out / NODULE_TABLE, even_rows([_table_row(row, nodule) for row, nodule in nodules]))
        with atomic_file(out / MANIFEST) as file, manifest_writer(file, head, "samples", notes) as tell:
            for row in ordered:
                tell(row)
        files = [file for row in ordered for of in ("files", "masks") for file in row.get(of, {}).values()]
        tables = [NODULE_TABLE] if nodules else []
        write_mark(out, [*files, *tables, MANIFEST, SCANS_REQUEST, SCANS_MADE])
    except OSError as error:
        raise OutputError(out, reason(error)) from error
    return ScanFolder(out, len(ordered), len(nodules), tuple(notes))


def _table_row(row: Mapping[str, Any], nodule: Nodule) -> dict[str, Any]:
    return {
        "image": row["files"]["nifti"],
        "mask": row["masks"]["nifti"],
        "mask_label": nodule.label,
        "patient_id": f"synthetic-{scan_name(row['index'])}",
        "nodule_id": nodule.nodule_id,
        **nodule_cells(nodule),
        **nodule.extra,
    }


def _request(out: Path) -> dict[str, Any] | None:
    """Return the request of a folder of scans; None if it has none."""
    try:
        found = read_mapping(out / SCANS_REQUEST)
    except InputError:
        return None
    return dict(found) if found.get("makes") == "scans" else None


def _remove(out: Path) -> None:
    """Remove the scans of a folder.

    Raises:
        InputError: the folder has other files too.
    """
    if (out / MARK).is_file() and (other := other_than_ours(out)) is not None:
        raise InputError(out, f"{other} beside the scans to be replaced", "a folder of scans alone; move it away")
    for row in rows_of(out).values():
        for file in (*row["files"].values(), *row.get("masks", {}).values()):
            (out / file).unlink(missing_ok=True)
    for name in (MARK, SCANS_MADE, SCANS_REQUEST):
        (out / name).unlink(missing_ok=True)
