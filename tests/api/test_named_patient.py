"""The patient of a single scan is named by its caller, where the file's name does not tell it."""

from dataclasses import replace

import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.mappings import read_mapping
from synthorax.provenance import synthetic_patient
from tests.helpers.toy_makers import Dots, LungFiller

AT = (-70.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def scans(chest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for number, patient in enumerate(("p1", "p2")):
        (folder / patient).mkdir()
        write_image(folder / patient / "ct.nii.gz", replace(chest, voxels=chest.voxels + number))
    write_ct_series(folder / "series", chest, mark=None, patient_id="header")
    return folder


def patient_of(folder):
    return read_mapping(folder / "manifest.json")["patient_id"]


def test_two_images_of_one_name_are_of_the_patients_that_are_named(scans, tmp_path):
    for patient in ("p1", "p2"):
        scan = scans / patient / "ct.nii.gz"
        sx.inject(scan, Dots(), at_mm=AT, diameter_mm=12, patient=patient, out=tmp_path / "injected" / patient)
        where = {"at_mm": AT, "diameter_mm": 12, "patient": patient}
        edited = tmp_path / "injected" / patient / "ct.nii.gz"
        sx.erase(edited, LungFiller(), **where, out=tmp_path / "erased" / patient)
        assert patient_of(tmp_path / "injected" / patient) == synthetic_patient(patient)
        assert patient_of(tmp_path / "erased" / patient) == synthetic_patient(patient)
    for kind in ("injected", "erased"):
        store = sx.prepare("scans", tmp_path / kind, tmp_path / f"{kind}-store", workers=1)
        assert {case.patient_id for case in store.cases} == {synthetic_patient("p1"), synthetic_patient("p2")}


def test_two_scans_of_a_named_patient_stay_with_the_patient(scans, tmp_path):
    for number in ("p1", "p2"):
        scan = scans / number / "ct.nii.gz"
        sx.inject(scan, Dots(), at_mm=AT, diameter_mm=12, patient="ann", out=tmp_path / "made" / number)
    store = sx.prepare("scans", tmp_path / "made", tmp_path / "store", workers=1)
    assert [case.patient_id for case in store.cases] == [synthetic_patient("ann")] * 2


def test_a_series_and_methods_side_by_side_are_of_the_named_patient_too(scans, tmp_path):
    where = {"at_mm": AT, "diameter_mm": 12, "patient": "ann"}
    sx.inject(scans / "series", Dots(), **where, out=tmp_path / "dicom")
    assert (
        sx.read_scan(tmp_path / "dicom" / "ct").patient_id == patient_of(tmp_path / "dicom") == synthetic_patient("ann")
    )
    sx.inject_each(scans / "p1" / "ct.nii.gz", [Dots(), Dots()], **where, out=tmp_path / "each")
    assert patient_of(tmp_path / "each") == synthetic_patient("ann")
    with pytest.raises(InputError, match="patient: found given with keep_identity"):
        sx.inject(scans / "series", Dots(), **where, keep_identity=True)


@pytest.mark.parametrize("verb", ["inject", "erase"])
def test_a_folder_takes_a_rule_for_patients_and_a_scan_takes_an_id(verb, scans, tmp_path, capsys):
    plan = tmp_path / "plan.csv"
    plan.write_text("image,center_x_mm,center_y_mm,center_z_mm,diameter_mm\np1/ct.nii.gz,-70,2,2,12\n")
    command = [verb, str(scans), "--plan", str(plan), "--out", str(tmp_path / "out")]
    assert main([*command, "--patient", "p1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("synthorax: --patient: found given with a folder of several scans; expected --patient-from")
    command[1] = str(scans / "p2" / "ct.nii.gz")
    assert main([*command, "--patient", "p1"]) == 2
    assert "plan.csv: found nodules of p1/ct.nii.gz; expected nodules of ct.nii.gz" in capsys.readouterr().err
    command[1] = str(scans / "p1" / "ct.nii.gz")
    assert main([*command, "--patient-from", "name"]) == 2
    assert "--patient-from: found given with one scan; expected --patient ID" in capsys.readouterr().err
