"""NIfTI: nibabel for the header, ISA-L for the compression, which takes a tenth of zlib's time."""

from __future__ import annotations

import zlib
from io import IOBase
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, igzip_threaded, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.io.limits import check_claim
from synthorax.volume import Volume

SUFFIXES = (".nii", ".nii.gz")
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    HeaderDataError,
    ImageFileError,
    zlib.error,
    isal_zlib.IsalError,  # type: ignore[assignment]  # its stubs take the class for an instance
)
"""What decompression and parsing raise on a file that was cut off or damaged."""
HEADER_BYTES = 352
"""Of a NIfTI-1 file without extensions, up to its first voxel."""
LEVEL = 1
"""Of ISA-L's 0 to 3; the higher ones gain 2 % in size."""


def read_nifti(path: Path) -> Volume:
    """A NIfTI-1 or NIfTI-2 image with its geometry; voxels as stored, or float32 where the header scales them.

    Raises:
        InputError: no NIfTI, not three axes, sheared axes, or a file that was cut off or damaged.
    """
    try:
        with _open(path) as stream:
            image = _image_class(stream, path).from_file_map({"image": nib.FileHolder(fileobj=stream)}, mmap=False)
            header = image.header
            if len(shape := _three_axes(image.shape)) != 3 or header.get_data_dtype().kind not in "biuf":
                raise InputError(path, f"{header.get_data_dtype()} of shape {image.shape}", "one volume of three axes")
            check_claim(path, shape, header.get_data_dtype().itemsize, compressed=_is_compressed(path), stored_in=path)
            slope, intercept = image.dataobj.slope, image.dataobj.inter
            scaled = (slope, intercept) != (1, 0)
            voxels: NDArray = image.dataobj.get_scaled(np.float32) if scaled else np.asanyarray(image.dataobj)
            scale = MM_PER_UNIT[header.get_xyzt_units()[0]]
    except DAMAGED as error:
        raise InputError(path, "no NIfTI file, or one that was cut off or damaged", "a whole NIfTI file") from error
    affine = LPS_FROM_RAS @ np.asarray(image.affine, np.float64)
    affine[:3] *= scale
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (spacing > 0).all()):
        raise InputError(path, "a header without a usable orientation", "qform or sform of a NIfTI file")
    direction = affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise InputError(path, "sheared axes", "orthogonal axes; resample the image first")
    x, y, z = affine[:3, 3].tolist()
    spacing_x, spacing_y, spacing_z = np.round(spacing, 6).tolist()  # the header holds single precision
    return Volume(
        voxels=voxels.reshape(shape).T.astype(voxels.dtype.newbyteorder("="), copy=False),
        spacing_mm=(spacing_z, spacing_y, spacing_x),
        origin_mm=(x, y, z),
        direction=_orthonormal(direction),
    )


def read_note(path: Path) -> str:
    """The header's `descrip`."""
    try:
        with _open(path) as stream:
            image = _image_class(stream, path).from_file_map({"image": nib.FileHolder(fileobj=stream)})
            return bytes(image.header["descrip"]).rstrip(b"\0").decode("latin1")
    except DAMAGED as error:
        raise InputError(path, "no NIfTI file", "a NIfTI file") from error


def write_nifti(path: Path, volume: Volume, mark: str | None = None) -> None:
    """Write a volume as NIfTI-1, geometry in both qform and sform; `mark` becomes the `descrip`.

    Raises:
        OutputError: the file cannot be written.
    """
    affine = LPS_FROM_RAS @ volume.affine
    voxels = volume.voxels.view(np.uint8) if volume.voxels.dtype == np.bool_ else volume.voxels
    image = nib.Nifti1Image(voxels.T, affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header["descrip"] = (mark or "").encode("ascii", "replace")
    image.header.set_slope_inter(1, 0)
    with atomic_file(path) as file:
        if _is_compressed(path):
            with igzip_threaded.open(file, "wb", compresslevel=LEVEL, threads=2) as stream:
                _write(image, voxels, stream)
        else:
            with open(file, "wb") as stream:
                _write(image, voxels, stream)


def _write(image: nib.Nifti1Image, voxels: NDArray, stream: IOBase) -> None:
    image.header["vox_offset"] = HEADER_BYTES
    stream.write(image.header.binaryblock.ljust(HEADER_BYTES, b"\0"))
    for plane in voxels:
        stream.write(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).data)


def _open(path: Path) -> IOBase:
    return igzip.open(path) if _is_compressed(path) else open(path, "rb")


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _image_class(stream: IOBase, path: Path) -> type[nib.Nifti1Image]:
    """Nifti1Image or Nifti2Image, by the size of the header that the file begins with."""
    size = stream.read(4)
    stream.seek(0)
    sizes = {348: nib.Nifti1Image, 540: nib.Nifti2Image}
    for order in ("little", "big"):
        if (found := sizes.get(int.from_bytes(size, order))) is not None:
            return found
    raise InputError(path, "no NIfTI header", "a NIfTI file")


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of one element after the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _orthonormal(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest orthonormal axes, which mends single precision."""
    left, _, right = np.linalg.svd(direction)
    return left @ right
