"""Blur and noise of scanners, simulated and measured."""

import numpy as np
import pytest

from synthorax.scanner import Scanner, measure_scanner
from synthorax.volume import Volume

SCANS = [
    ((1.0, 1.0, 1.0), Scanner((1.0, 0.7), 25, 0.5, 0.8)),
    ((2.5, 0.7, 0.7), Scanner((1.2, 0.6), 40, 0.35, 1.5)),
    ((1.25, 0.6, 0.6), Scanner((0.8, 0.9), 15, 0.6, 1.0)),
]


def scene(spacing_mm):
    """Lung and wall with a slanted border, and a few round things in the lung."""
    shape = [round(60 / s) for s in spacing_mm]
    axes = [(np.arange(n) - n / 2) * s for n, s in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    hu = np.where(y - 4 + 0.3 * x + 0.25 * z > 0, 40.0, -860.0)
    for center in np.random.default_rng(0).uniform(-25, 25, (6, 3)):
        hu[(z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 < 36] = 30
    return hu


@pytest.mark.parametrize(("spacing_mm", "scanner"), SCANS)
def test_noise_has_the_deviation_that_is_asked_for(spacing_mm, scanner):
    noise = scanner.noise((40, 64, 60), spacing_mm, 1)
    assert noise.std() == pytest.approx(scanner.noise_hu, rel=0.01)
    assert abs(noise.mean()) < 0.1 * scanner.noise_hu
    assert (noise == scanner.noise((40, 64, 60), spacing_mm, 1)).all()
    assert (noise != scanner.noise((40, 64, 60), spacing_mm, 2)).any()


def test_noise_of_back_projection_has_little_power_at_low_frequencies():
    noise = Scanner(grain_mm=0.5).noise((8, 128, 128), (1.0, 0.7, 0.7), 3)
    power = (abs(np.fft.fft2(noise)) ** 2).mean(0)
    f = np.hypot(np.fft.fftfreq(128, 0.7)[:, None], np.fft.fftfreq(128, 0.7))
    peak = 1 / (2 * np.pi * 0.5 * np.sqrt(2))  # of f exp(-(2 pi g f)^2)
    around = power[abs(f - peak) < 0.05].mean()
    assert power[f < 0.03].mean() < 0.3 * around
    assert power[(f > 0.6) & (f < 0.7)].mean() < 0.3 * around


def test_a_soft_kernel_has_coarser_noise_than_a_sharp_one():
    def neighbours(grain_mm):
        noise = Scanner(grain_mm=grain_mm).noise((4, 128, 128), (1.0, 0.7, 0.7), 3)
        return (noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var()

    assert neighbours(0.8) > neighbours(0.5) + 0.1 > neighbours(0.35) + 0.2


@pytest.mark.parametrize(("spacing_mm", "scanner"), SCANS)
def test_blur_and_noise_of_a_scan_are_measured(spacing_mm, scanner):
    hu = scanner.blurred(scene(spacing_mm), spacing_mm)
    hu = hu + scanner.noise(hu.shape, spacing_mm, 3)
    found = measure_scanner(Volume(np.rint(hu).astype(np.int16), spacing_mm))
    assert found.noise_hu == pytest.approx(scanner.noise_hu, rel=0.25)
    assert found.grain_mm == pytest.approx(scanner.grain_mm, rel=0.25)
    assert found.blur_mm == pytest.approx(scanner.blur_mm, rel=0.25)


def test_what_a_patch_does_not_show_is_as_usual():
    usual = Scanner((0.9, 0.5), 30, 0.4, 0.7)
    assert measure_scanner(Volume(np.full((9, 9, 9), -1000, np.int16), (1.0, 1.0, 1.0)), usual) == usual
    lung = np.full((20, 40, 40), -850.0) + Scanner(noise_hu=20).noise((20, 40, 40), (1, 1, 1), 0)
    found = measure_scanner(Volume(lung.astype(np.int16), (1.0, 1.0, 1.0)), usual)
    assert found.blur_mm == usual.blur_mm  # no edges
    assert found.noise_hu == pytest.approx(20, rel=0.25)


def test_the_noise_of_real_soft_tissue_is_measured(real_data):
    from synthorax.geometry import crop
    from synthorax.io.scans import read_scan

    ct = read_scan(real_data / "lidc-scans" / "LIDC-IDRI-0001").ct
    found = measure_scanner(crop(ct, (0, 260, 340), (25, 80, 80)))
    assert 10 < found.noise_hu < 35
    assert 0.3 < found.blur_mm[1] < 0.9
