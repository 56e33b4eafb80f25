"""The analyzer's 12 features, against its own figures, closed forms and other programs."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import euler_number

from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.shapes.features import FEATURES, _alnsb_largest, shape_features

SPACING_MM = (1.25, 0.7, 0.7)
UNIT = (1.0, 1.0, 1.0)
ANALYZER_THRESHOLD = 0.1
COLUMN = {name: i for i, name in enumerate(FEATURES)}
CONVENTIONS = pytest.mark.parametrize("convention", ["alnsb", "corrected"])

masks = arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)).filter(np.any)


def features_of(mask, spacing_mm=SPACING_MM, convention="alnsb"):
    return dict(zip(FEATURES, shape_features(mask[None], spacing_mm, convention)[0], strict=True))


def box(*edges):
    """A full box of that many voxels (z, y, x) in a larger grid."""
    return np.pad(np.ones(edges, bool), 2)


@pytest.fixture(scope="module")
def seeds(real_data):
    return np.load(real_data / "lung-seeds" / "seeds.npy") > ANALYZER_THRESHOLD


@pytest.fixture(scope="module")
def analyzer_figures(real_data):
    """What ALNSB printed for the seeds, with two decimals."""
    return np.loadtxt(real_data / "lung-seeds" / "features.csv", delimiter=",")[:, :12]


def test_the_features_of_50_of_the_51_seeds_equal_the_analyzers_own_to_its_last_printed_digit(seeds, analyzer_figures):
    ours = shape_features(seeds, SPACING_MM)
    assert ours.shape == (51, 12)
    np.testing.assert_allclose(ours[1:], analyzer_figures[1:], rtol=0, atol=0.005 + 1e-4)


def test_seed_0_was_clipped_after_the_analyzer_saw_it_so_only_its_mid_slice_agrees(seeds, analyzer_figures):
    difference = abs(shape_features(seeds[:1], SPACING_MM)[0] - analyzer_figures[0])
    assert (difference[:4] <= 0.005 + 1e-4).all()
    assert (difference[4:] > 0.01).all()


@CONVENTIONS
def test_a_single_voxel_is_one_piece_without_a_spread(convention):
    found = features_of(box(1, 1, 1), convention=convention)
    assert found["f1"] == pytest.approx(0.7 * 0.7)
    assert found["f2"] == pytest.approx(0.7)
    assert found["f5"] == pytest.approx(1.25 * 0.7 * 0.7)
    assert found["f6"] == np.inf
    assert found["f8"] == pytest.approx(0.7 / 1.25)
    assert found["f11"] == 1


@CONVENTIONS
@pytest.mark.parametrize("diameter_mm", [8, 12, 16, 20])
def test_a_ball_has_the_volume_of_a_ball_and_a_round_projection(ball, diameter_mm, convention):
    found = features_of(ball(diameter_mm), convention=convention)
    assert found["f5"] == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.03)
    assert found["f12"] == pytest.approx(1, abs=0.08)
    assert found["f7"] == 1
    assert found["f11"] == 1


@pytest.mark.parametrize("diameter_mm", [12, 16, 20])
def test_a_ball_has_unit_compactness_and_its_diameter_as_mean_breadth_once_the_axes_are_corrected(ball, diameter_mm):
    found = features_of(ball(diameter_mm), convention="corrected")
    assert found["f1"] == pytest.approx(np.pi / 4 * diameter_mm**2, rel=0.05)
    assert found["f3"] == pytest.approx(np.pi * diameter_mm, rel=0.05)
    assert found["f6"] == pytest.approx(np.sqrt(5 / 3), rel=0.06)  # a ball's RMS distance is sqrt(3/5) r
    assert found["f9"] == pytest.approx(1, abs=0.05)
    assert found["f10"] == pytest.approx(diameter_mm, rel=0.06)


@given(st.tuples(*[st.integers(1, 7)] * 3), st.tuples(*[st.floats(0.3, 3)] * 3))
def test_a_boxs_compactness_breadth_and_ratios_are_those_of_its_edges(edges, spacing_mm):
    found = features_of(box(*edges), spacing_mm, "corrected")
    z, y, x = np.multiply(edges, spacing_mm)
    surface = 4 / 3 * (z * y + y * x + x * z)
    assert found["f2"] == pytest.approx(max(y, x))
    assert found["f5"] == pytest.approx(z * y * x)
    assert found["f7"] == pytest.approx(min(y, x) / max(y, x))
    assert found["f8"] == pytest.approx(min(z, y, x) / max(z, y, x))
    assert found["f9"] == pytest.approx(surface**3 / (36 * np.pi * (z * y * x) ** 2))
    assert found["f10"] == pytest.approx((z + y + x) / 3)
    assert found["f11"] == 1


def test_the_released_program_takes_the_slice_spacing_for_the_column_spacing():
    # Its columns are our rows: it keeps slices as [x, y].
    edges, spacing_mm = box(4, 5, 6), (2.0, 1.0, 1.0)
    assert features_of(edges, spacing_mm, "alnsb")["f10"] == pytest.approx((4 + 2 * 5 + 6) / 3)
    assert features_of(edges, spacing_mm, "corrected")["f10"] == pytest.approx((2 * 4 + 5 + 6) / 3)


def test_a_ring_has_a_hole_a_hollow_shell_a_cavity_and_two_balls_are_two():
    ring, shell = box(1, 5, 5), box(5, 5, 5)
    ring[2, 3:6, 3:6] = False
    shell[3:6, 3:6, 3:6] = False
    two = np.concatenate([box(3, 3, 3), box(3, 3, 3)])
    assert [features_of(mask)["f11"] for mask in (ring, shell, two)] == [0, 2, 2]


@given(masks)
def test_the_euler_number_is_scikit_images_of_six_connected_voxels(mask):
    assert features_of(mask)["f11"] == euler_number(mask, connectivity=1)


@CONVENTIONS
@given(mask=masks, shift=st.tuples(*[st.integers(0, 4)] * 3))
def test_features_do_not_depend_on_where_in_the_grid_a_nodule_lies(mask, shift, convention):
    moved = np.pad(mask, [(n, 1) for n in shift])
    found = [shape_features(m[None], SPACING_MM, convention) for m in (mask, moved)]
    np.testing.assert_allclose(*found, rtol=1e-9)


@CONVENTIONS
@given(stack=arrays(bool, st.tuples(st.integers(1, 5), *[st.integers(1, 5)] * 3)))
def test_a_batch_gives_what_each_of_its_masks_gives_alone(stack, convention):
    assume(stack.any((1, 2, 3)).all())
    together = shape_features(stack, SPACING_MM, convention)
    alone = np.concatenate([shape_features(mask[None], SPACING_MM, convention) for mask in stack])
    np.testing.assert_allclose(together, alone, rtol=1e-9)


@given(masks)
def test_the_conventions_agree_on_extents_volume_and_topology(mask):
    released, corrected = (features_of(mask, convention=convention) for convention in ("alnsb", "corrected"))
    for name in ("f2", "f5", "f6", "f7", "f8", "f11", "f12"):
        assert released[name] == pytest.approx(corrected[name], rel=1e-9), name


def test_the_conventions_differ_on_the_compactness_of_a_box_that_is_not_a_cube():
    released, corrected = (features_of(box(3, 5, 7), convention=c)["f9"] for c in ("alnsb", "corrected"))
    assert abs(released - corrected) > 0.1


def test_every_corrected_feature_survives_a_quarter_turn_in_the_plane():
    bent = box(3, 7, 5)
    bent[:, 2:5, 2:4] = False
    turned = np.rot90(bent, axes=(1, 2))
    found = [shape_features(m[None], SPACING_MM, "corrected") for m in (bent, turned)]
    np.testing.assert_allclose(*found, rtol=1e-9)


@given(masks)
def test_a_quarter_turn_changes_a_corrected_feature_only_by_the_rounded_centre_or_a_tie_of_pieces(mask):
    kept = [COLUMN[name] for name in FEATURES if name not in ("f3", "f4", "f6")]
    turned = np.rot90(mask, axes=(1, 2))
    found = [shape_features(m[None], SPACING_MM, "corrected")[0, kept] for m in (mask, turned)]
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_the_released_labelling_leaves_a_pixel_of_a_corner_joint_behind():
    # The program keeps slices as [x, y]; in its own order of walking the slice is the transpose.
    joint = np.array([[0, 0, 1], [1, 1, 0]], bool).T[None]
    assert features_of(joint, UNIT, "alnsb")["f1"] == 2
    assert features_of(joint, UNIT, "corrected")["f1"] == 3


@given(arrays(bool, st.tuples(st.sampled_from([3, 7, 36]), st.sampled_from([4, 40]))).filter(np.any))
def test_slices_that_need_no_walk_get_the_area_that_the_walk_would_have_found(pixels):
    walked = _alnsb_largest(pixels.T).sum()
    assert features_of(pixels[None], UNIT)["f1"] == walked


@CONVENTIONS
def test_the_mid_slice_features_are_those_of_the_largest_piece_but_the_extent_is_of_all(convention):
    pieces = np.zeros((1, 9, 12), bool)
    pieces[0, 1:4, 1:4] = pieces[0, 6, 9:11] = True
    found = features_of(pieces, UNIT, convention)
    assert found["f1"] == 9
    assert found["f2"] == 10


@CONVENTIONS
def test_a_nodule_whose_mid_slice_is_empty_has_no_mid_slice_features(convention):
    apart = np.zeros((5, 4, 4), bool)
    apart[0, 1, 1] = apart[4, 2, 2] = True
    found = features_of(apart, convention=convention)
    assert [found[name] for name in ("f1", "f2", "f3", "f4")] == [0, 0, 0, 0]


def test_whole_number_spacings_are_taken_like_any_other():
    np.testing.assert_array_equal(
        shape_features(box(2, 3, 4)[None], (1, 1, 1)), shape_features(box(2, 3, 4)[None], UNIT)
    )


def test_no_masks_give_a_table_without_rows():
    assert shape_features(np.empty((0, 3, 4, 5), bool), SPACING_MM).shape == (0, 12)


@pytest.mark.parametrize(
    ("stack", "named"),
    [
        (np.ones((1, 3, 3, 3), np.uint8), r"masks: found uint8 of shape \(1, 3, 3, 3\)"),
        (np.ones((1, 3, 3, 3), np.float32), "masks: found float32"),
        (np.ones((3, 3, 3), bool), r"masks: found bool of shape \(3, 3, 3\)"),
        (np.stack([box(1, 1, 1), ~box(1, 1, 1), np.zeros((5, 5, 5), bool)]), "mask 2: found no voxel"),
    ],
)
def test_what_is_no_stack_of_nodules_is_refused_by_name(stack, named):
    with pytest.raises(InputError, match=named):
        shape_features(stack, SPACING_MM)


def test_an_unknown_convention_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"convention: found 'paper'; expected alnsb or corrected"):
        shape_features(box(1, 1, 1)[None], SPACING_MM, "paper")


@pytest.mark.parametrize("spacing_mm", [(1.25, 0.7), (1.25, 0, 0.7), (1.25, 0.7, -0.7), (np.nan, 1, 1)])
def test_a_spacing_that_is_not_three_positive_lengths_is_refused(spacing_mm):
    with pytest.raises(InputError, match="spacing: found"):
        shape_features(box(1, 1, 1)[None], spacing_mm)


def test_the_help_names_every_column_of_the_table(capsys):
    assert main(["features", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}: {what}" in shown for name, what in FEATURES.items())
