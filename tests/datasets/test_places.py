"""A patch without a nodule comes only from where it is known that there is none."""

import re
from dataclasses import replace

import numpy as np
import pytest

from synthorax.datasets import places as module
from synthorax.datasets.patches import read_patch
from synthorax.datasets.places import CLEAR_MM, LARGEST_MM, corner_places, lung_places, negative_places
from synthorax.datasets.store import Case, MarkedPoint, Store, write_index
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.region import Region
from synthorax.studies.scan_search import scan_search
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

SPEC = PatchSpec((16, 16, 16))


def cube(name, *, diameter=None, outlined=True, size=48, series="", origin=(0.0, 0.0, 0.0), annotated="all"):
    """A cube of lung of 1 mm voxels with a nodule of 8 mm in its middle, said to have another diameter or none."""
    case = ball_case(name, 8, size=size, origin_mm=origin, outlined=outlined)
    nodule = replace(case.nodules[0], attributes=NoduleAttributes(diameter_mm=diameter))
    return replace(case, patient_id=f"P{series or name}", nodules=(nodule,), annotated=annotated, series_uid=series)


def apart_mm(place, point, size=16):
    """Millimetres from a patch to a point."""
    return float(np.linalg.norm(np.maximum(np.abs(np.subtract(place.center_mm, point)) - size / 2, 0)))


# Cubes


def test_a_scan_of_which_nobody_said_anything_gives_no_place_and_the_screen_says_so(tmp_path, capsys):
    store = store_of(tmp_path / "store", [cube("a"), cube("b", annotated="none-known")])
    found = negative_places(store, store.cases, SPEC, 16, 0, cache=tmp_path / "cache")
    assert {place.case_id for place in found} == {"a"}
    [said] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"patches without a nodule, 16 mm wide, patients of \w+( and \w+)?: 8 from 1 of 1 scans whose nodules are all "
        r"known; none from 1 scans without a statement about their nodules",
        said,
    )
    assert negative_places(store, store.cases, SPEC, 16, 0, cache=tmp_path / "cache") == found
    assert said in capsys.readouterr().err
    assert corner_places(store, store.cases[1:], SPEC) == lung_places(store, store.cases[1:], SPEC, 8, 0) == []


def test_corners_of_a_cube_hold_no_voxel_of_its_outlined_nodule(tmp_path):
    for size, expected in ((40, 8), (24, 0)):
        store = store_of(tmp_path / f"{size}", [cube("a", size=size)])
        assert len(corner_places(store, store.cases, SPEC)) == expected


@pytest.mark.parametrize(("diameter", "expected"), [(4.0, 8), (20.0, 0), (None, 0)])
def test_corners_stay_clear_of_where_a_nodule_without_outline_may_reach(tmp_path, diameter, expected):
    """The corners of a cube of 48 mm lie sqrt(3) x 8 = 13.9 mm from its middle."""
    store = store_of(tmp_path / "store", [cube("a", diameter=diameter, outlined=False)])
    found = corner_places(store, store.cases, SPEC)
    assert len(found) == expected
    for place in found:
        assert apart_mm(place, store["a"].nodules[0].center_mm) >= diameter / 2 + CLEAR_MM


def test_a_nodule_of_which_the_centre_alone_is_known_may_be_as_large_as_any(tmp_path):
    store = store_of(tmp_path / "store", [cube("a", size=80, outlined=False)])
    for place in corner_places(store, store.cases, SPEC):
        assert apart_mm(place, store["a"].nodules[0].center_mm) > LARGEST_MM / 2 + CLEAR_MM


def test_nodules_and_findings_of_other_cubes_of_the_same_scan_count(tmp_path):
    """The middle of the second cube is the first one's last corner."""
    one, other = cube("a", series="1.2"), cube("b", series="1.2", origin=(16.0, 16.0, 16.0))
    alone = store_of(tmp_path / "alone", [one])
    both = store_of(tmp_path / "both", [one, other])
    pointed = store_of(tmp_path / "pointed", [replace(one, points=(MarkedPoint("small nodule", (39.5, 39.5, 39.5)),))])
    candidate = store_of(tmp_path / "candidate", [replace(one, points=(MarkedPoint("candidate", (39.5, 39.5, 39.5)),))])
    assert len(corner_places(alone, alone.cases, SPEC)) == 8
    assert len(corner_places(both, both.cases[:1], SPEC)) == 7
    assert len(corner_places(pointed, pointed.cases, SPEC)) == 7
    assert len(corner_places(candidate, candidate.cases, SPEC)) == 8


def test_a_nodule_that_its_cube_cuts_off_may_go_on_beyond_it(tmp_path):
    """The part of a nodule of 40 mm that lies in the other cube is in no mask."""
    cut, other = cube("a", size=17, diameter=40.0, series="1.2"), cube("b", series="1.2", origin=(-15.0, -15.0, -15.0))
    mask = np.ones((17, 17, 17), bool)
    store = store_of(tmp_path / "store", [replace(cut, regions=(Region.of(mask),)), other])
    for place in corner_places(store, store.cases[1:], SPEC):
        assert apart_mm(place, store["a"].nodules[0].center_mm) > 20 + CLEAR_MM


def test_what_augmentation_may_show_around_a_patch_is_without_a_nodule_too(tmp_path):
    store = store_of(tmp_path / "store", [cube("a", size=40)])
    assert len(corner_places(store, store.cases, SPEC, 0, (1, 1, 1))) == 8
    assert corner_places(store, store.cases, SPEC, 0, (4, 4, 4)) == []


def test_where_some_nodules_are_known_corners_lie_beside_nothing_as_dense_as_a_nodule(tmp_path, capsys):
    shape = (48, 48, 48)
    case = cube("a", annotated="some")
    unknown = ball_mask(shape, 6, center=(8, 8, 8))
    hu = np.where(unknown, 20, case.ct.voxels).astype(np.int16)
    store = store_of(tmp_path / "store", [replace(case, ct=replace(case.ct, voxels=hu))])
    found = negative_places(store, store.cases, SPEC, 8, 0, cache=tmp_path / "cache")
    assert len(found) == 7
    assert all(place.center_mm != (7.5, 7.5, 7.5) for place in found)
    err = capsys.readouterr().err
    assert "7 from 1 of 1 scans with some known nodules, at least 2.5 mm from anything 5 mm wide and denser" in err


# Whole scans


@pytest.fixture(scope="module")
def scans(chest, tmp_path_factory):
    """A chest as it may be annotated, with a nodule of 16 mm in a lung."""
    at = np.rint(chest.to_voxel((-70.0, 0.0, 0.0))).astype(int)
    mask = ball_mask(chest.shape, 4, center=at)
    ct = replace(chest, voxels=np.where(mask, 40, chest.voxels).astype(np.int16))
    nodule = Nodule("01", tuple(chest.to_world(at).tolist()), NoduleAttributes(diameter_mm=16.0), 1)
    case = Case("all", "all", ct, (Region.of(mask),), (nodule,), annotated="all")
    hidden = replace(case, case_id="some", patient_id="some", regions=(), nodules=(), annotated="some")
    folder = tmp_path_factory.mktemp("scans") / "store"
    return store_of(folder, [case, hidden, replace(hidden, case_id="none", patient_id="none", annotated="none-known")])


def test_in_whole_scans_patches_stay_5_mm_from_the_voxels_of_nodules(scans):
    grid = scans["all"].volume(np.zeros(scans["all"].shape, np.uint8))
    voxels = grid.to_world(scans.region("all", 1).indices())
    for place in lung_places(scans, scans.cases[:1], SPEC, 30, 0):
        assert min(apart_mm(place, voxel) for voxel in voxels) > CLEAR_MM


def test_in_whole_scans_of_which_some_nodules_are_known_an_unknown_one_is_in_no_patch(scans):
    """The hidden nodule of 16 mm is the one that the other scan knows."""
    grid = scans["all"].volume(np.zeros(scans["all"].shape, np.uint8))
    voxels = grid.to_world(scans.region("all", 1).indices())
    found = lung_places(scans, scans.cases[1:], SPEC, 30, 0)
    assert len(found) > 10
    assert {place.case_id for place in found} == {"some"}
    for place in found:
        assert min(apart_mm(place, voxel) for voxel in voxels) > 0
        assert read_patch(scans, place, SPEC)[0].voxels.max() < 0


def test_a_scan_without_lungs_gives_none_and_stops_nobody(scans, tmp_path, monkeypatch):
    nothing = Volume(np.full((40, 40, 40), -1000, np.int16), (4.0, 4.0, 4.0))
    store = store_of(tmp_path / "store", [scans.read("all"), Case("empty", "empty", nothing, annotated="all")])
    found = lung_places(store, store.cases, SPEC, 8, 0)
    assert {place.case_id for place in found} == {"all"}


def test_a_detector_is_only_led_over_scans_of_which_all_nodules_are_known(scans, tmp_path, capsys):
    write_index(
        scans.path, scans.cases, {"train": [], "val": [], "test": ["all", "none", "some"]}, source={}, skipped=[]
    )
    search = scan_search(Store(scans.path))
    assert [case.case_id for case in search.cases] == ["all"]
    assert "2 whole test scans are not searched" in capsys.readouterr().err


def test_the_recipe_of_places_is_part_of_what_they_are_kept_by(tmp_path, monkeypatch):
    store = store_of(tmp_path / "store", [cube("a")])
    for recipe in (4, 5):
        monkeypatch.setattr(module, "PLACES_RECIPE", recipe)
        negative_places(store, store.cases, SPEC, 8, 0, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
