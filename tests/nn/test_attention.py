"""Contextual attention takes features from where nothing is masked, and from where they look alike."""

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from synthorax.nn.attention import LEAST_NORM, OVERLAP, SHARPNESS, contextual_attention

pytestmark = pytest.mark.usefixtures("one_thread")


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def masked_box(shape, *box):
    """Return a mask [1, 1, z, y, x] of a box between even indices, for which all ways of coarsening agree."""
    mask = torch.zeros(1, 1, *shape)
    mask[(0, 0, *(slice(a, b) for a, b in box))] = 1
    return mask


def by_convolutions(features, mask, fuse=False):
    """Return the result of the published 2D program, written in 3D for one sample.

    Matching, masking and pasting are convolutions.
    """
    coarse, masks = features[..., ::2, ::2, ::2], mask[..., ::2, ::2, ::2]
    grid, channels = coarse.shape[2:], features.shape[1]
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).tolist()
    around = functional.pad(coarse, (1,) * 6)[0]
    masks_around, features_around = functional.pad(masks, (1,) * 6)[0], functional.pad(features, (1,) * 6)[0]
    kernels = torch.stack([around[:, z : z + 3, y : y + 3, x : x + 3] for z, y, x in places])
    valid = torch.stack([masks_around[:, z : z + 3, y : y + 3, x : x + 3].sum() == 0 for z, y, x in places]).float()
    raw = [features_around[:, 2 * z : 2 * z + 4, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] for z, y, x in places]
    norms = kernels.flatten(1).norm(dim=1).clamp_min(LEAST_NORM)
    scores = functional.conv3d(coarse, kernels / norms[:, None, None, None, None], padding=1)[0]  # match, z y x
    if fuse:
        steps = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
        table = {tuple(place): i for i, place in enumerate(places)}
        fused = torch.zeros_like(scores)
        for match, at in enumerate(places):
            for here in places:
                for step in steps.tolist():
                    there = tuple(a + s for a, s in zip(here, step, strict=True))
                    other = table.get(tuple(a + s for a, s in zip(at, step, strict=True)))
                    if there in table and other is not None:
                        fused[(match, *here)] += scores[(other, *there)]
        scores = fused
    shares = (scores * valid[:, None, None, None] * SHARPNESS).softmax(0) * valid[:, None, None, None]
    assert channels == raw[0].shape[0]
    return functional.conv_transpose3d(shares[None], torch.stack(raw), stride=2, padding=1) / OVERLAP


@pytest.mark.parametrize("fuse", [False, True])
def test_it_is_the_programs_match_mask_and_paste_by_convolutions(fuse):
    features, mask = 0.2 * normal(1, 3, 4, 6, 10), masked_box((4, 6, 10), (0, 2), (2, 4), (0, 4))
    expected = by_convolutions(features, mask, fuse)
    torch.testing.assert_close(contextual_attention(features, mask, fuse=fuse), expected)


def test_a_hole_gets_the_features_of_the_only_patch_that_looks_like_its_surroundings():
    """A pattern of period 8 is strong enough for the softmax to choose; the hole's surroundings fit one phase of it."""
    tile = 3 * normal(1, 4, 8, 8, 8)
    features, mask = tile.repeat(1, 1, 1, 3, 3), masked_box((8, 24, 24), (2, 6), (10, 12), (10, 12))
    found = contextual_attention(features, mask)
    hole = (0, slice(None), slice(2, 6), slice(10, 12), slice(10, 12))
    torch.testing.assert_close(found[hole], features[hole], rtol=0, atol=1e-3)


@pytest.mark.parametrize("voxel", [(3, 4, 5), (0, 0, 7), (4, 4, 4)])
def test_what_is_masked_is_never_pasted_even_a_single_voxel(voxel):
    features = normal(1, 2, 6, 8, 10)
    mask = torch.zeros(1, 1, 6, 8, 10)
    mask[(0, 0, *voxel)] = 1
    features[(0, slice(None), *voxel)] = torch.nan  # where the voxel itself looks for a match, it may find anything
    found = contextual_attention(torch.nan_to_num(features, nan=1e4), mask)
    other = contextual_attention(torch.nan_to_num(features, nan=-1e4), mask)
    assert found.abs().max() < 10
    assert other.abs().max() < 10


def test_nothing_is_pasted_where_everything_is_masked():
    features = normal(1, 2, 4, 4, 4)
    assert not contextual_attention(features, torch.ones(1, 1, 4, 4, 4)).any()


@pytest.mark.parametrize("fuse", [False, True])
def test_blocks_change_nothing(fuse):
    features, mask = normal(2, 3, 8, 8, 12).requires_grad_(), masked_box((8, 8, 12), (2, 4), (2, 4), (2, 6))
    mask = torch.cat([mask, mask.flip(4)])
    whole = contextual_attention(features, mask, fuse=fuse, score_bytes=2**30)
    (slope,) = torch.autograd.grad(whole.square().sum(), features)
    parts = contextual_attention(features, mask, fuse=fuse, score_bytes=1)
    (slope_of_parts,) = torch.autograd.grad(parts.square().sum(), features)
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(slope_of_parts, slope, rtol=1e-4, atol=1e-5)


class Largest(TorchDispatchMode):
    """Records the bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.bytes = max(self.bytes, made.nbytes)
        return made


def test_no_tensor_is_larger_than_a_block_of_scores_or_the_patches():
    features, mask = normal(1, 1, 24, 24, 24).requires_grad_(), torch.zeros(1, 1, 24, 24, 24)
    places, patches = 12**3, 12**3 * 64 * 4
    with Largest() as largest:
        contextual_attention(features, mask, score_bytes=2**18).sum().backward()
    assert largest.bytes == patches < 4 * places**2 / 20


def test_odd_sizes_are_those_of_even_ones_without_the_last_plane():
    features, mask = normal(1, 2, 5, 6, 7), torch.zeros(1, 1, 5, 6, 7)
    longer = functional.pad(features, (0, 1, 0, 0, 0, 1), mode="replicate")
    whole = contextual_attention(longer, torch.zeros(1, 1, 6, 6, 8))
    torch.testing.assert_close(contextual_attention(features, mask), whole[:, :, :5, :, :7])


def test_matching_is_in_single_precision_under_autocast():
    features, mask = normal(1, 8, 8, 8, 8).bfloat16(), torch.zeros(1, 1, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = contextual_attention(features, mask)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, contextual_attention(features.float(), mask).bfloat16())
