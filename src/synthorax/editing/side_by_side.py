"""Writing one scan with nodules of several methods at the same places: a folder for each, one table, one manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthorax.annotations.nodule_table import NODULE_TABLE, under
from synthorax.editing.edited import Edited
from synthorax.editing.output import PictureWriter, write_edited
from synthorax.io.atomic import atomic_folder
from synthorax.io.mappings import read_mapping
from synthorax.io.scans import Scan
from synthorax.io.tables import even_rows, read_table, write_table
from synthorax.lineage import joined_lineages
from synthorax.provenance import MANIFEST, SYNTHETIC_MARK, Origin, write_manifest

SIDE_BY_SIDE = "side-by-side.png"
"""File name of the picture of all methods' nodules."""


def write_side_by_side(
    out: Path,
    edited: Mapping[str, Edited],
    seed: int,
    *,
    source: Scan,
    about: Mapping[str, Mapping[str, Any]],
    picture: PictureWriter,
    patient_id: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    alone: bool = True,
) -> None:
    """Write a scan edited by several methods, all or nothing.

    The folder gets a subfolder for each method, as `write_edited` writes it, and nodules.csv, manifest.json and a
    picture for all of them.

    Args:
        out: folder to write.
        edited: name of each method to the edited scan.
        seed: seed of the edits.
        source: the scan before the edits.
        about: name of each method to its request, for the manifest.
        picture: writes the picture, which the table names for each nodule that it shows.
        patient_id, keep_identity, overwrite, alone: see `write_edited`.

    Raises:
        InputError: the folder holds something else.
        OutputError: a file cannot be written.
    """
    rows, methods, notes = [], [], []
    with atomic_folder(out, overwrite=overwrite, alone=alone) as folder:
        shown = picture(folder / SIDE_BY_SIDE)
        for name, one in edited.items():
            origin = Origin(one.lineage.name, one.lineage.model_sha256, seed)
            write_edited(
                folder / name,
                one,
                origin,
                source=source,
                about=about[name],
                patient_id=patient_id,
                keep_identity=keep_identity,
                alone=False,
            )
            for row in read_table(folder / name / NODULE_TABLE):
                own = under(name, row)
                rows.append(own | {"picture": SIDE_BY_SIDE} if row["nodule_id"] in shown else own)
            content = read_mapping(folder / name / MANIFEST)
            kept = ("model_sha256", "request", "files", "nodules", "region_voxels", "lineage")
            methods.append({"method": name, **{key: content[key] for key in kept}})
            notes += [(note, name) for note in one.notes]
        write_table(folder / NODULE_TABLE, even_rows(rows))
        lineage = joined_lineages(one.lineage for one in edited.values())
        manifest = {
            "synthetic": SYNTHETIC_MARK,
            "method": lineage.name,
            "model_sha256": lineage.model_sha256,
            "seed": seed,
            "patient_id": content["patient_id"],
            "source": content["source"],
            "annotated": "some",
            "files": {"picture": SIDE_BY_SIDE},
            "methods": methods,
            "nodules": [nodule for method in methods for nodule in method["nodules"]],
            "region_voxels": sum(method["region_voxels"] for method in methods),
            "lineage": lineage.row(),
            "notes": by_method(notes),
        }
        write_manifest(folder / MANIFEST, manifest)


def by_method(notes: list[tuple[str, str]]) -> list[str]:
    """Return each note once, after the methods that it is about.

    Args:
        notes: pairs of a note and a method's name.
    """
    about: dict[str, list[str]] = {}
    for note, method in notes:
        about.setdefault(note, []).append(method)
    return [f"{', '.join(of)}: {note}" for note, of in about.items()]
