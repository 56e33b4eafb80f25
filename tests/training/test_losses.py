"""The GAN losses compared with closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from synthorax.training.losses import (
    attribute_loss,
    class_loss,
    gradient_penalty,
    jensen_shannon_discriminator_loss,
    l1_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    masked_l1_loss,
    non_saturating_generator_loss,
    r1_penalty,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from synthorax.training.replay import Replayed

SHAPE = (4, 1, 2, 3, 4)
NAN = math.nan


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear(weight):
    """The critic f(x) = w.x, whose gradient is w everywhere."""
    return lambda x: (x * weight).flatten(1).sum(1)


def curved(weight):
    """A critic whose gradient depends on where it is."""
    return lambda x: torch.tanh(x.flatten(1) @ weight).square().sum(1)


# Gradient penalties


def test_the_penalty_of_a_linear_critic_is_its_weights_distance_from_norm_1():
    weight = normal(*SHAPE[1:])
    penalty = gradient_penalty(linear(weight), normal(*SHAPE), normal(*SHAPE, seed=1), uniform(4))
    torch.testing.assert_close(penalty, (weight.norm() - 1).square())


def test_a_masked_penalty_counts_the_masked_gradient_alone():
    weight, mask = normal(*SHAPE[1:]), (uniform(*SHAPE, seed=2) > 0.5).float()
    penalty = gradient_penalty(linear(weight), normal(*SHAPE), normal(*SHAPE, seed=1), uniform(4), mask)
    norms = torch.stack([(weight * m).norm() for m in mask])
    torch.testing.assert_close(penalty, (norms - 1).square().mean())


def test_a_mask_without_channels_of_its_own_is_for_all_of_them():
    weight, mask = normal(3, 2, 3, 4), (uniform(4, 1, 2, 3, 4) > 0.5).float()
    samples = normal(4, 3, 2, 3, 4)
    penalty = gradient_penalty(linear(weight), samples, -samples, uniform(4), mask)
    torch.testing.assert_close(
        penalty, gradient_penalty(linear(weight), samples, -samples, uniform(4), mask.expand(-1, 3, -1, -1, -1))
    )


def test_the_penalty_is_taken_at_the_given_share_of_the_real_sample():
    seen = []
    real, fake, epsilon = normal(*SHAPE), normal(*SHAPE, seed=1), torch.tensor([0.0, 0.25, 0.5, 1.0])
    gradient_penalty(lambda x: seen.append(x) or x.flatten(1).sum(1), real, fake, epsilon)
    for i, share in enumerate(epsilon):
        torch.testing.assert_close(seen[0][i], share * real[i] + (1 - share) * fake[i])


def test_the_penalty_is_the_mean_of_every_samples_own():
    weight, real, fake, epsilon = normal(24, 5), normal(*SHAPE), normal(*SHAPE, seed=1), uniform(4)
    whole = gradient_penalty(curved(weight), real, fake, epsilon)
    own = [gradient_penalty(curved(weight), real[[i]], fake[[i]], epsilon[[i]]) for i in range(4)]
    torch.testing.assert_close(whole, torch.stack(own).mean())
    assert torch.stack(own).std() > 0.1


@pytest.mark.parametrize("masked", [False, True])
def test_the_penaltys_own_gradient_agrees_with_finite_differences(masked):
    real, fake = normal(*SHAPE, dtype=torch.double), normal(*SHAPE, seed=1, dtype=torch.double)
    epsilon = uniform(4, dtype=torch.double)
    mask = (uniform(*SHAPE, seed=2, dtype=torch.double) > 0.5).double() if masked else None
    weight = normal(24, 2, seed=3, dtype=torch.double).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: gradient_penalty(curved(w), real, fake, epsilon, mask), weight)
    assert torch.autograd.gradcheck(lambda w: r1_penalty(curved(w), real), weight)


def test_a_critic_without_a_gradient_has_penalty_1_and_a_finite_one():
    weight = torch.zeros(SHAPE[1:], requires_grad=True)
    penalty = gradient_penalty(linear(weight), normal(*SHAPE), normal(*SHAPE, seed=1), uniform(4))
    penalty.backward()
    assert penalty == 1
    assert weight.grad.isfinite().all()


def test_the_penalty_leaves_the_generator_alone():
    real, fake = normal(*SHAPE), normal(*SHAPE, seed=1).requires_grad_()
    weight = normal(24, 5).requires_grad_()
    gradient_penalty(curved(weight), real, fake, uniform(4)).backward()
    assert fake.grad is None
    assert not real.requires_grad
    assert weight.grad.abs().sum() > 0


def test_autocast_does_not_make_the_penalties_rough():
    critic = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 6**3, 1))
    real, fake = normal(2, 1, 8, 8, 8), normal(2, 1, 8, 8, 8, seed=1)
    exact = gradient_penalty(critic, real, fake, uniform(2)), r1_penalty(critic, real)
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(real).dtype == torch.bfloat16
        rough = gradient_penalty(critic, real, fake, uniform(2)), r1_penalty(critic, real)
    assert rough == exact
    from_half = gradient_penalty(critic, real.bfloat16(), fake.bfloat16(), uniform(2))
    assert from_half.dtype == torch.float32


def test_r1_of_a_linear_critic_is_its_weights_squared_norm():
    weight = normal(*SHAPE[1:])
    torch.testing.assert_close(r1_penalty(linear(weight), normal(*SHAPE)), weight.square().sum())


def test_r1_of_a_map_of_scores_counts_their_sum():
    samples = normal(*SHAPE)
    torch.testing.assert_close(
        r1_penalty(lambda x: x.square(), samples), (2 * samples).flatten(1).square().sum(1).mean()
    )


# Adversarial losses


def test_wasserstein_losses_are_differences_of_means():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0, -4.0])
    assert wasserstein_critic_loss(real, fake) == -1 - 2
    assert wasserstein_generator_loss(fake) == 1


def test_least_squares_losses_are_distances_from_1_and_0():
    real, fake = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 2.0]])
    assert least_squares_discriminator_loss(real, fake) == ((0 + 4) / 2 + (0 + 4) / 2) / 2
    assert least_squares_generator_loss(fake) == 1


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_jensen_shannon_losses_are_logarithms_of_probabilities(real, fake):
    logits = torch.logit(torch.tensor([real, fake], dtype=torch.double))
    found = jensen_shannon_discriminator_loss(logits[:1], logits[1:]).item()
    assert found == pytest.approx(-math.log(real) - math.log(1 - fake))
    assert non_saturating_generator_loss(logits[1:]).item() == pytest.approx(-math.log(fake))


def test_jensen_shannon_losses_stay_finite_where_a_probability_rounds_to_0():
    sure = torch.tensor([1e4])
    assert jensen_shannon_discriminator_loss(-sure, sure) == 2e4
    assert non_saturating_generator_loss(-sure) == 1e4


# Auxiliary losses


def test_class_loss_is_the_mean_over_known_classes():
    logits, labels = normal(5, 3), torch.tensor([0, -1, 2, -1, 1])
    known = labels >= 0
    torch.testing.assert_close(class_loss(logits, labels), nn.functional.cross_entropy(logits[known], labels[known]))


def test_attribute_loss_is_the_mean_over_known_values_of_each_attribute():
    guesses = torch.tensor([[1.0, 0.0], [3.0, 0.0], [9.0, 5.0]])
    attributes = torch.tensor([[0.0, NAN], [1.0, NAN], [NAN, 2.0]])
    assert attribute_loss(guesses, attributes) == (1 + 4) / 2 + 9


@pytest.mark.parametrize(
    ("loss", "target"), [(class_loss, torch.full((3,), -1)), (attribute_loss, torch.full((3, 2), NAN))]
)
def test_nothing_known_costs_nothing_and_teaches_nothing(loss, target):
    guesses = normal(3, 2).requires_grad_()
    value = loss(guesses, target)
    value.backward()
    assert value == 0
    assert not guesses.grad.any()


def test_unknown_values_get_no_gradient():
    guesses = normal(2, 2).requires_grad_()
    attribute_loss(guesses, torch.tensor([[0.0, NAN], [NAN, 0.0]])).backward()
    assert (guesses.grad != 0).tolist() == [[True, False], [False, True]]


def test_no_attributes_cost_nothing():
    assert attribute_loss(torch.zeros(3, 0), torch.zeros(3, 0)) == 0


# Reconstruction losses


def test_l1_losses_are_means_over_all_voxels_and_over_the_mask():
    made, target, mask = torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2)
    made[0, 0, 0], mask[0, 0, 0] = 2, 1
    made[1, 0, 0, 0, 0], mask[1, 0, 0, 0] = -4, 1
    assert l1_loss(made, target) == (4 * 2 + 4) / 16
    assert masked_l1_loss(made, target, mask) == (2 + 4 / 2) / 2


def test_masked_l1_sees_nothing_outside_the_mask_and_nothing_in_an_empty_one():
    made, target, mask = normal(2, 1, 2, 2, 2), normal(2, 1, 2, 2, 2, seed=1), torch.zeros(2, 1, 2, 2, 2)
    mask[0, 0, 0] = 1
    expected = (made - target)[0, 0, 0].abs().mean() / 2
    torch.testing.assert_close(masked_l1_loss(made, target, mask), expected)


# Batches in parts


EPSILON, MASK = uniform(4), (uniform(*SHAPE, seed=5) > 0.5).float()
LOSSES = {
    "wasserstein": lambda a, b, rows: wasserstein_critic_loss(a.flatten(1).sum(1), b.flatten(1).sum(1)),
    "penalty": lambda a, b, rows: gradient_penalty(curved(normal(24, 5)), a, b, EPSILON[rows]),
    "masked penalty": lambda a, b, rows: gradient_penalty(curved(normal(24, 5)), a, b, EPSILON[rows], MASK[rows]),
    "r1": lambda a, b, rows: r1_penalty(curved(normal(24, 5)), a),
    "least squares": lambda a, b, rows: least_squares_discriminator_loss(a, b),
    "jensen-shannon": lambda a, b, rows: jensen_shannon_discriminator_loss(a, b),
    "class": lambda a, b, rows: class_loss(a.flatten(1), torch.arange(4)[rows]),
    "attribute": lambda a, b, rows: attribute_loss(a.flatten(1), b.flatten(1)),
    "l1": lambda a, b, rows: l1_loss(a, b),
    "masked l1": lambda a, b, rows: masked_l1_loss(a, b, MASK[rows]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_two_halves_of_a_batch_have_the_mean_of_the_whole(name):
    real, fake = normal(*SHAPE), normal(*SHAPE, seed=1)
    whole, first, second = (
        LOSSES[name](real[rows], fake[rows], rows) for rows in (slice(None), slice(2), slice(2, None))
    )
    torch.testing.assert_close(whole, (first + second) / 2)


# Parts of a step recorded as CUDA graphs


def recorded(device, enabled):
    """A quadratic of a weight, its gradient by `Replayed`, over several calls."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0], device=device))
    found = []

    def part(inputs):
        loss = (weight * inputs["x"]).square().sum()
        loss.backward()
        return {"loss": loss.detach()}

    replayed = Replayed(part, [weight], enabled=enabled)
    for i in range(6):
        made = replayed({"x": torch.arange(3.0, device=device) + i})
        found.append((made["loss"].cpu(), weight.grad.cpu().clone()))
        weight.grad = None
    return found


def test_a_part_that_is_not_on_a_gpu_is_run_each_time():
    for (loss, gradient), i in zip(recorded("cpu", enabled=True), range(6), strict=True):
        x, weight = torch.arange(3.0) + i, torch.tensor([1.0, -2.0, 3.0])
        assert loss == (weight * x).square().sum()
        assert torch.equal(gradient, 2 * weight * x * x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_part_gives_what_running_it_gives():
    for replayed, run in zip(recorded("cuda", enabled=True), recorded("cuda", enabled=False), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(replayed, run, strict=True))
