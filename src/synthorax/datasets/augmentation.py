"""Flips, shifts and scaling of patches, as one linear interpolation an axis.

Drawing the numbers is apart from applying them, so that a patch can be made again. All three act on
each axis by itself: a matrix [out, in] an axis does them together, for a whole batch at once.
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
    """What may happen to a patch.

    Attributes:
        flip: each axis with probability one half.
        turn: by 90 degrees about the z axis with probability one half; with `flip` all eight turns and mirrorings of
            axial slices are alike probable. Patches are then as wide along x as along y.
        shift_voxels: at most so far along each axis.
        scale: least and most magnification, the same for all axes.
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
        """Voxels beyond a patch, on each side, that augmented ones may show."""
        z, y, x = (int(np.ceil(self.shift_voxels + max(1 / self.scale[0] - 1, 0) * n / 2)) for n in size)
        return z, y, x

    def draw(self, rng: np.random.Generator, n: int) -> Drawn:
        """The numbers of `n` patches."""
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
    """What happens to each patch of a batch.

    Attributes:
        flips: 1 or -1 an axis (z, y, x), [n, 3].
        shifts: voxels, [n, 3]; whole ones where nothing is scaled, so that nothing is blurred.
        scales: magnification, [n, 1].
        turns: whether y and x change places, after all else, bool [n].
    """

    flips: NDArray[np.int64]
    shifts: NDArray[np.float64]
    scales: NDArray[np.float64]
    turns: NDArray[np.bool_]

    def apply(self, patches: NDArray[np.int16], size: tuple[int, int, int]) -> Float[Tensor, "b z y x"]:
        """The augmented middle of each patch [b, z, y, x], of a size; the edge goes on beyond it.

        Linear interpolation; where nothing is scaled, voxels are only moved.
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
        """The same by the nearest voxel, as for label maps."""
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
        """Where in the source each voxel of the result lies, [b, n]."""
        offsets = (np.arange(n) - (n - 1) / 2) * self.flips[:, axis : axis + 1] / self.scales
        return np.clip(offsets + (length - 1) / 2 + self.shifts[:, axis : axis + 1], 0, length - 1)

    def _matrix(self, axis: int, n: int, length: int) -> Float[Tensor, "b out in"]:
        """Weights of the source's voxels in each of the result's."""
        places = torch.from_numpy(self._places(axis, n, length))
        low = places.floor().clamp(max=max(length - 2, 0))
        share = (places - low).float()[..., None]
        index = low.long()[..., None]
        matrix = torch.zeros(len(places), n, length).scatter_(2, index, 1 - share)
        return matrix.scatter_add_(2, index + 1, share) if length > 1 else matrix
