"""Which DICOM files form a series, which are skipped with a note, and how multi-frame CT is read."""

import os
import shutil

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from synthorax import api
from synthorax.errors import InputError
from synthorax.io.dicom import choose_series, find_series, read_ct_series, read_series_files
from synthorax.io.scans import read_scan
from synthorax.io.walk import survey
from tests.helpers.foreign_files import bare, write_slices

# One series or several


@pytest.mark.parametrize("uid", ["", "1.2.3.4", None])
@pytest.mark.parametrize("low_mm", [101, 108, 100])
@pytest.mark.parametrize("other", [{"PatientID": "P2"}, {"PatientName": "Two^Person"}, {"SeriesNumber": 4}])
def test_two_patients_are_two_scans_whatever_their_series_uids_say(tmp_path, uid, low_mm, other):
    for folder, seed, elements in (("a", 0, {}), ("b", 1, other)):
        change = (lambda d, i: delattr(d, "SeriesInstanceUID")) if uid is None else None
        low = 100 if folder == "a" else low_mm
        write_slices(tmp_path / folder, low_mm=low, seed=seed, change=change, SeriesInstanceUID=uid or "", **elements)
    found = find_series(tmp_path)
    assert [len(series.files) for series in found] == [4, 4]
    assert [read_series_files(series.files).volume.shape for series in found] == [(4, 6, 5)] * 2
    with pytest.raises(InputError, match="2 series"):
        read_ct_series(tmp_path)


def test_two_patients_in_one_folder_are_named_where_they_are_read_as_one(tmp_path):
    write_slices(tmp_path)
    write_slices(tmp_path, first=5, low_mm=108, PatientID="P2")
    assert [series.patient_id for series in find_series(tmp_path)] == ["P1", "P2"]
    with pytest.raises(InputError, match=r"PatientID P1 in 0001.dcm, P2 in 0005.dcm"):
        read_series_files(sorted(tmp_path.iterdir()))


@pytest.mark.parametrize("low_mm", [101, 108])
def test_scans_that_only_their_folders_tell_apart_are_not_woven(tmp_path, low_mm):
    for folder, low in (("a", 100), ("b", low_mm)):
        write_slices(tmp_path / folder, low_mm=low, seed=low_mm)
    assert [len(series.files) for series in find_series(tmp_path)] == [4, 4]


def test_in_one_folder_they_are_refused_because_their_numbers_are_double(tmp_path):
    write_slices(tmp_path, SeriesInstanceUID="", PatientID="")
    write_slices(tmp_path / "b", low_mm=101, SeriesInstanceUID="", PatientID="")
    for file in (tmp_path / "b").iterdir():
        file.rename(tmp_path / f"b{file.name}")
    with pytest.raises(InputError, match="4 of 4 instance numbers twice"):
        read_ct_series(tmp_path)


def test_a_series_that_continues_in_another_folder_is_one(tmp_path):
    write_slices(tmp_path / "a")
    write_slices(tmp_path / "b", first=5, low_mm=108)
    assert read_ct_series(tmp_path).volume.shape == (8, 6, 5)


def test_copies_in_another_folder_are_no_second_scan_and_are_told(tmp_path):
    write_slices(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    found = find_series(tmp_path)
    assert len(found) == 1
    assert {file.parent.name for file, _ in found.left_out} == {"b"}
    assert read_ct_series(tmp_path).notes == ("left out: 4 x a copy of a file in another folder",)


def test_the_same_uids_with_other_pixels_are_another_scan(tmp_path):
    write_slices(tmp_path / "a", change=lambda d, i: setattr(d, "SOPInstanceUID", f"1.2.{i}"))
    write_slices(tmp_path / "b", change=lambda d, i: setattr(d, "SOPInstanceUID", f"1.2.{i}"), seed=7)
    assert [series.part for series in find_series(tmp_path)] == [1, 2]
    assert read_ct_series(tmp_path, "1.2.3.4#2").volume.shape == (4, 6, 5)


def test_slices_turned_another_way_are_a_series_of_their_own(tmp_path):
    write_slices(tmp_path)
    turned = {"first": 11, "change": lambda d, i: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1])}
    write_slices(tmp_path, **turned)
    assert [(len(series.files), series.apart) for series in find_series(tmp_path)] == [
        (4, ""),
        (4, "another orientation"),
    ]


def test_rounded_orientations_are_one(tmp_path):
    write_slices(
        tmp_path, change=lambda d, i: setattr(d, "ImageOrientationPatient", [1, 0.0004999 + i / 1e6, 0, 0, 1, 0])
    )
    assert len(find_series(tmp_path)) == 1


def test_a_slice_stands_for_the_series_that_it_is_of(tmp_path):
    write_slices(tmp_path)
    write_slices(tmp_path, first=5, low_mm=108, PatientID="P2", count=3)
    assert read_scan(tmp_path / "0006.dcm").patient_id == "P2"
    assert read_scan(tmp_path / "0006.dcm").ct.shape == (3, 6, 5)


# Passed over


SPOILT = {
    "an empty file": lambda file: file.write_bytes(b""),
    "zeros": lambda file: file.write_bytes(bytes(100)),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:400]),
    "HTML page": lambda file: file.write_text("<html>not found</html>"),
    "bzip2": lambda file: file.write_bytes(b"BZh91AY&SY"),
}


@pytest.mark.parametrize("reason", SPOILT)
def test_a_slice_that_cannot_be_read_is_told_with_its_reason_and_noted_without_its_name(tmp_path, reason):
    write_slices(tmp_path, count=5)
    SPOILT[reason](tmp_path / "0005.dcm")
    ((file, why),) = find_series(tmp_path).left_out
    assert file.name == "0005.dcm"
    assert reason in why
    read = read_ct_series(tmp_path)
    assert read.volume.shape == (4, 6, 5)
    assert read.left_out == ((file, why),)
    assert reason in " ".join(read.notes)
    assert "0005" not in " ".join(read.notes)
    assert "0005.dcm" in str(api.info(tmp_path)["left_out"])


def test_a_hole_in_the_stack_names_the_file_that_was_passed_over(tmp_path):
    write_slices(tmp_path, count=5)
    (tmp_path / "0003.dcm").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 slice missing.*left out beside it: 0003.dcm \(an empty file\)"):
        read_ct_series(tmp_path)


def test_slices_without_preamble_are_read(tmp_path):
    whole = read_ct_series(write_slices(tmp_path)).volume.voxels
    for file in tmp_path.iterdir():
        bare(file)
    np.testing.assert_array_equal(read_ct_series(tmp_path).volume.voxels, whole)
    assert read_scan(tmp_path / "0001.dcm").patient_id == "P1"


def test_what_is_meant_for_something_else_is_not_told(tmp_path):
    write_slices(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "LICENSE").write_text("x")
    assert not find_series(tmp_path).left_out


def test_pipes_links_to_nothing_and_closed_folders_are_told_and_never_opened(tmp_path, monkeypatch):
    write_slices(tmp_path)
    os.mkfifo(tmp_path / "0005.dcm")
    (tmp_path / "0006.dcm").symlink_to(tmp_path / "gone")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert {path.name: why for path, why in survey(tmp_path).left_out} == {
        "0005.dcm": "a pipe",
        "0006.dcm": "a link to nothing",
        "closed": "a folder that cannot be listed (Permission denied)",
    }
    assert read_ct_series(tmp_path).volume.shape == (4, 6, 5)
    for verb in (api.verify, read_ct_series):
        with pytest.raises(InputError, match="a pipe"):
            verb(tmp_path / "0005.dcm")


def test_a_file_that_may_not_be_read_is_told_and_leaves_the_mark_unknown(tmp_path, monkeypatch):
    write_slices(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("0004.dcm"))
    assert find_series(tmp_path).left_out == (
        (tmp_path / "0004.dcm", "a file that cannot be read (permission denied)"),
    )
    with pytest.raises(InputError, match=r"0004.dcm: found a file or folder that cannot be read"):
        api.verify(tmp_path)


def test_a_ct_image_that_does_not_say_its_modality_is_ct(tmp_path):
    write_slices(tmp_path, change=lambda d, i: delattr(d, "Modality"))
    assert choose_series(tmp_path).modality == "CT"


# Multi-frame


def enhanced(path, order, *, shared_slope=True, turned=False):
    """An Enhanced CT of 5 frames whose order in the file is given; frame k lies at 2 k mm and holds the value k."""
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    d.Modality, d.PatientID, d.SeriesInstanceUID, d.StudyInstanceUID = "CT", "P1", "1.2.3.4", "1.2.3"
    d.Rows, d.Columns, d.NumberOfFrames, d.SamplesPerPixel = 6, 5, len(order), 1
    d.PhotometricInterpretation, d.BitsAllocated, d.BitsStored, d.HighBit = "MONOCHROME2", 16, 16, 15
    d.PixelRepresentation = 1
    d.PixelData = np.stack([np.full((6, 5), k) for k in order]).astype("<i2").tobytes()
    shared, per_frame = Dataset(), []
    measures, plane, scale, beam = (Dataset() for _ in range(4))
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 2
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -1000, "HU"
    beam.KVP = 120
    shared.PixelMeasuresSequence, shared.CTXRayDetailsSequence = Sequence([measures]), Sequence([beam])
    for n, k in enumerate(order):
        own, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2 * k]
        own.PlanePositionSequence = Sequence([position])
        axes, rescale = Dataset(), Dataset()
        axes.ImageOrientationPatient = [1, 0, 0, 0, 0, -1] if turned and n == 0 else [1, 0, 0, 0, 1, 0]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -1000 - k, "HU"
        own.PlaneOrientationSequence = Sequence([axes])
        if not shared_slope:
            own.PixelValueTransformationSequence = Sequence([rescale])
        per_frame.append(own)
    if shared_slope:
        shared.PixelValueTransformationSequence = Sequence([scale])
    d.SharedFunctionalGroupsSequence, d.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(per_frame)
    d.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("shared_slope", [True, False])
def test_frames_of_an_enhanced_ct_lie_where_each_says_with_its_own_rescale(tmp_path, shared_slope):
    enhanced(tmp_path / "a.dcm", [3, 0, 4, 1, 2], shared_slope=shared_slope)
    read = read_ct_series(tmp_path)
    assert read.volume.shape == (5, 6, 5)
    assert read.volume.spacing_mm == (2, 1, 1)
    wanted = [k - 1000 if shared_slope else 2 * k - 1000 - k for k in range(5)]
    assert read.volume.voxels[:, 0, 0].tolist() == wanted
    assert read.header.KVP == 120
    assert api.info(tmp_path / "a.dcm")["shape_zyx"] == [5, 6, 5]


def test_an_enhanced_ct_with_frames_at_one_place_or_turned_is_refused_by_frame(tmp_path):
    enhanced(tmp_path / "double.dcm", [0, 1, 2, 2])
    enhanced(tmp_path / "turned.dcm", [0, 1, 2, 3], turned=True)
    with pytest.raises(InputError, match=r"frame 3 of double.dcm and frame 4 of double.dcm"):
        read_series_files([tmp_path / "double.dcm"])
    with pytest.raises(InputError, match=r"frame 2 of turned.dcm with another orientation"):
        read_series_files([tmp_path / "turned.dcm"])
