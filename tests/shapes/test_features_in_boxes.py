"""The time for shape features depends on the size of the nodules, not of the grid."""

import numpy as np
import pytest

from synthorax import api
from synthorax.datasets.shape_files import nodule_masks
from synthorax.errors import InputError
from synthorax.io.images import write_image
from synthorax.shapes.features import MASKS_AT_ONCE, shape_features
from synthorax.volume import Volume

SPACING_MM = (1.25, 0.7, 0.7)
CONVENTIONS = pytest.mark.parametrize("convention", ["alnsb", "corrected"])


def ragged_masks(n, shape, seed=0):
    """Nodules of many sizes anywhere in a grid, half of them across an edge of the analyzer's tiles."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, *shape), bool)
    for mask in masks:
        edges = rng.integers(1, 9, 3)
        corner = [rng.integers(0, full - edge + 1) for full, edge in zip(shape, edges, strict=True)]
        box = mask[tuple(slice(a, a + edge) for a, edge in zip(corner, edges, strict=True))]
        box[:] = rng.random(box.shape) < 0.7
        box[0, 0, 0] = True
    return masks


@CONVENTIONS
def test_a_stack_of_several_batches_gives_each_mask_its_own_figures_in_its_own_row(convention):
    masks = ragged_masks(2 * MASKS_AT_ONCE + 3, (12, 40, 70))
    together = shape_features(masks, SPACING_MM, convention)
    alone = np.concatenate([shape_features(mask[None], SPACING_MM, convention) for mask in masks])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@CONVENTIONS
def test_empty_planes_around_a_stack_change_no_figure(convention):
    masks = ragged_masks(20, (9, 36, 20))
    wide = np.pad(masks, [(0, 0), (3, 5), (0, 90), (0, 61)])
    np.testing.assert_array_equal(
        shape_features(wide, SPACING_MM, convention), shape_features(masks, SPACING_MM, convention)
    )


def test_the_analyzers_tiles_lie_where_the_grid_begins_not_where_the_nodule_does():
    # At a corner joint the analyzer leaves a pixel behind, unless it comes to the other two first, a tile earlier.
    joint = np.zeros((1, 1, 40, 40), bool)
    joint[0, 0, [30, 31, 32], [5, 5, 4]] = True
    areas = [shape_features(np.roll(joint, shift, axis=2), (1, 1, 1))[0, 0] for shift in (0, -5)]
    assert areas == [3, 2]


def test_files_are_measured_as_they_are_read_and_the_rows_keep_their_order(tmp_path):
    for i, edge in enumerate((3, 5, 3)):
        voxels = np.zeros((8, 8 + i % 2, 8), np.uint8)
        voxels[1 : 1 + edge, 2 : 2 + edge, 2] = 1
        write_image(tmp_path / f"{i}.mha", Volume(voxels, (1, 1, 1)))
    table = api.features(tmp_path)
    assert table.names == ["0.mha", "1.mha", "2.mha"]
    np.testing.assert_allclose(table.values[:, 4], [9, 25, 9])
    (tmp_path / "1.mha").write_bytes(b"")
    nodules = nodule_masks(tmp_path)
    assert next(nodules).name == "0.mha"
    with pytest.raises(InputError, match=r"1\.mha"):
        next(nodules)
