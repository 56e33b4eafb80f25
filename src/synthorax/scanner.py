"""What a CT scanner does to what it looks at: blur and noise, made and measured.

The noise of filtered back-projection has no power at frequency zero, rises with frequency as the ramp filter does
and falls again as the kernel cuts it off (Riederer et al. 1978): NPS(f) ~ f exp(-(2 pi g f)^2) in the slice, with
the grain g. Neighbouring slices share some of it.
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
"""So much of a scan, where it varies least, is taken to vary by noise alone."""
STEEP_SHARE = 0.15
"""So much of the edges, the steepest, are taken to be sharp but for the blur."""
EDGE_HU = 600.0
"""Edges have more contrast than this."""
EDGE_REACH_MM = 3.0
"""Edges are looked for within this distance: wide enough for both plateaus, narrow enough for one edge."""
CLIPPED_AIR_HU = -990.0
"""Voxels below this HU are air around the patient, where values are clipped and noise looks small."""
CONTEXT_MM = 20.0
"""An edit looks at the scan up to this distance beyond its region, to measure blur and noise."""


@dataclass(frozen=True)
class Scanner:
    """Blur and noise of a scan.

    Attributes:
        blur_mm: standard deviation of the point spread along slices and in them (z, in-plane).
        noise_hu: standard deviation.
        grain_mm: the grain g of the noise in the slice; coarser for smooth kernels.
        slice_grain_mm: standard deviation of the Gaussian that correlates slices.
    """

    blur_mm: tuple[float, float] = (1.0, 0.6)
    noise_hu: float = 25.0
    grain_mm: float = 0.55
    slice_grain_mm: float = 0.8

    def blurred(self, voxels: NDArray[np.floating], spacing_mm: Sequence[float]) -> NDArray[np.floating]:
        """Voxels [z, y, x] as the scanner would show them without noise."""
        z, plane = self.blur_mm
        return gaussian_filter(voxels, np.divide((z, plane, plane), spacing_mm), mode="nearest", truncate=3)

    def noise(self, shape: Sequence[int], spacing_mm: Sequence[float], seed: int) -> NDArray[np.float32]:
        """Noise of this scanner, float32 HU [z, y, x], about zero."""
        z, y, x = shape
        white = generator(seed, "noise").standard_normal((z, y, x), np.float32)
        f = np.hypot(fft.fftfreq(y, spacing_mm[1])[:, None], fft.rfftfreq(x, spacing_mm[2]))
        power = f * np.exp(-((2 * np.pi * self.grain_mm * f) ** 2))
        gain = np.sqrt(power).astype(np.float32)
        made = fft.irfft2(fft.rfft2(white, workers=-1) * gain, (y, x), workers=-1)
        made = gaussian_filter1d(made, self.slice_grain_mm / spacing_mm[0], axis=0, mode="reflect")
        spread = made.std()
        return made * np.float32(self.noise_hu / spread) if spread > 0 else made

    def noise_lost(self, share: NDArray[np.floating], spacing_mm: Sequence[float], seed: int) -> NDArray[np.floating]:
        """The noise that a scan loses where this share of its voxels [z, y, x] is replaced."""
        noise = self.noise(share.shape, spacing_mm, derive(seed, "noise"))
        return np.sqrt(1 - (1 - np.clip(share, 0, 1)) ** 2) * noise


def measure_scanner(ct: Volume, default: Scanner | None = None) -> Scanner:
    """The scanner that a scan, or a part of one, looks to be from.

    Noise is measured where the scan varies least, blur at the steepest edges between air or lung and denser tissue.
    What a part does not show, such as edges, is the default's.
    """
    default = default or Scanner()
    hu = ct.voxels.astype(np.float32)
    blur = _blur(hu, ct.spacing_mm)
    noise = _noise(hu, ct.spacing_mm)
    if noise is None:
        return Scanner(blur or default.blur_mm, default.noise_hu, default.grain_mm, default.slice_grain_mm)
    return Scanner(blur or default.blur_mm, *noise)


def _noise(hu: NDArray[np.float32], spacing_mm: Sequence[float]) -> tuple[float, float, float] | None:
    """Standard deviation, grain and slice grain, from the flattest neighbourhoods."""
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
    # Local means take their share of the variance away, and of the correlation.
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
    """Standard deviation of the point spread (z, in-plane); None without edges."""
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
        # A difference of neighbours, which are means themselves, sees an edge wider than it is.
        sampled = (1 / 12 + 1 / 12) * float(np.mean([spacing_mm[a] for a in axes])) ** 2
        found.append(max(sigma**2 - sampled, 0.01) ** 0.5)
    return found[0], found[1]
