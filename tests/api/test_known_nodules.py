"""The nodules that a scan has before an edit: their masks, ratings and places are kept, however they are given."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

import synthorax as sx
from synthorax.annotations.nodule_table import under
from synthorax.api.edit_session import EditSession
from synthorax.cli import main
from synthorax.editing.plan import nodule_balls
from synthorax.editing.plan_table import read_plan
from synthorax.errors import InputError
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import read_image, write_image
from synthorax.io.mappings import read_mapping
from synthorax.io.masks import read_labels_on
from synthorax.io.scans import read_scan
from synthorax.io.tables import read_table, write_table
from synthorax.nodule import NoduleAttributes
from tests.helpers.edits import FORMATS, injected_in_each_format
from tests.helpers.foreign_files import lidc_xml
from tests.helpers.toy_makers import Dots, LungFiller

LEFT, OTHER_LEFT, RIGHT = (-70.0, 2.0, 2.0), (-70.0, 2.0, 50.0), (70.0, -10.0, 20.0)
SPICULATED = NoduleAttributes(texture=5, spiculation=5, malignancy=5)


@pytest.fixture(scope="module")
def once(chest, tmp_path_factory):
    """The folders of an injection of two nodules into an image and into a DICOM series."""
    asked = {"at_mm": (LEFT, OTHER_LEFT), "diameter_mm": (18, 14), "attributes": SPICULATED}
    return injected_in_each_format(tmp_path_factory.mktemp("once"), chest, **asked)


def file_of(folder, kind):
    return folder / read_mapping(folder / "manifest.json")["files"][kind]


def labels_of(folder):
    return read_labels_on(file_of(folder, "mask"), read_scan(file_of(folder, "scan")).ct).voxels


def check_kept(first, second, count=3):
    """The first two rows of the new table are those of the old one, and so are the nodules' voxels."""
    old, new = read_table(first / "nodules.csv"), read_table(second / "nodules.csv")
    assert len(new) == count
    assert old[0]["malignancy"]
    assert old[0]["wanted_diameter_mm"] == "18"
    for one, other in zip(old, new, strict=False):
        moved = {"image", "mask", "patient_id", "picture"}  # the picture of the new edit shows new nodules alone
        assert {k: v for k, v in one.items() if k not in moved} == {k: v for k, v in other.items() if k not in moved}
    mask, again = labels_of(first), labels_of(second)
    for label in (1, 2):
        assert ((again == label) == (mask == label)).all()


# Facts about the nodules of a mask that is given


@pytest.mark.parametrize("kind", FORMATS)
def test_ratings_and_method_of_earlier_nodules_are_kept_with_their_mask(once, kind, tmp_path):
    scan, mask = file_of(once[kind], "scan"), file_of(once[kind], "mask")
    sx.inject(scan, Dots(), labels=mask, at_mm=RIGHT, diameter_mm=12, out=tmp_path / "two")
    check_kept(once[kind], tmp_path / "two")
    nodules = read_mapping(tmp_path / "two" / "manifest.json")["nodules"]
    assert [nodule["extra"]["method"] for nodule in nodules] == ["render", "render", "dots"]


def test_only_nodules_of_the_given_mask_are_kept_and_by_their_voxels(once, chest, tmp_path):
    mask = read_image(file_of(once["image"], "mask"))
    second = mask.voxels == 2
    write_image(tmp_path / "own.nii.gz", sx.Volume(second.astype(np.uint8), mask.spacing_mm, mask.origin_mm))
    sx.inject(
        file_of(once["image"], "scan"),
        Dots(),
        labels=tmp_path / "own.nii.gz",
        at_mm=RIGHT,
        diameter_mm=12,
        out=tmp_path / "two",
    )
    kept, new = read_table(tmp_path / "two" / "nodules.csv")
    assert (kept["mask_label"], kept["wanted_diameter_mm"]) == ("1", "14")
    assert (new["mask_label"], new["method"]) == ("2", "dots")


def test_a_folder_of_scans_keeps_what_its_tables_say(once, chest, tmp_path):
    scans = tmp_path / "scans"
    for kind, folder in once.items():
        shutil.copytree(folder, scans / kind)
    made = sx.inject_folder(scans, tmp_path / "out", Dots(), auto=1, diameter_mm=12, workers=1)
    assert made.nodules == 6
    (image,) = (tmp_path / "out").glob("chest*")
    (series,) = (tmp_path / "out").glob("SYNTHETIC*")
    check_kept(once["image"], image)
    check_kept(once["dicom"], series)


def test_the_readers_of_a_nodule_and_the_columns_of_a_table_are_kept_and_the_table_is_still_a_plan(chest, tmp_path):
    first = sx.inject(chest, Dots(), at_mm=LEFT, diameter_mm=16)
    write_image(tmp_path / "a.nii.gz", first.ct)
    write_image(tmp_path / "a_mask.nii.gz", first.mask)
    row = {"image": "a.nii.gz", "mask": "a_mask.nii.gz", "malignancy": "3 5 5", "comment": "seen twice"}
    write_table(tmp_path / "nodules.csv", [row])
    sx.inject(tmp_path / "a.nii.gz", Dots(), at_mm=RIGHT, diameter_mm=12, out=tmp_path / "two")
    kept, new = read_table(tmp_path / "two" / "nodules.csv")
    assert (kept["malignancy"], kept["comment"]) == ("3 5 5", "seen twice")
    assert (new["malignancy"], new["comment"]) == ("", "")
    (planned,) = read_plan(tmp_path / "two" / "nodules.csv").values()
    assert planned[0].attributes.malignancy == pytest.approx(13 / 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_region_of_an_edit_is_no_mask_of_nodules(once, kind, tmp_path):
    with pytest.raises(InputError, match="found the region that an edit changed; expected a mask of nodules, such as"):
        sx.inject(file_of(once[kind], "scan"), Dots(), labels=file_of(once[kind], "region"), at_mm=RIGHT, diameter_mm=9)


# Masks that nobody named


@pytest.mark.parametrize("kind", FORMATS)
def test_info_lists_the_nodules_by_the_labels_by_which_they_are_erased(once, kind):
    found = sx.info(file_of(once[kind], "scan"))
    facts = found["series"][0] if kind == "dicom" else found
    assert list(facts["nodules"]) == ["1", "2"]
    where, wide = facts["nodules"]["1"].split(" mm, ")
    assert np.allclose([float(one) for one in where.split(", ")], LEFT, atol=4)
    assert float(wide.removesuffix(" mm wide")) == pytest.approx(18, abs=3)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_masks_of_a_scans_folder_are_kept_without_being_named(once, kind, tmp_path):
    scan = once["dicom"] if kind == "dicom" else file_of(once["image"], "scan")
    command = ["inject", str(scan), "--auto", "1", "--diameter", "12", "--out", str(tmp_path / "two")]
    assert main(command) == 0
    check_kept(once[kind], tmp_path / "two")
    ct = read_scan(file_of(tmp_path / "two", "scan")).ct
    balls = nodule_balls(sx.Volume(labels_of(tmp_path / "two"), ct.spacing_mm, ct.origin_mm))
    for old in balls[:2]:
        gap = np.linalg.norm(np.subtract(old.center_mm, balls[2].center_mm))
        assert gap > (old.diameter_mm + balls[2].diameter_mm) / 2
    with pytest.raises(InputError, match="nodule"):
        sx.inject(scan, Dots(), at_mm=LEFT, diameter_mm=12)


def test_a_series_named_by_its_own_folder_has_the_masks_of_the_table_above(once, tmp_path):
    sx.inject(once["dicom"] / "ct", Dots(), auto=1, diameter_mm=12, out=tmp_path / "two")
    check_kept(once["dicom"], tmp_path / "two")


def test_a_segmentation_beside_a_single_series_is_used_without_a_table(once, tmp_path):
    shutil.copytree(once["dicom"], tmp_path / "plain")
    for name in ("nodules.csv", "manifest.json"):
        (tmp_path / "plain" / name).unlink()
    sx.inject(tmp_path / "plain", Dots(), auto=1, diameter_mm=12, out=tmp_path / "two")
    mask, again = labels_of(once["dicom"]), labels_of(tmp_path / "two")
    assert ((again > 0) & (again < 3)).sum() == (mask > 0).sum()
    assert len(read_table(tmp_path / "two" / "nodules.csv")) == 3


def test_methods_side_by_side_and_a_session_keep_them_too(once, tmp_path):
    scan = file_of(once["image"], "scan")
    sx.inject_each(scan, [Dots(), "render"], at_mm=RIGHT, diameter_mm=12, out=tmp_path / "both")
    session = EditSession(scan)
    assert sum(region.voxels > 0 for region in session.labels) == 2
    session.inject(Dots(), at_mm=RIGHT, diameter_mm=12)
    session.write(tmp_path / "session")
    for folder in ("both/dots", "both/render", "session"):
        check_kept(once["image"], tmp_path / folder)
    sx.inject(scan, Dots(), at_mm=RIGHT, diameter_mm=12, out=tmp_path / "verb")
    for name in ("manifest.json", "nodules.csv"):
        assert (tmp_path / "session" / name).read_bytes() == (tmp_path / "verb" / name).read_bytes()
    session.erase(LungFiller(), label=1)
    session.write(tmp_path / "more")
    left = read_table(tmp_path / "more" / "nodules.csv")
    assert [row["wanted_diameter_mm"] for row in left] == ["14", "12"]


def test_a_session_reads_no_mask_outside_the_folder_that_it_is_limited_to(once, tmp_path):
    (tmp_path / "chosen").mkdir()
    shutil.copy(file_of(once["image"], "scan"), tmp_path / "chosen" / "chest.nii.gz")
    write_table(
        tmp_path / "chosen" / "nodules.csv", [{"image": "chest.nii.gz", "mask": str(file_of(once["image"], "mask"))}]
    )
    session = EditSession(tmp_path / "chosen" / "chest.nii.gz", within=tmp_path / "chosen")
    assert not session.labels
    assert any("lies outside the chosen folder" in note for note in session.notes)
    assert EditSession(tmp_path / "chosen" / "chest.nii.gz").labels


def test_a_mask_that_only_its_name_shows_is_ignored_with_a_line_that_names_it_and_the_flag(
    once, chest, tmp_path, capsys
):
    write_image(tmp_path / "a.nii.gz", chest)
    shutil.copy(file_of(once["image"], "mask"), tmp_path / "a_mask.nii.gz")
    command = ["inject", str(tmp_path / "a.nii.gz"), "--auto", "1", "--diameter", "12", "--out"]
    assert main([*command, str(tmp_path / "two")]) == 0
    assert "a_mask.nii.gz may have masks of the scan's nodules, and was ignored; --nodules" in capsys.readouterr().err
    assert len(read_table(tmp_path / "two" / "nodules.csv")) == 1
    assert main([*command, str(tmp_path / "three"), "--nodules", str(tmp_path / "a_mask.nii.gz")]) == 0
    assert "ignored" not in capsys.readouterr().err


def test_a_table_that_cannot_be_read_is_named_and_ignored(chest, tmp_path):
    write_image(tmp_path / "a.nii.gz", chest)
    (tmp_path / "nodules.csv").write_text("series,x\n1,2\n")
    made = sx.inject(tmp_path / "a.nii.gz", Dots(), at_mm=LEFT, diameter_mm=12)
    assert sum("were ignored: nodules.csv: found columns series, x" in note for note in made.notes) == 1


def test_a_nodule_without_a_mask_is_named_by_its_place_as_new_nodules_take_its_number(chest, tmp_path):
    write_image(tmp_path / "a.nii.gz", chest)
    x, y, z = LEFT
    row = {"image": "a.nii.gz", "center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": 9}
    write_table(tmp_path / "nodules.csv", [row])
    made = sx.inject(tmp_path / "a.nii.gz", Dots(), at_mm=RIGHT, diameter_mm=12)
    said = f"a nodule of the scan without a mask, at {x:.1f}, {y:.1f}, {z:.1f} mm: new nodules may overlap it, and"
    assert sum(note.startswith(said) for note in made.notes) == 1


def below_a_table(folder, once, kind):
    """Put a scan below the folder of the table that names it by its path; return the scan."""
    shutil.copytree(once[kind], folder / "one")
    for name in ("nodules.csv", "manifest.json"):
        (folder / "one" / name).unlink()
    rows = [under("one", row) for row in read_table(once[kind] / "nodules.csv")]
    write_table(folder / "nodules.csv", rows)
    return folder / "one" / file_of(once[kind], "scan").name


@pytest.mark.parametrize("kind", FORMATS)
def test_a_table_in_a_folder_above_that_names_the_scan_is_used(once, kind, tmp_path):
    scan = below_a_table(tmp_path / "mine", once, kind)
    sx.inject(scan, Dots(), at_mm=RIGHT, diameter_mm=12, out=tmp_path / "two")
    assert [row["wanted_diameter_mm"] for row in read_table(tmp_path / "two" / "nodules.csv")] == ["18", "14", "12"]
    mask, again = labels_of(once[kind]), labels_of(tmp_path / "two")
    assert (again[mask > 0] == mask[mask > 0]).all()
    assert len(sx.erase(scan, LungFiller()).nodules) == 2
    assert sum(region.voxels > 0 for region in EditSession(scan).labels) == 2
    sx.inject_folder(scan.parent, tmp_path / "all", Dots(), auto=1, diameter_mm=12, workers=1)
    assert [row["wanted_diameter_mm"] for row in read_table(tmp_path / "all" / "nodules.csv")][:2] == ["18", "14"]
    if kind == "image":
        assert not EditSession(scan, within=scan.parent).labels


def test_a_table_in_a_folder_above_that_cannot_be_read_is_told(once, chest, tmp_path):
    (tmp_path / "mine" / "ct").mkdir(parents=True)
    write_image(tmp_path / "mine" / "ct" / "a.nii.gz", chest)
    write_table(tmp_path / "mine" / "nodules.csv", [{"image": "ct/other.nii.gz", "mask": "m.nii.gz"}])
    assert not EditSession(tmp_path / "mine" / "ct" / "a.nii.gz").notes
    (tmp_path / "mine" / "nodules.csv").write_text("series,x\n1,2\n")
    notes = EditSession(tmp_path / "mine" / "ct" / "a.nii.gz").notes
    assert sum("nodules.csv in a folder above was not read: columns series, x" in note for note in notes) == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_an_erasure_without_a_place_removes_the_nodules_of_the_folder(once, kind, tmp_path):
    scan = once["dicom"] if kind == "dicom" else file_of(once["image"], "scan")
    made = sx.erase(scan, LungFiller(), out=tmp_path / "erased")
    assert len(made.nodules) == 2
    with pytest.raises(InputError, match="no nodule to erase"):
        sx.erase(file_of(tmp_path / "erased", "scan"), LungFiller())


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("how", ["place", "mask", "folder"])
def test_an_erasure_of_one_nodule_keeps_mask_and_facts_of_the_others(once, kind, how, tmp_path):
    scan = once["dicom"] if kind == "dicom" else file_of(once["image"], "scan")
    before, (first, second) = labels_of(once[kind]), read_table(once[kind] / "nodules.csv")
    center = {name: first[name] for name in (f"center_{axis}_mm" for axis in "xyz")}
    out = tmp_path / "out"
    if how == "place":
        sx.erase(scan, LungFiller(), at_mm=[float(part) for part in center.values()], diameter_mm=20, out=out)
    elif how == "mask":
        ct = read_scan(file_of(once[kind], "scan")).ct
        sx.erase(scan, LungFiller(), labels=replace(ct, voxels=(before == 1).astype(np.uint8)), out=out)
    else:
        image = read_scan(file_of(once[kind], "scan")).series_uid if kind == "dicom" else scan.name
        write_table(tmp_path / "plan.csv", [{"image": image, **center, "diameter_mm": 20}])
        plan = tmp_path / "plan.csv"
        (case,) = sx.erase_folder(once[kind], tmp_path / "all", LungFiller(), plan=plan, workers=1).cases
        out = tmp_path / "all" / case
    manifest, (row,) = read_mapping(out / "manifest.json"), read_table(out / "nodules.csv")
    assert ("DICOM numbers segments without gaps: in mask.dcm nodule 02 has label 1" in manifest["notes"]) == (
        kind == "dicom"
    )
    assert manifest["erased"][0]["nodule_id"] == "01"
    assert len(manifest["erased"]) == 1
    assert manifest["gone"] == ["01"]
    label = 1 if kind == "dicom" else 2  # a DICOM segmentation has no segment without voxels
    assert [(nodule["nodule_id"], nodule["label"]) for nodule in manifest["nodules"]] == [("02", label)]
    assert ((labels_of(out) == label) == (before == 2)).all()
    assert row["mask_label"] == str(label)
    assert not row["picture"]  # which shows the erased nodule
    assert (row["malignancy"], row["wanted_diameter_mm"]) == (second["malignancy"], second["wanted_diameter_mm"])
    assert len(sx.erase(file_of(out, "scan"), LungFiller()).nodules) == 1


def test_an_erasure_names_the_nodules_without_a_mask_that_stay(once, tmp_path):
    scan = file_of(once["image"], "scan")
    second = [float(read_table(once["image"] / "nodules.csv")[1][f"center_{axis}_mm"]) for axis in "xyz"]
    write_image(tmp_path / "a.nii.gz", read_scan(scan).ct)
    row = {"image": "a.nii.gz", "center_x_mm": 70, "center_y_mm": -10, "center_z_mm": 20, "diameter_mm": 8}
    write_table(tmp_path / "nodules.csv", [row])
    made = sx.erase(tmp_path / "a.nii.gz", LungFiller(), at_mm=second, diameter_mm=20)
    assert "a nodule at 70.0, -10.0, 20.0 mm stays in the scan, and the result has no mask of it" in made.notes


# The marks of LIDC-IDRI's readers


def with_xml(folder, chest, *, series, named=""):
    """Write a chest with a dense cube of 5 voxels, and an XML file of two readers who outline it; return the scan.

    Args:
        series: whether to write a DICOM series, or else an image.
        named: UID that the XML file has, if it is not the series' own.
    """
    folder.mkdir()
    k, j, i = np.rint(chest.to_voxel(LEFT)).astype(int)
    chest = replace(chest, voxels=chest.voxels.copy())
    chest.voxels[k - 2 : k + 3, j - 2 : j + 3, i - 2 : i + 3] = 40
    if series:
        uid = str(write_ct_series(folder, chest, mark=None)[0].SeriesInstanceUID)
    else:
        write_image(folder / "chest.nii.gz", chest)
        uid = "1.2.3"
    square = tuple((i + x, j + y) for x, y in ((-3, -3), (3, -3), (3, 3), (-3, 3)))
    levels = [chest.to_world((level, j, i))[2] for level in range(k - 2, k + 3)]
    (folder / "069.xml").write_text(lidc_xml([dict.fromkeys(levels, square)] * 2, named or uid))
    return folder if series else folder / "chest.nii.gz"


@pytest.mark.parametrize("series", [True, False], ids=["dicom", "image"])
def test_the_nodules_of_an_xml_file_are_kept_and_can_be_taken_out(chest, tmp_path, series):
    scan = with_xml(tmp_path / "in", chest, series=series)
    made = sx.inject(scan, Dots(), at_mm=RIGHT, diameter_mm=12, out=tmp_path / "injected")
    assert [row["mask_label"] for row in read_table(tmp_path / "injected" / "nodules.csv")] == ["1", "2"]
    outlined = made.mask.voxels == 1
    assert outlined.sum() == 5 * 5 * 5
    with pytest.raises(InputError, match="nodule"):
        sx.inject(scan, Dots(), at_mm=LEFT, diameter_mm=12)
    gone = sx.erase(scan, LungFiller())
    assert (gone.ct.voxels[outlined] == -850).all()
    assert gone.nodules[0].center_mm == pytest.approx(LEFT, abs=4)
    assert sx.erase_folder(tmp_path / "in", tmp_path / "erased", LungFiller()).nodules == 1


def test_an_xml_file_of_another_series_is_ignored_and_told(chest, tmp_path):
    scan = with_xml(tmp_path / "in", chest, series=True, named="1.2.3.4")
    made = sx.inject(scan, Dots(), at_mm=RIGHT, diameter_mm=12)
    assert [nodule.label for nodule in made.nodules] == [1]
    assert any(note.startswith("069.xml was ignored: ") for note in made.notes)
