"""The fit of LuNG's autoencoder: arranged latent vectors, shapes between training shapes, and one convex layer."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy.spatial.distance import cdist
from torch import nn

from synthorax import api
from synthorax.shapes.reconnection import ON_LEAST, ON_THRESHOLD
from synthorax.systems.lung import arrangement
from synthorax.systems.lung.arrangement import REACH, arrange
from synthorax.systems.lung.base_set import base_set, to_input
from synthorax.systems.lung.config import lung_config
from synthorax.systems.lung.depth import signed_depth, soft_field
from synthorax.systems.lung.feedback import Feedback, train_in_rounds
from synthorax.systems.lung.fit import fit_gradient
from synthorax.systems.lung.morphs import morph, neighbour_pairs
from synthorax.systems.lung.system import Lung

SPACING_MM = (1.25, 0.7, 0.7)
FIT = {"layers": "8_3_16_64", "iterations": 25}

pytestmark = pytest.mark.usefixtures("one_thread")


def ellipsoids(n, seed=0):
    """Occupancies [n, 20, 40, 40] of ellipsoids of random size and lie."""
    random = np.random.default_rng(seed)
    axes = np.indices((20, 40, 40)).reshape(3, -1).T * SPACING_MM - np.array([9.5, 19.5, 19.5]) * SPACING_MM
    made = []
    for _ in range(n):
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        inside = ((axes @ turn / random.uniform(2, 7, 3)) ** 2).sum(1) <= 1
        made.append(inside.reshape(20, 40, 40))
    return np.array(made, np.float32)


def train(settings, seeds, seed=0):
    config = lung_config("compact", FIT | settings)
    system, data = Lung.for_training(config, seeds, seed)
    system.prepare_training(Fabric(accelerator="cpu", devices=1))
    return system, [system.training_step(data(step), step)["mse"].item() for step in range(config.iterations)]


# Arrangement


@pytest.mark.parametrize(("landmarks", "latent_size"), [(512, 3), (16, 3), (512, 2), (512, 5)])
def test_like_nodules_get_near_places_and_the_places_fill_the_cube(monkeypatch, landmarks, latent_size):
    monkeypatch.setattr(arrangement, "LANDMARKS", landmarks)
    fields = to_input(ellipsoids(60))
    places = arrange(fields, latent_size, SPACING_MM, seed=0)
    assert places.shape == (60, latent_size)
    assert np.abs(places).max() <= REACH
    assert len(np.unique(places, axis=0)) == 60
    assert np.abs(places.mean(0)).max() < 0.1
    differ = cdist(fields.reshape(60, -1), fields.reshape(60, -1))
    apart = cdist(places, places)
    nearest = np.argsort(apart, axis=1)[:, 1:4]
    assert np.take_along_axis(differ, nearest, 1).mean() < 0.9 * differ[~np.eye(60, dtype=bool)].mean()


def test_an_arrangement_is_a_function_of_its_seed():
    fields = to_input(ellipsoids(20))
    one = arrange(fields, 3, SPACING_MM, seed=1)
    np.testing.assert_array_equal(one, arrange(fields, 3, SPACING_MM, seed=1))
    assert not np.array_equal(one, arrange(fields, 3, SPACING_MM, seed=2))


# Shapes in between


def test_neighbours_are_those_with_no_third_between_them():
    line = np.float32([[-1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0.9, 0]])
    assert neighbour_pairs(line).tolist() == [[0, 1], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert neighbour_pairs(line[:1]).shape == (0, 2)


def test_the_mean_shape_of_two_balls_is_the_ball_of_the_mean_radius(ball):
    fields = np.stack([to_input(ball(diameter).astype(np.float32)) for diameter in (8, 16, 12)])
    between, same = morph(fields, np.array([[0, 1], [1, 1]]), SPACING_MM, 0.0)
    middle = (fields[2] > 0).sum()
    assert abs((between > 0).sum() - middle) < 0.1 * middle
    np.testing.assert_array_equal(same > 0, fields[1] > 0)
    assert between[between > 0].min() >= ON_LEAST


def test_thickening_grows_the_shape_by_as_much_on_every_side(ball):
    field = to_input(ball(8).astype(np.float32))[None]
    (thicker,) = morph(field, np.array([[0, 0]]), SPACING_MM, 1.0)
    radius = (3 * (thicker > 0).sum() * np.prod(SPACING_MM) / (4 * np.pi)) ** (1 / 3)
    assert radius == pytest.approx(5, abs=0.35)


def test_of_a_nodule_and_an_empty_one_nothing_lies_between():
    fields = np.stack([to_input(ellipsoids(1)[0]), np.zeros((20, 40, 40), np.float32)])
    assert not morph(fields, np.array([[0, 1]]), SPACING_MM, 0.2).any()


def test_a_soft_field_is_on_just_inside_the_edge_and_falls_off_evenly(ball):
    masks = np.stack([ball(9), np.zeros((20, 40, 40), bool)])
    depth = signed_depth(masks.astype(np.float32), SPACING_MM)
    field = soft_field(depth, 1.5)
    np.testing.assert_array_equal(field[0] >= ON_THRESHOLD, masks[0])
    assert not field[1].any()
    shallow = abs(depth[0]) < 3
    odds = np.log(field[0][shallow] / (1 - field[0][shallow]))
    slope, _ = np.polyfit(depth[0][shallow], odds, 1)
    assert slope == pytest.approx(1 / 1.5, rel=1e-3)


def test_the_mean_of_two_soft_fields_is_the_soft_field_of_the_mean_ball(ball):
    fields = np.stack([soft_field(signed_depth(ball(d)[None].astype(np.float32), SPACING_MM), 1.0)[0] for d in (8, 16)])
    (between,) = morph(fields, np.array([[0, 1]]), SPACING_MM, 0.0, edge_mm=1.0)
    middle = ball(12).sum()
    assert abs((between >= ON_THRESHOLD).sum() - middle) < 0.1 * middle


def test_smooth_nodules_stay_smoother_as_distance_fields_than_as_grey_values():
    seeds = ellipsoids(10)
    clean = {}
    for target in ("grey", "distance"):
        settings = {"layers": "16_3_64_256", "target": target, "reflected": False, "morph_thickening_mm": 0.0}
        system, _ = train(settings, seeds)
        learned = system.decode(system.encode(seeds)) >= ON_THRESHOLD
        real = seeds > 0
        assert 2 * (learned & real).sum() / (learned.sum() + real.sum()) > 0.9
        clean[target] = (system.sample(200, 1).n_components == 1).mean()
    assert clean["distance"] > clean["grey"]


# The fit


def test_a_pass_takes_the_preconditioned_gradient_of_the_weighted_cross_entropy():
    _, data = Lung.for_training(lung_config("compact", FIT), ellipsoids(3), 0)
    fit = data(0)
    layer = nn.Linear(fit.hidden.shape[1], fit.voxels.shape[1])
    gradient, error = fit_gradient(layer, fit, ridge=0.3)
    logits = fit.hidden @ layer.weight.T + fit.bias
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, fit.voxels, reduction="none").sum(1)
    ((entropy * fit.weights).sum() + 0.15 * layer.weight.square().sum()).backward()
    torch.testing.assert_close(gradient, layer.weight.grad @ fit.preconditioner, rtol=1e-3, atol=1e-4)
    squares = ((torch.sigmoid(logits) - fit.voxels) ** 2).sum(1)
    torch.testing.assert_close(error, (squares * fit.weights).sum() / fit.weights.sum())


def test_the_fit_converges_and_reproduces_the_nodules():
    seeds = ellipsoids(4)
    system, errors = train({"layers": "16_3_64_512"}, seeds)
    learned = system.decode(system.encode(seeds))
    target = to_input(seeds)
    assert errors[-1] < 0.2 * errors[0]
    assert errors[-1] < 0.01 * 1000 * np.square(to_input(seeds)).mean()
    assert np.square(learned - target).mean() < 0.05 * np.square(target - target.mean(0)).mean()


def test_a_nodule_and_its_half_pixel_shift_get_the_same_place_and_the_cube_is_used():
    system, _ = train({"iterations": 1}, seeds := ellipsoids(6))
    base = base_set(seeds)
    with torch.no_grad():
        latents = system.networks["autoencoder"].encode(torch.from_numpy(base)).numpy()
    apart = np.linalg.norm(latents[::2] - latents[1::2], axis=1)
    assert np.median(apart) < 0.35 * np.median(cdist(latents[::2], latents[::2]))
    assert latents.min() < -0.8
    assert latents.max() > 0.8


def test_training_on_shapes_in_between_makes_latents_between_two_nodules_give_these_shapes():
    seeds = ellipsoids(8)
    missed = []
    for weight in (0.0, 0.3):
        system, _ = train({"layers": "16_3_64_512", "morph_weight": weight}, seeds)
        latents = system.encode(seeds)
        pairs = neighbour_pairs(latents)
        between = morph(to_input(seeds), pairs, SPACING_MM, system.config.morph_thickening_mm)
        missed.append(np.square(system.decode(latents[pairs].mean(1)) - between).mean())
    assert missed[1] < 0.7 * missed[0]


@pytest.mark.parametrize("layers", ["3_16", "8_3", "4_8_2_8_16"])
def test_every_shape_of_network_can_be_fitted(layers):
    system, errors = train({"layers": layers}, ellipsoids(3))
    assert errors[-1] < errors[0]
    assert system.sample(3, 0).fields.shape == (3, 20, 40, 40)


def test_a_fit_that_was_stopped_ends_with_the_same_bytes(tmp_path):
    np.save(tmp_path / "seeds.npy", ellipsoids(3))

    def go(name, **more):
        return api.train(
            "lung", tmp_path / "seeds.npy", tmp_path / name, preset="compact", settings=FIT, device="cpu", **more
        )

    go("whole")
    assert not go("parts", max_minutes=0.0005).finished
    assert go("parts").finished
    weights = "weights.safetensors"
    assert (tmp_path / "whole" / weights).read_bytes() == (tmp_path / "parts" / weights).read_bytes()


# Feedback


@pytest.mark.parametrize("method", ["fit", "adam"])
@pytest.mark.parametrize(("reflections", "trade"), [(0, False), (1, False), (4, True)])
def test_accepted_nodules_come_back_for_as_many_rounds_as_asked(monkeypatch, method, reflections, trade):
    seen = []
    batches = Lung.batches

    def noted(self, base, seed, more=None):
        seen.append((self, more))
        return batches(self, base, seed, more)

    monkeypatch.setattr(Lung, "batches", noted)
    config = lung_config("smoke", {"method": method, "iterations": 8, "rounds": 4, "layers": "8_3_16_32"})
    feedback = Feedback(reflections, trade, rounds=2, generated=7)
    fabric = Fabric(accelerator="cpu", devices=1)
    made = []

    def select(generated, seed):
        made.append(generated)
        return np.arange(len(generated.fields)) < 5

    train_in_rounds(config, ellipsoids(3), 0, fabric, feedback, select)
    networks = 2 if trade else 1
    counts = [0 if more is None else len(more) for _, more in seen]
    each = 5 * max(1, reflections)
    end = [] if method == "fit" else [0] * networks
    assert counts == [0] * networks + [each] * (2 * networks) + end
    if trade:  # the first network learns from what the second made
        assert seen[2][0] is seen[0][0]
        signs = [np.flip(made[1].masks[0], [a for a in range(3) if code >> a & 1]) for code in range(8)]
        assert any(np.array_equal(seen[2][1][0] > 0, sign) for sign in signs)


def test_without_feedback_the_rounds_are_plain_training():
    config = lung_config("smoke", {"iterations": 20})
    seeds = ellipsoids(3)
    fabric = Fabric(accelerator="cpu", devices=1)
    plain, data = Lung.for_training(config, seeds, 4)
    plain.prepare_training(fabric)
    for step in range(config.iterations):
        plain.training_step(data(step), step)
    rounds = train_in_rounds(config, seeds, 4, fabric).weights()
    assert all(torch.equal(rounds[name], tensor) for name, tensor in plain.weights().items())
