"""A mask with several separate nodules becomes several nodules, whatever its format."""

import json
from dataclasses import replace

import numpy as np
import pytest

from synthorax import api
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from tests.helpers.foreign_files import write_segments
from tests.helpers.structures import ball, lung

CT = lung()
BALLS = (ball(3, (6, 8, 8)), ball(4, (6, 8, 30)), ball(5, (6, 30, 8)), ball(3, (6, 30, 30)))
"""Balls that do not touch."""
FOUR = sum(b.astype(np.uint8) for b in BALLS)
CENTERS = [CT.to_world(np.argwhere(b).mean(0)).tolist() for b in BALLS]


def prepared(folder, rows, voxels=FOUR, suffix=".nii.gz", kind="patches"):
    """Prepare the store of one scan with a mask in a format, which the rows of its table name; return it."""
    if suffix == ".dcm":
        slices = write_ct_series(folder / "in" / "ct", CT, mark=None)
        write_segments(folder / "in" / "m.dcm", slices, [voxels], ["Nodule"])
    else:
        (folder / "in").mkdir()
        write_image(folder / "in" / f"ct{suffix}", CT)
        write_image(folder / "in" / f"m{suffix}", replace(CT, voxels=voxels))
    image = "ct" if suffix == ".dcm" else f"ct{suffix}"
    write_table(folder / "in" / "nodules.csv", [{"image": image, "mask": f"m{suffix}", **row} for row in rows])
    store = api.prepare(kind, folder / "in", folder / "store", split=(1, 0, 0), workers=1)
    return store, store.cases[0]


def place(i, **more):
    x, y, z = CENTERS[i]
    return {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": "", **more}


def voxels(store, case):
    return [store.region(case.case_id, nodule.label).voxels for nodule in case.nodules]


@pytest.mark.parametrize("kind", ["patches", "scans"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd", ".dcm"])
def test_every_piece_of_a_mask_is_a_nodule(tmp_path, suffix, kind):
    store, case = prepared(tmp_path, [{"malignancy": 4, "hospital": "north"}], suffix=suffix, kind=kind)
    assert sorted(voxels(store, case)) == sorted(int(b.sum()) for b in BALLS)
    found = sorted(nodule.center_mm for nodule in case.nodules)
    np.testing.assert_allclose(found, sorted(map(tuple, CENTERS)), atol=1e-3)
    assert max(nodule.attributes.diameter_mm for nodule in case.nodules) < 12
    assert [nodule.nodule_id for nodule in case.nodules] == ["01-1", "01-2", "01-3", "01-4"]
    assert {nodule.attributes.malignancy for nodule in case.nodules} == {None}
    assert {nodule.extra["hospital"] for nodule in case.nodules} == {"north"}
    assert case.annotated == "all"
    assert any(
        "4 separate pieces of its mask are taken as 4 nodules, without the row's ratings" in n for n in case.notes
    )


def test_a_mask_of_one_piece_is_taken_as_it_is_with_its_rating(tmp_path):
    stray = BALLS[0].astype(np.uint8)
    stray[1, 38, 38] = 1
    store, case = prepared(tmp_path, [{"malignancy": 4}], stray)
    assert (case.nodules[0].nodule_id, case.nodules[0].attributes.malignancy) == ("01", 4)
    assert voxels(store, case) == [BALLS[0].sum() + 1]


@pytest.mark.parametrize(
    "row",
    [place(2, malignancy=5), {"diameter_mm": 11, "malignancy": 5}],
    ids=["centre", "diameter"],
)
def test_a_row_with_a_centre_or_a_diameter_means_one_piece(tmp_path, row):
    store, case = prepared(tmp_path, [row])
    assert voxels(store, case) == [BALLS[2].sum()]
    assert case.nodules[0].attributes.malignancy == 5
    assert any("3 more separate pieces of its mask are in no row" in note for note in case.notes)
    assert case.annotated == "some"  # three nodules have no row


@pytest.mark.parametrize(("rows", "annotated"), [((0, 1, 2, 3), "all"), ((0, 1, 2), "some")])
def test_rows_with_centres_share_a_mask_and_a_piece_without_a_row_makes_no_healthy_scan(tmp_path, rows, annotated):
    store, case = prepared(tmp_path, [place(i) for i in rows])
    assert voxels(store, case) == [BALLS[i].sum() for i in rows]
    assert case.annotated == annotated
    assert any("1 more separate pieces" in note for note in case.notes) == (annotated == "some")


def test_a_centre_at_no_piece_is_told(tmp_path):
    x, y, z = CT.to_world([6, 19, 19]).tolist()
    _, case = prepared(tmp_path, [{"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": ""}])
    assert case.nodules == ()
    assert case.annotated == "none-known"
    assert any("4 separate pieces, without a piece at the centre" in note for note in case.notes)


def test_a_mask_label_means_one_nodule_and_several_labels_far_apart_mean_several(tmp_path):
    (tmp_path / "a").mkdir()
    store, case = prepared(tmp_path / "a", [{"mask_label": 1, "malignancy": 4}])
    assert voxels(store, case) == [FOUR.sum()]
    assert case.nodules[0].attributes.malignancy == 4
    (tmp_path / "b").mkdir()
    labels = sum((i + 1) * b.astype(np.uint8) for i, b in enumerate(BALLS))
    store, case = prepared(tmp_path / "b", [{"malignancy": 4}], labels)
    assert len(case.nodules) == 4
    assert sum(voxels(store, case)) == FOUR.sum()
    assert [nodule.attributes.malignancy for nodule in case.nodules] == [None] * 4
    assert any("labels 1, 2, 3, 4 are taken together" in note for note in case.notes)


def nnunet(folder, label):
    """Write an nnU-Net data set of two scans, one of them without a nodule; return its folder."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case, voxels in (("a", FOUR), ("b", np.zeros_like(FOUR))):
        write_image(folder / "imagesTr" / f"{case}_0000.nii.gz", CT)
        write_image(folder / "labelsTr" / f"{case}.nii.gz", replace(CT, voxels=voxels))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, label: 1}}))
    return folder


def test_the_labels_of_nnunet_are_the_nodules_of_its_scans(tmp_path):
    store = api.prepare("scans", nnunet(tmp_path / "in", "nodule"), tmp_path / "store", split=(1, 0, 0), workers=1)
    assert {case.case_id: (len(case.nodules), case.annotated) for case in store.cases} == {
        "a_0000": (4, "all"),
        "b_0000": (0, "all"),
    }
    assert not store.skipped
    assert sorted(voxels(store, store.cases[0])) == sorted(int(b.sum()) for b in BALLS)


def test_labels_of_nnunet_that_are_no_nodules_are_not_read_and_the_note_says_which_table_to_write(tmp_path):
    store = api.prepare("scans", nnunet(tmp_path / "in", "liver"), tmp_path / "store", split=(1, 0, 0), workers=1)
    assert not any(case.nodules for case in store.cases)
    assert any("imagesTr/a_0000.nii.gz,labelsTr/a.nii.gz,1" in note for note in store.source["notes"])


def test_a_row_with_ratings_or_a_diameter_but_no_place_never_makes_its_scan_healthy(tmp_path):
    for i, row in enumerate(({"malignancy": 5}, {"diameter_mm": 9}, {"nodule_id": "7"}, {})):
        (tmp_path / str(i) / "in").mkdir(parents=True)
        write_image(tmp_path / str(i) / "in" / "ct.nii.gz", CT)
        write_table(tmp_path / str(i) / "in" / "nodules.csv", [{"image": "ct.nii.gz", "mask": "", **row}])
        case = api.prepare(
            "patches", tmp_path / str(i) / "in", tmp_path / str(i) / "store", split=(1, 0, 0), workers=1
        ).cases[0]
        assert case.nodules == ()
        assert case.annotated == ("none-known" if row else "all")
        assert bool(row) == any("left out: neither mask nor centre" in note for note in case.notes)


def test_a_diameter_that_is_far_from_the_width_of_the_mask_is_told(tmp_path):
    _, case = prepared(tmp_path, [{"mask_label": 1, "diameter_mm": 1.5}])
    assert case.nodules[0].attributes.diameter_mm == 1.5
    assert any("its diameter_mm is 1.5, and its mask is" in note for note in case.notes)
