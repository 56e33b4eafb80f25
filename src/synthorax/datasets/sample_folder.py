"""A folder of generated nodules that other tools open, with its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder
from synthorax.io.images import write_image
from synthorax.io.stl import write_stl
from synthorax.io.tables import write_table
from synthorax.provenance import MANIFEST, Origin, write_manifest
from synthorax.shapes.features import FEATURES, shape_features
from synthorax.shapes.mesh import surface
from synthorax.shapes.reconnection import ON_THRESHOLD
from synthorax.volume import Volume

Format = Literal["npy", "nifti", "mha", "stl"]
FORMATS = get_args(Format)
SUFFIX = {"nifti": ".nii.gz", "mha": ".mha", "stl": ".stl"}


def write_shape_samples(
    folder: Path,
    fields: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    origin: Origin,
    details: Sequence[Mapping[str, Any]],
    *,
    how: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    sample_batch: int = 0,
) -> None:
    """Write generated nodules: masks, meshes, features and a manifest, all or nothing.

    masks/0000.nii.gz, masks/0000.mha   the mask, marked as synthetic in its header
    meshes/0000.stl                     its watertight surface in millimetres
    shapes.npy                          bool [n, z, y, x], all masks
    features.csv                        the 12 features, one row a nodule
    manifest.json                       what made them, and for each its `details` and features

    Args:
        fields: grey values [n, z, y, x] from 0 to 1; on from `ON_THRESHOLD`.
        details: what the manifest tells of each sample besides its features.
        how: what the manifest tells of how the samples were drawn.
        sample_batch: samples computed at once; needed to make the same bytes again.

    Raises:
        InputError: an unknown format, or a folder that is not ours to replace.
        OutputError: the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError("format", repr(name), " or ".join(FORMATS))
    masks = fields >= ON_THRESHOLD
    features = shape_features(masks, spacing_mm)
    names = [f"{i:04d}" for i in range(len(fields))]
    with atomic_folder(folder, overwrite=overwrite) as target:
        for part in ("masks",) * bool({"nifti", "mha"} & set(formats)) + ("meshes",) * ("stl" in formats):
            (target / part).mkdir()
        for name, field, mask in zip(names, fields, masks, strict=True):
            volume = Volume(mask, spacing_mm)
            for kind in ("nifti", "mha"):
                if kind in formats:
                    write_image(target / "masks" / (name + SUFFIX[kind]), volume, mark=origin.mark)
            if "stl" in formats:
                mesh = surface(field, spacing_mm)
                write_stl(target / "meshes" / f"{name}.stl", mesh.triangles_mm, origin.mark)
        if "npy" in formats:
            np.save(target / "shapes.npy", masks)
        # A single voxel has an infinite f6, which JSON cannot say.
        rows = [dict(zip(FEATURES, (v if np.isfinite(v) else None for v in r.tolist()), strict=True)) for r in features]
        write_table(target / "features.csv", [{"nodule": name, **row} for name, row in zip(names, rows, strict=True)])
        write_manifest(
            target / MANIFEST,
            {
                "synthetic": origin.mark,
                "system": origin.system,
                "model_sha256": origin.model_sha256,
                "seed": origin.seed,
                "how": dict(how),
                "spacing_zyx_mm": list(spacing_mm),
                "sample_batch": sample_batch,
                "formats": list(formats),
                "samples": [
                    {"name": name, **detail, "features_alnsb": row}
                    for name, detail, row in zip(names, details, rows, strict=True)
                ],
            },
        )
