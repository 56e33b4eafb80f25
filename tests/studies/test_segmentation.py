"""The study of how many real scans synthetic ones replace.

Volumes, windows, figures and the whole study at its smallest.
"""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from synthorax import api
from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.tissue import with_tissue
from synthorax.editing.label_nodules import CLASS_HU
from synthorax.errors import InputError
from synthorax.makers import Lineage
from synthorax.provenance import patient_key
from synthorax.rendering.shapes import OneShape
from synthorax.seeding import voxel_noise
from synthorax.studies import segmentation_trials
from synthorax.studies.made_volumes import FewShapes, MadeVolumes, VolumePlan, volume_maker
from synthorax.studies.marked_volumes import NODULE, UNCOUNTED, MarkedVolumes, WindowsOfVolumes, nodule_volumes
from synthorax.studies.segmentation import check_segmenter_makers
from synthorax.studies.segmentation_arms import FULL, RealPatients, segmenter_arms
from synthorax.studies.segmentation_config import SEGMENTERS, segmenter
from synthorax.studies.segmentation_figures import SEGMENTER_MEASURES, Segmented, count_voxels, replaced, spread_of
from synthorax.tasks.segmentation import Segmentation
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of
from tests.helpers.toy_makers import Dots

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = SEGMENTERS["smoke"]
SHAPES = OneShape(Volume(ball_mask((11, 11, 11), 8, (1.0, 1.0, 1.0)), (1.0, 1.0, 1.0)))


@dataclass(frozen=True)
class Means:
    """A painter that gives each class its mean HU and noise."""

    name: str = "means"
    spacing_mm: tuple = (1.0, 1.0, 1.0)
    smallest: tuple = (8, 8, 8)
    largest: tuple = (64, 64, 64)
    overlap: tuple = (2, 2, 2)
    context: int = 0
    codes: frozenset = frozenset(map(int, TissueClass))
    heeds: frozenset = frozenset()
    roles: frozenset = frozenset({"paints"})
    lineage: Lineage = field(default_factory=lambda: Lineage("means", "a" * 64, frozenset({"0" * 12})))

    def paint(self, labels, at_voxel, seed):
        hu = np.array([CLASS_HU[own] for own in TissueClass], np.float32)[labels.voxels]
        return replace(labels, voxels=hu + 20 * voxel_noise(seed, at_voxel, labels.shape, "means"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = []
    for split, count in (("train", 10), ("val", 1), ("test", 4)):
        for i in range(count):
            made.append(with_tissue(ball_case(f"{split}{i}", 6 + i % 4, split=split, size=40, seed=len(made))))
    return store_of(tmp_path_factory.mktemp("segmentation") / "store", made)


@pytest.fixture(scope="module")
def plan(store):
    return VolumePlan(store, store.in_split("train"), CONFIG.volume_spec, SHAPES)


def test_a_volume_shows_its_nodule_and_whose_it_is(store, tmp_path):
    volumes = nodule_volumes(store, store.in_split("test"), CONFIG.volume_spec, cache=tmp_path)
    assert volumes.hu.shape == (4, 24, 24, 24)
    assert volumes.patients.tolist() == ["test0", "test1", "test2", "test3"]
    for hu, marks in zip(volumes.hu, volumes.marks, strict=True):
        assert hu[marks == NODULE].mean() > -50 > hu[marks != NODULE].mean()


def test_half_of_the_windows_lie_around_a_nodule_and_beyond_a_volume_it_is_mirrored():
    marks = np.zeros((1, 24, 24, 24), np.uint8)
    marks[0, 11:13, 11:13, 11:13] = NODULE
    hu = (np.indices((24, 24, 24))[2] * 10 - 1000).astype(np.int16)[None]
    config = CONFIG.model_copy(update={"size": (8, 8, 8), "flip": False, "turn": False, "offset_voxels": 2})
    windows = WindowsOfVolumes([MarkedVolumes(hu, marks, np.array(["p"]))], config, 0)
    batches = [windows(step) for step in range(60)]
    holds = np.mean([batch["mask"].flatten(1).any(1).float().mean() for batch in batches])
    assert 0.45 < holds < 0.75
    found = {round(float(v)) for batch in batches for v in config.patch.to_hu(batch["ct"]).unique()}
    assert found <= set(range(-1000, -760, 10))
    beyond = [
        row for batch in batches for row in batch["ct"][:, 0, 0, 0] if (row.diff() > 0).any() and (row.diff() < 0).any()
    ]
    assert beyond
    again = windows(7)
    torch.testing.assert_close(again["ct"], batches[7]["ct"])


def test_windows_of_several_sets_take_every_volume_alike():
    config = CONFIG.model_copy(update={"size": (8, 8, 8)})
    parts = [
        MarkedVolumes(np.full((n, 8, 8, 8), hu, np.int16), np.zeros((n, 8, 8, 8), np.uint8), np.array(["p"] * n))
        for n, hu in ((1, 0), (9, -500))
    ]
    windows = WindowsOfVolumes(parts, config, 0)
    first = np.mean([float((config.patch.to_hu(windows(i)["ct"]) > -1).float().mean()) for i in range(200)])
    assert 0.05 < first < 0.16


def test_the_loss_takes_no_notice_of_uncounted_voxels():
    task = Segmentation(CONFIG)
    mask, known = torch.zeros(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4)
    mask[..., :2], known[..., 3] = 1, 0
    logits = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[..., 3] = 100 * torch.randn(1, 2, 4, 4)
    batch = {"mask": mask, "counted": known}
    torch.testing.assert_close(task.loss(logits, batch), task.loss(other, batch))
    assert task.loss(logits, {"mask": mask}) != task.loss(other, {"mask": mask})


def test_a_synthetic_volume_has_the_same_nodule_whoever_makes_it_and_real_nodules_do_not_count(plan):
    numbers = [i for i in range(12) if len(plan(i).labelled.regions) > plan(i).nodules_before]
    assert 6 <= len(numbers) <= 12
    for i in numbers[:4]:
        planned = plan(i)
        painted_hu, painted = volume_maker(Means())(planned, 1)
        put_in = planned.labelled.regions[-1]
        of_map = np.zeros(painted.shape, bool)
        put_in.paint(of_map, True)
        assert (painted[of_map] == NODULE).all()
        np.testing.assert_array_equal(painted == NODULE, planned.labelled.labels.voxels == TissueClass.NODULE)
        assert painted_hu[of_map].mean() == pytest.approx(CLASS_HU[TissueClass.NODULE], abs=20)
        hu, marks = volume_maker(Dots())(planned, 1)
        original = np.zeros(marks.shape, bool)
        for region in planned.labelled.regions[: planned.nodules_before]:
            region.paint(original, True)
        assert original.any()
        assert (marks[original] != 0).all()
        assert (marks == UNCOUNTED).sum() > original.sum() / 2
        same = marks != NODULE
        np.testing.assert_array_equal(hu[same & original], planned.ct.voxels[same & original])
        middle = np.argwhere(marks == NODULE).mean(0)
        np.testing.assert_allclose(middle, put_in.indices().mean(0), atol=1.5)


def test_the_first_volumes_are_the_same_in_a_larger_set_and_kept_ones_are_read(plan, tmp_path, monkeypatch):
    made = MadeVolumes("means", Means(), plan, tmp_path, "like")
    few = made.first(3)
    monkeypatch.setattr("synthorax.studies.made_volumes.volume_maker", lambda _: None)
    many = made.first(10)
    assert [len(part) for part in few] == [3]
    assert sum(map(len, many)) == 10
    np.testing.assert_array_equal(few[0].hu, many[0].hu[:3])
    assert set(many[0].patients) <= {f"train{i}" for i in range(10)}
    assert replace(made, maker=Means(name="others")).key != made.key


def test_few_shapes_are_as_many_as_were_asked_for():
    class Sized:
        lineage, heeds = Lineage("sized"), frozenset()

        def __call__(self, wanted, seed):
            return seed

    shapes = FewShapes(Sized(), 3, 0)
    assert len({shapes(None, seed) for seed in range(40)}) == 3


def test_measures_of_counted_voxels_are_those_of_the_thesis():
    found, truth = np.zeros((1, 2, 2, 2), bool), np.zeros((1, 2, 2, 2), bool)
    found[0, 0], truth[0, 0, 0], truth[0, 1, 0] = True, True, True  # 2 right, 2 too many, 2 missed, 2 left alone
    counts = count_voxels(found, truth)
    assert counts.tolist() == [[2, 2, 2, 2]]
    assert {name: float(measure(counts[0].astype(float))) for name, measure in SEGMENTER_MEASURES.items()} == {
        "sensitivity": 0.5,
        "accuracy": 0.5,
        "dice": 0.5,
        "f2": 0.5,
    }
    assert float(SEGMENTER_MEASURES["f2"](np.array([4.0, 0, 6, 0]))) == pytest.approx(5 * 4 / (5 * 4 + 4 * 6))


def test_the_spread_tells_the_mean_with_empty_volumes_as_zero():
    spread = spread_of(np.array([[0.2, 0.4, 0.9], [0.4, 0.4, 0.7]]), 3)
    assert (spread.mean, spread.median, spread.with_empty) == pytest.approx((0.5, 0.4, 0.25))
    assert spread.low < spread.mean < spread.high


def of_dice(values, trainings=2):
    """Counts whose Dice are these in every training."""
    both = np.rint(np.array(values) * 1000).astype(int)
    counts = np.stack([both, 2000 - 2 * both, 0 * both, 0 * both], 1)
    return Segmented(np.stack([counts] * trainings), np.zeros((trainings, 0), int))


def test_synthetic_volumes_replace_as_many_real_patients_as_the_curve_of_real_ones_says():
    volumes = np.random.default_rng(0).normal(0, 0.02, 40)
    patients = np.arange(40).astype(str)
    real = {10: of_dice(0.5 + volumes), 20: of_dice(0.6 + volumes), 60: of_dice(0.8 + volumes)}
    found = replaced(of_dice(0.7 + volumes), real, patients)
    assert found.patients == pytest.approx(30, abs=1)
    assert found.low <= found.patients <= found.high
    assert found.most == 50
    assert replaced(of_dice(0.9 + volumes), real, patients).patients == 50
    assert replaced(of_dice(0.4 + volumes), real, patients).patients == 0


def test_real_arms_are_nested_and_the_n_patients_are_those_of_validation(store):
    patients = RealPatients.of(store, store.in_split("val"), store.in_split("train"))
    assert patients.patients[0] == "val0"
    assert (patients.few, patients.full) == (1, 6)
    kinds = ("real", "published", "mixed", "amounts", "templates", "sources")
    arms = {arm.name: arm for arm in segmenter_arms(kinds, patients, (2, 6, 12), ["cyclegan", "render"])}
    assert [arm.real for arm in arms.values() if not arm.made] == [1, 2, 3, 4, 5, 6]
    assert (arms["N synthetic"].made, arms["4N synthetic"].made) == (12, 49)
    assert (arms["n real + 10n synthetic"].real, arms["n real + 10n synthetic"].made) == (1, 20)
    assert arms["N in all, half of them synthetic"].made == 6
    assert arms["n real + 10n render"].source == "render"


@pytest.fixture(scope="module")
def studied(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    return api.study_segmentation(
        store, out, models=[Means(), Dots()], preset="smoke", arms=["sources"], trainings=2, device="cpu"
    )


def test_the_smallest_study_ends_in_a_page_and_figures_of_every_arm(studied):
    results = json.loads((studied.parent / "results.json").read_text())
    names = [arm["name"] for arm in results["arms"]]
    assert names[:3] == ["n real", FULL, "n real + 10n synthetic"]
    assert {"n real + 10n render", "n real + 10n dots"} <= set(names)
    assert {"dice", "sensitivity", "f2", "accuracy"} <= set(results["arms"][0]["metrics"])
    assert set(results["curves"]) == {"2", "4"}
    assert results["learned"]["n real + 10n synthetic"] == [1, 1, 10]
    assert set(results["boundaries"]) == {"real", "means", "render", "dots"}
    assert "This study does not tell how many real patients synthetic volumes replace: 6 real" in studied.read_text()


def test_a_study_that_is_done_trains_nothing_and_makes_lost_figures_again_alike(studied, store, monkeypatch):
    notes = sorted((studied.parent / "trainings").rglob("*-at-*.json"))
    assert len(notes) == 5 * 2 * 2
    lost = next(note for note in notes if note.name.endswith("-at-2.json"))
    before, fitted, fit = lost.read_text(), [], segmentation_trials.fit
    lost.unlink()

    def fit_noted(*given, **more):
        fitted.append(given)
        return fit(*given, **more)

    monkeypatch.setattr(segmentation_trials, "fit", fit_noted)
    given = {"preset": "smoke", "arms": ["sources"], "trainings": 2, "device": "cpu"}
    api.study_segmentation(store, studied.parent, models=[Means(), Dots()], **given)
    assert len(fitted) == 2
    assert lost.read_text() == before


@pytest.mark.parametrize("preset", SEGMENTERS)
def test_checkpoints_keep_their_share_of_other_steps_unless_they_are_given(preset):
    usual = SEGMENTERS[preset]
    twice = segmenter(preset, {"steps": 2 * usual.steps})
    assert twice.checkpoints == tuple(2 * at for at in usual.checkpoints)
    assert twice.headline == 2 * usual.headline
    one = segmenter(preset, {"steps": 1})
    assert (one.checkpoints, one.headline) == ((1,), 1)
    own = segmenter(preset, {"steps": 6, "checkpoints": [3, 6], "headline": 3})
    assert (own.checkpoints, own.headline) == ((3, 6), 3)
    with pytest.raises(InputError, match="setting steps: found 0"):
        segmenter(preset, {"steps": 0})


@pytest.mark.parametrize(
    ("makers", "said"),
    [
        ([], "model: found none; expected as the first one a model that paints"),
        ([Dots()], "model: found dots, which does not paint"),
        ([Means(spacing_mm=(2.0, 1.0, 1.0))], "which paints voxels of"),
        ([Means(smallest=(32, 32, 32))], "whose windows have"),
    ],
)
def test_makers_that_do_not_fit_are_refused(makers, said):
    with pytest.raises(InputError, match=said):
        check_segmenter_makers(makers, CONFIG)


def test_a_maker_that_knows_a_validation_patient_is_refused(store, tmp_path):
    known = Means(lineage=Lineage("means", "a" * 64, frozenset({patient_key("val0")})))
    with pytest.raises(InputError, match="val0"):
        api.study_segmentation(store, tmp_path / "out", models=[known], preset="smoke", trainings=1, device="cpu")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": (16, 16, 12)}, "multiples of 8"),
        ({"size": (32, 32, 32)}, "no window larger than a volume"),
        ({"checkpoints": (2, 3)}, "the last of them the 4 steps"),
        ({"headline": 3}, "headline: found 3; expected 2 or 4"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        type(CONFIG).model_validate(CONFIG.model_dump() | settings)
