"""The study of whether synthetic nodules help a detector.

Mixed batches, arms, figures, whole scans, and refused models.
"""

import json
import re
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import pytest
import torch

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.lineage import check_unseen, outline_patients
from synthorax.datasets.mixed import MixedBatches
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import nodule_places
from synthorax.datasets.store import MarkedPoint
from synthorax.errors import InputError
from synthorax.makers import Lineage, Options, Samples
from synthorax.metrics.classification import Confusion
from synthorax.nodule import NoduleAttributes
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.provenance import patient_key
from synthorax.studies import results, trials
from synthorax.studies.arms import (
    LARGER,
    REFERENCE,
    Made,
    Recipe,
    alone,
    beside,
    larger,
    made_patches,
    own_head,
    recipes,
)
from synthorax.studies.detection import (
    DETECTION_MEASURES,
    PAPER_REFERENCE,
    THESIS_SHARE,
    DetectionOutcome,
    compared,
    detection_study,
    paper,
    strata,
)
from synthorax.studies.detection_page import answer, study_detection
from synthorax.studies.filled_patches import FilledPatches
from synthorax.studies.patch_makers import (
    check_maker_fits,
    moved_into_range,
    nodules_of,
    patch_maker,
    rendering,
    samples_for,
)
from synthorax.studies.results import check_study_folder
from synthorax.studies.scan_search import ScanSearch, scan_search
from synthorax.studies.trials import Scores, Splits, Study
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import DETECTION
from synthorax.tasks.scanning import find_nodules
from synthorax.volume import Volume
from tests.helpers.cubes import ball_case
from tests.helpers.stores import cases, patches_of, store_of
from tests.helpers.toy_makers import SPEC, Balls, Dots

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = DETECTION["smoke"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("detection")


@pytest.fixture(scope="module")
def store(place):
    return store_of(place / "store", cases(6))


@pytest.fixture(scope="module")
def train(store, place):
    return patches_of(store, place)


def go(store, place):
    return study_detection(
        store,
        CONFIG,
        place / "out",
        makers=[Balls(), Dots()],
        amounts=(1.0, 2.0),
        trainings=2,
        device="cpu",
        thesis="balls",
    )


@pytest.fixture(scope="module")
def result(store, place):
    """The study as a user runs it, at `smoke` sizes, with a generator and an injector of other packages."""
    return go(store, place)


# Batches


def test_a_share_of_a_class_is_made_and_the_rest_is_as_it_was(train):
    made = np.full((3, 16, 16, 16), 333, np.int16)
    plain, mixed = train.batch(5, 64), MixedBatches(train, {POSITIVE: made}, 0.5, 64)(5)
    replaced = (mixed["ct"] == SPEC.to_unit(torch.tensor(333.0))).flatten(1).all(1)
    assert 8 <= replaced.sum() <= 24
    assert (mixed["label"][replaced] == POSITIVE).all()
    assert torch.equal(mixed["label"], plain["label"])
    assert torch.equal(mixed["ct"][~replaced], plain["ct"][~replaced])
    assert (mixed["index"][replaced] == -1).all()
    assert not mixed["mask"][replaced].any()


def test_all_of_both_classes_can_be_made(train):
    made = {label: np.full((2, 16, 16, 16), 100 * label, np.int16) for label in (NEGATIVE, POSITIVE)}
    batch = MixedBatches(train, made, 1.0, 8)(0)
    for label in (NEGATIVE, POSITIVE):
        assert (batch["ct"][batch["label"] == label] == SPEC.to_unit(torch.tensor(100.0 * label))).all()


def test_a_mixed_batch_is_a_function_of_seed_and_step(train):
    made = {POSITIVE: np.random.default_rng(0).integers(-900, 300, (5, 16, 16, 16)).astype(np.int16)}
    first, again = (MixedBatches(train, made, 0.5, 16)(3)["ct"] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, MixedBatches(train, made, 0.5, 16)(4)["ct"])
    assert not torch.equal(first, MixedBatches(train.with_seed(1), made, 0.5, 16)(3)["ct"])


def test_made_cubes_are_augmented_like_real_ones(store, place):
    ramp = np.broadcast_to(np.arange(16, dtype=np.int16), (1, 16, 16, 16))
    steps = {}
    for flip in (True, False):
        batches = MixedBatches(
            patches_of(store, place, augmentation=Augmentation(flip=flip)), {POSITIVE: ramp}, 1.0, 32
        )
        batch = batches(0)
        along = batch["ct"][batch["label"] == POSITIVE][:, 0, 0, 0].diff(dim=1)
        steps[flip] = set(along.sign().unique().tolist())
    assert steps == {True: {-1.0, 1.0}, False: {1.0}}


@pytest.mark.parametrize("drawn", [Augmentation(shift_voxels=2), Augmentation(scale=(0.8, 1.0))])
def test_patches_that_are_moved_or_scaled_are_not_mixed_with_cubes_that_end(store, place, drawn):
    with pytest.raises(InputError, match="flips alone"):
        MixedBatches(
            patches_of(store, place, augmentation=drawn), {POSITIVE: np.zeros((1, 16, 16, 16), np.int16)}, 1, 8
        )


@pytest.mark.parametrize(
    ("shape", "share", "said"),
    [((3, 8, 8, 8), 0.5, "16, 16, 16"), ((0, 16, 16, 16), 0.5, "one"), ((1, 16, 16, 16), 2, "0 to 1")],
)
def test_cubes_that_do_not_fit_are_refused(train, shape, share, said):
    with pytest.raises(InputError, match=said):
        MixedBatches(train, {POSITIVE: np.zeros(shape, np.int16)}, share, 8)


# Arms


def test_amounts_decide_the_share_and_what_is_drawn_from(train):
    cubes = np.zeros((40, 16, 16, 16), np.int16)
    batches = Recipe("half", CONFIG, {POSITIVE: cubes}, 0.5).feed(20).batches(train)
    assert batches.share == pytest.approx(1 / 3)
    assert len(batches.made[POSITIVE]) == 10
    alone = Recipe("alone", CONFIG, {POSITIVE: cubes}, inf).feed(20).batches(train)
    assert (alone.share, len(alone.made[POSITIVE])) == (1.0, 20)
    assert Recipe("none", CONFIG).feed(20) is None


def test_an_arm_flips_as_its_configuration_says(store, place, monkeypatch):
    drawn = {}

    def trial(task, splits, make_batches, out, *_, **__):
        drawn[out.name] = make_batches()(0)["ct"]
        return Scores(splits.val.labels / 1, splits.test.labels / 1)

    monkeypatch.setattr(trials, "trial", trial)
    study = Study(store, place / "flips", (0,), "cpu", place / "cache")
    detection_study(study, CONFIG, amounts=())
    plain, flips = drawn["real-alone-0"], drawn["flips-0"]
    same = [(a == b).all().item() for a, b in zip(plain, flips, strict=True)]
    assert not all(same)
    assert [torch.equal(a.sort()[0], b.sort()[0]) for a, b in zip(plain.flatten(1), flips.flatten(1), strict=True)] == [
        True
    ] * len(plain)


def test_a_training_is_known_by_the_cubes_that_it_draws_from():
    cubes = np.random.default_rng(0).integers(-900, 300, (40, 16, 16, 16)).astype(np.int16)
    other = cubes.copy()
    other[3] += 1

    def key(made, amount=1.0, label=POSITIVE):
        return Recipe("a", CONFIG, {label: made}, amount).feed(20).key

    assert key(cubes) == key(cubes.copy())
    assert key(cubes) == key(cubes[:30])  # of which it sees 20
    assert len({key(cubes), key(other), key(cubes, 0.5), key(cubes, label=NEGATIVE), key(cubes, inf)}) == 5


def test_an_arm_is_there_for_what_a_maker_offers():
    patches = np.zeros((4, 16, 16, 16), np.int16)

    def arms(**offered):
        made = {"render": Made(patches), "toy": Made(patches, **offered)}
        return {recipe.name: recipe for recipe in recipes(CONFIG, made, (1.0, 4.0))}

    plain = arms()
    assert list(plain) == [
        "real alone",
        "flips",
        "larger detector, flips",
        "flips + render",
        "flips + render x 4",
        "flips + toy",
        "flips + toy x 4",
    ]
    assert set(arms(empty=patches)) - set(plain) == {alone("toy")}
    selected = {beside("toy", passed=True), beside("toy", 4, passed=True), larger("toy")}
    assert set(arms(selected=patches)) - set(plain) == selected
    every = arms(selected=patches, empty=patches)
    assert set(every) - set(plain) == {*selected, alone("toy"), alone("toy", passed=True)}
    assert set(paper("toy")) - set(every) == {own_head("toy")}
    assert every[LARGER].config.network.width == 2 * CONFIG.network.width
    assert every[larger("toy")].against == (LARGER,)
    assert every["flips + toy, selected x 4"].against == ("flips", "flips + render x 4", "flips + toy x 4")
    for recipe in every.values():
        assert set(recipe.against) <= set(every)


@pytest.mark.parametrize(("share", "is_there"), [(0.0, False), (0.7, False), (0.9, True)])
def test_arms_of_selected_samples_need_enough_of_them(train, share, is_there):
    made = made_patches(None, "", train, "balls", Balls(passing=share, parts=1000), (2.0,))
    n = 2 * int((train.labels == POSITIVE).sum())
    assert len(made.nodules) == n
    assert (made.selected is not None) == is_there
    assert made.note.startswith(f"{int(share * n)} of {n} samples of balls")
    assert ("the arms with selected samples are left out" in made.note) != is_there


def test_kept_patches_are_those_of_the_same_store_patches_and_maker(train, tmp_path):
    def count(like, maker):
        made_patches(tmp_path, like, train, maker.name, maker, (1.0,))
        return len(list(tmp_path.iterdir()))

    assert [count(*each) for each in (("a", Balls()), ("a", Balls()), ("b", Balls()))] == [3, 3, 6]
    assert count("a", Balls(lineage=Lineage("balls", "c" * 64))) == 9


def test_a_study_that_is_stopped_while_patches_are_made_goes_on_with_the_next_part(train, tmp_path, monkeypatch):
    monkeypatch.setattr("synthorax.studies.patch_makers.PATCHES_A_FILE", 4)
    monkeypatch.setattr("synthorax.studies.arms.PATCHES_A_FILE", 4)
    calls = []

    @dataclass
    class Stopped(Balls):
        stops_at: int = 0

        def sample(self, asked, seed, options=None):
            calls.append(len(asked))
            if len(calls) == self.stops_at:
                raise KeyboardInterrupt
            samples = Samples.joined(super().sample(asked, seed, options))
            if samples.nodules[0]:  # the first nodule of each part has no voxel
                samples.arrays["mask"][0] = 0
                hidden = replace(samples.nodules[0][0], label=0)
                samples = replace(samples, nodules=((hidden,), *samples.nodules[1:]))
            return iter([samples])

    def made(folder, stops_at=0):
        calls.clear()
        return made_patches(folder, "", train, "balls", Stopped(selects=False, stops_at=stops_at), (2.0,))

    whole = made(None)
    parts = len(calls)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "made", stops_at=3)
    resumed = made(tmp_path / "made")
    assert len(calls) == parts - 2
    assert np.array_equal(resumed.nodules, whole.nodules)
    assert np.array_equal(resumed.empty, whole.empty)
    assert resumed.note == whole.note
    n = len(whole.nodules)
    assert whole.note.startswith(f"{-(-n // 4)} of {n} nodules of balls have no voxel in their masks.")
    assert not list((tmp_path / "made").glob("*-from-*"))
    assert made(tmp_path / "made").note == whole.note
    assert not calls


def test_patches_of_other_options_are_made_anew(train, tmp_path):
    class Shifted(Dots):
        """An injector whose option shifts the HU of its balls."""

        def _fill(self, patch, region, edit):
            filled = super()._fill(patch, region, edit)
            return replace(filled, hu=np.where(filled.mask, np.float32(self.options.hu), filled.hu))

    class Level(Options):
        """The option of `Shifted`."""

        hu: float = 0.0

    def made(hu):
        method = type("Level", (Shifted,), {"options": Level(hu=hu)})()
        return made_patches(tmp_path, "", train, "dots", FilledPatches(method, train), (1.0,)).nodules

    first, other = made(0.0), made(100.0)
    assert (other[:, 8, 8, 8] == 100).all()
    assert np.array_equal(made(0.0), first)
    assert not np.array_equal(first, other)


def test_an_injector_fills_real_patches_without_a_nodule(train):
    maker = FilledPatches(Dots(), train)
    asked = [(NoduleAttributes(diameter_mm=mm),) for mm in (5, 9, 7)]
    made = Samples.joined(maker.sample(asked, 0))
    around = ~made.arrays["mask"].astype(bool)
    real = train.spec.to_hu(train.rows(np.flatnonzero(train.labels == NEGATIVE).tolist())["ct"][:, 0]).round().numpy()
    for ct, outside in zip(made.ct, around, strict=True):
        assert (ct[~outside] == 0).all()
        assert any((ct[outside] == background[outside]).all() for background in real)
    measured = [nodule.attributes.diameter_mm for (nodule,) in made.nodules]
    assert measured == pytest.approx([5, 9, 7], abs=1.5)
    fewer = Samples.joined(maker.sample(asked[:1], 0))
    assert np.array_equal(fewer.ct, made.ct[:1])
    assert not np.array_equal(Samples.joined(maker.sample(asked, 1)).ct, made.ct)


def test_patches_of_an_injector_tell_of_the_backgrounds_patients(train):
    maker = FilledPatches(Dots(lineage=Lineage("dots", outlines=frozenset(["f" * 12]))), train)
    free = {patient_key(place.patient_id) for place in train.places if place.nodule is None}
    assert maker.lineage.patients == free | {"f" * 12}


def test_rendered_nodules_are_denser_than_the_patches_they_are_put_into(train, store):
    maker = FilledPatches(rendering(store), train)
    made = Samples.joined(maker.sample([(one,) for one in nodules_of(train, 4, 0)], 0)).ct
    middle = made[:, 6:10, 6:10, 6:10].mean((1, 2, 3))
    assert (middle > train.spec.to_hu(train.rows([len(train) - 1])["ct"]).mean().item() + 100).all()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([()], "0 in one patch"),
        ([(NoduleAttributes(),)], "diameter: found none"),
        ([(NoduleAttributes(diameter_mm=5, margin=2),)], "does not use"),
    ],
)
def test_an_injector_refuses_what_it_cannot_fill_in(train, asked, said):
    with pytest.raises(InputError, match=said):
        FilledPatches(Dots(), train).sample(asked, 0)


def test_a_nodule_whose_width_nobody_knows_is_not_asked_for(tmp_path):
    made = cases(2)
    nodule = replace(made[0].nodules[0], attributes=NoduleAttributes())
    store = store_of(tmp_path / "store", [replace(made[0], nodules=(nodule,)), *made[1:]])
    train = patches_of(store, tmp_path)
    assert all(each.diameter_mm for each in nodules_of(train, 50, 0))
    nobody = store_of(tmp_path / "nobody", [replace(made[0], nodules=(nodule,))])
    with pytest.raises(InputError, match="none with a diameter"):
        nodules_of(PatchDataset(nobody, nodule_places(nobody.cases), SPEC, cache=tmp_path), 3, 0)


def test_outlines_of_held_out_patients_are_not_rendered(tmp_path):
    real = lidc_patients()
    made = []
    for i, case in enumerate(cases(2)):
        nodule = replace(case.nodules[0], extra={"shape_origin": real[10 + i]})
        made.append(replace(case, patient_id=real[i] if i % 2 else case.patient_id, nodules=(nodule,)))
    store = store_of(tmp_path / "store", made)
    allowed = set(outline_patients(store))
    assert allowed == {real[1], real[10], real[11]}  # of training patients
    strangers = store_of(tmp_path / "strangers", cases(2))
    assert set(outline_patients(strangers)) == set(real)
    known = store_of(tmp_path / "known", [replace(c, patient_id=real[5]) if c.split == "test" else c for c in cases(1)])
    assert set(outline_patients(known)) == set(real) - {real[5]}


# Figures


def test_precision_at_the_thesis_share_is_that_of_its_table():
    table = Confusion(1583, 2776, 113_451, 50)
    assert DETECTION_MEASURES["precision at 1 nodule to 71 others"](table) == pytest.approx(table.precision)
    assert DETECTION_MEASURES["f1 at 1 nodule to 71 others"](table) == pytest.approx(table.f1)
    balanced = Confusion(1583, 2776 * THESIS_SHARE, 113_451 * THESIS_SHARE, 50)
    assert DETECTION_MEASURES["precision at 1 nodule to 71 others"](balanced) == pytest.approx(table.precision)
    assert PAPER_REFERENCE["precision at 1 nodule to 71 others"] == pytest.approx(table.precision, abs=6e-4)
    assert PAPER_REFERENCE["f1 at 1 nodule to 71 others"] == pytest.approx(table.f1, abs=6e-4)


def test_an_arm_is_compared_training_by_training_and_p_is_corrected(store, place):
    splits = Splits(*(patches_of(store, place, split) for split in ("train", "val", "test")))
    random = np.random.default_rng(0)

    def scores(signal):
        noise = [random.normal(size=len(p)) for p in (splits.val, splits.test)]
        return Scores(*(signal * p.labels + n for p, n in zip((splits.val, splits.test), noise, strict=True)))

    base, better = [scores(1.0) for _ in range(3)], [scores(9.0) for _ in range(3)]
    found = {REFERENCE: base, "better": better, "same": base, "one": [scores(9.0)]}
    pairs = [("better", REFERENCE), ("same", REFERENCE), ("one", REFERENCE), ("same", "better")]
    tests = compared(found, pairs, splits)
    by = {(test.a, test.b, test.metric): test for test in tests}
    assert [(test.a, test.b) for test in tests if test.metric == "auc"] == pairs
    assert by["better", REFERENCE, "auc"].difference > 0.1
    assert by["better", REFERENCE, "auc"].low > 0
    assert by["same", "better", "auc"].difference == pytest.approx(-by["better", REFERENCE, "auc"].difference)
    assert (by["same", REFERENCE, "auc"].difference, by["same", REFERENCE, "auc"].p) == (0, 1)
    assert all(test.p_holm >= test.p for test in tests)
    for metric in ("auc", "sensitivity"):  # corrected among themselves
        ps = [test.p for test in tests if test.metric == metric]
        least = next(test for test in tests if test.metric == metric and test.p == min(ps))
        assert least.p_holm == pytest.approx(min(1, 4 * least.p))
    few = compared({name: each[:2] for name, each in found.items()}, pairs, splits)
    assert [(test.p, test.p_holm) for test in few] == [(None, None)] * len(tests)


def test_sensitivity_is_told_by_width_and_texture(tmp_path):
    made = []
    for i, case in enumerate(cases(24)):
        attributes = NoduleAttributes(diameter_mm=(5, 7, 9, 9)[i % 4], texture=(5, 5, 5, 2)[i % 4])
        made.append(replace(case, nodules=(replace(case.nodules[0], attributes=attributes),)))
    store = store_of(tmp_path / "store", made)
    splits = Splits(*(patches_of(store, tmp_path, split) for split in ("train", "val", "test")))
    mm = np.array([p.nodule.attributes.diameter_mm if p.nodule else 0 for p in splits.test.places])
    texture = np.array([p.nodule.attributes.texture if p.nodule else 0 for p in splits.test.places])
    found = strata([Scores(splits.val.labels / 1, np.where(mm >= 7, texture > 3, 0.0))], splits)
    means = {name: value.mean for name, value in found.items()}
    assert means == {
        "sensitivity, below 6 mm": 0,
        "sensitivity, 6 to 8 mm": 1,
        "sensitivity, from 8 mm": 0.5,
        "sensitivity, not solid": 0,
    }
    n = int((mm == 7).sum())
    assert found["sensitivity, 6 to 8 mm"].low == pytest.approx(0.025 ** (1 / n))  # all of them found: (a/2)^(1/n)
    assert found["sensitivity, 6 to 8 mm"].high == 1
    assert found["sensitivity, below 6 mm"].high == pytest.approx(1 - 0.025 ** (1 / int((mm == 5).sum())))


def written_note(page):
    note = json.loads((page.parent / "results.json").read_text())["note"]
    assert note in page.read_text()
    return note


def test_the_study_ends_in_arms_tests_and_a_page(result):
    page, outcome = result
    names = [arm.name for arm in outcome.arms]
    for name in (*paper("balls"), "real alone", "flips + render", "flips + balls x 2", "flips + dots"):
        assert name in names
    assert not [name for name in names if "render" in name and ("only" in name or "selected" in name)]
    judged = next(arm for arm in outcome.arms if arm.name == own_head("balls"))
    assert (judged.seeds, judged.metrics["auc"].mean) == ([], 1)  # the tests' nodules are bright
    assert [arm.name for arm in outcome.arms if arm.paper] == ["flips", *paper("balls")]
    for arm in outcome.arms:
        assert 0 <= arm.metrics["auc"].low <= arm.metrics["auc"].mean <= arm.metrics["auc"].high <= 1
    assert outcome.drawn == CONFIG.steps * CONFIG.batch_size
    assert outcome.counts["nodules"] == outcome.counts["patients"] == 6
    assert sum(outcome.counts[name] for name in ("below 6 mm", "6 to 8 mm", "from 8 mm")) <= 6
    assert outcome.note == written_note(page)
    total = {round(sum(counts), 6) for counts in outcome.confusions.values()}
    assert len(total) == 1
    written = json.loads((page.parent / "results.json").read_text())
    assert {arm["name"] for arm in written["arms"]} == set(names)
    assert written["models"] == {"balls": "b" * 64}
    assert written["tests"][0].keys() == {"a", "b", "metric", "difference", "low", "high", "p", "p_holm"}
    text = page.read_text()
    assert "thesis 0.976" in text
    assert written["answer"] in text


def of_arms(*figures):
    """An outcome whose arms have these differences in AUC from flips, each with its corrected p value."""
    tests = [
        results.Test(f"flips + a{i}", "flips", "auc", d, d - 0.01, d + 0.01, p, p) for i, (d, p) in enumerate(figures)
    ]
    others = [results.Test("a only", "flips", "auc", -0.5, -0.6, -0.4, 0.001, 0.001)]
    return DetectionOutcome([], [*tests, *others], {}, 0, {})


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ([(0.02, 0.2), (-0.01, 1.0)], "Not shown: none of 2 arms .* within -0.020 to [+]0.030"),
        ([(0.02, 0.01), (0.0, 1.0)], "Yes: flips [+] a0: a higher AUC"),
        ([(-0.02, 0.01), (0.0, 1.0)], "No: flips [+] a0: a lower AUC"),
        ([(0.02, 0.01), (-0.02, 0.01)], "It depends: flips [+] a0: a higher AUC; flips [+] a1: a lower AUC"),
        ([(0.02, None)], "Not known: differences in AUC of “flips [+] a0” from “flips” lie .* fewer than 3 trainings"),
        ([], "Not known: no arm"),
    ],
)
def test_the_page_answers_its_title_first(figures, said):
    assert re.match(said, answer(of_arms(*figures)))


@pytest.mark.parametrize(
    ("auc", "says_nothing"),
    [((0.263, 0.2, 0.35), True), ((0.6, 0.49, 0.7), True), ((0.6, 0.51, 0.7), False), ((0.5, None, None), True)],
)
def test_a_baseline_that_guesses_is_told_before_any_difference(auc, says_nothing):
    arm = results.Arm("flips", [0], {"auc": results.Interval(*auc)}, {})
    found = answer(replace(of_arms((0.02, 0.01)), arms=[arm]))
    assert found.startswith("This study says nothing about synthetic nodules: the baseline “flips” is") is says_nothing
    if says_nothing:
        assert f"not significantly better than chance (AUC {auc[0]:.3f}" in found
        assert "train longer" in found


def test_a_second_call_trains_and_makes_nothing(result, store, place, monkeypatch):
    def never(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(trials, "train_task", never)
    monkeypatch.setattr(Balls, "sample", never)
    monkeypatch.setattr(Balls, "select", never)
    monkeypatch.setattr("synthorax.studies.filled_patches.fill", never)
    assert go(store, place)[1] == result[1]


# Whole scans


def whole_case(name, split, seed):
    """A wide, deep block of lung with two balls."""
    case = ball_case(name, 16, split=split, size=40, seed=seed)
    hu = np.full((80, 80, 80), -850, np.int16) + np.random.default_rng(seed).integers(-30, 30, (80, 80, 80))
    hu[20:60, 20:60, 20:60] = case.ct.voxels
    region = replace(case.regions[0], corner=tuple(n + 20 for n in case.regions[0].corner))
    nodule = replace(case.nodules[0], center_mm=(79.0, 79.0, 79.0), attributes=NoduleAttributes(diameter_mm=32.0))
    return replace(case, ct=Volume(hu.astype(np.int16), (2.0, 2.0, 2.0)), regions=(region,), nodules=(nodule,))


class Bright(Classification):
    """Detects a nodule by the brightness at the centre."""

    def logits(self, patches):
        middle = patches[:, 0, 6:10, 6:10, 6:10].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(middle), middle], 1)


def test_a_detector_finds_the_nodule_of_a_whole_scan(tmp_path):
    case = whole_case("a", "test", 0)
    everywhere = replace(case.ct, voxels=np.ones(case.ct.shape, bool))
    task = Bright(CONFIG.model_copy(update={"spacing_mm": (2.0, 2.0, 2.0)}))
    marks = find_nodules(task, case.ct, everywhere)
    assert np.linalg.norm(marks[0, :3] - 79) < 16
    assert (np.diff(marks[:, 3]) <= 0).all()
    apart = np.linalg.norm(marks[:, None, :3] - marks[None, :, :3], axis=2) + 99 * np.eye(len(marks))
    assert apart.min() >= 6
    flipped = Volume(case.ct.voxels[:, :, ::-1], case.ct.spacing_mm, (158.0, 0.0, 0.0), np.diag([-1.0, 1.0, 1.0]))
    assert np.linalg.norm(find_nodules(task, flipped, everywhere)[0, :3] - marks[0, :3]) < 4
    nowhere = replace(everywhere, voxels=np.zeros(case.ct.shape, bool))
    assert find_nodules(task, case.ct, nowhere).shape == (0, 4)


def test_marks_on_the_nodules_of_whole_scans_make_the_froc(tmp_path, monkeypatch):
    store = store_of(
        tmp_path / "store",
        [whole_case(f"{split}{i}", split, i) for i in range(3) for split in ("train", "val", "test")],
    )
    assert all(case.is_whole for case in store.cases)
    assert not replace(store.cases[0], shape=(50, 50, 50)).is_whole
    search = ScanSearch(store, tuple(store.in_split("test")))
    at = np.array([[i, 79.0, 79.0, 79.0, 1.0] for i in range(3)])
    right, wrong = (Scores(np.zeros(0), np.zeros(0), at + np.array([0, shift, 0, 0, 0])) for shift in (0, 40))
    assert search.froc([right]).mean == 1
    assert search.froc([wrong]).mean == 0
    assert search.froc([right, wrong]).mean == 0.5
    before = search.key
    assert scan_search(store).key == before
    monkeypatch.setattr("synthorax.studies.scan_search.SETTINGS", ())
    assert scan_search(store).key != before


def test_marks_on_candidates_of_another_detector_are_false_and_on_findings_neither(tmp_path):
    made = [whole_case(f"test{i}", "test", i) for i in range(2)]
    beside = (20.0, 20.0, 20.0)
    marks = np.array([[i, *place, 1.0] for i in range(2) for place in (beside, (79.0, 79.0, 79.0))])
    marks[::2, 4] = 2.0  # beside the nodule, and surer
    found = {}
    for kind in ("candidate", "non-nodule"):
        points = (MarkedPoint(kind, beside),)
        store = store_of(tmp_path / kind, [replace(case, points=points) for case in made])
        found[kind] = scan_search(store).froc([Scores(np.zeros(0), np.zeros(0), marks)]).mean
    assert found["non-nodule"] == 1
    assert found["candidate"] < 1


# Models and stores that the study refuses


def test_a_maker_that_knows_held_out_patients_is_refused(store):
    def knows(*patients, **options):
        return Lineage("toy", seen=frozenset(map(patient_key, patients)), **options)

    check_unseen(knows(*store.splits["train"]), store)
    with pytest.raises(InputError, match="without a record of the patients it was trained on"):
        check_unseen(knows(tells=False), store)
    for split in ("val", "test"):
        patient = store.splits[split][0]
        for leaked in (knows(patient), Lineage("toy", outlines=frozenset([patient_key(patient)]))):
            with pytest.raises(InputError, match=f"1 patients who are held out here, such as {patient}"):
                check_maker_fits(Balls(lineage=leaked), store, CONFIG)


def test_a_maker_of_other_patches_or_of_none_is_refused(store):
    with pytest.raises(InputError, match="patches of balls with size"):
        check_maker_fits(Balls(), store, CONFIG.model_copy(update={"size": (24, 24, 24)}))
    with pytest.raises(InputError, match="balls, which makes shapes; expected a model that makes patches, or injects"):
        check_maker_fits(Balls(roles=frozenset({"makes shapes"})), store, CONFIG)
    with pytest.raises(
        InputError, match=r"shapes, which have no CT; .*`synthorax inject SCANS --shapes balls --out MADE`"
    ):
        patch_maker(Balls(roles=frozenset({"makes shapes"})))


def test_two_models_of_one_system_are_told_apart_and_one_model_twice_is_refused(store, place, monkeypatch):
    study = Study(store, place / "fewer", (0,), "cpu", place / "cache")
    monkeypatch.setattr(
        Study, "scores", lambda self, name, config, splits, **_: [Scores(splits.val.labels / 1, splits.test.labels / 1)]
    )
    other = Balls(
        lineage=Lineage("balls", "c" * 64), makes_empty=False, selects=False, roles=frozenset({"makes patches"})
    )
    outcome = detection_study(study, CONFIG, [Balls(), other], amounts=(1.0,), thesis="balls")
    names = {arm.name for arm in outcome.arms}
    assert {beside("balls bbbbbbbb"), beside("balls cccccccc"), own_head("balls bbbbbbbb")} <= names
    assert not {alone("balls cccccccc"), beside("balls cccccccc", passed=True), own_head("balls cccccccc")} & names
    with pytest.raises(InputError, match="balls bbbbbbbb twice"):
        detection_study(study, CONFIG, [Balls(), Balls()])


@pytest.mark.parametrize("amount", [0.0, -1.0, inf])
def test_amounts_that_are_none_are_refused(store, place, amount):
    study = Study(store, place / "none", (0,), "cpu", place / "cache")
    with pytest.raises(InputError, match="synthetic nodules for each real one"):
        detection_study(study, CONFIG, amounts=(amount,))
    assert not (place / "none").exists()


@pytest.mark.parametrize("part", ["trainings", "made"])
def test_a_study_that_was_killed_with_any_part_of_it_on_disk_goes_on(tmp_path, part):
    (tmp_path / "out" / part).mkdir(parents=True)
    check_study_folder(tmp_path / "out")
    (tmp_path / "other" / "photos").mkdir(parents=True)
    with pytest.raises(InputError, match="a folder that is not empty"):
        check_study_folder(tmp_path / "other")


def test_a_maker_with_limits_is_asked_for_the_nearest_nodules_that_it_takes_and_this_is_told():
    maker = Balls()
    nodules = [NoduleAttributes(3.0, texture=2.0), NoduleAttributes(6.0, malignancy=5.0)]
    assert moved_into_range(maker, nodules) == ""
    maker.range_of = {"diameter_mm": (4.0, 8.0)}
    assert samples_for(maker, nodules, 0).asked == (
        (NoduleAttributes(4.0, texture=2.0),),
        (NoduleAttributes(6.0),),
    )
    assert "1 attributes of 2 nodules, such as diameter_mm 3, of which 4 is the nearest" in moved_into_range(
        maker, nodules
    )
