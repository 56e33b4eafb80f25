"""Whether the anatomy of a chest is continuous from slice to slice, compared with the range of real chests.

The measures need no lungs to be found, so that they can be had of any scan: air is what is darker than `DARK_AIR_HU`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError

DARK_AIR_HU = -400.0
"""A voxel darker than this is counted as air, in the lungs or around the body."""
CURVE_POINTS = 32
"""Places along z at which the share of air is compared."""
FAR_SLICES = 0.1
"""Part of a scan's height by which the second pair of slices is apart."""


def air_curve(hu: NDArray[np.number], points: int = CURVE_POINTS) -> NDArray[np.float64]:
    """Return the share of air in the slices of a scan [z, y, x], from the feet up, at some places along z."""
    share = (hu < DARK_AIR_HU).mean((1, 2))
    at = (np.arange(points) + 0.5) / points * len(share) - 0.5
    return np.interp(at, np.arange(len(share)), share)


def chest_measures(hu: NDArray[np.number], usual: NDArray[np.float64]) -> dict[str, float]:
    """Measures of one scan.

    Args:
        hu: [z, y, x], 3 slices or more.
        usual: the mean `air_curve` of real chests.

    Returns:
        By name: the mean correlation of neighbouring slices and of slices a tenth of the height apart; how rough the
        air curve is (root mean square of its second differences); how far it is from the usual one (root mean square);
        the share of the air that lies in the half of the lower x; the mean HU of the air and of the rest.

    Raises:
        InputError: fewer than 3 slices.
    """
    if hu.ndim != 3 or len(hu) < 3:
        raise InputError("scan", f"{hu.shape}", "HU [z, y, x] of 3 slices or more")
    curve = air_curve(hu, len(usual))
    air = hu < DARK_AIR_HU
    left = air[:, :, : hu.shape[2] // 2].sum()
    right = air[:, :, (hu.shape[2] + 1) // 2 :].sum()
    return {
        "correlation of neighbouring slices": _correlation(hu, 1),
        "correlation of slices a tenth apart": _correlation(hu, max(round(FAR_SLICES * len(hu)), 1)),
        "roughness of the air curve": float(np.sqrt((np.diff(curve, 2) ** 2).mean())),
        "distance from the usual air curve": float(np.sqrt(((curve - usual) ** 2).mean())),
        "share of the air on one side": float(left / max(left + right, 1)),
        "HU of the air": float(hu[air].mean()) if air.any() else 0.0,
        "HU of the rest": float(hu[~air].mean()) if not air.all() else 0.0,
    }


@dataclass(frozen=True)
class UsualChests:
    """What real chests are like.

    Attributes:
        curve: mean `air_curve` of the chests.
        ranges: least and greatest value of each measure.
    """

    curve: NDArray[np.float64]
    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, chests: Sequence[NDArray[np.number]]) -> UsualChests:
        """Of real scans, HU [z, y, x] each.

        Raises:
            InputError: none.
        """
        if not len(chests):
            raise InputError("chests", "none", "one or more real scans")
        curve = np.mean([air_curve(hu) for hu in chests], 0)
        rows = [chest_measures(hu, curve) for hu in chests]
        return cls(curve, {name: (min(r[name] for r in rows), max(r[name] for r in rows)) for name in rows[0]})

    def outside(self, hu: NDArray[np.number]) -> dict[str, float]:
        """How far each measure of a scan is outside of the range of real chests, in widths of it; 0 inside."""
        found = {}
        for name, value in chest_measures(hu, self.curve).items():
            low, high = self.ranges[name]
            found[name] = max(low - value, value - high, 0.0) / max(high - low, 1e-9)
        return found


def _correlation(hu: NDArray[np.number], step: int) -> float:
    """Return the mean correlation of slices that are `step` apart; of constant slices 1 if they are alike, else 0."""
    flat = hu.reshape(len(hu), -1).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    norms = np.sqrt((flat**2).sum(1))
    pairs = list(zip(range(len(hu) - step), range(step, len(hu)), strict=True))
    values = [
        float(flat[a] @ flat[b] / (norms[a] * norms[b])) if norms[a] * norms[b] > 0 else float(norms[a] == norms[b])
        for a, b in pairs
    ]
    return float(np.mean(values))
