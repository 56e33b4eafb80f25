"""`info` says in plain words what a result, its files, a table and a folder of scans are."""

import numpy as np
import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.datasets.store import STORE_REQUEST, write_index
from synthorax.errors import InputError
from synthorax.io.images import write_image
from tests.helpers.stores import cases, store_of
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
    assert [line.split(",")[0] for line in erased["edits"]] == ["1: inject by dots", "2: erase by filler"]
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


def test_a_table_without_images_is_a_plan(tmp_path):
    (tmp_path / "plan.csv").write_text("diameter_mm,center_x_mm,center_y_mm,center_z_mm\n8,-70,2,2\n6,,,\n")
    found = sx.info(tmp_path / "plan.csv")
    assert (found["holds"], found["nodules"], found["nodules_with_place"]) == ("plan of nodules", 2, 1)
    assert found["use"].startswith("`synthorax inject SCAN --plan plan.csv`")


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


def test_least_values_quartiles_and_largest_values_are_named(home, tmp_path, capsys):
    (tmp_path / "nodules.csv").write_text(
        "image,center_x_mm,center_y_mm,center_z_mm,diameter_mm\n" + "".join(f"a.nii,0,0,0,{mm}\n" for mm in (5, 9, 6))
    )
    spread = {"least": 5.0, "lower_quartile": 5.5, "median": 6.0, "upper_quartile": 7.5, "largest": 9.0}
    assert sx.info(tmp_path / "nodules.csv")["diameter_mm"] == spread
    assert main(["info", str(tmp_path / "nodules.csv")]) == 0
    lines = [f"  {name}: {value}" for name, value in spread.items()]
    assert "\n".join(["diameter_mm:", *lines, ""]) in capsys.readouterr().out
    np.save(tmp_path / "a.npy", np.array([3.0, -1.0, 2.0]))
    assert sx.info(tmp_path / "a.npy")["range"] == {"least": -1.0, "largest": 3.0}
    store_cases = [*cases(2, size=32), cases(3, size=40)[2]]
    store = store_of(tmp_path / "store", store_cases)
    splits = {name: set(patients) for name, patients in store.splits.items()}
    write_index(store.path, store.cases, splits, source={"place": "5b786f18ac7a"}, skipped=[])
    (tmp_path / "store" / STORE_REQUEST).write_text("{}")
    found = sx.info(tmp_path / "store")
    assert found["source"] == {"hash_of_source_paths": "5b786f18ac7a"}
    assert found["diameter_mm"].keys() == spread.keys()
    assert found["shape_zyx"] == {"least_of_each": [32, 32, 32], "largest_of_each": [40, 40, 40]}
    assert found["spacing_zyx_mm"] == [1.0, 1.0, 1.0]
    assert sum(found["malignancy"].values()) == len(store_cases) == found["texture"]["not rated"]
    assert all(name.endswith(" of 5") for name in found["malignancy"])
    assert found["classes"] == {"malignant, median 4 or more": 4, "benign, all other rated nodules": 3}
