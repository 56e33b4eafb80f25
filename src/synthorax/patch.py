"""The voxel grid and the HU window of the patches that a network takes or makes. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from synthorax.errors import InputError, VoxelError
from synthorax.nodule import widest_mm
from synthorax.volume import check_spacing

NETWORK_WINDOW_HU = (-1000.0, 400.0)
"""Default HU (low, high) that networks see as -1 and 1; values beyond are clipped."""
MOST_PATCH_VOXELS = 256**3
"""Most voxels of a patch or a shape, such as 256 along each axis; training on larger ones fits no machine."""
MOST_HU = 1e5
"""A window's ends must lie within this many HU of 0; a value beyond is a slip of the pen."""
NEGATIVE, POSITIVE = 0, 1
"""Labels of patches without and with a nodule in the middle."""
PositiveMm = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Values = TypeVar("Values")
"""A NumPy array or a torch tensor; functions return the class that they are given."""


def whole_hu(hu: NDArray[np.floating], maker: str = "voxels") -> NDArray[np.int16]:
    """Round HU to int16.

    Args:
        hu: any shape; of more than three axes, the first one counts samples.
        maker: name of what made them, for the error.

    Raises:
        VoxelError: a value is NaN or infinite, or beyond int16. A cast would store another number in silence.

    >>> whole_hu(np.array([-850.4, 39.7])).tolist()
    [-850, 40]
    """
    rounded, limits = np.rint(hu), np.iinfo(np.int16)
    if rounded.size and not (limits.min <= rounded.min() and rounded.max() <= limits.max):  # not true for NaN either
        unfit = ~((rounded >= limits.min) & (rounded <= limits.max))
        kind = "HU beyond int16" if np.isfinite(rounded[unfit]).all() else "NaN or infinite HU"
        row = int(np.argwhere(unfit)[0][0]) if unfit.ndim > 3 else 0
        found, expected = f"{kind} in {unfit.sum():,} of {unfit.size:,} voxels", f"{limits.min} to {limits.max} HU"
        raise VoxelError(maker, found, expected, row)
    return rounded.astype(np.int16)


@dataclass(frozen=True)
class PatchSpec:
    """The voxel grid of a patch and the HU window in which a network sees it.

    Attributes:
        size: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x).
        window_hu: HU (low, high) that become -1 and 1; values beyond are clipped.

    Raises:
        InputError: the size or the spacing is not positive, or the window's low end is not below its high end.

    >>> import numpy as np
    >>> import synthorax as sx
    >>> spec = sx.PatchSpec(size=(24, 24, 24), spacing_mm=(1.25, 1.0, 1.0))
    >>> spec.size_mm, spec.widest_mm
    ((30.0, 24.0, 24.0), 22.0)
    >>> spec.to_unit(np.array([-1000.0, -300.0, 400.0, 1500.0])).tolist()
    [-1.0, 0.0, 1.0, 1.0]
    """

    size: tuple[int, int, int] = (48, 48, 48)
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    window_hu: tuple[float, float] = NETWORK_WINDOW_HU

    def __post_init__(self) -> None:
        check_spacing(self.spacing_mm)
        if min(self.size) < 1 or not self.window_hu[0] < self.window_hu[1]:
            raise InputError("patch", f"{self.size} voxels, window {self.window_hu} HU", "positive sizes, low < high")

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Width of the patch along (z, y, x) in mm."""
        z, y, x = (n * s for n, s in zip(self.size, self.spacing_mm, strict=True))
        return z, y, x

    @property
    def widest_mm(self) -> float:
        """Diameter of the widest nodule that the patch shows whole around its middle."""
        return widest_mm(self.size, self.spacing_mm)

    def of_nodule(self, diameter_mm: float) -> PatchSpec:
        """Return the grid of the patch around a nodule: this one for every diameter. `ScaledPatch` adapts it."""
        return self

    def every_view(self, diameter_mm: float) -> tuple[PatchSpec, ...]:
        """Return the grids in which training shows a nodule: this one alone."""
        return (self,)

    def magnified(self, scale: float) -> PatchSpec:
        """Return a patch of the same number of voxels, each `scale` times as wide."""
        z, y, x = (scale * s for s in self.spacing_mm)
        return replace(self, spacing_mm=(z, y, x)) if scale != 1 else self

    @property
    def middle_mm(self) -> tuple[float, float, float]:
        """Position (x, y, z) in mm of the patch's middle; its first voxel lies at (0, 0, 0)."""
        z, y, x = ((n - 1) / 2 * s for n, s in zip(self.size, self.spacing_mm, strict=True))
        return x, y, z

    def distances_mm(self, center: Sequence[float] | NDArray | None = None) -> NDArray[np.float64]:
        """Return the distance in mm of each voxel from a place in the patch, [z, y, x].

        Args:
            center: index (z, y, x) of the place, fractions allowed; the middle if None.
        """
        center = [(n - 1) / 2 for n in self.size] if center is None else center
        steps = zip(self.size, center, self.spacing_mm, strict=True)
        distances: NDArray[np.float64] = np.sqrt(
            sum(a**2 for a in np.ix_(*[(np.arange(n) - c) * s for n, c, s in steps]))
        )
        return distances

    def to_unit(self, hu: Values) -> Values:
        """Map HU (float, any shape) to -1 to 1; values beyond the window are clipped."""
        low, high = self.window_hu
        unit: Any = cast(Any, hu) - (low + high) / 2
        unit *= 2 / (high - low)  # in place, because a training batch may take hundreds of megabytes
        return cast(Values, unit.clip(-1, 1))

    def to_hu(self, unit: Values) -> Values:
        """Map -1 to 1 (float, any shape) back to HU."""
        low, high = self.window_hu
        return cast(Values, (cast(Any, unit) + 1) * ((high - low) / 2) + low)

    def to_int16(self, unit: NDArray[np.float32], maker: str = "voxels") -> NDArray[np.int16]:
        """Map -1 to 1 back to HU, rounded to int16.

        Args:
            unit: -1 to 1, any shape.
            maker: name of what made them, for the error.

        Raises:
            VoxelError: a value is NaN or infinite, or its HU are beyond int16.
        """
        return whole_hu(self.to_hu(unit), maker)


@dataclass(frozen=True)
class ScaledPatch:
    """Patches with a fixed number of voxels, whose voxel size grows with the diameter of the nodule in the middle.

    Attributes:
        finest: the patch with the smallest voxels, in which small nodules are shown.
        diameters: widths of the patch along its shortest axis, in nodule diameters. Training shows a nodule in each of
            these widths; an edit uses the middle one.
        coarsest: voxels are at most this many times as wide as the voxels of `finest`.

    Raises:
        InputError: there is no width, a width is not above 1, or `coarsest` is below 1.

    >>> scaled = ScaledPatch(PatchSpec((32, 32, 32), (0.5, 0.5, 0.5)), (2.0, 2.5, 3.0), coarsest=4.0)
    >>> scaled.of_nodule(4.0).size_mm, scaled.of_nodule(12.0).size_mm, scaled.widest_mm
    ((16.0, 16.0, 16.0), (30.0, 30.0, 30.0), 25.6)
    """

    finest: PatchSpec
    diameters: tuple[float, ...]
    coarsest: float

    def __post_init__(self) -> None:
        if not (self.diameters and min(self.diameters) > 1 and 1 <= self.coarsest < math.inf):
            found = f"{self.diameters or 'no'} diameters wide, voxels magnified {self.coarsest:g} times at most"
            raise InputError("patch", found, "widths above 1 diameter, and a magnification of 1 or more")

    def of_nodule(self, diameter_mm: float) -> PatchSpec:
        """Return the grid of the patch in which a nodule of this diameter is edited."""
        return self._view(diameter_mm, self._middle)

    def every_view(self, diameter_mm: float) -> tuple[PatchSpec, ...]:
        """Return the grids in which training shows a nodule of this diameter, one for each of `diameters`."""
        return tuple(self._view(diameter_mm, diameters) for diameters in self.diameters)

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) of every patch."""
        return self.finest.size

    @property
    def widest_mm(self) -> float:
        """Diameter in mm above which the patch of an edit no longer grows with the nodule."""
        return self.coarsest * min(self.finest.size_mm) / self._middle

    @property
    def _middle(self) -> float:
        return sorted(self.diameters)[len(self.diameters) // 2]

    def _view(self, diameter_mm: float, diameters: float) -> PatchSpec:
        scale = diameters * diameter_mm / min(self.finest.size_mm)
        return self.finest.magnified(min(max(scale, 1.0), self.coarsest))


BallRule = Callable[[float, PatchSpec], float]
"""Function of a nodule's diameter and the patch that shows it, to the diameter of the ball that an edit may change.
Both diameters are in mm."""


def as_wide_as_the_nodule(diameter_mm: float, spec: PatchSpec) -> float:
    """Return the diameter itself: the ball is as wide as the nodule."""
    return diameter_mm


class PatchSettings(BaseModel):
    """The settings of a configuration that describe its patches; configurations of networks inherit this class.

    They are three settings (`size`, not `patch.size`), as in existing run folders and in `--set size=...`.

    Attributes:
        size: voxels of a patch (z, y, x).
        spacing_mm: voxel size (z, y, x).
        window_hu: HU (low, high) that become -1 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (48, 48, 48)
    spacing_mm: tuple[PositiveMm, PositiveMm, PositiveMm] = (1.0, 1.0, 1.0)
    window_hu: tuple[float, float] = NETWORK_WINDOW_HU

    @property
    def patch(self) -> PatchSpec:
        """The three settings as one `PatchSpec`."""
        return PatchSpec(self.size, self.spacing_mm, self.window_hu)

    @model_validator(mode="after")
    def _check_patch(self) -> PatchSettings:
        if math.prod(self.size) > MOST_PATCH_VOXELS:
            raise InputError("size", str(self.size), f"at most {MOST_PATCH_VOXELS} voxels")
        if not -MOST_HU < self.window_hu[0] < self.window_hu[1] < MOST_HU:
            raise InputError("window_hu", str(self.window_hu), f"low < high, both between {-MOST_HU:g} and {MOST_HU:g}")
        return self
