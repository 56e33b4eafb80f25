"""Lungs and places in scans that end within the lungs, of thin slabs, and of children."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.morphology import box_around, closed, dilated, eroded, filled_slices
from synthorax.anatomy.placement import Clearance, Placement
from synthorax.errors import InputError
from synthorax.geometry import crop, resample_to_spacing
from synthorax.volume import Volume

HALF_MM = {"z": 100.0, "y": 70.0, "x": 115.0}
"""Half widths of the box around both lungs of the `chest` fixture."""


def ml(mask: Volume) -> float:
    return float(mask.voxels.sum() * np.prod(mask.spacing_mm) / 1000)


def lungs_within(ct: Volume) -> float:
    """The true ml of the `chest` fixture's lungs in a part of it."""
    z, y, x = np.moveaxis(ct.to_world(np.argwhere(np.ones(ct.shape, bool))), -1, 0)[::-1]
    inside = (z / 100) ** 2 + (y / 70) ** 2 + ((abs(x) - 70) / 45) ** 2 <= 1
    return float(inside.sum() * np.prod(ct.spacing_mm) / 1000)


def part(chest: Volume, low_mm, high_mm) -> Volume:
    """The part of a scan between two corners (x, y, z) in mm."""
    low, high = (np.clip(np.rint(chest.to_voxel(corner)), 0, chest.shape).astype(int) for corner in (low_mm, high_mm))
    return crop(chest, low.tolist(), (high - low).tolist())


@pytest.mark.parametrize("corner", list(product((0, 4), repeat=3)))
@pytest.mark.parametrize("margin", [0, 1, 3])
def test_a_box_stays_within_the_array_at_every_face(corner, margin):
    mask = np.zeros((6, 6, 6), bool)
    mask[tuple(slice(c, c + 2) for c in corner)] = True
    box = box_around(mask, margin)
    assert mask[box].shape == tuple(side.stop - side.start for side in box)
    assert mask[box].sum() == 8
    for side, c in zip(box, corner, strict=True):
        assert (side.start, side.stop) == (max(c - margin, 0), min(c + 2 + margin, 6))


def test_a_mask_that_fills_its_array_stays_as_it_is():
    full, spacing = np.ones((1, 3, 4), bool), (5.0, 1.0, 1.0)
    assert box_around(full, 2) == (slice(0, 1), slice(0, 3), slice(0, 4))
    for change in (eroded, dilated, closed):
        assert change(full, 2.0, spacing).all()
    assert filled_slices(full).all()


PARTS = {
    "the last slice is within the lungs": ((-1e3, -1e3, -1e3), (1e3, 1e3, 40)),
    "the first slice is within the lungs": ((-1e3, -1e3, -40), (1e3, 1e3, 1e3)),
    "it ends a slice above the lungs": ((-1e3, -1e3, -1e3), (1e3, 1e3, 104)),
    "a slab": ((-1e3, -1e3, -12), (1e3, 1e3, 12)),
    "a slice": ((-1e3, -1e3, -2), (1e3, 1e3, 2)),
    "a box around the lungs": ((-116, -72, -100), (116, 72, 100)),
    "every face is within the lungs": ((-100, -56, -80), (100, 56, 80)),
    "the right face is within a lung": ((-70, -1e3, -1e3), (1e3, 1e3, 1e3)),
    "the left face is within a lung": ((-1e3, -1e3, -1e3), (70, 1e3, 1e3)),
    "the anterior face is within the lungs": ((-1e3, -40, -1e3), (1e3, 1e3, 1e3)),
    "the posterior face is within the lungs": ((-1e3, -1e3, -1e3), (1e3, 40, 1e3)),
}


@pytest.mark.parametrize("name", PARTS)
def test_wherever_a_scan_ends_its_lungs_are_found_and_places_lie_within_it(chest, name):
    ct = part(chest, *PARTS[name])
    lungs = find_lungs(ct)
    assert ml(lungs.mask) == pytest.approx(lungs_within(ct), rel=0.06)
    low, high = (ct.to_world(corner) for corner in ((-0.5,) * 3, np.array(ct.shape) - 0.5))
    diameter_mm = 4 if name == "a slice" else 10
    for seed in range(2):
        center = Placement(lungs).find(diameter_mm, seed, clearance=Clearance(None, None, None)).center_mm
        assert (np.array(center) - diameter_mm / 2 > low - 2).all()  # a place is drawn within a block of 4 mm
        assert (np.array(center) + diameter_mm / 2 < high + 2).all()


def test_a_slab_thinner_than_a_working_block_has_lungs(chest):
    slab = part(chest, *PARTS["a slice"])
    thin = replace(slab, spacing_mm=(0.5, 4.0, 4.0))
    assert ml(find_lungs(thin).mask) == pytest.approx(lungs_within(slab) / 8, rel=0.06)


def test_a_nodule_deeper_than_the_slab_is_refused_for_that_reason(chest):
    slice_ = part(chest, *PARTS["a slice"])
    with pytest.raises(InputError, match=r"at most 4\.0 mm: the ends of the scan would cut off a wider nodule"):
        Placement(find_lungs(slice_)).find(6, 0)


@pytest.mark.parametrize("size", [0.75, 0.5, 0.35])
def test_the_small_lungs_of_a_child_are_found(chest, size):
    child = replace(chest, spacing_mm=tuple(size * s for s in chest.spacing_mm))
    child = replace(child, origin_mm=tuple(size * c for c in chest.origin_mm))
    assert ml(find_lungs(child).mask) == pytest.approx(lungs_within(chest) * size**3, rel=0.06)


def test_one_lung_is_enough(chest):
    collapsed = chest.voxels.copy()
    collapsed[:, :, : chest.shape[2] // 2][chest.voxels[:, :, : chest.shape[2] // 2] > -960] = 40
    assert ml(find_lungs(replace(chest, voxels=collapsed)).mask) == pytest.approx(lungs_within(chest) / 2, rel=0.06)


@pytest.mark.parametrize("deep_mm", [10.0, 20.0])
def test_thick_slices_have_lungs(chest, deep_mm):
    ct = resample_to_spacing(chest, (deep_mm, 4.0, 4.0))
    assert ml(find_lungs(ct).mask) == pytest.approx(lungs_within(chest), rel=0.06)


def test_lungs_that_the_field_of_view_cuts_off_are_found(chest):
    radius = np.hypot(*np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in chest.shape[1:]], indexing="ij")) * 4
    seen = replace(chest, voxels=np.where(radius > 100, -2048, chest.voxels).astype(np.int16))
    whole = find_lungs(chest).on(chest).mask.voxels & (radius <= 100)
    found = find_lungs(seen).on(seen).mask.voxels
    assert 2 * (found & whole).sum() / (found.sum() + whole.sum()) > 0.95


def test_neither_foam_under_a_patient_nor_gas_in_the_bowel_is_lung(chest):
    """A foam of a lung's density behind the table's shell, and air in the body where the lungs were."""
    z, y, x = np.moveaxis(chest.to_world(np.argwhere(np.ones(chest.shape, bool))), -1, 0)[::-1]
    hu = np.where(chest.voxels > -960, 40, chest.voxels).reshape(-1)
    hu[(y > 100) & (abs(x) < 180)] = -1000
    hu[(y > 104) & (abs(x) < 180)] = -900
    hu[(z / 60) ** 2 + (y / 40) ** 2 + (x / 60) ** 2 <= 1] = -1000
    with pytest.raises(InputError, match="found no lung; expected"):
        find_lungs(replace(chest, voxels=hu.reshape(chest.shape).astype(np.int16)))
