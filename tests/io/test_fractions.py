"""The meaning of a mask's values: one rule for all verbs."""

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.io.fractions import as_labels

BALL = np.hypot(*np.ogrid[-8:9, -8:9]).clip(0, 8)[None] / 8
"""0 in the middle, 1 from 8 voxels on."""


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int32, np.uint16, np.float32, np.float64])
def test_whole_numbers_are_labels_whatever_their_type(dtype):
    voxels = np.array([[[0, 1, 1, 0]]], dtype)
    labels, notes = as_labels("mask", voxels)
    assert labels.tolist() == [[[0, 1, 1, 0]]]
    assert labels.dtype.kind in "ui"
    assert not notes


@pytest.mark.parametrize("values", [[0.0, 255.0], [0.0, 1.0, 2.0, 300.0], [0.0, 0.9999998, 2.0000002, 7.0]])
def test_floats_that_hold_labels_are_labels(values):
    labels, notes = as_labels("mask", np.array([[values]]))
    assert labels.tolist() == [[np.rint(values).tolist()]]
    assert not notes


def test_probabilities_count_from_a_half_on_and_are_told():
    voxels = (1 - BALL).astype(np.float32)
    labels, notes = as_labels("soft.nrrd", voxels)
    assert labels.sum() == (BALL <= 0.5).sum()
    assert notes == (f"soft.nrrd: probabilities up to 1; the {(BALL <= 0.5).sum()} voxels of 0.5 or more are taken",)


def test_a_map_scaled_by_255_counts_its_whole_voxels():
    voxels = np.arange(256, dtype=np.float32)[None, None] * np.float32(1 / 255)
    assert as_labels("mask", voxels)[0].sum() == 128


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0.0, np.nan], "not finite"),
        ([0.0, np.inf], "not finite"),
        ([0.0, -1.0], "values from -1 to 0"),
        ([-1000, 40], "values from -1000 to 40"),
        ([0.0, 0.5, 37.2], "fractions from 0 to 37.2"),
        ([0.0, 0.31], "probabilities up to 0.31, none of which reaches 0.5"),
        ([0j, 1j], "voxels of type complex128"),
    ],
)
def test_what_is_no_mask_is_refused(values, found):
    with pytest.raises(InputError, match=f"mask: found .*{found}"):
        as_labels("mask", np.array([[values]]))


def test_a_blurred_mask_is_refused_rather_than_cut_to_its_middle():
    from scipy.ndimage import gaussian_filter

    mask = np.zeros((20, 30, 30), np.float32)
    mask[8:12, 10:18, 10:18] = 1
    with pytest.raises(InputError, match=r"up to 0\.\d+: \d+ voxels reach 0.5, but \d+ reach half of that peak"):
        as_labels("soft.nrrd", gaussian_filter(mask, 2.0))
    values, notes = as_labels("soft.nrrd", gaussian_filter(mask, 0.7))
    assert 0.8 * 256 < values.sum() < 1.2 * 256
    assert len(notes) == 1
