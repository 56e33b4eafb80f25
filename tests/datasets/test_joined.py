"""Folders of `inject` and `sample` give the same cases in every way of reading, and can join a store of real cases."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from synthorax import api
from synthorax.cli import main
from synthorax.datasets import mask_files
from synthorax.datasets.lineage import check_synthetic_cases
from synthorax.datasets.source_lists import patch_sources
from synthorax.datasets.splits import split_patients
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.lineage import Lineage
from synthorax.provenance import patient_key, synthetic_patient
from tests.helpers.injected_folders import MARK, RENDER, ball, injected, row, scan

KNOWS_NOBODY = Lineage("ac-wgan", "ab" * 32, frozenset([patient_key("somebody else")]))
PATIENTS = tuple("ABCDEFGHIJ")
SPLITS = split_patients(dict.fromkeys(PATIENTS))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Return ten patients with one scan and one nodule each, in the default split."""
    folder = tmp_path_factory.mktemp("real")
    write_image(folder / "mask.mha", ball())
    for i, patient in enumerate(PATIENTS):
        write_image(folder / f"{patient}.nii.gz", scan(i))
    write_table(folder / "nodules.csv", [row(f"{name}.nii.gz", name, "mask.mha", 1) for name in PATIENTS])
    return folder


def samples(folder, count=2, *, empty=(), lineage=KNOWS_NOBODY, formats=("nii.gz",), old=False):
    """The folder that `sample` writes of patches with masks; `old` as versions without lineage wrote it."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows, listed = [], []
    for i in range(count):
        files = {form: f"images/{i:05d}.{form}" for form in formats}
        masks = {form: f"masks/{i:05d}.{form}" for form in formats}
        for file in files.values():
            write_image(folder / file, scan(i), mark=MARK)
        for file in masks.values():
            write_image(folder / file, ball(int(i not in empty)), mark=MARK)
        first = formats[0]
        if i not in empty:
            rows.append(row(files[first], f"synthetic-{i:05d}", masks[first], 1))
        listed.append({"files": files, "masks": masks, "asked": [] if i in empty else {"diameter_mm": 5}})
    if rows:
        write_table(folder / "nodules.csv", rows)
    about = {"synthorax": "0", "synthetic": MARK, "system": "ac-wgan", "model_sha256": "ab" * 32}
    about |= {} if old else {"lineage": lineage.row()}
    (folder / "manifest.json").write_text(json.dumps({**about, "samples": listed}))
    return folder


def prepare(source, out, kind="patches", **options):
    return api.prepare(kind, source, out, workers=1, **options)


def cases_of(store):
    """Return everything about each case except its name."""
    known = []
    for entry in store.cases:
        case = store.read(entry.case_id)
        nodules = [nodule.row() for nodule in case.nodules]
        regions = [(region.corner, region.mask.tolist()) for region in case.regions]
        marks = (case.synthetic, case.source_patient, case.lineage, case.annotated)
        known.append((case.ct.voxels.tolist(), nodules, regions, *marks))
    return sorted(known, key=repr)


# One reader


@pytest.fixture(scope="module")
def made(real, tmp_path_factory):
    """Folders of every kind that the verbs write, by name."""
    top = tmp_path_factory.mktemp("made")
    injected(top / "one", real / "A.nii.gz")
    for name in ("A", "B"):
        injected(top / "many" / name, real / f"{name}.nii.gz")
    rows = [row(f"{n}/{n}.nii.gz", synthetic_patient(n), f"{n}/mask_{n}.nii.gz", 1) for n in "AB"]
    write_table(top / "many" / "nodules.csv", rows)
    (top / "many" / "manifest.json").write_text('{"synthorax": "0", "synthetic": "SYNTHETIC: many"}')
    samples(top / "samples", 3, empty=[1], formats=("nii.gz", "mha"))
    samples(top / "empty", 1, empty=[0])
    return top


@pytest.mark.parametrize(
    ("name", "annotated"), [("one", ["some"]), ("many", ["some"] * 2), ("samples", ["all"] * 3), ("empty", ["all"])]
)
def test_a_made_case_is_the_same_from_every_way(made, real, tmp_path, name, annotated):
    ways = [prepare(made / name, tmp_path / kind, kind) for kind in ("patches", "scans")]
    joined = prepare(real, tmp_path / "joined", synthetic=[made / name])
    assert [case.annotated for case in ways[0].cases] == annotated
    assert all(case.lineage in (RENDER, KNOWS_NOBODY) and case.synthetic for case in ways[0].cases)
    assert cases_of(ways[0]) == cases_of(ways[1])
    *known, annotated_beside = zip(*[each for each in cases_of(joined) if each[3]], strict=True)
    assert known == list(zip(*cases_of(ways[0]), strict=True))[:-1]
    assert set(annotated_beside) == {"all"}  # beside its source, of which all nodules are known


def test_an_injected_series_is_the_same_from_every_way(chest, real, tmp_path):
    from synthorax.geometry import crop

    write_ct_series(tmp_path / "ct", crop(chest, (26, 0, 0), (8, *chest.shape[1:])), mark=None)
    api.inject(tmp_path / "ct", at_mm=(-70.0, 0.0, 0.0), diameter_mm=16, seed=1, out=tmp_path / "out", force=True)
    ways = [prepare(tmp_path / "out", tmp_path / kind, kind) for kind in ("patches", "scans")]
    joined = prepare(real, tmp_path / "joined", synthetic=[tmp_path / "out"])
    assert cases_of(ways[0]) == cases_of(ways[1]) == [each for each in cases_of(joined) if each[3]]
    assert ways[0].cases[0].lineage is not None


def test_a_sample_without_a_nodule_is_a_healthy_case_and_no_other_format_or_mask_is_a_case(made, tmp_path):
    store = prepare(made / "samples", tmp_path / "store", "scans")
    assert sorted(len(case.nodules) for case in store.cases) == [0, 1, 1]
    assert {case.patient_id for case in store.cases} == {f"synthetic-{i:05d}" for i in range(3)}


def test_an_old_manifest_or_a_damaged_one_tells_nothing_of_a_models_patients(tmp_path):
    samples(tmp_path / "old", 1, old=True)
    samples(tmp_path / "damaged", 1)
    (tmp_path / "damaged" / ".synthorax").touch()
    (tmp_path / "damaged" / "manifest.json").write_text('{"synthorax')
    for name, maker in (("old", "ac-wgan"), ("damaged", "")):
        (case,) = prepare(tmp_path / name, tmp_path / f"{name}-store").cases
        assert (case.lineage.tells, case.lineage.name) == (False, maker)
    injected(tmp_path / "rendered", lineage=None)
    (case,) = prepare(tmp_path / "rendered", tmp_path / "rendered-store").cases
    assert case.lineage == Lineage("render")


def test_a_file_that_lost_its_mark_is_synthetic_by_its_manifest_and_a_scan_beside_is_not(tmp_path):
    injected(tmp_path / "in" / "made", mark=None)
    write_image(tmp_path / "in" / "made" / "other.nii.gz", scan(3))
    store = prepare(tmp_path / "in", tmp_path / "store", "scans")
    assert {case.case_id: (case.synthetic, bool(case.lineage)) for case in store.cases} == {
        "scan": (MARK, True),
        "other": ("", False),
    }


# Joining


def splits(store):
    return {case.case_id.removeprefix("synthetic-"): store.split_of(case.patient_id) for case in store.cases}


def test_a_synthetic_scan_follows_the_split_of_its_source(real, tmp_path):
    for name in PATIENTS:
        injected(tmp_path / "made" / name, real / f"{name}.nii.gz")
    store = prepare(real, tmp_path / "store", synthetic=[tmp_path / "made"])
    assert store.splits == SPLITS
    assert {case.patient_id for case in store.cases if case.synthetic} == set(PATIENTS)
    assert len(store) == 2 * len(PATIENTS)


def test_with_only_train_the_rest_of_the_store_is_as_without_synthetic_cases(real, tmp_path):
    for name in PATIENTS:
        injected(tmp_path / "made" / name, real / f"{name}.nii.gz")
    samples(tmp_path / "samples", 2)
    plain = prepare(real, tmp_path / "plain")
    store = prepare(real, tmp_path / "store", synthetic=[tmp_path / "made", tmp_path / "samples"], only_train=True)
    for split in ("val", "test"):
        assert store.splits[split] == plain.splits[split]
        assert store.in_split(split) == plain.in_split(split)
    made = [case for case in store.cases if case.synthetic]
    assert {case.patient_id for case in made} == {*SPLITS["train"], "synthetic-00000", "synthetic-00001"}
    left = {skip["case"]: skip["reason"] for skip in store.skipped}
    assert len(left) == len(SPLITS["val"] + SPLITS["test"])
    assert f"it was made from a scan of patient {SPLITS['val'][0]} (val)" in left.values()
    assert f"synthetic cases, all in training: 9; left out: {len(left)} made from scans" in " ".join(
        store.source["notes"]
    )
    check_synthetic_cases(store)


def test_a_synthetic_scan_of_a_file_whose_name_is_in_lower_case_follows_its_patient(real, tmp_path):
    assert all(name != name.lower() for name in PATIENTS)
    for name in PATIENTS:
        injected(tmp_path / "made" / name, real / f"{name}.nii.gz", patient=synthetic_patient(name.lower()))
    store = prepare(real, tmp_path / "store", synthetic=[tmp_path / "made"])
    assert {case.patient_id for case in store.cases if case.synthetic} == set(PATIENTS)
    assert store.splits == SPLITS


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"lineage": replace(KNOWS_NOBODY, seen=frozenset([patient_key(SPLITS["test"][0])]))},
            "its maker, ac-wgan, was trained on",
        ),
        ({"lineage": Lineage("render", outlines=frozenset([patient_key(SPLITS["val"][0])]))}, "it has the outline"),
        ({"origin": SPLITS["test"][1]}, "it has the outline"),
        ({"lineage": Lineage("ac-wgan", "ab", tells=False)}, "are not known"),
        ({"patient": synthetic_patient(SPLITS["test"][0])}, "it was made from a scan of patient"),
        ({"patient": synthetic_patient(SPLITS["test"][0].lower())}, "it was made from a scan of patient"),
    ],
)
def test_a_case_that_knows_held_out_patients_is_left_out_with_only_train_and_told_without(
    real, tmp_path, capsys, options, reason
):
    injected(tmp_path / "made" / "a", **{"patient": synthetic_patient("A")} | options)
    injected(tmp_path / "made" / "b", patient=synthetic_patient("A"))
    store = prepare(real, tmp_path / "store", synthetic=[tmp_path / "made"], only_train=True)
    assert sum(bool(case.synthetic) for case in store.cases) == 1
    assert reason in store.skipped[0]["reason"]
    if "patient" in options:
        return
    arguments = ["patches", real, "--synthetic", tmp_path / "made", "--out", tmp_path / "other", "--workers", "1"]
    assert main(["prepare", *map(str, arguments)]) == 0
    assert "synthetic training cases that may leak patients of validation or test: 1 (" in capsys.readouterr().err
    with pytest.raises(InputError, match=reason):
        check_synthetic_cases(Store(tmp_path / "other"))


def test_a_scan_that_may_be_of_several_patients_is_none_of_a_held_out_ones(tmp_path):
    """Two patients have a file of one name, and the manifest has lost the hash that tells them apart."""
    for name in PATIENTS:
        (tmp_path / "in" / name).mkdir(parents=True)
        write_image(tmp_path / "in" / name / "image.nii.gz", scan(ord(name)))
    injected(tmp_path / "made", name="image.nii.gz")
    store = prepare(tmp_path / "in", tmp_path / "store", "scans", synthetic=[tmp_path / "made"], only_train=True)
    assert not any(case.synthetic for case in store.cases)
    assert "it was made from a scan of patient" in store.skipped[0]["reason"]
    injected(tmp_path / "by-bytes", tmp_path / "in" / "A" / "image.nii.gz")
    joined = prepare(tmp_path / "in", tmp_path / "joined", "scans", synthetic=[tmp_path / "by-bytes"])
    assert [case.patient_id for case in joined.cases if case.synthetic] == ["A"]


def test_few_training_patients_have_their_own_synthetic_cases_alone(real, tmp_path):
    for name in PATIENTS:
        injected(tmp_path / "made" / name, real / f"{name}.nii.gz")
    options = {"synthetic": [tmp_path / "made"], "only_train": True, "train_patients": 2}
    store = prepare(real, tmp_path / "store", **options)
    assert len(store.splits["train"]) == 2
    assert {case.patient_id for case in store.cases if case.synthetic} == set(store.splits["train"])


def test_the_summary_counts_synthetic_cases_by_split(real, tmp_path, capsys):
    injected(tmp_path / "made" / "a", real / f"{SPLITS['train'][0]}.nii.gz")
    injected(tmp_path / "made" / "b", real / f"{SPLITS['test'][0]}.nii.gz")
    arguments = ["prepare", "patches", real, "--out", tmp_path / "store", "--synthetic", tmp_path / "made"]
    assert main([*map(str, arguments), "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert "synthetic cases: 2 of 12 (1 train, 0 val, 1 test); validation or test has synthetic cases" in said


def test_a_killed_join_goes_on_and_another_request_is_refused(real, tmp_path):
    samples(tmp_path / "made", 2)
    options = {"synthetic": [tmp_path / "made"], "only_train": True}
    whole = prepare(real, tmp_path / "whole", **options)
    begun = prepare(real, tmp_path / "begun", **options)
    (begun.path / "zarr.json").unlink()
    (begun.path / "synthetic-00001" / "zarr.json").unlink()
    assert prepare(real, tmp_path / "begun", **options).fingerprint == whole.fingerprint
    with pytest.raises(InputError, match=r"--synthetic was made"):
        prepare(real, tmp_path / "begun")


def test_what_is_no_synthetic_scan_does_not_join(real, tmp_path):
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "x.nii.gz", scan())
    write_table(tmp_path / "in" / "nodules.csv", [row("x.nii.gz", "X")])
    store = prepare(real, tmp_path / "store", synthetic=[tmp_path / "in"])
    assert len(store) == len(PATIENTS)
    assert "a scan that neither its own header nor a manifest marks as synthetic" in store.skipped[0]["reason"]
    (tmp_path / "nothing").mkdir()
    injected(tmp_path / "stopped" / "a")
    (tmp_path / "stopped" / "request.json").write_text('{"cases": {}}')
    for folder, found in (
        (tmp_path / "nothing", "no scans with a table of nodules"),
        (tmp_path / "gone", "no folder"),
        (tmp_path / "stopped", "an injection that was stopped"),
        (real, "a folder that is read already"),
        (Path(real).parent, "a folder that is read already"),
    ):
        with pytest.raises(InputError, match=found):
            prepare(real, tmp_path / "other", synthetic=[folder])
    assert not (tmp_path / "other").exists()


def test_a_mask_of_many_nodules_is_read_once(tmp_path, monkeypatch):
    write_image(tmp_path / "a.mha", scan())
    two = ball(1).voxels
    two[2:4, 14:17, 14:17] = 2
    write_image(tmp_path / "m.mha", replace(scan(), voxels=two))
    nowhere = dict.fromkeys(("center_x_mm", "center_y_mm", "center_z_mm", "diameter_mm"), "")
    rows = [row("a.mha", "A", "m.mha", label, nodule_id=label, **nowhere) for label in (1, 2)]
    write_table(tmp_path / "nodules.csv", rows)
    opened = []
    true = mask_files.read_labels_on
    monkeypatch.setattr(mask_files, "read_labels_on", lambda path, ct: opened.append(path) or true(path, ct))
    (source,) = patch_sources([tmp_path / "nodules.csv"]).sources
    assert [region.voxels for region in source.read().regions] == [32, 18]
    assert len(opened) == 1


def test_synthetic_cases_of_no_patient_of_the_store_are_split_like_patients(real, tmp_path):
    store = prepare(real, tmp_path / "store", synthetic=[samples(tmp_path / "made", 10)])
    assert {split: len(patients) for split, patients in store.splits.items()} == {"train": 14, "val": 2, "test": 4}
    assert store.splits == split_patients(dict.fromkeys([*PATIENTS, *(f"synthetic-{i:05d}" for i in range(10))]))


def test_a_store_without_a_case_is_refused_and_nothing_is_left(tmp_path, capsys):
    injected(tmp_path / "made", lineage=Lineage("ac-wgan", "ab", tells=False))
    arguments = ["patches", tmp_path / "made", "--only-train", "--out", tmp_path / "store", "--workers", "1"]
    assert main(["prepare", *map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "1 scans, none of which can be in the store" in error
    assert "the training patients of its maker (ac-wgan) are not known" in error
    assert not (tmp_path / "store").exists() or not any((tmp_path / "store").iterdir())
    prepare(tmp_path / "made", tmp_path / "store")  # another request may follow into the same folder
