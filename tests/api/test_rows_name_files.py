"""Every row of an injection's table names the scan, the mask and the picture of its nodule, from the table's folder."""

import numpy as np
import pytest

import synthorax as sx
from synthorax.api import side_by_side
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import read_image, write_image
from synthorax.io.tables import read_table
from tests.helpers.toy_makers import Dots

LEFT, RIGHT = (-70.0, 2.0, 2.0), (70.0, -10.0, 20.0)


@pytest.fixture(scope="module")
def scans(chest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    (folder / "ann").mkdir()
    write_image(folder / "ann" / "ct.nii.gz", chest)
    write_image(folder / "bob.nii.gz", chest)
    write_ct_series(folder / "series", chest, mark=None)
    return folder


def rows_of(folder):
    """The rows of a folder's table, whose files exist."""
    rows = read_table(folder / "nodules.csv")
    for row in rows:
        assert (folder / row["image"]).exists()
        assert (folder / row["mask"]).is_file()
        assert not row["picture"] or (folder / row["picture"]).is_file()
        if row["mask"].endswith(".nii.gz"):
            marked = read_image(folder / row["mask"])
            here = np.argwhere(marked.voxels == int(row["mask_label"])).mean(0)
            center = [float(row[f"center_{axis}_mm"]) for axis in "xyz"]
            assert marked.to_world(here).tolist() == pytest.approx(center, abs=0.01)
    return rows


@pytest.mark.parametrize(
    ("scan", "image", "mask"), [("bob.nii.gz",) * 2 + ("bob_mask.nii.gz",), ("series", "ct", "mask.dcm")]
)
def test_of_one_scan(scan, image, mask, scans, tmp_path):
    sx.inject(scans / scan, Dots(), at_mm=[LEFT, RIGHT], diameter_mm=12, out=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert {(row["image"], row["mask"], row["picture"]) for row in rows} == {(image, mask, "before-after.png")}


def test_of_several_methods_the_rows_are_told_apart_by_the_methods_folder(scans, tmp_path):
    methods = [Dots(name="dots"), Dots(name="dots")]
    sx.inject_each(scans / "bob.nii.gz", methods, at_mm=LEFT, diameter_mm=12, out=tmp_path / "out")
    own = {row["image"]: (row["method"], row["mask"], row["picture"]) for row in rows_of(tmp_path / "out")}
    assert own == {
        f"{name}/bob.nii.gz": ("dots", f"{name}/bob_mask.nii.gz", "side-by-side.png") for name in ("dots", "dots-2")
    }
    assert [row["picture"] for row in rows_of(tmp_path / "out" / "dots")] == [""]  # the picture lies above the table


def test_of_a_folder_of_scans_the_rows_name_the_case_and_the_method(scans, tmp_path):
    asked = {"auto": 1, "diameter_mm": 12, "workers": 1}
    sx.inject_folder(scans / "ann", tmp_path / "one", Dots(), **asked)
    (row,) = rows_of(tmp_path / "one")
    assert (row["image"], row["picture"]) == ("ct/ct.nii.gz", "ct/before-after.png")
    made = sx.inject_folder(scans, tmp_path / "each", [Dots(name="a"), Dots(name="b")], **asked)
    rows = rows_of(tmp_path / "each")
    assert {tuple(row["image"].split("/")[:2]) for row in rows} == {(c, m) for c in made.cases for m in "ab"}
    assert {row["picture"] for row in rows} == {f"{case}/side-by-side.png" for case in made.cases}


def test_a_nodule_that_no_picture_shows_has_none(scans, tmp_path, monkeypatch):
    sx.inject(scans / "bob.nii.gz", Dots(), at_mm=LEFT, diameter_mm=12, out=tmp_path / "first")
    monkeypatch.setattr(side_by_side, "MOST_PICTURED", 1)
    where = [RIGHT, (70.0, 10.0, -40.0)]
    sx.inject(tmp_path / "first" / "bob.nii.gz", Dots(), at_mm=where, diameter_mm=12, out=tmp_path / "second")
    assert [row["picture"] for row in rows_of(tmp_path / "second")] == ["", "before-after.png", ""]
    store = sx.prepare("patches", tmp_path / "second", tmp_path / "store", workers=1)
    assert all("picture" not in nodule.extra for case in store.cases for nodule in case.nodules)
