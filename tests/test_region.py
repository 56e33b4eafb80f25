"""Regions: each nodule has a separate mask in its bounding box, so that nodules may overlap without losing voxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthorax.datasets.store import Case
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region, paint_labels, regions_of
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.stores import store_of

SHAPE = (9, 10, 11)
masks = arrays(bool, SHAPE, elements=st.booleans())


@given(masks)
def test_a_region_is_the_smallest_box_of_its_mask(mask):
    region = Region.of(mask)
    np.testing.assert_array_equal(region.within((0, 0, 0), SHAPE), mask)
    assert region.voxels == mask.sum()
    assert all(region.mask.any((1, 2))[[0, -1]]) if mask.any() else region.shape == (0, 0, 0)


@given(masks, st.tuples(*[st.integers(-4, 9)] * 3), st.tuples(*[st.integers(1, 8)] * 3))
def test_the_part_of_a_region_in_a_box_is_what_cutting_the_whole_mask_gives(mask, start, shape):
    padded = np.pad(mask, 20)
    cut = padded[tuple(slice(s + 20, s + 20 + n) for s, n in zip(start, shape, strict=True))]
    np.testing.assert_array_equal(Region.of(mask).within(start, shape), cut)


def test_where_regions_overlap_the_smaller_lies_on_top_whatever_their_order():
    large, small = Region.of(ball_mask(SHAPE, 8, center=(4, 5, 5))), Region.of(ball_mask(SHAPE, 4, center=(4, 5, 5)))
    assert paint_labels([large, small], SHAPE)[4, 5, 5] == 2
    assert paint_labels([small, large], SHAPE)[4, 5, 5] == 1


def test_more_than_255_regions_are_painted_in_16_bits():
    regions = [Region((0, 0, 0), np.ones((1, 1, 1), bool))] * 255
    assert paint_labels(regions, SHAPE).dtype == np.uint8
    assert paint_labels([*regions, Region((1, 1, 1), np.ones((1, 1, 1), bool))], SHAPE)[1, 1, 1] == 256


def test_a_label_map_gives_back_its_regions():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:5, 3:4], labels[6:, 7:, 8:] = 1, 3
    one, none, three = regions_of(labels, (1, 2, 3))
    assert (one.corner, one.voxels, none.voxels, three.corner) == ((1, 2, 3), 6, 0, (6, 7, 8))


@pytest.fixture
def overlapping(tmp_path):
    """A store of one case with two overlapping nodules."""
    hu = np.random.default_rng(0).integers(-900, 50, SHAPE).astype(np.int16)
    regions = (Region.of(ball_mask(SHAPE, 8, center=(4, 5, 5))), Region.of(ball_mask(SHAPE, 4, center=(4, 5, 6))))
    nodules = tuple(Nodule(f"{i}", (0.0, 0.0, 0.0), NoduleAttributes(), i) for i in (1, 2))
    case = Case("a", "P", Volume(hu, (1.0, 1.0, 1.0)), regions, nodules, annotated="some", source_patient="0" * 12)
    return store_of(tmp_path / "store", [case]), regions


def test_overlapping_nodules_come_out_of_a_store_with_all_their_voxels(overlapping):
    store, regions = overlapping
    case = store.read("a")
    for label, region in enumerate(regions, start=1):
        np.testing.assert_array_equal(
            store.region("a", label).within((0, 0, 0), SHAPE), region.within((0, 0, 0), SHAPE)
        )
    assert (case.annotated, case.source_patient) == ("some", "0" * 12)
    np.testing.assert_array_equal(case.label_map(), paint_labels(regions, SHAPE))


def test_a_box_of_the_mask_is_that_box_of_the_label_map(overlapping):
    store, regions = overlapping
    box = store.read_box("a", (-2, 3, 4), (7, 5, 9), "mask").voxels
    np.testing.assert_array_equal(box[2:, :, :7], paint_labels(regions, SHAPE)[:5, 3:8, 4:11])
    assert not box[:2].any()
    assert not box[:, :, 7:].any()
