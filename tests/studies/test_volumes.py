"""The study of whether synthetic chests help: designs of the sets, arms, figures and the page."""

import json
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest

from synthorax import api
from synthorax.datasets.case import Case
from synthorax.datasets.chests import read_chests
from synthorax.errors import InputError
from synthorax.geometry import resized_box
from synthorax.makers import Filled, Lineage, ScanStream
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.provenance import patient_key
from synthorax.region import Region
from synthorax.seeding import derive
from synthorax.studies import chest_sets, edit_traces, volumes
from synthorax.studies.chest_sets import ERASED, HEALTHY, INJECTED, KEPT, SHAM, ChestSet
from synthorax.studies.chest_training import ChestBatches, unaugmented
from synthorax.studies.edit_traces import auc_without_image
from synthorax.studies.volumes import (
    AUGMENTED,
    REAL_ONLY,
    SHAM_ARM,
    chest_arms,
    rows_of_size,
    synthetic_only,
    synthetic_then_real,
)
from synthorax.tasks.config import VOLUME_TASKS
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest
from tests.helpers.stores import store_of
from tests.helpers.toy_makers import KNOWN, Chests, Dots

pytestmark = pytest.mark.usefixtures("one_thread")

EDGE = 40
CONFIG = VOLUME_TASKS["smoke"].model_copy(update={"steps": 2, "validate_every": 2})
BALL_MM = 24.0
SIZES_MM = (16.0, 20.0)


@dataclass(frozen=True)
class CubicChests(Chests):
    """The chests of `Chests` in 40^3 voxels."""

    def scan(self, index, seed, options=None):
        chest = small_chest(derive(seed, index))
        made = resized_box(chest, (0, 0, 0), chest.shape, (EDGE,) * 3)
        return ScanStream(made.shape, made.spacing_mm, iter([made.voxels]))


@dataclass(frozen=True)
class Wipes:
    """Takes nodules out by giving the region the HU of lung."""

    name: str = "wipes"
    heeds: frozenset = frozenset()
    roles: frozenset = frozenset({"erases"})
    lineage: Lineage = field(default_factory=lambda: Lineage("wipes", "e" * 64, KNOWN))

    def reach_mm(self, edit):
        return 30.0, 20.0

    def fill_many(self, patches, regions, edits, seeds):
        return [
            Filled(np.where(region, np.float32(-850), patch.voxels.astype(np.float32)), None, edit.nodule)
            for patch, region, edit in zip(patches, regions, edits, strict=True)
        ]


def case(split, i, has_nodule):
    ct = small_chest(1000 * ("train", "val", "test").index(split) + i)
    name = f"{split}{i:02d}"
    if not has_nodule:
        return Case(name, name, ct, annotated="all", split=split)
    ball = ball_mask(ct.shape, BALL_MM, ct.spacing_mm, (20, 36, 22))
    found = Nodule("01", tuple(ct.to_world((20, 36, 22)).tolist()), NoduleAttributes(diameter_mm=BALL_MM), label=1)
    voxels = np.where(ball, np.int16(40), ct.voxels)
    return Case(name, name, Volume(voxels, ct.spacing_mm), (Region.of(ball),), (found,), annotated="all", split=split)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("volumes")


@pytest.fixture(scope="module")
def store(place):
    cases = [case(split, i, i % 2 == 0) for split, n in (("train", 8), ("val", 8), ("test", 8)) for i in range(n)]
    return store_of(place / "store", cases)


def study(store, out, monkeypatch, **options):
    monkeypatch.setattr("synthorax.studies.chest_sets.lidc_diameters", lambda seed, region: (24.0,))
    for module in (chest_sets, edit_traces, volumes):
        monkeypatch.setattr(module, "SIZES_STUDIED_MM", SIZES_MM)
    monkeypatch.setattr("synthorax.studies.volumes_page.READER_STEPS", 2)
    monkeypatch.setattr("synthorax.studies.volumes_page.read_chests", partial(read_chests, workers=1))
    given = {"models": [CubicChests()], "inject": Dots(), "erase": Wipes(), "preset": "smoke", "device": "cpu"}
    settings = {"steps": 2, "validate_every": 2}
    given |= {"made": 10, "compared": 8, "trainings": 1, "settings": settings, "cache": store.path.parent / "cache"}
    return api.study_volumes(store, out, **given | options)


@pytest.fixture(scope="module")
def found(store, place):
    """The study as a user runs it, at `smoke` sizes."""
    with pytest.MonkeyPatch.context() as patch:
        page = study(store, place / "out", patch)
    return page, json.loads((place / "out" / "results.json").read_text())


def test_the_design_erases_half_of_the_nodules_and_injects_half_of_the_others(found):
    _, results = found
    train = results["sets"]["train"]
    assert {name: train[name] for name in (KEPT, ERASED, HEALTHY, INJECTED)} == dict.fromkeys(
        (KEPT, ERASED, HEALTHY, INJECTED), 2
    )


def test_the_test_set_has_every_chest_without_nodules_and_with_one_of_each_size(found):
    test = found[1]["sets"]["test"]
    assert (test[HEALTHY], test[ERASED], test[KEPT], test[SHAM]) == (4, 4, 4, 8)
    assert 8 < test[INJECTED] <= 8 * len(SIZES_MM)


def test_every_arm_has_its_accuracy_and_is_compared_with_real_chests_alone(found):
    _, results = found
    names = [arm["name"] for arm in results["arms"]]
    assert names == [REAL_ONLY, AUGMENTED, SHAM_ARM, synthetic_only("chests"), synthetic_then_real("chests")]
    assert all({"accuracy", "16 mm", "auc", "own, from 10 mm"} <= set(arm["metrics"]) for arm in results["arms"])
    pairs = {(test["a"], test["b"]) for test in results["tests"]}
    assert (synthetic_then_real("chests"), AUGMENTED) in pairs
    assert all(test["p"] is None for test in results["tests"])  # one training says nothing of their spread


def test_source_and_edits_together_give_the_label_away_in_the_papers_design_and_not_with_sham_edits(found):
    bias = found[1]["bias"]
    assert bias["told"] == 1
    assert bias["told_sham"] == pytest.approx(0.5)
    assert bias["source"]["margin"] == 0.1
    assert bias["sham_called"]["mean"] is not None


def test_the_page_tells_distances_copies_and_the_paper(found):
    page, results = found
    text = page.read_text()
    assert "145.18" in text
    assert "slice reader" in results["extractor"]
    assert results["checks"]["chests"]["copies"] is not None
    assert "of training chests in at least one measure" in text


def test_a_stopped_study_goes_on(store, place, found, monkeypatch):
    monkeypatch.setattr("synthorax.studies.trials.train_task", None)  # nothing is trained again
    monkeypatch.setattr("synthorax.studies.chest_edits.inject_nodules", None)  # or made again
    study(store, place / "out", monkeypatch)
    again = json.loads((place / "out" / "results.json").read_text())
    assert again["arms"] == found[1]["arms"]
    assert again["distances"] == found[1]["distances"]


def test_without_an_eraser_nodules_stay_and_the_page_says_so(store, place, monkeypatch):
    page = study(store, place / "kept", monkeypatch, erase=None, made=0)
    assert "No eraser was given" in page.read_text()


def test_models_that_know_test_patients_are_refused(store, tmp_path, monkeypatch):
    (patient, *_) = (each.patient_id for each in store.in_split("test"))
    knows = replace(CubicChests(), lineage=Lineage("chests", "c" * 64, frozenset([patient_key(patient)])))
    with pytest.raises(InputError, match=patient):
        study(store, tmp_path / "out", monkeypatch, models=[knows])
    with pytest.raises(InputError, match="a model that makes scans"):
        study(store, tmp_path / "out", monkeypatch, models=[])


def test_too_few_scans_to_compare_are_refused_before_any_is_made(store, tmp_path, monkeypatch):
    monkeypatch.setattr(CubicChests, "scan", once(CubicChests.scan))
    with pytest.raises(InputError, match="4 of chests; expected at least 8 of each, half as many as the 16 real ones"):
        study(store, tmp_path / "out", monkeypatch, compared=4, erase=None)


def once(scan):
    """A function that fails when it is called again."""
    calls = []

    def called(*given):
        assert not calls
        calls.append(given)
        return scan(*given)

    return called


def test_scans_that_are_no_cubes_are_refused(store, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"scans of \(40, 72, 72\) voxels; expected cubes"):
        study(store, tmp_path / "out", monkeypatch, models=[Chests()])


def chests(hu, label):
    n = len(hu)
    voxels = np.broadcast_to(np.array(hu, np.int16)[:, None, None, None], (n, 16, 32, 32))
    names = np.array([f"p{i}" for i in range(n)])
    kinds = np.array([HEALTHY] * n)
    labels = np.array(label, np.int64)
    return ChestSet(voxels, labels, names, kinds, np.zeros(n, bool), np.full(n, np.nan), PatchSpec((16, 32, 32)))


def test_a_training_draws_made_chests_first_and_then_real_ones_as_many_of_each_class():
    real, made = chests([0, 100], [0, 1]), chests([-500, -400], [0, 1])
    (arm,) = [one for one in chest_arms(real, None, {"m": made}) if one.name == synthetic_then_real("m")]
    assert [share for share, _ in arm.sets] == [0.0, 0.5]
    batches = ChestBatches([(0, made), (5, real)], unaugmented(CONFIG), 0, "lungs")
    early, late = batches(4), batches(5)
    hu = CONFIG.patch.to_hu
    assert hu(early["ct"])[:, 0, 0, 0, 0].round().tolist() == [-500, -500, -400, -400]
    assert hu(late["ct"])[:, 0, 0, 0, 0].round().tolist() == [0, 0, 100, 100]
    assert late["label"].tolist() == [0, 0, 1, 1]


def test_whole_chests_are_flipped_from_side_to_side_alone():
    ramp = np.arange(16 * 32 * 32).reshape(1, 16, 32, 32) % 32 + 32 * (np.arange(16) % 4)[:, None, None]
    voxels = np.concatenate([ramp, ramp]).astype(np.int16)
    real = replace(chests([0, 0], [0, 1]), hu=voxels)
    config = CONFIG.model_copy(update={"shift_voxels": 0.0, "batch_size": 16})
    seen = CONFIG.patch.to_hu(ChestBatches([(0, real)], config, 0, "lungs")(0)["ct"])[:, 0].round()
    kinds = {tuple(one[0, 0, :2].tolist()) for one in seen}
    assert kinds == {(0, 1), (31, 30)}
    assert all(one[0].mean() < one[3].mean() for one in seen)


def test_a_size_is_measured_on_its_own_chests_and_those_without_nodules():
    test = replace(
        chests([0] * 5, [0, 0, 1, 1, 1]),
        kinds=np.array([HEALTHY, ERASED, INJECTED, INJECTED, KEPT]),
        diameters=np.array([np.nan, np.nan, 6, 8, 8]),
    )
    assert rows_of_size(test, 8.0).tolist() == [True, True, False, True, False]


def test_source_and_edits_that_say_nothing_leave_an_auc_of_one_half():
    some = replace(chests([0] * 4, [0, 1, 0, 1]), source=np.array([True, True, False, False]))
    assert auc_without_image(some) == 0.5
