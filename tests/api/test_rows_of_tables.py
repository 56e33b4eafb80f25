"""Tables of scans and nodules: an image is looked for from the table's own folder first, and errors name the row."""

import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.mappings import read_mapping
from synthorax.io.tables import read_table
from tests.helpers.toy_makers import Dots, LungFiller

LEFT, RIGHT = (-70.0, 2.0, 2.0), (70.0, -10.0, 20.0)
PLACES = "center_x_mm,center_y_mm,center_z_mm"


@pytest.fixture(scope="module")
def mixed(chest, tmp_path_factory):
    """A folder with an injected DICOM series `a/ct` with its table, and with an image `b/ct.nii.gz`."""
    folder = tmp_path_factory.mktemp("mixed")
    write_ct_series(folder / "series", chest, mark=None)
    (folder / "scans" / "b").mkdir(parents=True)
    sx.inject(folder / "series", Dots(), at_mm=LEFT, diameter_mm=16, out=folder / "scans" / "a")
    write_image(folder / "scans" / "b" / "ct.nii.gz", chest)
    return folder / "scans"


# The image of a row


def test_an_image_of_a_table_is_the_scan_in_the_tables_folder_and_no_other_of_that_name(mixed, tmp_path):
    made = sx.inject_folder(mixed, tmp_path / "out", Dots(), auto=1, diameter_mm=12, workers=1)
    assert not made.failed
    assert made.nodules == 3
    (series,) = (tmp_path / "out").glob("SYNTHETIC*")
    assert [row["wanted_diameter_mm"] for row in read_table(series / "nodules.csv")] == ["16", "12"]
    erased = sx.erase_folder(mixed, tmp_path / "erased", LungFiller(), workers=1)
    assert erased.nodules == 1
    store = sx.prepare("scans", mixed, tmp_path / "store", workers=1)
    assert sorted(len(case.nodules) for case in store.cases) == [0, 1]


def test_the_table_of_a_scan_is_a_plan_from_its_own_folder(mixed, tmp_path):
    plan = mixed / "a" / "nodules.csv"
    erased = sx.erase_folder(mixed, tmp_path / "erased", LungFiller(), plan=plan, workers=1)
    (case,) = erased.cases
    assert case.startswith("SYNTHETIC")


def test_a_row_that_matches_several_scans_is_named_with_its_table(mixed, chest, tmp_path):
    for name in ("c", "d"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "ct.nii.gz", chest)
    (tmp_path / "nodules.csv").write_text(f"image,{PLACES},diameter_mm\nct,-70,2,2,9\n")
    with pytest.raises(InputError, match=r"nodules\.csv: found line 2: image ct, which matches several scans"):
        sx.inject_folder(tmp_path, tmp_path.parent / "out-several", Dots(), auto=1, diameter_mm=12, workers=1)
    (tmp_path / "nodules.csv").unlink()
    plan = tmp_path / "plan.csv"
    plan.write_text("image,diameter_mm\nc/ct.nii.gz,9\nnone.nii.gz,9\n")
    with pytest.raises(InputError, match=r"plan\.csv, line 3: found none\.nii\.gz, which is not a scan of the folder"):
        sx.inject_folder(tmp_path, tmp_path.parent / "out-none", Dots(), plan=plan, workers=1)


# The row of a refused nodule


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("-70,2,2,300,", "diameter_mm: found 300 mm"),
        ("-160,-120,0,9,", "place: found"),
        ("-70,2,2000,9,", "place: found"),
        (",,,95,", "95 mm"),
        ("-70,2,4,14,", "nodule"),
        ("70,2,2,9,4", "malignancy"),
        ("70,2,2,1,", "diameter: found 1 mm, for which dots marked no voxel"),
    ],
)
def test_a_refused_row_of_a_plan_is_named(chest, tmp_path, row, message):
    (tmp_path / "plan.csv").write_text(f"{PLACES},diameter_mm,malignancy\n-70,2,2,14,\n{row}\n")
    with pytest.raises(InputError, match=f"plan.csv, line 3, .*{message}"):
        sx.inject(chest, Small(), plan=tmp_path / "plan.csv")


class Small(Dots):
    """Dots without voxels for diameters below the voxels' width."""

    def _fill(self, patch, region, edit):
        filled = super()._fill(patch, region, edit)
        filled.mask[:] &= edit.nodule.diameter_mm >= 4
        return filled


def test_a_refused_row_is_named_on_the_screen_and_for_a_method_of_its_own(chest, tmp_path, capsys):
    write_image(tmp_path / "a.nii.gz", chest)
    plan = tmp_path / "plan.csv"
    plan.write_text(f"{PLACES},diameter_mm,method\n-70,2,2,14,\n70,2,2,9,magic\n")
    command = ["inject", str(tmp_path / "a.nii.gz"), "--plan", str(plan), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "plan.csv, line 3, method: found 'magic'" in capsys.readouterr().err
    plan.write_text(f"{PLACES},diameter_mm\n-70,2,2,14\n-160,-120,0,9\n")
    assert main(command) == 2
    assert "plan.csv, line 3, place: found" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert read_mapping(tmp_path / "out" / "manifest.json")["nodules"]


def test_a_refused_row_of_a_plan_of_removals_is_named(chest, tmp_path):
    plan = tmp_path / "plan.csv"
    made = sx.inject(chest, Dots(), at_mm=LEFT, diameter_mm=16)
    for row, message in (
        (",,,9", "place: found none"),
        ("70,2,2,9", "place: found"),
        ("70,2,2,300", "diameter_mm: found"),
    ):
        plan.write_text(f"{PLACES},diameter_mm\n-70,2,2,16\n{row}\n")
        with pytest.raises(InputError, match=f"plan.csv, line 3, {message}"):
            sx.erase(made.ct, LungFiller(), plan=plan)
