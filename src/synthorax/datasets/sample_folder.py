"""A folder of generated nodules that other tools open, with its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder
from synthorax.io.images import write_image
from synthorax.io.stl import write_stl
from synthorax.io.tables import table_writer
from synthorax.provenance import MANIFEST, Origin, manifest_writer
from synthorax.shapes.features import FEATURES, shape_features
from synthorax.shapes.mesh import surface
from synthorax.shapes.reconnection import ON_THRESHOLD
from synthorax.volume import Volume

Format = Literal["npy", "nifti", "mha", "stl"]
FORMATS = get_args(Format)
SUFFIX = {"nifti": ".nii.gz", "mha": ".mha", "stl": ".stl"}


def write_shape_samples(
    folder: Path,
    parts: Iterable[tuple[NDArray[np.float32], Sequence[Mapping[str, Any]]]],
    spacing_mm: tuple[float, float, float],
    origin: Origin,
    *,
    how: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    sample_batch: int = 0,
) -> int:
    """Write generated nodules: masks, meshes, features and a manifest, all or nothing; returns how many.

    masks/0000.nii.gz, masks/0000.mha   the mask, marked as synthetic in its header
    meshes/0000.stl                     its watertight surface in millimetres
    shapes.npy                          bool [n, z, y, x], all masks
    features.csv                        the 12 features, one row a nodule
    manifest.json                       what made them, and for each its details and features

    Args:
        parts: nodules one part after the other, each written before the next is asked for: grey values [n, z, y, x]
            from 0 to 1, on from `ON_THRESHOLD`, and what the manifest tells of each besides its features.
        how: what the manifest tells of how the samples were drawn.
        sample_batch: samples computed at once; needed to make the same bytes again.

    Raises:
        InputError: an unknown format, or a folder that is not ours to replace.
        OutputError: the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError("format", repr(name), " or ".join(FORMATS))
    about = {
        "synthetic": origin.mark,
        "system": origin.system,
        "model_sha256": origin.model_sha256,
        "seed": origin.seed,
        "how": dict(how),
        "spacing_zyx_mm": list(spacing_mm),
        "sample_batch": sample_batch,
        "formats": list(formats),
    }
    count = 0
    with (
        atomic_folder(folder, overwrite=overwrite) as target,
        table_writer(target / "features.csv") as tell_table,
        manifest_writer(target / MANIFEST, about, "samples") as tell_manifest,
        _stack_writer(target / "shapes.npy" if "npy" in formats else None) as stack,
    ):
        for part in ("masks",) * bool({"nifti", "mha"} & set(formats)) + ("meshes",) * ("stl" in formats):
            (target / part).mkdir()
        for fields, details in parts:
            masks = fields >= ON_THRESHOLD
            stack(masks)
            features = shape_features(masks, spacing_mm).tolist()
            for field, mask, detail, values in zip(fields, masks, details, features, strict=True):
                name = f"{count:04d}"
                _write_shape(target, name, field, mask, spacing_mm, formats, origin)
                # A single voxel has an infinite f6, which JSON cannot say.
                row = dict(zip(FEATURES, (value if isfinite(value) else None for value in values), strict=True))
                tell_table({"nodule": name, **row})
                tell_manifest({"name": name, **detail, "features_alnsb": row})
                count += 1
    return count


def _write_shape(
    target: Path,
    name: str,
    field: NDArray[np.float32],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    formats: Sequence[str],
    origin: Origin,
) -> None:
    """Write a nodule's mask and surface."""
    for kind in ("nifti", "mha"):
        if kind in formats:
            write_image(target / "masks" / (name + SUFFIX[kind]), Volume(mask, spacing_mm), mark=origin.mark)
    if "stl" in formats:
        mesh = surface(field, spacing_mm)
        write_stl(target / "meshes" / f"{name}.stl", mesh.triangles_mm, origin.mark)


@contextmanager
def _stack_writer(path: Path | None) -> Iterator[Callable[[NDArray], None]]:
    """Write a NumPy file [n, z, y, x] part by part; gives the function that writes a part.

    Args:
        path: nothing is written if not given.
    """
    if path is None:
        yield lambda part: None
        return
    shape: tuple[int, ...] = (0,)

    def header(stream: BinaryIO, dtype: np.dtype) -> None:
        about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, about)

    with open(path, "wb") as stream:

        def write(part: NDArray) -> None:
            nonlocal shape
            if shape == (0,):
                shape = part.shape
                header(stream, part.dtype)
            else:
                shape = (shape[0] + len(part), *shape[1:])
            stream.write(np.ascontiguousarray(part).data)

        yield write
        # NumPy leaves room in its header for the first axis to grow.
        stream.seek(0)
        header(stream, np.dtype(bool))
