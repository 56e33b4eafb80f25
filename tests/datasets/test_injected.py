"""Nodules added to healthy patches: everything beside them stays, and refused places are left out and reported."""

import numpy as np
import pytest
from torch.nn.functional import max_pool3d

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.injected import injected_patches
from synthorax.errors import InputError
from synthorax.patch import PatchSpec, ScaledPatch
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of
from tests.helpers.toy_makers import DenseBalls

VIEW = ScaledPatch(PatchSpec((12, 12, 12)), (2.0,), coarsest=3.0)


@pytest.fixture
def made(tmp_path):
    """Return a function that adds nodules of 5 and 7 mm to the healthy corners of two cubes."""

    def make(method, **options):
        store = store_of(tmp_path / "store", [ball_case("a", 5, size=48), ball_case("b", 7, size=48)])
        options = {"cache": tmp_path / "cache"} | options
        return injected_patches(store, store.cases, VIEW, method, healthy=4, **options)

    return make


def test_a_nodule_lies_in_the_middle_of_a_healthy_patch_and_nothing_beside_it_changes(made):
    patches = made(DenseBalls(), augmentation=Augmentation(turn=True))
    batch = patches.batch(0, 8)
    apart = batch["injected"] != batch["ct"]
    near = max_pool3d(batch["mask"], 5, stride=1, padding=2)
    assert not (apart & (near == 0)).any()  # a voxel of the scan reaches over two of the patch
    core = max_pool3d(1 - batch["mask"], 5, stride=1, padding=2) == 0
    assert (batch["injected"][core] == 1).all()
    assert not (batch["ct"] == 1).any()
    assert batch["healthy"].all()
    scales = [patches.places[row].scale for row in batch["index"]]
    widths = [
        2 * (3 * int(mask.sum()) / 4 / np.pi) ** (1 / 3) * s for mask, s in zip(batch["mask"], scales, strict=True)
    ]
    assert widths == pytest.approx(patches.diameters_mm[batch["index"]], abs=0.8)


def test_places_that_the_method_refuses_are_left_out_and_counted(made, capsys, tmp_path):
    patches = made(DenseBalls(most_mm=6))
    assert set(patches.diameters_mm) == {5}
    left = capsys.readouterr().err.split("healthy patches and refused ")[1].split(" others")[0]
    assert int(left) > 0
    with pytest.raises(InputError, match="no healthy place at which balls can put a nodule"):
        made(DenseBalls(most_mm=1), cache=tmp_path / "another")
