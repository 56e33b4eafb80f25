"""CT series in and out as DICOM, segmentations, structure sets, and the synthetic mark."""

import locale
import random
import shutil
import subprocess
import warnings
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from scipy.spatial.transform import Rotation

from synthorax import api
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.io.dicom import choose_series, find_series, is_dicom, read_ct_series
from synthorax.io.dicom_masks import read_masks
from synthorax.io.dicom_out import write_ct_series, write_segmentation
from synthorax.io.marks import find_marks
from synthorax.io.scans import read_scan, write_scan
from synthorax.volume import Volume
from tests.helpers.foreign_files import edit, square, write_contours

MARK = "SYNTHETIC: for a test"


def volume(shape=(6, 10, 12), spacing_mm=(2.5, 0.7, 0.7), origin_mm=(-100.5, 20.25, 311.0), direction=None):
    voxels = np.random.default_rng(0).integers(-1024, 2000, shape).astype(np.int16)
    return Volume(voxels, spacing_mm, origin_mm, np.eye(3) if direction is None else direction)


@pytest.fixture
def series(tmp_path):
    """A CT series on disk, its files in the order of the slices."""
    write_ct_series(tmp_path / "ct", volume(), mark=None)
    (tmp_path / "ct" / ".synthorax").unlink()
    return tmp_path / "ct"


def compress_by_gdcm(file, kind):
    """Write a file again, compressed. ITK's writer sets the process' locale, which is put back."""
    before = locale.setlocale(locale.LC_ALL)
    image = sitk.ReadImage(str(file))
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(True)
    writer.SetCompressor(kind)
    writer.SetFileName(str(file))
    writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)


@given(
    rotation=st.tuples(*[st.floats(-3, 3)] * 3),
    mirror=st.booleans(),
    spacing_mm=st.tuples(*[st.floats(0.3, 5)] * 3),
    origin_mm=st.tuples(*[st.floats(-500, 500)] * 3),
)
@settings(max_examples=25)
def test_every_voxel_comes_back_at_its_millimetre(tmp_path_factory, rotation, mirror, spacing_mm, origin_mm):
    direction = Rotation.from_euler("xyz", rotation).as_matrix() * ([1, 1, -1] if mirror else [1, 1, 1])
    given_ = volume((4, 5, 6), spacing_mm, origin_mm, direction)
    folder = tmp_path_factory.mktemp("ct")
    write_ct_series(folder, given_, mark=None)
    found = read_ct_series(folder).volume
    # A mirrored stack comes back turned round: a series runs along the normal of its slices.
    order = slice(None, None, -1) if mirror else slice(None)
    np.testing.assert_array_equal(found.voxels, given_.voxels[order])
    corners = np.array([[0, 0, 0], [3, 4, 5]])
    theirs = corners.copy()
    if mirror:
        theirs[:, 0] = 3 - theirs[:, 0]
    np.testing.assert_allclose(found.to_world(theirs), given_.to_world(corners), atol=1e-3)


def test_slices_are_sorted_by_place_and_not_by_name(series):
    before = read_ct_series(series).volume
    names = [f"{i}.dcm" for i in random.Random(0).sample(range(100, 999), 6)]
    for file, name in zip(sorted(series.iterdir()), names, strict=True):
        file.rename(series / name)
    after = read_ct_series(series).volume
    np.testing.assert_array_equal(after.voxels, before.voxels)
    np.testing.assert_array_equal(after.affine, before.affine)


def test_gdcm_reads_the_same_voxels_and_places(series):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    ours = read_ct_series(series).volume
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), ours.voxels)
    np.testing.assert_allclose(image.GetOrigin(), ours.origin_mm)
    np.testing.assert_allclose(image.GetSpacing(), ours.spacing_mm[::-1])


def test_each_slice_is_rescaled_by_its_own_numbers(series):
    before = read_ct_series(series).volume.voxels
    edit(series / "0003.dcm", RescaleSlope=2, RescaleIntercept=-7.4)
    after = read_ct_series(series).volume.voxels
    np.testing.assert_array_equal(after[2], np.rint(before[2].astype(float) * 2 - 7.4))
    np.testing.assert_array_equal(np.delete(after, 2, 0), np.delete(before, 2, 0))


@pytest.mark.parametrize("signed", [0, 1])
def test_padding_is_air_whether_pixels_are_signed_or_not(series, signed):
    for file in series.iterdir():
        header = pydicom.dcmread(file)
        stored = np.full((10, 12), 900, np.uint16)
        stored[0] = 63536 if signed else 4095
        header.PixelData, header.PixelRepresentation = stored.tobytes(), signed
        header.RescaleIntercept = -1024
        header.add_new("PixelPaddingValue", "US", int(stored[0, 0]))
        header.save_as(file)
    found = read_ct_series(series).volume.voxels
    assert (found[:, 0] == AIR_HU).all()
    assert (found[:, 1:] == 900 - 1024).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_slices_are_decoded(series, syntax):
    before = read_ct_series(series).volume.voxels
    for file in series.iterdir():
        header = pydicom.dcmread(file)
        if syntax == JPEG2000Lossless:  # pydicom has no encoder of it here
            compress_by_gdcm(file, "JPEG2000")
        else:
            header.compress(syntax)
            header.save_as(file)
    assert pydicom.dcmread(next(series.iterdir())).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_ct_series(series).volume.voxels, before)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("a missing slice", lambda s: (s / "0003.dcm").unlink(), "1 slice missing between 0002.dcm"),
        ("two missing", lambda s: [(s / f"000{i}.dcm").unlink() for i in (3, 4)], "2 slices missing between 0002.dcm"),
        (
            "an uneven slice",
            lambda s: edit(s / "0003.dcm", ImagePositionPatient=[-100.5, 20.25, 316.9]),
            "uneven slices: 3.4 mm instead of 2.5",
        ),
        (
            "two at one place",
            lambda s: edit(s / "0003.dcm", ImagePositionPatient=[-100.5, 20.25, 313.5]),
            "two slices at one position: 0002.dcm and 0003.dcm",
        ),
        (
            "a tilt",
            lambda s: [edit(s / f"000{i}.dcm", ImagePositionPatient=[0, i / 2, 2.5 * i]) for i in range(1, 7)],
            "a gantry tilt of 11.3 degrees",
        ),
        ("an MR", lambda s: [edit(f, Modality="MR") for f in s.iterdir()], "MR"),
        ("no rescale", lambda s: edit(s / "0002.dcm", RescaleSlope=None), "0002.dcm: found no rescale to HU"),
        ("a rescale to nothing", lambda s: edit(s / "0002.dcm", RescaleSlope=0), "0002.dcm: found a rescale"),
        ("another unit", lambda s: edit(s / "0002.dcm", RescaleType="OD"), "no rescale to HU"),
        ("no position", lambda s: edit(s / "0002.dcm", ImagePositionPatient=None), "0002.dcm: found no ImagePosition"),
        ("another turn", lambda s: edit(s / "0002.dcm", ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), "orientation"),
        ("no axes", lambda s: edit(s / "0001.dcm", ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "orthogonal"),
        ("another spacing", lambda s: edit(s / "0002.dcm", PixelSpacing=[0.8, 0.8]), "another pixel spacing"),
        ("no spacing", lambda s: [edit(f, PixelSpacing=[0, 0]) for f in s.iterdir()], "positive millimetres"),
        ("frames", lambda s: edit(s / "0002.dcm", NumberOfFrames=3), "3 frames"),
        ("huge slices", lambda s: [edit(f, Rows=60000, Columns=60000) for f in s.iterdir()], "60000 x 60000 pixels"),
        (
            "a slice cut in its header",
            lambda s: (s / "0003.dcm").write_bytes((s / "0003.dcm").read_bytes()[:400]),
            "left out beside it: 0003.dcm",
        ),
        ("one slice", lambda s: [(s / f"000{i}.dcm").unlink() for i in range(2, 7)], "1 CT slice"),
        ("nothing", lambda s: shutil.rmtree(s) or s.mkdir(), "no DICOM file"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_series_that_cannot_be_trusted_is_refused_with_its_reason(series, name, change, said):
    change(series)
    with pytest.raises(InputError) as refused:
        read_scan(series)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_copy_of_a_slice_and_a_localizer_are_left_out_and_noted(series):
    shutil.copy(series / "0002.dcm", series / "copy.dcm")
    shutil.copy(series / "0001.dcm", series / "scout.dcm")
    edit(
        series / "scout.dcm",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        SOPInstanceUID="1.2.3",
    )
    found = read_ct_series(series)
    assert found.volume.shape == (6, 10, 12)
    assert any("localizer" in note for note in found.notes)
    assert any("copy" in note for note in found.notes)


def test_of_several_series_one_is_chosen_by_the_end_of_its_uid(series, tmp_path):
    write_ct_series(tmp_path / "ct" / "second", volume((5, 8, 8)), mark=None, description="thin")
    found = find_series(series)
    assert [len(s.files) for s in sorted(found, key=lambda s: len(s.files))] == [5, 6]
    with pytest.raises(InputError, match="2 series") as refused:
        choose_series(series)
    assert all(s.uid in str(refused.value) for s in found)
    assert "thin" in str(refused.value)
    five = next(s for s in found if len(s.files) == 5)
    assert read_ct_series(series, five.uid[-8:]).volume.shape == (5, 8, 8)
    with pytest.raises(InputError, match="ends in 77777777"):
        choose_series(series, "77777777")


def test_a_slice_names_its_series_where_a_folder_has_several(series, tmp_path):
    write_ct_series(series / "second", volume((5, 8, 8)), mark=None)
    assert read_scan(series / "0001.dcm").ct.shape == (6, 10, 12)


def test_axes_that_were_rounded_are_made_orthonormal(series):
    for file in series.iterdir():
        edit(file, ImageOrientationPatient=[0.9999, 0.0141, 0, -0.0142, 0.9996, 0])
        edit(file, ImagePositionPatient=[0, 0, 2.5 * int(file.stem)])
    direction = read_ct_series(series).volume.direction
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)


def test_what_is_no_dicom_in_a_folder_is_passed_over(series):
    (series / "notes.txt").write_text("not a slice")
    (series / "DICOMDIR").write_bytes(b"")
    assert read_ct_series(series).volume.shape == (6, 10, 12)
    assert not is_dicom(series / "notes.txt")


# Written series


def test_the_same_volume_gives_the_same_bytes_and_another_seed_other_uids(tmp_path):
    for name, mark in (("a", MARK), ("b", MARK), ("c", MARK + " s2")):
        write_ct_series(tmp_path / name, volume(), mark=mark)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    uids = {str(pydicom.dcmread(tmp_path / n / "0001.dcm").SeriesInstanceUID) for n in "abc"}
    assert len(uids) == 2


def test_a_written_series_says_that_it_is_synthetic_and_whose_it_is_not(tmp_path, real_data):
    source = read_ct_series(real_data / "lidc-scans" / "LIDC-IDRI-0001")
    write_ct_series(tmp_path / "ct", source.volume, mark=MARK, source=source)
    header = pydicom.dcmread(tmp_path / "ct" / "0001.dcm")
    assert header.SyntheticData == "YES"
    assert list(header.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert header.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert header.KVP == 120
    whole = str(header)
    for element in source.header.iterall():
        if element.keyword in (
            "PatientID",
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "SOPInstanceUID",
            "AccessionNumber",
        ):
            assert str(element.value) not in whole
    assert find_marks(tmp_path / "ct" / "0001.dcm")[0].text == MARK
    assert not find_marks(real_data / "lidc-scans" / "LIDC-IDRI-0001")


def test_a_kept_identity_has_uids_of_its_own(tmp_path, series):
    source = read_ct_series(series)
    made = [
        write_ct_series(tmp_path / name, source.volume, mark=MARK, source=source, keep_identity=name == "kept")
        for name in ("kept", "replaced")
    ]
    assert made[0][0].SOPInstanceUID != made[1][0].SOPInstanceUID


def test_a_mark_is_found_behind_other_equipment(tmp_path, series):
    file = series / "0001.dcm"
    header = pydicom.dcmread(file)
    other = Dataset()
    other.ContributionDescription = "reconstructed"
    header.SyntheticData, header.ContributingEquipmentSequence = "YES", [other]
    header.save_as(file)
    assert find_marks(file)[0].text == "SyntheticData YES"
    assert find_marks(series)[0].partly


def test_identity_is_kept_only_on_demand(tmp_path, real_data):
    source = read_ct_series(real_data / "lidc-scans" / "LIDC-IDRI-0001")
    write_ct_series(tmp_path / "ct", source.volume, mark=MARK, source=source, keep_identity=True)
    header = pydicom.dcmread(tmp_path / "ct" / "0001.dcm")
    assert header.PatientID == "LIDC-IDRI-0001"
    assert header.StudyInstanceUID == source.study_uid
    assert header.SeriesInstanceUID != source.series_uid
    assert header.SyntheticData == "YES"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_an_independent_checker_finds_no_error_in_what_is_written(tmp_path):
    given_ = volume()
    labels = np.zeros(given_.shape, np.uint8)
    labels[2:4, 3:6, 3:6] = 1
    headers = write_ct_series(tmp_path / "ct", given_, mark=MARK)
    write_segmentation(tmp_path / "seg.dcm", replace(given_, voxels=labels), headers, ["nodule"], mark=MARK)
    for file in (tmp_path / "ct" / "0001.dcm", tmp_path / "seg.dcm"):
        said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False).stderr
        errors = [line for line in said.splitlines() if "Error" in line and "0x0008,0x001c" not in line]
        assert not errors  # (0008,001C) Synthetic Data is younger than some checkers


def test_a_folder_of_somebody_else_is_not_written_into(series):
    with pytest.raises(InputError, match="not empty"):
        write_ct_series(series, volume(), mark=MARK, overwrite=True)
    assert len(list(series.iterdir())) == 6


# Masks


def ball(scan, center, radius_mm):
    z, y, x = np.meshgrid(*[np.arange(n) for n in scan.shape], indexing="ij")
    gap = scan.to_world(np.stack([z, y, x], -1)) - scan.to_world(center)
    return (gap**2).sum(-1) <= radius_mm**2


@pytest.mark.parametrize("turned", [False, True])
def test_a_segmentation_comes_back_on_the_voxels_it_was_made_on(tmp_path, turned):
    direction = Rotation.from_euler("xyz", [0.3, -0.2, 0.5]).as_matrix() if turned else None
    scan = volume((12, 30, 32), (2.0, 0.8, 0.8), direction=direction)
    labels = ball(scan, (3, 10, 10), 4) * 1 + ball(scan, (8, 20, 20), 4) * 2
    headers = write_ct_series(tmp_path / "ct", scan, mark=MARK)
    write_segmentation(
        tmp_path / "seg.dcm", replace(scan, voxels=labels.astype(np.uint8)), headers, ["one", "two"], mark=MARK
    )
    found, names = read_masks(tmp_path / "seg.dcm", read_ct_series(tmp_path / "ct").volume)
    assert names == ["one", "two"]
    np.testing.assert_array_equal(found.voxels, labels)
    assert find_marks(tmp_path / "seg.dcm")[0].text == MARK


def structure_set(path, scan, contours):
    """An RTSTRUCT of one structure: contours [n, (z, y, x)] of voxel indices; it names no image."""
    slices = write_ct_series(path.with_suffix(""), scan, mark=None)
    write_contours(path, slices, [("Nodule left", [scan.to_world(points) for points in contours])], images=False)


def test_contours_are_painted_in_their_slices_and_inner_ones_are_holes(tmp_path):
    scan = volume((6, 30, 32))
    structure_set(tmp_path / "rt.dcm", scan, [square(2, 4.5, 14.5), square(2, 7.5, 10.5), square(3, 4.5, 8.5)])
    found, names = read_masks(tmp_path / "rt.dcm", scan)
    assert names == ["Nodule left"]
    wanted = np.zeros(scan.shape, bool)
    wanted[2, 5:15, 5:15] = True
    wanted[2, 8:11, 8:11] = False
    wanted[3, 5:9, 5:9] = True
    np.testing.assert_array_equal(found.voxels > 0, wanted)


def test_planes_between_slices_go_to_the_nearest_and_never_cancel_each_other(tmp_path):
    scan = volume((12, 30, 32))
    planes = [square(3.0, 4.5, 14.5), square(3.4, 5.5, 13.5), square(8, 4.5, 14.5), square(10, 4.5, 14.5)]
    structure_set(tmp_path / "rt.dcm", scan, planes[:2])
    assert (read_masks(tmp_path / "rt.dcm", scan)[0].voxels[3] > 0).sum() == 100
    structure_set(tmp_path / "sparse.dcm", scan, [square(z, 4.5, 14.5) for z in (2, 4, 6)])
    assert np.unique(np.nonzero(read_masks(tmp_path / "sparse.dcm", scan)[0].voxels)[0]).tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    ]


def test_contours_across_slices_or_outside_the_scan_are_refused(tmp_path):
    scan = volume((6, 30, 32))
    across = square(2, 4.5, 14.5)
    across[2:, 0] = 4
    structure_set(tmp_path / "across.dcm", scan, [across])
    structure_set(tmp_path / "outside.dcm", scan, [square(20, 4.5, 14.5)])
    for name, said in (("across", "across the slices"), ("outside", "no voxel of the scan")):
        with pytest.raises(InputError, match=said):
            read_masks(tmp_path / f"{name}.dcm", scan)


def test_a_ct_slice_is_no_mask(series):
    with pytest.raises(InputError, match="modality CT"):
        read_masks(series / "0001.dcm", volume())


def test_a_damaged_segmentation_is_refused_in_one_line(tmp_path):
    scan = volume()
    headers = write_ct_series(tmp_path / "ct", scan, mark=MARK)
    labels = replace(scan, voxels=ball(scan, (3, 5, 5), 3).astype(np.uint8))
    write_segmentation(tmp_path / "seg.dcm", labels, headers, ["one"], mark=MARK)
    edit(tmp_path / "seg.dcm", SegmentSequence=None)
    with pytest.raises(InputError, match="no readable segmentation"):
        read_masks(tmp_path / "seg.dcm", scan)


def test_a_segmentation_of_another_number_of_slices_or_names_is_not_written(tmp_path):
    scan = volume()
    headers = write_ct_series(tmp_path / "ct", scan, mark=MARK)
    labels = replace(scan, voxels=np.full(scan.shape, 2, np.uint8))
    for series_, names in ((headers[:-1], ["a", "b"]), (headers, ["a"])):
        with pytest.raises(InputError, match="segmentation"):
            write_segmentation(tmp_path / "seg.dcm", labels, series_, names, mark=MARK)
    for moved in ({"origin_mm": (0.0, 0.0, 0.0)}, {"voxels": np.ones((6, 5, 5), np.uint8)}):
        with pytest.raises(InputError, match="as the series has"):
            write_segmentation(tmp_path / "seg.dcm", replace(labels, **moved), headers, ["a", "b"], mark=MARK)
    with pytest.raises(InputError, match="no label"):
        write_segmentation(tmp_path / "seg.dcm", replace(scan, voxels=labels.voxels * 0), headers, ["a"], mark=MARK)
    assert not (tmp_path / "seg.dcm").exists()


# Scans and marks


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "scan.mha", "scan.mhd", "scan.nrrd", "dicom"])
def test_a_written_scan_comes_back_with_its_mark_and_sidecar(tmp_path, name):
    given_ = volume()
    write_scan(tmp_path / name, given_, mark=MARK, about={"seed": 7})
    found = read_scan(tmp_path / name)
    np.testing.assert_array_equal(found.ct.voxels, given_.voxels)
    np.testing.assert_allclose(found.ct.affine, given_.affine, atol=1e-3)
    assert [mark.text for mark in api.verify(tmp_path / name)] == [MARK, MARK]
    write_scan(tmp_path / ("real" + name), given_, mark=None)
    assert not api.verify(tmp_path / ("real" + name))


def test_values_that_are_no_hounsfield_units_are_refused(tmp_path):
    for i, voxels in enumerate(
        (np.ones((2, 2, 2)), np.zeros((2, 2, 2), np.uint8), np.full((2, 2, 2), np.nan), np.arange(8).reshape(2, 2, 2))
    ):
        api.write_scan(tmp_path / f"{i}.nii.gz", Volume(voxels.astype(np.float32), (1, 1, 1)))
        with pytest.raises(InputError, match="HU"):
            read_scan(tmp_path / f"{i}.nii.gz")


def test_fractions_are_rounded_and_what_a_ct_cannot_hold_is_cut_off(tmp_path):
    values = np.array([-1000.6, -0.4, 3.5, 1e6]).reshape(1, 2, 2)
    api.write_scan(tmp_path / "a.nii.gz", Volume(values.astype(np.float32), (1, 1, 1)))
    assert read_scan(tmp_path / "a.nii.gz").ct.voxels.ravel().tolist() == [-1001, 0, 4, 32767]


def test_writing_headers_warns_of_nothing(tmp_path):
    scan = volume()
    labels = replace(scan, voxels=ball(scan, (3, 5, 5), 3).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        headers = write_ct_series(tmp_path / "ct", deepcopy(scan), mark=MARK)
        write_segmentation(tmp_path / "seg.dcm", labels, headers, ["one"], mark=MARK)
