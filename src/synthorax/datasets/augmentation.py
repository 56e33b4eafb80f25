"""Flips, shifts, scaling and right-angled turns of patches.

Drawing the random numbers is separate from applying them, so that an augmented patch can be reproduced. Flips, shifts
and scaling act on each axis separately: one matrix [out, in] for each axis applies all three by linear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from synthorax.errors import InputError

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Augmentation:
    """The augmentations of a patch and their ranges.

    Attributes:
        flip: flip each axis with a probability of one half.
        shift_voxels: largest shift along each axis, in voxels.
        scale: smallest and largest magnification; a patch has the same one along all axes.
        turn: turn by 90 degrees about the z axis with a probability of one half. With `flip`, all eight turns and
            mirrorings of axial slices are equally probable. Patches must have the same number of voxels along x and y.

    Raises:
        InputError: a range is not valid.
    """

    flip: bool = True
    shift_voxels: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    turn: bool = False

    def __post_init__(self) -> None:
        low, high = self.scale
        if not (np.isfinite(self.shift_voxels) and self.shift_voxels >= 0 and 0 < low <= high < np.inf):
            raise InputError(
                "augmentation", f"shift {self.shift_voxels}, scale {self.scale}", "0 or more; 0 < low <= high"
            )

    def margin(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the number of voxels (z, y, x) beyond a patch, on each side, that augmentation can bring into it."""
        z, y, x = (int(np.ceil(self.shift_voxels + max(1 / self.scale[0] - 1, 0) * n / 2)) for n in size)
        return z, y, x

    def draw(self, rng: np.random.Generator, n: int) -> Drawn:
        """Draw the augmentations of `n` patches."""
        flips = rng.integers(0, 2, (n, 3)) * 2 - 1 if self.flip else np.ones((n, 3), np.int64)
        shifts = rng.uniform(-self.shift_voxels, self.shift_voxels, (n, 3))
        if self.scale == (1.0, 1.0):
            shifts, scales = np.rint(shifts), np.ones((n, 1))
        else:
            low, high = np.log(self.scale)
            scales = np.exp(rng.uniform(low, high, (n, 1)))
        turns = rng.integers(0, 2, n).astype(bool) if self.turn else np.zeros(n, bool)
        return Drawn(flips, shifts, scales, turns)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The augmentations of each patch of a batch.

    Attributes:
        flips: 1, or -1 to flip, along z, y and x, [n, 3].
        shifts: shift in voxels along z, y and x, [n, 3]; whole voxels if nothing is scaled, which avoids blur.
        scales: magnification, [n, 1].
        turns: whether to exchange y and x after the other augmentations, bool [n].
    """

    flips: NDArray[np.int64]
    shifts: NDArray[np.float64]
    scales: NDArray[np.float64]
    turns: NDArray[np.bool_]

    def apply(self, patches: NDArray[np.int16], size: tuple[int, int, int]) -> Float[Tensor, "b z y x"]:
        """Return the augmented middles of patches [b, z, y, x], with linear interpolation.

        Beyond a patch its edge is repeated. Without scaling, voxels are moved and not interpolated.

        Args:
            patches: HU, wider than `size` by the margin of the augmentation.
            size: voxels (z, y, x) of the result.
        """
        if (self.scales == 1).all():
            return torch.from_numpy(self.apply_nearest(patches, size).astype(np.float32))
        voxels = torch.from_numpy(patches.astype(np.float32))
        along_z, along_y, along_x = (self._matrix(axis, n, patches.shape[1 + axis]) for axis, n in enumerate(size))
        voxels = torch.bmm(along_z, voxels.flatten(2)).unflatten(2, voxels.shape[2:])
        voxels = along_y[:, None] @ voxels
        voxels = torch.bmm(voxels.flatten(1, 2), along_x.mT).unflatten(1, voxels.shape[1:3])
        if self.turns.any():
            turned = torch.from_numpy(self.turns)
            voxels[turned] = voxels[turned].transpose(2, 3)
        return voxels

    def apply_nearest(self, patches: NDArray[Kind], size: tuple[int, int, int]) -> NDArray[Kind]:
        """Return the augmented middles of patches by the nearest voxel, as label maps need it; see `apply`."""
        made = np.empty((len(patches), *size), patches.dtype)
        places = [
            np.rint(self._places(axis, n, patches.shape[1 + axis])).astype(np.intp) for axis, n in enumerate(size)
        ]
        for target, patch, z, y, x in zip(made, patches, *places, strict=True):
            target[:] = patch.take(z, 0).take(y, 1).take(x, 2)
        if self.turns.any():
            made[self.turns] = made[self.turns].swapaxes(2, 3)
        return made

    def _places(self, axis: int, n: int, length: int) -> NDArray[np.float64]:
        """Return the position in the source, along an axis, of each voxel of the result, [b, n]."""
        offsets = (np.arange(n) - (n - 1) / 2) * self.flips[:, axis : axis + 1] / self.scales
        return np.clip(offsets + (length - 1) / 2 + self.shifts[:, axis : axis + 1], 0, length - 1)

    def _matrix(self, axis: int, n: int, length: int) -> Float[Tensor, "b out in"]:
        """Return the weight of each source voxel in each voxel of the result, along an axis."""
        places = torch.from_numpy(self._places(axis, n, length))
        low = places.floor().clamp(max=max(length - 2, 0))
        share = (places - low).float()[..., None]
        index = low.long()[..., None]
        matrix = torch.zeros(len(places), n, length).scatter_(2, index, 1 - share)
        return matrix.scatter_add_(2, index + 1, share) if length > 1 else matrix
