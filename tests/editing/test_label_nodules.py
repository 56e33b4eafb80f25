"""Nodules added to label maps: only in the lungs, away from other structures, with exact masks."""

from dataclasses import replace

import numpy as np
import pytest

from synthorax.anatomy.placement import Clearance
from synthorax.anatomy.tissue import TissueClass
from synthorax.editing.label_nodules import WantedNodules, lungs_of_labels, put_nodules
from synthorax.errors import InputError
from synthorax.rendering.shapes import LidcOutlines, OneShape
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.chests import labels_of_two_lungs

OVAL = OneShape(Volume(ball_mask((24, 24, 24), 18, (1.0, 1.0, 1.0))[:, ::2], (1.0, 1.0, 1.0)))


@pytest.fixture(scope="module")
def chest():
    return labels_of_two_lungs()


def wanted(count=4, *diameters, **options):
    return WantedNodules(count, diameters, **options)


def test_nodules_lie_in_the_lungs_and_their_masks_are_their_voxels_in_the_map(chest):
    made = put_nodules(chest, wanted(5, 20.0, 16.0, 24.0, 16.0, 20.0), OVAL, 3)
    added = made.labels.voxels != chest.voxels
    np.testing.assert_array_equal(made.labels.voxels == TissueClass.NODULE, made.mask.voxels > 0)
    np.testing.assert_array_equal(added, made.mask.voxels > 0)
    assert (chest.voxels[added] == TissueClass.OTHER).mean() >= 0.8
    assert [nodule.label for nodule in made.nodules] == [1, 2, 3, 4, 5]
    for nodule, asked in zip(made.nodules, (20, 16, 24, 16, 20), strict=True):
        assert nodule.attributes.diameter_mm == pytest.approx(asked, abs=4.0)  # a voxel
        assert nodule.extra["from"] == "put in"
    centers = np.array([nodule.center_mm for nodule in made.nodules])
    gaps = np.linalg.norm(centers[:, None] - centers, axis=-1)[np.triu_indices(5, 1)]
    assert gaps.min() > 16


def test_a_nodule_does_not_depend_on_those_after_it_and_another_seed_gives_others(chest):
    one, three = (put_nodules(chest, wanted(n, 16.0), OVAL, 3) for n in (1, 3))
    assert one.nodules[0] == three.nodules[0]
    other = put_nodules(chest, wanted(1, 16.0), OVAL, 4)
    assert other.nodules[0].center_mm != one.nodules[0].center_mm


def test_one_shape_is_turned_and_mirrored_for_each_nodule(chest):
    fine = Volume(np.full((60, 60, 60), TissueClass.OTHER, np.uint8), (1.0, 1.0, 1.0))
    wedge = ball_mask((20, 20, 20), 16, (1.0, 1.0, 1.0))
    wedge[:, 10:, 10:] = False
    shapes = OneShape(Volume(wedge, (1.0, 1.0, 1.0)))
    masks = [put_nodules(fine, wanted(1, 14.0), shapes, seed).regions[0].mask for seed in range(4)]
    assert len({mask.tobytes() for mask in masks}) == 4


def test_nodules_of_no_stated_diameter_are_about_as_wide_as_their_shapes(chest):
    made = put_nodules(replace(chest, spacing_mm=(2.0, 2.0, 2.0)), wanted(6), OVAL, 0)
    widths = [float(nodule.extra["wanted_diameter_mm"]) for nodule in made.nodules]
    assert all(18 * 0.8 < width < 18 * 1.25 for width in widths)
    assert len(set(widths)) == 6


def test_nodules_of_the_map_come_first_and_are_kept_clear_of(chest):
    voxels = chest.voxels.copy()
    voxels[28:33, 30:35, 28:33] = TissueClass.NODULE
    made = put_nodules(replace(chest, voxels=voxels), wanted(3, 16.0, clearance=Clearance(2, 0, 20)), OVAL, 1)
    assert [nodule.extra["from"] for nodule in made.nodules] == ["label map", "put in", "put in", "put in"]
    assert (made.mask.voxels[28:33, 30:35, 28:33] == 1).all()
    first, *others = (np.array(nodule.center_mm) for nodule in made.nodules)
    assert min(np.linalg.norm(first - one) for one in others) > 20 + 8


def test_the_patients_whose_outlines_were_put_in_are_named(chest):
    made = put_nodules(chest, wanted(2, 20.0), LidcOutlines(["LIDC-IDRI-0003"]), 1)
    assert len(made.outlines) == 1
    assert {nodule.extra["shape_origin"] for nodule in made.nodules} == {"LIDC-IDRI-0003"}


def test_a_nodule_that_fits_nowhere_is_refused_with_the_widest_that_does(chest):
    with pytest.raises(InputError, match=r"diameter: found 99 mm; expected at most .* mm, the widest nodule that fits"):
        put_nodules(chest, wanted(1, 99.0), OVAL, 0)


def test_air_around_the_patient_is_no_place_where_a_table_has_it_of_one_class_with_lung(chest):
    thesis = replace(chest, voxels=np.where(chest.voxels == TissueClass.OUTSIDE, TissueClass.OTHER, chest.voxels))
    made = put_nodules(replace(thesis, voxels=thesis.voxels.astype(np.uint8)), wanted(6, 20.0), OVAL, 5)
    inside = made.mask.voxels > 0
    assert not (chest.voxels[inside] == TissueClass.OUTSIDE).any()


def test_an_airway_is_no_lung(chest):
    voxels = chest.voxels.copy()
    voxels[20:, 30:34, 46:50] = TissueClass.OTHER  # 16 mm wide, between the lungs, up to the last slice
    lungs = lungs_of_labels(replace(chest, voxels=voxels))
    at = chest.to_world((40, 31.5, 47.5))
    index = tuple(np.rint(lungs.mask.to_voxel(at)).astype(int))
    assert not lungs.mask.voxels[index]
    assert lungs.airways.voxels[index]


def test_in_a_patch_all_that_is_lung_is_a_place_and_vessels_are_kept_clear_of():
    voxels = np.full((40, 40, 40), TissueClass.OTHER, np.uint8)
    voxels[:, :, 30:] = TissueClass.SOFT
    voxels[:, 18:22, 10:14] = TissueClass.SOFT
    patch = Volume(voxels, (1.0, 1.0, 1.0))
    made = put_nodules(patch, wanted(3, 7.0), OVAL, 2)
    assert (voxels[made.mask.voxels > 0] == TissueClass.OTHER).all()


def test_a_nodule_for_which_no_place_is_left_is_refused_with_how_many_had_one():
    patch = Volume(np.full((30, 30, 30), TissueClass.OTHER, np.uint8), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"no room for another one of 16 mm.*; 1 of the 9 nodules were placed before"):
        put_nodules(patch, wanted(9, 16.0), OVAL, 0)


@pytest.mark.parametrize("own", [TissueClass.SOFT, TissueClass.OUTSIDE])
def test_a_map_without_lungs_takes_no_nodule(own):
    empty = Volume(np.full((40, 40, 40), own, np.uint8), (4.0, 4.0, 4.0))
    with pytest.raises(InputError, match="label map: found no"):
        put_nodules(empty, wanted(1, 8.0), OVAL, 0)
    assert put_nodules(empty, wanted(0), OVAL, 0).regions == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [((300,), "0 to 255"), ((2, 4.0, 5.0, 6.0), "diameter_mm: found 3 diameters"), ((1, 0.1), "1 to 100 mm")],
)
def test_numbers_and_diameters_that_there_are_not_are_refused(asked, said):
    with pytest.raises(InputError, match=said):
        wanted(*asked)
