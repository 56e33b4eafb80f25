"""Contextual attention in 3D (Yu et al. 2018): every place takes the features of unmasked places that look like it.

The program of that paper has it in 2D. The order of its operations is kept; pasted patches overlap eightfold in 3D. Two
things differ. A patch counts as masked if any voxel from its first to its last is, where the program looks at every
second voxel and may overlook one. Fused scores are not carried from the end of one row to the start of the next.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

MATCH_WIDTH, PASTE_WIDTH, PASTE_STRIDE = 3, 4, 2
"""Width in coarse voxels of the patches that are compared; width and step in voxels of the patches that are pasted."""
MATCH_REACH = 5
"""Voxels along an axis from the first to the last of a patch that is compared, which hold those that are pasted too."""
OVERLAP = (PASTE_WIDTH // PASTE_STRIDE) ** 3
"""Number of pasted patches that cover a voxel, by which their sum is divided. At the border fewer cover it."""
SHARPNESS = 10.0
"""Scores, of which 1 is the likeness of a patch of norm 1 to itself, are multiplied by this before the softmax."""
LEAST_NORM = 1e-4
"""A patch whose norm is below this is divided by this instead of its norm."""
SCORE_BYTES = 2**26
"""Bytes of the scores that are in memory at a time, unless those of one place, or of one plane with `fuse`, need more.
While a block is computed there are up to four tensors of this size."""


def contextual_attention(
    features: Float[Tensor, "b c z y x"],
    mask: Float[Tensor, "b 1 z y x"],
    *,
    fuse: bool = False,
    score_bytes: int = SCORE_BYTES,
) -> Float[Tensor, "b c z y x"]:
    """Rebuild features from those patches of themselves that hold no masked voxel.

    All of it runs in single precision whatever the autocast around it. Scores of all pairs of places are computed in
    blocks of places that look for a match, and again when gradients go backwards, so memory is that of one block plus a
    multiple of the features' own; the result does not depend on the blocks beyond the rounding of sums.

    Args:
        features: of any sizes; odd ones are padded by their last plane.
        mask: above 0 where features must not be taken from. If no patch is free of it, the result is 0.
        fuse: add to the score of two places those of their neighbours in the same directions, which favours
            connected matches.
        score_bytes: see `SCORE_BYTES`.

    Returns:
        Features of the same shape and dtype.
    """
    with torch.autocast(features.device.type, enabled=False):
        size = features.shape[2:]
        odd = [amount for n in reversed(size) for amount in (0, n % 2)]
        whole = functional.pad(features.float(), odd, mode="replicate")
        masked = functional.pad((mask > 0).float(), odd, mode="replicate")
        coarse = functional.pad(whole[..., ::2, ::2, ::2], (1, 1) * 3)
        grid = (whole.shape[2] // 2, whole.shape[3] // 2, whole.shape[4] // 2)
        matched = _patches(coarse, MATCH_WIDTH, 1)
        norms = matched.norm(dim=2).clamp_min(LEAST_NORM)
        near = functional.max_pool3d(masked, MATCH_REACH, stride=2, padding=MATCH_REACH // 2)
        pasted = _patches(functional.pad(whole, (1, 1) * 3), PASTE_WIDTH, PASTE_STRIDE)
        constant = (matched, norms, near.flatten(1) == 0, pasted, grid, fuse)
        planes = grid[1] * grid[2] if fuse else 1
        rows = max(score_bytes // (len(whole) * matched.shape[1] * 4 * planes), 1) * planes
        starts = range(0, matched.shape[1], rows)
        again = len(starts) > 1 and torch.is_grad_enabled() and features.requires_grad
        blocks = []
        for start in starts:
            places = (start, min(start + rows, matched.shape[1]))
            if again:
                blocks.append(checkpoint(_attended, *constant, places, use_reentrant=False, preserve_rng_state=False))
            else:
                blocks.append(_attended(*constant, places))
        found = _overlaid(torch.cat(blocks, 1), grid) / OVERLAP
        return found[..., : size[0], : size[1], : size[2]].to(features.dtype)


def _attended(
    matched: Float[Tensor, "b n k"],
    norms: Float[Tensor, "b n"],
    valid: Bool[Tensor, "b n"],
    pasted: Float[Tensor, "b n p"],
    grid: tuple[int, int, int],
    fuse: bool,
    places: tuple[int, int],
) -> Float[Tensor, "b r p"]:
    """The patches to paste at some places, from `places[0]` up to `places[1]`, as means over all patches.

    Args:
        matched, norms: patches of the coarse features at the n places, and their norms.
        valid: patches without a masked voxel.
        pasted: patches of the features.
        grid: sizes (z, y, x) of the n places.
    """
    if fuse:
        scores = _fused_scores(matched, norms, grid, places)
    else:
        scores = matched[:, slice(*places)] @ matched.mT / norms[:, None]
    allowed = valid[:, None].float()
    return ((scores * (SHARPNESS * allowed)).softmax(2) * allowed) @ pasted


def _fused_scores(
    matched: Float[Tensor, "b n k"], norms: Float[Tensor, "b n"], grid: tuple[int, int, int], places: tuple[int, int]
) -> Float[Tensor, "b r n"]:
    """Scores plus those of the pairs of neighbours along z, along y and along x; `places` are whole planes."""
    plane = grid[1] * grid[2]
    first, last = places[0] // plane, places[1] // plane
    before, after = max(first - 1, 0), min(last + 1, grid[0])
    scores = matched[:, before * plane : after * plane] @ matched.mT / norms[:, None]
    scores = scores.unflatten(2, grid).unflatten(1, (after - before, *grid[1:]))
    scores = _with_neighbours(scores, 1, 4)[:, first - before : last - before]
    scores = _with_neighbours(_with_neighbours(scores, 2, 5), 3, 6)
    return scores.flatten(4).flatten(1, 3)


def _with_neighbours(scores: Tensor, place: int, match: int) -> Tensor:
    """Scores plus those one step further, and one step before, along two axes at once; nothing lies beyond the ends."""
    made = scores.clone()
    pairs = scores.shape[place] - 1, scores.shape[match] - 1
    for ours, theirs in ((0, 1), (1, 0)):
        there = scores.narrow(place, theirs, pairs[0]).narrow(match, theirs, pairs[1])
        made.narrow(place, ours, pairs[0]).narrow(match, ours, pairs[1]).add_(there)
    return made


def _patches(voxels: Float[Tensor, "b c z y x"], width: int, stride: int) -> Float[Tensor, "b n k"]:
    """Every patch of a width, `stride` voxels apart, as a row of c * width^3 values."""
    cut = voxels.unfold(2, width, stride).unfold(3, width, stride).unfold(4, width, stride)
    return cut.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


def _overlaid(patches: Float[Tensor, "b n p"], grid: tuple[int, int, int]) -> Float[Tensor, "b c 2*z 2*y 2*x"]:
    """The sum of patches of `PASTE_WIDTH` laid down every `PASTE_STRIDE` voxels: a transposed convolution."""
    laid = patches.unflatten(2, (-1, *[PASTE_WIDTH] * 3)).unflatten(1, grid).permute(0, 4, 1, 5, 2, 6, 3, 7)
    for axis in (2, 3, 4):  # of the places along z, y and x; the voxels of a patch along it come right after
        halves = laid.unflatten(axis + 1, (2, PASTE_STRIDE))
        first, second = (halves.select(axis + 1, half).flatten(axis, axis + 1) for half in (0, 1))
        n = first.shape[axis]
        laid = torch.zeros_like(first)  # without the voxel of the first patches and of the last beyond the border
        laid.narrow(axis, 0, n - 1).add_(first.narrow(axis, 1, n - 1))
        laid.narrow(axis, 1, n - 1).add_(second.narrow(axis, 0, n - 1))
    return laid
