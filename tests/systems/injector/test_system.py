"""The injector: its inputs and training, and the shapes of its nodules."""

import numpy as np
import pytest
import torch

from synthorax.errors import InputError
from synthorax.makers import Edit, Lineage, fill
from synthorax.nodule import NoduleAttributes
from synthorax.rendering.config import ShapeOptions
from synthorax.systems.injector.config import PRESETS, InjectorConfig, TrainingOptions
from synthorax.systems.injector.system import Injector
from synthorax.systems.injector.training import training
from synthorax.training.voi_gan import ADVERSARIAL_STAGE, WARM_UP_STAGE
from synthorax.volume import Volume
from tests.helpers.stores import cases, store_of

SMOKE = PRESETS["smoke"]
MM = (1.0, 1.0, 1.0)


def changed(**settings):
    return InjectorConfig.model_validate(SMOKE.model_dump() | settings)


def filled(system, seed=0, mm=6.0, shapes=None):
    """Return lung with a nodule added at its centre."""
    method = system.editor(Lineage("injector"), ShapeOptions(shapes=shapes))
    reach, radius = method.reach_mm(Edit("inject", NoduleAttributes(diameter_mm=mm)))
    n = 2 * int(np.ceil(reach)) + 1
    hu = np.random.default_rng(0).normal(-850, 20, (n, n, n)).astype(np.float32)
    region = np.sqrt(((np.indices(hu.shape) - n // 2) ** 2).sum(0)) <= radius
    return fill(method, Volume(hu, MM), region, Edit("inject", NoduleAttributes(diameter_mm=mm)), seed)


def test_training_shows_every_nodule_by_vois_of_2_to_two_and_a_half_diameters_with_the_same_ball_erased(tmp_path):
    store = store_of(tmp_path / "store", cases(4, size=40))
    ready = training(SMOKE, store, 0, TrainingOptions(cache=tmp_path / "cache"))
    patches = ready.stages[0].batches.patches
    widths = [16 * 0.75 * place.scale / mm for place, mm in zip(patches.places, patches.diameters_mm, strict=True)]
    wide = [width for width, mm in zip(widths, patches.diameters_mm, strict=True) if mm > 6]
    assert sorted({round(width, 6) for width in wide}) == [2.0, 2.25, 2.5]
    batch = ready.stages[0].batches(0)
    assert batch["region"].sum((1, 2, 3, 4)).unique().numel() == 1
    assert (batch["outline"] <= batch["region"]).all()
    assert [(stage.name, stage.steps) for stage in ready.stages] == [(WARM_UP_STAGE, 3), (ADVERSARIAL_STAGE, 3)]


def test_what_is_in_the_erased_ball_is_not_seen():
    system = Injector(SMOKE)
    patches, noise, condition = torch.rand(2, 1, 16, 16, 16), torch.rand(2, 1, 16, 16, 16), torch.zeros(2, 2)
    region = torch.zeros_like(patches)
    region[..., 5:11, 5:11, 5:11] = 1
    other = torch.where(region > 0, torch.rand_like(patches), patches)
    one, two = (system.make(system.filling, each, region, noise, condition, region) for each in (patches, other))
    assert torch.equal(one.values, two.values)


def test_the_papers_injector_makes_the_same_nodule_whatever_the_noise_and_says_where_it_is():
    system = Injector(changed(outlines=False, shown=()))
    patches, condition = torch.rand(1, 1, 16, 16, 16), torch.zeros(1, 0)
    region = torch.ones_like(patches)
    (one, mask), (two, _) = (system.filled(patches, region, condition, torch.rand_like(patches)) for _ in range(2))
    assert torch.equal(one, two)
    assert mask.shape == (16, 16, 16)
    assert (PRESETS["paper"].size, PRESETS["paper"].erased, PRESETS["paper"].near_weight) == ((64, 64, 64), 0.5, 5.0)


def test_seeds_have_outlines_of_their_own():
    system = Injector(SMOKE)
    first, again, other = (filled(system, seed) for seed in (1, 1, 2))
    assert (first.mask == again.mask).all()
    assert (first.mask != other.mask).any()
    assert first.outline.startswith("LIDC-IDRI-")


def test_a_mask_of_ones_own_gives_the_nodule_its_shape_and_one_that_does_not_fit_is_cut_off_and_told():
    system = Injector(SMOKE)
    flat = np.zeros((9, 25, 25), bool)
    flat[4, 8:17, 8:17] = True
    made = filled(system, 3, 6.0, Volume(flat, MM))
    z, y, x = np.ptp(np.argwhere(made.mask), axis=0) + 1
    assert z < min(y, x)
    assert made.outline == ""
    assert made.notes == ()
    long = np.zeros((61, 9, 9), bool)
    long[:, 3:6, 3:6] = True
    (note,) = filled(system, 3, 6.0, Volume(long, MM)).notes
    assert "lie outside the edit region" in note


def test_shapes_for_a_network_that_is_told_none_are_refused():
    with pytest.raises(InputError, match="shapes: found given for a injector that was trained without outlines"):
        filled(Injector(changed(outlines=False)), shapes=Volume(np.ones((3, 3, 3), bool), MM))


def test_a_nodule_whose_voi_would_have_coarser_voxels_is_refused():
    with pytest.raises(InputError, match=r"diameter: found 15 mm; expected at most 14\.2"):
        filled(Injector(SMOKE), mm=15.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": (18, 16, 16)}, "voxels divisible by 4"),
        ({"erased": 1.0}, "erased"),
        ({"voi": (0.9,)}, "widths above 1 diameter"),
        ({"widths": (6, 8)}, "a multiple of 4 first"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        changed(**settings)
