"""A scan with injected nodules is as completely annotated as the user's scan that it was made from."""

import json

import pytest

from synthorax import api
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from tests.helpers.injected_folders import ball, injected, row, scan


def center(z, y, x):
    x_mm, y_mm, z_mm = scan().to_world((z, y, x)).tolist()
    return {"center_x_mm": x_mm, "center_y_mm": y_mm, "center_z_mm": z_mm, "diameter_mm": 4}


@pytest.fixture
def mine(tmp_path):
    """A scan with one nodule that the user's table names."""
    folder = tmp_path / "mine"
    folder.mkdir()
    write_image(folder / "a.nii.gz", scan())
    write_image(folder / "a_mask.nii.gz", ball())
    write_table(folder / "nodules.csv", [row("a.nii.gz", "P1", "a_mask.nii.gz", 1)])
    return folder


def made_from(folder, source, rows):
    injected(folder, source)
    write_table(folder / "nodules.csv", rows)
    return folder


EARLIER = row("a.nii.gz", "SYNTHETIC-x", "mask_a.nii.gz", 1)
NEW = row("a.nii.gz", "SYNTHETIC-x") | {"nodule_id": "02"} | center(2, 3, 3)
MOVED = row("a.nii.gz", "SYNTHETIC-x") | center(2, 16, 16)
LOST = NEW | {"nodule_id": "03", "mask": "gone.nii.gz"}


def prepared(tmp_path, mine, rows, **options):
    made = made_from(tmp_path / "made", mine / "a.nii.gz", rows)
    store = api.prepare("patches", mine, tmp_path / "store", synthetic=[made], split=(1, 0, 0), workers=1, **options)
    return store, next(case for case in store.cases if case.synthetic)


@pytest.mark.parametrize(
    ("rows", "annotated"),
    [([EARLIER, NEW], "all"), ([NEW], "some"), ([MOVED, NEW], "some"), ([EARLIER, NEW, LOST], "some")],
    ids=["keeps", "lost the earlier nodule", "elsewhere", "a row that cannot be read"],
)
def test_a_scan_that_keeps_its_nodules_inherits_that_all_are_known(tmp_path, mine, rows, annotated):
    store, case = prepared(tmp_path, mine, rows)
    assert case.annotated == annotated
    assert store.read(case.case_id).annotated == annotated
    report = api.export(store.path, tmp_path / "out", "monai")
    assert report.cases.total() == 1 + (annotated == "all")
    assert any("the scan into which they were injected" in note for note in report.notes) == (annotated == "some")


def test_a_statement_and_a_source_that_is_not_all_known_are_not_overridden(tmp_path, mine):
    _, case = prepared(tmp_path, mine, [EARLIER, NEW], annotated="some")
    assert case.annotated == "some"


def test_a_scan_of_other_bytes_than_the_store_has_inherits_nothing(tmp_path, mine):
    made = made_from(tmp_path / "made", mine / "a.nii.gz", [EARLIER, NEW])
    about = json.loads((made / "manifest.json").read_text())
    about["source"]["sha256"] = "0" * 64
    (made / "manifest.json").write_text(json.dumps(about))
    store = api.prepare("patches", mine, tmp_path / "store", synthetic=[made], split=(1, 0, 0), workers=1)
    assert [case.annotated for case in store.cases if case.synthetic] == ["some"]
