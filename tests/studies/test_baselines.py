"""The study of baselines on real patches: its three tasks, cached results, figures, and refused stores."""

from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from synthorax.datasets.places import nodule_places
from synthorax.datasets.splits import LEAST_PATIENTS
from synthorax.errors import InputError
from synthorax.metrics.bootstrap import UndefinedError, mean_of
from synthorax.nodule import Nodule, NoduleAttributes, malignancy_of
from synthorax.patch import POSITIVE
from synthorax.studies import trials
from synthorax.studies.baselines import detection_arms, malignancy_arms, segmentation_arms
from synthorax.studies.baselines_page import study_baselines
from synthorax.studies.malignant_or_benign import LIKE_SIZE_RATIO, MALIGNANCY_STRATA_MM, by_size
from synthorax.studies.trials import (
    Scores,
    Study,
    check_splits,
    decisions,
    defined,
    over_seeds,
    patients_of,
    trial,
)
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import DETECTION, MALIGNANCY, SEGMENTATION
from tests.helpers.stores import cases, store_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("baselines")


@pytest.fixture(scope="module")
def store(place):
    return store_of(place / "store", cases())


@pytest.fixture(scope="module")
def study(store, place):
    return Study(store, place / "out", (0, 1), "cpu", place / "cache")


STUDIES = {
    "detection": (detection_arms, DETECTION["smoke"]),
    "malignancy": (malignancy_arms, MALIGNANCY["smoke"]),
    "segmentation": (segmentation_arms, SEGMENTATION["smoke"]),
}


@pytest.fixture(scope="module")
def arms(study):
    """The arms of the three studies."""
    return {name: run(study, config) for name, (run, config) in STUDIES.items()}


@pytest.fixture
def no_training(monkeypatch):
    """A training fails the test."""

    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(trials, "train_task", never)


# The three studies


def test_every_study_ends_in_figures_with_intervals_beside_a_trivial_arm(arms):
    for name, found in arms.items():
        assert any(arm.seeds == [0, 1] for arm in found), name
        assert any(arm.seeds == [] for arm in found), name
        for arm in found:
            assert {"auc", "dice"} & set(arm.metrics)
            for figure in arm.metrics.values():
                assert 0 <= figure.low <= figure.mean <= figure.high <= 1, (name, arm.name, asdict(figure))
    assert [arm.name for arm in arms["malignancy"]] == [
        "median of 4 or more: network",
        "median of 4 or more: diameter alone",
        "more than half say 4 or more: network",
        "more than half say 4 or more: diameter alone",
    ]


def test_what_is_easy_is_found_by_the_trivial_arms(arms):
    brightness, joined = arms["detection"][1], arms["segmentation"][1]
    assert brightness.metrics["auc"].mean > 0.95
    assert joined.metrics["dice"].mean > 0.9


def test_a_second_call_reads_the_notes_and_trains_nothing(arms, study, no_training):
    for name, (run, config) in STUDIES.items():
        assert run(study, config) == arms[name]


def test_another_configuration_or_seed_trains_anew(arms, study, no_training):
    config = DETECTION["smoke"]
    for changed in (
        partial(detection_arms, study, config.model_copy(update={"learning_rate": 0.5})),
        partial(detection_arms, replace(study, seeds=(2,)), config),
    ):
        with pytest.raises(AssertionError, match="trained"):
            changed()


def test_other_data_trains_anew_in_the_same_folder(arms, study, store, tmp_path):
    config = DETECTION["smoke"].model_copy(update={"steps": 2, "validate_every": 1})
    splits = study.splits(config, lambda split: nodule_places(store.in_split(split), lambda n: int(n.center_mm[0] > 0)))
    splits = trials.Splits(*(replace_labels(patches) for patches in (splits.train, splits.val, splits.test)))

    def go(key):
        task = Classification(config)
        return trial(task, splits, lambda: partial(splits.train.batch, size=4), tmp_path / "run", key, device="cpu")

    first = go("one")
    assert np.array_equal(go("one").test, first.test)
    go("two")
    assert len(list((tmp_path / "run").glob("scores-*.npz"))) == 2
    assert len([p for p in (tmp_path / "run").iterdir() if p.is_dir()]) == 2


def replace_labels(patches):
    """Every second patch of the other class."""
    patches.labels = np.arange(len(patches)) % 2
    return patches


def test_the_trainings_of_a_study_draw_their_own_batches(study, arms):
    seen = [np.load(next((study.out / f"detector-{seed}").glob("scores-*.npz")))["test"] for seed in (0, 1)]
    assert not np.array_equal(*seen)


# Figures


@pytest.mark.parametrize(("rule", "arm"), [("median", 1), ("majority", 3)])
def test_the_diameter_alone_has_the_auc_of_sklearn(store, arms, rule, arm):
    nodules = [case.nodules[0] for case in store.in_split("test")]
    labels = [malignancy_of(nodule, rule) for nodule in nodules]
    mm = [nodule.attributes.diameter_mm for nodule in nodules]
    assert arms["malignancy"][arm].metrics["auc"].mean == pytest.approx(roc_auc_score(labels, mm))


def test_the_auc_among_nodules_of_like_size_is_that_of_counting_their_pairs():
    rng = np.random.default_rng(0)
    mm = np.round(rng.uniform(4, 20, 120), 1)
    labels = (mm + rng.normal(0, 5, 120) > 12).astype(int)
    scores = np.round(mm + rng.normal(0, 3, 120))
    places = [SimpleNamespace(patient_id=f"P{i // 2}") for i in range(120)]
    found = by_size(SimpleNamespace(labels=labels, places=places), [scores], mm)
    stratum = np.searchsorted(MALIGNANCY_STRATA_MM, mm, side="right")
    alike = {
        "auc": lambda i, j: True,
        "within strata": lambda i, j: stratum[i] == stratum[j],
        "pairs of like size": lambda i, j: max(mm[i], mm[j]) <= LIKE_SIZE_RATIO * min(mm[i], mm[j]),
    }
    assert set(found) == set(alike)
    for name, comparable in alike.items():
        pairs = [
            (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
            for i in np.flatnonzero(labels)
            for j in np.flatnonzero(labels == 0)
            if comparable(i, j)
        ]
        assert found[name].mean == pytest.approx(np.mean(pairs)), name
        assert found[name].low < found[name].mean < found[name].high
    assert found["auc"].mean > found["pairs of like size"].mean  # size tells most, and much less among equals


def test_decisions_are_made_at_the_validation_patients_threshold(study):
    splits = study.splits(DETECTION["smoke"], lambda split: nodule_places(study.store.in_split(split)))
    splits = trials.Splits(*(replace_labels(patches) for patches in (splits.train, splits.val, splits.test)))
    labels = splits.test.labels
    val = np.where(splits.val.labels == 1, 0.8, 0.3)  # so the threshold is 0.8
    test = np.where(np.arange(len(labels)) < 6, 0.9, 0.7)
    found = decisions([Scores(val, test)], splits)
    called = test >= 0.8
    assert found["sensitivity"].mean == pytest.approx(called[labels == 1].mean())
    assert found["specificity"].mean == pytest.approx((~called)[labels == 0].mean())
    assert found["precision"].mean == pytest.approx(labels[called].mean())
    assert found["auc"].mean == pytest.approx(roc_auc_score(labels, test))


def test_a_figure_that_the_patients_leave_without_a_value_is_left_out_and_the_others_stay(study):
    splits = study.splits(DETECTION["smoke"], lambda split: nodule_places(study.store.in_split(split)))
    splits = trials.Splits(*(replace_labels(patches) for patches in (splits.train, splits.val, splits.test)))
    never = Scores(np.where(splits.val.labels == 1, 0.8, 0.3), np.linspace(0, 0.2, len(splits.test)))
    found = decisions([never], splits)
    assert "precision" not in found
    assert {"sensitivity", "specificity", "auc"} <= set(found)
    apart = np.where(splits.test.labels == 1, 20.0, 5.0)  # none of like size
    assert set(by_size(splits.test, [apart], apart)) == {"auc"}

    def missing():
        raise UndefinedError("statistic", "nan on the data", "a finite value")

    def broken():
        raise InputError("scores", "3 rows", "4")

    assert defined({"a": missing, "b": lambda: 1}) == {"b": 1}
    with pytest.raises(InputError, match="3 rows"):
        defined({"a": broken})


def test_an_interval_over_seeds_holds_their_mean():
    patients = np.repeat([f"P{i}" for i in range(10)], 2)
    values = np.random.default_rng(0).random((3, 20))
    one, three = over_seeds([mean_of(values[0])], patients), over_seeds([mean_of(v) for v in values], patients)
    assert one.mean == pytest.approx(values[0].mean())
    assert three.mean == pytest.approx(values.mean())
    for found in (one, three):
        assert found.low < found.mean < found.high


# Malignancy


@pytest.mark.parametrize(
    ("ratings", "median", "majority"),
    [
        ((4, 4, 3, 3), 0, 0),
        ((5, 5, 3, 3), 1, 0),
        ((5, 3), 1, 0),
        ((4, 4, 1), 1, 1),
        ((5, 4, 4, 1), 1, 1),
        ((4,), 1, 1),
        ((3,), 0, 0),
        ((5, 5, 1, 1, 1), 0, 0),
        ((1, 2, 3, 4), 0, 0),
    ],
)
def test_the_median_and_the_majority_of_the_readers_are_two_rules(ratings, median, majority):
    nodule = Nodule("01", (0, 0, 0), NoduleAttributes(), 1, {"malignancy": ratings})
    assert (malignancy_of(nodule, "median"), malignancy_of(nodule, "majority")) == (median, majority)


def test_a_nodule_nobody_rated_has_no_malignancy_and_a_mean_stands_for_readers():
    for rule in ("median", "majority"):
        assert malignancy_of(Nodule("01", (0, 0, 0), NoduleAttributes()), rule) is None
        assert malignancy_of(Nodule("01", (0, 0, 0), NoduleAttributes(malignancy=4.2)), rule) == 1
        assert malignancy_of(Nodule("01", (0, 0, 0), NoduleAttributes(malignancy=3.9)), rule) == 0


# Stores that no study can be made of


def refused(run, study, config, said):
    with pytest.raises(InputError, match=said) as caught:
        run(study, config)
    assert "\n" not in str(caught.value)
    assert not study.out.exists()


def test_a_store_of_one_class_is_refused_before_any_training(tmp_path, no_training):
    benign = store_of(tmp_path / "benign", cases(5, readers=[(1, 2, 1)], size=34))
    study = Study(benign, tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    refused(
        malignancy_arms,
        study,
        MALIGNANCY["smoke"],
        f"patients with a malignant nodule: 0 in train, 0 in val, 0 in test; expected {LEAST_PATIENTS} or more",
    )
    tight = store_of(tmp_path / "tight", cases(5, readers=[(1, 2, 1)], size=16))
    study = Study(tight, tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    refused(detection_arms, study, DETECTION["smoke"], "patients with a patch without a nodule: 0 in train")


@pytest.mark.parametrize("name", STUDIES)
def test_a_store_of_too_few_patients_is_refused_before_any_training(tmp_path, no_training, name):
    run, config = STUDIES[name]
    few = store_of(tmp_path / "few", cases(3))
    refused(
        run,
        Study(few, tmp_path / "out", (0,), "cpu", tmp_path / "cache"),
        config,
        "patients with a",
    )


def test_the_numbers_of_patients_are_told_before_any_place_is_looked_for(tmp_path, no_training, monkeypatch):
    monkeypatch.setattr("synthorax.studies.baselines.negative_places", None)
    few = store_of(tmp_path / "few", [case for case in cases(5) if case.split != "val"])
    study = Study(few, tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    said = "patients with a nodule: 5 in train, 0 in val, 5 in test; expected 4 or more in each split, which are 12 at"
    refused(detection_arms, study, DETECTION["smoke"], said)
    refused(detection_arms, study, DETECTION["smoke"], "at least; prepare more of them")
    enough = store_of(tmp_path / "enough", [case for case in cases(7) if case.split != "val"])
    study = Study(enough, tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    again = (
        "by --split or a column split of the table; models that were trained on this store must then be trained again"
    )
    refused(detection_arms, study, DETECTION["smoke"], again)


def test_a_store_that_one_rule_of_malignancy_makes_benign_is_refused_before_any_training(tmp_path, no_training):
    halves = cases(12, readers=((1, 2, 2, 1), (5, 5, 3, 3)), size=34)
    study = Study(store_of(tmp_path / "halves", halves), tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    refused(malignancy_arms, study, MALIGNANCY["smoke"], "patients with a malignant nodule: 0 in train")


def test_the_patients_of_every_task_are_counted_before_the_first_training(tmp_path, no_training):
    benign = store_of(tmp_path / "benign", cases(5, readers=[(1, 2, 1)], size=34))
    configs = {"detection": DETECTION["smoke"], "malignancy": MALIGNANCY["smoke"]}
    with pytest.raises(
        InputError, match=r"malignant nodule: 0 in train.*; or the other tasks alone: --tasks detection$"
    ):
        study_baselines(benign, configs, tmp_path / "out", trainings=1, device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_split_without_patients_is_refused_before_any_training(tmp_path, no_training):
    made = [case for case in cases(5) if case.split != "val"]
    study = Study(store_of(tmp_path / "none", made), tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    for run, config in STUDIES.values():
        refused(run, study, config, "patients with a")


def test_nodules_nobody_rated_are_no_store_for_malignancy(tmp_path, no_training):
    unrated = store_of(tmp_path / "unrated", cases(5, readers=[()]))
    study = Study(unrated, tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    refused(
        malignancy_arms, study, MALIGNANCY["smoke"], "patients with a benign nodule: 0 in train, 0 in val, 0 in test"
    )


@pytest.mark.parametrize("name", STUDIES)
def test_patches_smaller_than_the_network_needs_are_refused_before_any_training(study, tmp_path, no_training, name):
    run, config = STUDIES[name]
    elsewhere = replace(study, out=tmp_path / "out")
    refused(run, elsewhere, config.model_copy(update={"size": (4, 4, 4)}), "^size: found patches of")


def test_patients_and_not_nodules_are_counted(store, study):
    splits = study.splits(SEGMENTATION["smoke"], lambda split: nodule_places(store.in_split(split)) * 3)
    assert len(splits.test) == 36
    assert len(np.unique(patients_of(splits.test))) == 12
    check_splits(store, splits, {1: "a nodule"})
    one = study.splits(SEGMENTATION["smoke"], lambda split: nodule_places(store.in_split(split))[:2] * 9)
    with pytest.raises(
        InputError, match="patients with a nodule: 2 in train, 2 in val, 2 in test; expected 4 or more in"
    ):
        check_splits(store, one, {POSITIVE: "a nodule"})
