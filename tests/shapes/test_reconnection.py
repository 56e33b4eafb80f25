"""For any output of a generator, reconnection gives one connected nodule and removes no voxel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from synthorax.errors import InputError
from synthorax.shapes.reconnection import ON_THRESHOLD, reconnect

EIGHTEEN = ndimage.generate_binary_structure(3, 2)
GRID = (20, 40, 40)

values = st.one_of(st.sampled_from([0.0, 0.32, 0.3255, 0.651, 1.0]), st.floats(0, 1, width=32))
fields = arrays(np.float32, st.tuples(*[st.integers(1, 7)] * 3), elements=values, fill=st.just(0.0))


def n_components(field):
    return ndimage.label(field >= np.float32(ON_THRESHOLD), EIGHTEEN)[1]


def at(*voxels, grid=(9, 11, 11)):
    """A field that is on at the given voxels only."""
    field = np.zeros(grid, np.float32)
    field[tuple(np.transpose(voxels))] = 1
    return field


def adversaries(grid, rng):
    """Return fields that are hard to join, by name."""
    noise = rng.random(grid, np.float32)
    index = np.indices(grid)
    last = [n - 1 for n in grid]
    return {
        "noise": noise,
        "noise about the threshold": 0.25 + 0.1 * noise,
        "dim noise with few bright voxels": 0.326 * noise,
        "sparse points": (noise > 0.999).astype(np.float32),
        "scattered points": (noise > 0.97).astype(np.float32),
        "checkerboard": (index.sum(0) % 2).astype(np.float32),
        "lattice of points": (index % 3 == 0).all(0).astype(np.float32),
        "every other plane": (index[rng.integers(3)] % 2).astype(np.float32),
        "the eight corners": at(*np.array(np.meshgrid(*([0, n] for n in last))).reshape(3, -1).T, grid=grid),
        "two opposite corners": at((0, 0, 0), last, grid=grid),
        "empty": np.zeros(grid, np.float32),
        "dark": 0.01 * noise,
        "full": np.ones(grid, np.float32),
        "exactly on": np.full(grid, ON_THRESHOLD, np.float32),
    }


ADVERSARIES = adversaries((9, 11, 11), np.random.default_rng(5)) | {
    "two voxels that share only a corner": at((4, 5, 5), (5, 6, 6)),
    "a chain that shares only corners": at(*[(i, i, i) for i in range(9)]),
    "a point within a closed shell": at((4, 5, 5)) + np.pad(np.zeros((5, 7, 7), np.float32), 2, constant_values=1),
}


def assert_is_reconnected(field, joined):
    assert n_components(joined) == 1
    assert joined.min() >= 0
    assert joined.max() <= 1
    was_on = field >= np.float32(ON_THRESHOLD)
    assert (joined[was_on] >= np.float32(ON_THRESHOLD)).all()
    if was_on.any():
        assert (joined >= field).all()
    again = reconnect(joined[None])
    np.testing.assert_array_equal(again.fields[0], joined)
    assert again.n_components.tolist() == [1]


@given(fields)
def test_any_field_becomes_one_piece_that_holds_all_that_was_on(field):
    found = reconnect(field[None])
    assert found.n_components.tolist() == [n_components(field)]
    assert_is_reconnected(field, found.fields[0])


@pytest.mark.parametrize("name", ADVERSARIES)
def test_a_field_made_to_be_hard_becomes_one_piece(name):
    assert_is_reconnected(ADVERSARIES[name], reconnect(ADVERSARIES[name][None]).fields[0])


@given(fields)
def test_a_field_in_one_piece_is_returned_as_it_is(field):
    labels, _ = ndimage.label(field >= np.float32(ON_THRESHOLD), EIGHTEEN)
    single = np.where(labels > 1, 0, field)
    found = reconnect(single[None])
    if labels.any():
        np.testing.assert_array_equal(found.fields[0], single)
        assert found.n_components.tolist() == [1]


def test_two_balls_are_joined_by_a_bridge_and_not_by_a_blob(ball):
    apart = ball(7, offset_mm=(0, -7, 0)) | ball(7, offset_mm=(0, 7, 0))
    found = reconnect(apart[None].astype(np.float32))
    assert found.n_components.tolist() == [2]
    added = (found.fields[0] >= ON_THRESHOLD) & ~apart
    gap = np.flatnonzero(~apart.any((0, 2))[10:30]).size
    assert gap <= added.sum() <= 2 * gap


def test_a_gap_of_one_voxel_is_bridged_by_that_voxel_in_full_brightness():
    found = reconnect(at((4, 5, 4), (4, 5, 6))[None])
    assert found.n_components.tolist() == [2]
    assert found.fields[0][4, 5, 5] == 1


def test_what_touches_only_by_a_corner_counts_as_two_and_by_an_edge_as_one():
    corner, edge = at((4, 5, 5), (5, 6, 6)), at((4, 5, 5), (4, 6, 6))
    assert reconnect(np.stack([corner, edge])).n_components.tolist() == [2, 1]


def test_an_empty_field_is_brightened_where_it_is_brightest():
    dim = np.zeros((5, 7, 7), np.float32)
    dim[2, 3, 3] = 0.3
    found = reconnect(dim[None])
    assert found.n_components.tolist() == [0]
    np.testing.assert_array_equal(np.argwhere(found.fields[0] >= ON_THRESHOLD), [[2, 3, 3]])


def test_each_field_of_a_batch_is_joined_as_if_it_were_alone():
    batch = np.stack(list(ADVERSARIES.values()))
    together = reconnect(batch)
    alone = [reconnect(field[None]) for field in batch]
    np.testing.assert_array_equal(together.fields, np.concatenate([a.fields for a in alone]))
    np.testing.assert_array_equal(together.n_components, np.concatenate([a.n_components for a in alone]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_given_fields_are_left_as_they_were(dtype):
    given_fields = np.stack(list(ADVERSARIES.values())).astype(dtype)
    before = given_fields.copy()
    assert reconnect(given_fields).fields.dtype == np.float32
    np.testing.assert_array_equal(given_fields, before)


def test_no_fields_are_no_work():
    assert reconnect(np.empty((0, *GRID), np.float32)).fields.shape == (0, *GRID)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.01, 1.01])
def test_values_that_no_generator_makes_are_refused(wrong):
    field = np.full((1, 3, 3, 3), 0.5, np.float32)
    field[0, 1, 1, 1] = wrong
    with pytest.raises(InputError, match="fields: found values that are NaN or outside 0 to 1"):
        reconnect(field)


@pytest.mark.parametrize("wrong", [np.ones((1, 3, 3, 3), bool), np.ones((1, 3, 3, 3), int), np.ones((3, 3, 3))])
def test_what_is_no_stack_of_fields_is_refused(wrong):
    with pytest.raises(InputError, match=f"fields: found {wrong.dtype} of shape"):
        reconnect(wrong)


@pytest.mark.prove
def test_ten_thousand_random_and_adversarial_fields_each_become_one_piece():
    rng = np.random.default_rng(2024)
    checked = 0
    while checked < 10_000:
        smooth = ndimage.gaussian_filter(rng.random(GRID, np.float32), rng.uniform(0.5, 3))
        smooth = (smooth - smooth.min()) / np.ptp(smooth)
        blobs = np.clip(smooth * rng.uniform(0.35, 1), 0, 1)
        points = at(*(rng.integers(0, GRID, (rng.integers(2, 40), 3))), grid=GRID)
        rods = ndimage.maximum_filter1d(points, 7, axis=int(rng.integers(3)))
        cases = {"blobs": blobs, "random points": points, "random rods": rods}
        # Most of these hardly differ from one round to the next, and the lattice is slow.
        if checked % 150 == 0:
            cases |= adversaries(GRID, rng)
        for name, field in cases.items():
            joined = reconnect(field[None]).fields[0]
            assert n_components(joined) == 1, f"{name}, field {checked}"
            assert (joined[field >= np.float32(ON_THRESHOLD)] >= np.float32(ON_THRESHOLD)).all(), name
            checked += 1
