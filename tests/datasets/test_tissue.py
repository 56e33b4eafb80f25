"""Label maps of tissues in a store: made once, with the nodules, and kept wherever the CT is kept."""

from dataclasses import replace

import numpy as np
import pytest

from synthorax.anatomy.tissue import TissueClass
from synthorax.api import info, pack, unpack
from synthorax.datasets.phantoms import PhantomSource
from synthorax.datasets.prepare import prepare_store
from synthorax.datasets.store import STORE_REQUEST, Store
from synthorax.datasets.tissue import with_tissue
from synthorax.errors import InputError
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

PHANTOM = PhantomSource(0, 3, "train", (6.0, 6.0, 6.0), (40, 56, 56), 4.0)


@pytest.fixture(scope="module")
def phantom():
    return PHANTOM.read()


@pytest.fixture(scope="module")
def store(phantom, tmp_path_factory):
    cube = with_tissue(ball_case("cube", 10, size=24))
    store = store_of(tmp_path_factory.mktemp("store") / "store", [cube, phantom])
    (store.path / STORE_REQUEST).write_text("{}")
    return store


def test_a_cubes_label_map_has_its_nodule_and_nothing_outside_the_body():
    case = ball_case("cube", 10, size=24)
    tissue = with_tissue(case).tissue
    np.testing.assert_array_equal(tissue == TissueClass.NODULE, case.label_map() > 0)
    assert (tissue[case.label_map() == 0] == TissueClass.OTHER).all()


def test_nodules_without_voxels_are_told_of():
    made = with_tissue(ball_case("cube", 10, size=24, outlined=False))
    assert made.notes == ("1 nodules without a mask are not in the label map of tissues",)


def test_a_phantoms_label_map_is_its_own_and_one_made_from_its_hu_agrees_on_the_body(phantom):
    by_hu = with_tissue(replace(phantom, tissue=None)).tissue
    own = phantom.tissue
    np.testing.assert_array_equal(own == TissueClass.NODULE, phantom.label_map() > 0)
    assert (own == TissueClass.NODULE).any()
    assert ((own == TissueClass.OUTSIDE) == (by_hu == TissueClass.OUTSIDE)).mean() > 0.98
    assert (by_hu[own == TissueClass.OTHER] == TissueClass.OTHER).mean() > 0.9


def test_a_store_gives_back_the_label_map_whole_and_by_boxes(store, phantom):
    assert [case.has_tissue for case in store.cases] == [True, True]
    np.testing.assert_array_equal(store.read("phantom-s3-0000").tissue, phantom.tissue)
    box = store.read_box("phantom-s3-0000", (-2, 10, 20), (10, 12, 14), "tissue").voxels
    np.testing.assert_array_equal(box[2:], phantom.tissue[:8, 10:22, 20:34])
    assert (box[:2] == TissueClass.OUTSIDE).all()
    assert not store.check().errors


def test_a_case_without_a_label_map_says_how_to_get_one(tmp_path):
    plain = store_of(tmp_path / "store", [ball_case("cube", 10, size=24)])
    with pytest.raises(InputError, match=r"no label map of its tissues; expected .* prepare it with --tissue"):
        plain.read_box("cube", (0, 0, 0), (4, 4, 4), "tissue")
    (plain.path / STORE_REQUEST).write_text("{}")
    with pytest.raises(InputError, match="without label maps of tissues; expected one that was prepared with --tissue"):
        info(tmp_path / "store", draw=tmp_path / "drawn.png")


def test_a_store_has_label_maps_only_where_it_is_asked_for_them(tmp_path):
    asked = {"kind": "phantom", "source": "phantom"}
    plain = prepare_store([PHANTOM], tmp_path / "plain", asked, workers=1)
    full = prepare_store([PHANTOM], tmp_path / "full", asked, tissue=True, workers=1)
    assert [case.has_tissue for case in (*plain.cases, *full.cases)] == [False, True]
    assert plain.fingerprint != full.fingerprint
    with pytest.raises(InputError, match=r"a store of another request \(--tissue was True, now not given\)"):
        prepare_store([PHANTOM], tmp_path / "full", asked, workers=1)


def test_a_packed_store_comes_back_with_its_label_maps(store, tmp_path):
    pack(store.path, tmp_path / "store.pack")
    unpack(tmp_path / "store.pack", tmp_path / "again")
    again = Store(tmp_path / "again")
    assert again.fingerprint == store.fingerprint
    np.testing.assert_array_equal(again.read("cube").tissue, store.read("cube").tissue)


def test_info_draws_the_label_maps(store, tmp_path):
    about = info(store.path, draw=tmp_path / "drawn.png")
    assert about["label_maps_of_tissues"] == 2
    assert "2 of 2 cases with label maps" in about["drawn"]
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")
