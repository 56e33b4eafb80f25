"""An edited scan as files, in the format that the scan came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthorax.annotations.nodule_table import CENTER, TABLE
from synthorax.editing.inject import Edited
from synthorax.editing.plan import nodule_balls
from synthorax.io.atomic import atomic_folder
from synthorax.io.dicom_out import write_ct_series, write_segmentation
from synthorax.io.images import WRITTEN, image_stem, write_image
from synthorax.io.scans import Scan
from synthorax.io.tables import write_table
from synthorax.nodule import RATINGS, Nodule, NoduleAttributes
from synthorax.provenance import MANIFEST, Origin, sha256, write_manifest

SERIES = "ct"


def write_edited(
    out: Path,
    edited: Edited,
    origin: Origin,
    *,
    source: Scan | None = None,
    about: Mapping[str, Any] | None = None,
    keep_identity: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a scan with nodules put in, all or nothing.

    The scan, as an image or as a DICOM series; the nodules' voxels (`mask`) and where the scan may differ from its
    source (`region`), as images or as DICOM segmentations; nodules.csv, from which `prepare` makes a store; and
    manifest.json. Scan and masks say in their headers that they are synthetic.

    Args:
        source: what it was made from; a DICOM series gives its acquisition to the one that is written.
        about: what was asked for.
        keep_identity: keep the patient and study of that series too.

    Raises:
        InputError: the folder is not ours to replace.
        OutputError: it cannot be written.
    """
    region = replace(edited.region, voxels=edited.region.voxels.astype(np.uint8))
    with atomic_folder(out, overwrite=overwrite) as folder:
        if source is not None and source.dicom is not None:
            headers = write_ct_series(
                folder / SERIES,
                edited.ct,
                mark=origin.mark,
                source=source.dicom,
                keep_identity=keep_identity,
                description="Synthetic nodules",
            )
            files = {"scan": SERIES, "mask": "mask.dcm", "region": "region.dcm"}
            names = [f"Nodule {i + 1}" for i in range(int(edited.mask.voxels.max()))]
            write_segmentation(folder / files["mask"], edited.mask, headers, names, mark=origin.mark)
            region_names: tuple[str, ...] = ("Edit region",)
            write_segmentation(
                folder / files["region"], region, headers, region_names, mark=origin.mark, what="Edit region"
            )
        else:
            name = source.path.name if source is not None and source.path is not None else "scan.nii.gz"
            stem = image_stem(name)
            suffix = name[len(stem) :].lower()
            suffix = suffix if suffix in WRITTEN else ".nii.gz"
            files = {"scan": stem + suffix, "mask": f"{stem}_mask{suffix}", "region": f"{stem}_region{suffix}"}
            for volume, file in zip((edited.ct, edited.mask, region), files.values(), strict=True):
                write_image(folder / file, volume, mark=origin.mark)
        nodules = [*_earlier(edited), *edited.nodules]
        write_table(folder / TABLE, _rows(nodules, files))
        manifest = {
            "synthetic": origin.mark,
            "method": origin.system,
            "model_sha256": origin.model_sha256,
            "seed": origin.seed,
            "source": _about_source(source, keep_identity),
            "request": dict(about or {}),
            "files": files,
            "nodules": [nodule.row() for nodule in nodules],
            "region_voxels": int(region.voxels.sum()),
            "notes": list(edited.notes),
        }
        write_manifest(folder / MANIFEST, manifest)


def _earlier(edited: Edited) -> list[Nodule]:
    """The nodules that the scan had, of which no more is known than their voxels."""
    new = [nodule.label for nodule in edited.nodules]
    old = replace(edited.mask, voxels=np.where(np.isin(edited.mask.voxels, new), 0, edited.mask.voxels))
    labels = np.unique(old.voxels[old.voxels > 0]).tolist()
    return [
        Nodule(f"{label:02d}", ball.center_mm, NoduleAttributes(diameter_mm=ball.diameter_mm), label)
        for label, ball in zip(labels, nodule_balls(old), strict=True)
    ]


def _about_source(source: Scan | None, keep_identity: bool) -> dict[str, str]:
    """Name and hash of an image; of a DICOM series nothing that leads back to its patient, if that is not wanted."""
    if source is None or (source.dicom is not None and not keep_identity):
        return {}
    if source.dicom is not None:
        return {"series_uid": source.series_uid}
    return {} if source.path is None else {"name": source.path.name, "sha256": sha256(source.path)}


def _rows(nodules: Sequence[Nodule], files: Mapping[str, str]) -> list[dict[str, Any]]:
    """The nodules as a table for `prepare`; a DICOM mask is found by its series, not by the table."""
    masked = not files["mask"].endswith(".dcm")
    blank = dict.fromkeys((name for nodule in nodules for name in nodule.extra), "")
    rows = []
    for nodule in nodules:
        mask = {"mask": files["mask"], "mask_label": nodule.label} if masked else {}
        place = dict(zip(CENTER, nodule.center_mm, strict=True))
        attributes = vars(nodule.attributes)
        rated = {rating: attributes[rating] for rating in RATINGS}
        rows.append(
            {"image": files["scan"], "nodule_id": nodule.nodule_id}
            | mask
            | place
            | {"diameter_mm": attributes["diameter_mm"]}
            | rated
            | blank
            | dict(nodule.extra)
        )
    return rows
