"""A result says which scan it was made from, without the identity of a DICOM series."""

from dataclasses import replace
from hashlib import sha256

import pytest

import synthorax as sx
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.mappings import read_mapping
from tests.helpers.toy_makers import Dots

AT = (-70.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def series(chest, tmp_path_factory):
    """A folder with two series of one patient."""
    folder = tmp_path_factory.mktemp("series")
    for number in range(2):
        write_ct_series(folder / f"ct{number}", replace(chest, voxels=chest.voxels + number), mark=None, patient_id="p")
    return folder


def test_the_source_of_an_edited_dicom_series_is_found_by_the_hash_of_its_uid(series, tmp_path):
    (shown,) = sx.info(series / "ct0")["series"]
    sx.inject(series / "ct0", Dots(), at_mm=AT, diameter_mm=12, out=tmp_path / "hidden")
    manifest = read_mapping(tmp_path / "hidden" / "manifest.json")
    hashed = sha256(shown["uid"].encode()).hexdigest()
    assert manifest["source"] == {"series_uid_sha256": hashed}
    assert (shown["series_uid_sha256"], shown["patient_id_in_results"]) == (hashed, manifest["patient_id"])
    assert shown["uid"] not in (tmp_path / "hidden" / "manifest.json").read_text()
    sx.inject(series / "ct0", Dots(), at_mm=AT, diameter_mm=12, keep_identity=True, out=tmp_path / "kept")
    source = {"series_uid_sha256": hashed, "series_uid": shown["uid"]}
    assert read_mapping(tmp_path / "kept" / "manifest.json")["source"] == source


def test_the_case_of_each_series_of_a_patient_is_named_after_patient_and_series(series, tmp_path):
    made = sx.inject_folder(series, tmp_path / "out", Dots(), auto=1, diameter_mm=12, workers=1)
    shown = {one["series_uid_sha256"]: one["patient_id_in_results"] for one in sx.info(series)["series"]}
    assert sorted(made.cases) == sorted(f"{patient}-{hashed[:8]}" for hashed, patient in shown.items())
    entries = read_mapping(tmp_path / "out" / "manifest.json")["cases"]
    assert {entry["case"] for entry in entries} == {
        f"{entry['patient_id']}-{entry['source']['series_uid_sha256'][:8]}" for entry in entries
    }
