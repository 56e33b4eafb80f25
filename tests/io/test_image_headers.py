"""The headers of images, and the notes if information is missing."""

import bz2
import gzip
import re
import zlib

import nibabel as nib
import numpy as np
import pytest

from synthorax.api import info
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.io.images import open_image, read_image, read_mark, stored_files, write_image
from synthorax.io.scans import read_scan
from synthorax.io.segments import read_segments
from synthorax.volume import Volume

SHAPE = (3, 4, 5)
"""z, y, x"""
HU = (np.arange(60).reshape(SHAPE) * 20 - 1000).astype(np.int16)
RAS = np.array([[-0.7, 0, 0, 32], [0, -0.8, 0, 33], [0, 0, 2, 100], [0, 0, 0, 1.0]])
MHA = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "DimSize": "5 4 3",
    "ElementType": "MET_SHORT",
    "ElementSpacing": "0.7 0.8 2",
    "Offset": "-32 -33 100",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "5 4 3",
    "encoding": "raw",
    "endian": "little",
    "space": "left-posterior-superior",
    "space directions": "(0.7,0,0) (0,0.8,0) (0,0,2)",
    "space origin": "(-32,-33,100)",
}


def nifti(path, raw=HU, affine=RAS, kind=nib.Nifti1Image, order="<", **fields):
    """A NIfTI with these raw voxels [z, y, x], and fields of its header overwritten."""
    header = kind.header_class(endianness=order)
    header.set_data_shape(raw.shape[::-1])
    header.set_data_dtype(raw.dtype.newbyteorder(order))
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    start = 352 if kind is nib.Nifti1Image else 544
    header["vox_offset"] = start
    for name, value in fields.items():
        header[name] = value
    content = header.binaryblock.ljust(start, b"\0") + raw.astype(raw.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def mha(path, voxels=None, name="LOCAL", leave=(), **fields):
    """An MHA or MHD with fields changed or left out."""
    about = {k: v for k, v in (MHA | fields).items() if k not in leave}
    text = "".join(f"{k} = {v}\n" for k, v in about.items()) + f"ElementDataFile = {name}\n"
    path.write_bytes(text.encode() + (HU.tobytes() if voxels is None else voxels))
    return path


def nrrd(path, voxels=None, leave=(), pairs=None, **fields):
    """An NRRD with fields (their names with _ for spaces) changed or left out."""
    changed = NRRD | {k.replace("_", " "): v for k, v in fields.items()}
    lines = [f"{k}: {v}" for k, v in changed.items() if k not in leave] + [
        f"{k}:={v}" for k, v in (pairs or {}).items()
    ]
    path.write_bytes("\n".join(["NRRD0004", *lines, "", ""]).encode() + (HU.tobytes() if voxels is None else voxels))
    return path


def geometry(volume):
    return volume.spacing_mm, volume.origin_mm, volume.direction.tolist()


LPS = (2.0, 0.8, 0.7), (-32.0, -33.0, 100.0), np.eye(3).tolist()


def is_placed(volume, expected=LPS):
    for found, wanted in zip(geometry(volume), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


# Voxels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(
    ("raw", "slope", "intercept", "dtype"),
    [
        ((HU.astype(int) + 1024).astype(np.uint16), 1, -1024, np.int16),
        ((HU // 20).astype(np.int8), 20, 0, np.int16),
        (((HU + 1000) // 20).astype(np.uint8), 20, -1000, np.int16),
        (((HU + 1000) // 20).astype(np.uint8), -20, 180, np.int16),
        (HU, 100, 5, np.int32),
        (HU, 0.5, 0.25, np.float32),
        (HU.astype(np.float32), 2, 1, np.float32),
        (HU.astype(np.float64), 2, 1, np.float32),
        (HU, 0, 7, np.int16),
        (HU, np.nan, np.nan, np.int16),
        (HU, 1, 0, np.int16),
        (HU, 1e8, 0, np.float32),
    ],
)
def test_a_nifti_has_the_values_that_its_header_scales(tmp_path, raw, slope, intercept, dtype, kind, order):
    path = nifti(tmp_path / "scaled.nii", raw, kind=kind, order=order, scl_slope=slope, scl_inter=intercept)
    found = open_image(path).volume.voxels
    is_scaled = np.isfinite(slope) and slope != 0
    np.testing.assert_allclose(found, raw.astype(float) * slope + intercept if is_scaled else raw, rtol=1e-6)
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("slope", "intercept", "part"),
    [(-1, 0, "inverts the voxels' values"), (np.inf, 0, "not finite"), (2, np.nan, "not finite")],
)
def test_a_doubtful_scale_is_told(tmp_path, slope, intercept, part):
    notes = open_image(nifti(tmp_path / "a.nii", scl_slope=slope, scl_inter=intercept)).notes
    assert [part in note for note in notes] == [True]


def test_a_flipped_bit_of_a_compressed_image_is_noticed_and_not_read_as_another_image(tmp_path):
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    for name in ("a.nii.gz", "a.mha", "a.nrrd"):
        path = tmp_path / name
        write_image(path, Volume(noise, (1.0, 1.0, 1.0)))
        content = bytearray(path.read_bytes())
        content[-200] ^= 8
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: found .*cut off or damaged"):
            read_image(path)


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_packed_nrrd_and_its_detached_form_hold_the_same_voxels(tmp_path, packed):
    encoding = packed.__module__.replace("bz2", "bzip2")
    attached = nrrd(tmp_path / "a.nrrd", packed(HU.tobytes()), encoding=encoding)
    (tmp_path / "ü voxels.bin").write_bytes(packed(HU.tobytes()))
    detached = nrrd(tmp_path / "b.nhdr", b"", encoding=encoding, data_file="ü voxels.bin")
    for path in (attached, detached):
        np.testing.assert_array_equal(read_image(path).voxels, HU)
    assert stored_files(detached) == [detached, tmp_path / "ü voxels.bin"]


def test_voxels_in_a_file_for_each_slice_are_put_together(tmp_path):
    for z, plane in enumerate(HU):
        (tmp_path / f"s{z + 1:02d}.raw").write_bytes(plane.tobytes())
    names = "\n".join(f"s{z + 1:02d}.raw" for z in range(3)).encode()
    for path in (
        mha(tmp_path / "list.mhd", names, name="LIST"),
        mha(tmp_path / "pattern.mhd", b"", name="s%02d.raw 1 3 1"),
        nrrd(tmp_path / "pattern.nhdr", b"", data_file="s%02d.raw 1 3 1"),
    ):
        np.testing.assert_array_equal(read_image(path).voxels, HU)


def test_big_endian_skipped_and_zlib_voxels_are_read(tmp_path):
    big = HU.astype(">i2").tobytes()
    (tmp_path / "v.raw").write_bytes(b"one\ntwo\n" + b"xyz" + big)
    for path in (
        mha(tmp_path / "big.mha", big, BinaryDataByteOrderMSB="True"),
        mha(tmp_path / "zlib.mha", zlib.compress(HU.tobytes()), CompressedData="True"),
        mha(tmp_path / "end.mhd", b"", name="v.raw", HeaderSize="-1", ElementByteOrderMSB="True"),
        nrrd(tmp_path / "skip.nhdr", b"", endian="big", line_skip="2", byte_skip="3", data_file="v.raw"),
        nrrd(tmp_path / "end.nhdr", b"", endian="big", byte_skip="-1", data_file="v.raw"),
        nrrd(
            tmp_path / "lines.nrrd",
            b"a\nb\n" + gzip.compress(b"xyz" + HU.tobytes()),
            encoding="gz",
            line_skip="2",
            byte_skip="3",
        ),
        nrrd(tmp_path / "last.nrrd", gzip.compress(bytes(999) + HU.tobytes()), encoding="gzip", byte_skip="-1"),
    ):
        np.testing.assert_array_equal(read_image(path).voxels, HU)


def test_more_voxels_than_the_header_says_are_told(tmp_path):
    for path in (
        mha(tmp_path / "a.mha", HU.tobytes() * 2),
        nrrd(tmp_path / "a.nrrd", gzip.compress(HU.tobytes() * 2), encoding="gzip"),
    ):
        found = open_image(path)
        np.testing.assert_array_equal(found.volume.voxels, HU)
        assert "the file has more voxels than the 3x4x5 of its header" in found.notes[0]


# Geometry


def test_headers_that_say_everything_give_no_note(tmp_path):
    for path in (nifti(tmp_path / "a.nii.gz"), mha(tmp_path / "a.mha"), nrrd(tmp_path / "a.nrrd")):
        found = open_image(path)
        is_placed(found.volume)
        assert found.notes == ()


def test_a_nifti_without_orientation_lies_as_simpleitk_takes_it_and_is_told(tmp_path):
    found = open_image(nifti(tmp_path / "a.nii", sform_code=0, qform_code=0))
    is_placed(found.volume, (LPS[0], (0, 0, 0), LPS[2]))
    assert found.notes[0].startswith("a.nii: no orientation in the header")


@pytest.mark.parametrize(
    ("sform_code", "qform_code", "origin", "used"),
    [(1, 1, -22, "sform"), (2, 1, -32, "qform"), (2, 0, -22, ""), (0, 4, -32, ""), (1, 4, -22, "sform")],
)
def test_of_an_sform_and_a_qform_that_differ_itks_is_taken_and_told(tmp_path, sform_code, qform_code, origin, used):
    path = nifti(tmp_path / "a.nii", srow_x=[-0.7, 0, 0, 22], sform_code=sform_code, qform_code=qform_code)
    found = open_image(path)
    assert found.volume.origin_mm[0] == pytest.approx(origin)
    notes = [f"a.nii: sform and qform differ by 10 mm; the {used} is used, as in ITK"] if used else []
    assert list(found.notes) == notes


@pytest.mark.parametrize(
    ("leave", "part"),
    [
        ("ElementSpacing", "no voxel size in the header (ElementSpacing); 1 x 1 x 1 mm is assumed"),
        ("Offset", "no position in the header (Offset); 0,0,0 is assumed"),
        ("TransformMatrix", "no orientation in the header (TransformMatrix)"),
    ],
)
def test_what_a_metaimage_leaves_open_is_told(tmp_path, leave, part):
    notes = open_image(mha(tmp_path / "a.mha", leave=[leave])).notes
    assert len(notes) == 1
    assert part in notes[0]


@pytest.mark.parametrize(
    ("leave", "fields", "parts"),
    [
        (["space directions"], {}, ["no voxel size", "no orientation"]),
        (["space directions"], {"spacings": "0.7 0.8 2"}, ["no orientation"]),
        (["space origin"], {}, ["no position"]),
        (["space"], {}, ["no `space` in the header"]),
        ([], {"space": "scanner-xyz"}, ["space 'scanner-xyz' does not relate the axes to the patient"]),
    ],
)
def test_what_an_nrrd_leaves_open_is_told(tmp_path, leave, fields, parts):
    notes = open_image(nrrd(tmp_path / "a.nrrd", leave=leave, **fields)).notes
    assert [part in note for part, note in zip(parts, notes, strict=True)] == [True] * len(parts)


def test_ras_and_las_are_turned_into_lps(tmp_path):
    ras = nrrd(
        tmp_path / "ras.nrrd",
        space="RAS",
        space_directions="(-0.7,0,0) (0,-0.8,0) (0,0,2)",
        space_origin="(32,33,100)",
    )
    las = nrrd(
        tmp_path / "las.nrrd",
        space="left-anterior-superior",
        space_directions="(0.7,0,0) (0,-0.8,0) (0,0,2)",
        space_origin="(-32,33,100)",
    )
    for path in (ras, las):
        is_placed(open_image(path).volume)
        assert not open_image(path).notes


def test_an_orientation_that_contradicts_the_matrix_is_told(tmp_path):
    assert not open_image(mha(tmp_path / "a.mha", AnatomicalOrientation="RAI")).notes
    (note,) = open_image(mha(tmp_path / "b.mha", AnatomicalOrientation="LPI")).notes
    assert "AnatomicalOrientation is 'LPI', but the axes are RAI; the axes are used" in note


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda p: nifti(p / "a.nii", affine=RAS / 1000, xyzt_units=1), "lengths in meter"),
        (lambda p: mha(p / "a.mha", DistanceUnits="cm", ElementSpacing=".07 .08 .2", Offset="-3.2 -3.3 10"), "in cm"),
        (
            lambda p: nrrd(
                p / "a.nrrd",
                space_units='"um" "um" "um"',
                space_directions="(700,0,0) (0,800,0) (0,0,2000)",
                space_origin="(-32000,-33000,100000)",
            ),
            "lengths in um",
        ),
    ],
)
def test_other_units_of_length_are_converted_and_told(tmp_path, make, part):
    found = open_image(make(tmp_path))
    is_placed(found.volume)
    assert [part in note for note in found.notes] == [True]


def test_axes_that_are_nearly_at_right_angles_are_straightened_and_told(tmp_path):
    found = open_image(mha(tmp_path / "a.mha", TransformMatrix="1 0.004 0 0 1 0 0 0 1"))
    is_placed(found.volume, (LPS[0], LPS[1], found.volume.direction))
    assert "0.23 degrees off a right angle; straightened" in found.notes[0]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda p: mha(p, TransformMatrix="1 0.3 0 0 1 0 0 0 1"), "degrees off a right angle"),
        (lambda p: mha(p, TransformMatrix="1 0 0 1 0 0 0 0 1"), "degrees off a right angle"),
        (lambda p: mha(p, TransformMatrix="0 0 0 0 1 0 0 0 1"), "directions"),
        (lambda p: mha(p, ElementSpacing="0 1 1"), "voxels of 0 x 1 x 1 mm"),
        (lambda p: mha(p, ElementSpacing="nan 1 1"), "voxels of nan x 1 x 1 mm"),
        (lambda p: mha(p, ElementSpacing="1e308 1 1"), "voxels of"),
        (lambda p: mha(p, Offset="inf 0 0"), "a first voxel at"),
        (lambda p: mha(p, ElementSpacing="1 1"), "ElementSpacing '1 1'"),
        (lambda p: mha(p, DimSize="5 4 -3"), "voxels of 2 bytes"),
        (lambda p: mha(p, DimSize="5 4 999999999999"), "voxels of 2 bytes"),
        (lambda p: mha(p, NDims="999999999"), "NDims 999999999"),
        (lambda p: mha(p, DimSize="5 4 3", NDims="2"), "DimSize"),
        (lambda p: mha(p, ElementNumberOfChannels="3"), "3 values in each"),
        (lambda p: mha(p, ElementType="MET_STRING"), "ElementType"),
        (lambda p: mha(p, BinaryData="False"), "voxels as text"),
        (lambda p: mha(p, CompressedData="maybe"), "CompressedData 'maybe'"),
        (lambda p: mha(p, name="../a.raw"), "voxels in the file '../a.raw'"),
        (lambda p: mha(p, name="/dev/zero"), "voxels in the file '/dev/zero'"),
        (lambda p: mha(p, name="gone.raw"), "no such file"),
        (lambda p: mha(p, name="%d.raw 1 999999999 1"), "voxels in the files"),
        (lambda p: mha(p, name="%9999d.raw 1 3 1"), "voxels in the files"),
        (lambda p: mha(p, voxels=HU.tobytes()[:-1]), "cut off or damaged"),
    ],
)
def test_a_metaimage_that_cannot_be_placed_or_read_is_refused_in_one_line(tmp_path, make, found):
    with pytest.raises(InputError) as caught:
        read_image(make(tmp_path / "a.mha"))
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"sizes": "5 4"}, "sizes '5 4'"),
        ({"sizes": "5 4 99999999999999999999"}, "sizes"),
        ({"dimension": "0"}, "dimension 0"),
        ({"type": "block"}, "type 'block'"),
        ({"encoding": "ascii"}, "encoding 'ascii'"),
        ({"encoding": "gzip"}, "cut off or damaged"),
        ({"endian": "middle"}, "endian 'middle'"),
        ({"space_directions": "(1,0,0) (0,1,0)"}, "space directions"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,x)"}, "space directions"),
        ({"space_directions": "(1,0,0) (0,1,0) none"}, "2 spatial axes"),
        ({"space_origin": "(1,2)"}, "space origin"),
        ({"data_file": "/etc/passwd"}, "voxels in the file '/etc/passwd'"),
        ({"data_file": "x%%n.raw 1 3 1"}, "voxels in the files"),
        ({"byte_skip": "99999999999999"}, "byte skip 99999999999999"),
        ({"byte_skip": "200"}, "cut off or damaged"),
        ({"space": "left-posterior-superior-time"}, "without a time axis"),
        ({"space": "\x1b[31m" * 100}, "note"),
    ],
)
def test_an_nrrd_that_cannot_be_placed_or_read_is_refused_in_one_line(tmp_path, fields, found):
    path = nrrd(tmp_path / "a.nrrd", **fields)
    if found == "note":
        assert not any("\x1b" in note or len(note) > 300 for note in open_image(path).notes)
        return
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"dim": [3, 5, 4, -3, 1, 1, 1, 1]}, "voxels of 2 bytes"),
        ({"dim": [4, 5, 4, 3, 2, 1, 1, 1]}, "4 axes"),
        ({"dim": [99, 5, 4, 3, 1, 1, 1, 1]}, "99 axes"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "voxels of 2 bytes"),
        ({"datatype": 128}, "voxels of type"),
        ({"datatype": 12345}, "the unknown data type 12345"),
        ({"vox_offset": 1e30}, "voxels that begin at byte 1e+30"),
        ({"srow_x": [np.nan] * 4, "qform_code": 0}, "neither a usable sform nor qform"),
        ({"srow_x": [1, 1, 0, 0], "qform_code": 0}, "degrees off a right angle"),
        ({"pixdim": [1, 0, 1, 1, 1, 1, 1, 1], "sform_code": 0, "qform_code": 0}, "voxels of 0 x 1 x 1 mm"),
        ({"magic": b"ni1"}, "the header of a pair (.hdr and .img)"),
        ({"magic": b""}, "an Analyze header"),
        ({"scl_slope": 1e30}, "scl_slope 1e+30"),
    ],
)
def test_a_nifti_that_cannot_be_placed_or_read_is_refused_in_one_line(tmp_path, fields, found):
    with pytest.raises(InputError) as caught:
        read_image(nifti(tmp_path / "a.nii.gz", **fields))
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


# What files are


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
        (gzip.compress(b"<html>login</html>", mtime=0), "a gzip file that holds an HTML page"),
        (b"id,name\n1,a\n" * 100, "text"),
        (b"PK\x03\x04" + bytes(1000), "a ZIP archive"),
        (bytes(128) + b"DICM" + bytes(1000), "a DICOM file"),
        (bytes(1000), "zeros"),
        (gzip.compress(b"a", mtime=0)[:12], "a gzip file that was cut off or damaged"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.NII", "a.mha", "a.nrrd"])
def test_a_file_that_is_something_else_is_told_what_it_is(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    if name != "a.nii.gz" and content.startswith(b"\x1f\x8b"):
        kind = "a gzip file"
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / name)
    assert kind in str(caught.value)


def test_a_nifti_is_read_by_its_content_whether_its_name_says_gz_or_not(tmp_path):
    packed = nifti(tmp_path / "a.nii.gz").rename(tmp_path / "b.nii")
    plain = nifti(tmp_path / "a.nii").rename(tmp_path / "b.nii.gz")
    for path in (packed, plain):
        np.testing.assert_array_equal(read_image(path).voxels, HU)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    import os
    import socket

    os.mkfifo(tmp_path / "pipe.nii.gz")
    (tmp_path / "folder.nrrd").mkdir()
    (tmp_path / "zero.mha").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.nii"))
        for name in ("pipe", "folder", "zero", "socket"):
            (path,) = tmp_path.glob(f"{name}.*")
            with pytest.raises(InputError, match="a device" if name == "zero" else f"a {name}"):
                read_image(path)
            with pytest.raises(InputError, match=path.name):
                info(path)


def test_names_of_any_bytes_are_read(tmp_path):
    for name in (b"\xfc\xff [bold] zarr.json.nii.gz", b"caf\xe9.mha", "肺.nrrd".encode(), b"A B.NII.GZ"):
        path = tmp_path / name.decode("utf-8", "surrogateescape")
        write = {".gz": nifti, ".mha": mha, ".nrrd": nrrd}[path.suffix.lower()]
        np.testing.assert_array_equal(read_image(write(path)).voxels, HU)


# Marks and segments


def test_what_somebody_else_notes_in_a_header_is_no_mark(tmp_path):
    assert read_mark(nifti(tmp_path / "a.nii", descrip=b"FSL5.0")) == ""
    assert read_mark(nifti(tmp_path / "b.nii", descrip=b"SYNTHETIC: made")) == "SYNTHETIC: made"
    assert read_mark(nrrd(tmp_path / "a.nrrd", pairs={"ITK_FileNotes": "SYNTHETIC: made"})) == "SYNTHETIC: made"
    assert read_mark(mha(tmp_path / "a.mha", descrip="SYNTHETIC: made")) == "SYNTHETIC: made"


def layered(path):
    """Two layers of segments that overlap: a lung of 40 voxels and a nodule of 2 in it."""
    layers = np.zeros((3, 4, 5, 2), np.uint8)  # the list axis is the fastest
    layers[:, :, :, 0].flat[:40] = 1
    layers[1, 1, 1:3, 1] = 1
    pairs = {}
    for i, name in enumerate(("right lung", "nodule")):
        pairs |= {f"Segment{i}_ID": f"S{i}", f"Segment{i}_Name": name}
        pairs |= {f"Segment{i}_LabelValue": "1", f"Segment{i}_Layer": str(i)}
    return nrrd(
        path,
        layers.tobytes(),
        pairs=pairs,
        type="unsigned char",
        dimension="4",
        sizes="2 5 4 3",
        kinds="list domain domain domain",
        space_directions="none (0.7,0,0) (0,0.8,0) (0,0,2)",
    )


def test_segments_in_layers_are_read_by_their_names_and_may_overlap(tmp_path):
    found = read_segments(layered(tmp_path / "a.seg.nrrd"))
    assert [segment.name for segment in found.segments] == ["right lung", "nodule"]
    assert [region.voxels for region in found.regions] == [40, 2]
    assert found.regions[1].corner == (1, 1, 1)
    is_placed(found.grid)
    about = info(tmp_path / "a.seg.nrrd")
    assert [(s["name"], s["voxels"]) for s in about["segments"]] == [("right lung", 40), ("nodule", 2)]


def test_segments_of_one_layer_are_told_by_their_values(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, :3], labels[1, 1, :2] = 4, 9
    pairs = {
        "Segment0_Name": "nodule",
        "Segment0_LabelValue": "9",
        "Segment1_Name": "vessel",
        "Segment1_LabelValue": "4",
    }
    path = nrrd(tmp_path / "a.seg.nrrd", labels.tobytes(), type="uint8", pairs=pairs)
    found = read_segments(path)
    assert [(s.name, s.value, r.voxels) for s, r in zip(found.segments, found.regions, strict=True)] == [
        ("nodule", 9, 2),
        ("vessel", 4, 3),
    ]
    np.testing.assert_array_equal(read_image(path).voxels, labels)


def test_several_volumes_that_are_no_segments_are_refused(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", HU.tobytes() * 2, dimension="4", sizes="2 5 4 3", leave=["space directions"])
    with pytest.raises(InputError, match="4 spatial axes"):
        read_image(path)


# Scans


def test_values_that_no_int16_holds_are_cut_and_told(tmp_path):
    voxels = HU.astype(np.float32)
    voxels[0, 0, :2] = -40000, 70000
    scan = read_scan(nifti(tmp_path / "a.nii", voxels))
    assert scan.ct.voxels[0, 0, :3].tolist() == [-32768, 32767, -960]
    assert scan.notes == ("a.nii: 2 voxels below -32768 or above 32767 HU were clipped to these",)


def test_what_a_header_leaves_open_is_among_the_scans_notes(tmp_path):
    assert "no orientation" in read_scan(nifti(tmp_path / "a.nii", sform_code=0, qform_code=0)).notes[0]


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["bool", "u1", ">i2", "u4", "i8", "f4", "f8"])
def test_what_is_written_is_read_alike_by_simpleitk(tmp_path, suffix, dtype):
    import SimpleITK as sitk

    turn = np.array([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, -1.0]])
    written = Volume(
        (HU > 0 if dtype == "bool" else abs(HU) // 4).astype(dtype), (2.5, 0.7, 0.8), (1.5, -2.25, 3), turn
    )
    write_image(tmp_path / f"a{suffix}", written, mark="SYNTHETIC: made")
    found = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), written.voxels)
    np.testing.assert_allclose(found.GetSpacing(), (0.8, 0.7, 2.5), atol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), (1.5, -2.25, 3), atol=1e-6)
    np.testing.assert_allclose(np.reshape(found.GetDirection(), (3, 3)), turn, atol=1e-6)
    assert found.GetMetaData("ITK_FileNotes" if suffix == ".nii.gz" else "SyntheticData") == "SYNTHETIC: made"


@pytest.mark.parametrize("name", [b"caf\xe9", b"a b", b"[bold]", b"%d", b"LIST me", b"a%03d 1 2 3", b"LOCAL", b"-x"])
def test_an_image_of_any_name_is_written_and_comes_back(tmp_path, name):
    for suffix in (b".mha", b".MHD", b".nrrd", b".nii"):
        path = tmp_path / (name + suffix).decode("utf-8", "surrogateescape")
        write_image(path, Volume(HU, (2.0, 0.8, 0.7)))
        np.testing.assert_array_equal(read_image(path).voxels, HU)


def test_scans_of_any_name_become_cases_and_what_is_no_file_is_left_out(tmp_path, capsys):
    import os

    from synthorax.cli import main

    scans = tmp_path / "scans"
    scans.mkdir()
    for name in (b"zarr.json", b"caf\xe9", b"A B", b"[bold]", b"=1+1", b"\x1b[31mred", b"a\nb", "肺".encode()):
        nifti(scans / (name.decode("utf-8", "surrogateescape") + ".nii.gz"))
    os.mkfifo(scans / "pipe.nii.gz")
    (scans / "empty.nii.gz").touch()
    (scans / "loop.nii.gz").symlink_to("loop.nii.gz")
    assert main(["prepare", "scans", str(scans), "--out", str(tmp_path / "store"), "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "8 cases" in said.out
    for name, found in (("pipe", "a pipe"), ("empty", "an empty file"), ("loop", "symbolic links")):
        assert any(f"{name}.nii.gz" in line and found in line for line in (said.out + said.err).splitlines())
    assert "\x1b[31mred" not in said.out + said.err


def test_raw_values_of_a_scanner_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"values from 0 to 2180; .* HU plus 1024: subtract 1024"):
        read_scan(nifti(tmp_path / "a.nii", (HU + 1000).astype(np.uint16) + np.uint16(1000) * (HU > 0)))


def test_normalised_voxels_are_refused_with_what_to_do(tmp_path):
    normalised = ((HU - HU.mean()) / HU.std()).astype(np.float32)
    with pytest.raises(InputError, match="air below -200; values that were scaled or normalised have to be brought"):
        read_scan(nifti(tmp_path / "a.nii", normalised))


def test_a_folder_of_which_no_scan_is_readable_tells_the_first_ones_fault_in_one_sentence(tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    for name in "ab":
        nifti(tmp_path / "scans" / f"{name}.nii", (HU + 1000).astype(np.uint16) + np.uint16(1000) * (HU > 0))
    assert main(["prepare", "scans", f"{tmp_path}/scans", "--out", f"{tmp_path}/store", "--workers", "1"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"found 2 scans, none readable; of the first, .*a\.nii: values from 0 to 2180; expected HU", said)
    assert said.count("expected") == 1
