"""Contextual attention in 3D (Yu et al. 2018): each place takes the features of unmasked places that look like it.

The paper's program is in 2D. The order of its operations is kept; in 3D, pasted patches overlap eightfold. There are
two differences. A patch counts as masked if any of its voxels is masked; the program looks at every second voxel and
may miss one. Fused scores are not carried from the end of one row to the start of the next.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

MATCH_WIDTH, PASTE_WIDTH, PASTE_STRIDE = 3, 4, 2
"""Width of the compared patches in coarse voxels; width and step of the pasted patches in voxels."""
MATCH_REACH = 5
"""Width of a compared patch in voxels along an axis; the pasted patch lies within it."""
OVERLAP = (PASTE_WIDTH // PASTE_STRIDE) ** 3
"""Number of pasted patches that cover a voxel, by which their sum is divided; at the border there are fewer."""
SHARPNESS = 10.0
"""Scores are multiplied by this before the softmax; the score of a patch of norm 1 with itself is 1."""
LEAST_NORM = 1e-4
"""A patch with a smaller norm is divided by this instead of its norm."""
SCORE_BYTES = 2**26
"""Most bytes of scores that are in memory at a time, unless one place, or one plane with `fuse`, needs more. While a
block is computed there are up to four tensors of this size."""


def contextual_attention(
    features: Float[Tensor, "b c z y x"],
    mask: Float[Tensor, "b 1 z y x"],
    *,
    fuse: bool = False,
    score_bytes: int = SCORE_BYTES,
) -> Float[Tensor, "b c z y x"]:
    """Rebuild features from those of their patches that hold no masked voxel.

    Everything is computed in float32, also under autocast. The scores of all pairs of places are computed block by
    block, and once more in the backward pass, so that the memory is that of one block plus a multiple of the features.
    The blocks change the result only by the rounding of sums.

    Args:
        features: features of any size; an odd size is padded by repeating the last plane.
        mask: above 0 where no features may be taken. If every patch holds a masked voxel, the result is 0.
        fuse: add to the score of two places the scores of their neighbours in the same directions, which favours
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
    """Return the patches to paste at the places from `places[0]` up to `places[1]`, as weighted means over all patches.

    Args:
        matched, norms: patches of the coarse features at the n places, and the patches' norms.
        valid: whether each patch is free of masked voxels.
        pasted: patches of the features at the n places.
        grid: numbers (z, y, x) of the n places.
        fuse: see `contextual_attention`.
        places: first place, and the place after the last.
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
    """Return the scores plus the scores of pairs of neighbours along z, y and x; `places` are whole planes."""
    plane = grid[1] * grid[2]
    first, last = places[0] // plane, places[1] // plane
    before, after = max(first - 1, 0), min(last + 1, grid[0])
    scores = matched[:, before * plane : after * plane] @ matched.mT / norms[:, None]
    scores = scores.unflatten(2, grid).unflatten(1, (after - before, *grid[1:]))
    scores = _with_neighbours(scores, 1, 4)[:, first - before : last - before]
    scores = _with_neighbours(_with_neighbours(scores, 2, 5), 3, 6)
    return scores.flatten(4).flatten(1, 3)


def _with_neighbours(scores: Tensor, place: int, match: int) -> Tensor:
    """The scores plus the scores one step further and one step back along two axes at once; 0 beyond the ends."""
    made = scores.clone()
    pairs = scores.shape[place] - 1, scores.shape[match] - 1
    for ours, theirs in ((0, 1), (1, 0)):
        there = scores.narrow(place, theirs, pairs[0]).narrow(match, theirs, pairs[1])
        made.narrow(place, ours, pairs[0]).narrow(match, ours, pairs[1]).add_(there)
    return made


def _patches(voxels: Float[Tensor, "b c z y x"], width: int, stride: int) -> Float[Tensor, "b n k"]:
    """All patches of a width, `stride` voxels apart, each as a row of c * width^3 values."""
    cut = voxels.unfold(2, width, stride).unfold(3, width, stride).unfold(4, width, stride)
    return cut.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


def _overlaid(patches: Float[Tensor, "b n p"], grid: tuple[int, int, int]) -> Float[Tensor, "b c 2*z 2*y 2*x"]:
    """The sum of patches of width `PASTE_WIDTH` pasted every `PASTE_STRIDE` voxels, as by a transposed convolution."""
    laid = patches.unflatten(2, (-1, *[PASTE_WIDTH] * 3)).unflatten(1, grid).permute(0, 4, 1, 5, 2, 6, 3, 7)
    for axis in (2, 3, 4):  # the axis of places along z, y or x; the axis of a patch's voxels follows it
        halves = laid.unflatten(axis + 1, (2, PASTE_STRIDE))
        first, second = (halves.select(axis + 1, half).flatten(axis, axis + 1) for half in (0, 1))
        n = first.shape[axis]
        laid = torch.zeros_like(first)  # the outermost voxel on each side lies outside the border
        laid.narrow(axis, 0, n - 1).add_(first.narrow(axis, 1, n - 1))
        laid.narrow(axis, 1, n - 1).add_(second.narrow(axis, 0, n - 1))
    return laid
