"""Windows of label maps and CT: cut at the stated place, from any voxels, and the same for a step each time."""

from dataclasses import replace

import numpy as np
import pytest

from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.label_windows import read_label_windows
from synthorax.datasets.tissue import with_tissue
from synthorax.errors import InputError
from synthorax.volume import Volume
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

MM = (1.0, 1.0, 1.0)


def numbered(name, shape, nodule_mm=8.0):
    """A case whose HU number its voxels, with a ball in the middle."""
    case = with_tissue(ball_case(name, nodule_mm, size=shape[0]))
    hu = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return replace(case, ct=replace(case.ct, voxels=hu))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    cases = [numbered("one", (24, 24, 24)), numbered("two", (30, 30, 30))]
    return store_of(tmp_path_factory.mktemp("windows") / "store", cases)


def windows_of(store, size, tmp_path, **options):
    return read_label_windows(store, store.in_split("train"), size, MM, 5, cache=tmp_path, workers=1, **options)


def test_ct_and_label_map_of_a_window_are_of_one_place_of_its_case(store, tmp_path):
    drawn = windows_of(store, (8, 10, 12), tmp_path).drawn("x", 3, 6)
    for hu, tissue, number in zip(drawn.ct, drawn.tissue, drawn.case, strict=True):
        case = store.read(store.cases[number].case_id)
        start = np.unravel_index(int(hu[0, 0, 0]), case.ct.shape)
        box = tuple(slice(a, a + n) for a, n in zip(start, (8, 10, 12), strict=True))
        np.testing.assert_array_equal(hu, case.ct.voxels[box])
        np.testing.assert_array_equal(tissue, case.tissue[box])


def test_a_step_has_the_same_windows_each_time_and_from_the_cache_and_other_steps_others(store, tmp_path):
    first, again = windows_of(store, (8, 8, 8), tmp_path), windows_of(store, (8, 8, 8), tmp_path)
    assert np.array_equal(first.drawn("x", 3, 4).ct, again.drawn("x", 3, 4).ct)
    assert not np.array_equal(first.drawn("x", 3, 4).ct, first.drawn("x", 4, 4).ct)
    assert not np.array_equal(first.drawn("x", 3, 4).ct, first.drawn("y", 3, 4).ct)


def test_slices_of_nodules_cut_them_and_are_centred_on_them(store, tmp_path):
    drawn = windows_of(store, (1, 16, 16), tmp_path).drawn("x", 0, 40, at_nodules=1.0, centred=True)
    nodules = drawn.tissue[:, 0] == TissueClass.NODULE
    assert nodules.any((1, 2)).all()
    middles = np.array([np.argwhere(one).mean(0) for one in nodules])
    np.testing.assert_allclose(middles, 7.5, atol=0.6)
    assert len({int(hu[0, 0, 0]) for hu in drawn.ct}) > 8  # other slices of the nodules


def test_windows_at_nodules_hold_a_part_of_one_anywhere(store, tmp_path):
    drawn = windows_of(store, (8, 8, 8), tmp_path).drawn("x", 0, 40, at_nodules=0.5)
    assert (drawn.tissue[:20] == TissueClass.NODULE).any((1, 2, 3)).all()
    places = [np.argwhere(one == TissueClass.NODULE).mean(0) for one in drawn.tissue[:20]]
    assert np.ptp(places, axis=0).min() > 2


def test_a_margin_shows_the_neighbouring_slices_and_repeats_the_last_one_at_the_end(store, tmp_path):
    drawn = windows_of(store, (1, 24, 24), tmp_path).drawn("x", 1, 80, margin=2)
    assert drawn.ct.shape == (80, 5, 24, 24)
    larger = drawn.ct[drawn.case == 1, :, 0, 0]
    steps = {tuple(np.diff(slices).tolist()) for slices in larger}
    assert (900,) * 4 in steps
    assert {(0, 0, 900, 900), (900, 900, 0, 0)} & steps


def test_cases_of_other_voxels_are_put_on_those_asked_for(tmp_path):
    case = ball_case("fine", 12, size=40, voxel_mm=0.5)
    store = store_of(tmp_path / "store", [with_tissue(case)])
    drawn = windows_of(store, (20, 20, 20), tmp_path).drawn("x", 0, 1)
    assert drawn.ct.shape == (1, 20, 20, 20)
    nodule_ml = (drawn.tissue == TissueClass.NODULE).sum() / 1000
    assert nodule_ml == pytest.approx(np.pi / 6 * 1.2**3, rel=0.1)


def test_cases_smaller_than_a_window_are_named_and_alone_refused(store, tmp_path, capsys):
    made = windows_of(store, (26, 26, 26), tmp_path)
    assert [case.case_id for case in made.cases] == ["two"]
    assert (
        "1 of 2 training cases are smaller than a window of 26 x 26 x 26 voxels of 1 x 1 x 1 mm"
        in capsys.readouterr().err
    )
    with pytest.raises(
        InputError, match="2 training cases, all smaller; expected cases of at least 64 x 64 x 64 voxels"
    ):
        windows_of(store, (64, 64, 64), tmp_path)


def test_a_store_without_label_maps_says_how_to_get_them(tmp_path):
    store = store_of(tmp_path / "store", [ball_case("plain", 8, size=24)])
    with pytest.raises(InputError, match=r"without a label map of tissues, such as plain; expected .* --tissue"):
        windows_of(store, (8, 8, 8), tmp_path)
    assert not windows_of(store, (8, 8, 8), tmp_path, tissue=False).has_tissue


def test_the_voxels_of_each_class_are_counted(store, tmp_path):
    counts = windows_of(store, (8, 8, 8), tmp_path).class_counts()
    tissues = [store.read(case.case_id).tissue for case in store.cases]
    assert counts[TissueClass.NODULE] == sum((tissue == TissueClass.NODULE).sum() for tissue in tissues)
    assert counts.sum() == 24**3 + 30**3


def test_a_turned_scan_gives_the_windows_of_an_upright_one(tmp_path):
    case = numbered("one", (24, 24, 24))
    flip = np.diag([-1.0, -1.0, 1.0])  # as RAS
    far = tuple(case.ct.to_world((0, 23, 23)).tolist())
    turned = replace(
        case,
        ct=Volume(case.ct.voxels[:, ::-1, ::-1].copy(), MM, far, flip),
        tissue=case.tissue[:, ::-1, ::-1].copy(),
        regions=tuple(replace(r, mask=r.mask[:, ::-1, ::-1]) for r in case.regions),
    )
    one, other = (
        windows_of(store_of(tmp_path / name, [each]), (8, 8, 8), tmp_path).drawn("x", 0, 4)
        for name, each in (("a", case), ("b", turned))
    )
    np.testing.assert_array_equal(one.tissue, other.tissue)
    np.testing.assert_array_equal(one.ct, other.ct)
