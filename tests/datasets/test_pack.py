"""A store packed into one file and unpacked: the same store, or exactly the patches that training sees."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import synthorax as sx
from synthorax.cli import main
from synthorax.datasets import pack_codec as module
from synthorax.datasets.pack import Pack
from synthorax.datasets.pack_codec import decode_ct, decode_regions, encode_ct, encode_regions
from synthorax.datasets.patches import read_patch
from synthorax.datasets.places import negative_places, nodule_places
from synthorax.datasets.store import Case, MarkedPoint, Store, write_case, write_index
from synthorax.errors import InputError
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.region import Region, regions_of
from synthorax.volume import Volume
from tests.helpers.files import flip
from tests.helpers.packs import members_of, row_with, written
from tests.helpers.stores import store_of

SIZE = (12, 10, 8)
SPLITS = {"train": ["P0", "P1"], "val": ["P2"], "test": ["P3"]}


def cube(number, spacing_mm=(1.0, 1.0, 1.0), mask=True):
    """Lung-like noise with two nodules, the first one's place off the voxels' centres."""
    rng = np.random.default_rng(number)
    shape = (27, 26, 25)
    ct = Volume(np.rint(rng.normal(-850, 40, shape)).astype(np.int16), spacing_mm, (-31.37, 12.5, 803.2))
    labels = np.zeros(shape, np.uint8)
    labels[13:15, 12:15, 11:14], labels[2:4, 3:5, 2:5] = 1, 2
    nodules = []
    for label in (1, 2):
        x, y, z = (ct.to_world(np.argwhere(labels == label).mean(0)) + (label == 1) * 0.3).tolist()
        attributes = NoduleAttributes(diameter_mm=3.0 + label, malignancy=2.5)
        given_ratings = {"malignancy": (2.0, 3.0)}
        nodules.append(Nodule(f"n{label}", (x, y, z), attributes, label * mask, given_ratings, {"reader": "A"}))
    points = (MarkedPoint("candidate", (1.25, 2.5, 800.0)),)
    regions = tuple(regions_of(labels, (1, 2))) if mask else ()
    case = Case(f"case {number}", f"P{number}", ct, regions, tuple(nodules), points, "all")
    return replace(case, split="train" if number < 2 else None, series_uid=f"1.2.{number}", notes=("mended",))


@pytest.fixture(scope="module", autouse=True)
def user_cache(tmp_path_factory):
    """The places that packing keeps, which no earlier run of the tests has found."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_path", lambda name: folder / name)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four cubes of four patients, one without a mask and one of other voxels."""
    folder = tmp_path_factory.mktemp("store")
    cases = [cube(0), cube(1, (1.2, 0.9, 0.9)), cube(2, mask=False), cube(3)]
    entries = [write_case(folder, case, "test") for case in cases]
    write_index(folder, entries, SPLITS, source={"kind": "test"}, skipped=[{"case": "x", "reason": "torn"}])
    return Store(folder)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """All of it packed."""
    return sx.pack(store, tmp_path_factory.mktemp("pack") / "whole.zip").path


# The codec

HU = hnp.arrays(
    np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(-(2**15), 2**15 - 1)
)
MASKS = st.lists(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)), max_size=5)


@given(HU, st.integers(1, 9**3))
@settings(max_examples=40)
def test_any_voxels_come_back_as_they_were(voxels, slab):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLAB_VOXELS", slab)
        data = encode_ct(voxels)
    np.testing.assert_array_equal(decode_ct(data, voxels.shape), voxels)


@given(MASKS)
@settings(max_examples=40)
def test_any_masks_come_back_as_they_were(masks):
    regions = [Region((i, 0, 2 * i), mask) for i, mask in enumerate(masks)]
    found = decode_regions(encode_regions(regions), [(region.corner, region.shape) for region in regions])
    for one, other in zip(found, regions, strict=True):
        assert one.corner == other.corner
        np.testing.assert_array_equal(one.mask, other.mask)


def test_what_is_smooth_along_z_is_smaller_than_slices_by_themselves(rng_scan):
    one_by_one = sum(len(encode_ct(plane[None])) for plane in rng_scan)
    assert len(encode_ct(rng_scan)) < 0.9 * one_by_one


@pytest.fixture
def rng_scan():
    steps = np.random.default_rng(0).normal(0, 20, (30, 40, 40))
    return np.rint(np.cumsum(steps, 0)).astype(np.int16)


# Whole stores


def test_a_store_packed_whole_comes_back_as_the_same_store(store, whole, tmp_path):
    back = sx.unpack(whole, tmp_path / "back")
    assert back.fingerprint == store.fingerprint
    assert (back.splits, back.source, back.skipped) == (store.splits, store.source, store.skipped)
    for case in store.cases:
        one, other = store.read(case.case_id), back.read(case.case_id)
        np.testing.assert_array_equal(one.ct.voxels, other.ct.voxels)
        np.testing.assert_array_equal(one.ct.direction, other.ct.direction)
        np.testing.assert_array_equal(one.label_map(), other.label_map())
        assert [r.corner for r in one.regions] == [r.corner for r in other.regions]
        assert (one.nodules, one.points, one.notes) == (other.nodules, other.points, other.notes)
    assert sx.info(tmp_path / "back")["masked_nodules"] == 6
    assert sx.verify(tmp_path / "back") == []


def test_the_same_store_packs_into_the_same_bytes(store, whole, tmp_path):
    assert sx.pack(store, tmp_path / "again.zip", workers=2).path.read_bytes() == whole.read_bytes()


def test_only_the_patients_of_the_splits_are_packed_and_all_ids_are_kept(store, tmp_path):
    made = sx.pack(store, tmp_path / "val.zip", splits=["val", "test"])
    told = sx.info(tmp_path / "val.zip")
    assert told["patients"]["train"] == 0 < told["patients_without_a_case"]["train"]
    assert [row["patient_id"] for row in made.rows] == ["P2", "P3"]
    back = sx.unpack(tmp_path / "val.zip", tmp_path / "back")
    assert back.splits == store.splits
    assert [case.case_id for case in back.in_split("test")] == ["case 3"]
    assert back.fingerprint != store.fingerprint


@pytest.mark.parametrize("step", [2, 7])
def test_rounded_hu_are_off_by_half_a_step_at_most(store, tmp_path, step):
    sx.pack(store, tmp_path / "rounded.zip", hu_step=step)
    back = sx.unpack(tmp_path / "rounded.zip", tmp_path / "back")
    for case in store.cases:
        off = back.read(case.case_id).ct.voxels.astype(int) - store.read(case.case_id).ct.voxels
        assert 0 < abs(off).max() <= step / 2
    assert back.source["hu_step"] == step
    assert back.source["of"] == store.fingerprint


def test_a_pack_tells_where_its_nodules_are(whole, store):
    pack = Pack(whole)
    nodule, row = store.cases[0].nodules[0], pack.rows[0]["nodules"][0]
    assert row == nodule.row()
    assert (pack.of, pack.splits, pack.whole) == (store.fingerprint, SPLITS, True)


def test_reading_a_pack_takes_numpy_and_pillow_only(whole, store):
    others = ("zarr", "torch", "SimpleITK", "pydantic", "scipy", "rich", "cyclopts", "numcodecs", "yaml")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({others!r}))
from pathlib import Path
from synthorax.datasets.pack import Pack
pack = Pack(Path({str(whole)!r}))
print(pack.ct(0).sum(), pack.mask(0).sum(), pack.mask(2))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    case = store.read("case 0")
    assert done.stdout.split() == [str(case.ct.voxels.sum(dtype=np.int64)), str(case.label_map().sum()), "None"]


# Patches


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.3, 0.8, 0.8)], ids=["own voxels", "resampled"])
def test_training_cuts_from_packed_patches_what_it_cuts_from_the_store(store, tmp_path, margin, spacing_mm):
    spec = PatchSpec(SIZE, spacing_mm)
    sx.pack(store, tmp_path / "patches.zip", size=SIZE, spacing_mm=spacing_mm, margin=margin)
    back = sx.unpack(tmp_path / "patches.zip", tmp_path / "back")
    compared = 0
    cache = tmp_path / "cache"
    for split in SPLITS:
        before = nodule_places(cases := store.in_split(split))
        after = nodule_places(back.in_split(split))
        assert [p.nodule.attributes for p in after] == [p.nodule.attributes for p in before]
        for one, other in zip(before, after, strict=True):
            if margin and one.nodule.nodule_id == "n2":
                continue  # at the scan's edge; its patch was moved inside, and a margin lets it move back
            (ct, own), (packed_ct, packed_own) = read_patch(store, one, spec), read_patch(back, other, spec)
            np.testing.assert_array_equal(packed_ct.voxels, ct.voxels)
            np.testing.assert_array_equal(packed_own, own)
            np.testing.assert_allclose(packed_ct.origin_mm, ct.origin_mm, atol=1e-3)
            compared += 1
        free = negative_places(store, cases, spec, len(before), 0, margin=(margin,) * 3, cache=cache)
        without = [read_patch(store, place, spec)[0].voxels for place in free]
        packed = [back.read(case.case_id).ct.voxels for case in back.in_split(split) if not case.nodules]
        np.testing.assert_array_equal(packed, without)
        compared += len(packed)
    assert compared > 8


def test_patches_of_a_whole_scan_are_those_that_a_run_of_the_seed_would_draw(chest, tmp_path):
    mask = np.zeros(chest.shape, np.uint8)
    mask[tuple(np.rint(chest.to_voxel((-70.0, 0.0, 0.0))).astype(int))] = 1
    nodule = Nodule("1", (-70.0, 0.0, 0.0), NoduleAttributes(diameter_mm=8.0), 1)
    case = Case("scan", "P", chest, (Region.of(mask),), (nodule,), annotated="all")
    store = store_of(tmp_path / "store", [case])
    spec = PatchSpec((8, 8, 8), (4.0, 4.0, 4.0))
    packs = [
        sx.pack(store, tmp_path / f"{seed}.zip", size=spec.size, spacing_mm=spec.spacing_mm, seed=seed)
        for seed in (0, 1)
    ]
    assert [len(pack) for pack in packs] == [2, 2]
    for seed, pack in enumerate(packs):
        (place,) = negative_places(store, store.cases, spec, 1, seed, cache=tmp_path / "cache")
        np.testing.assert_array_equal(pack.ct(1), read_patch(store, place, spec)[0].voxels)
    assert not np.array_equal(packs[0].ct(1), packs[1].ct(1))


# Mistakes and damage


def rewritten(source, target, change):
    """A pack with some of its members changed."""
    members = members_of(source)
    change(members)
    written(target, members)


def index_with(**changes):
    def change(members):
        members["index.json"] = json.dumps(json.loads(members["index.json"]) | changes).encode()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: members.pop("index.json"), "damaged"),
        (lambda members: members.pop("2.ct"), "damaged"),
        (lambda members: members.pop("0.regions"), "damaged"),
        (lambda members: members.update({"1.ct": members["1.ct"][:300]}), "damaged"),
        (lambda members: members.update({"1.ct": b"no pictures"}), "damaged"),
        (lambda members: members.update({"0.regions": b"\x01words"}), "damaged"),
        (lambda members: members.update({"0.regions": members["3.regions"][:5]}), "damaged"),
        (lambda members: members.update({"0.ct": members["3.ct"]}), "fingerprint"),
        (lambda members: members.update({"index.json": b"{"}), "damaged"),
        (lambda members: members.update({"index.json": b"[]"}), "damaged"),
        (index_with(format=3), "format 3"),
        (index_with(cases=3), "damaged"),
        (row_with(shape=[3, 3, 3]), "damaged"),
        (row_with(case_id="../outside"), "damaged"),
        (row_with(case_id="case 1"), "damaged"),
        (row_with(nodules=[{}]), "damaged"),
    ],
)
def test_a_damaged_pack_is_told_in_one_line_and_nothing_is_written(whole, tmp_path, capfd, change, said):
    rewritten(whole, tmp_path / "bad.zip", change)
    assert main(["unpack", f"{tmp_path}/bad.zip", "--out", f"{tmp_path}/back"]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert f"{tmp_path}/bad.zip" in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_a_flipped_byte_is_found(whole, tmp_path):
    flip(shutil.copy(whole, tmp_path / "bad.zip"), at=1 / 3)
    with pytest.raises(InputError, match="damaged"):
        sx.unpack(tmp_path / "bad.zip", tmp_path / "back")


@pytest.fixture
def desk(store, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").symlink_to(store.path)
    (tmp_path / "whole.zip").symlink_to(whole)
    (tmp_path / "notes.txt").write_text("no pack here\n")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    return tmp_path


BAD = [
    ("pack store", "--out"),
    ("pack --out new", "STORE is required"),
    ("pack nowhere --out new", "nowhere"),
    ("pack thesis --out new", "thesis"),
    ("pack notes.txt --out new", "notes.txt"),
    ("pack store --out notes.txt", "notes.txt"),
    ("pack store --out thesis --overwrite", "thesis"),
    ("pack store --out nowhere/new", "nowhere/new"),
    ("pack store --out new --size 12,10", "--size"),
    ("pack store --out new --size 0,10,8", "--size"),
    ("pack store --out new --size large", "--size"),
    ("pack store --out new --size 8,8,8 --spacing nan,1,1", "--spacing"),
    ("pack store --out new --size 8,8,8 --margin -1", "margin"),
    ("pack store --out new --hu-step 0", "HU step"),
    ("pack store --out new --hu-step 1000", "1000"),
    ("pack store --out new --splits train,dev", "'dev'"),
    ("pack store --out new --seed one", "one"),
    ("unpack whole.zip", "--out"),
    ("unpack nowhere.zip --out new", "nowhere.zip"),
    ("unpack notes.txt --out new", "notes.txt"),
    ("unpack thesis --out new", "thesis"),
    ("unpack whole.zip --out thesis", "thesis"),
    ("unpack whole.zip --out thesis --overwrite", "thesis"),
    ("unpack whole.zip --out notes.txt", "notes.txt"),
]


@pytest.mark.parametrize(("command", "named"), BAD, ids=[command for command, _ in BAD])
def test_a_mistake_is_told_in_one_line_and_leaves_nothing_behind(desk, capfd, command, named):
    before = sorted(desk.rglob("*"))
    assert main(command.split()) == 2
    out, err = capfd.readouterr()
    assert err.startswith("synthorax: ")
    assert len(err.splitlines()) == 1
    assert named in err
    assert not out
    assert sorted(desk.rglob("*")) == before


def test_info_of_a_pack_says_what_is_in_it_and_how_it_is_used(desk, capsys, store):
    assert main(["info", "whole.zip"]) == 0
    said = capsys.readouterr().out
    assert "holds: pack" in said
    assert f"cases: {len(store)}" in said
    assert f"nodules: {sum(len(case.nodules) for case in store.cases)}" in said
    assert "synthorax unpack PACK --out STORE" in said
    assert main(["info", "notes.txt"]) == 2


def test_the_verbs_pack_and_unpack(desk, capsys, store):
    assert main(["pack", "store", "--size", "8,8,8", "--splits", "train", "--out", "train.zip"]) == 0
    assert "4 nodules" in capsys.readouterr().out
    assert main(["unpack", "train.zip", "--out", "there"]) == 0
    assert "4 nodules, fingerprint" in capsys.readouterr().out
    assert main(["unpack", "whole.zip", "--out", "there", "--overwrite"]) == 0
    assert store.fingerprint[:16] in capsys.readouterr().out
