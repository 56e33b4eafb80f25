"""Reading and writing NIfTI: headers by nibabel, compression by ISA-L, which takes a tenth of zlib's time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import IOBase
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.io.contents import what_is
from synthorax.io.limits import check_file
from synthorax.io.placing import ASSUMED_AXES, MOST_ORIGIN_MM, Placed, place, scale_of_unit, times
from synthorax.io.voxels import DAMAGED, DEFLATE_LEVEL, GZIP_MAGIC, Encoding, Pieces, Stored, read_voxels, unpacked
from synthorax.volume import Volume

NIFTI_SUFFIX = ".nii.gz"
"""Suffix of the NIfTI files that the exports write."""
NIFTI_SUFFIXES = (".nii", NIFTI_SUFFIX)
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NIFTI_HEADER_BYTES = 352
"""Bytes before the first voxel of a NIfTI-1 file without extensions."""
HEADERS = {348: (nib.Nifti1Header, 352), 540: (nib.Nifti2Header, 544)}
"""Size of the header, with which a file begins -> class of the header, and the least byte at which voxels may begin."""
MOST_OFFSET = 2**24
"""Most bytes of header and extensions before the first voxel."""
SCANNER = 1
"""Code of an sform or qform in scanner coordinates."""
AGREE_MM = 0.1
"""If sform and qform place a corner of the image further apart than this, a note says so."""


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """A NIfTI header that was read and checked.

    Attributes:
        placed: geometry of the voxels.
        stored: where and how the voxels are stored.
        scale: slope and intercept of the voxels; None if voxels are used as stored.
        notes: `descrip` and `aux_file` of the header; dcm2niix writes the start of DICOM's ImageComments into them.
    """

    placed: Placed
    stored: Stored
    scale: tuple[float, float] | None
    notes: tuple[str, ...]


def read_nifti(path: Path) -> tuple[Volume, tuple[str, ...], bool]:
    """Read a NIfTI-1 or NIfTI-2 image.

    Returns:
        The volume, notes on its header, and whether its orientation is assumed. Voxels keep their type unless the
        header scales them; then they are int16 or int32 if slope and intercept are whole numbers, otherwise float32.

    Raises:
        InputError: the file is not NIfTI, does not have three axes at right angles, was cut off or is damaged.
    """
    header = read_header(path)
    voxels, notes = read_voxels(header.stored)
    if header.scale is not None:
        voxels = scaled(voxels, *header.scale)
    place = header.placed
    volume = Volume(voxels, place.spacing_mm, place.origin_mm, place.direction)
    return volume, (*place.notes, *notes), place.assumed


def read_header(path: Path) -> NiftiHeader:
    """Read the header of a NIfTI file, without its voxels.

    Raises:
        InputError: the file is not NIfTI, does not have three axes, or has no usable geometry.
    """
    file_bytes = check_file(path, "a NIfTI file")
    try:
        with open(path, "rb") as stream:
            encoding: Encoding = "deflate" if stream.read(2) == GZIP_MAGIC else "raw"
            stream.seek(0)
            head = bytearray(max(HEADERS))
            pieces = Pieces(unpacked(stream, encoding))
            pieces.fill(memoryview(head)[:348])
            header, least = _parsed(path, head, pieces)
    except DAMAGED as error:
        found = what_is(path) or f"{file_bytes} bytes without a NIfTI header"
        found = "a NIfTI file that was cut off or damaged" if "NIfTI" in found else found
        raise InputError(path, found, "a whole NIfTI file") from error
    raw = header.structarr
    if raw["magic"].tobytes()[:3] not in (b"n+1", b"n+2"):
        pair = raw["magic"].tobytes()[:2] == b"ni"
        found = "the header of a pair (.hdr and .img)" if pair else "an Analyze header, which gives no orientation"
        raise InputError(path, found, "NIfTI in one file; convert it (nibabel.save to .nii.gz)")
    shape = _three_axes(path, raw["dim"])
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise InputError(path, f"the unknown data type {int(raw['datatype'])}", "a NIfTI file of numbers") from error
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(path, f"voxels of type {dtype}", "integers or floats of up to 64 bits")
    offset = float(raw["vox_offset"])
    if not 0 <= offset <= MOST_OFFSET:
        raise InputError(path, f"voxels that begin at byte {offset:g}", "a header of at most 16 MB")
    scale, doubts = _scale(path, float(raw["scl_slope"]), float(raw["scl_inter"]))
    start = max(int(offset), least)
    return NiftiHeader(
        placed=_placed(path, header, shape, doubts),
        stored=Stored(path, shape, dtype, (path,), encoding, skip=start),
        scale=scale,
        notes=tuple(raw[name].tobytes().split(b"\0")[0].decode("latin1") for name in ("descrip", "aux_file")),
    )


def scaled(voxels: NDArray, slope: float, intercept: float) -> NDArray:
    """Return `voxels * slope + intercept`, as int16 or int32 if all values are whole and fit, otherwise as float32.

    Results of the same number of bytes overwrite `voxels`.
    """
    dtype: type[np.generic] = np.float32
    if voxels.dtype.kind in "biu" and slope == round(slope) and intercept == round(intercept):
        ends = sorted(int(end) * int(slope) + int(intercept) for end in (voxels.min(), voxels.max()))
        dtype = np.int16 if ends[0] >= -(2**15) and ends[1] < 2**15 else dtype
        dtype = np.int32 if dtype is np.float32 and ends[0] >= -(2**31) and ends[1] < 2**31 else dtype
    made = voxels.view(dtype) if voxels.itemsize == np.dtype(dtype).itemsize else np.empty(voxels.shape, dtype)
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, and is refused later as no HU
        for plane, values in zip(made, voxels, strict=True):  # plane by plane: a scan in float64 takes gigabytes
            plane[:] = values * np.float64(slope) + intercept
    return made


def write_nifti(path: Path, volume: Volume, mark: str | None = None) -> None:
    """Write a volume as NIfTI-1, with its geometry in both qform and sform.

    Args:
        path: file to write.
        volume: voxels [z, y, x] and geometry; bool voxels become uint8.
        mark: the synthetic mark, written into `descrip`.

    Raises:
        OutputError: the file cannot be written.
    """
    with nifti_writer(path, volume, mark) as write:
        write(volume.voxels)


@contextmanager
def nifti_writer(path: Path, grid: Volume, mark: str | None = None) -> Iterator[Callable[[NDArray], None]]:
    """Write a NIfTI-1 file slab by slab; yields the function that writes the next slices [n, y, x].

    Args:
        path: file to write.
        grid: gives geometry, shape and type of the whole volume; its voxels are not written.
        mark: the synthetic mark, written into `descrip`.

    Raises:
        OutputError: the file cannot be written.
    """
    affine = LPS_FROM_RAS @ grid.affine
    voxels = _whole_numbers(grid.voxels)
    image = nib.Nifti1Image(voxels.T, affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header["descrip"] = (mark or "").encode("ascii", "replace")
    image.header.set_slope_inter(1, 0)
    image.header["vox_offset"] = NIFTI_HEADER_BYTES
    with atomic_file(path) as file, _opened(file) as stream:
        stream.write(image.header.binaryblock.ljust(NIFTI_HEADER_BYTES, b"\0"))

        def write(slices: NDArray) -> None:
            for plane in _whole_numbers(slices):
                stream.write(np.ascontiguousarray(plane, voxels.dtype.newbyteorder("<")).data)

        yield write


@contextmanager
def _opened(file: Path) -> Iterator[IOBase]:
    """Open a file for writing, compressed if its name ends in `.gz`; yields the stream.

    No thread compresses: a signal that interrupts a writer with threads can leave it waiting for them without end.
    """
    with open(file, "wb") as plain:
        if not file.name.lower().endswith(".gz"):
            yield plain
            return
        with igzip.IGzipFile("", "wb", DEFLATE_LEVEL, plain, mtime=0) as packed:
            yield packed


def _whole_numbers(voxels: NDArray) -> NDArray:
    """Return the voxels, with bool as uint8."""
    return voxels.view(np.uint8) if voxels.dtype == np.bool_ else voxels


def _parsed(path: Path, head: bytearray, pieces: Pieces) -> tuple[nib.Nifti1Header, int]:
    """Return the header, and the least byte at which its voxels may begin."""
    for order, sign in (("little", "<"), ("big", ">")):
        size = int.from_bytes(head[:4], order)  # type: ignore[arg-type]
        if size in HEADERS:
            kind, least = HEADERS[size]
            pieces.fill(memoryview(head)[348:size])
            return kind(bytes(head[:size]), endianness=sign, check=False), least
    raise InputError(path, what_is(path) or "no NIfTI header", "a NIfTI file")


def _three_axes(path: Path, dim: NDArray[np.integer]) -> tuple[int, int, int]:
    """Voxels along (z, y, x); further axes must have one element."""
    count = int(dim[0])
    sizes = [int(n) for n in dim[1 : count + 1]] if 1 <= count <= 7 else []
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) != 3:
        found = f"{len(sizes)} axes of {' x '.join(map(str, sizes))} voxels" if sizes else f"{count} axes"
        raise InputError(path, found, "one volume of three axes")
    x, y, z = sizes
    return z, y, x


def _scale(path: Path, slope: float, intercept: float) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Slope and intercept, or None if they leave the voxels as they are; and a note if they are doubtful."""
    if slope == 0 or (np.isnan(slope) and np.isnan(intercept)):  # which the format has for "no scaling"
        return None, ()
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        note = f"scl_slope {slope:g} and scl_inter {intercept:g} are not finite; the voxels are used as stored"
        return None, (f"{path.name}: {note}",)
    if max(abs(slope), abs(intercept)) > 1e9:
        raise InputError(path, f"scl_slope {slope:g} and scl_inter {intercept:g}", "a scale that gives HU")
    if slope < 0:
        return (slope, intercept), (f"{path.name}: scl_slope {slope:g} is negative, which inverts the voxels' values",)
    return ((slope, intercept) if (slope, intercept) != (1, 0) else None), ()


def _placed(path: Path, header: nib.Nifti1Header, shape: tuple[int, int, int], scale_doubts: tuple[str, ...]) -> Placed:
    """Return the geometry, chosen as ITK does: the sform if its code is `SCANNER` or there is no qform, else the qform.

    Without either, the orientation is assumed to be LPS and the origin 0.
    """
    raw = header.structarr
    notes = list(scale_doubts)
    scale, doubts = scale_of_unit(path, _unit(header))
    notes += doubts
    pixdim = raw["pixdim"][1:4].astype(np.float64)
    sform = header.get_sform() if raw["sform_code"] > 0 else None
    if sform is not None and not _is_usable(sform):
        notes.append(f"{path.name}: the sform is not usable and is ignored")
        sform = None
    qform = _qform(header) if raw["qform_code"] > 0 else None
    if raw["qform_code"] > 0 and qform is None:
        notes.append(f"{path.name}: the qform is not usable and is ignored")
    if sform is None and qform is None:
        if raw["qform_code"] > 0 or raw["sform_code"] > 0:
            raise InputError(path, "neither a usable sform nor qform", "a header with the position of its voxels")
        notes.append(f"{path.name}: no orientation in the header (sform and qform codes 0); {ASSUMED_AXES}, from 0,0,0")
        return place(path, np.round(pixdim * scale, 6), np.eye(3), np.zeros(3), shape, notes, assumed=True)
    use_sform = sform is not None and (qform is None or raw["sform_code"] == SCANNER)
    affine = sform if use_sform else qform
    assert affine is not None
    if sform is not None and qform is not None:
        corners = np.array([[*corner, 1] for corner in product(*((0, n - 1) for n in reversed(shape)))])
        apart = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()) * scale
        if apart > AGREE_MM:
            used = "the sform" if use_sform else "the qform"
            notes.append(f"{path.name}: sform and qform differ by {apart:.4g} mm; {used} is used, as in ITK")
    if not use_sform and (pixdim < 0).any():
        notes.append(f"{path.name}: a negative voxel size ({times(pixdim)} mm) is taken as positive")
    affine = LPS_FROM_RAS @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if use_sform and pixdim.all() and not np.allclose(spacing, np.abs(pixdim), rtol=0.01):
        sizes = f"voxels of {times(spacing)} mm by the sform, but of {times(pixdim)} mm by pixdim"
        notes.append(f"{path.name}: {sizes}; the sform is used")
    direction = np.divide(affine[:3, :3], spacing, out=np.zeros((3, 3)), where=spacing > 0)
    # The header has single precision, so that further digits are not meant.
    return place(path, np.round(spacing * scale, 6), direction, affine[:3, 3] * scale, shape, notes)


def _unit(header: nib.Nifti1Header) -> str:
    """Return the header's unit of length; millimetres if it has none, as in files of most writers."""
    code = int(header.structarr["xyzt_units"]) & 7
    return {0: "mm", 1: "meter", 2: "mm", 3: "micron"}.get(code, f"code {code}")


def _qform(header: nib.Nifti1Header) -> NDArray[np.float64] | None:
    """Return the affine of the qform's quaternion; None if it is not usable."""
    sound = header.copy()
    sound["pixdim"][0] = -1 if sound["pixdim"][0] < 0 else 1
    sound["pixdim"][1:4] = np.abs(sound["pixdim"][1:4])
    numbers = [sound[name] for name in ("pixdim", "quatern_b", "quatern_c", "quatern_d")]
    if not all(np.isfinite(found).all() for found in (numbers[0][1:4], *numbers[1:])):
        return None
    try:
        found = sound.get_qform()
    except (ValueError, HeaderDataError):
        return None
    return found if _is_usable(found) else None


def _is_usable(affine: NDArray[np.float64]) -> bool:
    """Return whether an affine has finite values of sensible size and no axis of length zero."""
    return bool((np.abs(affine) < MOST_ORIGIN_MM).all() and affine[:3, :3].any(axis=0).all())
