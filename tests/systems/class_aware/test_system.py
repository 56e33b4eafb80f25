"""The class-aware in-painter: its training data, its conditions, and what it fills."""

import numpy as np
import pytest
import torch

from synthorax.datasets.outlines import one_readers
from synthorax.errors import InputError
from synthorax.makers import Edit, Lineage, fill
from synthorax.nn.cpu_convolutions import CpuConvolutions
from synthorax.nn.critics import InPaintingCritic
from synthorax.nn.local_crop import LocalCrop
from synthorax.nodule import NoduleAttributes
from synthorax.systems.class_aware.conditions import conditions_of
from synthorax.systems.class_aware.config import PRESETS, ClassAwareConfig, TrainingOptions, spread_rows
from synthorax.systems.class_aware.system import BENIGN, CLASSES_STAGE, FILL_STAGE, MALIGNANT, ClassAware
from synthorax.systems.class_aware.training import training
from synthorax.training.in_painter import mask_loss
from synthorax.training.trainable import Share
from synthorax.volume import Volume
from tests.helpers.stores import cases, store_of

SMOKE = PRESETS["smoke"]
MM = (1.0, 1.0, 1.0)


def made_ready(tmp_path, config=SMOKE, *, readers=((1.0, 2.0, 1.0), (5.0, 4.0, 5.0)), per_split=8, seed=0):
    store = store_of(tmp_path / "store", cases(per_split, readers=readers, size=24))
    return training(config, store, seed, TrainingOptions(cache=tmp_path / "cache"))


def test_a_batch_has_as_many_malignant_nodules_as_benign_ones_and_its_condition_says_which(tmp_path):
    ready = made_ready(tmp_path)
    (first, _) = ready.stages[0].batches(0)
    assert sorted(first["label"].tolist()) == [BENIGN, BENIGN, MALIGNANT, MALIGNANT]
    assert first["condition"][:, 0].tolist() == [2.0 * (label == MALIGNANT) - 1 for label in first["label"]]
    assert (first["outline"] <= first["region"]).all()


def test_classes_come_in_after_two_thirds_of_the_steps(tmp_path):
    ready = made_ready(tmp_path)
    assert [(stage.name, stage.steps) for stage in ready.stages] == [(FILL_STAGE, 4), (CLASSES_STAGE, 2)]


def test_a_class_without_training_nodules_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"none of them malignant \(malignant: a median of the ratings of malignancy from 4 to 5\)"
    ):
        made_ready(tmp_path, readers=((1.0, 2.0, 1.0),))


def test_the_nodules_of_each_class_are_counted_and_few_of_a_class_are_warned_of(tmp_path, capsys):
    made_ready(tmp_path)
    said = capsys.readouterr().err
    assert "training nodules: 8 (4 benign, 4 malignant)" in said
    assert "warning: only 4 of 8 training nodules are malignant" in said


def test_patches_smaller_than_every_ball_are_refused(tmp_path):
    with pytest.raises(InputError, match="no nodule to edit"):
        made_ready(tmp_path, SMOKE.model_copy(update={"margin_mm": 30.0}))


def test_a_store_without_two_nodules_alike_trains_and_says_that_variety_is_not_watched(tmp_path, capsys):
    ready = made_ready(tmp_path, SMOKE.model_copy(update={"outlines": False}), per_split=2)
    assert "diversity" not in ready.model.limits
    assert "does not check that two seeds give different nodules" in "".join(capsys.readouterr())


def flipped(system, label):
    own = conditions_of(2.0 * (label == MALIGNANT) - 1, torch.full((len(label), 1), 0.5))
    return own, *system._with_flips(own, label)


def test_flipped_rows_have_the_other_class_and_their_own_attributes_in_their_condition():
    system = ClassAware(SMOKE)
    label = torch.tensor([BENIGN, MALIGNANT, BENIGN, MALIGNANT])
    system.enter(FILL_STAGE)
    assert torch.equal(flipped(system, label)[2], label)
    system.enter(CLASSES_STAGE)
    own, condition, wanted = flipped(system, label)
    assert wanted.tolist() == [MALIGNANT, MALIGNANT, BENIGN, BENIGN]
    assert condition[:, 0].tolist() == [1.0, 1.0, -1.0, -1.0]
    assert torch.equal(condition[:, 1:], own[:, 1:])


@pytest.mark.parametrize("world", [2, 4])
def test_any_number_of_processes_flip_and_penalise_the_same_rows_as_many_of_each_class(world):
    system = ClassAware(SMOKE.model_copy(update={"batch_size": 16, "penalty_share": 0.25}))
    system.enter(CLASSES_STAGE)
    label = torch.tensor([BENIGN, MALIGNANT] * 8)
    whole, penalised = flipped(system, label)[2], system._rows(system.config.penalty_rows)
    assert [int((whole[label == one] != one).sum()) for one in (BENIGN, MALIGNANT)] == [4, 4]
    assert [int(penalised[label == one].sum()) for one in (BENIGN, MALIGNANT)] == [2, 2]
    parts, rows = [], []
    for rank in range(world):
        system.share = Share(rank, world)
        system.check(world)
        parts.append(flipped(system, system.share.of(label))[2])
        rows.append(system._rows(system.config.penalty_rows))
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(torch.cat(rows), penalised)


@pytest.mark.parametrize("count", range(9))
def test_rows_are_spread_over_a_batch(count):
    chosen = spread_rows(count, 8)
    assert chosen.sum() == count
    if count % 2 == 0:
        assert chosen[:4].sum() == chosen[4:].sum()


def test_a_batch_that_cannot_be_shared_or_has_no_halves_is_refused():
    with pytest.raises(
        InputError,
        match="8, 2 rows of which are penalised; expected a size whose penalised rows 4 processes can share evenly",
    ):
        ClassAware(SMOKE.model_copy(update={"batch_size": 8, "penalty_share": 0.25})).check(4)
    with pytest.raises(InputError, match="because half of a batch is of each class"):
        ClassAwareConfig(batch_size=7)


def test_the_loss_of_masks_is_a_mean_over_nodules_and_takes_no_notice_of_unknown_ones():
    region, mask = torch.zeros(3, 1, 4, 4, 4), torch.zeros(3, 1, 4, 4, 4)
    region[0, ..., :2], region[1], region[2] = 1, 1, 1
    logits = torch.tensor([0.0, 20.0, 20.0]).view(3, 1, 1, 1, 1).expand_as(mask)
    loss = mask_loss(logits, mask, torch.tensor([1.0, 1.0, 0.0]), region)
    assert loss.item() == pytest.approx((np.log(2) + 20) / 2, rel=1e-5)


def test_unknown_attributes_are_marked():
    condition = conditions_of(torch.tensor([1.0]), torch.tensor([[0.25, torch.nan]]))
    assert condition[0].tolist() == [1.0, 0.25, 1.0, 0.0, 0.0]


def test_all_readers_outlines_shrink_to_one_readers(ball):
    union = torch.from_numpy(ball(20, (25, 25, 25), MM).astype(np.float32))[None, None]
    one = one_readers(union, [MM])
    assert one.sum() / union.sum() == pytest.approx(0.61, abs=0.01)
    away = torch.from_numpy(np.sqrt(((np.indices((25, 25, 25)) - 12.0) ** 2).sum(0)))
    assert away[one[0, 0] > 0].max() <= away[(union - one)[0, 0] > 0].min() + 0.5  # the shell is gone


def test_the_papers_patches_are_the_default_and_others_are_divisible_by_4():
    with pytest.raises(InputError, match="divisible by 4"):
        ClassAwareConfig(size=(30, 64, 64))
    assert PRESETS["paper"].size == (32, 64, 64)
    assert PRESETS["paper"].spacing_mm == (2.0, 1.0, 1.0)
    assert (PRESETS["paper"].critics_told, PRESETS["paper"].outlines) == (True, False)


def filled(system, seed=0, mm=8.0, spacing_mm=1.0, **attributes):
    """Return lung with a nodule added at its centre."""
    method = system.maker(Lineage("class-aware"))
    reach, radius = method.reach_mm(Edit("inject", NoduleAttributes(diameter_mm=mm)))
    n = 2 * int(np.ceil(reach / spacing_mm)) + 1
    hu = np.random.default_rng(0).normal(-850, 20, (n, n, n)).astype(np.float32)
    region = np.sqrt(((np.indices(hu.shape) - n // 2) ** 2).sum(0)) <= radius / spacing_mm
    edit = Edit("inject", NoduleAttributes(diameter_mm=mm, **attributes))
    return hu, fill(method, Volume(hu, (spacing_mm,) * 3), region, edit, seed)


def test_what_was_asked_for_is_what_is_told_of_the_nodule_and_whose_outline_it_had():
    _, made = filled(ClassAware(SMOKE), malignancy=5.0, texture=2.0)
    assert made.attributes.malignancy == 5.0
    assert made.attributes.texture == 2.0
    assert made.outline.startswith("LIDC-IDRI-")


def test_a_nodule_whose_shape_is_given_by_an_edit_has_that_shape(ball):
    method = ClassAware(SMOKE).maker(Lineage("class-aware"))
    shape, hu = ball(7, (24, 24, 24), MM), np.full((24, 24, 24), -850, np.float32)
    shape[:, :12] = False
    edit = Edit("inject", NoduleAttributes(diameter_mm=8.0), shape)
    made = fill(method, Volume(hu, MM), np.ones(hu.shape, bool), edit, 0)
    assert (made.mask == shape).all()
    assert made.outline == ""


def test_seeds_have_outlines_of_their_own():
    system = ClassAware(SMOKE)
    (_, first), (_, again), (_, other) = (filled(system, seed) for seed in (1, 1, 2))
    assert (first.mask == again.mask).all()
    assert (first.mask != other.mask).any()


def test_without_outlines_the_network_itself_says_where_the_nodule_is():
    system = ClassAware(SMOKE.model_copy(update={"outlines": False}))
    _, made = filled(system)
    assert made.mask is not None
    assert made.outline == ""


def test_a_nodule_narrower_than_a_voxel_is_refused():
    with pytest.raises(InputError, match="at least 1 mm, the width of a voxel of class-aware"):
        filled(ClassAware(SMOKE), mm=0.8, spacing_mm=0.5)


def test_bfloat16_gradients_of_the_critics_are_numbers():
    """In bfloat16 oneDNN's gradient of a kernel that is wider than its input is not one, now and then."""
    torch.manual_seed(0)
    critic = InPaintingCritic((32, 32, 32), width=8, classes=3)
    patches = torch.rand(8, 1, 32, 32, 32) * 2 - 1
    region = torch.zeros_like(patches)
    region[..., 10:22, 10:22, 10:22] = 1
    with torch.autocast("cpu", torch.bfloat16), CpuConvolutions():
        verdicts = critic(patches, LocalCrop.around(region))
    sum(verdict.score.mean() + verdict.classes.logsumexp(1).mean() for verdict in verdicts).backward()
    assert all(parameter.grad.isfinite().all() for parameter in critic.parameters())
