"""Patches to edit: the ball surrounds the nodule, and unknown values never count as known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.edits import EditPatches, edit_patches
from synthorax.datasets.patches import Place, read_patch
from synthorax.errors import InputError
from synthorax.nn.conditions import encoded
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec, ScaledPatch
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

CUBE = PatchSpec((16, 16, 16))
FLAT = PatchSpec((16, 24, 24), (2.0, 1.0, 1.0))
AS_IT_IS = Augmentation(flip=False)


def wider_by(mm):
    """A rule by which the ball to edit is wider than its nodule."""
    return lambda diameter_mm, spec: diameter_mm + mm


def moved(case, offset):
    """A case whose nodule lies `offset` voxels (z, y, x) of 1 mm further."""
    nodule = case.nodules[0]
    center_mm = tuple(np.add(nodule.center_mm, offset[::-1]).tolist())
    return replace(case, regions=(case.regions[0].moved(offset),), nodules=(replace(nodule, center_mm=center_mm),))


def of_diameter(case, diameter_mm):
    """A case of which another diameter of its nodule is stated."""
    attributes = replace(case.nodules[0].attributes, diameter_mm=diameter_mm)
    return replace(case, nodules=(replace(case.nodules[0], attributes=attributes),))


@pytest.fixture
def made(tmp_path):
    """A function that makes the patches of cases, with a cache of their own."""

    def make(cases, spec=CUBE, **options):
        store = store_of(tmp_path / "store", cases)
        return edit_patches(store, store.cases, spec, cache=tmp_path / "cache", **options)

    return make


@pytest.mark.parametrize("spec", [CUBE, FLAT])
@pytest.mark.parametrize("offset", [(0, 0, 0), (10, -12, 9)])
def test_the_region_is_every_voxel_within_the_radius_of_the_nodules_centre_in_mm(tmp_path, spec, offset):
    """The nodule far from the middle of its cube makes the patch move inside, and so lies off its middle."""
    store = store_of(tmp_path / "store", [moved(ball_case("a", 8, size=40), offset)])
    patches = edit_patches(
        store, store.cases, spec, ball_mm=wider_by(3), augmentation=AS_IT_IS, cache=tmp_path / "cache"
    )
    nodule = store["a"].nodules[0]
    grid, _ = read_patch(store, Place("a", "a", nodule.center_mm, nodule, 1), spec)
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    expected = np.linalg.norm(points - nodule.center_mm, axis=-1) <= 4 + 1.5
    assert np.array_equal(patches[0]["region"][0].numpy(), expected)
    assert 0.8 < expected.sum() * np.prod(spec.spacing_mm) / (4 / 3 * np.pi * 5.5**3) < 1.2


def test_region_mask_and_voxels_are_flipped_and_turned_together(made):
    """The ball of the nodule's own diameter holds its outline, also where both lie off the middle of the patch."""
    patches = made([moved(ball_case("a", 8, size=40), (12, -13, 14))], augmentation=Augmentation(turn=True))
    batch = patches.batch(0, 12)
    plain = patches[0]
    assert len({tuple(np.argwhere(one.numpy())[:, 1:].mean(0)) for one in batch["mask"]}) > 4
    for mask, region in zip(batch["mask"], batch["region"], strict=True):
        assert mask.sum() == plain["mask"].sum()
        assert torch.equal(mask * region, mask)


def test_shifted_patches_show_the_whole_ball_where_the_nodule_is(made):
    patches = made([ball_case("a", 8, size=40)], augmentation=Augmentation(shift_voxels=3))
    batch = patches.batch(0, 8)
    assert {int(region.sum()) for region in batch["region"]} == {int(patches[0]["region"].sum())}
    assert all(torch.equal(mask * region, mask) for mask, region in zip(batch["mask"], batch["region"], strict=True))


def test_a_nodule_without_outline_has_an_unknown_mask_and_is_not_healthy(made, capsys):
    patches = made([ball_case("a", 8), ball_case("b", 8, outlined=False)], augmentation=AS_IT_IS)
    outlined, lost = patches[0], patches[1]
    assert (bool(outlined["mask_known"]), bool(lost["mask_known"])) == (True, False)
    assert outlined["mask"].any()
    assert not lost["mask"].any()
    assert not lost["healthy"]
    assert "training nodules: 2; 1 without an outline\n" in capsys.readouterr().err


def test_how_much_of_an_outline_a_ball_holds_is_a_ratio_of_volumes(made):
    """Outlines of 12 mm whose stated diameter is 9 mm: a ball of three quarters of the width."""
    cases = [of_diameter(ball_case("a", 12), 9), ball_case("b", 6), ball_case("c", 6, outlined=False)]
    np.testing.assert_allclose(made(cases).shares_in_ball(), [0.75**3, 1], atol=0.03)


def test_a_healthy_place_has_a_true_empty_mask_and_a_nodules_diameter(made):
    patches = made([ball_case("a", 6, size=48), ball_case("b", 9, size=48)], healthy=4)
    healthy = [i for i, place in enumerate(patches.places) if place.nodule is None]
    assert len(healthy) == 16
    assert set(patches.diameters_mm[healthy]) == {6, 9}
    for item in (patches[i] for i in healthy):
        assert item["healthy"]
        assert item["mask_known"]
        assert not item["mask"].any()
        assert item["label"] == 0


def test_a_scan_of_which_nobody_said_anything_gives_no_healthy_place(made):
    cases = [replace(ball_case("a", 6, size=48), annotated="none-known"), ball_case("b", 6, size=48)]
    patches = made(cases, healthy=4)
    assert {place.case_id for place in patches.places if place.nodule is None} == {"b"}


def test_what_is_left_out_is_counted_and_said(made, capsys):
    sizes = {"a": 8, "wide": 30, "narrow": 0.5, "unsized": None}
    cases = [of_diameter(ball_case(name, 8, ratings={"malignancy": (5,)}), mm) for name, mm in sizes.items()]
    cases.append(ball_case("unrated", 8))
    patches = made(cases, classify=lambda nodule: 2 if nodule.attributes.malignancy else None)
    assert [place.case_id for place in patches.places] == ["a"]
    assert patches[0]["label"] == 2
    said = capsys.readouterr().err
    assert (
        "training nodules: 1; left out: 1 with a ball wider than the 14 mm that fit into this preset's patches" in said
    )
    for why in ("1 with a ball narrower than a voxel of 1 mm", "1 without a diameter", "1 without a class"):
        assert why in said


def test_patches_narrower_than_every_ball_are_refused_in_one_line(made):
    with pytest.raises(InputError, match="no nodule to edit; left out: 1 with a ball wider than the 14 mm") as refused:
        made([ball_case("a", 12)], ball_mm=wider_by(4))
    assert "\n" not in str(refused.value)


def test_nodules_without_an_outline_are_left_out_where_a_network_is_told_outlines(made, capsys):
    cases = [ball_case("a", 8), ball_case("b", 8, outlined=False)]
    assert len(made(cases)) == 2
    assert [place.case_id for place in made(cases, outlined=True).places] == ["a"]
    assert "left out: 1 without an outline" in capsys.readouterr().err
    with pytest.raises(InputError, match="nodules with outlines, or outlines=false"):
        made(cases[1:], outlined=True)


def test_patches_wider_than_the_scan_are_left_out_as_its_edge_would_go_on_in_them(made):
    wide = PatchSpec((48, 48, 48))
    with pytest.raises(InputError, match="no nodule to edit; left out: 1 with a patch wider than the scan"):
        made([ball_case("a", 8, size=44)], wide)
    assert len(made([ball_case("a", 8, size=44), ball_case("b", 8, size=48)], wide)) == 1


def test_a_ball_that_a_patch_does_not_show_whole_is_refused(tmp_path):
    store = store_of(tmp_path / "store", [ball_case("a", 8)])
    place = Place("a", "a", store["a"].nodules[0].center_mm, None, 0)
    with pytest.raises(InputError, match="ball to edit: found 15 mm for a nodule of 13 mm"):
        EditPatches(store, [place], CUBE, [13.0], ball_mm=wider_by(2), cache=tmp_path / "cache")


def test_no_room_for_a_healthy_place_is_told_and_scaling_is_refused(made):
    with pytest.raises(InputError, match="no room for a patch without a nodule"):
        made([ball_case("a", 8, size=20)], healthy=4)
    with pytest.raises(InputError, match="scale"):
        made([ball_case("a", 8)], augmentation=Augmentation(scale=(0.9, 1.1)))


def test_the_condition_of_a_batch_has_its_unknown_values_marked(made):
    patches = made([ball_case("a", 8, ratings={"malignancy": (5, 5)}), ball_case("b", 8)], augmentation=AS_IT_IS)
    assert patches.attributes == (NoduleAttributes(8, malignancy=5), NoduleAttributes(8))
    condition = encoded(patches.attributes, ("diameter_mm", "malignancy"))[patches.rows([1, 0])["index"]]
    assert condition.isnan().tolist() == [[False, True], [False, False]]
    assert condition[1].tolist() == [0, 1]


def test_a_batch_is_a_function_of_the_seed_and_the_step(made, tmp_path):
    cases = [ball_case(name, mm, size=48) for name, mm in (("a", 6), ("b", 8), ("c", 10))]
    one, two = (made(cases, healthy=4, seed=3) for _ in range(2))
    two.batch(0, 4)
    first, second = one.batch(1, 6), two.batch(1, 6)
    assert first.keys() == second.keys() >= {"ct", "mask", "label", "index", "region", "mask_known", "healthy"}
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["index"], one.with_seed(4).batch(1, 6)["index"])
    assert first["ct"].dtype == torch.float32
    assert first["ct"].abs().max() <= 1


def half_the_patch(diameter_mm, spec):
    return min(spec.size_mm) / 2


def test_a_varied_ball_is_as_wide_for_small_nodules_as_for_large_ones_and_holds_each(made):
    """Balls of cubes of 16 mm are at most 14 mm wide."""
    cases = [ball_case(f"{mm:g} {i}", mm) for mm in (4, 9) for i in range(2)]
    patches = made(cases, ball_mm=wider_by(2), varied=True, classify=lambda nodule: 1)
    batch = patches.batch(0, 64)
    widths = 2 * (batch["region"].sum((1, 2, 3, 4)) * 3 / 4 / np.pi) ** (1 / 3)
    small = torch.from_numpy(patches.diameters_mm[batch["index"]] == 4)
    assert (widths[small].min(), widths[small].max()) == (pytest.approx(6, abs=1.5), pytest.approx(14, abs=1.5))
    assert (widths[~small].min(), widths[~small].max()) == (pytest.approx(11, abs=1.5), pytest.approx(14, abs=1.5))
    as_it_is = patches.rows([0])["region"].sum()
    assert 2 * (as_it_is * 3 / 4 / np.pi) ** (1 / 3) == pytest.approx(6, abs=0.5)


def test_patches_that_grow_with_the_nodule_show_all_nodules_and_their_balls_alike(made):
    """Of a nodule twice as wide every voxel is twice as large; by a wider view it fills less of the patch."""
    cases = [ball_case("a", 5, size=48, voxel_mm=0.5), ball_case("b", 10, size=48)]
    scaled = ScaledPatch(PatchSpec((16, 16, 16), (0.25, 0.25, 0.25)), (2.0, 3.0), coarsest=20.0)
    patches = made(cases, scaled, ball_mm=half_the_patch, augmentation=AS_IT_IS)
    assert [place.scale * 0.25 * 16 for place in patches.places] == pytest.approx([10, 15, 20, 30])
    one, wider, double, _ = (patches[i] for i in range(4))
    assert torch.equal(one["region"], double["region"])
    assert torch.equal(one["region"], wider["region"])
    assert one["region"].sum() == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.1)
    assert (one["mask"] != double["mask"]).float().mean() < 0.02
    assert int(one["mask"].sum()) == pytest.approx(1.5**3 * int(wider["mask"].sum()), rel=0.15)


def test_what_a_growing_patch_cannot_show_is_left_out_and_said(made, capsys):
    scaled = ScaledPatch(PatchSpec((16, 16, 16)), (2.0,), coarsest=1.5)
    cases = [ball_case(name, mm, size=32) for name, mm in (("small", 3), ("large", 12), ("gross", 22))]
    patches = made([*cases, ball_case("cut", 11, size=20)], scaled, ball_mm=half_the_patch)
    assert [(place.case_id, place.scale) for place in patches.places] == [("small", 1), ("large", 1.5), ("gross", 1.5)]
    assert "left out: 1 with a patch wider than the scan" in capsys.readouterr().err


def test_a_healthy_place_is_as_wide_as_the_patch_of_the_diameter_it_was_given(made):
    scaled = ScaledPatch(PatchSpec((8, 8, 8)), (2.0,), coarsest=3.0)
    patches = made([ball_case("a", 5, size=48), ball_case("b", 9, size=48)], scaled, healthy=4)
    healthy = [i for i, place in enumerate(patches.places) if place.nodule is None]
    assert {mm / patches.places[i].scale for i, mm in enumerate(patches.diameters_mm)} == {4.0}
    assert set(patches.diameters_mm[healthy]) == {5, 9}
    assert not any(patches[i]["mask"].any() for i in healthy)
