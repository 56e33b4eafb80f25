"""Inputs of users, from the command to the store, each with its correct value.

Further cases are in the tests of the modules; docs/reliability.md counts all of them.
"""

from dataclasses import replace

import numpy as np
import pytest

from synthorax import api
from synthorax.cli import main
from synthorax.io.dicom_out import write_ct_series
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.foreign_files import bare, circle, edit, write_contours, write_segments

PLACE = (-12.0, 0.0, 124.0)
LEVELS = 100 + 2.0 * np.arange(24)


def thorax(z_mm=100.0, seed=0):
    """A trunk with two lungs, 24 slices of 2 mm, pixels of 1 mm."""
    _, y, x = np.meshgrid(np.arange(24), np.arange(64), np.arange(64), indexing="ij")
    hu = np.full(y.shape, -1000.0)
    trunk = ((y - 32) / 28) ** 2 + ((x - 32) / 30) ** 2 < 1
    hu[trunk] = 40
    for middle in (20, 44):
        hu[trunk & (((y - 32) / 20) ** 2 + ((x - middle) / 9) ** 2 < 1)] = -850
    hu += np.random.default_rng(seed).normal(0, 10, hu.shape)
    return Volume(np.rint(hu).astype(np.int16), (2.0, 1.0, 1.0), (-32.0, -32.0, z_mm))


def sphere(r):
    x, y, z = PLACE
    return [circle(x, y, np.sqrt(r * r - (h - z) ** 2), h, 48) for h in LEVELS if abs(h - z) < r - 0.3]


def ball(r):
    return ball_mask((24, 64, 64), 2 * r, (2.0, 1.0, 1.0), (12, 32, 20)).astype(np.uint8)


def write(folder, ct=None, patient="P1", **elements):
    """A series of a patient; elements that are None are deleted from every slice."""
    headers = write_ct_series(folder, ct or thorax(), mark=None)
    for file, header in zip(sorted(folder.glob("*.dcm")), headers, strict=True):
        header.PatientID = patient
        edit(file, **{"PatientID": patient} | elements)
    (folder / ".synthorax").unlink(missing_ok=True)
    return headers


def prepared(source, out, capsys):
    """Return the store that `prepare scans` makes of a folder, and its output."""
    assert main(["prepare", "scans", str(source), "--out", str(out), "--workers", "1"]) == 0
    said = capsys.readouterr()
    return api.open_store(out), said.out + said.err


def nodules(store):
    return [
        (nodule.center_mm, int(store.region(case.case_id, nodule.label).mask.sum()))
        for case in store.cases
        for nodule in case.nodules
    ]


@pytest.mark.parametrize(
    "after",
    [
        [],
        [("BODY", [circle(0, 0, 27, z, 48) for z in LEVELS])],
        [("Lung_R", [circle(-12, 0, 9, z, 48) for z in LEVELS])],
        [("CTV", sphere(8)), ("PTV", sphere(10))],
        [("Esophagus", [circle(-7, 0, 4, z, 48) for z in LEVELS])],
    ],
)
def test_a_tumour_has_its_437_voxels_whatever_structures_follow_it(after, tmp_path, capsys):
    slices = write(tmp_path / "in" / "ct")
    write_contours(tmp_path / "in" / "rs.dcm", slices, [("GTV-1", sphere(6)), *after])
    store, said = prepared(tmp_path / "in", tmp_path / "store", capsys)
    assert nodules(store) == [(PLACE, 437)]
    assert all(name in said for name, _ in after)


def test_a_nodule_within_the_lung_segment_has_its_455_voxels(tmp_path, capsys):
    slices = write(tmp_path / "in" / "ct")
    lung = np.broadcast_to(thorax().voxels[:1] < -500, (24, 64, 64)).astype(np.uint8)
    write_segments(tmp_path / "in" / "s.dcm", slices, [ball(6), lung], ["Lung nodule", "Right lung"])
    store, _ = prepared(tmp_path / "in", tmp_path / "store", capsys)
    assert nodules(store) == [(PLACE, 455)]


def test_masks_that_name_no_series_give_their_nodules(tmp_path, capsys):
    slices = write(tmp_path / "rt" / "ct")
    write_contours(tmp_path / "rt" / "rs.dcm", slices, [("GTV", sphere(6))], series=False)
    slices = write(tmp_path / "seg" / "ct")
    write_segments(tmp_path / "seg" / "s.dcm", slices, [ball(6)], ["Nodule"], references=False)
    for name, voxels in (("rt", 437), ("seg", 455)):
        store, _ = prepared(tmp_path / name, tmp_path / f"store-{name}", capsys)
        assert nodules(store) == [(PLACE, voxels)]


@pytest.mark.parametrize(
    ("uid", "second_z_mm"), [(None, 101.0), ("", 101.0), ("1.2.3.4", 101.0), (None, 148.0), (None, 100.0)]
)
def test_two_patients_without_series_uids_of_their_own_are_two_scans(uid, second_z_mm, tmp_path, capsys):
    write(tmp_path / "in" / "P1", SeriesInstanceUID=uid)
    write(tmp_path / "in" / "P2", thorax(second_z_mm, seed=1), "P2", SeriesInstanceUID=uid)
    store, _ = prepared(tmp_path / "in", tmp_path / "store", capsys)
    assert [(case.patient_id, case.shape, case.spacing_mm[0]) for case in store.cases] == [
        ("P1", (24, 64, 64), 2.0),
        ("P2", (24, 64, 64), 2.0),
    ]


@pytest.mark.parametrize("kept", [0, 100])
def test_slices_that_are_empty_or_cut_are_named(kept, tmp_path, capsys):
    write(tmp_path / "in")
    for file in sorted((tmp_path / "in").iterdir())[-3:]:
        file.write_bytes(file.read_bytes()[:kept])
    _, said = prepared(tmp_path / "in", tmp_path / "store", capsys)
    assert all(f"{number:04d}.dcm" in said for number in (22, 23, 24))


def test_bare_slices_are_read_and_bare_patients_are_not_lost(tmp_path, capsys):
    for patient in ("P1", "P2"):
        write(tmp_path / "in" / patient, thorax(seed=int(patient[1])), patient)
    for file in (tmp_path / "in" / "P2").iterdir():
        bare(file)
    store, _ = prepared(tmp_path / "in", tmp_path / "store", capsys)
    assert [(case.patient_id, case.shape) for case in store.cases] == [("P1", (24, 64, 64)), ("P2", (24, 64, 64))]


def test_a_scan_whose_structures_have_other_names_is_not_said_to_be_healthy(tmp_path, capsys):
    slices = write(tmp_path / "in" / "ct")
    write_contours(tmp_path / "in" / "rs.dcm", slices, [("Heart", sphere(6))])
    store, said = prepared(tmp_path / "in", tmp_path / "store", capsys)
    assert [case.annotated for case in store.cases] == ["none-known"]
    assert "Heart" in said


def test_the_store_holds_the_scan_to_the_value(tmp_path, capsys):
    ct = replace(thorax(), origin_mm=(-32.0, -32.0, 0.0))
    write(tmp_path / "in", ct)
    store, _ = prepared(tmp_path / "in", tmp_path / "store", capsys)
    np.testing.assert_array_equal(store.read("P1").ct.voxels, ct.voxels)
