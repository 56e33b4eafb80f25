"""LuNG: its base set, its configuration, its networks, and what it generates."""

from itertools import product

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy import ndimage

from synthorax.errors import InputError
from synthorax.shapes.reconnection import ON_THRESHOLD
from synthorax.systems.lung.base_set import base_set, half_pixel_shift, repair_inverted, to_input, to_occupancy
from synthorax.systems.lung.config import PRESETS, LungConfig, lung_config
from synthorax.systems.lung.networks import ShapeAutoencoder
from synthorax.systems.lung.system import LATENT_BATCH, Lung, TrainingData
from tests.helpers.balls import ball_stack

SMALL_GRID = (4, 6, 8)
EIGHTEEN = ndimage.generate_binary_structure(3, 2)
DIAGONALS = [((0, y, x), (-1, -1 - y, -1 - x)) for y, x in product((0, -1), repeat=2)]


def random_occupancy(n, grid, seed=0):
    return np.random.default_rng(seed).random((n, *grid), np.float32)


def train(config, steps=None, seed=0):
    """A model trained without a run folder, and the figures of every step."""
    system, data = Lung.for_training(config, ball_stack(), seed)
    system.prepare_training(Fabric(accelerator="cpu", devices=1))
    count = config.iterations if steps is None else steps
    return system, [system.training_step(data(step), step)["mse"].item() for step in range(count)]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained():
    system, _ = train(lung_config("smoke", {"iterations": 200}))
    return Lung.restore(system.config.model_dump(mode="json"), system.weights())


@pytest.fixture(scope="module")
def wild():
    """A model whose fields are mostly in pieces: its generator's first layer is far too steep."""
    system, _ = Lung.for_training(lung_config("smoke", {"support": "all"}), ball_stack(), 5)
    with torch.no_grad():
        for layer in system.networks["autoencoder"].generator:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(8)
    return system


# The base set


def test_51_seeds_make_816_base_samples():
    samples = base_set(random_occupancy(51, (20, 40, 40)))
    assert samples.shape == (816, 20, 40, 40)
    assert samples.dtype == np.float32


def test_the_samples_of_a_seed_are_its_eight_reflections_with_and_without_the_shift():
    seeds = random_occupancy(3, SMALL_GRID)
    samples = base_set(seeds).reshape(3, 16, *SMALL_GRID)
    for seed, found in zip(seeds, samples, strict=True):
        axes = [tuple(a for a in range(3) if mirrored[a]) for mirrored in product((False, True), repeat=3)]
        expected = {np.flip(to_input(v), a).tobytes() for v in (seed, half_pixel_shift(seed)) for a in axes}
        assert len(expected) == 16
        assert {sample.tobytes() for sample in found} == expected
        np.testing.assert_array_equal(found[0], to_input(seed))


def test_the_base_set_leaves_its_seeds_alone():
    seeds = random_occupancy(2, SMALL_GRID)
    before = seeds.copy()
    base_set(seeds)
    np.testing.assert_array_equal(seeds, before)


def test_a_shifted_voxel_is_the_mean_of_itself_and_its_neighbours_before_it_in_x_y_and_both():
    occupancy = random_occupancy(1, SMALL_GRID)[0]
    shifted = half_pixel_shift(occupancy)
    for z, y, x in np.ndindex(SMALL_GRID):
        four = [occupancy[z, j, i] for j in (y - 1, y) for i in (x - 1, x) if j >= 0 and i >= 0]
        assert shifted[z, y, x] == pytest.approx(sum(four) / 4, abs=1e-6)


def test_the_shift_moves_a_nodule_by_half_a_pixel_in_x_and_y_only():
    ball = ball_stack((5,))[0]
    before, after = ndimage.center_of_mass(ball), ndimage.center_of_mass(half_pixel_shift(ball))
    assert np.subtract(after, before) == pytest.approx([0, 0.5, 0.5], abs=1e-4)


@pytest.mark.parametrize(
    ("occupancy", "grey"),
    [
        (0, 0),
        (0.2249, 0),
        (0.225, 0.651),
        (0.25, 0.651),
        (0.3, 0.701),
        (0.598, 0.999),
        (0.6, 1),
        (1, 1),
    ],
)
def test_the_input_map_sets_nodule_voxels_well_apart_from_the_background(occupancy, grey):
    assert to_input(np.array([occupancy], np.float32)) == pytest.approx(grey, abs=1e-6)


@pytest.mark.parametrize(
    ("grey", "occupancy"),
    [
        (0, 0),
        (0.3254, 0),
        (0.3255, 0.25),
        (0.6509, 0.25),
        (0.651, 0.25),
        (0.8, 0.399),
        (1, 0.599),
    ],
)
def test_the_output_map_has_the_papers_thresholds(grey, occupancy):
    assert to_occupancy(np.array([grey], np.float32)) == pytest.approx(occupancy, abs=1e-6)


def test_the_maps_undo_each_other_between_the_least_and_the_greatest_occupancy():
    occupancy = np.linspace(0.25, 0.599, 500, dtype=np.float32)
    np.testing.assert_allclose(to_occupancy(to_input(occupancy)), occupancy, atol=1e-6)


@pytest.mark.parametrize("ends", DIAGONALS)
def test_a_field_with_both_ends_of_a_body_diagonal_on_is_inverted(ends):
    fields = np.full((3, *SMALL_GRID), 0.1, np.float32)
    for end in ends:
        fields[1][end] = 0.9
    repaired, inverted = repair_inverted(fields)
    assert inverted.tolist() == [False, True, False]
    np.testing.assert_array_equal(repaired[1], 1 - fields[1])
    np.testing.assert_array_equal(repaired[[0, 2]], fields[[0, 2]])


@pytest.mark.parametrize("corner", [end for ends in DIAGONALS for end in ends])
def test_a_field_with_one_end_of_a_diagonal_on_is_not_inverted(corner):
    field = np.zeros((1, *SMALL_GRID), np.float32)
    field[0][corner] = 1
    repaired, inverted = repair_inverted(field)
    assert not inverted.any()
    np.testing.assert_array_equal(repaired, field)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_nodule_that_fills_one_side_of_the_grid_is_not_inverted(axis):
    field = np.zeros((1, *SMALL_GRID), np.float32)
    np.moveaxis(field[0], axis, 0)[0] = 1
    assert not repair_inverted(field)[1].any()


@pytest.mark.real_data
def test_the_original_seeds_use_7136_voxels_of_the_grid(real_data):
    samples = base_set(np.load(real_data / "lung-seeds" / "seeds.npy").astype(np.float32))
    assert len(samples) == 816
    assert samples.any(0).sum() == 7136


# The configuration


def test_the_defaults_are_the_papers():
    paper = LungConfig()
    assert paper == PRESETS["paper"]
    assert paper.layers == "32_3_64_1024"
    assert paper.grid == (20, 40, 40)
    assert paper.spacing_mm == (1.25, 0.7, 0.7)
    assert paper.iterations == 150_000
    assert paper.rounds == 6
    assert paper.batch_size == 128
    assert paper.learning_rate == 1e-4
    assert (paper.schedule, paper.support, paper.initialisation) == ("constant", "all", "default")


@pytest.mark.parametrize("layers", ["", "a", "32-3", "3_", "_3", "0_3", "03", "32__3", "3.5", "-3", "3_64 ", "999999"])
def test_a_layer_string_that_names_no_network_is_refused(layers):
    with pytest.raises(InputError, match="layer"):
        lung_config("smoke", {"layers": layers})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("layer", "32_3"),
        ("iterations", 0),
        ("iterations", "many"),
        ("iterations", 61),
        ("rounds", -1),
        ("rounds", 2.5),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", None),
        ("schedule", "linear"),
        ("support", "half"),
        ("initialisation", "zeros"),
        ("grid", (20, 40)),
        ("grid", (20, 0, 40)),
        ("grid", (20, -40, -40)),
        ("spacing_mm", "thin"),
        ("spacing_mm", (0, 0.7, 0.7)),
        ("spacing_mm", (-1.25, 0.7, 0.7)),
        ("spacing_mm", (float("nan"), 0.7, 0.7)),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_name(setting, value):
    with pytest.raises(InputError, match=setting):
        lung_config("smoke", {setting: value})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_the_way_through_its_file(preset):
    assert LungConfig.model_validate(PRESETS[preset].model_dump(mode="json")) == PRESETS[preset]


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        LungConfig().iterations = 1


# The networks


@pytest.mark.parametrize(
    ("layers", "index", "latent"),
    [
        ("32_3_64_1024", 1, 3),
        ("16_4_64_256_1024", 1, 4),
        ("8_2", 1, 2),
        ("3", 0, 3),
        ("2_8", 0, 2),
        ("64_16_1_16", 2, 1),
        ("3_16_3", 0, 3),
    ],
)
def test_any_layer_string_splits_at_its_narrowest_layer_into_feature_and_generator_networks(layers, index, latent):
    config = LungConfig(layers=layers, grid=SMALL_GRID)
    assert (config.bottleneck, config.latent_size) == (index, latent)
    support = torch.arange(5, 100, 3)
    network = ShapeAutoencoder(config, support)
    widths = [int(width) for width in layers.split("_")]
    linear = [[m for m in part if isinstance(m, torch.nn.Linear)] for part in (network.features, network.generator)]
    assert [layer.out_features for layer in linear[0]] == widths[: index + 1]
    assert [layer.out_features for layer in linear[1]] == [*widths[index + 1 :], len(support)]

    fields = torch.from_numpy(random_occupancy(7, SMALL_GRID))
    latents = network.encode(fields)
    made = network.decode(latents)
    assert latents.shape == (7, latent)
    assert made.shape == (7, *SMALL_GRID)
    voxels = fields.flatten(1)[:, support]
    torch.testing.assert_close(made.flatten(1)[:, support], network(voxels), rtol=0, atol=0)
    outside = torch.ones(made[0].numel(), dtype=torch.bool)
    outside[support] = False
    assert not made.flatten(1)[:, outside].any()


def test_latents_stay_between_minus_one_and_one_and_grey_values_between_zero_and_one(wild):
    occupancy = np.concatenate([ball_stack(), random_occupancy(8, (20, 40, 40))])
    latents = wild.encode(occupancy)
    assert abs(latents).max() <= 1
    fields = wild.decode(np.float32([[1, 1, 1], [-1, -1, -1], [0, 0, 0]]))
    assert fields.min() >= 0
    assert fields.max() <= 1
    assert fields.max() - fields.min() > 0.5


@pytest.mark.parametrize("layers", ["8_3_16_64", "8_2", "3", "4_1_8"])
def test_initialisation_from_the_data_spreads_the_latents_and_starts_at_the_mean_sample(layers):
    system, data = Lung.for_training(lung_config("smoke", {"layers": layers}), ball_stack(), 0)
    network = system.networks["autoencoder"]
    with torch.no_grad():
        raw = network.features[:-1](data.voxels)
        torch.testing.assert_close(raw.mean(0), torch.zeros(raw.shape[1]), rtol=0, atol=1e-2)
        torch.testing.assert_close(torch.atleast_2d(torch.cov(raw.T)), torch.eye(raw.shape[1]), rtol=0, atol=0.05)
        bias = torch.sigmoid(network.generator[-2].bias)
    torch.testing.assert_close(bias, data.voxels.mean(0).clamp(1e-3, 1 - 1e-3), rtol=0, atol=1e-4)


def test_first_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one, _ = Lung.for_training(PRESETS["smoke"], ball_stack(), 3)
    torch.manual_seed(2)
    same, _ = Lung.for_training(PRESETS["smoke"], ball_stack(), 3)
    other, _ = Lung.for_training(PRESETS["smoke"], ball_stack(), 4)
    weights, again, different = one.weights(), same.weights(), other.weights()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not all(torch.equal(weights[name], different[name]) for name in weights)


# Training


def test_a_short_training_lowers_the_error_to_less_than_half():
    _, figures = train(lung_config("smoke", {"iterations": 200}))
    assert np.mean(figures[-10:]) < figures[0] / 2
    assert np.isfinite(figures).all()


def test_the_logged_error_is_1000_times_the_mean_square_over_all_voxels_of_the_grid():
    system, data = Lung.for_training(PRESETS["smoke"], ball_stack(), 0)
    fields = torch.zeros(32, 20 * 40 * 40)
    support = system.networks["autoencoder"].support
    fields[:, support] = data(0)
    fields = fields.reshape(-1, 20, 40, 40)
    with torch.no_grad():
        network = system.networks["autoencoder"]
        expected = 1000 * (network.decode(network.encode(fields)) - fields).square().mean().item()
    system.prepare_training(Fabric(accelerator="cpu", devices=1))
    assert system.training_step(data(0), 0)["mse"].item() == pytest.approx(expected, rel=1e-4)


def test_adam_starts_anew_in_every_round():
    config = lung_config("smoke", {"iterations": 12, "rounds": 3})
    system, data = Lung.for_training(config, ball_stack(), 0)
    system.prepare_training(Fabric(accelerator="cpu", devices=1))
    ages = []
    for step in range(12):
        system.training_step(data(step), step)
        ages.append({int(state["step"]) for state in system.optimizers["adam"].state.values()})
    assert ages == [{1}, {2}, {3}, {4}] * 3


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_is_the_same_in_every_round_and_never_above_the_setting(schedule):
    config = lung_config("smoke", {"schedule": schedule, "learning_rate": 2e-3})
    system, data = Lung.for_training(config, ball_stack(), 0)
    system.prepare_training(Fabric(accelerator="cpu", devices=1))
    rates = []
    for step in range(60):
        system.training_step(data(step), step)
        rates.append(system.optimizers["adam"].param_groups[0]["lr"])
    assert rates[:30] == rates[30:]
    assert max(rates) <= 2e-3
    assert max(rates) > 1.8e-3
    if schedule == "constant":
        assert set(rates) == {2e-3}
    else:
        assert 0 < rates[29] < 1e-4


def test_a_batch_is_a_function_of_its_step_alone():
    data = TrainingData(torch.arange(64.0)[:, None], 16, seed=3)
    in_order = [data(step) for step in range(20)]
    for step in (17, 3, 3, 11, 0):
        assert torch.equal(data(step), in_order[step])
    fresh = TrainingData(torch.arange(64.0)[:, None], 16, seed=3)
    assert torch.equal(fresh(19), in_order[19])
    other = TrainingData(torch.arange(64.0)[:, None], 16, seed=4)
    assert not torch.equal(other(0), in_order[0])


def test_every_base_sample_is_seen_once_in_an_epoch_and_epochs_differ_in_order():
    data = TrainingData(torch.arange(64.0)[:, None], 16, seed=0)
    epochs = [torch.cat([data(4 * epoch + i) for i in range(4)]).flatten().tolist() for epoch in range(5)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(64))
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_no_base_sample_is_left_out_for_good_where_batches_do_not_divide_the_base_set():
    data = TrainingData(torch.arange(816.0)[:, None], 128, seed=0)
    per_epoch = [torch.cat([data(6 * epoch + i) for i in range(6)]).flatten().tolist() for epoch in range(10)]
    assert all(len(set(epoch)) == 6 * 128 for epoch in per_epoch)
    assert set().union(*per_epoch) == set(range(816))


def test_a_batch_larger_than_the_base_set_is_the_base_set():
    _, data = Lung.for_training(lung_config("smoke", {"batch_size": 5000}), ball_stack((5,)), 0)
    assert data(0).shape[0] == data(7).shape[0] == 16


@pytest.mark.parametrize("support", ["all", "base"])
def test_the_support_keeps_every_voxel_that_some_base_sample_uses(support):
    config = lung_config("smoke", {"support": support})
    system, data = Lung.for_training(config, ball_stack(), 0)
    chosen = system.networks["autoencoder"].support
    samples = base_set(ball_stack()).reshape(64, -1)
    assert len(chosen) == (32_000 if support == "all" else (samples > 0).any(0).sum())
    np.testing.assert_array_equal(data.voxels.numpy(), samples[:, chosen])
    assert data.voxels.sum().item() == pytest.approx(samples.sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("seeds", "found"),
    [
        (np.zeros((0, 20, 40, 40), np.float32), "no nodule"),
        (np.zeros((2, 20, 40, 40), np.float32), "nodule 0"),
        (np.full((1, 20, 40, 40), 0.2, np.float32), "nodule 0"),
        (np.ones((1, 20, 40, 39), np.float32), "shape"),
        (np.ones((20, 40, 40), np.float32), "shape"),
        (np.full((1, 20, 40, 40), np.nan, np.float32), "NaN"),
        (np.full((1, 20, 40, 40), -0.5, np.float32), "-0.5"),
        (np.full((1, 20, 40, 40), 2, np.float32), "2"),
    ],
)
def test_what_is_no_stack_of_seeds_is_refused_before_training_and_before_encoding(trained, seeds, found):
    with pytest.raises(InputError, match=found):
        Lung.for_training(PRESETS["smoke"], seeds, 0)
    with pytest.raises(InputError, match=found):
        trained.encode(seeds)


# What it makes


def test_a_sample_is_the_same_however_many_are_made_and_wherever_the_count_starts(trained):
    many = trained.sample(LATENT_BATCH + 6, seed=9)
    few = trained.sample(5, seed=9)
    late = trained.sample(4, seed=9, start=LATENT_BATCH + 2)
    for name in ("latents", "fields", "inverted", "n_components"):
        whole = getattr(many, name)
        np.testing.assert_array_equal(getattr(few, name), whole[:5])
        np.testing.assert_array_equal(getattr(late, name), whole[LATENT_BATCH + 2 :])


def test_another_seed_gives_other_samples_which_fill_the_latent_cube(trained):
    one, other = trained.draw_latents(300, 0), trained.draw_latents(300, 1)
    assert not np.isclose(one, other).all(1).any()
    assert one.min() < -0.95
    assert one.max() > 0.95
    assert abs(one).max() <= 1
    assert abs(one.mean(0)).max() < 0.15


def test_no_samples_are_an_empty_set_of_the_right_shape(trained):
    made = trained.sample(0, seed=0)
    assert made.fields.shape == (0, 20, 40, 40)
    assert made.latents.shape == (0, 3)


def test_a_walk_ends_at_what_its_two_nodules_are_encoded_to(trained):
    small, *_, large = ball_stack()
    walk = trained.walk(small, large, 5)
    ends = trained.generate(trained.encode(np.stack([small, large])))
    np.testing.assert_array_equal(walk.fields[[0, -1]], ends.fields)
    steps = np.diff(walk.latents, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-6)


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_walk_has_at_least_its_two_ends(trained, steps):
    with pytest.raises(InputError, match="walk"):
        trained.walk(ball_stack()[0], ball_stack()[1], steps)


@pytest.mark.parametrize("radius", [0.01, 0.2, 2.0])
def test_nodules_near_another_stay_within_the_radius_and_the_latent_cube(trained, radius):
    nodule = ball_stack()[2]
    centre = trained.encode(nodule[None])
    near = trained.near(nodule, 40, radius, seed=1)
    away = abs(near.latents - centre)
    assert away.max() <= radius + 1e-6
    assert abs(near.latents).max() <= 1


@pytest.mark.parametrize("radius", [0.2, 1.0, 2.0])
def test_no_two_nodules_near_another_are_the_same(trained, radius):
    near = trained.near(ball_stack()[2], 40, radius, seed=1)
    assert len(np.unique(near.latents, axis=0)) == 40


@pytest.mark.parametrize("radius", [0.0, -0.1, 2.1, float("nan"), float("inf")])
def test_a_radius_outside_the_latent_space_is_refused(trained, radius):
    with pytest.raises(InputError, match="radius"):
        trained.near(ball_stack()[0], 2, radius, seed=0)


def test_a_nearer_radius_makes_nodules_more_like_the_given_one(trained):
    nodule = ball_stack()[1]
    own = trained.generate(trained.encode(nodule[None])).fields
    close, far = (abs(trained.near(nodule, 20, r, seed=0).fields - own).mean() for r in (0.05, 1.0))
    assert close < far / 2


@pytest.mark.parametrize("seed", range(3))
def test_every_generated_nodule_is_one_piece_even_out_of_a_wild_network(trained, wild, seed):
    for system in (trained, wild):
        made = system.sample(20, seed)
        assert [ndimage.label(mask, EIGHTEEN)[1] for mask in made.masks] == [1] * 20


def test_the_count_of_pieces_is_that_of_the_raw_field(wild):
    raw = wild.sample(20, 0, reconnected=False)
    pieces = [ndimage.label(field >= ON_THRESHOLD, EIGHTEEN)[1] for field in raw.fields]
    assert raw.n_components.tolist() == pieces
    assert max(pieces) > 1, "a network this wild must leave something to reconnect"
    assert wild.sample(20, 0).n_components.tolist() == pieces


def test_reconnection_leaves_whole_nodules_alone_and_only_adds_to_broken_ones(wild):
    raw, made = wild.sample(20, 1, reconnected=False), wild.sample(20, 1)
    clean = raw.n_components == 1
    np.testing.assert_array_equal(made.fields[clean], raw.fields[clean])
    assert not (raw.masks & ~made.masks).any()


def test_a_model_restored_from_its_weights_makes_the_same_samples(trained):
    system, _ = train(lung_config("smoke", {}), steps=5)
    again = Lung.restore(system.config.model_dump(mode="json"), system.weights())
    before, after = system.sample(10, 4), again.sample(10, 4)
    np.testing.assert_array_equal(after.fields, before.fields)
    np.testing.assert_array_equal(after.latents, before.latents)
    assert not np.array_equal(trained.sample(10, 4).fields, after.fields)


def test_a_trained_model_tells_its_seeds_apart_by_size(trained):
    made = trained.generate(trained.encode(ball_stack()))
    volumes = made.masks.sum((1, 2, 3))
    assert volumes[-1] > 2 * volumes[0]


def test_samples_are_decoded_where_the_networks_are(monkeypatch):
    system, _ = Lung.for_training(lung_config("smoke", {}), ball_stack(), 0)
    system.move(torch.device("meta"))
    asked = []
    monkeypatch.setattr(
        system.networks["autoencoder"],
        "decode",
        lambda z: asked.append(z.device.type) or torch.zeros(len(z), 20, 40, 40),
    )
    assert system.decode(np.zeros((3, system.config.latent_size), np.float32)).shape == (3, 20, 40, 40)
    assert set(asked) == {"meta"}
