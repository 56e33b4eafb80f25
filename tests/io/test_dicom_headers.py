"""Header values of scanners and anonymisers, and claimed sizes that exceed the stored data."""

import struct
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.io.dicom import read_ct_series, read_series_files
from synthorax.io.dicom_bounds import MOST_ITEMS
from synthorax.io.dicom_file import read_about, read_header
from synthorax.io.dicom_kept import kept_elements
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.marks import find_marks
from synthorax.provenance import patient_key
from tests.helpers.foreign_files import write_slices

MARK = "SYNTHETIC: for a test"


def raw(keyword, vr, value):
    """A change of a slice: an element with these very bytes."""
    tag = Tag(keyword)

    def change(header, index):
        header[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    return change


ODD = [
    ("KVP", "DS", b"120kV "),
    ("KVP", "DS", b"NaN "),
    ("KVP", "DS", b"80\\140"),
    ("ReconstructionDiameter", "DS", b"360,5 "),
    ("Exposure", "IS", b"NaN "),
    ("Exposure", "IS", b"1.5 "),
    ("PatientBirthDate", "DA", b"anonymous "),
    ("PatientBirthDate", "DA", b"20171345"),
    ("StudyDate", "DA", b"2017-03-17"),
    ("StudyTime", "TM", b"25:61:00"),
    ("PatientSex", "CS", b"male"),
    ("PatientSex", "CS", b"X "),
    ("PatientAge", "AS", b"forty "),
    ("AccessionNumber", "SH", b"an accession number of many letters "),
    ("StudyInstanceUID", "UI", b"study 7\0"),
    ("PatientName", "PN", b"\xcd\xf5\xd0\xa1\xb6\xab"),
    ("StudyDescription", "LO", b"a\x1b[31mb"),
]


@pytest.mark.parametrize(("keyword", "vr", "value"), ODD, ids=lambda v: repr(v)[:20])
def test_a_value_that_may_not_be_written_is_left_out_and_noted_without_the_value(tmp_path, keyword, vr, value):
    source = read_ct_series(write_slices(tmp_path / "in", change=raw(keyword, vr, value)))
    kept, notes = kept_elements(source, keep_identity=True)
    assert keyword not in kept
    assert [note.split()[0] for note in notes] == [keyword]
    assert "anonymous" not in notes[0]
    write_ct_series(tmp_path / "out", source.volume, mark=MARK, source=source, keep_identity=True)
    assert read_ct_series(tmp_path / "out").volume.shape == (4, 6, 5)


@pytest.mark.parametrize(
    ("charset", "stored", "name"),
    [
        ("GB18030", "王小东".encode("gb18030"), "王小东"),
        ("GBK", "王小东".encode("gbk"), "王小东"),
        ("ISO_IR 100", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
        ("ISO_IR 192", "Łukasz".encode(), "Łukasz"),
        ("ISO_IR 144", "Дяя".encode("iso8859_5"), "Дяя"),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "山田^太郎"),
    ],
)
def test_names_of_any_character_set_are_kept_as_they_read(tmp_path, charset, stored, name):
    def change(header, index):
        raw("SpecificCharacterSet", "CS", charset.encode())(header, index)
        raw("PatientName", "PN", stored)(header, index)

    source = read_ct_series(write_slices(tmp_path / "in", change=change))
    write_ct_series(tmp_path / "out", source.volume, mark=MARK, source=source, keep_identity=True)
    assert str(pydicom.dcmread(tmp_path / "out" / "0001.dcm").PatientName) == name


def test_numbers_of_many_digits_and_uids_with_leading_zeros_are_kept(tmp_path):
    def change(header, index):
        raw("ReconstructionDiameter", "DS", b"360.00000000000006")(header, index)
        raw("StudyInstanceUID", "UI", b"1.2.03.4")(header, index)

    source = read_ct_series(write_slices(tmp_path, change=change))
    kept, notes = kept_elements(source, keep_identity=True)
    assert (kept.ReconstructionDiameter, kept.StudyInstanceUID, notes) == (360, "1.2.03.4", ())


@pytest.mark.parametrize(
    ("kind", "noted"), [(None, False), ("HU", False), ("hu ", False), ("US", True), ("HU_MOD", True)]
)
def test_values_that_are_taken_for_hu_are_noted(tmp_path, kind, noted):
    change = None if kind is None else raw("RescaleType", "LO", kind.encode())
    read = read_ct_series(write_slices(tmp_path, change=change))
    assert any("taken for HU" in note for note in read.notes) == noted


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "said"),
    [
        ("RescaleType", "LO", b"Z_EFF ", "RescaleType Z_EFF"),
        ("RescaleSlope", "DS", b"1,0 ", "RescaleSlope '1,0'"),
        ("RescaleSlope", "DS", b"NaN ", "RescaleSlope"),
        ("RescaleIntercept", "DS", b"", "RescaleIntercept missing"),
        ("PixelSpacing", "DS", b"0,7\\0,7 ", r"PixelSpacing '0,7\\0,7'"),
        ("PixelSpacing", "DS", b"", "no PixelSpacing"),
        ("ImagePositionPatient", "DS", b"1\\2 ", "ImagePositionPatient"),
        ("BitsStored", "US", b"\x0c\0", "12 bits of 16, the highest at 15"),
        ("SamplesPerPixel", "US", b"\x03\0", "3 values a pixel"),
    ],
)
def test_a_header_without_which_no_hu_can_be_had_is_named(tmp_path, keyword, vr, value, said):
    write_slices(tmp_path, change=raw(keyword, vr, value))
    with pytest.raises(InputError) as refused:
        read_ct_series(tmp_path)
    assert said.replace("\\\\", "\\") in str(refused.value).replace("\\\\", "\\")
    assert ".dcm: found" in str(refused.value)


def test_values_of_an_unspecified_type_without_air_are_no_ct(tmp_path):
    def change(header, index):
        header.RescaleType, header.RescaleIntercept = "US", 0

    write_slices(tmp_path, change=change)
    with pytest.raises(InputError, match=r"RescaleType is US .*air below -200"):
        read_ct_series(tmp_path)


@pytest.mark.parametrize(("diameter_mm", "is_read"), [(None, True), (3.5, True), (5.0, False)])
def test_the_spacing_of_the_detector_stands_in_unless_the_diameter_contradicts(tmp_path, diameter_mm, is_read):
    def change(header, index):
        del header.PixelSpacing
        header.ImagerPixelSpacing = [0.7, 0.7]
        if diameter_mm:
            header.ReconstructionDiameter = diameter_mm

    write_slices(tmp_path, change=change)
    if is_read:
        read = read_ct_series(tmp_path)
        assert read.volume.spacing_mm[1:] == (0.7, 0.7)
        assert "ImagerPixelSpacing" in read.notes[0]
    else:
        with pytest.raises(InputError, match="diameter gives 1 mm"):
            read_ct_series(tmp_path)


def test_padding_that_pixels_of_eight_bits_cannot_hold_leaves_them_alone(tmp_path):
    def change(header, index):
        header.BitsAllocated = header.BitsStored = 8
        header.HighBit, header.PixelRepresentation = 7, 0
        header.PixelData = np.full((6, 5), 48, np.uint8).tobytes()
        header.add_new("PixelPaddingValue", "SS", -2000)  # which is 48 in eight bits

    voxels = read_ct_series(write_slices(tmp_path, change=change)).volume.voxels
    assert (voxels == 48 - 1024).all()
    assert AIR_HU != 48 - 1024


def test_an_identity_that_the_source_does_not_have_is_not_kept(tmp_path):
    def change(header, index):
        header.PatientID = header.StudyInstanceUID = ""

    source = read_ct_series(write_slices(tmp_path / "in", change=change))
    header = write_ct_series(tmp_path / "out", source.volume, mark=MARK, source=source, keep_identity=True)[0]
    assert header.PatientID == f"SYNTHETIC-{patient_key(source.series_uid)}"
    assert header.StudyInstanceUID.startswith("1.2.826.")


def test_an_element_of_a_type_that_does_not_exist_is_empty(tmp_path):
    write_slices(tmp_path, change=raw("PatientBirthDate", "DA", b""))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\x10\0\x30\0DA\0\0", b"\x10\0\x30\0D\xbc\0\0"))
    assert read_about(tmp_path / "0001.dcm").birth_date == ""
    assert read_ct_series(tmp_path).volume.shape == (4, 6, 5)


# Whose it is


def test_what_is_made_of_one_study_is_one_patients_and_lies_together(tmp_path):
    source = read_ct_series(write_slices(tmp_path / "in"))
    headers = []
    for i in range(2):
        changed = source.volume.voxels.copy()
        changed[0, 0, 0] = i
        volume = type(source.volume)(changed, source.volume.spacing_mm, source.volume.origin_mm)
        headers.append(write_ct_series(tmp_path / str(i), volume, mark=MARK, source=source)[0])
    one, other = headers
    assert one.PatientID == other.PatientID == f"SYNTHETIC-{patient_key('P1')}"
    assert one.PatientName == other.PatientName
    assert one.StudyInstanceUID == other.StudyInstanceUID != source.study_uid
    assert one.FrameOfReferenceUID == other.FrameOfReferenceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID
    again = read_ct_series(tmp_path / "0")
    third = write_ct_series(tmp_path / "third", again.volume, mark=MARK, source=again)[0]
    assert third.PatientID == one.PatientID


# Claims


def compressed(syntax, frame, **elements):
    def change(header, index):
        header.file_meta.TransferSyntaxUID = syntax
        header.PixelData = encapsulate([frame])
        header["PixelData"].is_undefined_length = True
        for name, value in elements.items():
            setattr(header, name, value)

    return change


def test_a_jpeg_2000_picture_that_is_larger_than_its_header_says_is_not_decoded(tmp_path):
    size = struct.pack(">HHHH8IH", 0xFF4F, 0xFF51, 41, 0, 40_000, 40_000, 0, 0, 40_000, 40_000, 0, 0, 1)
    write_slices(tmp_path, change=compressed(JPEG2000Lossless, size + bytes(64)))
    with pytest.raises(InputError, match="a compressed picture of 40000 x 40000 pixels; expected 6 x 5"):
        read_ct_series(tmp_path)


@pytest.mark.parametrize(("tile", "colours"), [(6, 16_000), (1, 1)])
def test_a_jpeg_2000_picture_of_many_colours_or_tiles_is_not_decoded(tmp_path, tile, colours):
    size = struct.pack(">HHHH8IH", 0xFF4F, 0xFF51, 41, 0, 512, 512, 0, 0, tile, tile, 0, 0, colours)
    write_slices(tmp_path, change=compressed(JPEG2000Lossless, size + bytes(64), Rows=512, Columns=512))
    with pytest.raises(InputError, match=f"a JPEG 2000 picture of {colours} colours"):
        read_ct_series(tmp_path)


def test_runs_that_are_longer_than_the_slice_are_not_decoded(tmp_path):
    write_slices(tmp_path, change=compressed(RLELossless, b"\x81\0" * 100_000))
    with pytest.raises(InputError, match="200000 compressed bytes for a slice of 60"):
        read_ct_series(tmp_path)


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"Rows": 4096, "Columns": 4096}, "bytes of pixels; the file was cut off"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000 x 60000 pixels"),
    ],
)
def test_pixels_that_are_claimed_and_not_stored_are_refused(tmp_path, elements, said):
    write_slices(tmp_path, change=lambda d, i: [setattr(d, *item) for item in elements.items()])
    with pytest.raises(InputError, match=said):
        read_ct_series(tmp_path)


def deflate(file, more=0):
    """Store a slice deflated, with so many zeros in a private element before its pixels."""
    header = pydicom.dcmread(file)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if more:
        header.add_new(0x00091001, "OB", bytes(more))
    header.save_as(file, enforce_file_format=True)


def test_deflated_slices_are_inflated_within_bounds(tmp_path):
    whole = read_ct_series(write_slices(tmp_path)).volume.voxels
    for file in tmp_path.iterdir():
        deflate(file)
    np.testing.assert_array_equal(read_ct_series(tmp_path).volume.voxels, whole)
    deflate(tmp_path / "0002.dcm", more=2**26)
    with pytest.raises(InputError, match="inflate to more than"):
        read_series_files(sorted(tmp_path.iterdir()))


def test_a_header_of_a_million_empty_items_is_refused_before_they_become_objects(tmp_path):
    write_slices(tmp_path)
    content = (tmp_path / "0001.dcm").read_bytes()
    start = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * (MOST_ITEMS + 1)
    at = content.index(b"\x08\0\x60\0CS")
    (tmp_path / "0001.dcm").write_bytes(content[:at] + start + b"\xfe\xff\xdd\xe0\0\0\0\0" + content[at:])
    with pytest.raises(InputError, match="sequence items"):
        read_header(tmp_path / "0001.dcm")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.102"])
def test_a_syntax_that_cannot_be_decoded_is_named_with_a_way_on(tmp_path, syntax):
    write_slices(tmp_path, change=compressed(syntax, bytes(8)))
    with pytest.raises(InputError, match=r"the transfer syntax .*gdcmconv --raw"):
        read_ct_series(tmp_path)


# The mark


@pytest.mark.parametrize("keyword", ["DerivationDescription", "ImageComments", "SeriesDescription"])
def test_the_mark_is_found_in_texts_that_other_programs_keep(tmp_path, keyword):
    write_slices(tmp_path, change=lambda d, i: setattr(d, keyword, MARK))
    assert [mark.text for mark in find_marks(tmp_path)] == [MARK]
    assert read_ct_series(tmp_path).mark == MARK


def test_the_mark_is_found_in_what_frames_share(tmp_path):
    shared = Dataset()
    shared.UnassignedSharedConvertedAttributesSequence = [Dataset()]
    shared.UnassignedSharedConvertedAttributesSequence[0].ImageComments = MARK
    write_slices(tmp_path, change=lambda d, i: setattr(d, "SharedFunctionalGroupsSequence", [shared]))
    assert find_marks(tmp_path)[0].text == MARK


def test_a_folder_with_a_damaged_file_is_synthetic_in_part(tmp_path):
    write_slices(tmp_path, change=lambda d, i: setattr(d, "ImageComments", MARK))
    whole = (tmp_path / "0001.dcm").read_bytes()
    (tmp_path / "0001.dcm").write_bytes(whole[:132] + zlib.compress(whole))
    (found,) = find_marks(tmp_path)
    assert found.partly
    assert found.place.startswith("3 of 4 files")
