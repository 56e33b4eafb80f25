"""Checks of the patches that networks take."""

from __future__ import annotations

from torch import Tensor

from synthorax.errors import InputError


def check_patches(patches: Tensor, minimum_size: tuple[int, int, int], multiple: int = 1) -> None:
    """Refuse patches that are not [b, 1, z, y, x] or whose sizes a network cannot take.

    Args:
        patches: any tensor.
        minimum_size: voxels (z, y, x).
        multiple: every size must be a multiple of this.

    Raises:
        InputError: the axes are wrong, or a size is too small or not a multiple.
    """
    found = f"a tensor of {list(patches.shape)}"
    if patches.ndim != 5 or patches.shape[1] != 1:
        raise InputError("patches", found, "[b, 1, z, y, x]")
    size = patches.shape[2:]
    if any(n < least for n, least in zip(size, minimum_size, strict=True)):
        raise InputError("patches", found, f"at least {minimum_size} voxels (z, y, x)")
    if any(n % multiple for n in size):
        raise InputError("patches", found, f"sizes divisible by {multiple}")
