"""The contrast of a nodule with its surroundings, and whether noise hides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError
from synthorax.patch import PatchSpec

SEEN = 2.0
"""A nodule is visible if its contrast is at least this many standard deviations of the noise's mean over its voxels."""
SHELL = 2.0
"""Outer radius of the shell around a nodule, in radii of the nodule."""
LEAST_SHELL_MM, LEAST_SHELL_VOXELS = 2.0, 1.5
"""Least thickness of the shell, and its least outer radius in units of the voxel's longest edge."""


@dataclass(frozen=True)
class Contrast:
    """The contrast of a nodule.

    Attributes:
        hu: mean HU of the nodule's ball minus mean HU of the shell around it.
        least_hu: contrast from which on the nodule is visible, `SEEN` standard deviations of the noise's mean over as
            many voxels as the ball has.
    """

    hu: float
    least_hu: float

    @classmethod
    def of(cls, hu: NDArray, ball: NDArray[np.bool_], shell: NDArray[np.bool_], noise_hu: float) -> Contrast:
        """Compare a ball with its shell.

        Args:
            hu: [z, y, x].
            ball, shell: bool [z, y, x], neither empty.
            noise_hu: standard deviation of the noise of one voxel.

        >>> ball, shell = ball_and_shell(PatchSpec((21, 21, 21)).distances_mm(), 8.0, (1.0, 1.0, 1.0))
        >>> found = Contrast.of(np.where(ball, -840.0, -850.0), ball, shell, noise_hu=80.0)
        >>> found.hu, round(found.least_hu, 2), found.visible
        (10.0, 9.98, True)
        """
        return cls(float(hu[ball].mean() - hu[shell].mean()), float(SEEN * noise_hu / np.sqrt(ball.sum())))

    @property
    def visible(self) -> bool:
        """Whether the nodule is denser than its surroundings by more than the noise can explain."""
        return self.hu >= self.least_hu


def shell_radius_mm(diameter_mm: float, spacing_mm: Sequence[float]) -> float:
    """Return the outer radius in mm of the shell with which the ball of a nodule is compared.

    Args:
        diameter_mm: diameter of the ball.
        spacing_mm: voxel size (z, y, x).
    """
    radius = diameter_mm / 2
    return max(SHELL * radius, radius + LEAST_SHELL_MM, LEAST_SHELL_VOXELS * max(spacing_mm))


def ball_and_shell(
    away_mm: NDArray[np.float64], diameter_mm: float, spacing_mm: Sequence[float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the voxels of a nodule's ball and of the shell around it, bool [z, y, x] each.

    Args:
        away_mm: distance of each voxel from the middle of the nodule, [z, y, x].
        diameter_mm: diameter of the ball.
        spacing_mm: voxel size (z, y, x).
    """
    ball = away_mm <= diameter_mm / 2
    return ball, (away_mm <= shell_radius_mm(diameter_mm, spacing_mm)) & ~ball


def invisible(
    hu: NDArray,
    diameters_mm: ArrayLike,
    noise_hu: ArrayLike,
    spacing_mm: tuple[float, float, float],
    others: NDArray[np.bool_] | None = None,
    middles: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    """Return whether noise hides the nodule of each patch, bool [n]: it is not `Contrast.visible`.

    Args:
        hu: HU [n, z, y, x].
        diameters_mm: requested diameters, [n].
        noise_hu: standard deviation of the noise in each patch, [n].
        spacing_mm: voxel size (z, y, x).
        others: voxels that do not belong to shells, such as walls and vessels, bool [n, z, y, x].
        middles: index (z, y, x) of the middle of each nodule, [n, 3]; the middle of the patch if not given.

    Raises:
        InputError: a ball or a shell has no voxel.
    """
    found = []
    grid = PatchSpec(hu.shape[1:], spacing_mm)
    centers = [None] * len(hu) if middles is None else np.asarray(middles)
    for i, (diameter, noise) in enumerate(zip(np.asarray(diameters_mm), np.asarray(noise_hu), strict=True)):
        ball, shell = ball_and_shell(grid.distances_mm(centers[i]), diameter, spacing_mm)
        if others is not None:
            shell &= ~others[i]
        if not ball.any() or not shell.any():
            expected = "a diameter with voxels in the nodule's ball and in the shell around it"
            raise InputError("diameter", f"{diameter:g} mm", expected)
        found.append(not Contrast.of(hu[i], ball, shell, noise).visible)
    return np.array(found)
