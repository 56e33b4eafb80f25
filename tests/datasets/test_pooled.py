"""Batches of a pool: real and synthetic patches appear in the proportions of the pool."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import nodule_places
from synthorax.datasets.pooled import PooledBatches
from synthorax.errors import InputError
from tests.helpers.stores import cases, store_of
from tests.helpers.toy_makers import SPEC

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Nine patches of class 0 and three of class 1, which shifts move."""
    place = tmp_path_factory.mktemp("pooled")
    store = store_of(place / "store", cases(12))
    places = [replace(each, label=int(i % 4 == 0)) for i, each in enumerate(nodule_places(store.in_split("train")))]
    return PatchDataset(store, places, SPEC, augmentation=Augmentation(flip=False, shift_voxels=2), cache=place)


def labels_of(batches, steps):
    return np.concatenate([batches(step)["label"].numpy() for step in range(steps)])


def test_every_patch_comes_once_before_any_comes_again(real):
    batches = PooledBatches(real, 5)
    rows = np.concatenate([batches._turn(turn) for turn in range(2)])
    assert sorted(rows[:12]) == sorted(rows[12:]) == list(range(12))
    assert not np.array_equal(rows[:12], rows[12:])
    assert Counter(labels_of(batches, 12)) == {0: 45, 1: 15}  # five turns of 9 and 3


def test_made_patches_and_repeats_change_the_proportions(real):
    made = {1: np.zeros((6, *real.padded.size), np.int16)}
    assert Counter(labels_of(PooledBatches(real, 6, made=made), 6)) == {0: 18, 1: 18}
    assert Counter(labels_of(PooledBatches(real, 6, repeats={1: 3}), 6)) == {0: 18, 1: 18}


def test_made_patches_are_moved_like_real_ones(real):
    made = np.arange(np.prod(real.padded.size)).reshape(real.padded.size).astype(np.int16)[None] % 400
    batches = PooledBatches(real, 12, made={1: np.repeat(made, 12, 0)})
    batch = batches(0)
    seen = {tuple(ct.flatten().tolist()) for ct, label in zip(batch["ct"], batch["label"], strict=True) if label == 1}
    windows = {
        tuple(real.spec.to_unit(torch.from_numpy(made[0, z : z + 16, y : y + 16, x : x + 16])).flatten().tolist())
        for z in range(5)
        for y in range(5)
        for x in range(5)
    }
    assert len(seen & windows) > 1


def test_weights_make_both_classes_count_the_same(real):
    batches = PooledBatches(real, 12, weighted=True)
    batch = batches(0)
    sums = [batch["weight"][batch["label"] == label].sum().item() for label in (0, 1)]
    assert sums == pytest.approx([6.0, 6.0])


def test_a_batch_is_a_function_of_seed_and_step(real):
    one, other = (PooledBatches(real.with_seed(seed), 8)(3)["ct"] for seed in (0, 1))
    assert torch.equal(one, PooledBatches(real, 8)(3)["ct"])
    assert not torch.equal(one, other)


def test_made_patches_without_the_margin_are_refused(real):
    with pytest.raises(InputError, match="with their margin"):
        PooledBatches(real, 4, made={1: np.zeros((2, *real.spec.size), np.int16)})
