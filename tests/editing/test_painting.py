"""A label map painted in windows: the result does not depend on the number of windows, and slices are streamed."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from synthorax.anatomy.tissue import TissueClass
from synthorax.editing.painting import check_paintable, notes_on_classes, on_painters_grid, painted_slabs
from synthorax.errors import InputError
from synthorax.makers import Lineage
from synthorax.seeding import voxel_noise
from synthorax.volume import Volume

CLASS_MEANS = np.array([-1000, -860, -100, 0, 40, 700, 30], np.float32)


@dataclass
class PlainPainter:
    """Paints the mean HU of each class, averaged over neighbouring slices, with noise by the voxel's position."""

    largest: tuple = (12, 20, 16)
    overlap: tuple = (4, 6, 5)
    context: int = 0
    codes: frozenset = frozenset(int(own) for own in TissueClass)

    name, lineage, smallest, spacing_mm = "plain", Lineage("plain"), (4, 8, 8), (1.0, 1.0, 1.0)

    def paint(self, labels, at_voxel, seed):
        n = labels.shape[0] - 2 * self.context
        hu = np.mean([CLASS_MEANS[labels.voxels[k : k + n]] for k in range(2 * self.context + 1)], axis=0)
        noise = voxel_noise(seed, at_voxel, hu.shape)
        return replace(labels, voxels=(hu + 20 * noise).astype(np.float32))


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 7, (8, 8, 10)).astype(np.uint8)
    return Volume(coarse.repeat(5, 0).repeat(6, 1).repeat(4, 2)[:37, :45, :39].copy(), (1.0, 1.0, 1.0), (5.0, 6.0, 7.0))


def whole(labels, painter, seed):
    return np.concatenate([slab for _, slab in painted_slabs(labels, painter, seed)])


@pytest.mark.parametrize("context", [0, 2])
def test_windows_together_paint_what_one_window_paints(labels, context):
    small = PlainPainter(context=context)
    large = PlainPainter(largest=(64, 64, 64), context=context)
    made, once = whole(labels, small, 3), whole(labels, large, 3)
    assert made.dtype == np.int16
    assert np.abs(made.astype(int) - once).max() <= 1  # rounding
    assert not np.array_equal(made, whole(labels, small, 4))


def test_slabs_come_in_order_and_cover_every_slice_once(labels):
    slabs = list(painted_slabs(labels, PlainPainter(), 0))
    starts = [z for z, _ in slabs]
    ends = [z + len(slab) for z, slab in slabs]
    assert starts == [0, *ends[:-1]]
    assert ends[-1] == 37
    assert len(slabs) > 3


def test_a_slab_is_there_before_the_next_row_of_windows_is_painted(labels):
    painter, painted = PlainPainter(), []
    paint = painter.paint
    painter.paint = lambda window, at, seed: painted.append(at[0]) or paint(window, at, seed)
    first, _ = next(painted_slabs(labels, painter, 0))
    assert first == 0
    assert set(painted) == {0}


def test_a_map_of_other_voxels_is_put_on_the_painters_and_that_is_told(labels):
    coarse = replace(labels, spacing_mm=(2.0, 1.0, 0.5))
    found, notes = on_painters_grid(coarse, PlainPainter())
    assert found.shape == (74, 45, 20)
    assert "resampled from voxels of 2 x 1 x 0.5 mm (z, y, x) to the painter's 1 x 1 x 1 mm, nearest voxel" in notes[0]
    assert set(np.unique(found.voxels)) <= set(np.unique(labels.voxels))
    assert on_painters_grid(labels, PlainPainter()) == (labels, ())


def test_a_map_smaller_than_a_window_is_refused_with_both_sizes(labels):
    small = replace(labels, voxels=labels.voxels[:3])
    with pytest.raises(InputError, match=r"map: found a label map of 3 x 45 x 39 voxels .* at least 4 x 8 x 8 of them"):
        check_paintable("map", small, PlainPainter())


def test_classes_that_a_painter_has_not_learned_are_told(labels):
    painter = PlainPainter(codes=frozenset({1, 2, 3, 4, 6}))
    notes = notes_on_classes(labels, painter)
    outside = np.count_nonzero(labels.voxels == 0)
    assert (
        notes[0] == f"{outside:,} voxels of the class outside, on which the model was not trained, are painted as air"
    )
    assert "of the class bone, on which the model was not trained, are painted as soft tissue" in notes[1]
    assert len(notes) == 2


def test_a_mask_of_nodules_that_is_given_as_a_label_map_is_noted(labels):
    mask = replace(labels, voxels=(labels.voxels == 6).astype(np.uint8))
    assert "no tissue but air and lung; if it is a mask of nodules" in notes_on_classes(mask, PlainPainter())[0]
    with_nodules = replace(labels, voxels=labels.voxels * (labels.voxels >= 6))
    assert len(notes_on_classes(with_nodules, PlainPainter())) == 1
