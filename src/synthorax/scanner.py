"""The blur and the noise of a CT scanner, measured in a scan and made anew.

The noise of filtered back-projection has no power at frequency zero, rises with frequency as the ramp filter does
and falls again as the kernel cuts it off (Riederer et al. 1978): NPS(f) ~ f exp(-(2 pi g f)^2) in the slice, with
the grain g. Noise is correlated between neighbouring slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special
from scipy.ndimage import gaussian_filter, gaussian_filter1d, maximum_filter, minimum_filter, uniform_filter

from synthorax.seeding import derive, generator
from synthorax.volume import Volume

FLAT_MM = 6.0
"""Width of the neighbourhoods in which noise is measured."""
FLAT_SHARE = 0.2
"""Share of the neighbourhoods, those with the least variance, whose variance is attributed to noise alone."""
STEEP_SHARE = 0.15
"""Quantile of the edges' widths that is taken as the blur; wider edges are soft in the body itself."""
EDGE_HU = 600.0
"""Blur is measured at edges with a contrast above this many HU, such as lung against the chest wall."""
EDGE_REACH_MM = 3.0
"""Distance on each side of an edge within which its contrast is taken: wide enough for the plateaus on both sides,
narrow enough to hold one edge."""
CLIPPED_AIR_HU = -990.0
"""Voxels below this HU are air around the patient, where values are clipped and noise looks small."""
CONTEXT_MM = 20.0
"""Distance beyond its region up to which an edit looks at the scan, to measure blur and noise."""


@dataclass(frozen=True)
class Scanner:
    """The blur and the noise of a scan.

    Attributes:
        blur_mm: standard deviation of the point spread function across slices and within a slice (z, in-plane).
        noise_hu: standard deviation of the noise.
        grain_mm: the grain g of the noise in the slice; larger for smooth kernels.
        slice_grain_mm: standard deviation of the Gaussian, along z, that correlates the noise of neighbouring slices.

    >>> thin = Scanner(noise_hu=40.0)
    >>> noise = thin.noise((4, 64, 64), (1.0, 0.7, 0.7), seed=1)
    >>> noise.shape, round(float(noise.std()))
    ((4, 64, 64), 40)
    """

    blur_mm: tuple[float, float] = (1.0, 0.6)
    noise_hu: float = 25.0
    grain_mm: float = 0.55
    slice_grain_mm: float = 0.8

    def blurred(self, voxels: NDArray[np.floating], spacing_mm: Sequence[float]) -> NDArray[np.floating]:
        """Blur voxels [z, y, x] as the scanner does; spacing (z, y, x)."""
        z, plane = self.blur_mm
        return gaussian_filter(voxels, np.divide((z, plane, plane), spacing_mm), mode="nearest", truncate=3)

    def noise(self, shape: Sequence[int], spacing_mm: Sequence[float], seed: int) -> NDArray[np.float32]:
        """Make noise of this scanner.

        Args:
            shape: voxels (z, y, x).
            spacing_mm: voxel size (z, y, x).
            seed: the same seed gives the same noise.

        Returns:
            HU, float32 [z, y, x], of mean zero.
        """
        z, y, x = shape
        white = generator(seed, "noise").standard_normal((z, y, x), np.float32)
        f = np.hypot(fft.fftfreq(y, spacing_mm[1])[:, None], fft.rfftfreq(x, spacing_mm[2]))
        power = f * np.exp(-((2 * np.pi * self.grain_mm * f) ** 2))
        gain = np.sqrt(power).astype(np.float32)
        # One thread: a fork waits for SciPy's threads for the transform, and now and then does so forever.
        made = fft.irfft2(fft.rfft2(white) * gain, (y, x))
        made = gaussian_filter1d(made, self.slice_grain_mm / spacing_mm[0], axis=0, mode="reflect")
        spread = made.std()
        return made * np.float32(self.noise_hu / spread) if spread > 0 else made

    def noise_lost(self, share: NDArray[np.floating], spacing_mm: Sequence[float], seed: int) -> NDArray[np.floating]:
        """Make the noise to be added where smooth tissue has replaced part of each voxel, so that noise is even again.

        Args:
            share: [z, y, x] from 0 to 1, the part of each voxel that was replaced.
            spacing_mm: voxel size (z, y, x).
            seed: the same seed gives the same noise.

        Returns:
            HU [z, y, x]. With the share a, the old voxel keeps (1 - a) of its noise; this adds sqrt(1 - (1 - a)^2).
        """
        noise = self.noise(share.shape, spacing_mm, derive(seed, "noise"))
        return np.sqrt(1 - (1 - np.clip(share, 0, 1)) ** 2) * noise


def measure_scanner(ct: Volume, default: Scanner | None = None) -> Scanner:
    """Measure the blur and the noise of a scan or of a part of one.

    Noise is measured where the scan varies least, blur at the steepest edges between air or lung and denser tissue.

    Args:
        ct: HU [z, y, x].
        default: gives the blur where the volume has too few edges, and the noise where it is too small or has none.
    """
    default = default or Scanner()
    hu = ct.voxels.astype(np.float32)
    blur = _blur(hu, ct.spacing_mm)
    noise = _noise(hu, ct.spacing_mm)
    if noise is None:
        return Scanner(blur or default.blur_mm, default.noise_hu, default.grain_mm, default.slice_grain_mm)
    return Scanner(blur or default.blur_mm, *noise)


def _noise(hu: NDArray[np.float32], spacing_mm: Sequence[float]) -> tuple[float, float, float] | None:
    """Standard deviation (HU), grain and slice grain (mm) of the flattest neighbourhoods; None where there are none."""
    plane = max(3, 2 * int(FLAT_MM / spacing_mm[1] / 2) + 1)
    size = (1, plane, plane)
    mean = uniform_filter(hu, size)
    variance = np.maximum(uniform_filter(hu**2, size) - mean**2, 0)
    around = uniform_filter(variance, (3, plane, plane))  # a single neighbourhood may look flat by chance
    inside = minimum_filter(mean, size) > CLIPPED_AIR_HU
    if inside.sum() < 50:
        return None
    flat = inside & (around <= np.quantile(around[inside], FLAT_SHARE))
    residual = hu - mean
    power = float((residual[flat] ** 2).mean())
    if power <= 0:
        return None
    lags = [float((np.roll(residual, 1, axis) * residual)[flat].mean()) / power for axis in (0, 1, 2)]
    # Subtracting the local mean of n voxels lowers the variance and every correlation by 1/n.
    share = 1 / size[1] / size[2]
    across = np.clip((lags[1] + lags[2]) / 2 + share, 0.02, 0.95)
    along = np.clip(lags[0] + share, 1e-3, 0.9)
    ratio = np.linspace(0, 1.2, 241)
    correlation = special.hyp1f1(1.5, 1, -(ratio**2))
    falling = slice(0, int(correlation.argmin()) + 1)
    lag_over_grain = 2 * np.interp(-across, -correlation[falling], ratio[falling])
    grain = (spacing_mm[1] + spacing_mm[2]) / 2 / max(lag_over_grain, 1e-3)
    slice_grain = spacing_mm[0] / np.sqrt(-4 * np.log(along))
    return float(np.sqrt(power / (1 - share))), float(grain), float(slice_grain)


def _blur(hu: NDArray[np.float32], spacing_mm: Sequence[float]) -> tuple[float, float] | None:
    """Standard deviation in mm of the point spread function (z, in-plane); None where there are too few edges."""
    found = []
    for axes in ((0,), (1, 2)):
        sigmas = []
        for axis in axes:
            step = spacing_mm[axis]
            reach = [1, 1, 1]
            reach[axis] = 2 * max(2, round(EDGE_REACH_MM / step)) + 1
            contrast = maximum_filter(hu, reach) - minimum_filter(hu, reach)
            slope = abs(np.diff(hu, axis=axis, append=np.take(hu, [-1], axis))) / step
            peak = slope == maximum_filter(slope, reach)
            edges = peak & (contrast > EDGE_HU)
            if edges.sum() < 30:
                continue
            sigmas.append(contrast[edges] / slope[edges] / np.sqrt(2 * np.pi))
        if not sigmas:
            return None
        sigma = float(np.quantile(np.concatenate(sigmas), STEEP_SHARE))
        # The difference of two neighbouring voxels, each a mean over its own width, widens the edge.
        sampled = (1 / 12 + 1 / 12) * float(np.mean([spacing_mm[a] for a in axes])) ** 2
        found.append(max(sigma**2 - sampled, 0.01) ** 0.5)
    return found[0], found[1]
