"""Whether a nodule in a scan can be told from what is around it, and whether there is any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.geometry import crop
from synthorax.metrics.contrast import Contrast, ball_and_shell, shell_radius_mm
from synthorax.patch import PatchSpec
from synthorax.region import Region
from synthorax.rendering.overlay import lung_hu_of
from synthorax.scanner import measure_scanner
from synthorax.volume import Volume

NOISE_MM = 25.0
"""Noise is measured within this distance of the nodule."""
DENSER_HU = 100.0
"""A place whose middle is denser than the lung around it by this may hold a nodule, even one on a wall."""
SURELY = 1.5
"""A nodule is visible, whatever the noise is, if this many times the spread of HU around it leave it so."""


def contrast(
    ct: Volume, nodule: Region, diameter_mm: float, lungs: Lungs | None = None, others: Sequence[Region] = ()
) -> Contrast:
    """Compare the ball of a nodule with the shell around it.

    Args:
        ct: HU, with the nodule.
        nodule: its voxels; the ball lies about their mean.
        diameter_mm: of the ball.
        lungs: what of the ball and of the shell lies in them is compared; all of both if one of them misses the lungs.
        others: nodules that the shell leaves out.
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
    # What is around the nodule varies about as much as the noise at least, which takes longer to measure.
    found = Contrast.of(near.voxels, ball, shell, SURELY * float(near.voxels[shell].std()))
    if found.visible:
        return found
    noise_hu = measure_scanner(_around(ct, center, max(outer, NOISE_MM))[0]).noise_hu
    return Contrast.of(near.voxels, ball, shell, noise_hu)


def may_hold_nodule(ct: Volume, center_mm: Sequence[float], diameter_mm: float) -> bool:
    """Whether a place may hold a nodule: it stands out from the shell around it, or its middle is denser than lung.

    Args:
        ct: HU.
        center_mm: (x, y, z), LPS.
    """
    near, low = _around(ct, ct.to_voxel(center_mm), max(shell_radius_mm(diameter_mm, ct.spacing_mm), NOISE_MM / 2))
    z, y, x = near.shape
    middle = ct.to_voxel(center_mm) - low
    away = PatchSpec((z, y, x), ct.spacing_mm).distances_mm(middle)
    core = away <= max(diameter_mm / 4, away.min())
    if float(near.voxels[core].mean()) > lung_hu_of(near.voxels) + DENSER_HU:
        return True
    own = Region.of(away <= max(diameter_mm / 2, away.min()))
    return contrast(near, own, diameter_mm).visible


def _around(ct: Volume, center: NDArray[np.float64], reach_mm: float) -> tuple[Volume, list[int]]:
    """What lies within a reach of an index (z, y, x), as far as the scan goes, and the index of its first voxel."""
    reach = np.ceil(np.divide(reach_mm, ct.spacing_mm)).astype(int)
    low, high = np.clip([np.rint(center) - reach, np.rint(center) + reach + 1], 0, ct.shape).astype(int)
    return crop(ct, low.tolist(), (high - low).tolist()), low.tolist()
