"""Reading the headers of MetaImage files: MHA, and MHD with its voxels in other files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthorax.errors import InputError
from synthorax.geometry import axes_of
from synthorax.io.contents import what_is
from synthorax.io.described import MARK_KEYS, Described
from synthorax.io.header_text import decimal_numbers, decoded_name, header_bytes, named_files, quoted, whole_numbers
from synthorax.io.placing import ASSUMED_AXES, Placed, mirrored, place, scale_of_unit
from synthorax.io.voxels import Stored
from synthorax.volume import Volume

METAIMAGE_SUFFIXES = (".mha", ".mhd")
METAIMAGE_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
NAME = re.compile(r"[!-<>-~]{1,64}")
"""Name of a field, such as `DimSize`, or `dim[0]` and `0008|0060` as ITK writes them."""
METAIMAGE_LIST = re.compile(r"LIST( +[0-9])?", re.IGNORECASE)
"""Value of ElementDataFile if the names of several data files follow, one on each line."""
FROM_TOWARDS = str.maketrans("LRPASI", "RLAPIS")
"""Table to convert AnatomicalOrientation, which names the side an axis comes from: its RAI is LPS elsewhere."""
SCALES = (("elementtointensityfunctionslope", "1"), ("elementtointensityfunctionoffset", "0"))
"""Fields that scale the values, with the values that leave them unscaled."""
EXPECTED_METAIMAGE = "a MetaImage (MHA or MHD)"


def read_header(path: Path) -> Described:
    """Read the header of an MHA or MHD file.

    Raises:
        InputError: the file is not a MetaImage, does not hold one volume of three axes, has a type or coding of voxels
            that is not supported, or has no usable geometry.
    """
    fields, end = _fields(path, header_bytes(path, EXPECTED_METAIMAGE))
    dims = whole_numbers(path, "NDims", _needed(path, fields, "NDims"), 1)[0]
    if not 1 <= dims <= 8:
        raise InputError(path, f"NDims {dims}", "3")
    sizes = whole_numbers(path, "DimSize", _needed(path, fields, "DimSize"), dims)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    channels = whole_numbers(path, "ElementNumberOfChannels", fields.get("elementnumberofchannels", "1"), 1)[0]
    if len(sizes) != 3 or channels != 1:
        found = f"{channels} values in each of {' x '.join(map(str, sizes))} voxels"
        raise InputError(path, found, "one volume of three axes with one value per voxel")
    shape = (sizes[2], sizes[1], sizes[0])
    return Described(
        stored=_stored(path, fields, shape, end),
        placed=_placed(path, fields, dims, shape),
        said=tuple(fields[key.lower()] for key in MARK_KEYS if key.lower() in fields),
    )


def _fields(path: Path, content: bytes) -> tuple[dict[str, str], int]:
    """Return the fields by their names in lower case, and the byte after ElementDataFile, where the header ends."""
    fields: dict[str, str] = {}
    start = 0
    while (stop := content.find(b"\n", start)) >= 0 or start < len(content):
        stop = len(content) if stop < 0 else stop
        name, equals, value = content[start:stop].partition(b"=")
        start = stop + 1
        key = name.strip().decode("latin1").lower()
        if not equals and not key:
            continue
        if "ndims" in fields and not (equals and NAME.fullmatch(key)):
            continue  # a further line of a text field; ITK copies DICOM texts of several lines into the header
        if not equals or not NAME.fullmatch(key):
            break
        if key in fields:
            raise InputError(path, f"{quoted(key)} twice in the header", "each field once")
        fields[key] = (
            decoded_name(value.strip()) if key == "elementdatafile" else value.strip().decode("utf-8", "replace")
        )
        if key == "elementdatafile":
            if METAIMAGE_LIST.fullmatch(fields[key]):
                fields["list"] = decoded_name(content[start:])
            return fields, start
    if "ndims" in fields:
        raise InputError(path, "a header without ElementDataFile; it was cut off or damaged", EXPECTED_METAIMAGE)
    raise InputError(path, what_is(path) or "no header of a MetaImage", EXPECTED_METAIMAGE)


def _needed(path: Path, fields: Mapping[str, str], name: str) -> str:
    if name.lower() not in fields:
        raise InputError(path, f"a header without {name}", EXPECTED_METAIMAGE)
    return fields[name.lower()]


def _says(path: Path, fields: Mapping[str, str], name: str, default: bool) -> bool:
    """Return the value of a field that is True or False; `default` if it is missing."""
    text = fields.get(name.lower(), str(default)).strip().lower()
    if text not in ("true", "false", "t", "f", "1", "0", "yes", "no"):
        raise InputError(path, f"{name} {quoted(text)}", "True or False")
    return text[0] in "ty1"


def _stored(path: Path, fields: Mapping[str, str], shape: tuple[int, int, int], end: int) -> Stored:
    kind = _needed(path, fields, "ElementType").upper()
    if kind not in METAIMAGE_TYPES:
        raise InputError(path, f"ElementType {quoted(kind)}", "one integer or float per voxel, such as MET_SHORT")
    if not _says(path, fields, "BinaryData", True):
        raise InputError(path, "voxels as text (BinaryData = False)", "binary voxels; write the image again as binary")
    name = "ElementByteOrderMSB" if "elementbyteordermsb" in fields else "BinaryDataByteOrderMSB"
    dtype = np.dtype(METAIMAGE_TYPES[kind]).newbyteorder(">" if _says(path, fields, name, False) else "<")
    skip = whole_numbers(path, "HeaderSize", fields.get("headersize", "0"), 1)[0]
    packed = _says(path, fields, "CompressedData", False)
    if skip < -1 or (skip and packed):
        raise InputError(path, f"HeaderSize {skip}", "0, or -1 for the end of a file that is not compressed")
    text, start = fields["elementdatafile"].strip(), 0
    if text.upper() == "LOCAL":
        files: tuple[Path, ...] = (path,)
        start = end if skip == 0 else 0
    else:
        files = named_files(path, fields, text)
    return Stored(path, shape, dtype, files, "deflate" if packed else "raw", start, skip=skip)


def _placed(path: Path, fields: Mapping[str, str], dims: int, shape: tuple[int, int, int]) -> Placed:
    name = path.name
    notes: list[str] = []
    given = {key: fields[key.lower()] for key in ("ElementSpacing", "ElementSize") if key.lower() in fields}
    spacing = np.ones(3)
    if given:
        key = next(iter(given))
        spacing = np.array(decimal_numbers(path, key, given[key], dims)[:3])
    else:
        notes.append(f"{name}: no voxel size in the header (ElementSpacing); 1 x 1 x 1 mm is assumed")
    unit = fields.get("distanceunits", "mm").strip()
    scale, doubts = scale_of_unit(path, "mm" if unit in ("?", "") else unit)
    notes += doubts
    origin = np.zeros(3)
    if key := next((key for key in ("Offset", "Position", "Origin") if key.lower() in fields), ""):
        origin = np.array(decimal_numbers(path, key, fields[key.lower()], dims)[:3])
    else:
        notes.append(f"{name}: no position in the header (Offset); 0,0,0 is assumed")
    direction, assumed = np.eye(3), False
    if key := next((key for key in ("TransformMatrix", "Rotation", "Orientation") if key.lower() in fields), ""):
        matrix = np.reshape(decimal_numbers(path, key, fields[key.lower()], dims**2), (dims, dims))
        direction = matrix[:3, :3].T  # each row in the header is the direction of one axis
    else:
        notes.append(f"{name}: no orientation in the header (TransformMatrix); {ASSUMED_AXES}")
        assumed = True
    if any(
        float(decimal_numbers(path, key, fields.get(key, default), 1)[0]) != float(default) for key, default in SCALES
    ):
        notes.append(f"{name}: ElementToIntensityFunction is not applied; the voxels are taken as stored")
    placed = place(path, spacing * scale, direction, origin * scale, shape, notes, assumed=assumed)
    notes = [*placed.notes, *mirrored(path, placed.direction)]
    stated = fields.get("anatomicalorientation", "").strip().upper()
    axes = axes_of(Volume(np.zeros((1, 1, 1)), placed.spacing_mm, placed.origin_mm, placed.direction))
    if len(stated) == 3 and "?" not in stated and stated.translate(FROM_TOWARDS) != axes:
        is_ = axes.translate(FROM_TOWARDS)
        notes.append(f"{name}: AnatomicalOrientation is {quoted(stated)}, but the axes are {is_}; the axes are used")
    return replace(placed, notes=tuple(notes))
