"""Whether a nodule in a scan is visible against its surroundings, and whether a place may have one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from synthorax.anatomy.lungs import Lungs
from synthorax.geometry import crop
from synthorax.metrics.contrast import LEAST_SHELL_MM, Contrast, ball_and_shell, shell_radius_mm
from synthorax.patch import PatchSpec
from synthorax.region import Region
from synthorax.rendering.overlay import lung_hu_of
from synthorax.scanner import measure_scanner
from synthorax.volume import Volume

NOISE_MM = 25.0
"""Distance in mm from the nodule within which noise is measured."""
DENSER_HU = 100.0
"""A place whose middle is denser than the lung around it by this, in HU, may have a nodule, even one on a wall."""
SOLID_ABOVE_HU = 400.0
"""Tissue that is denser than the lung around it by this is taken for a solid nodule, a vessel or the wall."""
LUNG_WITHIN_MM = 10.0
"""Distance in mm from a nodule within which there is lung: a nodule on the wall has it on one side."""
LUNG_HU = (-980.0, -600.0)
"""Range of HU, averaged over 2 mm, of aerated lung, without the air around the patient."""
SURELY = 1.5
"""A nodule that would be visible with a noise of this many times the standard deviation of the HU around it is visible;
the noise is then not measured."""


def contrast(
    ct: Volume, nodule: Region, diameter_mm: float, lungs: Lungs | None = None, others: Sequence[Region] = ()
) -> Contrast:
    """Compare the ball of a nodule with the shell around it.

    Args:
        ct: HU, with the nodule.
        nodule: mask of the nodule; the ball lies around its centroid.
        diameter_mm: diameter of the ball.
        lungs: lungs to which ball and shell are limited, unless one of them lies completely outside.
        others: masks of nodules that are left out of the shell.
    """
    outer = shell_radius_mm(diameter_mm, ct.spacing_mm)
    center = nodule.indices().mean(0)
    near, low = _around(ct, center, outer)
    z, y, x = near.shape
    away = PatchSpec((z, y, x), ct.spacing_mm).distances_mm(center - low)
    ball, shell = ball_and_shell(away, diameter_mm, ct.spacing_mm)
    own = nodule.within(low, near.shape)
    if not ball.any():
        ball = own
    shell &= ~own
    for other in others:
        shell &= ~other.within(low, near.shape)
    if lungs is not None:
        lung = lungs.mask_on(near)
        if (ball & lung).any() and (shell & lung).any():
            ball, shell = ball & lung, shell & lung
    if not shell.any():
        return Contrast(0.0, np.inf)
    # The spread around the nodule is at least about that of the noise, which takes longer to measure.
    found = Contrast.of(near.voxels, ball, shell, SURELY * float(near.voxels[shell].std()))
    if found.visible:
        return found
    noise_hu = measure_scanner(_around(ct, center, max(outer, NOISE_MM))[0]).noise_hu
    return Contrast.of(near.voxels, ball, shell, noise_hu)


def may_hold_nodule(ct: Volume, center_mm: Sequence[float], diameter_mm: float) -> bool:
    """Return whether a place may have a nodule: it stands out from the shell around it, or is denser than lung.

    Args:
        ct: HU.
        center_mm: the place (x, y, z), LPS.
        diameter_mm: diameter of the supposed nodule.
    """
    if above_lung_hu(ct, center_mm, diameter_mm) > DENSER_HU:
        return True
    near, _, away = _near(ct, center_mm, diameter_mm)
    own = Region.of(away <= max(diameter_mm / 2, away.min()))
    return contrast(near, own, diameter_mm).visible


def above_lung_hu(ct: Volume, center_mm: Sequence[float], diameter_mm: float, own: Region | None = None) -> float:
    """Return the mean HU of a nodule minus that of the lung around it.

    Args:
        ct: HU.
        center_mm: place of the nodule (x, y, z), LPS.
        diameter_mm: its diameter.
        own: its mask; if not given, the ball of half its diameter.
    """
    near, low, away = _near(ct, center_mm, diameter_mm)
    inside = away <= max(diameter_mm / 4, away.min())
    if own is not None and (mask := own.within(low, near.shape)).any():
        inside = mask
    return float(near.voxels[inside].mean()) - lung_hu_of(near.voxels)


def dense_around(ct: Volume, center_mm: Sequence[float], diameter_mm: float) -> float:
    """Return the share of the shell of `LEAST_SHELL_MM` around a ball that is denser than lung by `SOLID_ABOVE_HU`.

    Args:
        ct: HU.
        center_mm: middle of the ball (x, y, z), LPS.
        diameter_mm: its diameter.
    """
    near, _, away = _near(ct, center_mm, diameter_mm)
    shell = (away > diameter_mm / 2) & (away <= diameter_mm / 2 + max(LEAST_SHELL_MM, *ct.spacing_mm))
    dense = near.voxels > lung_hu_of(near.voxels) + SOLID_ABOVE_HU
    return float(dense[shell].mean()) if shell.any() else 0.0


def lung_share_around(ct: Volume, center_mm: Sequence[float], diameter_mm: float) -> float:
    """Return the share of a ball and of the `LUNG_WITHIN_MM` around it that has the density of aerated lung, 0 to 1.

    Args:
        ct: HU.
        center_mm: middle of the ball (x, y, z), LPS.
        diameter_mm: its diameter.
    """
    near, low = _around(ct, ct.to_voxel(center_mm), diameter_mm / 2 + LUNG_WITHIN_MM)
    z, y, x = near.shape
    away = PatchSpec((z, y, x), ct.spacing_mm).distances_mm(ct.to_voxel(center_mm) - low)
    smooth = uniform_filter(near.voxels.astype(np.float32), [max(round(2 / s), 1) for s in ct.spacing_mm])
    lowest, highest = LUNG_HU
    lung = (smooth > lowest) & (smooth < highest)
    return float(lung[away <= diameter_mm / 2 + LUNG_WITHIN_MM].mean())


def _near(ct: Volume, center_mm: Sequence[float], diameter_mm: float) -> tuple[Volume, list[int], NDArray[np.float64]]:
    """Return the box around a nodule, the index of its first voxel, and distances in mm from the nodule's middle."""
    near, low = _around(ct, ct.to_voxel(center_mm), max(shell_radius_mm(diameter_mm, ct.spacing_mm), NOISE_MM / 2))
    z, y, x = near.shape
    return near, low, PatchSpec((z, y, x), ct.spacing_mm).distances_mm(ct.to_voxel(center_mm) - low)


def _around(ct: Volume, center: NDArray[np.float64], reach_mm: float) -> tuple[Volume, list[int]]:
    """Cut the box within a distance of an index (z, y, x) out of a scan; return it and the index of its first voxel."""
    reach = np.ceil(np.divide(reach_mm, ct.spacing_mm)).astype(int)
    low, high = np.clip([np.rint(center) - reach, np.rint(center) + reach + 1], 0, ct.shape).astype(int)
    return crop(ct, low.tolist(), (high - low).tolist()), low.tolist()
