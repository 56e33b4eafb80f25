"""`synthorax prepare`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synthorax.api import lidc_shapes
from synthorax.cli.options import parse_zyx
from synthorax.datasets.lidc import LidcRequest
from synthorax.io.atomic import atomic_folder, check_folder_is_free
from synthorax.io.tables import write_table
from synthorax.provenance import write_manifest


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
    voxels = parse_zyx(grid, "--grid", "Z,Y,X voxels, as in 20,40,40", int)
    spacing_mm = parse_zyx(spacing, "--spacing", "Z,Y,X in mm, as in 1.25,0.7,0.7", float)
    request = LidcRequest(readers, voxels, spacing_mm)
    check_folder_is_free(out, overwrite=overwrite)
    made = lidc_shapes(readers=request.readers, grid=request.grid, spacing_mm=request.spacing_mm)
    with atomic_folder(out, overwrite=overwrite) as folder:
        np.save(folder / "shapes.npy", made.shapes.occupancy)
        write_table(folder / "nodules.csv", [record.row() for record in made.shapes.records])
        write_manifest(
            folder / "manifest.json",
            {
                "source": "LIDC-IDRI annotations (CC BY 3.0), doi:10.7937/K9/TCIA.2015.LO9QL9SX",
                "readers": readers,
                "spacing_zyx_mm": list(spacing_mm),
                "counts": made.counts,
                "fingerprint": made.shapes.fingerprint,
            },
        )
    print(f"{out}: " + ", ".join(f"{count} {what}" for what, count in made.counts.items()))
