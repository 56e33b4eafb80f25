"""A fill that gives back what was hidden has no error, and its mask is compared with what is seen."""

import numpy as np
import pytest

from synthorax.editing.learned import Learned
from synthorax.errors import InputError
from synthorax.makers import Lineage
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.studies.reconstruction import HeldOutNodule, reconstructed, reconstruction_figures
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask

MM = (1.0, 1.0, 1.0)
SPEC = PatchSpec((24, 24, 24), MM)
LUNG_HU, NODULE_HU = -850.0, 30.0


def nodules():
    outline, random = ball_mask((30, 30, 30), 9), np.random.default_rng(0)
    hu = [np.where(outline, NODULE_HU, LUNG_HU) + random.normal(0, 10, outline.shape) for _ in range(4)]
    known = NoduleAttributes(9.0, texture=5.0)
    return [HeldOutNodule(Volume(each, MM), outline, known, f"P{i}") for i, each in enumerate(hu)]


def in_painter(nodule_hu=NODULE_HU, off_hu=0.0, least_voxels=0):
    def fill(hu, region, edit, seed):
        if edit.mask.sum() < least_voxels:
            raise InputError("mask", f"{edit.mask.sum()} voxels", f"{least_voxels} or more")
        assert edit.nodule.given() == {"diameter_mm": 9.0}  # the texture is not heeded
        ball = SPEC.distances_mm() <= edit.diameter_mm / 2 + 3
        fill = np.where(edit.mask, nodule_hu, LUNG_HU) + off_hu
        return np.where(ball, fill, hu).astype(np.float32), edit.mask

    heeds, roles = frozenset({"diameter_mm"}), frozenset({"injects"})
    return Learned(fill, SPEC, name="toy", lineage=Lineage("toy"), heeds=heeds, roles=roles)


def figures(**fill):
    return reconstruction_figures(reconstructed(in_painter(**fill), nodules())[0], NODULE_HU)


def test_what_is_painted_as_it_was_has_the_error_of_its_noise_and_a_blank_outline_that_of_lung():
    found = figures()
    assert found.n == 4
    assert found.told.value == pytest.approx(10 * np.sqrt(2 / np.pi), rel=0.1)
    assert found.flat.value == pytest.approx(found.told.value, rel=0.05)
    assert found.blank.value == pytest.approx(found.lung.value, rel=0.01)
    assert found.blank.value > 100
    assert [getattr(found, name).value for name in ("mask_seen", "mask_real", "seen_real")] == pytest.approx(
        [1, 1, 1], abs=0.05
    )


def test_an_error_is_in_hu_over_the_hidden_voxels():
    assert figures(off_hu=100.0).told.value == pytest.approx(100, abs=3)


def test_a_mask_of_a_nodule_that_is_not_painted_is_not_seen():
    found = figures(nodule_hu=LUNG_HU - 5)
    assert found.mask_seen.value == 0
    assert found.mask_real.value == pytest.approx(1)
    assert found.real_seen_real.value > 0.95


def test_an_in_painter_that_refuses_empty_outlines_has_no_figure_of_them_and_refused_nodules_are_told():
    found = figures(least_voxels=1)
    assert found.blank is None
    assert found.told.value < 10
    made, refused = reconstructed(in_painter(least_voxels=1000), nodules())
    assert (len(made), len(refused)) == (0, 4)
    assert "expected 1000 or more" in refused[0]
