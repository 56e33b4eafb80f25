"""The training of Pix2Pix and CycleGAN: inputs, the pool of earlier fakes, schedules, and stores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.tissue import with_tissue
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.makers import Lineage
from synthorax.systems.translation.coding import cleaned, coded, correlated
from synthorax.systems.translation.config import PRESETS, TrainingOptions, TranslationConfig
from synthorax.systems.translation.maker import TranslationPainter
from synthorax.systems.translation.pool import exchanged
from synthorax.systems.translation.system import CT_POOL, Translation
from synthorax.systems.translation.training import training
from synthorax.training.devices import make_fabric
from synthorax.volume import Volume
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

pytestmark = pytest.mark.usefixtures("one_thread")

SMOKE = PRESETS["smoke"]
SMALL = {"size": (1, 32, 32), "width": 4, "blocks": 1, "critic_width": 4, "batch_size": 2, "pool": 3, "precision": "32"}


def config(**settings):
    return TranslationConfig.model_validate(SMALL | settings)


def stepped(model, batches, steps=1):
    model.prepare_training(make_fabric("cpu", 1, 1, "32"))
    model.enter("gan")
    return [model.training_step(batches(step), step) for step in range(steps)]


def batch_of(config, seed=0):
    rng = np.random.default_rng(seed)
    shape = (config.batch_size, config.depth, *config.size[1:])
    tissue = torch.from_numpy(rng.integers(0, 7, shape).astype(np.uint8))
    return {"tissue": tissue, "ct": torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))[:, None]}


def test_the_thesis_shows_a_class_as_its_code_and_ours_as_a_channel_of_its_own():
    tissue = torch.arange(7, dtype=torch.uint8)[None]
    published = coded(tissue, config(as_published=True))
    torch.testing.assert_close(published[0, 0], torch.tensor([-1, -1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3]))
    assert torch.equal(coded(tissue, config())[0], torch.eye(7))


def test_a_mask_shows_the_nodules_alone_and_its_noise_goes_up_to_a_twentieth():
    tissue = torch.arange(7, dtype=torch.uint8)[None]
    mask = coded(tissue, config(inputs="mask", as_published=True))[0, 0]
    assert mask.tolist() == [-1] * 6 + [1]
    noise = torch.linspace(0, 1, 7)[None]
    noisy = coded(tissue, config(inputs="mask-noise", as_published=True), noise)[0, 0]
    torch.testing.assert_close(noisy[:6], -1 + 0.1 * noise[0, :6])
    assert noisy[6] == 1


@pytest.mark.parametrize(("correlation", "shape"), [(0.6, (64, 64, 64)), (0.3, (64, 64, 64)), (0.7, (1, 400, 400))])
def test_noise_gets_the_correlation_of_neighbours_and_keeps_its_variance(correlation, shape):
    white = torch.randn((1, 1, *shape), generator=torch.Generator().manual_seed(0))
    found = correlated(white, correlation)[0, 0]
    assert found.var().item() == pytest.approx(1, abs=0.05)
    for axis in [i for i, n in enumerate(shape) if n > 1]:
        before, after = (found.narrow(axis, i, shape[axis] - 1) for i in (0, 1))
        assert (before * after).mean().item() == pytest.approx(correlation, abs=0.03)
    assert torch.equal(correlated(white, 0.0), white)


def test_a_cleaned_label_map_has_no_speckle_and_its_nodules_to_the_voxel():
    tissue = torch.full((1, 9, 9, 9), int(TissueClass.SOFT), dtype=torch.uint8)
    tissue[0, 2, 2, 2] = TissueClass.FAT
    tissue[0, 6, 6, 6] = TissueClass.NODULE
    tissue[0, :, :, :1] = TissueClass.BONE
    found = cleaned(tissue)
    assert (found == TissueClass.FAT).sum() == 0
    assert (found == TissueClass.NODULE).sum() == 1
    assert found[0, 6, 6, 6] == TissueClass.NODULE
    assert (found[0, 4, 4, 2:] == TissueClass.SOFT).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_a_single_slice_is_cleaned_within_itself(depth):
    tissue = torch.full((2, depth, 9, 9), int(TissueClass.SOFT), dtype=torch.uint8)
    tissue[0, :, 2, 2] = TissueClass.FAT
    tissue[1] = TissueClass.BONE
    found = cleaned(tissue)
    assert (found[0] == TissueClass.SOFT).all()
    assert (found[1] == TissueClass.BONE).all()


def test_the_learning_rate_stays_for_half_of_the_steps_and_then_falls_to_nothing():
    published = PRESETS["paper2d"]
    steps = [0, 25_500, 38_250, 51_000]
    assert [published.rate(step) for step in steps] == [1.0, 1.0, 0.5, 0.0]
    assert published.steps == 200 * -(-8156 // published.batch_size)


def test_the_pool_gives_new_windows_until_it_is_full_and_then_old_ones_half_of_the_time():
    memory, rng = {}, np.random.default_rng(0)
    first = exchanged(memory, "pool", torch.arange(5.0)[:, None], 5, rng)
    assert first[:, 0].tolist() == [0, 1, 2, 3, 4]
    new = torch.arange(100.0, 300.0)[:, None]
    seen = exchanged(memory, "pool", new, 5, rng)
    was_new = (seen == new).float().mean()
    assert 0.4 < was_new < 0.6
    assert len(memory["pool"]) == 5
    swapped = (seen != new)[:, 0]
    assert set(memory["pool"][:, 0].tolist()) <= set(new[swapped, 0].tolist())  # what was given out was replaced


VARIANTS = [
    {"model": "cyclegan"},
    {"model": "cyclegan", "slices": 3, "noise": 1},
    {"model": "pix2pix", "slices": 3, "noise": 2, "pooled": 3},
    {"model": "pix2pix", "inputs": "mask-noise"},
    {"model": "cyclegan", "inputs": "mask", "parts": 2},
    {"model": "cyclegan", "as_published": True},
    {"model": "pix2pix", "as_published": True},
    {"model": "cyclegan", "size": (16, 16, 16), "fold": 2, "noise": 1},
    {"model": "pix2pix", "size": (16, 16, 16)},
    {"model": "cyclegan", "size": (32, 32, 32), "as_published": True, "checkpoints": True},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: " ".join(map(str, settings.values())))
def test_every_variant_updates_every_network_and_tells_finite_figures(settings):
    chosen = config(**settings)
    model = Translation(chosen, 1)
    before = {name: [p.clone() for p in network.parameters()] for name, network in model.networks.items()}
    (figures,) = stepped(model, lambda step: batch_of(chosen))
    for name, network in model.networks.items():
        moved = [not torch.equal(a, b) for a, b in zip(before[name], network.parameters(), strict=True)]
        assert np.mean(moved) > 0.6, name  # a bias before a norm has no gradient
    assert all(np.isfinite(float(value)) for value in figures.values())
    assert ("cycle_ct" in figures) == (chosen.model == "cyclegan")
    assert ("reconstruction" in figures) == (chosen.model == "pix2pix")
    assert (CT_POOL in model.memory) == (chosen.model == "cyclegan")


def test_a_batch_in_parts_gives_the_update_of_the_whole():
    """The thesis' figures are means over windows, so parts add up to the whole where no norm looks across windows."""
    models = []
    for parts in (1, 2):
        chosen = config(parts=parts, pool=0)
        models.append(Translation(chosen, 1))
        stepped(models[-1], lambda step, chosen=chosen: batch_of(chosen))
    for one, other in zip(*(model.networks["painter"].parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)


def cubes(n=3, size=24, **options):
    return [with_tissue(ball_case(f"patient{i}", 6 + i, size=size, seed=i, **options)) for i in range(n)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("cubes") / "store", cubes())


def prepared(store, tmp_path, labels=None, **settings):
    chosen = TranslationConfig.model_validate(SMOKE.model_dump() | settings)
    return training(chosen, store, 3, TrainingOptions(labels=labels, cache=tmp_path))


def test_pix2pix_sees_a_label_map_with_its_own_ct_and_cyclegan_with_anothers(store, tmp_path):
    def agree(model):
        batch = prepared(store, tmp_path, model=model, cleaned=0.0).stages[0].batches(4)
        dense = batch["ct"][:, 0] > -0.3  # between lung and the ball
        return (dense == (batch["tissue"] == TissueClass.NODULE)).float().mean(dim=(1, 2, 3))

    assert (agree("pix2pix") == 1).all()
    assert (agree("cyclegan") < 1).any()


def test_metal_is_soft_tissue_in_the_ct_as_in_the_label_map(tmp_path):
    case = ball_case("metal", 8, size=24)
    hu = case.ct.voxels.copy()
    hu[:, :2] = 3000
    store = store_of(tmp_path / "store", [with_tissue(replace(case, ct=replace(case.ct, voxels=hu)))])
    batch = prepared(store, tmp_path, model="pix2pix", cleaned=0.0).stages[0].batches
    found = torch.cat([batch(step)["ct"] for step in range(8)])
    assert SMOKE.patch.to_hu(found).max() < 400


def test_label_maps_may_come_from_another_store_and_its_patients_count_as_seen(store, tmp_path):
    other = store_of(tmp_path / "labels", [with_tissue(ball_case("somebody", 9, size=24))])
    made = prepared(store, tmp_path, labels=other.path)
    assert set(made.data["patients"]["train"]) == {"patient0", "patient1", "patient2", "somebody"}
    shares = made.model.facts["classes"]
    assert shares[TissueClass.NODULE] == pytest.approx((other.read("somebody").tissue == TissueClass.NODULE).mean())


def test_two_stores_for_pix2pix_or_of_other_spacing_or_with_held_out_patients_are_refused(store, tmp_path):
    coarse = store_of(tmp_path / "coarse", cubes(1, size=16, voxel_mm=2.0))
    with pytest.raises(InputError, match="for Pix2Pix; expected one store"):
        prepared(store, tmp_path, labels=coarse.path, model="pix2pix")
    with pytest.raises(InputError, match=r"voxels of 2 x 2 x 2 mm; expected 1 x 1 x 1 mm .* at the other's spacing"):
        prepared(store, tmp_path, labels=coarse.path)
    held = store_of(tmp_path / "held", [*cubes(1), replace(cubes(2)[1], split="test")])
    with pytest.raises(InputError, match="of 1 patients of the data's validation and test splits, such as patient1"):
        prepared(held, tmp_path, labels=store.path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"slices": 2}, "slices: found 2"),
        ({"size": (16, 16, 16), "slices": 3}, "slices: found 3"),
        ({"size": (1, 30, 32)}, "multiples of 4"),
        ({"as_published": True, "noise": 1}, "fold 1, noise 0 and critic_contrast 1"),
        ({"as_published": True, "critic_contrast": 4}, "fold 1, noise 0 and critic_contrast 1"),
        ({"as_published": True, "size": (1, 16, 16)}, "32 voxels or more"),
        ({"as_published": True, "model": "pix2pix", "size": (1, 48, 48)}, "powers of two"),
        ({"parts": 3}, "a divisor of batch_size"),
        ({"pooled": 2}, "an odd number"),
        ({"turns": True, "size": (1, 32, 16)}, "as wide along x as along y"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        config(**settings)


# The painter


def painter_of(classes=range(7), **settings):
    shares = torch.tensor([1.0 if own in set(classes) else 0.0 for own in range(7)])
    return TranslationPainter(Translation(config(**settings), 2, shares), Lineage("translation"))


def window(shape, seed=0):
    voxels = np.random.default_rng(seed).integers(0, 7, shape).astype(np.uint8)
    return Volume(voxels, (1.0, 1.0, 1.0), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    "settings",
    [{"noise": 1}, {"noise": 1, "slices": 5}, {"as_published": True}, {"noise": 1, "size": (16, 16, 16), "fold": 2}],
    ids=["slices", "neighbours", "published", "volume"],
)
def test_a_window_is_painted_at_its_place_in_hu(settings):
    painter = painter_of(**settings)
    size = tuple(min(n, 32) for n in painter.largest)
    labels = window((size[0] + 2 * painter.context, *size[1:]))
    made = painter.paint(labels, (4, 8, 16), 5)
    assert made.shape == size
    assert made.voxels.dtype == np.float32
    assert (np.abs(made.voxels) <= 3071).all()
    assert made.origin_mm == (1.0, 2.0, 3.0 + painter.context)


def test_texture_belongs_to_the_voxel_of_the_whole_map_and_not_to_the_window():
    painter = painter_of(noise=1, noise_correlation=0.6, size=(16, 16, 16))
    labels = replace(window((48, 16, 16)), voxels=np.full((48, 16, 16), TissueClass.OTHER, np.uint8))
    first = painter.paint(labels, (0, 0, 0), 5).voxels
    later = replace(labels, voxels=labels.voxels[:32])
    again = painter.paint(later, (16, 0, 0), 5).voxels
    np.testing.assert_allclose(first[30:34], again[14:18], atol=0.5)  # far from both windows' ends
    other = painter.paint(later, (0, 0, 0), 5).voxels
    assert np.abs(first[30:34] - other[14:18]).max() > 2


def test_slices_are_painted_from_their_own_neighbours():
    painter = painter_of(slices=3)
    labels = window((8, 32, 32))
    together = painter.paint(labels, (0, 0, 0), 0).voxels
    alone = painter.paint(replace(labels, voxels=labels.voxels[2:5]), (2, 0, 0), 0).voxels
    np.testing.assert_allclose(together[2:3], alone, atol=0.01)


def test_what_is_outside_is_air_where_no_model_has_seen_the_outside():
    labels = window((16, 16, 16))
    made = painter_of(range(1, 7), size=(16, 16, 16)).paint(labels, (0, 0, 0), 0).voxels
    assert (made[labels.voxels == TissueClass.OUTSIDE] == AIR_HU).all()
    assert 0 not in painter_of(range(1, 7), size=(16, 16, 16)).codes
    assert 0 in painter_of(range(1, 7), as_published=True).codes  # there it is of one code with lung


def test_a_window_of_a_size_that_it_does_not_take_is_refused():
    painter = painter_of(size=(16, 16, 16))
    with pytest.raises(InputError, match=r"window: found \(8, 16, 16\) voxels"):
        painter.paint(window((8, 16, 16)), (0, 0, 0), 0)


@pytest.mark.prove
@pytest.mark.parametrize(
    ("preset", "settings"),
    [("paper2d", {"batch_size": 8, "parts": 4}), ("paper2d", {"model": "pix2pix"}), ("paper3d", {})],
    ids=["paper2d", "paper2d pix2pix", "paper3d"],
)
def test_a_step_at_the_size_of_the_thesis(preset, settings):
    chosen = TranslationConfig.model_validate(PRESETS[preset].model_dump() | settings | {"precision": "32"})
    model = Translation(chosen, 0)
    (figures,) = stepped(model, lambda step: batch_of(chosen))
    assert all(np.isfinite(float(value)) for value in figures.values())
