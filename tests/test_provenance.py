"""The name of a patient in synthetic output."""

import hashlib

import pytest

from synthorax.provenance import patient_key, synthetic_patient


def test_a_patient_has_one_key_that_does_not_tell_the_patient():
    key = patient_key("HOSPITAL-7")
    assert key == hashlib.sha256(b"HOSPITAL-7").hexdigest()[:12]
    assert patient_key(" HOSPITAL-7\0") == key
    assert patient_key("HOSPITAL-8") != key


def test_what_is_made_from_a_synthetic_scan_belongs_to_the_first_patient():
    once = synthetic_patient("HOSPITAL-7")
    assert synthetic_patient(once) == once == "SYNTHETIC-" + patient_key("HOSPITAL-7")


@pytest.mark.parametrize("patient_id", ["", "  ", "\0"])
def test_no_id_has_no_key(patient_id):
    assert patient_key(patient_id) == ""


@pytest.mark.parametrize("patient_id", ["SYNTHETIC-", "SYNTHETIC-xyz", "SYNTHETIC-3BB5D67AB461", "名前", "\udcff"])
def test_every_other_id_is_hashed(patient_id):
    assert len(patient_key(patient_id)) == 12
