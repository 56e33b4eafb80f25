"""Edits of a scan that was edited before: the patients behind the earlier edits, and these edits, stay on record."""

import shutil

import numpy as np
import pytest

import synthorax as sx
from synthorax.api.edit_session import EditSession
from synthorax.cli import main
from synthorax.io.images import read_image, write_image
from synthorax.io.mappings import read_mapping
from synthorax.io.tables import read_table
from synthorax.makers import Lineage
from synthorax.provenance import patient_key
from tests.helpers.edits import FORMATS, injected_in_each_format
from tests.helpers.files import contents
from tests.helpers.toy_makers import Dots, LungFiller

LEFT, RIGHT = (-70.0, 2.0, 2.0), (70.0, -10.0, 20.0)
SEEN, SEEN_LATER = frozenset({"a" * 12}), frozenset({"b" * 12})
OUTLINED = frozenset({patient_key("LIDC-IDRI-0001")})
FIRST = Dots(name="first", lineage=Lineage("first", "1" * 64, SEEN))
SECOND = Dots(name="second", lineage=Lineage("second", "2" * 64, SEEN_LATER))


@pytest.fixture(scope="module")
def once(chest, tmp_path_factory):
    """The folders of an injection into an image and into a DICOM series."""
    return injected_in_each_format(tmp_path_factory.mktemp("once"), chest, FIRST, at_mm=LEFT, diameter_mm=14)


def scan_of(folder):
    return folder / read_mapping(folder / "manifest.json")["files"]["scan"]


def record(folder):
    """Lineage, edits and notes of a manifest."""
    manifest = read_mapping(folder / "manifest.json")
    return Lineage.from_row(manifest["lineage"]), manifest["request"].get("edits"), manifest["notes"]


def check_joined(folder, kinds=("inject", "inject"), methods=("first", "second")):
    lineage, edits, _ = record(folder)
    assert lineage.seen >= SEEN
    assert lineage.outlines >= OUTLINED
    assert lineage.tells
    assert tuple(edit["edit"] for edit in edits) == kinds
    assert tuple(edit["method"] for edit in edits) == methods
    assert edits[0]["seed"] == 5
    assert edits[0]["at_mm"] == [list(LEFT)]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_second_injection_keeps_the_patients_and_the_request_of_the_first(once, kind, tmp_path):
    made = sx.inject(scan_of(once[kind]), SECOND, at_mm=RIGHT, diameter_mm=12, seed=6, out=tmp_path / "two")
    check_joined(tmp_path / "two")
    lineage, edits, notes = record(tmp_path / "two")
    assert made.lineage == lineage
    assert lineage.seen == SEEN | SEEN_LATER
    assert (lineage.name, lineage.model_sha256) == ("second, first", f"{'2' * 64}, {'1' * 64}")
    assert (edits[1]["seed"], edits[1]["model_sha256"]) == (6, "2" * 64)
    assert not any("synthetic" in note for note in notes)
    third = sx.inject(scan_of(tmp_path / "two"), "render", at_mm=(70, 10, -40), diameter_mm=9, out=tmp_path / "three")
    check_joined(tmp_path / "three", ("inject",) * 3, ("first", "second", "render"))
    assert third.lineage.seen == SEEN | SEEN_LATER


def test_a_dicom_result_is_known_by_its_folder_and_by_one_of_its_slices(once, tmp_path):
    for name, path in (("folder", once["dicom"]), ("slice", next(scan_of(once["dicom"]).iterdir()))):
        sx.inject(path, SECOND, at_mm=RIGHT, diameter_mm=12, out=tmp_path / name)
        check_joined(tmp_path / name)


def test_the_folder_of_a_scan_may_be_named_relative_to_the_present_one(once, tmp_path, monkeypatch):
    monkeypatch.chdir(once["image"])
    sx.inject("chest.nii.gz", SECOND, at_mm=RIGHT, diameter_mm=12, out=tmp_path / "two")
    check_joined(tmp_path / "two")


@pytest.mark.parametrize("kind", FORMATS)
def test_an_erasure_keeps_the_patients_of_the_edits_before_it(once, kind, tmp_path):
    sx.erase(scan_of(once[kind]), LungFiller(), at_mm=LEFT, diameter_mm=14, out=tmp_path / "erased")
    check_joined(tmp_path / "erased", ("inject", "erase"), ("first", "filler"))
    sx.inject(scan_of(tmp_path / "erased"), SECOND, at_mm=RIGHT, diameter_mm=12, out=tmp_path / "again")
    check_joined(tmp_path / "again", ("inject", "erase", "inject"), ("first", "filler", "second"))
    assert len(record(tmp_path / "again")[1][1]["erased"]) == 1


def test_every_case_of_a_folder_keeps_the_patients_of_its_own_edits(once, chest, tmp_path):
    scans = tmp_path / "scans"
    for kind, folder in once.items():
        shutil.copytree(folder, scans / kind)
    write_image(scans / "new.nii.gz", chest)
    sx.inject_folder(scans, tmp_path / "injected", SECOND, auto=1, diameter_mm=12, workers=1)
    sx.erase_folder(tmp_path / "injected", tmp_path / "erased", LungFiller(), workers=1)
    (image,) = (tmp_path / "injected").glob("chest*")
    (series,) = (tmp_path / "injected").glob("SYNTHETIC*")
    for case in (image, series):
        check_joined(case)
        kinds, methods = ("inject", "inject", "erase"), ("first", "second", "filler")
        check_joined(tmp_path / "erased" / case.name, kinds, methods)
    lineage, edits, _ = record(tmp_path / "injected" / "new")
    assert (lineage.seen, edits) == (SEEN_LATER, None)
    assert Lineage.from_row(read_mapping(tmp_path / "injected" / "manifest.json")["lineage"]).seen == SEEN | SEEN_LATER


@pytest.mark.parametrize("kind", FORMATS)
def test_methods_side_by_side_keep_the_patients_of_the_scan(once, kind, tmp_path):
    sx.inject_each(scan_of(once[kind]), [SECOND, "render"], at_mm=RIGHT, diameter_mm=12, out=tmp_path / "both")
    for name in ("second", "render"):
        check_joined(tmp_path / "both" / name, methods=("first", name))
    assert Lineage.from_row(read_mapping(tmp_path / "both" / "manifest.json")["lineage"]).seen == SEEN | SEEN_LATER


@pytest.mark.parametrize("kind", FORMATS)
def test_a_session_on_an_edited_scan_writes_what_inject_writes_and_lists_all_edits(once, kind, tmp_path):
    session = EditSession(scan_of(once[kind]))
    session.inject(SECOND, at_mm=RIGHT, diameter_mm=12, seed=6)
    session.write(tmp_path / "session")
    sx.inject(scan_of(once[kind]), SECOND, at_mm=RIGHT, diameter_mm=12, seed=6, out=tmp_path / "verb")
    files = ("manifest.json", "nodules.csv")
    assert all((tmp_path / "session" / f).read_bytes() == (tmp_path / "verb" / f).read_bytes() for f in files)
    if kind == "image":
        assert contents(tmp_path / "session") == contents(tmp_path / "verb")
    session.erase(LungFiller(), at_mm=RIGHT, diameter_mm=12)
    session.write(tmp_path / "more")
    check_joined(tmp_path / "more", ("inject", "inject", "erase"), ("first", "second", "filler"))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_synthetic_scan_without_its_manifest_does_not_tell_its_patients(once, kind, tmp_path, capsys):
    alone = tmp_path / scan_of(once[kind]).name
    copy = shutil.copytree if kind == "dicom" else shutil.copy
    copy(scan_of(once[kind]), alone)
    command = ["inject", str(alone), "--at", ",".join(map(str, RIGHT)), "--diameter", "12", "--out"]
    assert main([*command, str(tmp_path / "two")]) == 0
    assert "the patients behind its earlier edits are not known" in capsys.readouterr().err
    lineage, _, notes = record(tmp_path / "two")
    assert not lineage.tells
    assert sum("earlier edits are not known" in note for note in notes) == 1
    session = EditSession(alone)
    assert any("earlier edits are not known" in note for note in session.notes)
    session.inject("render", at_mm=RIGHT, diameter_mm=12)
    assert not session.edited().lineage.tells
    sx.erase(scan_of(tmp_path / "two"), LungFiller(), at_mm=RIGHT, diameter_mm=12, out=tmp_path / "three")
    lineage, _, notes = record(tmp_path / "three")
    assert not lineage.tells
    assert sum("earlier edits are not known" in note for note in notes) == 1


def test_a_damaged_manifest_does_not_tell_the_patients(once, tmp_path):
    shutil.copytree(once["image"], tmp_path / "once")
    (tmp_path / "once" / "manifest.json").write_text("{")
    made = sx.inject(scan_of_image(tmp_path / "once"), SECOND, at_mm=RIGHT, diameter_mm=12)
    assert not made.lineage.tells
    assert any("earlier edits are not known" in note for note in made.notes)


def scan_of_image(folder):
    return folder / "chest.nii.gz"


def test_a_scan_edited_again_by_a_safe_method_stays_out_of_a_training_whose_test_patients_it_shows(
    once, chest, tmp_path
):
    """The leak check of a store reads the joined lineage."""
    sx.inject(scan_of(once["image"]), "render", at_mm=RIGHT, diameter_mm=12, out=tmp_path / "two")
    store = sx.prepare("patches", tmp_path / "two", tmp_path / "store", workers=1)
    (case,) = store.cases
    assert case.lineage is not None
    assert case.lineage.seen == SEEN
    assert np.array_equal(read_image(tmp_path / "two" / "chest.nii.gz").affine, chest.affine)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_nodule_states_its_edit_and_each_edit_the_scan_that_was_edited(once, kind, tmp_path):
    """The number leads from a nodule to the edit, and from the edit to the scan, also past an erasure."""
    session = EditSession(scan_of(once[kind]))
    session.inject(SECOND, at_mm=RIGHT, diameter_mm=12, seed=6)
    session.inject(Dots(), at_mm=(70, 10, -40), diameter_mm=9, seed=7)
    session.undo()
    session.erase(LungFiller(), at_mm=LEFT, diameter_mm=14)
    session.inject(Dots(name="last", lineage=Lineage("last")), at_mm=(70, 10, -40), diameter_mm=9, seed=7)
    session.write(tmp_path / "two")
    sx.inject(scan_of(tmp_path / "two"), "render", at_mm=(-70, 30, 30), diameter_mm=8, out=tmp_path / "three")
    first, two, three = (read_mapping(f / "manifest.json") for f in (once[kind], tmp_path / "two", tmp_path / "three"))
    edits = three["request"]["edits"]
    made = {row["nodule_id"]: row["extra"] for row in three["nodules"]}
    assert [made[name]["edit"] for name in sorted(made)][-3:] == ["2", "4", "5"]
    assert all(edits[int(extra["edit"]) - 1]["method"] == extra["method"] for extra in made.values())
    rows = read_table(tmp_path / "three" / "nodules.csv")
    assert {row["nodule_id"]: row["edit"] for row in rows} == {name: extra["edit"] for name, extra in made.items()}
    sources = [first["source"], *[two["source"]] * 3, three["source"]]
    assert [edit["source"] for edit in edits] == sources
    assert first["nodules"][0]["extra"]["edit"] == "1"


def test_the_edits_of_a_session_on_a_new_scan_state_it_too(chest, tmp_path):
    write_image(tmp_path / "chest.nii.gz", chest)
    session = EditSession(tmp_path / "chest.nii.gz")
    for where in (LEFT, RIGHT):
        session.inject(Dots(), at_mm=where, diameter_mm=12)
    session.write(tmp_path / "out")
    manifest = read_mapping(tmp_path / "out" / "manifest.json")
    assert [row["extra"]["edit"] for row in manifest["nodules"]] == ["1", "2"]
    assert [edit["source"] for edit in manifest["request"]["edits"]] == [manifest["source"]] * 2
    assert len(manifest["source"]["sha256"]) == 64


def test_numbers_of_edits_that_no_manifest_lists_are_not_kept(once, tmp_path):
    shutil.copytree(once["image"], tmp_path / "once")
    (tmp_path / "once" / "manifest.json").unlink()
    sx.inject(scan_of_image(tmp_path / "once"), SECOND, at_mm=RIGHT, diameter_mm=12, out=tmp_path / "two")
    assert [row["edit"] for row in read_table(tmp_path / "two" / "nodules.csv")] == ["", "1"]


def test_the_uid_of_a_series_that_kept_its_identity_is_not_passed_on(once, tmp_path):
    sx.inject(
        once["dicom"].parent / "series", FIRST, at_mm=LEFT, diameter_mm=14, keep_identity=True, out=tmp_path / "1"
    )
    uid = read_mapping(tmp_path / "1" / "manifest.json")["source"]["series_uid"]
    sx.inject(scan_of(tmp_path / "1"), SECOND, at_mm=RIGHT, diameter_mm=12, out=tmp_path / "2")
    assert uid not in (tmp_path / "2" / "manifest.json").read_text()
