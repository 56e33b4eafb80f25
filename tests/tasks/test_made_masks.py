"""Masks of generated nodules.

This tests the windows that a segmenter is trained on, and the component that is the generated nodule.
"""

import numpy as np
import pytest
import torch
from torch import nn

from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.makers import Lineage, Samples
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.tasks.made_masks import (
    WindowBatches,
    new_segmenter,
    nodule_in_the_middle,
    nodule_voxels,
    segmenter_loss,
    window_of,
    with_masks,
)
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

SPEC = PatchSpec((16, 16, 16))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return store_of(tmp_path_factory.mktemp("cubes"), [ball_case(f"c{i}", 10, size=48, seed=i) for i in range(3)])


def batches(store: Store, tmp_path, size: int = 12) -> WindowBatches:
    return WindowBatches.of(store, store.in_split("train"), SPEC, 0, size=size, cache=tmp_path)


def test_a_third_of_the_windows_holds_no_nodule_and_in_the_others_it_lies_anywhere(store, tmp_path):
    windows = batches(store, tmp_path)
    found = [windows(step) for step in range(8)]
    masks = torch.cat([batch["mask"] for batch in found])
    assert [int(batch["mask"].flatten(1).any(1).logical_not().sum()) for batch in found] == [4] * 8
    middles = np.array([np.argwhere(mask[0].numpy()).mean(0) for mask in masks if mask.any()])
    assert (middles.min(0) < 4).all()
    assert (middles.max(0) > 11).all()
    cts = torch.cat([batch["ct"] for batch in found])
    assert cts[masks > 0].mean() > 0 > -0.5 > cts[masks == 0].mean()


def test_a_window_is_a_function_of_the_step(store, tmp_path):
    windows, again = batches(store, tmp_path), batches(store, tmp_path)
    windows(0)
    assert all(torch.equal(a, b) for a, b in zip(windows(5).values(), again(5).values(), strict=True))
    assert not torch.equal(windows(5)["ct"], windows(6)["ct"])


def test_windows_are_no_wider_than_32_mm():
    assert window_of(PatchSpec((48, 48, 48))).size == (32, 32, 32)
    assert window_of(PatchSpec((24, 24, 24))).size == (24, 24, 24)
    assert window_of(PatchSpec((48, 48, 48), (1.5, 0.7, 0.7))).size == (16, 40, 40)
    for spec in (PatchSpec((8, 16, 16)), PatchSpec((48, 48, 48), (3.0, 1.0, 1.0))):
        with pytest.raises(InputError, match="segmenter_steps=0"):
            window_of(spec)


def test_a_store_without_outlines_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="no training nodule with a mask"):
        batches(store_of(tmp_path / "store", [ball_case("c", 10, size=48, outlined=False)]), tmp_path)


def test_the_made_nodule_is_the_piece_in_the_middle():
    voxels = np.zeros((16, 16, 16), bool)
    voxels[6:9, 6:9, 5:7] = True  # beside the middle
    voxels[1:6, 1:6, 1:6] = True  # larger, and farther off; the two touch by a corner alone
    piece = nodule_in_the_middle(voxels, (1, 1, 1))
    assert piece.sum() == 18
    assert piece[7, 7, 6]


def test_a_patch_with_nothing_near_its_middle_has_no_made_nodule():
    voxels = np.zeros((16, 16, 16), bool)
    assert not nodule_in_the_middle(voxels, (1, 1, 1)).any()
    voxels[7, 7, 12] = True  # 4.6 voxels from the middle
    assert not nodule_in_the_middle(voxels, (1, 1, 1)).any()
    assert nodule_in_the_middle(voxels, (1, 1, 0.8)).sum() == 1


def test_a_mask_does_not_depend_on_its_company():
    torch.manual_seed(0)
    network = new_segmenter()
    for _ in range(30):
        network(torch.rand(4, 1, 16, 16, 16))  # so that batch norm has statistics
    patches = torch.rand(18, 1, 16, 16, 16)
    whole = nodule_voxels(network, patches)
    assert whole.any()
    assert np.array_equal(whole[16:], nodule_voxels(network, patches[16:]))
    assert network.training


def test_the_loss_is_least_where_the_logits_say_the_mask():
    mask = torch.zeros(2, 1, 8, 8, 8)
    mask[0, 0, 2:5, 2:5, 2:5] = 1  # the second window holds no nodule
    right, wrong = 20 * (2 * mask - 1), 20 * (1 - 2 * mask)
    assert segmenter_loss(right, mask) < 1e-3
    assert segmenter_loss(wrong, mask) > segmenter_loss(torch.zeros_like(mask), mask) > 1


def test_a_segmenter_learns_balls_wherever_they_lie(store, tmp_path):
    torch.manual_seed(0)
    network, windows, losses = new_segmenter(), batches(store, tmp_path, 6), []
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(10):
        batch = windows(step)
        loss = segmenter_loss(network(batch["ct"]), batch["mask"])
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.85 * losses[0]


class Dense(nn.Module):
    """Segments everything denser than -300 HU as a nodule."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.0))

    def forward(self, patches):
        return patches - self.level


def made_samples() -> Samples:
    """Return three patches of 2 x 1 x 1 mm.

    The first has a nodule off the centre, the second lacks the requested nodule, for the third none is requested.
    """
    ct = np.full((3, 16, 16, 16), -800, np.int16)
    ct[0, 7:9, 6:12, 8:10] = 0  # 6 voxels along y
    ct[2, 7:9, 7:9, 7:9] = 0  # a vessel
    asked = (NoduleAttributes(diameter_mm=10.0),)
    nodule = Nodule(
        "01", (7.5, 7.5, 15.0), NoduleAttributes(diameter_mm=10.0, texture=4.0), extra={"diameter_is": "asked"}
    )
    return Samples(
        {"ct": ct},
        np.arange(3),
        (asked, asked, ()),
        ((nodule,), (nodule,), ()),
        ({}, {}, {}),
        PatchSpec((16, 16, 16), (2.0, 1.0, 1.0)),
        Lineage("toy"),
    )


def test_a_made_nodule_has_the_diameter_and_the_centre_of_its_mask():
    made = with_masks(made_samples(), Dense())
    found, missed = made.nodules[0][0], made.nodules[1][0]
    assert made.arrays["mask"].dtype == np.uint8
    assert made.arrays["mask"].sum((1, 2, 3)).tolist() == [24, 0, 0]
    assert found.center_mm == (8.5, 8.5, 15.0)
    assert found.attributes == NoduleAttributes(diameter_mm=6.1, texture=4.0)  # the diagonal of 6 x 2 voxels
    assert (found.label, found.extra) == (1, {"diameter_is": "measured"})
    assert missed == made_samples().nodules[1][0]
    assert made.nodules[2] == ()
