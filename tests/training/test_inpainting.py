"""The losses of an in-painter and its critics compared with closed forms."""

import pytest
import torch

from synthorax.nn.critics import InPaintingCritic, Verdict, Verdicts
from synthorax.nn.inpainter import InPainted, pasted
from synthorax.nn.local_crop import LocalCrop
from synthorax.training.inpainting import (
    adversarial_loss,
    critics_loss,
    critics_penalty,
    domain_loss,
    reconstruction_loss,
    shown_to_critics,
)
from synthorax.training.losses import NO_CLASS

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (8, 8, 16)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def regions():
    """Two regions, of 2 x 2 x 4 and of 2 x 2 x 2 voxels."""
    made = torch.zeros(2, 1, *SIZE)
    made[0, 0, 3:5, 3:5, 6:10] = made[1, 0, 2:4, 3:5, 7:9] = 1
    return made


def linear_critic():
    """Return critics whose leaky ReLUs have no effect, so that their scores are linear in the patch."""
    torch.manual_seed(0)
    critic = InPaintingCritic(SIZE, width=2)
    for layer in critic.modules():
        if isinstance(layer, torch.nn.LeakyReLU):
            layer.negative_slope = 1.0
    return critic


def slopes(critic, crop):
    """The gradients of both scores by what each critic sees."""
    patch = torch.zeros(2, 1, *SIZE)
    for judge, seen in ((critic.local, crop(patch)), (critic.whole, patch)):
        seen.requires_grad_()
        (slope,) = torch.autograd.grad(judge(seen).score.sum(), seen)
        yield slope


def test_the_penalty_of_linear_critics_is_the_distance_of_their_masked_weights_from_norm_1():
    critic, region = linear_critic(), regions()
    crop = LocalCrop.around(region)
    found = critics_penalty(critic, normal(2, 1, *SIZE), normal(2, 1, *SIZE, seed=1), region, crop, torch.rand(2))
    local, whole = slopes(critic, crop)
    norms = (local * crop(region)).flatten(1).norm(dim=1), (whole * region).flatten(1).norm(dim=1)
    torch.testing.assert_close(found, sum((norm - 1).square().mean() for norm in norms))


def test_as_printed_the_penalty_counts_the_whole_gradient():
    critic, region = linear_critic(), regions()
    crop = LocalCrop.around(region)
    real, fake = normal(2, 1, *SIZE), normal(2, 1, *SIZE, seed=1)
    found = critics_penalty(critic, real, fake, region, crop, torch.rand(2), as_printed=True)
    norms = [slope.flatten(1).norm(dim=1) for slope in slopes(critic, crop)]
    torch.testing.assert_close(found, sum((norm - 1).square().mean() for norm in norms))


def test_the_penalty_teaches_the_critics_of_grown_crops_too():
    torch.manual_seed(0)
    critic, region = InPaintingCritic(SIZE, width=2, maps=1), torch.ones(2, 1, *SIZE)
    maps, crop = torch.ones(2, 1, 1, 1, 1), LocalCrop.around(region)
    real, fake = normal(2, 1, *SIZE), normal(2, 1, *SIZE, seed=1)
    critics_penalty(critic, real, fake, region, crop, torch.rand(2), maps).backward()
    convolutions = [one[0].weight.grad for one in (critic.local.tower, critic.whole.tower)]
    assert all(gradient.abs().sum() > 0 for gradient in convolutions)


def test_critics_are_shown_composites_of_the_second_stage_or_as_printed_all_of_it():
    patches, region = normal(2, 1, *SIZE), regions()
    made = InPainted(normal(2, 1, *SIZE, seed=1), normal(2, 1, *SIZE, seed=2), None)
    assert torch.equal(shown_to_critics(made, patches, region), pasted(made.refined, patches, region))
    assert torch.equal(shown_to_critics(made, patches, region, as_printed=True), made.refined)


def test_reconstruction_is_the_error_in_the_mask_and_everywhere_of_both_stages():
    """Errors of 1 in the regions of 16 and 8 of 1024 voxels by the first stage, of .5 everywhere by the second."""
    patches, region = normal(2, 1, *SIZE), regions()
    made = InPainted(patches + region, patches + 0.5, None)
    expected = (1 + 3 * (16 + 8) / 2 / 1024) + (0.5 + 3 * 0.5)
    torch.testing.assert_close(reconstruction_loss(made, patches, region, global_weight=3), torch.tensor(expected))


def verdicts(local, whole, classes=None):
    return Verdicts(Verdict(torch.tensor(local), classes), Verdict(torch.tensor(whole), classes))


def test_adversarial_losses_sum_over_both_critics():
    real, fake = verdicts([1.0, 3.0], [5.0, 5.0]), verdicts([0.0, 1.0], [2.0, 4.0])
    assert critics_loss(real, fake) == (0.5 - 2) + (3 - 5)
    assert adversarial_loss(fake) == -0.5 - 3


def test_the_class_loss_is_that_of_the_samples_whose_class_is_known():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    judged = verdicts([0.0, 0.0], [0.0, 0.0], logits)
    found = domain_loss(judged, torch.tensor([2, NO_CLASS]))
    torch.testing.assert_close(found, 2 * torch.log(torch.tensor(4.0)))
    with pytest.raises(ValueError, match="without an auxiliary classifier"):
        domain_loss(verdicts([0.0], [0.0]), torch.tensor([1]))
