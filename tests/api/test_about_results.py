"""`info` says in plain words what a result, its files, a table and a folder of scans are."""

import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.io.images import write_image
from tests.helpers.toy_makers import Dots, LungFiller

AT = (-70.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def home(chest, tmp_path_factory):
    """A folder of scans, and the results of an injection, an erasure, two methods and a folder run."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "scans" / "ann").mkdir(parents=True)
    write_image(folder / "scans" / "ann" / "ct.nii.gz", chest)
    write_image(folder / "scans" / "bob.nii.gz", chest)
    scan, where = folder / "scans" / "bob.nii.gz", {"at_mm": AT, "diameter_mm": 12, "seed": 3}
    sx.inject(scan, Dots(), **where, out=folder / "injected")
    sx.erase(folder / "injected" / "bob.nii.gz", LungFiller(), **where, out=folder / "erased")
    sx.inject_each(scan, [Dots(), "render"], **where, out=folder / "each")
    sx.inject_folder(folder / "scans", folder / "cases", Dots(), auto=1, diameter_mm=12, workers=1)
    return folder


def test_a_result_is_told_in_words_with_its_nodules_and_the_patients_behind_it(home, capsys):
    found = sx.info(home / "injected")
    assert found["holds"] == "scan with injected nodules"
    (nodule,) = found["nodules"]
    assert nodule["diameter_mm"] == pytest.approx(12, rel=0.4)
    assert found["patients_behind_it"] == {"trained_on": 0, "outlines_of": 1}
    assert "request" not in found
    assert sx.info(home / "injected" / "manifest.json") == {"file": "manifest of the folder injected", **found}
    assert main(["info", str(home / "injected")]) == 0
    assert capsys.readouterr().out.startswith("holds: scan with injected nodules\n")


def test_each_kind_of_result_has_its_own_words(home):
    erased = sx.info(home / "erased")
    assert erased["holds"] == "scan from which nodules were erased"
    assert [line.split(",")[0] for line in erased["edits"]] == ["inject by dots", "erase by filler"]
    each = sx.info(home / "each")
    assert (each["holds"], each["methods"]) == (
        "one scan edited by several methods, one folder for each",
        "dots, render",
    )
    cases = sx.info(home / "cases")
    assert (cases["holds"], cases["cases"], cases["nodules"]) == ("edited scans, one folder for each", 2, 2)


def test_a_table_of_nodules_is_counted(home):
    found = sx.info(home / "cases" / "nodules.csv")
    assert found["holds"] == "table of nodules"
    assert (found["images"], found["patients"], found["nodules"], found["nodules_with_mask"]) == (2, 2, 2, 2)
    assert "method" in found["further_columns"]


def test_a_folder_of_images_is_a_folder_of_scans(home):
    found = sx.info(home / "scans")
    assert (found["holds"], found["scans"]) == ("folder of scans", 2)
    assert found["such_as"] == ["ann/ct.nii.gz", "bob.nii.gz"]


def test_an_empty_folder_is_none(tmp_path):
    with pytest.raises(InputError, match="DICOM"):
        sx.info(tmp_path)


def test_a_stopped_run_is_told(home, tmp_path):
    (tmp_path / "request.json").write_text('{"cases": {"a": "", "b": ""}}')
    assert sx.info(tmp_path)["holds"] == "edited scans that were not finished"
    assert sx.info(tmp_path)["cases"] == "0 of 2"
