"""A synthetic case records its maker's training patients.

Models trained on held-out patients are never used silently.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from synthorax import api
from synthorax.datasets.case import Case
from synthorax.datasets.lineage import (
    RECORDED,
    check_synthetic_cases,
    check_unseen,
    held_out_patients,
    leaks_in_training,
    outline_patients,
    training_data,
)
from synthorax.datasets.pack import PackRequest, pack_store, unpack_store
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.makers import Lineage
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.provenance import SEEN_BEFORE, fingerprint, patient_key
from synthorax.studies.trials import Study
from synthorax.training.run_folder import RunFolder, seen_patients
from synthorax.volume import Volume
from tests.helpers.stores import store_of

GAN = Lineage("ac-wgan", "ab" * 32, frozenset(map(patient_key, ["P1", "P2"])))
MARK = "SYNTHETIC: test"


def case(name, split="train", lineage=None, *, origin="", source="", made=True):
    extra = {"shape_origin": origin} if origin else {}
    nodule = Nodule("01", (2.0, 2.0, 2.0), NoduleAttributes(diameter_mm=3), extra=extra)
    ct = Volume(np.full((4, 5, 6), -800, np.int16), (1.0, 1.0, 1.0))
    mark = MARK if made else ""
    return Case(name, name, ct, nodules=(nodule,), split=split, synthetic=mark, source_patient=source, lineage=lineage)


def real(name, split):
    return case(name, split, made=False)


def test_a_lineage_is_stored_packed_and_read_again_and_kept_once(tmp_path):
    cases = [real("P1", "train"), *(case(f"made-{i}", lineage=GAN) for i in range(3))]
    store = store_of(tmp_path / "store", cases)
    assert [each.lineage for each in store.cases] == [None, GAN, GAN, GAN]
    assert store.cases[1].lineage is store.cases[3].lineage
    assert store.read("made-2").lineage == GAN
    assert (tmp_path / "store" / "zarr.json").read_text().count(patient_key("P1")) == 1
    again = unpack_store(pack_store(store, tmp_path / "pack", PackRequest(), workers=1), tmp_path / "again")
    assert [each.lineage for each in again.cases] == [None, GAN, GAN, GAN]
    assert again.fingerprint == store.fingerprint


def test_the_hash_of_a_case_without_a_lineage_is_that_of_before_there_were_any(tmp_path):
    (entry,) = store_of(tmp_path / "store", [real("P1", "train")]).cases
    assert "lineage" not in entry.row()
    assert entry.sha256 == "0004f7ddb7ceef7d27a27fbef50ffb20a0ad5b4ce2133ae0a3fa6c4199fee9ae"


def test_a_lineage_that_is_none_is_a_damaged_store(tmp_path):
    store_of(tmp_path / "store", [case("made", lineage=GAN)])
    file = tmp_path / "store" / "zarr.json"
    group = json.loads(file.read_text())
    index = group["attributes"]["synthorax"]
    index.pop("sha256")
    for change in ({"lineages": []}, {"lineages": [{"name": 3}]}, {"lineages": 7}):
        bad = index | change
        bad["sha256"] = fingerprint(json.dumps(bad, sort_keys=True).encode())
        group["attributes"]["synthorax"] = bad
        file.write_text(json.dumps(group))
        with pytest.raises(InputError, match="a damaged store"):
            Store(tmp_path / "store")


def test_a_store_of_format_3_says_to_update(tmp_path):
    store_of(tmp_path / "store", [real("P1", "train")])
    file = tmp_path / "store" / "zarr.json"
    group = json.loads(file.read_text())
    group["attributes"]["synthorax"]["format"] = 3
    file.write_text(json.dumps(group))
    with pytest.raises(InputError, match=r"a store of format 3; expected .*update synthorax"):
        Store(tmp_path / "store")


def test_a_maker_that_knows_held_out_patients_is_refused_by_their_ids_here(tmp_path):
    store = store_of(tmp_path / "store", [real("P1", "train"), real("P2", "test")])
    check_unseen(replace(GAN, seen=frozenset([patient_key("P1")])), store)
    with pytest.raises(InputError, match=r"ac-wgan, made with data of 1 patients .* such as P2 \(test\)"):
        check_unseen(GAN, store)
    with pytest.raises(InputError, match=r"P2 \(test\)"):
        check_unseen(Lineage("render", outlines=frozenset([patient_key("P2")])), store)
    with pytest.raises(InputError, match="without a record"):
        check_unseen(Lineage("ac-wgan", "ab", tells=False), store)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (case("made", lineage=GAN), "its maker, ac-wgan, was trained on 1 held-out patient, such as P2 (val)"),
        (
            case("made", lineage=Lineage("render", outlines=GAN.seen)),
            "it has the outline of a nodule of patient P2 (val)",
        ),
        (case("made", origin="P2"), "it has the outline of a nodule of patient P2 (val)"),
        (case("made", source=patient_key("P2")), "it was made from a scan of patient P2 (val)"),
        (
            case("made", lineage=Lineage("a", "ab", tells=False)),
            f"the training patients of its maker (a) are not known; {RECORDED}",
        ),
        (case("made", lineage=Lineage("ac-wgan", "ab", frozenset([patient_key("P1")]))), ""),
        (case("made"), ""),
        (case("made", "test", lineage=GAN), ""),
    ],
)
def test_synthetic_training_cases_that_know_held_out_patients_are_found(tmp_path, made, reason):
    store = store_of(tmp_path / "store", [real("P1", "train"), real("P2", "val"), made])
    assert leaks_in_training(store) == ({"made": reason} if reason else {})
    if reason:
        with pytest.raises(InputError, match=r"1 synthetic training cases .*; made: .*--only-train"):
            Study(store, tmp_path / "study", [0])
    else:
        check_synthetic_cases(store)


def test_outlines_in_synthetic_cases_of_the_test_are_held_out_too(tmp_path):
    first, second, third = "LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0003"
    outlines = Lineage("render", outlines=frozenset([patient_key(third)]))
    cases = [case("a", origin=first), case("b", "val", origin=second), case("c", "test", lineage=outlines)]
    store = store_of(tmp_path / "store", cases)
    known = ("b", "B", "c", "C", second, third)  # a file's name may be written otherwise than the patient's id
    assert {patient_key(name) for name in known} == set(held_out_patients(store))
    assert outline_patients(store) == [first]


def test_a_run_tells_whom_the_makers_of_its_synthetic_cases_know(tmp_path):
    cases = [real("P1", "train"), case("a", lineage=GAN), case("b", origin="P7"), case("c", "test", lineage=GAN)]
    store = store_of(tmp_path / "store", cases)
    seen = seen_patients(training_data(store))
    assert set(map(patient_key, seen)) == {patient_key(name) for name in ("P1", "a", "b", "P2", "P7")}
    assert seen_patients(training_data(store_of(tmp_path / "real", [real("P1", "train")]))) == {"P1"}
    untold = [*cases, case("d", lineage=Lineage("old", "ab", tells=False))]
    assert not seen_patients(training_data(store_of(tmp_path / "untold", untold)))


def test_the_patients_of_a_model_are_with_its_samples_in_the_store_and_with_what_is_trained_on_them(
    untrained_gan, tmp_path, monkeypatch
):
    """Even if the system that is trained says nothing of its data."""
    made = api.sample(untrained_gan, 2, seed=1, diameter_mm=8.0)
    api.write_samples(tmp_path / "made", made, seed=1)
    store = api.prepare("patches", tmp_path / "made", tmp_path / "store", split=(1, 0, 0), workers=1)
    assert {case.lineage for case in store.cases} == {untrained_gan.lineage}
    monkeypatch.setattr("synthorax.training.loop.fit", lambda *_, **__: None)
    for name in ("tells", "forgets"):
        api.train("ac-wgan", store, tmp_path / name, preset="smoke", settings={"negatives": False}, device="cpu")
        seen = seen_patients(json.loads((tmp_path / name / "data.json").read_text()))
        assert patient_key("somebody else") in set(map(patient_key, seen))
        assert "somebody else" not in seen
        monkeypatch.setattr("synthorax.systems.ac_wgan.training.training_data", lambda store: {})


def test_a_run_begun_before_its_synthetic_cases_were_noted_goes_on_and_one_with_others_does_not(tmp_path):
    store = store_of(tmp_path / "store", [real("P1", "train"), case("a", lineage=GAN)])
    data = training_data(store)
    before = {name: value for name, value in data.items() if name != SEEN_BEFORE}
    RunFolder.open(tmp_path / "run", {"config": {"steps": 1}}, before)
    RunFolder.open(tmp_path / "run", {"config": {"steps": 1}}, data)
    RunFolder.open(tmp_path / "new", {"config": {"steps": 1}}, data)
    with pytest.raises(InputError, match=SEEN_BEFORE):
        RunFolder.open(tmp_path / "new", {"config": {"steps": 1}}, data | {SEEN_BEFORE: ["P9"]})
