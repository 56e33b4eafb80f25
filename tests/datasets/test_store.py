"""From users' files to a store, from the store to patches, and to other tools."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import zarr
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from synthorax import api
from synthorax.annotations.lidc_xml import read_lidc_xml
from synthorax.annotations.nodule_table import read_nodule_table
from synthorax.cli import main
from synthorax.datasets import sources
from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.case_ids import case_ids
from synthorax.datasets.patches import PatchDataset, Place, read_patch
from synthorax.datasets.places import corner_places, nodule_places
from synthorax.datasets.sample_folder import write_samples
from synthorax.datasets.splits import split_patients
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.geometry import crop, from_sitk, orient, pad, resample_to_spacing, to_sitk
from synthorax.io.dicom_out import write_ct_series, write_segmentation
from synthorax.io.images import read_image, write_image
from synthorax.io.locks import claim
from synthorax.io.tables import read_table, write_table
from synthorax.makers import Lineage, Samples
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.volume import Volume
from tests.helpers.cubes import LUNG_HU, ball_in_lung, place, write_cubes
from tests.helpers.files import contents


@pytest.fixture
def folder(tmp_path):
    return write_cubes(tmp_path / "mine")


# Geometry


def test_a_crop_stays_where_it_was_and_air_lies_around_it():
    ct, _ = ball_in_lung()
    box = crop(ct, (-2, 5, 38), (6, 4, 5))
    assert box.shape == (6, 4, 5)
    np.testing.assert_allclose(box.to_world([2, 0, 0]), ct.to_world([0, 5, 38]))
    np.testing.assert_array_equal(box.voxels[2:, :, :2], ct.voxels[:4, 5:9, 38:])
    assert (box.voxels[:2] == -1024).all()
    assert (box.voxels[..., 2:] == -1024).all()
    wider = pad(ct, (1, 2, 3), (3, 2, 1), fill=7)
    np.testing.assert_array_equal(wider.voxels[1:-3, 2:-2, 3:-1], ct.voxels)
    np.testing.assert_allclose(wider.to_world([1, 2, 3]), ct.to_world([0, 0, 0]))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL", "AIR"])
def test_a_turned_volume_has_every_voxel_where_it_was(axes):
    ct, _ = ball_in_lung((4, 5, 6))
    turned = orient(ct, axes)
    z, y, x = np.unravel_index(np.argmax(turned.voxels), turned.shape)
    np.testing.assert_allclose(
        turned.to_world([z, y, x]), ct.to_world(np.unravel_index(np.argmax(ct.voxels), ct.shape)), atol=1e-6
    )
    np.testing.assert_array_equal(orient(turned, "LPS").voxels, ct.voxels)


def test_axes_that_are_none_are_refused():
    for axes in ("LPX", "LLS", "LP"):
        with pytest.raises(InputError, match="axes"):
            orient(ball_in_lung((2, 2, 2))[0], axes)


def test_a_resampled_volume_has_its_faces_where_they_were_and_a_plane_stays_a_plane():
    z, y, x = np.meshgrid(*[np.arange(n) for n in (10, 20, 30)], indexing="ij")
    plane = Volume((3 * z + 2 * y - x).astype(np.float32), (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    fine = resample_to_spacing(plane, (1.0, 0.5, 0.5))
    assert fine.shape == (20, 40, 60)
    np.testing.assert_allclose(fine.to_world([-0.5, -0.5, -0.5]), plane.to_world([-0.5, -0.5, -0.5]))
    at = plane.to_voxel(fine.to_world([9, 21, 33]))
    assert fine.voxels[9, 21, 33] == pytest.approx(at @ [3, 2, -1], abs=1e-4)
    whole = resample_to_spacing(replace(plane, voxels=plane.voxels.astype(np.int16)), (1.0, 0.5, 0.5))
    assert np.abs(whole.voxels - fine.voxels).max() <= 0.5


# Sources


def test_a_folder_of_cubes_becomes_a_store_with_all_that_its_table_says(folder, tmp_path):
    store = api.prepare("patches", folder, tmp_path / "store", workers=2)
    assert store.splits == {"train": ["P0"], "val": ["P1"], "test": ["P2"]}
    case = store.read("3")
    ct, mask = ball_in_lung(seed=3)
    np.testing.assert_array_equal(case.ct.voxels, ct.voxels)
    np.testing.assert_allclose(case.ct.affine, ct.affine)
    np.testing.assert_array_equal(case.label_map(), mask)
    (nodule,) = case.nodules
    assert nodule.ratings == {"malignancy": (4, 2)}
    assert nodule.attributes.malignancy == 3
    assert nodule.attributes.diameter_mm == pytest.approx(10, abs=0.8)
    assert nodule.extra == {"scanner": "A&B, Ltd"}
    np.testing.assert_allclose(nodule.center_mm, ct.to_world((np.array(ct.shape) - 1) / 2), atol=1e-3)


def test_a_store_is_plain_zarr(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    group = zarr.open_group(tmp_path / "store", mode="r")
    assert group["2/ct"].dtype == np.int16
    np.testing.assert_array_equal(group["2/ct"][:], ball_in_lung(seed=2)[0].voxels)
    assert group["2/ct"].metadata.dimension_names == ("z", "y", "x")
    assert np.unpackbits(group["2/regions"][:]).sum() == ball_in_lung(seed=2)[1].sum()


def test_a_nodule_may_be_given_by_its_centre_and_an_image_may_have_none(folder, tmp_path):
    ct, _ = ball_in_lung()
    rows = [
        {"image": "images/0.mha", **place(*ct.to_world([10, 20, 20]), 9)},
        {"image": "images/1.mha", **place("", "", "", "")},
    ]
    write_table(folder / "nodules.csv", rows)
    store = api.prepare("patches", folder, tmp_path / "store", workers=1)
    with_, without = store.cases
    assert with_.nodules[0].attributes.diameter_mm == 9
    assert not with_.has_mask
    assert without.nodules == ()
    assert sum(map(len, store.splits.values())) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": ""}, "line 3: no image"),
        ({"split": "dev"}, "split 'dev'"),
        ({"split": "val"}, "two splits"),
        ({"malignancy": "7"}, "line 3: malignancy '7'"),
        ({"malignancy": "high"}, "line 3: malignancy 'high'"),
        ({"mask": "", "center_x_mm": "1"}, "line 3"),
        ({"patient_id": "P9", "image": "images/0.mha"}, "several patients"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_its_line(folder, tmp_path, change, said):
    rows = read_table(folder / "nodules.csv")
    rows = [row | {name: "" for name in change if name not in row} for row in rows]
    rows[1] |= change
    write_table(folder / "nodules.csv", rows)
    with pytest.raises(InputError) as refused:
        api.prepare("patches", folder, tmp_path / "store")
    assert said in str(refused.value)
    assert not (tmp_path / "store").exists()


def test_what_cannot_be_read_is_left_out_and_named(folder, tmp_path, capsys):
    (folder / "images" / "1.mha").write_bytes(b"not an image")
    (folder / "masks" / "2.nii.gz").unlink()
    ct, mask = ball_in_lung()
    write_image(folder / "masks" / "3.nii.gz", replace(ct, voxels=mask, origin_mm=(0, 0, 0)))
    write_image(folder / "masks" / "4.nii.gz", replace(ct, voxels=np.zeros(ct.shape, bool)))
    assert main(["prepare", "patches", str(folder), "--out", str(tmp_path / "store")]) == 0
    said = capsys.readouterr()
    assert "5 cases, 2 nodules" in said.out
    assert "1 left out" in said.out
    store = Store(tmp_path / "store")
    assert [skip["case"] for skip in store.skipped] == ["1"]
    assert "1.mha" in store.skipped[0]["reason"]
    for case_id, why in (("2", "no file 2.nii.gz"), ("3", "at 0, 0, 0 mm"), ("4", "no marked voxel")):
        assert store[case_id].nodules == ()
        assert store[case_id].annotated == "none-known"  # a lost nodule makes no healthy scan
        assert any(why in note for note in store[case_id].notes)
        assert f"{case_id}: nodule 01 left out" in said.err


def test_where_nothing_can_be_read_nothing_is_written(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "scan.nii.gz").write_bytes(b"no")
    for source, said in (("empty", "none of them a CT scan"), ("broken", "scan.nii.gz"), ("nowhere", "nothing")):
        assert main(["prepare", "scans", str(tmp_path / source), "--out", str(tmp_path / "store")]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert said in error[-1]
        assert not (tmp_path / "store").exists()


def test_scans_in_several_forms_become_one_store(tmp_path):
    source = tmp_path / "scans"
    ct, mask = ball_in_lung()
    headers = write_ct_series(source / "dicom" / "ct", ct, mark=None)
    two = mask.copy()
    two[:3, :5, :5] = True
    names = ["Nodule 1", "Lung left"]
    lung = np.zeros(ct.shape, np.uint8)
    lung[:, 30:] = 2
    write_segmentation(
        source / "dicom" / "seg.dcm",
        replace(ct, voxels=np.where(two, 1, lung).astype(np.uint8)),
        headers,
        names,
        mark=None,
    )
    write_image(source / "b.nrrd", ct)
    write_image(source / "c.nii.gz", orient(ct, "RAS"))
    store = api.prepare("scans", source, tmp_path / "store", workers=1)
    assert len(store) == 3
    segmented = next(case for case in store.cases if case.has_mask)
    assert len(segmented.nodules) == 2  # two pieces of one segment; the lung is none
    assert {nodule.extra["structure"] for nodule in segmented.nodules} == {"Nodule 1"}
    np.testing.assert_array_equal(store.read(segmented.case_id).label_map() > 0, two)
    assert any("Lung left" in note for case in store.cases for note in case.notes)
    other = api.prepare("scans", source / "dicom", tmp_path / "other", structures="effusion", workers=1)
    assert other.cases[0].nodules == ()
    assert len(other.cases[0].notes) == 2


def test_structures_that_are_no_expression_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="regular expression"):
        api.prepare("scans", folder, tmp_path / "store", structures="nodule(")


def test_a_table_may_tell_of_the_nodules_of_whole_scans(tmp_path):
    source = tmp_path / "scans"
    source.mkdir()
    ct, _ = ball_in_lung()
    write_image(source / "a.nii.gz", ct)
    write_image(source / "b.nii.gz", ct)
    row = {"image": "b.nii.gz", "patient_id": "B", **place(*ct.to_world([3, 4, 5]), 6)}
    write_table(source / "truth.csv", [row])
    store = api.prepare("scans", source, tmp_path / "store", table=source / "truth.csv", workers=1)
    assert [len(case.nodules) for case in store.cases] == [0, 1]
    assert store.cases[1].patient_id == "B"
    write_table(source / "truth.csv", [row | {"image": "z.nii.gz"}])
    other = api.prepare("scans", source, tmp_path / "other", table=source / "truth.csv", workers=1)
    assert [skip["case"] for skip in other.skipped] == ["z.nii.gz"]


@pytest.fixture(scope="module")
def lidc_store(real_data, tmp_path_factory):
    return api.prepare("lidc", real_data / "lidc-scans", tmp_path_factory.mktemp("lidc") / "store", workers=1)


def test_lidc_scans_have_the_nodules_and_volumes_of_the_annotation_table(lidc_store, lidc_nodules):
    table = {nodules[0].scan.patient_id: nodules for nodules in lidc_nodules if nodules}
    for case in lidc_store.cases:
        theirs = table[case.patient_id]
        assert len(case.nodules) == len(theirs)
        mask = lidc_store.read(case.case_id).label_map()
        volumes = sorted(int((mask == nodule.label).sum()) for nodule in case.nodules if nodule.label)
        assert volumes == sorted(int(n.consensus(2).mask.sum()) for n in theirs if n.consensus(2).mask.any())
        found = sorted(nodule.attributes.diameter_mm for nodule in case.nodules)
        np.testing.assert_allclose(found, sorted(nodule.attributes.diameter_mm for nodule in theirs), rtol=1e-4)


def test_the_voxels_of_lidc_nodules_are_denser_than_the_lung_around_them(lidc_store):
    for entry in lidc_store.cases:
        case = lidc_store.read(entry.case_id)
        for nodule in entry.nodules:
            if nodule.label:
                assert np.median(case.ct.voxels[case.label_map() == nodule.label]) > -500
                index = np.rint(case.ct.to_voxel(nodule.center_mm)).astype(int)
                assert case.label_map()[tuple(index)] == nodule.label


def test_points_of_readers_are_kept_within_the_part_of_the_scan_that_is_there(lidc_store, real_data):
    slab = lidc_store.read("LIDC-IDRI-0001")
    whole = lidc_store.read("LIDC-IDRI-0003")
    assert sum(point.kind == "non-nodule" for point in whole.points) == 38
    marks = read_lidc_xml(real_data / "lidc-scans" / "LIDC-IDRI-0001" / "069.xml").marks()
    assert len(marks) == 22
    assert len(slab.points) == sum(-146.25 <= mark.z_mm <= -83.75 for mark in marks)


def test_the_annotation_table_stands_in_for_a_missing_xml_file(real_data, tmp_path, lidc_store):
    source = tmp_path / "LIDC-IDRI-0001"
    source.mkdir()
    for file in (real_data / "lidc-scans" / "LIDC-IDRI-0001").glob("*.dcm"):
        os.symlink(file, source / file.name)
    store = api.prepare("lidc", tmp_path, tmp_path / "store", workers=1)
    np.testing.assert_array_equal(
        store.read("LIDC-IDRI-0001").label_map(), lidc_store.read("LIDC-IDRI-0001").label_map()
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"<a>", "no readable XML"),
        (b"<IdriReadMessage/>", "IdriReadMessage"),
        (b"\xff\xfe<", "no readable XML"),
        (b"<LidcReadMessage><ResponseHeader/></LidcReadMessage>", "LidcReadMessage"),
    ],
)
def test_what_is_no_lidc_file_is_refused(tmp_path, text, said):
    (tmp_path / "a.xml").write_bytes(text)
    with pytest.raises(InputError, match=said):
        read_lidc_xml(tmp_path / "a.xml")


@pytest.mark.parametrize("turned", [False, True])
def test_a_luna16_folder_has_nodules_candidates_voxels_and_ratings(tmp_path, lidc_readings, turned):
    readings = next(r for r in lidc_readings if r and r[0].scan.patient_id == "LIDC-IDRI-0003")
    scan = readings[0].scan
    source = tmp_path / "luna"
    (source / "subset0").mkdir(parents=True)
    shape = (scan.n_slices, 512, 512)
    # Some patients lie turned round: columns then run to the right and rows to the front, as they were scanned.
    sign = -1 if turned else 1
    origin = (-228.8 * sign, -210.0 * sign, scan.first_slice_z_mm)
    voxels = np.full(shape, LUNG_HU, np.int16)
    voxels[:, :2] = -1000
    ct = Volume(voxels, scan.voxel_mm, origin, np.diag([sign, sign, 1.0]))
    x, y, z = center = ct.to_world([75.5, 350, 367])
    write_image(source / "subset0" / f"{scan.series_uid}.mhd", ct)
    (source / "seg-lungs-LUNA16").mkdir()
    write_image(source / "seg-lungs-LUNA16" / f"{scan.series_uid}.mhd", replace(ct, voxels=voxels > -900))
    write_table(
        source / "annotations.csv",
        [
            {"seriesuid": scan.series_uid, "coordX": x, "coordY": y, "coordZ": z, "diameter_mm": 29.5},
            {"seriesuid": "1.2.3", "coordX": 0, "coordY": 0, "coordZ": 0, "diameter_mm": 5},
        ],
    )
    write_table(
        source / "candidates.csv",
        [
            {"seriesuid": scan.series_uid, "coordX": 1, "coordY": 2, "coordZ": -100, "class": 0},
            {"seriesuid": scan.series_uid, "coordX": 72, "coordY": 77, "coordZ": -190, "class": 1},
        ],
    )
    store = api.prepare("luna16", source, tmp_path / "store", workers=1)
    (case,) = store.cases
    assert case.patient_id == "LIDC-IDRI-0003"
    (nodule,) = case.nodules
    assert nodule.attributes.diameter_mm == 29.5
    assert len(nodule.ratings["malignancy"]) == 4
    whole = store.read(case.case_id)
    assert sorted(point.kind for point in whole.points) == ["candidate", "nodule"]
    middle = whole.ct.to_world(np.argwhere(whole.label_map() == 1).mean(0))
    np.testing.assert_allclose(middle, center, atol=4)
    assert not store.skipped


def test_a_luna16_table_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no annotations\.csv"):
        api.prepare("luna16", tmp_path, tmp_path / "store")
    write_table(tmp_path / "annotations.csv", [{"seriesuid": "1", "coordX": "left"}])
    with pytest.raises(InputError, match="line 2"):
        api.prepare("luna16", tmp_path, tmp_path / "store")


def test_an_mha_that_a_converter_mirrored_has_its_nodules_where_they_were(real_data, tmp_path, lidc_store):
    source = tmp_path / "LIDC-IDRI-0003"
    source.mkdir()
    scan = read_image(real_data / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz")
    write_image(source / "ct.mha", orient(scan, "LAS"))
    shutil.copy(real_data / "lidc-scans" / "LIDC-IDRI-0003" / "072.xml", source)
    store = api.prepare("lidc", tmp_path, tmp_path / "store", workers=1)
    np.testing.assert_array_equal(
        store.read("LIDC-IDRI-0003").label_map(), lidc_store.read("LIDC-IDRI-0003").label_map()
    )


def test_a_scan_without_annotations_is_left_out_of_lidc(tmp_path, folder):
    with pytest.raises(InputError, match="neither XML nor a series"):
        api.prepare("lidc", folder / "images" / "0.mha", tmp_path / "store")


def test_a_mask_on_axes_the_other_way_round_is_brought_to_the_images(folder, tmp_path):
    ct, mask = ball_in_lung(seed=0)
    off_middle = mask.copy()
    off_middle[:, :, :20] = False
    write_image(folder / "masks" / "0.nii.gz", orient(replace(ct, voxels=off_middle.astype(np.uint8)), "RAS"))
    write_image(folder / "masks" / "1.nii.gz", replace(ct, voxels=mask, spacing_mm=(1.25, 0.84, 0.8)))
    store = api.prepare("patches", folder, tmp_path / "store", workers=1)
    np.testing.assert_array_equal(store.read("0").label_map() > 0, off_middle)
    assert store["1"].nodules == ()
    assert any("nodule 01 left out" in note for note in store["1"].notes)


def test_a_nodule_that_another_covers_keeps_its_row_and_its_voxels(folder, tmp_path):
    shutil.copy(folder / "masks" / "0.nii.gz", folder / "masks" / "again.nii.gz")
    row = {"image": "images/0.mha", "mask": "masks/0.nii.gz"}
    write_table(folder / "nodules.csv", [row, row, row | {"mask": "masks/again.nii.gz"}])
    store = api.prepare("patches", folder, tmp_path / "store", workers=1)
    (case,) = store.cases
    assert any("its row repeats another" in note for note in case.notes)
    assert [nodule.label for nodule in case.nodules] == [1, 2]
    one, other = store.read(case.case_id).regions
    np.testing.assert_array_equal(one.mask, other.mask)
    api.export(store.path, tmp_path / "monai", "monai")


def test_a_mask_of_a_series_that_is_not_there_is_named(tmp_path):
    ct, mask = ball_in_lung()
    headers = write_ct_series(tmp_path / "in" / "ct", ct, mark=None)
    labels = replace(ct, voxels=mask.astype(np.uint8))
    write_segmentation(tmp_path / "in" / "seg.dcm", labels, headers, ["nodule"], mark=None)
    shutil.rmtree(tmp_path / "in" / "ct")
    write_ct_series(tmp_path / "in" / "ct", replace(ct, origin_mm=(0, 0, 0)), mark=None)
    store = api.prepare("scans", tmp_path / "in", tmp_path / "store", workers=1)
    assert len(store) == 1
    assert "a mask of series" in store.skipped[0]["reason"]
    (tmp_path / "in" / "other").mkdir()
    shutil.copy(tmp_path / "in" / "seg.dcm", tmp_path / "in" / "other")
    assert len(api.prepare("scans", tmp_path / "in", tmp_path / "store", workers=1).skipped) == 2


def test_folders_that_are_links_are_followed_and_rings_end(folder, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").symlink_to(folder / "images")
    (tmp_path / "in" / "ring").symlink_to(tmp_path / "in")
    assert len(api.prepare("scans", tmp_path / "in", tmp_path / "store", workers=1)) == 6


def test_a_table_in_a_folder_of_scans_is_used(folder, tmp_path):
    store = api.prepare("scans", folder, tmp_path / "store", workers=1)
    assert len(store) == 6  # and the masks of the table are no scans
    assert not store.skipped
    assert all(case.has_mask for case in store.cases)


def test_names_that_differ_after_their_first_dot_are_different_patients(tmp_path):
    names = ["1.3.6.1.100.nii.gz", "1.3.6.1.200.nii.gz"]
    for name in names:
        write_image(tmp_path / name, ball_in_lung()[0])
    write_table(tmp_path / "nodules.csv", [{"image": name, **place("", "", "", "")} for name in names])
    store = api.prepare("patches", tmp_path, tmp_path / "store", workers=1)
    assert {case.patient_id for case in store.cases} == {"1.3.6.1.100", "1.3.6.1.200"}


def test_cases_of_one_name_get_numbers_that_no_other_has():
    assert case_ids(["a", "a", "a-01", "b/c", "b c"]) == ["a-02", "a-03", "a-01", "b_c-01", "b_c-02"]


def test_new_voxels_under_an_old_header_are_seen(tmp_path):
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.mhd", ball_in_lung(seed=1)[0])
    first = api.prepare("scans", tmp_path / "in", tmp_path / "store", workers=1)
    write_image(tmp_path / "b.mhd", ball_in_lung(seed=2)[0])
    shutil.copy(tmp_path / "b.zraw", tmp_path / "in" / "a.zraw")
    second = api.prepare("scans", tmp_path / "in", tmp_path / "store", workers=1)
    assert first.fingerprint != second.fingerprint


# Stores


def test_the_same_sources_give_the_same_bytes_on_any_number_of_workers(folder, tmp_path):
    for name, workers in (("a", 1), ("b", 2)):
        api.prepare("patches", folder, tmp_path / name, workers=workers)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_dask_cluster_gives_the_same_store(folder, tmp_path):
    distributed = pytest.importorskip("distributed")
    api.prepare("patches", folder, tmp_path / "a", workers=1)
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        api.prepare("patches", folder, tmp_path / "b", cluster=cluster.scheduler_address)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_cluster_that_does_not_answer_is_one_line(folder, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("synthorax.parallel.CONNECT_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"no answer from tcp://127\.0\.0\.1:9"):
        api.prepare("patches", folder, tmp_path / "b", cluster="tcp://127.0.0.1:9")


def test_preparing_again_reads_only_what_has_changed(folder, tmp_path, monkeypatch):
    first = api.prepare("patches", folder, tmp_path / "store", workers=1)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("c/*/*/*")}
    time.sleep(0.01)
    ct, _ = ball_in_lung(seed=77)
    write_image(folder / "images" / "4.mha", ct)
    second = api.prepare("patches", folder, tmp_path / "store", workers=1)
    changed = {p.parts[-6] for p in written if p.stat().st_mtime_ns != written[p]}
    assert changed == {"4"}
    assert first.fingerprint != second.fingerprint
    np.testing.assert_array_equal(second.read("4").ct.voxels, ct.voxels)


def test_a_case_whose_row_is_gone_goes_too(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    rows = read_table(folder / "nodules.csv")
    write_table(folder / "nodules.csv", rows[:4])
    assert len(api.prepare("patches", folder, tmp_path / "store", workers=1)) == 4
    assert not (tmp_path / "store" / "5").exists()


def test_a_store_of_another_request_is_left_alone_unless_asked(folder, tmp_path, capsys):
    command = ["prepare", "patches", str(folder), "--out", str(tmp_path / "store")]
    assert main(command) == 0
    before = contents(tmp_path / "store")
    assert main([*command, "--seed", "5"]) == 2
    assert "--seed was 0, now 5" in capsys.readouterr().err
    assert contents(tmp_path / "store") == before
    assert main([*command, "--seed", "5", "--overwrite"]) == 0


def test_a_folder_of_something_else_is_never_touched(folder, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    for options in ([], ["--overwrite"]):
        assert main(["prepare", "patches", str(folder), "--out", str(tmp_path / "precious"), *options]) == 2
    assert contents(tmp_path / "precious") == {"thesis.txt": b"years of work"}


def test_a_foreign_prepare_json_makes_no_store_of_a_folder(folder, tmp_path):
    out = tmp_path / "mine"
    (out / "deep").mkdir(parents=True)
    (out / "prepare.json").write_text('{"a": 1}')
    (out / "deep" / "thesis.txt").write_text("years of work")
    before = contents(out)
    assert main(["prepare", "patches", str(folder), "--out", str(out), "--overwrite"]) == 2
    assert contents(out) == before


def test_what_others_put_into_a_store_stays(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    (tmp_path / "store" / "run").mkdir()
    (tmp_path / "store" / "run" / "model.pt").write_text("weights")
    rows = read_table(folder / "nodules.csv")
    write_table(folder / "nodules.csv", rows[:4])
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    assert (tmp_path / "store" / "run" / "model.pt").exists()
    assert not (tmp_path / "store" / "5").exists()


WRONG_OPTIONS = [["--split", "1,1,1"], ["--split", "nan,0.5,0.5"], ["--cluster", "tcp://127.0.0.1:9"]]


@pytest.mark.parametrize("wrong", WRONG_OPTIONS)
def test_an_overwrite_that_cannot_be_done_leaves_the_store_as_it_was(folder, tmp_path, wrong, monkeypatch):
    monkeypatch.setattr("synthorax.parallel.CONNECT_SECONDS", 0.2)
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    before = contents(tmp_path / "store")
    command = ["prepare", "patches", str(folder), "--out", str(tmp_path / "store"), "--seed", "5", "--overwrite"]
    assert main([*command, *wrong]) == 2
    assert contents(tmp_path / "store") == before
    assert len(Store(tmp_path / "store")) == 6


def test_a_corrected_command_follows_a_wrong_one_into_the_same_empty_folder(folder, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.nii").write_bytes(b"no")
    (tmp_path / "store").mkdir()
    assert main(["prepare", "scans", str(tmp_path / "bad"), "--out", str(tmp_path / "store")]) == 2
    assert main(["prepare", "patches", str(folder), "--out", str(tmp_path / "store")]) == 0


def test_two_sources_of_one_name_are_two_requests(folder, tmp_path):
    other = tmp_path / "elsewhere" / "mine"
    shutil.copytree(folder, other)
    command = ["prepare", "patches", "--out", str(tmp_path / "store")]
    assert main([*command, str(folder)]) == 0
    assert main([*command, str(other)]) == 2


def test_two_cannot_prepare_one_store_at_once(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    with ThreadPoolExecutor(1) as elsewhere, ExitStack() as held:
        elsewhere.submit(held.enter_context, claim(tmp_path / "store")).result()
        with pytest.raises(InputError, match=f"another process \\({os.getpid()}\\) writing there"):
            api.prepare("patches", folder, tmp_path / "store", workers=1)


def test_a_scan_that_nobody_thought_of_does_not_stop_the_others(folder, tmp_path, monkeypatch):
    real = sources.read_scan

    def read(path):
        if path.name == "2.mha":
            raise ZeroDivisionError(f"of {path.name}")
        return real(path)

    monkeypatch.setattr(sources, "read_scan", read)
    store = api.prepare("patches", folder, tmp_path / "store", workers=1)
    assert store.skipped == [{"case": "2", "reason": "2: found ZeroDivisionError: of 2.mha; expected a readable scan"}]


def test_a_killed_worker_is_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources, "read_scan", lambda path: os.kill(os.getpid(), signal.SIGKILL))
    assert main(["prepare", "patches", str(folder), "--out", str(tmp_path / "store"), "--workers", "2"]) == 1
    assert "a worker process was killed" in capsys.readouterr().err.splitlines()[-1]


def test_an_unfinished_store_says_so(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    (tmp_path / "store" / "zarr.json").unlink()
    with pytest.raises(InputError, match=r"not finished; expected .* the same `synthorax prepare` again to finish it"):
        Store(tmp_path / "store")
    with pytest.raises(InputError, match="no store"):
        Store(tmp_path)


def test_a_damaged_store_is_refused_in_one_line(folder, tmp_path):
    store = api.prepare("patches", folder, tmp_path / "store", workers=1)
    (tmp_path / "store" / "0" / "ct" / "zarr.json").unlink()
    with pytest.raises(InputError, match=r"0/ct/zarr\.json: found no such file"):
        store.read("0")
    index = json.loads((tmp_path / "store" / "zarr.json").read_text())
    index["attributes"]["synthorax"]["format"] = 99
    (tmp_path / "store" / "zarr.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="format 99"):
        Store(tmp_path / "store")


def test_a_store_of_a_newer_format_is_replaced_with_overwrite_alone(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    index = json.loads((tmp_path / "store" / "zarr.json").read_text())
    index["attributes"]["synthorax"]["format"] = 99
    (tmp_path / "store" / "zarr.json").write_text(json.dumps(index))
    before = contents(tmp_path / "store")
    with pytest.raises(InputError, match=r"format 99; .*update synthorax, or replace the store with --overwrite"):
        api.prepare("patches", folder, tmp_path / "store", workers=1)
    assert contents(tmp_path / "store") == before
    assert len(api.prepare("patches", folder, tmp_path / "store", workers=1, overwrite=True)) == 6


def test_a_store_whose_rows_lack_a_field_names_the_command_that_writes_it_again(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    index = json.loads((tmp_path / "store" / "zarr.json").read_text())
    about = index["attributes"]["synthorax"]
    about["format"] = 1
    about.pop("sha256")
    (tmp_path / "store" / "zarr.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"no has_mask.*; run the same `synthorax prepare` again"):
        Store(tmp_path / "store")
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    assert len(Store(tmp_path / "store")) == 6


def test_a_killed_preparation_goes_on_to_the_same_bytes(folder, tmp_path):
    api.prepare("patches", folder, tmp_path / "whole", workers=1)
    command = [sys.executable, "-m", "synthorax", "prepare", "patches", str(folder), "--workers", "1"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "killed" / "2").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "killed" / "2").exists()
    assert (
        subprocess.run([*command, "--out", str(tmp_path / "killed")], check=False, capture_output=True).returncode == 0
    )
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_info_lists_the_cases_of_a_store_with_their_splits(folder, tmp_path, capsys):
    store = api.prepare("patches", folder, tmp_path / "store", workers=1)
    assert main(["info", str(tmp_path / "store"), "--cases"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["case"], row["patient"]) for row in rows] == [(case.case_id, case.patient_id) for case in store.cases]
    assert all(row["patient"] in store.splits[row["split"]] for row in rows)
    assert sum(int(row["nodules"]) for row in rows) == sum(len(case.nodules) for case in store.cases)
    assert main(["info", str(folder), "--cases"]) == 2
    assert main(["info", str(tmp_path / "store"), "--cases", "--check"]) == 2


def test_info_tells_what_anything_holds(folder, tmp_path, capsys):
    api.prepare("patches", folder, tmp_path / "store", workers=1)
    found = api.info(tmp_path / "store")
    assert found["cases"] == 6
    assert found["nodules"] == {"train": 2, "val": 2, "test": 2}
    assert api.info(folder / "images" / "0.mha")["spacing_zyx_mm"] == [1.25, 0.8, 0.8]
    assert api.info(folder / "masks" / "0.nii.gz")["voxels_of_label"]["1"] == int(ball_in_lung()[1].sum())
    write_ct_series(tmp_path / "ct", ball_in_lung()[0], mark=None)
    assert api.info(tmp_path / "ct")["series"][0]["shape_zyx"] == [20, 40, 40]
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    assert api.info(tmp_path / "a.npy")["shape"] == [2, 3]
    assert main(["info", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == found["fingerprint"]
    assert main(["info", str(tmp_path / "store")]) == 0
    assert "cases: 6" in capsys.readouterr().out
    assert api.info(folder / "nodules.csv")["holds"] == "table of nodules"
    assert api.info(folder)["holds"] == "folder of scans"
    with pytest.raises(InputError):
        api.info(tmp_path / "nowhere")


def test_verify_says_that_all_is_marked_if_files_have_different_marks(folder, tmp_path, capsys):
    source, made = read_image(folder / "images" / "0.mha"), tmp_path / "made"
    made.mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        write_image(made / f"{name}.nii.gz", source, mark=f"SYNTHETIC: seed {seed}")
    assert main(["verify", str(made)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{made}: all of it is marked as synthetic"
    write_image(made / "c.nii.gz", source)
    assert main(["verify", str(made)]) == 1
    *marks, last = capsys.readouterr().out.splitlines()
    assert len(marks) == 2
    assert last == f"{made}: 1 file without a mark that can be read: {made / 'c.nii.gz'}"
    for i in range(4):
        write_image(made / f"d{i}.nii.gz", source, mark=f"SYNTHETIC: seed {i + 3}")
    assert main(["verify", str(made)]) == 1
    assert f"{made}: and 1 other mark; --json lists all" in capsys.readouterr().out


def test_verify_says_yes_or_no_by_its_exit_code(folder, tmp_path, capsys):
    api.write_scan(tmp_path / "made.nii.gz", ball_in_lung()[0], mark="SYNTHETIC: for a test")
    assert main(["verify", str(tmp_path / "made.nii.gz")]) == 0
    assert "synthetic" in capsys.readouterr().out
    assert main(["verify", str(folder / "images" / "0.mha")]) == 1
    assert main(["info", str(folder / "images" / "0.mha")]) == 0
    assert "synthetic: no mark" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    api.prepare("scans", tmp_path / "made.nii.gz", tmp_path / "store", workers=1)
    assert api.verify(tmp_path / "store")[0].text == "SYNTHETIC: for a test"
    api.export(tmp_path / "store", tmp_path / "monai", "monai", unknown="include")
    assert main(["verify", str(tmp_path / "monai")]) == 0
    shutil.copy(folder / "images" / "0.mha", tmp_path / "monai" / "images")
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "monai")]) == 1
    assert "partly synthetic, by 2 of 3 files" in capsys.readouterr().out


def test_a_manifest_that_is_not_ours_marks_nobody(folder, tmp_path):
    (tmp_path / "manifest.json").write_text('{"synthetic": "SYNTHETIC: everything here"}')
    assert not api.verify(folder / "images" / "0.mha")


# Splits


@given(patients=st.sets(st.text("abc012", min_size=1), max_size=60), seed=st.integers(0, 9))
def test_a_patient_is_in_one_split_whatever_the_order(patients, seed):
    ordered = sorted(patients)
    splits = split_patients(dict.fromkeys(ordered), seed=seed)
    assert sorted(chain(*splits.values())) == ordered
    assert splits == split_patients(dict.fromkeys(reversed(ordered)), seed=seed)
    assert abs(len(splits["train"]) - 0.7 * len(ordered)) <= 1


@given(n=st.integers(1, 30), more=st.integers(0, 9), seed=st.integers(0, 9))
def test_few_training_patients_are_some_of_more_and_leave_the_held_out_ones(n, more, seed):
    given_splits = dict.fromkeys(map(str, range(30)))
    few, others = (split_patients(given_splits, seed=seed, train_patients=each) for each in (n, n + more))
    assert len(few["train"]) == min(n, 21)
    assert {*few["train"]} <= {*others["train"]}
    assert [few["val"], few["test"]] == [others["val"], others["test"]]


def test_a_store_of_few_training_patients_has_the_others_nowhere(folder, tmp_path, capsys):
    rows = read_table(folder / "nodules.csv")
    split = ("train", "train", "train", "train", "val", "test")
    own = [row | {"patient_id": f"P{i}", "split": split[i]} for i, row in enumerate(rows)]
    write_table(folder / "nodules.csv", own)
    whole = api.prepare("patches", folder, tmp_path / "whole", workers=1)
    command = ["prepare", "patches", str(folder), "--workers", "1", "--out", str(tmp_path / "few"), "--train-patients"]
    assert main([*command, "1"]) == 0
    few = api.open_store(tmp_path / "few")
    assert [few.splits[name] for name in ("val", "test")] == [whole.splits[name] for name in ("val", "test")]
    [patient] = few.splits["train"]
    assert patient in whole.splits["train"]
    assert {case.patient_id for case in few.in_split("train")} == {patient}
    left_out = {*whole.splits["train"]} - {patient}
    assert left_out
    assert not left_out & {case.patient_id for case in few.cases}
    assert {path.name for path in (tmp_path / "few").iterdir() if path.is_dir()} == {c.case_id for c in few.cases}
    assert main([*command, "1"]) == 0
    assert main([*command, "2"]) == 2
    assert "--train-patients was 1, now 2" in capsys.readouterr().err
    assert main([*command, "0", "--overwrite"]) == 2
    assert api.open_store(tmp_path / "few").fingerprint == few.fingerprint


def test_shares_that_are_none_are_refused(folder, tmp_path, capsys):
    for split in ("1,1,1", "0.5,0.5", "a,b,c", "-1,1,1"):
        assert main(["prepare", "patches", str(folder), "--out", str(tmp_path / "store"), f"--split={split}"]) == 2
        assert not (tmp_path / "store").exists()


# Patches


@pytest.fixture
def store(folder, tmp_path):
    return api.prepare("patches", folder, tmp_path / "store", workers=1)


SPEC = PatchSpec((12, 16, 16), (1.25, 0.8, 0.8))


def test_a_patch_of_the_scans_own_spacing_is_cut_along_its_voxels(store):
    place = nodule_places(store.cases)[0]
    ct, mask = read_patch(store, place, SPEC)
    whole, ball = ball_in_lung()
    np.testing.assert_array_equal(ct.voxels, whole.voxels[4:16, 12:28, 12:28])
    np.testing.assert_array_equal(mask, ball[4:16, 12:28, 12:28])
    np.testing.assert_allclose(ct.to_world([0, 0, 0]), whole.to_world([4, 12, 12]), atol=1e-6)


def test_a_patch_of_another_spacing_is_interpolated_where_it_lies(store):
    place = nodule_places(store.cases)[0]
    ct, mask = read_patch(store, place, PatchSpec((10, 10, 10), (1.0, 1.0, 1.0)))
    whole, ball = ball_in_lung()
    at = whole.to_voxel(ct.to_world(np.argwhere(np.ones(ct.shape))))
    wanted = map_coordinates(whole.voxels.astype(float), at.T, order=1).reshape(ct.shape)
    np.testing.assert_allclose(ct.voxels, wanted, atol=0.51)
    assert (mask > 0).sum() == pytest.approx(ball.sum() * 0.8, rel=0.1)


def test_a_patch_at_the_edge_is_moved_inside_and_a_larger_one_shows_the_edge(store):
    corner = replace(nodule_places(store.cases)[0], center_mm=tuple(ball_in_lung()[0].to_world([0, 0, 0])))
    ct, _ = read_patch(store, corner, SPEC)
    np.testing.assert_array_equal(ct.voxels, ball_in_lung()[0].voxels[:12, :16, :16])
    wide, _ = read_patch(store, nodule_places(store.cases)[0], PatchSpec((24, 44, 44), (1.25, 0.8, 0.8)))
    np.testing.assert_array_equal(wide.voxels[2:-2, 2:-2, 2:-2], ball_in_lung()[0].voxels)
    np.testing.assert_array_equal(wide.voxels[0, 2:-2, 2:-2], ball_in_lung()[0].voxels[0])


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.25, 0.8, 0.8)])
def test_a_place_outside_the_scan_is_refused(store, spacing_mm):
    place = replace(nodule_places(store.cases)[0], center_mm=(1000.0, 0.0, 0.0))
    with pytest.raises(InputError, match="a place in the scan"):
        read_patch(store, place, PatchSpec((10, 10, 10), spacing_mm))


def test_a_patch_is_the_same_whatever_may_be_done_to_it_and_however_the_scan_lies(store, tmp_path):
    near_edge = [
        replace(p, center_mm=tuple(ball_in_lung()[0].to_world([7, 9, 20]))) for p in nodule_places(store.cases)[:1]
    ]
    plain, moved = (
        PatchDataset(store, near_edge, SPEC, augmentation=a, cache=tmp_path / "cache", workers=1)[0]
        for a in (Augmentation(), Augmentation(shift_voxels=4, scale=(0.8, 1.2)))
    )
    assert torch.equal(plain["ct"], moved["ct"])
    write_image(tmp_path / "turned.nii.gz", orient(ball_in_lung()[0], "RAS"))
    turned = api.prepare("scans", tmp_path / "turned.nii.gz", tmp_path / "turned", workers=1)
    there = replace(near_edge[0], case_id=turned.cases[0].case_id, nodule=None)
    ct, _ = read_patch(turned, there, SPEC)
    np.testing.assert_array_equal(ct.voxels, read_patch(store, near_edge[0], SPEC)[0].voxels)


def test_a_store_that_was_prepared_again_is_read_anew(folder, tmp_path):
    spec = PatchSpec((6, 8, 8), (1.25, 0.8, 0.8))
    for seed, shape in ((0, (20, 40, 40)), (9, (12, 20, 20))):
        for i in range(6):
            ct, mask = ball_in_lung(shape, seed=seed)
            write_image(folder / "images" / f"{i}.mha", ct)
            write_image(folder / "masks" / f"{i}.nii.gz", replace(ct, voxels=mask))
        store = api.prepare("patches", folder, tmp_path / "store", workers=1)
        dataset = PatchDataset(store, nodule_places(store.cases), spec, cache=tmp_path / "cache", workers=1)
        middle = tuple(slice(n // 2 - k // 2, n // 2 + k // 2) for n, k in zip(shape, (6, 8, 8), strict=True))
        wanted = torch.from_numpy(ct.voxels[middle]).float().clamp(-1000, 400)
        torch.testing.assert_close(spec.to_hu(dataset[0]["ct"][0]), wanted, atol=1e-2, rtol=0)


def test_batches_are_balanced_and_a_function_of_seed_and_step(store, tmp_path):
    places = [
        *nodule_places(store.cases),
        *corner_places(store, store.cases[:2], PatchSpec((6, 12, 12), (1.25, 0.8, 0.8))),
    ]
    assert {place.label for place in places} == {0, 1}
    options = {
        "augmentation": Augmentation(shift_voxels=2, scale=(0.9, 1.1)),
        "cache": tmp_path / "cache",
        "workers": 1,
    }
    spec = PatchSpec((6, 12, 12), (1.25, 0.8, 0.8))
    one, other = (PatchDataset(store, places, spec, seed=3, **options) for _ in range(2))
    for step in (0, 7):
        ours, theirs = one.batch(step, 8), other.batch(step, 8)
        assert ours["label"].sum() == 4
        for name in ours:
            assert torch.equal(ours[name], theirs[name])
    assert not torch.equal(one.batch(0, 8)["ct"], one.batch(1, 8)["ct"])
    assert not torch.equal(
        one.batch(0, 8)["ct"], PatchDataset(store, places, spec, seed=4, **options).batch(0, 8)["ct"]
    )


def test_corners_miss_the_nodule_and_lie_in_lung(store):
    spec = PatchSpec((6, 12, 12), (1.25, 0.8, 0.8))
    places = corner_places(store, store.cases, spec)
    assert len(places) == 8 * len(store.cases)
    dataset = PatchDataset(store, places, spec, cache=None, workers=1)
    assert all(dataset[i]["mask"].sum() == 0 for i in range(len(dataset)))
    assert spec.to_hu(dataset[0]["ct"]).mean() == pytest.approx(LUNG_HU, abs=10)


def test_the_window_becomes_minus_one_to_one_and_back():
    spec = PatchSpec((1, 1, 1), window_hu=(-1000, 400))
    hu = torch.tensor([-1500.0, -1000, -300, 400, 3000])
    assert spec.to_unit(hu).tolist() == [-1, -1, 0, 1, 1]
    torch.testing.assert_close(spec.to_hu(spec.to_unit(hu)), hu.clamp(-1000, 400))


def test_a_cache_that_cannot_be_written_is_done_without(store, tmp_path):
    (tmp_path / "file").write_text("")
    places = nodule_places(store.cases)
    with_, without = (PatchDataset(store, places, SPEC, cache=tmp_path / c, workers=1) for c in ("cache", "file/cache"))
    assert torch.equal(with_[0]["ct"], without[0]["ct"])
    again = PatchDataset(store, places, SPEC, cache=tmp_path / "cache", workers=1)
    assert torch.equal(again[5]["ct"], with_[5]["ct"])


def test_a_damaged_cache_is_made_again(store, tmp_path):
    places = nodule_places(store.cases)
    first = PatchDataset(store, places, SPEC, cache=tmp_path / "cache", workers=1)[0]["ct"].clone()
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(PatchDataset(store, places, SPEC, cache=tmp_path / "cache", workers=1)[0]["ct"], first)


def test_no_places_are_no_data_set(store):
    with pytest.raises(InputError, match="no nodule"):
        PatchDataset(store, nodule_places(store.cases, lambda nodule: None), SPEC)


@given(seed=st.integers(0, 99), shift=st.integers(0, 3), flip=st.booleans())
def test_shifts_and_flips_alone_only_move_voxels(seed, shift, flip):
    patches = np.random.default_rng(seed).integers(-1000, 1000, (3, 10, 11, 12)).astype(np.int16)
    augmentation = Augmentation(flip=flip, shift_voxels=shift)
    drawn = augmentation.draw(np.random.default_rng(seed), 3)
    made = drawn.apply(patches, (4, 5, 6)).numpy()
    for one, patch, flips, shifts in zip(made, patches, drawn.flips, drawn.shifts.astype(int), strict=True):
        middle = patch[tuple(slice(3 + s, 3 + s + n) for s, n in zip(shifts, (4, 5, 6), strict=True))]
        np.testing.assert_array_equal(one, middle[tuple(slice(None, None, f) for f in flips)])


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.8, 1.25)])
def test_a_turn_exchanges_y_and_x_of_a_patch_and_of_its_mask(scale):
    patches = np.random.default_rng(3).integers(-1000, 1000, (16, 4, 6, 6)).astype(np.int16)
    drawn = Augmentation(scale=scale, turn=True).draw(np.random.default_rng(4), 16)
    upright = replace(drawn, turns=np.zeros(16, bool))
    assert 0 < drawn.turns.sum() < 16
    for apply in ("apply", "apply_nearest"):
        made, before = (np.asarray(getattr(each, apply)(patches, (4, 6, 6))) for each in (drawn, upright))
        np.testing.assert_array_equal(made[drawn.turns], before[drawn.turns].swapaxes(2, 3))
        np.testing.assert_array_equal(made[~drawn.turns], before[~drawn.turns])


def test_scaling_is_linear_interpolation_about_the_middle():
    patches = np.random.default_rng(1).integers(-1000, 1000, (4, 14, 15, 16)).astype(np.int16)
    drawn = Augmentation(shift_voxels=1.5, scale=(0.8, 1.25)).draw(np.random.default_rng(2), 4)
    size = (7, 8, 9)
    made = drawn.apply(patches, size).numpy()
    for one, patch, flips, shifts, scale in zip(
        made, patches, drawn.flips, drawn.shifts, drawn.scales[:, 0], strict=True
    ):
        axes = [
            (np.arange(n) - (n - 1) / 2) * f / scale + (m - 1) / 2 + s
            for n, m, f, s in zip(size, patch.shape, flips, shifts, strict=True)
        ]
        wanted = map_coordinates(patch.astype(float), np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")
        np.testing.assert_allclose(one, wanted, atol=2e-3)


@pytest.mark.parametrize(
    "wrong", [{"shift_voxels": -1}, {"scale": (0, 1)}, {"scale": (1.2, 1.1)}, {"shift_voxels": np.nan}]
)
def test_augmentations_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match="augmentation"):
        Augmentation(**wrong)


# Export


def test_nnunet_finds_images_labels_and_splits(store, tmp_path):
    api.export(store.path, tmp_path / "Dataset501_Nodules", "nnunet", name="Nodules")
    root = tmp_path / "Dataset501_Nodules"
    about = json.loads((root / "dataset.json").read_text())
    assert (
        about["numTraining"]
        == len(list((root / "imagesTr").iterdir()))
        == len(list((root / "labelsTr").iterdir()))
        == 4
    )
    assert about["file_ending"] == ".nii.gz"
    image, label = (sitk.ReadImage(str(root / name)) for name in ("imagesTr/1_0000.nii.gz", "labelsTr/1.nii.gz"))
    assert image.GetOrigin() == label.GetOrigin()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), ball_in_lung(seed=1)[0].voxels)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), ball_in_lung(seed=1)[1])
    assert json.loads((root / "splits_final.json").read_text()) == [{"train": ["0", "1"], "val": ["2", "3"]}]
    assert sorted(p.name for p in (root / "imagesTs").iterdir()) == ["4_0000.nii.gz", "5_0000.nii.gz"]


def test_monai_finds_lists_boxes_and_masks(store, tmp_path):
    api.export(store.path, tmp_path / "monai", "monai")
    lists = json.loads((tmp_path / "monai" / "dataset.json").read_text())
    assert [len(lists[name]) for name in ("training", "validation", "testing")] == [2, 2, 2]
    row = lists["training"][0]
    mask = read_image(tmp_path / "monai" / row["mask"])
    (box,) = row["box"]
    middle = mask.to_world(np.argwhere(mask.voxels).mean(0))
    # MONAI's boxes in voxels put half a voxel between a box and its place in the world (`datasets.monai`).
    np.testing.assert_allclose(box[:3], middle + np.array([-0.4, -0.4, 0.625]), atol=1e-3)
    assert 9 < box[3] < 12
    assert row["label"] == [0]


def test_samples_can_be_handed_on_too(tmp_path):
    inside = ball_in_lung()[1][None]
    made = Samples(
        arrays={"occupancy": inside.astype(np.float32), "mask": inside.astype(np.uint8)},
        index=np.arange(1),
        asked=((NoduleAttributes(),),),
        nodules=((),),
        details=({},),
        spec=PatchSpec(inside.shape[1:], (1.25, 0.8, 0.8)),
        lineage=Lineage("lung", "ab" * 32),
        tried=1,
    )
    write_samples(tmp_path / "made", made, seed=3, how={})
    api.export(tmp_path / "made", tmp_path / "monai", "monai")
    (row,) = json.loads((tmp_path / "monai" / "dataset.json").read_text())["training"]
    assert api.verify(tmp_path / "monai" / row["mask"])
    assert row["label"] == [0]
    assert len(row["box"]) == 1
    with pytest.raises(InputError, match="without an image"):
        api.export(tmp_path / "made", tmp_path / "nnunet", "nnunet")
    assert not (tmp_path / "nnunet").exists()
    for source, layout, said in ((tmp_path, "monai", "no manifest"), (tmp_path / "made", "yolo", "nnunet or monai")):
        with pytest.raises(InputError, match=said):
            api.export(source, tmp_path / "x", layout)


@pytest.mark.parametrize("formats", [["nifti"], ["nifti", "mha"]])
def test_cubes_of_ct_are_handed_on_with_their_boxes(untrained_gan, tmp_path, formats):
    for name, positive in (("with", True), ("without", False)):
        made = api.sample(untrained_gan, 2, positive=positive, **({"diameter_mm": 9.0} if positive else {}))
        api.write_samples(tmp_path / name, made, seed=0, formats=formats)
        api.export(tmp_path / name, tmp_path / f"{name}-monai", "monai")
        if positive:
            with pytest.raises(InputError, match="without a mask"):
                api.export(tmp_path / name, tmp_path / "nnunet", "nnunet")
        rows = json.loads((tmp_path / f"{name}-monai" / "dataset.json").read_text())["training"]
        assert [row["patient_id"] for row in rows] == ["synthetic-00000", "synthetic-00001"]
        assert ["mask" in row for row in rows] == [not positive] * 2
        assert [row["label"] for row in rows] == [[0] * positive] * 2
        for row, hu in zip(rows, made.ct, strict=True):
            ct = read_image(tmp_path / f"{name}-monai" / row["image"])
            np.testing.assert_array_equal(ct.voxels, hu)
            assert len(row["box"]) == positive
            for box in row["box"]:
                middle = ct.to_world((np.array(hu.shape) - 1) / 2) + np.multiply(ct.spacing_mm, [-0.5, -0.5, 0.5])
                np.testing.assert_allclose(box, [*middle, 9, 9, 9], atol=1e-3)


# The real cubes


def test_the_real_cubes_become_a_store_by_their_own_splits(real_data, tmp_path):
    wanted = read_nodule_table(real_data / "luna16-nodules" / "nodules.csv")
    rows = read_table(real_data / "luna16-nodules" / "nodules.csv")[:40]
    for name in ("image", "mask"):
        for row in rows:
            row[name] = str(real_data / "luna16-nodules" / row[name])
    write_table(tmp_path / "nodules.csv", rows)
    store = api.prepare("patches", tmp_path, tmp_path / "store", workers=2)
    assert len(wanted) == 946
    assert len(store) == 40
    assert not store.skipped
    for case, row in zip(store.cases, rows, strict=True):
        assert store.split_of(case.patient_id) == row["split"]
        assert int((store.read(case.case_id).label_map() > 0).sum()) == int(row["mask_voxels"])
        nodule = case.nodules[0]
        assert isinstance(nodule, Nodule)
        assert nodule.attributes.diameter_mm == float(row["diameter_mm"])
    places = nodule_places(store.cases)
    assert isinstance(places[0], Place)
    dataset = PatchDataset(store, places, PatchSpec(), cache=tmp_path / "cache", workers=1)
    batch = dataset.batch(0, 4)
    assert batch["ct"].shape == (4, 1, 48, 48, 48)
    assert (batch["ct"][batch["mask"] > 0].mean() > batch["ct"][batch["mask"] == 0].mean()).item()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["LPS", "RAS", "PIR", "ASL", "SAL"]))
def test_turned_volumes_are_those_of_itk(seed, axes):
    random = np.random.default_rng(seed)
    direction = Rotation.random(rng=random).as_matrix()
    ct = Volume(random.integers(-1000, 1000, (3, 4, 5)).astype(np.int16), (2.5, 0.7, 0.9), (1.0, 2.0, 3.0), direction)
    ours, theirs = orient(ct, axes), from_sitk(sitk.DICOMOrient(to_sitk(ct), axes))
    nearness = np.sort(np.abs(direction), axis=None)[::-1]
    assume(nearness[2] - nearness[3] > 1e-3)  # between two axes either is right
    assume(sorted(np.abs(direction).argmax(0)) == [0, 1, 2])
    np.testing.assert_array_equal(ours.voxels, theirs.voxels)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-9)
