"""Writing images with a text header: MHA, MHD with its voxels in a second file, and NRRD; voxels are compressed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from synthorax.geometry import axes_of
from synthorax.io import metaimage, nrrd
from synthorax.io.atomic import atomic_file
from synthorax.io.voxels import DEFLATE_LEVEL, ZLIB_OR_GZIP
from synthorax.volume import Volume

ZLIB, GZIP = 15, ZLIB_OR_GZIP - 16
"""Window bits by which zlib writes the wrapping of zlib or of gzip around deflated bytes."""


def write_mha(path: Path, volume: Volume, notes: Mapping[str, str]) -> None:
    """Write a MetaImage in one file.

    Args:
        path: file to write.
        volume: voxels [z, y, x] and geometry.
        notes: further fields of the header.

    Raises:
        OutputError: the file cannot be written.
    """
    packed = _packed(volume.voxels, ZLIB)
    with atomic_file(path) as file:
        _write(file, _metaimage(volume, notes, b"LOCAL", packed), packed)


def write_mhd(path: Path, volume: Volume, notes: Mapping[str, str]) -> None:
    """Write a MetaImage header, and its voxels in a `.zraw` file beside it.

    The voxels are put in place before the header, so that a killed call leaves no header without voxels.

    Args:
        path: path of the header.
        volume: voxels [z, y, x] and geometry.
        notes: further fields of the header.

    Raises:
        OutputError: a file cannot be written.
    """
    voxels, packed = path.with_suffix(".zraw"), _packed(volume.voxels, ZLIB)
    with atomic_file(path) as header:
        written = header.with_suffix(".zraw")
        try:
            _write(written, b"", packed)
            _write(header, _metaimage(volume, notes, os.fsencode(voxels.name), packed), [])
            path.unlink(missing_ok=True)
            written.replace(voxels)
        finally:
            written.unlink(missing_ok=True)


def write_nrrd(path: Path, volume: Volume, notes: Mapping[str, str]) -> None:
    """Write an NRRD with its header attached.

    Args:
        path: file to write.
        volume: voxels [z, y, x] and geometry.
        notes: key-value pairs of the header.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_file(path) as file:
        _write(file, _nrrd(volume, notes), _packed(volume.voxels, GZIP))


def _metaimage(volume: Volume, notes: Mapping[str, str], data_file: bytes, packed: Sequence[bytes]) -> bytes:
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(sum(map(len, packed))),
        "TransformMatrix": _numbers(volume.direction.T.ravel()),
        "Offset": _numbers(volume.origin_mm),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": axes_of(volume).translate(metaimage.FROM_TOWARDS),
        "ElementSpacing": _numbers(volume.spacing_mm[::-1]),
        "DimSize": " ".join(map(str, volume.shape[::-1])),
        **notes,
        "ElementType": next(name for name, kind in metaimage.METAIMAGE_TYPES.items() if kind == _kind(volume)),
    }
    lines = [f"{name} = {value}\n".encode() for name, value in fields.items()]
    return b"".join((*lines, b"ElementDataFile = ", data_file, b"\n"))


def _nrrd(volume: Volume, notes: Mapping[str, str]) -> bytes:
    axes = volume.direction * volume.spacing_mm[::-1]
    fields = {
        "type": nrrd.NRRD_TYPES[_kind(volume)][0],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, volume.shape[::-1])),
        "space directions": " ".join(f"({_numbers(axis, ',')})" for axis in axes.T),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        "space origin": f"({_numbers(volume.origin_mm, ',')})",
    }
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in fields.items())]
    return "\n".join([*lines, *(f"{name}:={value}" for name, value in notes.items()), "", ""]).encode()


def _kind(volume: Volume) -> str:
    return volume.voxels.dtype.str[1:].replace("b1", "u1")


def _numbers(values: NDArray | tuple[float, ...], between: str = " ") -> str:
    """Numbers in the fewest digits that restore them exactly."""
    return between.join(repr(float(value) + 0.0) for value in values)  # + 0.0 turns -0.0 into 0.0


def _packed(voxels: NDArray, window_bits: int) -> list[bytes]:
    """Return the deflated voxels, in pieces."""
    packer = isal_zlib.compressobj(DEFLATE_LEVEL, wbits=window_bits)
    planes = (np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")) for plane in voxels)
    return [*(packer.compress(plane.data) for plane in planes), packer.flush()]


def _write(file: Path, header: bytes, pieces: Sequence[bytes]) -> None:
    with open(file, "wb") as stream:
        stream.write(header)
        stream.writelines(pieces)
