"""Chests are the boxes of the lungs resampled to one grid, each with its own spacing."""

import numpy as np
import pytest
import torch

from synthorax.anatomy.lungs import find_lungs
from synthorax.datasets import chests as module
from synthorax.datasets.case import Case
from synthorax.datasets.chest_grid import ChestGrid
from synthorax.datasets.chests import LUNG_BOX_MARGIN_MM, read_chests, slices_of
from synthorax.errors import InputError
from synthorax.geometry import resized_box
from synthorax.makers import Filled, Lineage
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

WINDOW_HU = (-1000.0, 400.0)
GRID = ChestGrid((16, 16, 16))
NODULE_HU = 3000


def scan(name, *, spacing=None, nodule=False, annotated="all"):
    """Return a whole scan of a separate patient, possibly with a bright ball in a lung, whose voxels are known."""
    ct = small_chest(len(name))
    ct = Volume(ct.voxels, spacing or ct.spacing_mm, (10.0, -20.0, -300.0))
    if not nodule:
        return Case(name, name, ct, annotated=annotated)
    at = (20, 36, 22)
    ball = ball_mask(ct.shape, 20.0, ct.spacing_mm, at)
    voxels = np.where(ball, np.int16(NODULE_HU), ct.voxels)
    found = Nodule("01", tuple(ct.to_world(at).tolist()), NoduleAttributes(diameter_mm=20.0), label=1)
    region = Region.of(ball)
    return Case(name, name, Volume(voxels, ct.spacing_mm, ct.origin_mm), (region,), (found,), annotated=annotated)


class Flattener:
    """Erases nodules by giving the whole region the HU of lung."""

    name, heeds, roles = "flattener", frozenset(), frozenset({"erases"})
    lineage = Lineage("flattener", "f" * 64)

    def reach_mm(self, edit):
        return 30.0, 25.0

    def fill_many(self, patches, regions, edits, seeds):
        return [
            Filled(np.where(region, np.float32(-850), patch.voxels.astype(np.float32)), None, edit.nodule)
            for patch, region, edit in zip(patches, regions, edits, strict=True)
        ]


class Idler(Flattener):
    """Changes nothing."""

    def fill_many(self, patches, regions, edits, seeds):
        return [
            Filled(patch.voxels.astype(np.float32), None, edit.nodule)
            for patch, edit in zip(patches, edits, strict=True)
        ]


@pytest.fixture
def read(tmp_path):
    """A function that writes cases into a store and reads their chests in this process."""

    def do(*cases, grid=GRID, **options):
        store = store_of(tmp_path / "store", cases)
        return read_chests(store, store.cases, grid, WINDOW_HU, cache=tmp_path / "cache", workers=1, **options)

    return do


def test_a_chest_is_the_box_of_the_lungs_with_its_margin_in_millimetres(read):
    case = scan("a")
    chest = read(case).chest(0)
    lungs = find_lungs(case.ct).mask
    extent = np.ptp(lungs.to_world(np.argwhere(lungs.voxels)), axis=0)[::-1] + lungs.spacing_mm + 2 * LUNG_BOX_MARGIN_MM
    width = np.multiply(chest.shape, chest.spacing_mm)
    assert (np.abs(width - extent) <= np.multiply(2, case.ct.spacing_mm)).all(), (width, extent)


def test_averaging_keeps_the_mean_and_interpolating_the_place():
    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(0, 100, (12, 12, 12)).astype(np.float32), (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    small = resized_box(volume, (0, 0, 0), (12, 12, 12), (6, 4, 3))
    assert np.multiply(small.shape, small.spacing_mm).tolist() == [24.0, 12.0, 12.0]
    assert abs(small.voxels.mean() - volume.voxels.mean()) < 5
    assert small.voxels.std() < volume.voxels.std() / 4
    ramp = Volume(np.arange(12, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32), (1.0, 1.0, 1.0))
    for n in (5, 24):
        made = resized_box(ramp, (2, 0, 0), (10, 4, 4), (n, 2, 2))
        places = [made.to_world((i, 0, 0))[2] for i in range(n)]
        inner = slice(n // 4, -(n // 4))
        np.testing.assert_allclose(made.voxels[inner, 0, 0], places[inner], atol=0.03)


def test_cases_that_are_no_whole_scans_are_named_and_none_at_all_is_refused(read, capsys):
    chests = read(scan("a"), ball_case("cube", 8))
    assert [case.case_id for case in chests.cases] == ["a"]
    assert "1 cases are left out: cube" in capsys.readouterr().err


def test_a_store_of_cubes_is_refused_as_chests_and_taken_as_cubes(read):
    with pytest.raises(InputError, match=r"none of them a whole scan.*or `region=cube`"):
        read(ball_case("cube", 8, size=20))
    chests = read(ball_case("cube", 8, size=20), grid=ChestGrid((16, 16, 16), "cube"))
    assert chests.spacing_mm.tolist() == [[1.0, 1.0, 1.0]]
    with pytest.raises(InputError, match="none of them a cube this wide"):
        read(ball_case("cube", 8, size=20), grid=ChestGrid((32, 32, 32), "cube"))


def test_a_middle_of_a_cube_is_its_very_voxels(read, capsys):
    case = ball_case("cube", 8, size=20)
    chests = read(case, grid=ChestGrid((16, 16, 16), "cube"))
    assert np.array_equal(chests.voxels[0], case.ct.voxels[2:18, 2:18, 2:18])
    assert "1 cube of 16 x 16 x 16 voxels, of 1 x 1 x 1 mm (z, y, x)" in capsys.readouterr().err


def test_scans_of_several_spacings_are_resized_and_the_screen_says_so(read, capsys):
    chests = read(scan("a"), scan("b", spacing=(5.0, 4.0, 4.0)))
    assert chests.spacing_mm[0, 1] > chests.spacing_mm[1, 1]
    assert "2 chests of 16 x 16 x 16 voxels" in (line := capsys.readouterr().err)
    assert "resized from scans of 2 spacings" in line


def test_nodules_are_taken_out_in_the_scans_own_voxels_or_told_to_stay(read, capsys):
    left = read(scan("a", nodule=True), grid=ChestGrid((32, 32, 32)))
    assert left.voxels.max() > 300
    assert not left.without_nodules
    assert "1 nodule of 1 chest not taken out, because no eraser was used" in capsys.readouterr().err
    erased = read(scan("a", nodule=True), grid=ChestGrid((32, 32, 32)), erased_by=Flattener())
    assert erased.voxels.max() < 300
    assert erased.without_nodules
    assert "not taken out" not in capsys.readouterr().err


def test_a_nodule_that_is_still_visible_after_the_erasure_is_told_to_stay(read, capsys):
    chests = read(scan("a", nodule=True), grid=ChestGrid((32, 32, 32)), erased_by=Idler())
    assert chests.nodules_left == {"a": 1}
    assert not chests.without_nodules
    assert (
        "1 nodule of 1 chest not taken out, because their place is unknown or they are still visible"
        in capsys.readouterr().err
    )


def test_scans_of_which_not_all_nodules_are_known_are_told(read, capsys):
    chests = read(scan("a", annotated="none-known"))
    assert not chests.without_nodules
    assert "1 chest may have further nodules" in capsys.readouterr().err


def test_a_scan_without_lungs_is_left_out_and_one_alone_is_refused(read, capsys):
    blank = Case("blank", "blank", Volume(np.zeros((40, 72, 72), np.int16), (6.0, 4.5, 4.5)), annotated="all")
    assert len(read(scan("a"), blank)) == 1
    assert "1 cases are left out: blank" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"1 scans without lungs; the first: blank: scan: found no lung"):
        read(blank)


def test_chests_are_read_once_from_the_scans_and_then_from_the_cache(read, monkeypatch):
    first = read(scan("a"))
    monkeypatch.setattr(module, "find_lungs", None)
    again = read(scan("a"))
    assert np.array_equal(first.voxels, again.voxels)
    assert np.array_equal(first.spacing_mm, again.spacing_mm)


def test_a_slab_is_neighbouring_slices_of_one_chest_with_a_neighbour_at_each_end(read):
    chests = read(scan("a"), scan("bb"))
    whole = chests.whole([0, 1])[:, 0]
    for step in range(6):
        batch = chests.batch(step, 2, depth=4, slices=3)
        for slab, start, index in zip(batch["slab"], batch["start"], batch["index"], strict=True):
            assert torch.equal(slab, whole[index, start - 1 : start + 5])
        assert (batch["chosen"].diff(dim=1) > 0).all()
        assert sorted(batch["index"].tolist()) == [0, 1]
    again = chests.batch(5, 2, depth=4, slices=3)
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_a_slice_has_its_neighbours_as_channels_below_and_above():
    slab = torch.arange(6.0)[None, :, None, None].expand(1, 6, 2, 2)
    chosen = torch.tensor([[0, 3]])
    assert slices_of(slab, chosen, 3)[:, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert slices_of(slab, chosen, 1)[:, :, 0, 0].tolist() == [[1], [4]]
