"""Reading and writing NIfTI, MHA, MHD and NRRD images with their geometry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthorax.errors import InputError, OutputError
from synthorax.io import metaimage, nifti, nrrd
from synthorax.io.described import MARKED_FIELDS, Described
from synthorax.io.header_text import quoted
from synthorax.io.text_images import write_mha, write_mhd, write_nrrd
from synthorax.io.voxels import read_voxels
from synthorax.provenance import SYNTHETIC_MARK
from synthorax.volume import Volume

IMAGE_SUFFIXES = (*nifti.NIFTI_SUFFIXES, *metaimage.METAIMAGE_SUFFIXES, *nrrd.NRRD_SUFFIXES)
"""Suffixes of the images that can be read."""
WRITTEN_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".nhdr")
"""Suffixes of the images that can be written."""


@dataclass(frozen=True, eq=False)
class Image:
    """An image that was read.

    Attributes:
        volume: voxels as stored, or scaled if the header has a scale.
        notes: doubts, assumptions and repairs of its header, each with the file's name.
        assumed: whether the header gives no orientation, so that LPS is assumed.
    """

    volume: Volume
    notes: tuple[str, ...] = ()
    assumed: bool = False


def is_image(path: Path) -> bool:
    """Return whether the name has the suffix of a format that `read_image` reads."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def image_stem(path: str | Path) -> str:
    """Return an image's name without its suffix, such as `.nii.gz`; other names as they are."""
    name = Path(path).name
    suffix = next((s for s in sorted(IMAGE_SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def stored_files(path: Path) -> list[Path]:
    """Return the files of an image: the file itself, and the data files that its header names."""
    if not _has_text_header(path):
        return [path]
    try:
        return list(dict.fromkeys([path, *_described(path).stored.files]))
    except InputError:
        return [path]


def read_image(path: Path) -> Volume:
    """Read an image as a volume.

    Raises:
        InputError: see `open_image`.
    """
    return open_image(path).volume


def open_image(path: Path) -> Image:
    """Read an image with its geometry and notes on its header.

    Raises:
        InputError: the file is not an image, does not hold one volume of three axes, has no usable geometry, or is
            damaged.
    """
    if not _has_text_header(path):
        return Image(*nifti.read_nifti(path))
    header = _described(path)
    if header.layer_axis is not None:
        expected = "one image; as a mask, name the segment in the column mask_label, or export it alone as labels"
        raise InputError(path, layers_of(header), expected)
    voxels, notes = read_voxels(header.stored)
    place = header.placed
    volume = Volume(voxels, place.spacing_mm, place.origin_mm, place.direction)
    return Image(volume, (*place.notes, *notes), place.assumed)


def layers_of(header: Described) -> str:
    """Return the layers and segments of a segmentation in words, for an error."""
    names = "; ".join(segment.name for segment in header.segments)
    return f"{header.stored.shape[header.layer_axis or 0]} layers of overlapping segments ({quoted(names, 200)})"


def read_mark(path: Path) -> str:
    """Return the synthetic mark in an image's header; empty if there is none.

    Raises:
        InputError: the file is not an image.
    """
    said = _described(path).said if _has_text_header(path) else nifti.read_header(path).notes
    return next((text for text in said if text.startswith(SYNTHETIC_MARK.partition(":")[0])), "")


def write_image(path: Path, volume: Volume, *, mark: str | None = None) -> None:
    """Write a volume as NIfTI, MHA, MHD + zraw or NRRD, by the name's suffix; bool voxels become uint8.

    Args:
        path: file to write.
        volume: voxels [z, y, x] and geometry.
        mark: the synthetic mark, written into the header: into `descrip` of NIfTI, otherwise into `SyntheticData` and
            the fields that other programs keep when they convert an image.

    Raises:
        OutputError: the file cannot be written.
    """
    name = path.name.lower()
    if not name.endswith(WRITTEN_SUFFIXES):
        raise OutputError(path, f"images are written as {', '.join(WRITTEN_SUFFIXES)}")
    if volume.voxels.dtype.kind not in "biuf" or volume.voxels.dtype == np.float16:
        raise OutputError(path, f"images do not hold voxels of type {volume.voxels.dtype}")
    if name.endswith(nifti.NIFTI_SUFFIXES):
        nifti.write_nifti(path, volume, mark)
        return
    write = {".mha": write_mha, ".mhd": write_mhd, ".nrrd": write_nrrd}[path.suffix.lower()]
    write(path, volume, dict.fromkeys(MARKED_FIELDS, mark) if mark else {})


def _has_text_header(path: Path) -> bool:
    return path.name.lower().endswith((*metaimage.METAIMAGE_SUFFIXES, *nrrd.NRRD_SUFFIXES))


def _described(path: Path) -> Described:
    return (nrrd if path.name.lower().endswith(nrrd.NRRD_SUFFIXES) else metaimage).read_header(path)


def describe(path: Path) -> Described | None:
    """Read the header of an MHA, MHD or NRRD file; None for a NIfTI.

    Raises:
        InputError: the file is not an image.
    """
    return _described(path) if _has_text_header(path) else None
