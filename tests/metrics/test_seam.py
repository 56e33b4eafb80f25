"""The seam of an edit is the step across its border, as distinct from steps that the scan itself has."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.metrics.bootstrap import patient_bootstrap
from synthorax.metrics.seam import Border, inner_seam_ratio_of, seam_ratio_of, steps_across_spheres_hu
from tests.helpers.balls import ball_mask

MM = (1.0, 1.0, 1.0)
SHAPE = (30, 30, 30)


@pytest.fixture(scope="module")
def region():
    return ball_mask(SHAPE, 14)


@pytest.fixture(scope="module")
def border(region):
    return Border.of(region, MM)


def noise(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(-850, 25, shape)


def test_a_region_that_is_40_hu_denser_has_a_seam_of_40_hu(region, border):
    flat = np.full(SHAPE, -850.0)
    found = border.seam(flat, flat + 40 * region)
    assert found.made_hu == pytest.approx(40)
    assert (found.own_hu, found.rank, found.own_rank) == (0, 1, 0.5)


def test_an_edit_that_fades_in_from_its_border_has_no_seam(border):
    scan = noise(0)
    nodule = 900 * gaussian_filter(ball_mask(SHAPE, 6).astype(float), 0.7)
    found = border.seam(scan, scan + nodule)
    assert found.made_hu == pytest.approx(found.own_hu, rel=1e-3)


def test_other_noise_of_the_same_scanner_is_no_seam_and_10_hu_more_are_one(region, border):
    found = [
        [border.seam(noise(i), np.where(region, noise(50 + i) + more, noise(i))) for i in range(6)] for more in (0, 10)
    ]
    same, denser = (float(seam_ratio_of(each).values(np.ones((1, 6)))[0]) for each in found)
    assert same == pytest.approx(1, abs=0.1)
    assert denser > 1.5
    assert np.mean([each.rank for each in found[0]]) == pytest.approx(0.5, abs=0.25)
    assert min(each.rank for each in found[1]) > 0.95


def test_a_vessel_across_the_border_is_a_step_of_the_scan_and_one_that_the_edit_cuts_off_is_a_seam(region, border):
    scan = noise(1)
    scan[:, 13:17, 13:17] += 800
    untouched = border.seam(scan, scan)
    cut = border.seam(scan, np.where(region, noise(2), scan))
    assert untouched.made_hu == untouched.own_hu
    assert cut.made_hu > 1.5 * untouched.own_hu


def test_steps_are_averaged_along_the_border_in_millimetres():
    """Noise averaged over four times as many voxels of half the width is half as strong."""
    found = []
    for size, spacing in ((24, 1.0), (48, 0.5)):
        border = Border.of(ball_mask((size,) * 3, 14, (spacing,) * 3), (spacing,) * 3)
        found.append(border.step_hu(noise(3, (size,) * 3)))
    assert found[1] / found[0] == pytest.approx(0.5, rel=0.15)


def test_a_border_is_moved_to_every_place_that_holds_it_but_its_own():
    region = np.zeros((5, 5, 12), bool)
    region[1:4, 1:4, 1:4] = True  # its border takes 5 voxels, so there is room for 7 more along x
    hu = np.zeros(region.shape)
    hu[..., 7:] = 90.0  # which is on the border at both
    found = Border.of(region, MM).steps_elsewhere_hu(hu)
    assert len(found) == 2  # 3 and 6 voxels further
    assert (found > 0).tolist() == [True, True]


def test_a_ratio_of_seams_has_an_interval_over_patients(region, border):
    seams = [border.seam(noise(i), np.where(region, noise(90 + i), noise(i))) for i in range(6)]
    found = patient_bootstrap(seam_ratio_of(seams), list("aabbcc")).interval()
    assert found.low < found.value < found.high


def test_a_region_without_a_border_is_refused(border):
    for inside, text in (
        (np.ones(SHAPE, bool), "a region that fills its patch"),
        (np.zeros(SHAPE, bool), "an empty region"),
    ):
        with pytest.raises(InputError, match=f"region: found {text}"):
            Border.of(inside, MM)
    with pytest.raises(InputError, match="patches: found shapes"):
        border.seam(noise(0), noise(0)[1:])


def test_a_faint_ball_around_a_nodule_is_a_seam_where_it_ends_and_the_nodule_itself_is_none():
    mask, ball = ball_mask(SHAPE, 8), ball_mask(SHAPE, 16)
    nodule = 900 * gaussian_filter(mask.astype(float), 0.6)
    found = {}
    for halo_hu in (0, 30):
        scans = [noise(i) for i in range(4)]
        made = [scan + nodule + halo_hu * ball for scan in scans]
        steps = [
            steps_across_spheres_hu(old, new, mask, [14.5] * 3, 8.0, MM) for old, new in zip(scans, made, strict=True)
        ]
        found[halo_hu] = float(inner_seam_ratio_of(steps).values(np.ones((1, 4)))[0])
        sizes = np.mean(steps, 0)[:, 0]
    assert found[0] == pytest.approx(1, abs=0.03)
    assert found[30] > 2
    assert sizes.argmax() == 1  # 4 mm outside the nodule of 8 mm, where the ball of 16 mm ends


def test_spheres_that_the_patch_does_not_show_or_that_lie_along_the_nodule_have_no_steps():
    scan = noise(0)
    assert np.isnan(steps_across_spheres_hu(scan, scan, ball_mask(SHAPE, 8), [14.5] * 3, 60.0, MM)).all()
    long = np.zeros(SHAPE, bool)
    long[5:25, 5:25, 5:25] = True
    found = steps_across_spheres_hu(scan, scan, long, [14.5] * 3, 8.0, MM)
    assert np.isnan(found).all()
