"""Tasks trained by the loop: they solve easy problems, and a patch's result does not depend on its batch."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch.nn import functional

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import corner_places, nodule_places
from synthorax.errors import InputError
from synthorax.metrics.roc import auc
from synthorax.shapes.overlap import dice
from synthorax.tasks.classification import SCORED_AT_ONCE, Classification
from synthorax.tasks.config import TASKS, TaskConfig, task_config
from synthorax.tasks.features.config import PRESETS as FEATURES
from synthorax.tasks.features.system import FeatureNet
from synthorax.tasks.networks.config import DetectorConfig, ResNetConfig, UNetConfig
from synthorax.tasks.segmentation import Segmentation
from synthorax.tasks.training import check_size, train_task
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSIFIER = TaskConfig(network=DetectorConfig(width=4), size=(16,) * 3, batch_size=16, steps=40, validate_every=20)
SEGMENTER = TaskConfig(
    network=UNetConfig(width=2),
    size=(16,) * 3,
    batch_size=8,
    steps=60,
    learning_rate=0.01,
    late_rate=0.003,
    validate_every=30,
    select="val_dice",
)


def balls(step, n, faint=0.6):
    """Return patches of noise, every second with a ball near its centre: ct, label, mask."""
    rng = np.random.default_rng((17, step))
    label = np.arange(n) % 2
    grid = np.stack(np.meshgrid(*[np.arange(16) - 7.5] * 3, indexing="ij"))
    center = rng.uniform(-2, 2, (n, 3))
    distance = np.sqrt(((grid[None] - center[:, :, None, None, None]) ** 2).sum(1))
    mask = (distance <= rng.uniform(2.5, 5, n)[:, None, None, None]) & (label == 1)[:, None, None, None]
    ct = np.clip(rng.normal(-0.6, 0.2, mask.shape) + faint * mask, -1, 1)
    return {
        "ct": torch.from_numpy(ct.astype(np.float32))[:, None],
        "label": torch.from_numpy(label),
        "mask": torch.from_numpy(mask.astype(np.float32))[:, None],
    }


def nodules(step, n):
    """Return only the patches with a ball."""
    return {name: values[1::2] for name, values in balls(step, 2 * n).items()}


def learned(task, batches):
    """Return a task that was trained without a run folder, and its losses."""
    task.prepare_training(Fabric(accelerator="cpu", devices=1))
    return [float(task.training_step(batches(step), step)["loss"]) for step in range(task.config.steps)]


@pytest.fixture(scope="module")
def classifier():
    task = Classification(CLASSIFIER)
    learned(task, lambda step: balls(step, 16))
    return task


@pytest.fixture(scope="module")
def segmenter():
    task = Segmentation(SEGMENTER)
    learned(task, lambda step: nodules(step, 8))
    return task


# Learning


def test_a_classifier_learns_to_tell_patches_with_a_ball_from_those_without(classifier):
    held_out = balls(10_000, 200)
    labels = held_out["label"].numpy()
    assert auc(labels, classifier.probabilities(held_out["ct"])[:, 1]) > 0.95
    fresh = auc(labels, Classification(CLASSIFIER).probabilities(held_out["ct"])[:, 1])
    assert abs(fresh - 0.5) < 0.45


def test_a_segmenter_learns_to_outline_a_ball(segmenter):
    held_out = nodules(10_000, 30)
    found = segmenter.masks(held_out["ct"])
    assert found.shape == (30, 16, 16, 16)
    assert found.dtype == np.bool_
    assert dice(found, held_out["mask"][:, 0].numpy() > 0).mean() > 0.7


def test_what_is_said_of_a_patch_does_not_depend_on_its_company(classifier, segmenter):
    patches = balls(10_001, SCORED_AT_ONCE + 9)["ct"]
    whole = classifier.probabilities(patches)
    assert whole.shape == (SCORED_AT_ONCE + 9, 2)
    assert whole.sum(1) == pytest.approx(1)
    np.testing.assert_allclose(classifier.probabilities(patches[[3]]), whole[[3]], atol=1e-5)
    np.testing.assert_allclose(classifier.probabilities(patches.flip(0))[::-1], whole, atol=1e-5)
    np.testing.assert_allclose(segmenter.logits(patches[[3]]), segmenter.logits(patches[:8])[[3]], atol=1e-4)


def test_a_prediction_changes_nothing_that_training_goes_on_from(classifier):
    before = {name: tensor.clone() for name, tensor in classifier.weights().items()}
    classifier.probabilities(balls(3, 8)["ct"])
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.weights().items())


def test_features_are_the_last_channels_of_each_patch():
    task = FeatureNet(FEATURES["smoke"])
    patches = balls(10_002, SCORED_AT_ONCE + 1)["ct"]
    found = task.extractor("fresh", "")(task.config.patch.to_hu(patches[:, 0]).numpy(), (1.0, 1.0, 1.0))
    assert found.values.shape == (SCORED_AT_ONCE + 1, task.network.feature_size)
    with torch.no_grad():
        alone = task.network.features(patches[-1:])
    np.testing.assert_allclose(found.values[-1:], alone, atol=1e-4)
    np.testing.assert_allclose(found.probabilities, task.probabilities(patches), atol=1e-4)


def test_the_learning_rate_drops_when_its_time_has_come():
    config = CLASSIFIER.model_copy(update={"steps": 6, "learning_rate": 0.02, "late_rate": 0.001, "late_from": 0.5})
    task, rates = Classification(config), []

    def batches(step):
        rates.append(task.optimizers["adam"].param_groups[0]["lr"])
        return balls(step, 4)

    learned(task, batches)
    rates.append(task.optimizers["adam"].param_groups[0]["lr"])
    assert rates[1:] == [0.02] * 3 + [0.001] * 3
    paper = TASKS["detection"]["paper"]
    assert (paper.rate(0), paper.rate(30 * 178 - 1), paper.rate(30 * 178), paper.rate(paper.steps)) == (
        1e-3,
        1e-3,
        1e-4,
        1e-4,
    )


def test_the_moving_average_is_what_finds_nodules_after_training():
    config = SEGMENTER.model_copy(update={"steps": 4, "ema_decay": 0.5})
    task = Segmentation(config)
    learned(task, lambda step: balls(step, 4))
    task.update_averages()
    patches = balls(99, 4)["ct"]
    found = task.logits(patches)
    with torch.no_grad():
        assert torch.equal(found, task.averages["network"].eval()(patches))
        assert not torch.equal(found, task.network.eval()(patches))
    again = Segmentation(config, seed=1)
    again.load_weights(task.weights())
    assert torch.equal(again.logits(patches), found)


def test_weight_decay_shrinks_weights_apart_from_the_gradient():
    made = {}
    for decay in (0.0, 10.0):
        config = CLASSIFIER.model_copy(update={"steps": 1, "weight_decay": decay})
        task = Classification(config)
        before = {name: p.detach().clone() for name, p in task.network.named_parameters()}
        learned(task, lambda step: balls(step, 4))
        made[decay] = dict(task.network.named_parameters()), before
    for name, weight in made[10.0][0].items():
        expected = made[0.0][0][name] - CLASSIFIER.learning_rate * 10 * made[0.0][1][name]
        torch.testing.assert_close(weight, expected)


def test_the_segmenters_loss_is_cross_entropy_and_soft_dice():
    task = Segmentation(SEGMENTER)
    mask = nodules(0, 2)["mask"]
    logits = torch.randn(2, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    p, truth = logits.softmax(1)[:, 1].numpy().astype(float), mask[:, 0].numpy()
    soft = [1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, truth, strict=True)]
    cross = -np.log(np.where(truth > 0, p, 1 - p)).mean()
    assert float(task.loss(logits, {"mask": mask})) == pytest.approx(cross + np.mean(soft), rel=1e-4)
    sure = functional.one_hot(mask[:, 0].long(), 2).movedim(-1, 1) * 100.0
    assert float(task.loss(sure, {"mask": mask})) == pytest.approx(0, abs=1e-3)


def test_the_weights_of_a_seed_are_its_own():
    first, again, other = Classification(CLASSIFIER, 1), Classification(CLASSIFIER, 1), Classification(CLASSIFIER, 2)
    torch.manual_seed(5)
    assert all(torch.equal(first.weights()[name], tensor) for name, tensor in again.weights().items())
    assert any(not torch.equal(first.weights()[name], tensor) for name, tensor in other.weights().items())


# In a run folder


def ball_store(folder):
    """Cubes of 40 mm with a ball in the middle, a patient each: eight to learn from and six for validation."""
    splits = ["train"] * 8 + ["val"] * 6
    cases = [ball_case(f"P{i}", 5 + i % 3, split=splits[i], size=40, seed=i) for i in range(14)]
    return store_of(folder, cases)


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """Patches with and without a nodule of the train and val patients, by split."""
    folder = tmp_path_factory.mktemp("patches")
    store, spec = ball_store(folder / "store"), CLASSIFIER.patch
    made = {}
    for split in ("train", "val"):
        cases = store.in_split(split)
        places = nodule_places(cases) + corner_places(store, cases, spec)
        made[split] = PatchDataset(
            store, places, spec, augmentation=Augmentation(flip=split == "train"), cache=folder / "cache"
        )
    return made


def test_a_trained_task_comes_back_with_the_weights_of_its_best_validation(patches, tmp_path):
    config = CLASSIFIER.model_copy(update={"steps": 6, "validate_every": 2})
    figures = iter([{"val_loss": 3.0}, {"val_loss": 1.0}, {"val_loss": 2.0}])
    task = Classification(config)
    run = tmp_path / "run"
    given = train_task(task, lambda s: patches["train"].batch(s, 8), lambda: next(figures), run, {"fingerprint": "f"})
    assert given is task
    best, last = load_file(run / "best.safetensors"), load_file(run / "weights.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in task.weights().items())
    assert any(not torch.equal(tensor, last[name]) for name, tensor in best.items())
    shorter = Classification(config)
    shorter.prepare_training(Fabric(accelerator="cpu", devices=1))
    for step in range(4):
        torch.manual_seed(0)
        shorter.training_step(patches["train"].batch(step, 8), step)
    assert all(torch.equal(tensor, best[name]) for name, tensor in shorter.weights().items())


def test_validation_figures_are_those_of_held_out_patches_as_they_are(patches, classifier, segmenter):
    val = patches["val"]
    found = classifier.validate(val)
    whole = torch.stack([val[i]["ct"] for i in range(len(val))])
    probability = classifier.probabilities(whole)
    classes = [-np.log(np.clip(probability[val.labels == k, k], 1e-7, 1)).mean() for k in (0, 1)]
    assert found["val_loss"] == pytest.approx(np.mean(classes), rel=1e-4)
    assert found["val_auc"] == pytest.approx(auc(val.labels, probability[:, 1]))
    assert classifier.validate(val) == found
    masks = np.stack([val[i]["mask"][0].numpy() > 0 for i in range(len(val))])
    assert segmenter.validate(val) == {"val_dice": pytest.approx(dice(segmenter.masks(whole), masks).mean())}


def test_a_figure_to_select_by_that_a_task_does_not_have_is_one_clear_line(patches, tmp_path):
    config = CLASSIFIER.model_copy(update={"select": "val_dice", "steps": 2, "validate_every": 1})
    task = Classification(config)
    with pytest.raises(InputError, match=r"^select: found 'val_dice'; expected val_loss or val_auc$"):
        train_task(
            task, lambda s: patches["train"].batch(s, 8), lambda: task.validate(patches["val"]), tmp_path / "run", {}
        )


@pytest.mark.parametrize(
    ("kind", "network", "size"),
    [
        (Classification, ResNetConfig(architecture="resnet-10", width=4), (16, 16, 32)),
        (Classification, DetectorConfig(width=4), (4, 4, 4)),
        (Segmentation, UNetConfig(width=2), (16, 16, 8)),
    ],
)
def test_patches_smaller_than_the_network_needs_are_refused(kind, network, size):
    with pytest.raises(
        InputError, match=r"^size: found patches of .*; expected at least .* voxels, which the network needs$"
    ):
        check_size(kind(TaskConfig(network=network, size=size)))


def test_patches_of_a_size_that_halving_does_not_divide_are_refused():
    with pytest.raises(InputError, match=r"^size: found patches of .*; expected sizes divisible by 8"):
        check_size(Segmentation(TaskConfig(network=UNetConfig(width=2), size=(20, 24, 24))))


@pytest.mark.parametrize("task", TASKS)
def test_every_preset_of_a_task_makes_a_network_that_takes_its_patches(task):
    for preset in TASKS[task]:
        with torch.device("meta"):
            kind = Segmentation if task == "segmentation" else Classification
            check_size(kind(task_config(task, preset, {})))


def test_a_setting_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="setting depth"):
        task_config("detection", "smoke", {"depth": 3})
    with pytest.raises(InputError, match="'huge'"):
        task_config("detection", "huge", {})
