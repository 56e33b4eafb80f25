"""NIfTI, MHA, MHD and NRRD with their geometry."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthorax.errors import InputError, OutputError
from synthorax.geometry import from_sitk, to_sitk
from synthorax.io import nifti
from synthorax.io.atomic import atomic_file
from synthorax.io.limits import check_claim
from synthorax.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

SUFFIXES = (*nifti.SUFFIXES, ".mha", ".mhd", ".nrrd")
"""What can be read and written."""
MARK_KEY = "SyntheticData"
"""The field of a MetaImage or NRRD header that holds the synthetic mark."""
VOXELS_APART = re.compile(rb"ElementDataFile *= *(.+?)\s*$|^data *file *: *(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
HEADER_BYTES = 65_536
"""A MetaImage header ends before this."""


def is_image(path: Path) -> bool:
    """Whether the name is of a format that `read_image` takes."""
    return path.name.lower().endswith(SUFFIXES)


def image_stem(path: str | Path) -> str:
    """An image's name without its suffix, which may be of two parts; other names as they are."""
    name = Path(path).name
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def stored_files(path: Path) -> list[Path]:
    """The files of an image: itself, and where an MHD or NRRD header names another for its voxels, that one."""
    if not path.is_file() or not path.name.lower().endswith((".mhd", ".mha", ".nrrd")):
        return [path]
    with open(path, "rb") as file:
        found = VOXELS_APART.search(file.read(HEADER_BYTES))
    name = (found[1] or found[2]).decode("latin1") if found else "LOCAL"
    return [path] if name.upper() == "LOCAL" else [path, path.parent / name]


def read_image(path: Path) -> Volume:
    """An image with its geometry, voxels as stored.

    Raises:
        InputError: no image, not three axes, or a broken file.
    """
    if path.name.lower().endswith(nifti.SUFFIXES):
        if not path.is_file():
            raise InputError(path, "no such file", "an image")
        return nifti.read_nifti(path)
    reader = _read_header(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(path, "a file that was cut off or damaged", "a whole MHA, MHD or NRRD file") from error
    return from_sitk(image)


def read_mark(path: Path) -> str:
    """What the header says in the place of the synthetic mark; empty if nothing.

    Raises:
        InputError: no image.
    """
    if path.name.lower().endswith(nifti.SUFFIXES):
        return nifti.read_note(path)
    reader = _read_header(path)
    return str(reader.GetMetaData(MARK_KEY)) if reader.HasMetaDataKey(MARK_KEY) else ""


def write_image(path: Path, volume: Volume, *, mark: str | None = None) -> None:
    """Write a volume as NIfTI, MHA, MHD + zraw or NRRD, by the name's suffix; bool voxels become uint8.

    Args:
        mark: the synthetic mark, put into the header (NIfTI `descrip`, else `SyntheticData`).

    Raises:
        OutputError: the file cannot be written.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise OutputError(path, f"images are written as {', '.join(SUFFIXES)}")
    if volume.voxels.dtype.kind not in "biuf" or volume.voxels.dtype == np.float16:
        raise OutputError(path, f"voxels of {volume.voxels.dtype} have no place in an image")
    if not volume.voxels.dtype.isnative:
        volume = replace(volume, voxels=volume.voxels.astype(volume.voxels.dtype.newbyteorder("=")))
    if name.endswith(nifti.SUFFIXES):
        nifti.write_nifti(path, volume, mark)
        return
    image = to_sitk(volume)
    if mark:
        image.SetMetaData(MARK_KEY, mark)
    if name.endswith(".mhd"):
        _write_pair(path, image)
        return
    with atomic_file(path) as file:
        _write(image, file)


def _write_pair(path: Path, image: sitk.Image) -> None:
    """An MHD header and its voxels. The voxels come first: without the header they are nothing."""
    voxels = path.with_suffix(".zraw")
    with atomic_file(path) as header:
        written = header.with_suffix(".zraw")
        try:
            _write(image, header)
            header.write_text(header.read_text().replace(written.name, voxels.name))
            path.unlink(missing_ok=True)
            written.replace(voxels)
        finally:
            written.unlink(missing_ok=True)


def _write(image: sitk.Image, file: Path) -> None:
    import SimpleITK as sitk

    try:
        sitk.WriteImage(image, str(file), useCompression=True, compressionLevel=1)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error


def _read_header(path: Path) -> sitk.ImageFileReader:
    """A reader that knows what the header of an MHA, MHD or NRRD says, and that its file can hold that."""
    import SimpleITK as sitk

    if not (voxels := stored_files(path)[-1]).is_file():
        raise InputError(path, f"no file {voxels.name}", "an image with its voxels")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(path, "no readable image", "NIfTI, MHA, MHD or NRRD") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        raise InputError(path, f"an image of size {reader.GetSize()}", "one volume of three axes")
    voxel_bytes = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
    compressed = re.search(rb"CompressedData *= *True|encoding *: *(gz|bz)", header, re.IGNORECASE) is not None
    check_claim(path, reader.GetSize(), voxel_bytes, compressed=compressed, stored_in=stored_files(path)[-1])
    return reader
