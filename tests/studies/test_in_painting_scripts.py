"""The scripts that measure in-paintings.

The control pastes real nodules, and a contact sheet does not reveal its key.
"""

import numpy as np
import pytest

from in_painting_sheets import SHEET, drawn_sheet
from pasted_nodules import LIKE_NOISE, Pasted
from rendering_sites import Real
from synthorax.errors import InputError
from synthorax.makers import Edit, fill
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask

MM = (1.0, 1.0, 1.0)


def donor(i, mm, hu, noise_hu):
    mask = ball_mask((50, 50, 50), mm)
    ct = np.random.default_rng(i).normal(-850, noise_hu, mask.shape)
    ct[mask] = hu
    nodule = Nodule("1", (24.5,) * 3, NoduleAttributes(diameter_mm=mm, texture=5.0), 1)
    return Real(f"P{i}", "train", ct.astype(np.int16), mask, nodule, mm, mask, 1.0)


@pytest.fixture(scope="module")
def method():
    quiet = [donor(i, 8.0, 10 + i, 10) for i in range(LIKE_NOISE)]
    loud = [donor(100 + i, 8.0, 200 + i, 60) for i in range(LIKE_NOISE)]
    return Pasted([*quiet, *loud, donor(200, 14.0, 300, 10)])


def pasted(method, noise_hu, mm=8.0, seed=0):
    lung = np.random.default_rng(99).normal(-850, noise_hu, (57, 57, 57)).astype(np.float32)
    region = ball_mask(lung.shape, 30)
    return lung, fill(method, Volume(lung, MM), region, Edit("inject", NoduleAttributes(mm, texture=5.0)), seed)


def test_a_real_nodule_of_the_diameter_and_of_a_scan_with_like_noise_lies_in_the_middle(method):
    for noise_hu, least, most in ((10, 10, 17), (60, 200, 207)):
        lung, made = pasted(method, noise_hu)
        inside = made.hu[made.mask].round()
        assert inside.min() == inside.max()
        assert least <= inside[0] <= most
        assert np.argwhere(made.mask).mean(0) == pytest.approx([27.5] * 3)
        far = ~ball_mask(lung.shape, 14)
        assert (made.hu[far] == lung[far]).all()


def test_seeds_paste_nodules_of_several_patients_and_one_unlike_all_is_refused(method):
    assert len({pasted(method, 10, seed=seed)[1].outline for seed in range(12)}) > 1
    with pytest.raises(InputError, match="no real nodule like"):
        pasted(method, 10, mm=30.0)


def test_a_contact_sheet_has_as_many_real_as_made_nodules_of_like_diameters_at_places_of_their_own():
    diameters = np.random.default_rng(0).uniform(4, 14, 100)
    sheet = drawn_sheet(diameters, "one")
    assert sum(sheet.real) == SHEET == len(sheet.real) // 2
    assert len(set(sheet.numbers)) == 2 * SHEET
    shown, real = diameters[list(sheet.numbers)], np.array(sheet.real)
    kinds = [np.sort(shown[real]), np.sort(shown[~real])]
    assert np.abs(np.subtract(*kinds)).max() < 0.5
    assert sheet != drawn_sheet(diameters, "another")
    assert 6 < np.sum(sheet.real[:SHEET]) < SHEET - 6
