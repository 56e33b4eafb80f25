"""Reading NRRD headers, attached (.nrrd) and detached (.nhdr), with the segments that 3D Slicer writes into them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthorax.errors import InputError
from synthorax.io.contents import what_is
from synthorax.io.described import MARK_KEYS, Described, Segment
from synthorax.io.header_text import decimal_numbers, decoded_name, header_bytes, named_files, quoted, whole_numbers
from synthorax.io.limits import MOST_BYTES
from synthorax.io.placing import ASSUMED_AXES, Placed, mirrored, place, scale_of_unit
from synthorax.io.voxels import MOST_SKIPPED_LINES, Encoding, Stored

NRRD_SUFFIXES = (".nrrd", ".nhdr")
EXPECTED_NRRD = "an NRRD file"
NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        "longlong",
        "long long",
        "long long int",
        "signed long long",
        "signed long long int",
        "int64",
        "int64_t",
    ),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
DTYPES = {name: np.dtype(kind) for kind, names in NRRD_TYPES.items() for name in names}
ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "deflate", "gz": "deflate", "bzip2": "bzip2", "bz2": "bzip2"}
TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
"""Signs that convert the coordinates of a space to LPS."""
ALIASES = {
    "centerings": "centers",
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "axismins": "axis mins",
}
NRRD_LIST = re.compile(r"LIST( +[0-9])?")
"""Value of `data file` if the names of several data files follow, one on each line."""
VECTOR = re.compile(r"\(([^()]*)\)|none", re.IGNORECASE)
MOST_SEGMENTS = 10_000


def read_header(path: Path) -> Described:
    """Read the header of an NRRD file.

    Raises:
        InputError: the file is not NRRD, holds neither one volume of three axes nor layers of segments, has a type or
            coding of voxels that is not supported, or has no usable geometry.
    """
    fields, pairs, end = _fields(path, header_bytes(path, EXPECTED_NRRD))
    dims = whole_numbers(path, "dimension", _needed(path, fields, "dimension"), 1)[0]
    if not 1 <= dims <= 16:
        raise InputError(path, f"dimension {dims}", "3")
    sizes = whole_numbers(path, "sizes", _needed(path, fields, "sizes"), dims)
    spatial = _spatial_axes(path, fields, sizes)
    others = [axis for axis in range(dims) if axis not in spatial and sizes[axis] != 1]
    about = _segments(path, pairs, sizes[others[0]] if others else 1)
    if len(others) > 1 or (others and not about):
        found = f"{' x '.join(map(str, sizes))} values, {' x '.join(str(sizes[a]) for a in others)} in each voxel"
        raise InputError(path, found, "one volume of three axes with one value per voxel")
    kept = [axis for axis in range(dims) if axis in spatial or axis in others]
    shape = (sizes[spatial[2]], sizes[spatial[1]], sizes[spatial[0]])
    in_memory = kept[::-1]
    return Described(
        stored=_stored(path, fields, tuple(sizes[axis] for axis in in_memory), end),
        placed=_placed(path, fields, spatial, dims, shape),
        layer_axis=in_memory.index(others[0]) if others else None,
        said=tuple(pairs[key].strip() for key in MARK_KEYS if key in pairs),
        segments=about,
    )


def _fields(path: Path, content: bytes) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields by their names in lower case, key-value pairs, and the byte after the empty line that ends the header."""
    if not content.startswith(b"NRRD000"):
        raise InputError(path, what_is(path) or "no header of an NRRD file", EXPECTED_NRRD)
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    start = content.find(b"\n") + 1
    if not start:
        raise InputError(path, "a header that was cut off", EXPECTED_NRRD)
    while start < len(content):
        stop = content.find(b"\n", start)
        stop = len(content) if stop < 0 else stop
        line = content[start:stop].rstrip(b"\r")
        start = stop + 1
        if not line.strip():
            return fields, pairs, start
        if line.startswith(b"#"):
            continue
        name, colon, value = line.partition(b":")
        if not colon:
            raise InputError(path, f"the header line {quoted(line.decode('latin1'))}", "lines of `field: value`")
        if value.startswith(b"="):
            pairs[name.decode("utf-8", "replace")] = value[1:].decode("utf-8", "replace")
            continue
        key = name.strip().decode("latin1").lower()
        key = ALIASES.get(key, key)
        if key in fields:
            raise InputError(path, f"{quoted(key)} twice in the header", "each field once")
        is_file = key == "data file"
        fields[key] = decoded_name(value.strip()) if is_file else value.strip().decode("utf-8", "replace")
        if is_file and NRRD_LIST.fullmatch(fields[key]):
            fields["list"] = decoded_name(content[start:])
            return fields, pairs, start
    if "data file" in fields:
        return fields, pairs, len(content)
    raise InputError(path, "a header without an end; it was cut off or damaged", EXPECTED_NRRD)


def _needed(path: Path, fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise InputError(path, f"a header without `{name}`", EXPECTED_NRRD)
    return fields[name]


def _spatial_axes(path: Path, fields: Mapping[str, str], sizes: Sequence[int]) -> list[int]:
    """Return the indices of the three spatial axes, fastest first."""
    dims = len(sizes)
    if "space directions" in fields:
        axes = [axis for axis, vector in enumerate(_vectors(path, fields, dims)) if vector is not None]
    elif dims > 3 and "kinds" in fields:
        kinds = fields["kinds"].lower().split()
        axes = [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space")] if len(kinds) == dims else []
    else:
        axes = list(range(dims))
        while len(axes) > 3 and sizes[axes[-1]] == 1:
            axes.pop()
    if len(axes) != 3:
        found = f"{len(axes)} spatial axes among sizes {' '.join(map(str, sizes))}"
        raise InputError(path, found, "one volume of three axes")
    return axes


def _vectors(path: Path, fields: Mapping[str, str], count: int) -> list[list[float] | None]:
    """Return the vectors of `space directions`, one for each axis; None for an axis that is not spatial."""
    text = fields["space directions"]
    found = VECTOR.findall(text)
    if len(found) != count or VECTOR.sub("", text).strip():
        raise InputError(path, f"space directions {quoted(text)}", f"{count} vectors, as in (1,0,0) (0,1,0) (0,0,1)")
    vectors = [decimal_numbers(path, "space directions", v.replace(",", " "), 3) if v.strip() else None for v in found]
    return [None if vector is None or np.isnan(vector).all() else vector for vector in vectors]


def _placed(
    path: Path, fields: Mapping[str, str], spatial: Sequence[int], dims: int, shape: tuple[int, int, int]
) -> Placed:
    name = path.name
    notes: list[str] = []
    space = fields.get("space", "").strip().lower()
    signs = np.array(TO_LPS.get(space, (1, 1, 1)))
    if space and space not in TO_LPS:
        if space.endswith("-time") or len(space) == 4:
            raise InputError(path, f"space {quoted(space)}", "a volume without a time axis")
        notes.append(f"{name}: space {quoted(space)} does not relate the axes to the patient; {ASSUMED_AXES}")
    scale = 1.0
    if units := re.findall(r'"([^"]*)"', fields.get("space units", "")):
        scale, doubts = scale_of_unit(path, units[0])
        notes += doubts
        if len(set(units)) > 1:
            raise InputError(path, f"space units {quoted(fields['space units'])}", "one unit for all axes")
    if "space directions" in fields:
        vectors = _vectors(path, fields, dims)
        axes = np.array([vectors[axis] for axis in spatial], float).T
        with np.errstate(all="ignore"):
            spacing = np.linalg.norm(axes, axis=0)
            direction = signs[:, None] * np.divide(axes, spacing, out=np.zeros((3, 3)), where=spacing > 0)
        if not space:
            notes.append(f"{name}: no `space` in the header to relate the axes to the patient; {ASSUMED_AXES}")
        first = fields.get("space origin", "")
        if first:
            vector = VECTOR.fullmatch(first)
            origin = signs * decimal_numbers(
                path, "space origin", (vector[1] or "" if vector else first).replace(",", " "), 3
            )
    else:
        spacing, direction, first = np.ones(3), np.eye(3), fields.get("axis mins", "")
        given = np.array(decimal_numbers(path, "spacings", fields["spacings"], dims)) if "spacings" in fields else None
        if given is not None and not np.isnan(given[spatial]).any():
            spacing = given[spatial]
        else:
            notes.append(f"{name}: no voxel size in the header; 1 x 1 x 1 mm is assumed")
        notes.append(f"{name}: no orientation in the header (space directions); {ASSUMED_AXES}")
        if "space origin" in fields:
            first = fields["space origin"]
            origin = signs * decimal_numbers(path, "space origin", first.strip("() ").replace(",", " "), 3)
        elif first:
            origin = np.array(decimal_numbers(path, "axis mins", first, dims))[spatial]
            centers = fields.get("centers", "").lower().split()
            nodes = np.array([axis < len(centers) and centers[axis] == "node" for axis in spatial])
            origin = np.where(nodes, origin, origin + spacing / 2)  # `axis mins` is the edge of a cell, not its centre
    if not first or not np.isfinite(origin).any():
        notes.append(f"{name}: no position in the header (space origin); 0,0,0 is assumed")
        origin = np.zeros(3)
    assumed = "space directions" not in fields or space not in TO_LPS
    placed = place(path, spacing * scale, direction, origin * scale, shape, notes, assumed=assumed)
    notes = [*placed.notes, *mirrored(path, placed.direction)]
    return replace(placed, notes=tuple(notes))


def _stored(path: Path, fields: Mapping[str, str], shape: tuple[int, ...], end: int) -> Stored:
    kind = " ".join(_needed(path, fields, "type").lower().split())
    if kind not in DTYPES:
        raise InputError(path, f"type {quoted(kind)}", "one integer or float per voxel, such as short")
    encoding = _needed(path, fields, "encoding").lower()
    if encoding not in ENCODINGS:
        raise InputError(path, f"encoding {quoted(encoding)}", "raw, gzip or bzip2; write the image again")
    if (order := fields.get("endian", "little").lower()) not in ("little", "big"):
        raise InputError(path, f"endian {quoted(order)}", "little or big")
    dtype = DTYPES[kind].newbyteorder("<" if order == "little" else ">")
    skip = whole_numbers(path, "byte skip", fields.get("byte skip", "0"), 1)[0]
    lines = whole_numbers(path, "line skip", fields.get("line skip", "0"), 1)[0]
    if not -1 <= skip <= MOST_BYTES or not 0 <= lines <= MOST_SKIPPED_LINES:
        found = f"byte skip {skip} and line skip {lines}"
        raise InputError(path, found, f"-1 to {MOST_BYTES} bytes and at most {MOST_SKIPPED_LINES} lines")
    name = fields.get("data file", "")
    if not name:
        if path.name.lower().endswith(".nhdr"):
            raise InputError(path, "a header without `data file`", "the name of the file that holds the voxels")
        return Stored(path, shape, dtype, (path,), ENCODINGS[encoding], end, lines, skip)
    files = named_files(path, fields, name)
    return Stored(path, shape, dtype, files, ENCODINGS[encoding], 0, lines, skip)


def _segments(path: Path, pairs: Mapping[str, str], layers: int) -> tuple[Segment, ...]:
    """Return the segments that 3D Slicer wrote into the header; () for any other image.

    Raises:
        InputError: a segment's layer does not exist.
    """
    found = []
    count = next((i for i in range(MOST_SEGMENTS) if not {f"Segment{i}_ID", f"Segment{i}_Name"} & pairs.keys()), 0)
    for i in range(count):
        name = pairs.get(f"Segment{i}_Name") or pairs[f"Segment{i}_ID"]
        # Slicer before 4.11 gave every segment a layer of its own and wrote neither layer nor value.
        alone = layers > 1 and f"Segment{i}_Layer" not in pairs
        layer = i if alone else whole_numbers(path, f"Segment{i}_Layer", pairs.get(f"Segment{i}_Layer", "0"), 1)[0]
        default = "1" if alone else str(i + 1)
        value = whole_numbers(path, f"Segment{i}_LabelValue", pairs.get(f"Segment{i}_LabelValue", default), 1)[0]
        if not 0 <= layer < layers:
            raise InputError(path, f"segment {quoted(name)} in layer {layer}", f"layers 0 to {layers - 1}")
        found.append(Segment(name, layer, value))
    return tuple(found)
