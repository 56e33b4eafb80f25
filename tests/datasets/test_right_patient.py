"""A folder becomes the right nodules of the right patients, and unknown scans never count as healthy."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from synthorax import api
from synthorax.annotations.nodule_table import TableImage
from synthorax.cli import main
from synthorax.datasets.case_ids import case_ids
from synthorax.datasets.discovery import masks_by_name
from synthorax.datasets.manifests import Manifests
from synthorax.datasets.mask_matching import MaskFile, ScanHeader, match_masks
from synthorax.datasets.patients import Person, linked, tell_patients_apart
from synthorax.datasets.summary import summary_lines
from synthorax.errors import InputError
from synthorax.io.dicom_file import About
from synthorax.io.dicom_masks import MaskReferences
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.provenance import patient_key, sha256, synthetic_patient
from tests.helpers.foreign_files import lidc_xml, write_contours, write_segments
from tests.helpers.structures import NODULE, SHAPE, ball, lung

CT = lung()
MASK = replace(CT, voxels=ball(6).astype(np.uint8))


def prepare(source, out, kind="scans", **more):
    return api.prepare(kind, source, out, workers=1, **more)


def patients(store):
    return {case.case_id: case.patient_id for case in store.cases}


# Masks and their scans


def header(name, series="1", frame="", study="", patient="", folder="in"):
    about = About(series, patient, "CT", "", study_uid=study, frame_of_reference=frame)
    return ScanHeader((Path(folder) / name / "1.dcm",), about)


def refers(path="in/m.dcm", series=(), frames=(), study="", patient=""):
    return MaskFile(Path(path), MaskReferences(frozenset(series), frozenset(frames), study, patient))


@pytest.mark.parametrize(
    ("scans", "mask", "which"),
    [
        ([header("a", "1"), header("b", "2")], refers(series=["2"]), 1),
        ([header("a", "1", "f1"), header("b", "2", "f2")], refers(frames=["f1"]), 0),
        ([header("a", "1", "f1"), header("b", "2", "f2")], refers(series=["9"], frames=["f2"]), 1),
        ([header("a", "1", patient="P"), header("b", "1", patient="Q")], refers(series=["1"], patient="Q"), 1),
        ([header("a", "1"), header("b", "1")], refers("in/b/m.dcm", series=["1"]), 1),
        ([header("a", "1"), header("b", "1")], refers("in/m.dcm", series=["1"]), None),
        ([header("a", "1", "f"), header("b", "2", "f")], refers(frames=["f"]), None),
        ([header("a", "1", study="s"), header("b", "2", study="t")], refers(study="t"), 1),
        ([header("a", "1"), header("b", "2")], refers("in/b/m.dcm"), 1),
        ([header("a", "1"), header("b", "2")], refers("in/m.dcm"), None),
        ([header("a", "1", study="s")], refers(series=["9"], study="s"), None),
        ([header("a", "1", patient="P")], refers(series=["1"], patient="Q"), None),
    ],
)
def test_a_mask_goes_to_the_one_scan_that_it_names_or_to_none(scans, mask, which):
    matched = match_masks(scans, [mask])
    assert [i for i, masks in enumerate(matched.masks) if masks] == ([] if which is None else [which])
    assert len(matched.orphans) == (which is None)


def test_a_scan_whose_mask_cannot_be_told_from_anothers_is_in_doubt():
    matched = match_masks([header("a", "1", "f"), header("b", "2", "f"), header("c", "3", "g")], [refers(frames=["f"])])
    assert [bool(doubts) for doubts in matched.doubts] == [True, True, False]


def test_masks_without_a_series_reference_find_their_scan(tmp_path):
    slices = write_ct_series(tmp_path / "in" / "rt" / "ct", CT, mark=None)
    write_contours(tmp_path / "in" / "rt" / "rs.dcm", slices, [("GTV", NODULE)], series=False)
    moved = replace(CT, origin_mm=(-20.0, -20.0, 500.0))
    slices = write_ct_series(tmp_path / "in" / "seg" / "ct", moved, mark=None)
    write_segments(tmp_path / "in" / "seg" / "s.dcm", slices, [MASK.voxels], ["Nodule"], references=False)
    store = prepare(tmp_path / "in", tmp_path / "store")
    assert sorted(store.region(c.case_id, 1).voxels for c in store.cases) == sorted([437, int(ball(6).sum())])
    assert {case.annotated for case in store.cases} == {"some"}


def test_a_mask_that_fits_no_scan_is_told_and_keeps_its_scans_from_being_healthy(tmp_path, capsys):
    slices = write_ct_series(tmp_path / "in" / "ct", CT, mark=None)
    write_segments(tmp_path / "in" / "s.dcm", slices, [MASK.voxels], ["Nodule"])
    shutil.rmtree(tmp_path / "in" / "ct")
    write_ct_series(tmp_path / "in" / "ct", replace(CT, origin_mm=(0, 0, 0)), mark=None)
    arguments = ["prepare", "scans", str(tmp_path / "in"), "--out", str(tmp_path / "store"), "--annotated", "all"]
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert "s.dcm: found a mask of series" in said
    store = api.open_store(tmp_path / "store")
    assert (store.cases[0].nodules, store.cases[0].annotated) == ((), "none-known")


# Patients


def person(path, patient_id="", name="", birth="", study=""):
    return Person(Path(path), True, patient_id, name, birth, study)


def test_six_folders_of_one_file_name_are_six_patients(tmp_path, capsys):
    for i in range(6):
        (tmp_path / "in" / f"P{i}").mkdir(parents=True)
        write_image(tmp_path / "in" / f"P{i}" / "image.nii.gz", CT)
    assert main(["prepare", "scans", str(tmp_path / "in"), "--out", str(tmp_path / "store"), "--workers", "1"]) == 0
    store = api.open_store(tmp_path / "store")
    assert patients(store) == {f"P{i}_image": f"P{i}" for i in range(6)}
    assert "6 patients of 6 images were identified by path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "rule", "wanted"),
    [
        (["p1/a.nii.gz", "p1/b.nii.gz", "p2/a.nii.gz"], "auto", ["p1", "p1", "p2"]),
        (["p1/a.nii.gz", "p1/b.nii.gz", "p2/a.nii.gz"], "name", ["a", "b", "a"]),
        (["p1/x/a.nii.gz", "p1/y/a.nii.gz", "p2/x/a.nii.gz"], "auto", ["p1", "p1", "p2"]),
        (["imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTs/c.nii.gz"], "auto", ["a", "b", "c"]),
        (["site/sub-01_v1.nii.gz", "site/sub-01_v2.nii.gz"], r"sub-(\d+)", ["01", "01"]),
        (["data/p1/ct.mha", "data/p2/ct.mha"], "auto", ["data/p1", "data/p2"]),
    ],
)
def test_patients_of_images_are_told_by_folder_or_name(paths, rule, wanted):
    assert tell_patients_apart([Person(Path(path)) for path in paths], rule)[0] == wanted


@pytest.mark.parametrize("rule", ["(", "nowhere"])
def test_a_rule_for_patients_that_does_not_fit_is_refused(rule):
    with pytest.raises(InputError, match="patient-from"):
        tell_patients_apart([Person(Path("a/b.nii"))], rule)


def test_a_rule_that_no_scan_needs_is_checked_all_the_same_and_not_noted():
    with pytest.raises(InputError, match="patient-from"):
        tell_patients_apart([], "(")
    assert tell_patients_apart([], "name") == ([], [])


def test_ids_that_name_nobody_are_not_one_patient_and_are_told():
    for nobody in ("", "ANON", "0", "Unknown"):
        ids, notes = tell_patients_apart([person(f"{i}", nobody, study=f"1.2.{i}") for i in range(3)])
        assert len(set(ids)) == 3
        assert "3 patients were identified" in notes[0]
    ids, _ = tell_patients_apart(
        [person("a", "ANON", "DOE^JOHN", study="1"), person("b", "ANON", "John Doe", study="2")]
    )
    assert ids[0] == ids[1]


def test_one_id_of_two_people_is_told_and_birth_dates_part_them():
    ids, notes = tell_patients_apart([person("a", "7", "Doe^J", "19500101"), person("b", "7", "Roe^R", "19600101")])
    assert ids[0] != ids[1]
    assert "a, b" in notes[0]
    ids, notes = tell_patients_apart([person("a", "7", "Doe^J"), person("b", "7", "Roe^R")])
    assert ids == ["7", "7"]
    assert notes[0].startswith("a, b: one PatientID with 2 different names")
    ids, notes = tell_patients_apart([person("a", "P1", study="s"), person("b", "P2", study="s")])
    assert ids == ["P1", "P2"]
    assert notes == ["a, b: one study UID of 2 patients, who are told apart by PatientID"]


def test_notes_that_results_keep_name_files_and_no_patient():
    people = [person("a", "P-17", "Doe^J", "19500101", study="1.9.7"), person("b", "P-17", "Roe^R", study="1.9.7")]
    people += [person("c", "Q-23", "Doe^J", study="1.9.7"), person("d", "Q-23", "Roe^R", "19600101")]
    people.append(person("e", "P-17", "Doe^J", "19700101"))
    _, notes = tell_patients_apart(people)
    assert len(notes) == 3
    assert not any(secret in note for note in notes for secret in ("P-17", "Q-23", "Doe", "Roe", "1950", "1.9.7"))
    assert all(note.split(":")[0].split(", ")[0] in "abcde" for note in notes)


def test_a_synthetic_scan_is_its_sources_patients():
    made = synthetic_patient("P1")
    ids, keys, notes = linked(["P1", made, "P2", synthetic_patient("P9")])
    assert ids == ["P1", "P1", "P2", synthetic_patient("P9")]
    assert keys == ["", patient_key("P1"), "", patient_key("P9")]
    assert "1 synthetic scan" in notes[0]


def injected(folder, source, patient):
    """What `inject` writes beside a scan, as far as it tells whose the scan is."""
    folder.mkdir(parents=True)
    write_image(folder / source.name, CT)
    write_image(folder / "mask.nii.gz", MASK)
    write_image(folder / "region.nii.gz", MASK)
    row = {"image": source.name, "mask": "mask.nii.gz", "patient_id": patient, "texture": 5}
    write_table(folder / "nodules.csv", [row])
    files = {"scan": source.name, "mask": "mask.nii.gz", "region": "region.nii.gz"}
    about = {"name": source.name, "sha256": sha256(source)}
    (folder / "manifest.json").write_text(json.dumps({"synthorax": "0", "files": files, "source": about}))


def test_injected_folders_below_one_folder_are_read_with_their_tables_and_belong_to_their_sources(tmp_path):
    for i in (1, 2):
        (tmp_path / "in" / f"P{i}").mkdir(parents=True)
        write_image(tmp_path / "in" / f"P{i}" / "image.nii.gz", replace(CT, voxels=CT.voxels + np.int16(i)))
        for seed in (1, 2):
            source = tmp_path / "in" / f"P{i}" / "image.nii.gz"
            injected(tmp_path / "in" / "injected" / f"{i}-{seed}", source, synthetic_patient("image"))
    store = prepare(tmp_path / "in", tmp_path / "store")
    assert len(store) == 6
    assert not store.skipped  # masks and edit regions are no scans
    assert sorted(case.patient_id for case in store.cases) == ["P1"] * 3 + ["P2"] * 3
    made = [case for case in store.cases if case.source_patient]
    assert {case.annotated for case in made} == {"some"}  # what the patient had before is not in the table
    assert [case.nodules[0].attributes.texture for case in made] == [5] * 4
    assert all(case.nodules[0].label for case in made)
    alone = prepare(tmp_path / "in" / "injected", tmp_path / "alone", kind="patches")
    assert len(set(patients(alone).values())) == 2  # sources of one name and different bytes


# Tables


def test_tables_in_subfolders_are_joined(tmp_path):
    for name in ("x", "y"):
        (tmp_path / "in" / name).mkdir(parents=True)
        write_image(tmp_path / "in" / name / "a.mha", CT)
        write_image(tmp_path / "in" / name / "m.mha", MASK)
        write_table(tmp_path / "in" / name / "nodules.csv", [{"image": "a.mha", "mask": "m.mha"}])
    for kind in ("patches", "scans"):
        store = prepare(tmp_path / "in", tmp_path / kind, kind=kind)
        assert patients(store) == {"x_a": "x", "y_a": "y"}
        assert [(len(case.nodules), case.annotated) for case in store.cases] == [(1, "all")] * 2


def test_a_row_that_cannot_be_used_is_left_out_alone_and_makes_no_healthy_scan(tmp_path):
    write_image(tmp_path / "a.mha", CT)
    two = ball(6).astype(np.uint8)
    two[ball(3, (6, 20, 32))] = 2
    write_image(tmp_path / "m.mha", replace(CT, voxels=two))
    nowhere = {"center_x_mm": "", "center_y_mm": "", "center_z_mm": "", "diameter_mm": ""}
    bad = {
        "label": {"mask": "m.mha", "mask_label": 3},
        "file": {"mask": "gone.mha"},
        "outside": {"center_x_mm": 900, "center_y_mm": 0, "center_z_mm": 110, "diameter_mm": 5},
        "voxels": {"center_x_mm": 30, "center_y_mm": 30, "center_z_mm": 4, "diameter_mm": 5},
        "double": {"mask": "m.mha", "mask_label": 1},
    }
    good = {"one": {"mask": "m.mha", "mask_label": 1}, "two": {"mask": "m.mha", "mask_label": 2}}
    blank = {"mask": "", "mask_label": ""} | nowhere
    rows = [{"image": "a.mha", "nodule_id": name} | blank | row for name, row in (good | bad).items()]
    write_table(tmp_path / "nodules.csv", rows)
    store = prepare(tmp_path, tmp_path / "store", kind="patches")
    (case,) = store.cases
    first, *more = summary_lines(store)
    assert any(
        line.startswith("patients with nodules: 1 train, 0 val, 0 test; studies need 4 or more") for line in more
    )
    assert first.endswith("; 4 nodules left out")  # "double" repeats a row
    assert "1 scan: some nodules are known (some)" in more  # --annotated would not help
    assert any(
        line.startswith("1 scan with a nodule that was left out, see below (a): correct its row") for line in more
    )
    assert [nodule.nodule_id for nodule in case.nodules] == ["one", "two"]
    assert case.annotated == "some"
    for name in bad:
        assert any(note.startswith(f"nodule {name} left out") for note in case.notes)
    assert any("taken as voxel indices it lies inside" in note for note in case.notes)
    write_table(tmp_path / "nodules.csv", [row for row in rows if row["nodule_id"] in ("label", "file")])
    (case,) = prepare(tmp_path, tmp_path / "other", kind="patches").cases
    assert (case.nodules, case.annotated) == ((), "none-known")


@pytest.mark.parametrize("by_mask", [False, True])
def test_a_nodule_larger_than_its_image_is_left_out_and_the_image_is_not_healthy(by_mask, tmp_path):
    write_image(tmp_path / "a.mha", CT)
    write_image(tmp_path / "mask.mha", MASK)
    x, y, z = CT.to_world([6, 20, 15]).tolist()
    place = {"mask": "mask.mha"} if by_mask else {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z}
    write_table(tmp_path / "nodules.csv", [{"image": "a.mha", "diameter_mm": 300, **place}])
    (case,) = prepare(tmp_path, tmp_path / "store", kind="patches", annotated="all").cases
    longest = f"{np.linalg.norm(np.multiply(CT.shape, CT.spacing_mm)):.4g}"
    said = f"left out: a diameter of 300 mm; expected at most {longest} mm, the diagonal of the image"
    assert any(said in note for note in case.notes)
    assert (case.nodules, case.annotated) == ((), "none-known")


def test_a_nodule_whose_mask_reaches_from_corner_to_corner_is_taken_though_it_is_wider_than_a_side(tmp_path):
    write_image(tmp_path / "a.mha", CT)
    across = np.zeros(CT.shape, np.uint8)
    across[2:5] = 1
    write_image(tmp_path / "mask.mha", replace(CT, voxels=across))
    write_table(tmp_path / "nodules.csv", [{"image": "a.mha", "mask": "mask.mha"}])
    store = prepare(tmp_path, tmp_path / "first", kind="patches")
    width = store.cases[0].nodules[0].attributes.diameter_mm
    assert width > max(np.multiply(CT.shape, CT.spacing_mm))
    write_table(tmp_path / "nodules.csv", [{"image": "a.mha", "mask": "mask.mha", "diameter_mm": width}])
    (case,) = prepare(tmp_path, tmp_path / "second", kind="patches").cases
    assert [nodule.attributes.diameter_mm for nodule in case.nodules] == [pytest.approx(width)]


def test_a_centre_in_ras_is_told(tmp_path):
    write_image(tmp_path / "a.mha", replace(CT, origin_mm=(10.0, 20.0, 100.0)))
    row = {"image": "a.mha", "center_x_mm": -30, "center_y_mm": -40, "center_z_mm": 110, "diameter_mm": 5}
    write_table(tmp_path / "nodules.csv", [row])
    (case,) = prepare(tmp_path, tmp_path / "store", kind="patches").cases
    assert any("is it RAS" in note for note in case.notes)


def test_rows_of_centres_get_the_voxels_of_the_masks_beside_their_series(tmp_path):
    slices = write_ct_series(tmp_path / "in" / "ct", CT, mark=None)
    write_segments(tmp_path / "in" / "mask.dcm", slices, [MASK.voxels], ["Nodule 1"])
    x, y, z = CT.to_world([6, 20, 15]).tolist()
    place = {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": 12, "malignancy": 4}
    write_table(tmp_path / "in" / "nodules.csv", [{"image": "ct", **place}])
    for kind in ("patches", "scans"):
        store = prepare(tmp_path / "in", tmp_path / kind, kind=kind)
        (nodule,) = store.cases[0].nodules
        assert nodule.attributes.malignancy == 4
        assert store.region(store.cases[0].case_id, nodule.label).voxels == ball(6).sum()


def test_a_dicom_mask_of_a_table_is_read_by_its_numbers(tmp_path):
    slices = write_ct_series(tmp_path / "ct", CT, mark=None)
    other = ball(3, (6, 20, 30)).astype(np.uint8)
    write_segments(tmp_path / "m.dcm", slices, [MASK.voxels, other], ["Segment_1", "Segment_2"])
    rows = [{"image": "ct", "mask": "m.dcm", "mask_label": i, "malignancy": i} for i in (2, 1)]
    write_table(tmp_path / "nodules.csv", rows)
    store = prepare(tmp_path, tmp_path / "store", kind="patches")
    (case,) = store.cases
    sizes = {n.attributes.malignancy: store.region(case.case_id, n.label).voxels for n in case.nodules}
    assert sizes == {1: ball(6).sum(), 2: other.sum()}


def test_images_beside_that_may_be_masks_are_told_and_their_scan_is_in_doubt(tmp_path):
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.mha", CT)
    write_image(tmp_path / "in" / "a_mask.mha", MASK)
    (case,) = prepare(tmp_path / "in", tmp_path / "store", annotated="all").cases
    assert case.annotated == "none-known"
    assert any("a_mask.mha may be its masks" in note for note in case.notes)
    paths = [Path("imagesTr/x_0000.nii.gz"), Path("labelsTr/x.nii.gz"), Path("imagesTr/y_0000.nii.gz")]
    assert masks_by_name(paths) == {paths[0]: [paths[1]]}


def test_xml_files_of_readers_are_told_and_their_scan_is_in_doubt(tmp_path):
    (tmp_path / "in").mkdir()
    uid = str(write_ct_series(tmp_path / "in" / "one", CT, mark=None)[0].SeriesInstanceUID)
    (tmp_path / "in" / "two").mkdir()
    (tmp_path / "in" / "three").mkdir()
    for name in ("two", "three"):
        write_image(tmp_path / "in" / name / f"{name}.mha", CT)
    (tmp_path / "in" / "a.xml").write_text(lidc_xml([], uid))
    (tmp_path / "in" / "two" / "b.xml").write_text(lidc_xml([], "1.2"))
    (tmp_path / "in" / "three" / "other.xml").write_text("<settings/>")
    store = prepare(tmp_path / "in", tmp_path / "store", annotated="all")
    assert {case.case_id: case.annotated for case in store.cases if case.case_id in ("two", "three")} == {
        "two": "none-known",
        "three": "all",
    }
    assert sorted(case.annotated for case in store.cases) == ["all", "none-known", "none-known"]
    unknown = "2 scans: not known whether there are nodules, so not used as healthy (none-known)"
    assert f"1 scan: every nodule is known (all). {unknown}" in summary_lines(store)
    (line,) = [line for line in summary_lines(store) if "LIDC XML files" in line]
    assert line == "LIDC XML files were not read: 2 (a.xml, b.xml); `synthorax prepare lidc FOLDER` reads them"


def test_the_user_states_what_is_known(tmp_path):
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.mha", CT)
    for stated, wanted in ((None, "none-known"), ("all", "all"), ("some", "some")):
        store = prepare(tmp_path / "in", tmp_path / str(stated), annotated=stated)
        assert store.cases[0].annotated == wanted
    with pytest.raises(InputError, match="annotated"):
        prepare(tmp_path / "in", tmp_path / "x", annotated="yes")


def test_a_rule_for_patients_that_a_table_already_names_is_noted_as_not_used(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.mha", CT)
    x, y, z = CT.to_world([5, 20, 30]).tolist()
    place = {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": 6}
    rows = [{"image": f"{name}.mha", "patient_id": patient, **place} for name, patient in (("a", "P1"), ("b", ""))]
    write_table(tmp_path / "in" / "nodules.csv", rows)
    store = prepare(tmp_path / "in", tmp_path / "store", patient_from="name")
    assert sorted(case.patient_id for case in store.cases) == ["P1", "b"]
    assert any("--patient-from is not used for 1 of 2 scans: the table" in line for line in summary_lines(store))
    write_table(tmp_path / "in" / "nodules.csv", rows[:1])
    (tmp_path / "in" / "b.mha").unlink()
    store = prepare(tmp_path / "in", tmp_path / "other", patient_from="name")
    assert any(line.startswith("--patient-from is not used: the table") for line in summary_lines(store))


# LIDC-IDRI and LUNA16


def readers(*levels):
    """Two readers who outline the same square at each of these patient z."""
    return [dict.fromkeys(levels, ((12, 12), (18, 12), (18, 18), (12, 18)))] * 2


def test_an_xml_of_another_series_is_refused_by_both_names_and_used_where_its_study_agrees(tmp_path):
    headers = write_ct_series(tmp_path / "in" / "P1", CT, mark=None)
    series, study = (str(headers[0].get(name)) for name in ("SeriesInstanceUID", "StudyInstanceUID"))
    (tmp_path / "in" / "P1" / "1.xml").write_text(lidc_xml(readers(104, 106), "1.2.3.999", "1.2.3"))
    with pytest.raises(InputError, match=r"1\.2\.3\.999") as refused:
        prepare(tmp_path / "in", tmp_path / "store", kind="lidc")
    assert series in str(refused.value)
    (tmp_path / "in" / "P1" / "1.xml").write_text(lidc_xml(readers(104, 106), "1.2.3.999", study))
    (case,) = prepare(tmp_path / "in", tmp_path / "store", kind="lidc").cases
    assert (len(case.nodules), case.annotated) == (1, "all")
    assert any("its study and the places of its slices agree" in note for note in case.notes)


def test_an_xml_beside_an_image_is_used_with_a_note_if_its_slices_are_the_images(tmp_path):
    (tmp_path / "in" / "P1").mkdir(parents=True)
    write_image(tmp_path / "in" / "P1" / "ct.nii.gz", CT)
    (tmp_path / "in" / "P1" / "1.xml").write_text(lidc_xml(readers(104, 106), "1.2.3.999", "1.2.3"))
    (case,) = prepare(tmp_path / "in", tmp_path / "store", kind="lidc").cases
    assert len(case.nodules) == 1
    assert any("1.xml is taken for" in note and "2 of the 2 slices" in note for note in case.notes)
    (tmp_path / "in" / "P1" / "1.xml").write_text(lidc_xml(readers(104, 107), "1.2.3.999", "1.2.3"))
    with pytest.raises(InputError, match="z = 107 mm, between slices"):
        prepare(tmp_path / "in", tmp_path / "other", kind="lidc")


def test_a_nodule_in_slices_that_are_not_here_is_left_out_alone_and_told(tmp_path):
    headers = write_ct_series(tmp_path / "in" / "P1", CT, mark=None)
    series = str(headers[0].SeriesInstanceUID)
    for levels, found, annotated, said in (
        ((118, 120, 122, 124), 1, "all", "slices 9 to 12 is cut"),
        ((140, 142), 0, "none-known", "a nodule is left out"),
    ):
        (tmp_path / "in" / "P1" / "1.xml").write_text(lidc_xml(readers(*levels), series, "1.2.3"))
        (case,) = prepare(tmp_path / "in", tmp_path / "store", kind="lidc").cases
        assert (len(case.nodules), case.annotated) == (found, annotated)
        assert any(said in note for note in case.notes)


def test_luna16_scans_that_are_missing_or_unknown_are_told(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for uid in ("1.2.3", "1.2.4", "1.2.9"):
        write_image(tmp_path / "in" / f"{uid}.mhd", CT)
    rows = [("1.2.3", 0, 110), ("1.2.3", 900, 110), ("1.2.5", 0, 0)]
    names = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
    write_table(
        tmp_path / "in" / "annotations.csv", [dict(zip(names, (uid, x, 0, z, 8), strict=True)) for uid, x, z in rows]
    )
    candidate = dict(zip((*names[:4], "class"), ("1.2.4", 0, 0, 110, 0), strict=True))
    write_table(tmp_path / "in" / "candidates.csv", [candidate])
    arguments = ["prepare", "luna16", str(tmp_path / "in"), "--out", str(tmp_path / "store"), "--workers", "1"]
    assert main(arguments) == 0
    store = api.open_store(tmp_path / "store")
    assert [(len(case.nodules), case.annotated) for case in store.cases] == [(1, "some"), (0, "all"), (0, "none-known")]
    assert "names 1 scans (1 nodules) that are not here, 1.2.5 first" in capsys.readouterr().err


# Names of cases


def test_case_names_are_folders_on_any_system():
    made = case_ids(["zarr.json", "prepare.json", "CON", ".lock", "A", "a", "患者", "x" * 300, "..", "a/b"])
    assert len({name.casefold() for name in made}) == len(made)
    assert not {"zarr.json", "prepare.json", "con"} & {name.casefold() for name in made}
    assert all(len(name) <= 120 and not name.startswith(".") and name.isascii() and "/" not in name for name in made)


def test_a_file_of_a_stores_own_name_or_an_unreadable_one_stops_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("zarr.json.nii.gz", "good.mha"):
        write_image(tmp_path / "in" / name, CT)
    (tmp_path / "in" / "bad.nii.gz").write_bytes(b"no image")
    store = prepare(tmp_path / "in", tmp_path / "store")
    assert sorted(case.case_id for case in store.cases) == ["case_zarr.json", "good"]
    assert [skip["case"] for skip in store.skipped] == ["bad"]
    assert store.read("good").ct.shape == SHAPE


def test_two_patients_of_one_series_uid_keep_their_own_masks(tmp_path):
    for patient, center in (("P1", (6, 20, 15)), ("P2", (6, 20, 30))):
        slices = write_ct_series(tmp_path / "in" / patient, CT, mark=None)
        for i, one in enumerate(slices):
            one.PatientID, one.SeriesInstanceUID, one.PixelData = patient, "1.2.3.4", CT.voxels[i].tobytes()
        for file in (tmp_path / "in" / patient).glob("*.dcm"):
            stored = pydicom.dcmread(file)
            stored.PatientID, stored.SeriesInstanceUID = patient, "1.2.3.4"
            stored.save_as(file)
        write_segments(tmp_path / "in" / patient / "s.dcm", slices, [ball(4, center).astype(np.uint8)], ["Nodule"])
    store = prepare(tmp_path / "in", tmp_path / "store")
    assert patients(store) == {"P1": "P1", "P2": "P2"}
    for case, column in zip(store.cases, (15, 30), strict=True):
        assert store.region(case.case_id, 1).indices().mean(0)[2] == column


def test_a_table_of_ours_whose_manifest_is_damaged_does_not_make_its_scan_wholly_known(tmp_path):
    manifests = Manifests()
    for name, text in (("sound", '{"synthorax": "1", "files": {"region": "r.nii.gz"}}'), ("damaged", '{"synthorax')):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".synthorax").touch()
        (tmp_path / name / "manifest.json").write_text(text)
        image = TableImage(tmp_path / name / "a.nii.gz", "", None, table=tmp_path / name / "nodules.csv")
        assert manifests.usual(image) == "some"


def test_rows_without_a_patient_and_ids_that_are_nearly_the_same_are_told(tmp_path, capsys):
    rows = []
    for name, patient in (("a", "H-001"), ("b", "h-001 "), ("c", ""), ("d", "H-002")):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / "in" / f"{name}.nii.gz", CT)
        rows.append({"image": f"{name}.nii.gz", "mask": "", "patient_id": patient})
    write_table(tmp_path / "in" / "nodules.csv", rows)
    assert main(["prepare", "patches", f"{tmp_path}/in", "--out", f"{tmp_path}/store", "--workers", "1"]) == 0
    assert patients(api.open_store(tmp_path / "store")) == {"a": "H-001", "b": "h-001", "c": "c", "d": "H-002"}
    said = capsys.readouterr()
    notes = said.out + said.err
    assert "1 image of a table without a patient_id, which other rows have (c.nii.gz): the folder or file is" in notes
    assert "patient ids that differ in capitals or spaces alone are of different patients: 'H-001', 'h-001'" in notes
