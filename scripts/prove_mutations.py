"""Damage to files: blind, or with knowledge of what is in them.

A mutation changes one file of a folder in place, and says what it did and whether that is knowable: whether the file
now contradicts itself, a checksum or other files. A change of one legal value into another is not knowable: a NIfTI
whose voxel size is 1.5 mm is as valid as one of 1 mm.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

NONSENSE = (
    "",
    "nan",
    "-1",
    "0",
    "1e308",
    "-inf",
    "99999999999999999999",
    "abc",
    "1,5",
    "\x1b[31mred",
    "[/bold]",
    "ä\0ö",
)
"""Values that no number, name or word should have."""
NUMBERS = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xc0\x7f", b"99999", b"-1", b"nan", b"1e308")
SUFFIXES = ("(1)", "[bold]", " ", "\x1b[31m", "ü", "%00", "=1+1")


@dataclass(frozen=True)
class Damage:
    """A description of the damage to an input.

    Attributes:
        what: the damage in words, with the values.
        is_knowable: whether another result without a message would be wrong.
    """

    what: str
    is_knowable: bool


Mutation = Callable[[Random, Path], Damage]


def damage(rng: Random, folder: Path, target: str, form: str, *, is_sealed: bool, is_optional: bool) -> Damage:
    """Damage a file of a folder.

    Args:
        target: path relative to the folder; `PACK:ENTRY` is an entry of a zip file.
        form: see `prove_kinds.Kind`.
        is_sealed: whether a checksum covers the file.
        is_optional: whether nothing is lost with the file.
    """
    name, _, entry = target.partition(":")
    file = folder / name
    if entry:
        done = _in_zip(rng, file, entry, form)
    elif rng.random() < 0.12:
        is_end = form == "dicom" and file in _ends(file.parent)
        done = _whole_file(rng, folder, file)
        if is_end and not file.is_file():  # A series without its first or last slice is as sound as with it.
            done = Damage(done.what, False)
    elif form in STRUCTURED and rng.random() < 0.65:
        done = rng.choice(STRUCTURED[form])(rng, file)
    else:
        done = blind(rng, file, is_text=form in TEXT)
    return Damage(f"{target}: {done.what}", (done.is_knowable or is_sealed) and not is_optional)


def _ends(folder: Path) -> list[Path]:
    """The first and last of several files of a folder."""
    files = sorted(folder.iterdir())
    return [files[0], files[-1]] if len(files) > 1 else []


# Blind


def blind(rng: Random, file: Path, *, is_text: bool = False) -> Damage:
    """Change bytes without knowing what they mean."""
    before = file.read_bytes()
    after, done = blind_bytes(rng, before, is_text=is_text)
    file.write_bytes(after)
    if file.suffix == ".raw" and len(after) >= len(before):  # Voxels alone: any bytes are some.
        return Damage(done.what, False)
    return done


def blind_bytes(rng: Random, before: bytes, *, is_text: bool = False) -> tuple[bytes, Damage]:
    """Return changed bytes."""
    data = bytearray(before)
    size = len(data)
    if not size:
        return b"\0", Damage("a byte in an empty file", True)
    head = min(size, rng.choice([64, 400, 2000, size, size]))
    kind = rng.choice(
        ["bit", "bits", "number", "cut", "cut", "double", "lose", "insert", "zeros", "empty", "noise", "text"]
    )
    knowable = not is_text
    if kind == "bit":
        at, bit = rng.randrange(head), rng.randrange(8)
        data[at] ^= 1 << bit
        what, knowable = f"bit {bit} of byte {at} flipped", False
    elif kind == "bits":
        n = rng.choice([3, 30])
        for _ in range(n):
            data[rng.randrange(head)] ^= 1 << rng.randrange(8)
        what, knowable = f"{n} bits flipped", False
    elif kind == "number":
        at, value = rng.randrange(head), rng.choice(NUMBERS)
        data[at : at + len(value)] = value
        what, knowable = f"{value!r} at byte {at}", False
    elif kind == "cut":
        at = rng.randrange(size)
        del data[at:]
        what = f"cut after {at} of {size} bytes"
    elif kind == "double":
        what, knowable = "doubled", False
        data += bytes(data)
    elif kind == "lose":
        at, n = rng.randrange(size), rng.randrange(1, 200)
        del data[at : at + n]
        what = f"{n} bytes lost at {at}"
    elif kind == "insert":
        at, n = rng.randrange(size), rng.randrange(1, 200)
        data[at:at] = rng.randbytes(n)
        what, knowable = f"{n} bytes of noise at {at}", False
    elif kind == "zeros":
        at, n = rng.randrange(size), rng.randrange(1, 200)
        data[at : at + n] = bytes(min(n, size - at))
        what, knowable = f"{n} zeros at {at}", False
    elif kind == "empty":
        data.clear()
        what, knowable = "empty", True
    elif kind == "noise":
        data[:] = rng.randbytes(size)
        what, knowable = "noise", True
    else:
        data[:] = b"This is not what you think it is.\n" * 3
        what, knowable = "text instead", True
    return bytes(data), Damage(what, knowable)


def _whole_file(rng: Random, folder: Path, file: Path) -> Damage:
    """Put something else in the place of a file, or nothing."""
    others = sorted(p for p in folder.rglob("*") if p.is_file() and p != file)
    kind = rng.choice(["missing", "folder", "fifo", "zero", "loop", "other", "copy", "renamed"])
    if kind == "copy":
        twin = file.with_name(f"{file.stem}{rng.choice(SUFFIXES)}{file.suffix}")
        shutil.copy(file, twin)
        return Damage(f"a copy beside it as {twin.name!r}", False)
    if kind == "renamed":
        to = file.with_name(rng.choice([f"{file.stem}{rng.choice(SUFFIXES)}{file.suffix}", f"zarr.json{file.suffix}"]))
        file.rename(to)
        return Damage(f"renamed to {to.name!r}", False)
    if kind == "other" and others:
        other = rng.choice(others)
        shutil.copy(other, file)
        return Damage(f"the content of {other.relative_to(folder)}", False)
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "loop":
        file.symlink_to(file.name)
    else:
        return Damage("missing", True)
    return Damage(
        {"folder": "a folder instead", "fifo": "a FIFO instead", "zero": "/dev/zero", "loop": "a link to itself"}[kind],
        True,
    )


# DICOM

DICOM_VALUES: dict[str, tuple[bytes, ...]] = {
    "Rows": (b"\0\0", b"\xff\xff", b"\x01\0", b"\x21\0"),
    "Columns": (b"\0\0", b"\xff\xff", b"\x01\0", b"\x21\0"),
    "BitsAllocated": (b"\x08\0", b"\x20\0", b"\0\0", b"\x0c\0", b"\x40\0"),
    "BitsStored": (b"\0\0", b"\xff\0", b"\x20\0"),
    "HighBit": (b"\x1f\0", b"\0\0"),
    "SamplesPerPixel": (b"\x03\0", b"\0\0", b"\xff\xff"),
    "PixelRepresentation": (b"\x07\0",),
    "NumberOfFrames": (b"0 ", b"-1", b"99999999", b"1e9 ", b"abc "),
    "PixelSpacing": (
        b"0\\0 ",
        b"-1\\-1 ",
        b"nan\\nan ",
        b"1 ",
        b"1e308\\1e308 ",
        b"a\\b ",
        b"1\\1\\1 ",
        b"",
        b"inf\\1 ",
    ),
    "ImageOrientationPatient": (
        b"0\\0\\0\\0\\0\\0 ",
        b"1\\0\\0\\1\\0\\0 ",
        b"nan\\0\\0\\0\\1\\0 ",
        b"1\\0\\0 ",
        b"9\\9\\9\\9\\9\\9 ",
        b"",
    ),
    "ImagePositionPatient": (
        b"nan\\0\\0 ",
        b"1e308\\0\\0 ",
        b"0\\0 ",
        b"-16\\-16\\100 ",
        b"a\\b\\c ",
        b"inf\\inf\\inf ",
        b"",
    ),
    "RescaleSlope": (b"0 ", b"nan ", b"1e308 ", b"abc ", b"1\\2 ", b"-1e999 ", b""),
    "RescaleIntercept": (b"nan ", b"1e308 ", b"abc ", b"1\\2 ", b""),
    "RescaleType": (b"OD", b"", b"[/bold] "),
    "PhotometricInterpretation": (b"RGB ", b"PALETTE COLOR ", b"MONOCHROME1 ", b""),
    "Modality": (b"MR", b"", b"\xff\xfe"),
    "SeriesInstanceUID": (b"", b"1.2\0", b"../../x ", b"not a uid ", b"1" * 200),
    "StudyInstanceUID": (b"", b"../.. ", b"x" * 65),
    "SOPInstanceUID": (b"", b"1.2\0"),
    "FrameOfReferenceUID": (b"", b"1.2\0"),
    "PatientID": (b"", b"../../etc ", b"=cmd|' ", b"\x1b[31m ", b"\xff\xff"),
    "PatientName": (b"\xff\xfe\xfd ", b"=1+1", b"a^b^c^d^e^f^g "),
    "SpecificCharacterSet": (b"ISO_IR 999", b"GB18030 ", b"\\ISO 2022 IR 87 "),
    "SliceThickness": (b"nan ", b"abc ", b"-1"),
    "KVP": (b"120kV ", b"nan "),
    "InstanceNumber": (b"NaN ", b"99999999999 "),
    "PatientBirthDate": (b"anonymous ", b"2017-03-17"),
    "StudyTime": (b"25:61:00",),
    "ImageType": (b"DERIVED\\SECONDARY\\LOCALIZER ", b""),
    "PixelData": (b"", b"\0\0"),
    "ROIName": (b"", b"\xff\xff", b"(((((((((((((( "),
    "ROINumber": (b"abc ", b"1 ", b"-1"),
    "ContourData": (b"", b"nan\\0\\0 ", b"1\\2\\3\\4 ", b"a\\b\\c ", b"1e308\\1e308\\1e308\\0\\0\\0\\1\\1\\1 "),
    "SegmentNumber": (b"\0\0", b"\xff\xff"),
    "SegmentLabel": (b"", b"[/bold] "),
    "ReferencedSegmentNumber": (b"\x09\0",),
    "MaximumFractionalValue": (b"\0\0",),
    "SegmentationType": (b"FRACTIONAL", b"LABELMAP", b""),
}
"""Raw values that elements of these names should not have, or not in all slices but one."""
LEGAL = {("PatientName", b"=1+1"), ("PatientName", b"a^b^c^d^e^f^g "), ("ImageType", b""), ("RescaleType", b"")}
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1.99", "1.2.3", "")


def _dicom_element(rng: Random, file: Path) -> Damage:
    """Give another raw value to an element, anywhere in the file."""
    from pydicom.dataelem import RawDataElement

    dataset = _dicom(file)
    places = [
        (owner, element.tag, element.VR, element.keyword)
        for owner, element in _elements(dataset)
        if element.keyword in DICOM_VALUES
    ]
    if not places:
        return blind(rng, file)
    owner, tag, vr, keyword = rng.choice(places)
    value = rng.choice(DICOM_VALUES[keyword])
    owner[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return _save_dicom(dataset, file, f"{keyword} is {value[:40]!r}", (keyword, value) not in LEGAL)


def _dicom_delete(rng: Random, file: Path) -> Damage:
    """Remove one element."""
    dataset = _dicom(file)
    owner, element = rng.choice(list(_elements(dataset)))
    keyword = element.keyword or str(element.tag)
    del owner[element.tag]
    return _save_dicom(dataset, file, f"{keyword} deleted", True)


def _dicom_syntax(rng: Random, file: Path) -> Damage:
    """Write another transfer syntax than that of the pixels, or no preamble."""
    if rng.random() < 0.3:
        data = file.read_bytes()
        file.write_bytes(data[132:])
        return Damage("no preamble", False)
    dataset, uid = _dicom(file), rng.choice(SYNTAXES)
    found = dataset.file_meta.TransferSyntaxUID.encode()
    data = file.read_bytes()
    padded = uid.encode().ljust(len(found) + len(found) % 2, b"\0")[: len(found) + len(found) % 2]
    file.write_bytes(data.replace(found.ljust(len(padded), b"\0"), padded, 1))
    return Damage(f"transfer syntax {uid!r}", False)


def _dicom_claim(rng: Random, file: Path) -> Damage:
    """Write an explicit length of an element that is larger than the file."""
    data = bytearray(file.read_bytes())
    places = [m.start() for m in re.finditer(rb"(OW|OB|SQ|UN|UT)\0\0", data)]
    if not places:
        return blind(rng, file)
    at = rng.choice(places) + 4
    value = rng.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\0\0\0\0"])
    data[at : at + 4] = value
    file.write_bytes(data)
    return Damage(f"a length of {value!r} at byte {at}", True)


def _dicom(file: Path) -> Any:
    import pydicom

    return pydicom.dcmread(file, force=True)


def _elements(dataset: Any) -> Any:
    """Give every element, including nested ones, with its dataset."""
    for element in dataset:
        yield dataset, element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _save_dicom(dataset: Any, file: Path, what: str, knowable: bool) -> Damage:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset.save_as(file, enforce_file_format=False)
        except Exception as error:  # a library that refuses to write nonsense
            data = file.read_bytes()
            file.write_bytes(data[: len(data) // 2])
            return Damage(f"{what}, cut where writing it failed ({type(error).__name__})", True)
    return Damage(what, knowable)


# NIfTI, version 1, not compressed

NIFTI_FIELDS: dict[str, tuple[int, str, tuple[float, ...]]] = {
    "sizeof_hdr": (0, "<i", (0, 540, -1)),
    "dim[0]": (40, "<h", (0, 2, 4, 7, 8, -1)),
    "dim[1]": (42, "<h", (0, 31, 33, 32767, -5)),
    "dim[3]": (46, "<h", (0, 11, 13, 32767, -5)),
    "dim[4]": (48, "<h", (0, 2, -1)),
    "datatype": (70, "<h", (0, 2, 16, 64, 128, 1792, 999)),
    "bitpix": (72, "<h", (0, 8, 999)),
    "pixdim[0]": (76, "<f", (0.5, float("nan"))),
    "pixdim[1]": (80, "<f", (0, -1, float("nan"), float("inf"), 1e30, 1e-30)),
    "pixdim[3]": (88, "<f", (0, -1, float("nan"), float("inf"), 1e30)),
    "vox_offset": (108, "<f", (0, 348, 1e9, -1, float("nan"))),
    "scl_slope": (112, "<f", (float("nan"), float("inf"), 1e30, 0)),
    "scl_inter": (116, "<f", (float("nan"), float("inf"), 1e30)),
    "xyzt_units": (123, "<b", (1, 3, 99)),
    "qform_code": (252, "<h", (0, 9, -1)),
    "sform_code": (254, "<h", (0, 9, -1)),
    "quatern_b": (256, "<f", (float("nan"), 5)),
    "qoffset_x": (268, "<f", (float("nan"), 1e30, 80)),
    "srow_x[0]": (280, "<f", (0, float("nan"), 1e30, 5)),
    "srow_z[2]": (320, "<f", (0, float("nan"))),
    "magic": (344, "<i", (0, 3239278)),
}
"""Offset, type and values that contradict the rest of the header; both qform and sform are present."""
NIFTI_LEGAL = {"xyzt_units", "scl_slope", "scl_inter", "sform_code", "qform_code", "pixdim[0]"}
"""Fields for which some of the values above are legal."""


def _nifti_field(rng: Random, file: Path) -> Damage:
    name = rng.choice(sorted(NIFTI_FIELDS))
    offset, kind, values = NIFTI_FIELDS[name]
    value = rng.choice(values)
    data = bytearray(file.read_bytes())
    data[offset : offset + struct.calcsize(kind)] = struct.pack(kind, int(value) if kind[1] in "ihb" else value)
    file.write_bytes(data)
    return Damage(f"{name} = {value}", name not in NIFTI_LEGAL)


# Headers of text before voxels: MHA, MHD, NRRD

HEADER_VALUES = (
    *NONSENSE,
    "0 0 0",
    "99999 99999 99999",
    "-1 -1 -1",
    "nan nan nan",
    "1 1",
    "1 0 0 1 0 0 0 0 1",
    "0 0 0 0 0 0 0 0 0",
    "(0,0,0) (0,0,0) (0,0,0)",
    "../../etc/passwd",
    "/dev/zero",
    "LIST",
    "MET_DOUBLE",
    "double",
    "gzip",
    "hex",
    "True",
)


def _header_line(rng: Random, file: Path) -> Damage:
    """Change a value in a line of the header, or add or remove a line."""
    data = file.read_bytes()
    end = _header_end(data)
    lines = data[:end].split(b"\n")
    at = rng.randrange(max(len(lines) - 1, 1))
    kind = rng.choice(["value", "value", "value", "drop", "twice", "long"])
    line = lines[at].decode(errors="replace")
    if kind == "value":
        separator = next((s for s in (" = ", ":=", ": ") if s in line), " = ")
        name = line.partition(separator)[0]
        value = rng.choice(HEADER_VALUES)
        lines[at] = f"{name}{separator}{value}".encode()
        what = f"{name}: {value!r}"
    elif kind == "drop":
        del lines[at]
        what = f"without {line!r}"
    elif kind == "twice":
        lines.insert(at, lines[at])
        what = f"{line!r} twice"
    else:
        lines[at] += b"1" * 100_000
        what = f"100,000 characters in {line[:20]!r}"
    file.write_bytes(b"\n".join(lines) + data[end:])
    return Damage(what, False)


def _header_end(data: bytes) -> int:
    if data.startswith(b"NRRD"):
        found = data.find(b"\n\n")
        return found if found >= 0 else len(data)
    found = data.find(b"ElementDataFile")
    end = data.find(b"\n", found) if found >= 0 else -1
    return end if end >= 0 else min(len(data), 500)


# Text with structure

JSON_VALUES: tuple[Any, ...] = (
    None,
    "",
    "abc",
    -1,
    0,
    10**20,
    1e308,
    [],
    {},
    [[]],
    True,
    "..",
    "/etc",
    "\x1b[31m",
    "[/bold]",
    [0] * 5,
    "a" * 10_000,
)


def _json_tree(rng: Random, file: Path) -> Damage:
    """Change a value somewhere in the tree, or remove a key."""
    text = file.read_text()
    changed, what = json_changed(rng, text)
    file.write_text(changed)
    return Damage(what, False)


def json_changed(rng: Random, text: str) -> tuple[str, str]:
    """Return JSON text with a changed value, and which one."""
    tree = json.loads(text)
    places = list(_places(tree))
    if not places:
        return "[]", "an empty list"
    owner, key, path = rng.choice(places)
    kind = rng.choice(["value", "value", "value", "delete", "deep", "nan"])
    if kind == "delete":
        del owner[key]
        return json.dumps(tree), f"{path} deleted"
    if kind == "deep":
        owner[key] = "DEEP"
        return json.dumps(tree).replace('"DEEP"', "[" * 100_000 + "]" * 100_000), f"{path} 100,000 lists deep"
    if kind == "nan":
        owner[key] = float(rng.choice(["nan", "inf"]))
        return json.dumps(tree), f"{path} = {owner[key]}"
    owner[key] = rng.choice(JSON_VALUES)
    return json.dumps(tree), f"{path} = {str(owner[key])[:30]!r}"


def _places(tree: Any, path: str = "") -> Any:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key, f"{path}/{key}"
        yield from _places(tree[key], f"{path}/{key}")


YAML_LINES = (
    "x: &a [&b [1, 1], *b, *b]",
    "bomb: [&a [1,1,1,1,1,1,1,1,1], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]]",
    "code: !!python/object/apply:os.system ['true']",
    "- a list",
    "? [a, b]\n: 1",
    "2020-01-01: 2020-99-99",
    "\t tab: 1",
    "a: b: c",
    "config: ~",
)


def _yaml_line(rng: Random, file: Path) -> Damage:
    lines = file.read_text().split("\n")
    at = rng.randrange(len(lines))
    kind = rng.choice(["value", "value", "drop", "insert", "bomb"])
    if kind == "value":
        name, value = lines[at].partition(":")[0], rng.choice(NONSENSE)
        lines[at] = f"{name}: {value}"
        what = f"{name.strip()}: {value!r}"
    elif kind == "drop":
        what = f"without {lines.pop(at)!r}"
    elif kind == "insert":
        lines.insert(at, rng.choice(YAML_LINES))
        what = f"{lines[at]!r} in line {at + 1}"
    else:
        bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
        lines[at:at] = bomb
        what = f"aliases that multiply, in line {at + 1}"
    file.write_text("\n".join(lines))
    return Damage(what, False)


def _csv_cell(rng: Random, file: Path) -> Damage:
    """Change a cell, column, row, separator or the encoding."""
    text = file.read_text()
    rows = [line.split(",") for line in text.splitlines()]
    kind = rng.choice(
        ["cell", "cell", "cell", "name", "column", "row", "double", "semicolons", "utf-16", "bom", "latin", "wide"]
    )
    if kind == "cell":
        row = rng.randrange(1, len(rows)) if len(rows) > 1 else 0
        column = rng.randrange(len(rows[row]))
        value = rng.choice((*NONSENSE, "../../x", "=1+1", '"', "7;8", "1e5", "-0"))
        rows[row][column] = value
        what = f"{rows[0][min(column, len(rows[0]) - 1)]} of row {row} is {value!r}"
    elif kind == "name":
        column = rng.randrange(len(rows[0]))
        what = f"column {rows[0][column]} is named X"
        rows[0][column] = "X"
    elif kind == "column":
        column = rng.randrange(len(rows[0]))
        what = f"without column {rows[0][column]}"
        rows = [row[:column] + row[column + 1 :] for row in rows]
    elif kind == "row":
        at = rng.randrange(len(rows))
        what = f"without row {at}"
        del rows[at]
    elif kind == "double":
        at = rng.randrange(len(rows))
        what = f"row {at} twice"
        rows.insert(at, rows[at])
    elif kind == "wide":
        what = "a cell of a million characters"
        rows[-1][-1] = "9" * 1_000_000
    else:
        changed = {
            "semicolons": text.replace(",", ";").encode(),
            "utf-16": text.encode("utf-16"),
            "bom": text.encode("utf-8-sig"),
            "latin": text.replace("P", "é").encode("latin-1"),
        }[kind]
        file.write_bytes(changed)
        return Damage(kind, kind != "bom")
    file.write_text("\n".join(",".join(row) for row in rows) + "\n", errors="replace")
    return Damage(what, False)


def _xml_element(rng: Random, file: Path) -> Damage:
    text = file.read_text()
    kind = rng.choice(["value", "value", "value", "tag", "entities", "namespace", "deep"])
    if kind == "entities":
        entities = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(10))
        file.write_text(f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><LidcReadMessage>&a10;</LidcReadMessage>')
        return Damage("entities that multiply", True)
    if kind == "namespace":
        file.write_text(text.replace("http://www.nih.gov", "http://example.org"))
        return Damage("another namespace", False)
    if kind == "deep":
        file.write_text(text.replace("<readingSession>", "<a>" * 50_000 + "<readingSession>", 1))
        return Damage("50,000 elements deep", True)
    found = list(re.finditer(r"<(\w+)>([^<>]+)</\1>", text))
    chosen = rng.choice(found)
    if kind == "tag":
        file.write_text(text[: chosen.start()] + text[chosen.end() :])
        return Damage(f"without {chosen[0]}", False)
    value = rng.choice(NONSENSE).replace("\0", "&#1;").replace("\x1b", "&#27;")
    file.write_text(f"{text[: chosen.start(2)]}{value}{text[chosen.end(2) :]}")
    return Damage(f"{chosen[1]} is {value!r}", False)


def _line(rng: Random, file: Path) -> Damage:
    """Change a line of a file of lines."""
    lines = file.read_text().split("\n")
    at, value = (
        rng.randrange(len(lines)),
        rng.choice((*NONSENSE, "[]", "{}", '{"step": "x"}', '{"step": 1e400}', "x" * 1_000_000)),
    )
    lines[at] = value
    file.write_text("\n".join(lines), errors="replace")
    return Damage(f"line {at + 1} is {value[:30]!r}", False)


# Containers


def _npy_header(rng: Random, file: Path) -> Damage:
    import numpy as np

    array = np.load(file)
    kind = rng.choice(["objects", "nan", "claim", "negative", "complex", "large", "flat", "none", "fortran", "strings"])
    if kind == "claim":
        data = file.read_bytes()
        shape = rng.choice([b"(9999999, 99, 99, 99)", b"(-1, 20, 40, 40)", b"(12, 20, 40)", b"(0, 20, 40, 40)"])
        file.write_bytes(re.sub(rb"\(\d+, 20, 40, 40\), }", shape + b", }", data, count=1))
        return Damage(f"a shape of {shape.decode()}", True)
    made = {
        "objects": lambda: np.array([{"a": 1}], dtype=object),
        "nan": lambda: np.where(array > 0, np.nan, array.astype(np.float32)),
        "negative": lambda: array.astype(np.float32) - 1,
        "complex": lambda: array.astype(np.complex64),
        "large": lambda: array.astype(np.float64) * 1e300,
        "flat": lambda: array.ravel(),
        "none": lambda: array[:0],
        "fortran": lambda: np.asfortranarray(array),
        "strings": lambda: np.array(["a", "b"]),
    }[kind]()
    np.save(file, made, allow_pickle=True)
    return Damage(f"an array of {kind}", kind != "fortran")


def _safetensors_header(rng: Random, file: Path) -> Damage:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    if rng.random() < 0.25:
        claim = rng.choice([0, 1, 2**63, 2**32, length + 1])
        file.write_bytes(struct.pack("<Q", claim) + data[8:])
        return Damage(f"a header of {claim} bytes", True)
    if rng.random() < 0.3:
        import numpy as np

        body = bytearray(data)
        body[8 + length : 8 + length + 4] = np.float32("nan").tobytes()
        file.write_bytes(body)
        return Damage("NaN as the first weight", True)
    header, what = json_changed(rng, data[8 : 8 + length].decode())
    encoded = header.encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data[8 + length :])
    return Damage(f"header: {what}", False)


def _stl(rng: Random, file: Path) -> Damage:
    data = bytearray(file.read_bytes())
    kind = rng.choice(["count", "nan", "ascii", "solid"])
    if kind == "count":
        count = rng.choice([0, 3, 5, 2**32 - 1, 2**31])
        data[80:84] = struct.pack("<I", count)
        what = f"{count} triangles"
    elif kind == "nan":
        data[96:100] = struct.pack("<f", float("nan"))
        what = "NaN in a corner"
    elif kind == "ascii":
        data[:] = b"solid SYNTHETIC\nfacet normal 0 0 0\nouter loop\nvertex a b c\n"
        what = "text that was cut"
    else:
        data[:5] = b"solid"
        what = "a header that begins with solid"
    file.write_bytes(data)
    return Damage(what, False)


def _zip_entry(rng: Random, file: Path) -> Damage:
    """Change an entry, name, claimed size or method in a zip file."""
    try:
        with zipfile.ZipFile(file) as source:
            entries = [(info, source.read(info)) for info in source.infolist()]
    except (zipfile.BadZipFile, zlib.error, ValueError):
        return blind(rng, file)
    names = [info.filename for info, _ in entries]
    at = rng.randrange(len(entries))
    kind = rng.choice(["drop", "twice", "rename", "blind", "blind", "deflated", "bomb", "swap"])
    made: list[tuple[str, bytes]] = [(info.filename, data) for info, data in entries]
    if kind == "drop":
        del made[at]
    elif kind == "twice":
        made.append(made[at])
    elif kind == "rename":
        made[at] = (rng.choice(["../../x", "/etc/x", "a\\b", "x" * 300, "0.ct"]), made[at][1])
    elif kind == "blind":
        made[at] = (made[at][0], blind_bytes(rng, made[at][1])[0])
    elif kind == "bomb":
        made[at] = (made[at][0], bytes(50_000_000))
    elif kind == "swap":
        other = rng.randrange(len(made))
        made[at], made[other] = (made[at][0], made[other][1]), (made[other][0], made[at][1])
    method = zipfile.ZIP_DEFLATED if kind in ("deflated", "bomb") else zipfile.ZIP_STORED
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as target:
        warnings.simplefilter("ignore")
        for name, data in made:
            target.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return Damage(f"entry {names[at]!r}: {kind}", kind not in ("twice", "deflated"))


def _in_zip(rng: Random, file: Path, entry: str, form: str) -> Damage:
    """Change an entry of a zip file and correct its checksum."""
    with zipfile.ZipFile(file) as source:
        entries = {info.filename: source.read(info) for info in source.infolist()}
    if form == "json" and rng.random() < 0.7:
        text, what = json_changed(rng, entries[entry].decode())
        entries[entry], done = text.encode(), Damage(what, False)
    else:
        entries[entry], done = blind_bytes(rng, entries[entry])
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, data in entries.items():
            target.writestr(zipfile.ZipInfo(name), data)
    file.write_bytes(buffer.getvalue())
    return done


TEXT = {"csv", "yaml", "lines"}
"""Forms whose end is not marked, so that missing parts are not knowable."""
STRUCTURED: dict[str, tuple[Mutation, ...]] = {
    "dicom": (_dicom_element, _dicom_element, _dicom_element, _dicom_delete, _dicom_syntax, _dicom_claim),
    "nifti": (_nifti_field,),
    "header": (_header_line,),
    "json": (_json_tree,),
    "yaml": (_yaml_line,),
    "csv": (_csv_cell,),
    "xml": (_xml_element,),
    "lines": (_line,),
    "npy": (_npy_header,),
    "safetensors": (_safetensors_header,),
    "stl": (_stl,),
    "zip": (_zip_entry,),
}

ARGUMENTS = (
    *NONSENSE[:-1],
    "..",
    ".",
    "in",
    "in/ct.nii.gz",
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
    "a" * 5000,
    "\udce4",
    "1e400",
    "1e-320",
    "0x10",
    "--",
    "-",
    "in/no/such",
    "é",
    "'; true",
    "$(true)",
    "%s%n",
    "1_000",
    "٣",
)
OPTIONS = (
    "--seed",
    "--workers",
    "--out",
    "--split",
    "--spacing",
    "--size",
    "--diameter",
    "--auto",
    "--at",
    "--voxel",
    "-n",
    "--formats",
    "--preset",
    "--set",
    "--config",
    "--table",
    "--readers",
    "--structures",
    "--hu-step",
    "--margin",
    "--splits",
    "--wall-mm",
    "--texture",
    "--site",
    "--with",
    "--series",
    "--json",
    "--overwrite",
    "--nodules",
    "--shapes",
    "--patients",
    "--device",
    "--layout",
    "--name",
    "--scans",
    "--train-patients",
    "--radius",
    "--near",
    "--walk",
    "--max-minutes",
    "--devices",
    "--from",
    "--no-such",
)


def damaged_arguments(rng: Random, command: list[str]) -> tuple[list[str], Damage]:
    """Return a command with an argument replaced, left out, added or repeated."""
    made = list(command)
    first = 2 if made[0] in ("prepare", "train", "study") else 1
    kind = rng.choice(["value", "value", "option", "option", "drop", "twice"])
    at = rng.randrange(first, len(made))
    value = rng.choice(ARGUMENTS)
    if kind == "value":
        made[at] = value
    elif kind == "option":
        made += [rng.choice(OPTIONS), value]
    elif kind == "drop":
        del made[at]
    else:
        made.append(made[at])
    return made, Damage(f"{kind}: {made!r}"[:300], False)
