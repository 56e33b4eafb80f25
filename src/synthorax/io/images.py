"""NIfTI, MHA and MHD with their geometry, by SimpleITK."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synthorax.errors import InputError, OutputError
from synthorax.io.atomic import atomic_file
from synthorax.volume import Volume

SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
"""What `read_image` takes."""
WRITABLE = (".nii", ".nii.gz", ".mha", ".nrrd")
"""What `write_image` takes. MHD is not: it is two files, and two cannot appear at once."""
NIFTI_HEADER_BYTES = 348
NIFTI_NOTES = "ITK_FileNotes"
"""ITK's name for the NIfTI header's `descrip`."""
MARK_KEY = "SyntheticData"
"""The MetaImage header field that holds the synthetic mark."""


def is_image(path: Path) -> bool:
    """Whether the name is of a format that `read_image` takes."""
    return path.name.lower().endswith(SUFFIXES)


def read_image(path: Path) -> Volume:
    """An image with its geometry, voxels as stored.

    Raises:
        InputError: no image, not three axes, or a broken file.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
            raise InputError(path, f"an image of size {reader.GetSize()}", "one volume of three axes")
        if path.name.lower().endswith((".nii", ".nii.gz")):
            _check_nifti_is_whole(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(path, "no readable image", "NIfTI, MHA, MHD or NRRD") from error
    x, y, z = image.GetSpacing()
    return Volume(
        voxels=sitk.GetArrayFromImage(image),
        spacing_mm=(round(z, 6), round(y, 6), round(x, 6)),  # NIfTI keeps them in single precision
        origin_mm=image.GetOrigin(),
        direction=np.reshape(image.GetDirection(), (3, 3)),
    )


def _check_nifti_is_whole(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse a file that ends early: ITK would fill the rest with zeros and say nothing."""
    bytes_per_voxel = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    expected = math.prod(reader.GetSize()) * bytes_per_voxel
    found = 0
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                found += len(chunk)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(path, "a file that was cut off or damaged", "a whole NIfTI file") from error
    if found < expected + NIFTI_HEADER_BYTES:
        raise InputError(path, f"{found} bytes", f"{expected + NIFTI_HEADER_BYTES} or more; it was cut off")


def write_image(path: Path, volume: Volume, *, mark: str | None = None) -> None:
    """Write a volume as NIfTI, MHA or NRRD, by the name's suffix; bool voxels become uint8.

    Args:
        mark: the synthetic mark, put into the header (NIfTI `descrip`, MHA `SyntheticData`).

    Raises:
        OutputError: the file cannot be written.
    """
    if not path.name.lower().endswith(WRITABLE):
        raise OutputError(path, f"images are written as {', '.join(WRITABLE)}")
    voxels = volume.voxels.view(np.uint8) if volume.voxels.dtype == np.bool_ else volume.voxels
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin_mm)
    image.SetDirection(volume.direction.ravel().tolist())
    if mark:
        image.SetMetaData(NIFTI_NOTES, mark)
        image.SetMetaData(MARK_KEY, mark)
    with atomic_file(path) as file:
        try:
            sitk.WriteImage(image, str(file), useCompression=True)
        except RuntimeError as error:
            raise OSError(str(error).strip().splitlines()[-1]) from error
