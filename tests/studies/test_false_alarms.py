"""The study of false alarms in whole chests.

Look-alikes, places of unknown truth, false alarms, and the study itself.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from synthorax.anatomy.lungs import find_lungs
from synthorax.datasets.case import Case
from synthorax.errors import InputError
from synthorax.makers import Filled, Lineage
from synthorax.provenance import patient_key
from synthorax.studies import alarm_arms, patch_makers
from synthorax.studies.alarm_arms import CORNERS, HARD, PASTED_ARM, as_many, as_negatives, in_chests
from synthorax.studies.alarm_figures import (
    ALARMS,
    AUC_CHESTS,
    AUC_CUBES,
    AlarmPatients,
    alarms_at,
)
from synthorax.studies.alarm_figures import alarm_arms as measured
from synthorax.studies.chest_places import ChestMap
from synthorax.studies.false_alarms import AlarmOutcome, split_chests
from synthorax.studies.false_alarms_page import alarms_answer, study_false_alarms
from synthorax.studies.pasting import pasted_into
from synthorax.studies.trials import Scores
from synthorax.tasks.config import DETECTION
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest
from tests.helpers.stores import cases, store_of
from tests.helpers.toy_makers import Dots

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = DETECTION["smoke"]
LEFT, RIGHT = 22, 49
"""Middles of the two lungs along x, in voxels of `small_chest`."""


def chest_with(seed, *, mass=False, lone=False):
    """A small chest with two vessels that cross in each lung; a mass, or a dense spot by itself, if asked."""
    coarse = small_chest(seed)
    hu = coarse.voxels.repeat(2, 0).repeat(2, 1).repeat(2, 2)  # vessels are thinner than its voxels
    hu[40, 72, 2 * LEFT - 16 : 2 * RIGHT + 16] = 30  # from lung to lung
    for x in (2 * LEFT, 2 * RIGHT):
        hu[40, 64:82, x] = 30
    if lone:
        hu[60, 72:74, 2 * LEFT] = 30
    if mass:
        z, y, x = np.indices(hu.shape)
        hu[((z - 40) * 3) ** 2 + ((y - 104) * 2.25) ** 2 + ((x - 2 * LEFT) * 2.25) ** 2 <= 20**2] = 30
    return replace(coarse, voxels=hu, spacing_mm=(3.0, 2.25, 2.25))


def at(ct, *index):
    """The place of a voxel of `small_chest`."""
    return ct.to_world(2 * np.array(index, float))


def test_a_crossing_of_vessels_is_a_look_alike_and_a_dense_spot_by_itself_may_be_a_nodule():
    ct = chest_with(0, lone=True)
    known = ChestMap(find_lungs(ct))
    spots = np.array([one.center_mm for one in known.look_alikes(20)])
    for x in (LEFT, RIGHT):
        assert np.linalg.norm(spots - at(ct, 20, 36, x), axis=1).min() < 8
    lone = at(ct, 30, 36.5, LEFT)
    assert np.linalg.norm(spots - lone, axis=1).min() > 12
    assert known.is_healthy(np.stack([at(ct, 20, 36, LEFT), at(ct, 12, 30, RIGHT), lone])).tolist() == [
        True,
        True,
        False,
    ]


def test_nothing_is_said_of_places_near_what_may_be_a_mass():
    ct, with_mass = chest_with(0), chest_with(0, mass=True)
    near = at(ct, 20, 47, LEFT)[None]
    assert ChestMap(find_lungs(ct)).is_healthy(near)
    assert not ChestMap(find_lungs(with_mass)).is_healthy(near)
    assert ChestMap(find_lungs(with_mass)).is_healthy(at(ct, 20, 30, RIGHT)[None])


def test_a_pasted_nodule_has_its_own_voxels_and_the_patch_is_as_it_was_elsewhere():
    mask = ball_mask((16, 16, 16), 6)
    lung, donor = np.full(mask.shape, -850.0), np.where(mask, 30.0, -700.0)
    made = pasted_into(lung, donor, mask, (1.0, 1.0, 1.0))
    assert (made[mask] == 30).all()
    assert (made[~ball_mask(mask.shape, 12)] == -850).all()


def test_false_alarms_are_counted_where_the_share_of_nodules_is_found():
    nodules = np.array([4.0, 3.0, 2.0, 1.0])
    marks = np.array([[0, 0, 0, 0, 3.5], [0, 0, 0, 0, 2.5], [1, 0, 0, 0, 3.0], [1, 0, 0, 0, 0.5]])

    def alarms(found, nodule_weights=(1, 1, 1, 1), chest_weights=(1, 1)):
        weights = (np.array([each], float) for each in (nodule_weights, chest_weights))
        return alarms_at(found, nodules, next(weights), marks, next(weights))[0]

    assert alarms(0.25) == 0  # from 4 on
    assert alarms(0.5) == 1  # from 3 on: one mark in each chest
    assert alarms(0.75) == 1.5
    assert alarms(1.0) == 1.5
    assert alarms(0.5, nodule_weights=(0, 0, 1, 1)) == 1.5
    assert alarms(0.5, chest_weights=(2, 0)) == 1
    assert alarms(0.75, chest_weights=(2, 0)) == 2


def test_an_arm_with_fewer_false_alarms_and_better_order_is_told_from_the_reference():
    random = np.random.default_rng(0)
    of = AlarmPatients(
        cubes=np.array([f"c{i}" for i in range(40)]),
        labels=np.repeat([1, 0], 20),
        pasted=np.array([f"c{i}" for i in range(20)]),
        look_alikes=np.repeat(["a", "b", "c"], 20),
        chests=np.array(["a", "b", "c"]),
    )

    def said(shift, alarms):
        marks = np.array([[i % 3, 0, 0, 0, 9.0] for i in range(3 * alarms)], float).reshape(-1, 5)
        chests = np.concatenate([random.normal(shift, 1, 20), random.normal(0, 1, 60)])
        return Scores(random.normal(shift * of.labels, 1), chests, marks)

    reference, better, same = measured(
        {HARD: [said(1, 4)] * 3, "better": [said(4, 1)] * 3, "same": [said(1, 4) for _ in range(3)]}, of, HARD
    )
    assert reference.figures[ALARMS].value == 4
    assert not reference.against
    assert better.against[ALARMS].difference == -3
    assert better.against[AUC_CHESTS].low > 0
    assert better.against[AUC_CUBES].low > 0
    assert better.against[AUC_CHESTS].p_holm < 0.05 < same.against[AUC_CHESTS].p_holm
    assert better.against[AUC_CHESTS].p < better.against[AUC_CHESTS].p_holm
    assert better.each[ALARMS] == [1, 1, 1]
    outcome = AlarmOutcome([reference, better, same], {}, [], {}, 0)
    assert alarms_answer(outcome).startswith("“better” (-3.0 a chest) lowered the false alarms of “hard negatives”")
    two = {HARD: [said(1, 4)] * 2, "better": [said(4, 1)] * 2}
    few = measured(two, of, HARD)
    assert {(test.p, test.p_holm) for test in few[1].against.values()} == {(None, None)}
    wanted = "Not known: differences in false alarms from “hard negatives” lie within -3.0 to -3.0 a chest, and fewer"
    assert alarms_answer(AlarmOutcome(few, {}, [], {}, 0)).startswith(wanted)
    guessing = measured({HARD: [said(-1, 4)] * 3, "better": [said(4, 1)] * 3}, of, HARD)
    told = alarms_answer(AlarmOutcome(guessing, {}, [], {}, 0))
    assert told.startswith("This study says nothing about synthetic nodules: the baseline “hard negatives” is not")


def test_as_many_patches_are_taken_each_before_any_again():
    few = np.arange(3, dtype=np.int16)[:, None, None, None] * np.ones((1, 2, 2, 2), np.int16)
    assert sorted(as_many(few, 7)[:, 0, 0, 0].tolist()) in (
        [0, 0, 0, 1, 1, 2, 2],
        [0, 0, 1, 1, 1, 2, 2],
        [0, 0, 1, 1, 2, 2, 2],
    )
    assert sorted(as_many(few, 2)[:, 0, 0, 0].tolist()) != [0, 0]


# The study


class Healer:
    """Fills a nodule with lung."""

    name, lineage = "healer", Lineage("healer")
    heeds, roles = frozenset({"diameter_mm"}), frozenset({"erases"})

    def reach_mm(self, edit):
        return edit.nodule.diameter_mm, edit.nodule.diameter_mm / 2 + 4

    def fill_many(self, patches, regions, edits, seeds):
        return [
            Filled(
                np.where(ball_mask(p.shape, e.nodule.diameter_mm + 2, p.spacing_mm), -850.0, p.voxels), None, e.nodule
            )
            for p, e in zip(patches, edits, strict=True)
        ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("alarms")


@pytest.fixture(scope="module")
def store(place):
    return store_of(place / "store", cases(6))


@pytest.fixture(scope="module")
def chests(place):
    splits = ("train", "val", "test", "test")
    made = [Case(f"chest{i}", f"chest{i}", chest_with(i), split=split) for i, split in enumerate(splits)]
    return store_of(place / "chests", made)


def go(store, chests, place):
    return study_false_alarms(
        store, chests, CONFIG, place / "out", injectors=[Dots()], erasers=[Healer()], trainings=1, device="cpu"
    )


@pytest.fixture(scope="module")
def result(store, chests, place):
    return go(store, chests, place)


def test_the_study_ends_in_arms_with_intervals_and_a_page(result):
    page, outcome = result
    arms = {arm.name: arm for arm in outcome.arms}
    assert set(arms) == {CORNERS, HARD, PASTED_ARM, in_chests("render"), in_chests("dots"), as_negatives("healer")}
    assert outcome.counts["test chests"] == 2
    assert outcome.counts["train look-alikes: vessel"] + outcome.counts["train look-alikes: hilum"] >= 2
    assert outcome.counts["nodules pasted into test chests"] == 6
    for arm in outcome.arms:
        for figure in (AUC_CHESTS, AUC_CUBES):
            assert 0 <= arm.figures[figure].low <= arm.figures[figure].value <= arm.figures[figure].high <= 1
        assert bool(arm.against) == (arm.name != HARD)
    written = json.loads((page.parent / "results.json").read_text())
    assert [arm["name"] for arm in written["arms"]] == list(arms)
    assert "false alarms a chest" in page.read_text()


def test_a_second_call_trains_and_makes_nothing(result, store, chests, place, monkeypatch):
    def never(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(patch_makers, "atomic_file", never)
    monkeypatch.setattr(alarm_arms, "write_scores", never)
    assert go(store, chests, place)[1] == result[1]


def test_a_chest_of_a_patient_of_another_split_is_left_out_and_too_few_chests_are_refused(store, chests, place):
    known = store.splits["train"][0]
    splits = ("train", "test", "test", "test")
    made = [
        Case(case.case_id, case.patient_id, chest_with(0), split=split)
        for case, split in zip(chests.cases, splits, strict=True)
    ]
    made[1] = replace(made[1], patient_id=known)
    parts, notes = split_chests(store_of(place / "leaked", made), store)
    assert [case.case_id for case in parts["test"].cases] == ["chest2", "chest3"]
    assert "left out: chest1, a test chest of a train patient of the cubes" in notes
    one = store_of(place / "one", [replace(case, split="train") for case in made])
    with pytest.raises(InputError, match="whole test chests of 0 patients; expected 2 or more"):
        split_chests(one, store)


def test_a_maker_that_knows_a_test_chest_is_refused(store, chests, place):
    leaked = Dots(lineage=Lineage("dots", seen=frozenset([patient_key("chest3")])))
    with pytest.raises(InputError, match="held out here, such as chest3"):
        study_false_alarms(store, chests, CONFIG, place / "leak", injectors=[leaked], trainings=1, device="cpu")
