"""Every edited scan comes with a picture of its nodules before and after the edit."""

import pytest
from matplotlib.image import imread

import synthorax as sx
from synthorax.api.edit_session import EditSession
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.mappings import read_mapping
from tests.helpers.toy_makers import Dots, LungFiller

LEFT, RIGHT = (-70.0, 2.0, 2.0), (70.0, -10.0, 20.0)
PICTURE = "before-after.png"


@pytest.fixture(scope="module")
def scans(chest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    write_image(folder / "chest.nii.gz", chest)
    write_ct_series(folder / "series", chest, mark=None)
    return folder


@pytest.mark.parametrize("scan", ["chest.nii.gz", "series"])
def test_an_injection_and_an_erasure_have_a_picture_with_a_row_for_each_nodule(scan, scans, tmp_path):
    made = sx.inject(scans / scan, Dots(), at_mm=[LEFT, RIGHT], diameter_mm=12, out=tmp_path / "two")
    sx.inject(scans / scan, Dots(), at_mm=LEFT, diameter_mm=12, out=tmp_path / "one")
    files = read_mapping(tmp_path / "one" / "manifest.json")["files"]
    assert files["picture"] == PICTURE
    one, two = imread(tmp_path / "one" / PICTURE), imread(tmp_path / "two" / PICTURE)
    assert two.shape == (2 * one.shape[0], *one.shape[1:])
    half = one.shape[1] // 2
    assert abs(one[:, :half].mean() - one[:, half:].mean()) > 0.001  # the nodule is after, not before
    edited = tmp_path / "two" / files["scan"]
    where = [nodule.center_mm for nodule in made.nodules]
    sx.erase(edited, LungFiller(), at_mm=where, diameter_mm=12, out=tmp_path / "erased")
    assert imread(tmp_path / "erased" / PICTURE).shape == two.shape


def test_the_cases_of_a_folder_and_a_session_have_it_too(scans, tmp_path):
    made = sx.inject_folder(scans, tmp_path / "cases", Dots(), auto=1, diameter_mm=12, workers=1)
    assert len(made.cases) == 2
    assert all((tmp_path / "cases" / case / PICTURE).is_file() for case in made.cases)
    session = EditSession(scans / "chest.nii.gz")
    session.inject(Dots(), at_mm=LEFT, diameter_mm=12)
    session.erase(LungFiller(), label=1)
    session.write(tmp_path / "nothing")
    assert not (tmp_path / "nothing" / PICTURE).exists()  # no nodule is left to show
