"""The study of whether synthetic malignant nodules help: contexts, arms, figures and tests."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm

from synthorax.errors import InputError
from synthorax.makers import Filled, Lineage
from synthorax.metrics.comparisons import smallest_found
from synthorax.metrics.roc import auc
from synthorax.patch import PatchSpec
from synthorax.provenance import patient_key
from synthorax.studies.contexts import BENIGN_CLASS, MALIGNANT_CLASS, Contexts, made_in_contexts, replaces
from synthorax.studies.malignancy import DIAMETER, PAPER_RESULTS, SHAPE_FEATURES, malignancy_study
from synthorax.studies.malignancy_page import malignancy_answer, study_malignancy
from synthorax.studies.malignancy_recipes import FLIPS, RAW, WEIGHTED, in_contexts, with_flips
from synthorax.studies.malignant_or_benign import diameters_of, malignancy_splits
from synthorax.studies.patch_makers import check_maker_fits
from synthorax.studies.results import LEAST_TRAININGS, Interval
from synthorax.studies.trials import Study
from synthorax.tasks.config import MALIGNANCY
from tests.helpers.balls import ball_mask
from tests.helpers.stores import cases, store_of
from tests.helpers.toy_makers import Dots

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = MALIGNANCY["smoke"].model_copy(update={"shift_voxels": 1.0, "steps": 4, "batch_size": 4})
READERS = ((1, 2, 2, 1), (5, 5, 4, 4), (2, 1, 2, 1))


@dataclass(frozen=True)
class Rings(Dots):
    """An injector that leaves the inner half of what was there as it was, and refuses nodules of 9 mm and more."""

    name: str = "rings"

    def reach_mm(self, edit):
        if edit.diameter_mm >= 9:
            raise InputError("diameter", f"{edit.diameter_mm:g} mm", "less than 9 mm")
        return super().reach_mm(edit)

    def _fill(self, patch, region, edit):
        mask = ball_mask(patch.shape, edit.nodule.diameter_mm, patch.spacing_mm)
        inner = ball_mask(patch.shape, edit.nodule.diameter_mm / 2, patch.spacing_mm)
        return Filled(np.where(mask & ~inner, np.float32(0), patch.voxels), mask, edit.nodule)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("malignancy")


@pytest.fixture(scope="module")
def store(place):
    return store_of(place / "store", cases(12, readers=READERS))


@pytest.fixture(scope="module")
def study(store, place):
    return Study(store, place / "study" / "trainings", [0], "cpu", place / "cache")


@pytest.fixture(scope="module")
def contexts(store, study):
    return Contexts.of(store, malignancy_splits(study, CONFIG, "median").train)


@pytest.fixture(scope="module")
def found(study):
    """The study as a user runs it, at `smoke` sizes, with two injectors of other packages."""
    return malignancy_study(study, CONFIG, [Rings()], ratios=(1.0, 2.0), baseline=Dots())


# Contexts


def test_every_context_comes_once_before_any_comes_again(contexts):
    wanted = contexts.wanted("malignant", 8, 0)
    rows = [row for row, _ in wanted]
    assert sorted(rows[:4]) == sorted(rows[4:]) == contexts.rows["malignant"].tolist()
    assert (contexts.train.labels[rows] == MALIGNANT_CLASS).all()


def test_a_nodule_in_a_malignant_context_has_the_diameter_that_was_there(contexts):
    known = diameters_of(contexts.train)
    assert all(mm == known[row] for row, mm in contexts.wanted("malignant", 8, 0))


def test_a_nodule_in_a_benign_context_has_a_malignant_ones_diameter_and_covers_what_was_there(contexts):
    known = diameters_of(contexts.train)
    malignant = known[contexts.train.labels == MALIGNANT_CLASS]
    for row, mm in contexts.wanted("benign", 16, 0):
        assert contexts.train.labels[row] == BENIGN_CLASS
        assert mm in malignant
        assert mm >= min(known[row], malignant.max())


def test_a_method_that_leaves_what_was_there_is_known_by_it(contexts):
    assert replaces(Dots(), contexts, 0)
    assert not replaces(Rings(), contexts, 0)


def made(method, contexts, tmp_path, n=8, kind="malignant"):
    return made_in_contexts(method, method.name, contexts, kind, n, 0, folder=tmp_path, like="these")


def test_what_was_made_lies_in_the_context_and_is_kept(contexts, tmp_path, monkeypatch):
    first = made(Dots(), contexts, tmp_path)
    rows = [row for row, _ in contexts.wanted("malignant", 8, 0)]
    before = contexts.train.with_margin(np.array(rows))
    there = contexts.train.masks_with_margin(np.array(rows))
    assert first.patches.shape == before.shape
    assert (first.patches[there] == 0).mean() > 0.95
    assert (first.patches[~there] == before[~there]).mean() > 0.98
    monkeypatch.setattr("synthorax.studies.contexts._made", None)  # nothing is made again
    assert np.array_equal(made(Dots(), contexts, tmp_path).patches, first.patches)


def test_what_is_too_wide_and_what_stays_is_told(contexts, tmp_path):
    wide = sum(mm >= 9 for _, mm in contexts.wanted("malignant", 8, 0))
    rings = made(Rings(), contexts, tmp_path)
    assert 0 < wide < 8
    assert len(rings.patches) == 8 - wide
    assert f"{wide} of 8 nodules are left out, because they are wider than the method can make" in rings.note
    assert f"{rings.left:.0%} of the voxels of the real nodules that were there are unchanged" in rings.note
    assert 0.05 < rings.left < 0.4


# The study


def test_a_method_that_leaves_what_was_there_has_no_arm_in_malignant_contexts(found):
    names = [arm.name for arm in found.arms]
    assert names == [
        RAW,
        WEIGHTED,
        "malignant ones 3 times",
        FLIPS,
        in_contexts("dots", "benign", 2),
        in_contexts("dots", "malignant", 1),
        in_contexts("dots", "malignant", 2),
        with_flips("dots"),
        in_contexts("rings", "benign", 2),
        DIAMETER,
        SHAPE_FEATURES,
    ]
    note = "rings has no arms in malignant contexts, at any ratio, because it adds nodules to the real ones"
    assert any(each.startswith(note) for each in found.notes)
    assert not any(each.startswith("dots has no arms") for each in found.notes)


@pytest.mark.parametrize("arms", [("malignant",), ("benign", "flips-made")])
def test_an_arm_that_was_asked_for_and_that_no_maker_can_have_is_refused_before_anything_is_made(study, place, arms):
    alone = replace(study, out=place / "refused" / "trainings")
    with pytest.raises(InputError, match=f"found {', '.join(set(arms) - {'benign'})} with rings alone, which adds"):
        malignancy_study(alone, CONFIG, arms=arms, baseline=Rings())
    assert not (place / "refused").exists()


def test_arms_that_no_maker_can_have_are_named_if_they_were_not_asked_for(study, place):
    alone = replace(study, out=place / "none" / "trainings")
    outcome = malignancy_study(alone, CONFIG, baseline=Rings())
    assert [name for name, n in outcome.made.items() if n] == [in_contexts("rings", "benign", 2)]
    assert any(note.startswith("rings has no arms in malignant contexts") for note in outcome.notes)


def test_each_ratio_takes_as_many_made_nodules_for_each_real_one(found):
    real = found.counts["train"]["malignant"]
    assert found.made[in_contexts("dots", "malignant", 1)] == real
    assert found.made[in_contexts("dots", "malignant", 2)] == 2 * real
    assert found.made[RAW] == 0


def test_an_arm_with_fewer_nodules_than_its_name_says_has_a_note(found):
    real, arm = found.counts["train"]["malignant"], in_contexts("rings", "benign", 2)
    assert 0 < found.made[arm] < 2 * real
    assert any(note.startswith(f"{arm}: ") and f"instead of {2 * real}." in note for note in found.notes)
    assert not any(note.startswith("raw + dots") for note in found.notes)


def test_the_diameter_alone_has_the_auc_of_the_diameters(found, study):
    test = malignancy_splits(study, CONFIG, "median").test
    (arm,) = (arm for arm in found.arms if arm.name == DIAMETER)
    assert arm.metrics["auc"].mean == pytest.approx(auc(test.labels, diameters_of(test)))
    assert "sensitivity" not in arm.metrics


def test_made_nodules_are_compared_with_the_arm_without_them_and_with_the_maker_before(found):
    pairs = {(test.a, test.b) for test in found.tests}
    assert (in_contexts("dots", "malignant", 2), RAW) in pairs
    assert (in_contexts("dots", "malignant", 2), in_contexts("dots", "benign", 2)) in pairs
    assert (with_flips("dots"), FLIPS) in pairs
    assert (in_contexts("rings", "benign", 2), in_contexts("dots", "benign", 2)) in pairs
    assert (in_contexts("dots", "malignant", 1), in_contexts("dots", "benign", 2)) not in pairs


def test_the_page_begins_with_whether_made_nodules_helped(found):
    told = malignancy_answer(found)
    made = {f"“{name}”" for name, n in found.made.items() if n}
    assert told.startswith("This study says nothing about synthetic nodules: the baseline “raw”") or all(
        name in told for name in made
    )
    arms = [replace(arm, metrics={"auc": Interval(0.8, 0.7, 0.9)}) for arm in found.arms]
    tests = [replace(test, p_holm=0.01, difference=0.1) for test in found.tests]
    assert malignancy_answer(replace(found, arms=arms, tests=tests)).startswith("Yes: raw + dots")


def test_the_smallest_difference_is_that_of_four_in_five_cases_and_not_known_without_p_values(found):
    halves = [(test.high - test.low) / 2 for test in found.tests]
    wanted = np.median(halves) / norm.ppf(0.975) * (norm.ppf(0.975) + norm.ppf(0.8))
    assert smallest_found(halves) == pytest.approx(wanted)
    assert found.smallest == (pytest.approx(wanted) if len(found.arms[0].seeds) >= LEAST_TRAININGS else None)


def test_the_papers_figures_stand_beside_the_same_network_and_arm(study):
    resnet = CONFIG.model_copy(update={"network": CONFIG.network.model_copy(update={"architecture": "resnet-50"})})
    outcome = malignancy_study(study, resnet, arms=("raw", "malignant"), ratios=(2.0,), baseline=Dots())
    by_name = {arm.name: arm.paper for arm in outcome.arms}
    assert by_name[RAW]["auc"] == PAPER_RESULTS["resnet-50"][RAW][3] == 0.8286
    assert by_name[in_contexts("dots", "malignant", 2)]["auc"] == 0.8746


def test_a_stopped_study_goes_on_and_writes_its_page(store, place, monkeypatch):
    def go():
        return study_malignancy(store, CONFIG, place / "out", arms=("weighted",), trainings=3, device="cpu")

    page, outcome = go()
    monkeypatch.setattr("synthorax.studies.trials.train_task", None)  # nothing is trained again
    assert go()[1] == outcome
    assert "the comparisons detect a difference in AUC" in page.read_text()
    results = json.loads((place / "out" / "results.json").read_text())
    assert results["answer"] == "Not known: no arm has synthetic nodules beside real ones."
    assert page.read_text().split("</h1>")[1].lstrip().startswith(f"<p><b>{results['answer']}</b></p>")
    assert [arm["name"] for arm in results["arms"]] == [RAW, WEIGHTED, DIAMETER, SHAPE_FEATURES]
    assert results["tests"][0]["p_delong"] == outcome.tests[0].p_delong


def test_a_method_that_knows_test_patients_is_refused(store):
    (patient, *_) = (case.patient_id for case in store.in_split("test"))
    knowing = replace(Dots(), lineage=Lineage("dots", "d" * 64, frozenset({patient_key(patient)})))
    with pytest.raises(InputError, match="dots"):
        check_maker_fits(knowing, store, CONFIG)


def test_an_injector_that_also_makes_patches_of_another_size_is_used_as_an_injector(store, place, monkeypatch):
    both = replace(Dots(), roles=frozenset({"injects", "makes patches"}))
    object.__setattr__(both, "spec", PatchSpec((40, 40, 40)))  # not that of the task
    asked = []
    monkeypatch.setattr(
        "synthorax.studies.malignancy_page.malignancy_study", lambda *given, **named: asked.append(given)
    )
    with pytest.raises(AttributeError):  # of the outcome, which is None
        study_malignancy(store, CONFIG, place / "both", makers=[both], trainings=1, device="cpu")
    assert asked[0][2] == [both]


@pytest.mark.parametrize(("ratios", "said"), [((0.0,), "above 0"), ((-1.0,), "above 0")])
def test_a_ratio_of_nothing_is_refused(study, ratios, said):
    with pytest.raises(InputError, match=said):
        malignancy_study(study, CONFIG, ratios=ratios, baseline=Dots())


def test_a_store_with_one_class_is_refused(tmp_path):
    store = store_of(tmp_path / "store", cases(6, readers=((1, 2, 2, 1),)))
    with pytest.raises(InputError, match="patients with a malignant nodule: 0 in train"):
        malignancy_study(Study(store, tmp_path / "out", [0], "cpu", tmp_path), CONFIG, baseline=Dots())
