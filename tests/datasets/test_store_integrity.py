"""A store returns exactly what was written.

Damage is reported by the file's name, and claims of sizes are not trusted.
"""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec

import synthorax as sx
from synthorax.cli import main
from synthorax.datasets.case import CaseEntry
from synthorax.datasets.store import Case, MarkedPoint, Store, write_case, write_index
from synthorax.errors import InputError
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region, regions_of
from synthorax.volume import Volume
from tests.helpers.files import flip

SHAPE = (40, 140, 20)
SPLITS = {"train": ["Pa"], "val": [], "test": ["Pb"]}


def case_of(name):
    """Two chunks along z and along y, and a nodule."""
    hu = np.random.default_rng(ord(name)).integers(-1000, 400, SHAPE).astype(np.int16)
    mask = np.zeros(SHAPE, bool)
    mask[4:9, 60:70, 3:9] = True
    ct = Volume(hu, (2.0, 1.0, 1.0), (-10.0, -70.0, 300.0))
    nodule = Nodule("01", (-4.0, -5.5, 312.0), NoduleAttributes(diameter_mm=8.0), 1)
    points = (MarkedPoint("candidate", (0.0, 0.0, 310.0)),)
    return Case(name, f"P{name}", ct, (Region.of(mask),), (nodule,), points, "all")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "store"
    folder.mkdir()
    entries = [write_case(folder, case_of(name), "test") for name in "ab"]
    write_index(folder, entries, SPLITS, source={"kind": "scans"}, skipped=[])
    (folder / "prepare.json").write_text("{}")
    return folder


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store")


def swap(one, other):
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "a missing chunk": ("a/ct/c/1/0/0", lambda s: (s / "a/ct/c/1/0/0").unlink()),
    "a cut chunk": ("a/ct/c/0/1/0", lambda s: (s / "a/ct/c/0/1/0").write_bytes((s / "a/ct/c/0/1/0").read_bytes()[:-9])),
    "an empty chunk": ("a/ct/c/0/1/0", lambda s: (s / "a/ct/c/0/1/0").write_bytes(b"")),
    "a flipped bit": ("a/ct/c/0/0/0", lambda s: flip(s / "a/ct/c/0/0/0")),
    "two chunks of a scan for each other": ("a/ct/c/0/0/0", lambda s: swap(s / "a/ct/c/0/0/0", s / "a/ct/c/0/1/0")),
    "chunks of two scans for each other": ("a/ct/c/1/1/0", lambda s: swap(s / "a/ct/c/1/1/0", s / "b/ct/c/1/1/0")),
    "a pipe": ("a/ct/c/0/0/0", lambda s: pipe(s / "a/ct/c/0/0/0")),
    "a missing mask": ("a/regions/zarr.json", lambda s: shutil.rmtree(s / "a/regions")),
    "a flipped bit of a mask": ("a/regions/c/0", lambda s: flip(s / "a/regions/c/0")),
    "another scan's mask": ("a/regions/c/0", lambda s: (s / "a/regions/c/0").write_bytes(b"\1" * 40)),
    "a flipped bit of an array's metadata": ("a/ct/zarr.json", lambda s: flip(s / "a/ct/zarr.json")),
    "a flipped bit of a case": ("a/zarr.json", lambda s: flip(s / "a/zarr.json")),
    "two cases for each other": ("a/zarr.json", lambda s: swap(s / "a/zarr.json", s / "b/zarr.json")),
    "a missing case": ("a/zarr.json", lambda s: shutil.rmtree(s / "a")),
}


@pytest.mark.parametrize(("file", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_by_the_name_of_the_file_and_what_to_do(store, capsys, file, damage):
    damage(store)
    with pytest.raises(InputError) as caught:
        Store(store).read("a")
    message = str(caught.value)
    assert message.startswith(f"{store / file}: found ")
    assert f"delete {store / 'a'} and run the same `synthorax prepare` again" in message
    assert main(["info", str(store), "--check"]) == 2
    err = capsys.readouterr().err
    assert str(store / file) in err.replace("\n", "")


def test_what_was_not_damaged_is_still_read(store):
    flip(store / "a/ct/c/1/1/0")
    opened = Store(store)
    np.testing.assert_array_equal(
        opened.read_box("a", (0, 0, 0), (32, 128, 20)).voxels, case_of("a").ct.voxels[:32, :128]
    )
    assert opened.read("b").regions[0].voxels == 300


def test_a_check_of_a_whole_store_counts_its_files(store, capsys):
    # the index; of each case: its file, 4 chunks of CT and 1 of regions with the metadata of both arrays
    assert sx.info(store, check=True)["checked"] == f"{1 + 2 * (1 + 5 + 2)} files, all as they were written"
    assert main(["info", str(store), "--check"]) == 0
    assert "17 files, all as they were written" in capsys.readouterr().out


def test_a_check_names_every_damaged_file(store):
    flip(store / "a/ct/c/0/0/0")
    (store / "b/ct/c/1/1/0").unlink()
    with pytest.raises(InputError, match=r"a/ct/c/0/0/0: found .* and 1 more damaged of 17: b/ct/c/1/1/0; expected"):
        sx.info(store, check=True)


def test_only_a_store_is_checked(tmp_path):
    with pytest.raises(InputError, match="found no store"):
        sx.info(tmp_path, check=True)


def change_index(store, change):
    path = store / "zarr.json"
    group = json.loads(path.read_text())
    change(group["attributes"]["synthorax"])
    path.write_text(json.dumps(group))


def test_a_nodule_moved_in_the_index_is_found(store):
    change_index(store, lambda index: index["cases"][0]["nodules"][0].update(center_mm=[0.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="a damaged store"):
        Store(store)


# Rows that no case has, as a format without hashes would let them through


def row_of(**changes):
    return CaseEntry.of(case_of("a")).row() | changes


def nodule_row(**changes):
    return case_of("a").nodules[0].row() | changes


def as_json(row):
    return json.loads(json.dumps(row))


BAD_ROWS = {
    "the folder above": {"case_id": ".."},
    "a path": {"case_id": "../../tmp/x"},
    "an absolute path": {"case_id": "/tmp/x"},
    "a path of Windows": {"case_id": "C:\\x"},
    "an empty id": {"case_id": ""},
    "an id with a NUL": {"case_id": "a\0b"},
    "an id that is no text": {"case_id": 3},
    "a hidden folder": {"case_id": ".tmp-x"},
    "a huge scan": {"shape": [60000, 60000, 60000]},
    "no voxels": {"shape": [0, 5, 5]},
    "two axes": {"shape": [5, 5]},
    "a fraction of a voxel": {"shape": [5.5, 5, 5]},
    "a spacing that is no number": {"spacing_mm": [float("nan"), 1, 1]},
    "a negative spacing": {"spacing_mm": [-1, 1, 1]},
    "an endless origin": {"origin_mm": [float("inf"), 0, 0]},
    "a skewed direction": {"direction": [[1, 0.5, 0], [0, 1, 0], [0, 0, 1]]},
    "a box beyond the scan": {"boxes": [[[0, 0, 0], [41, 1, 1]]]},
    "a box of nothing": {"boxes": [[[0, 0, 0], [0, 1, 1]]]},
    "boxes of more bits than anyone has": {"shape": [800, 800, 800], "boxes": [[[0, 0, 0], [800, 800, 800]]] * 2},
    "a label without a box": {"nodules": [nodule_row(label=2)]},
    "a negative label": {"nodules": [nodule_row(label=-1)]},
    "a diameter that is a text": {"nodules": [nodule_row(attributes={"diameter_mm": "8"})]},
    "a diameter of nothing": {"nodules": [nodule_row(attributes={"diameter_mm": 0})]},
    "an unknown attribute": {"nodules": [nodule_row(attributes={"colour": 3})]},
    "a rating that is a text": {"nodules": [nodule_row(ratings={"malignancy": "3"})]},
    "nodules that are none": {"nodules": "none"},
    "a word nobody knows": {"annotated": "perhaps"},
    "a split nobody knows": {"given_split": "all"},
}


@pytest.mark.parametrize("changes", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_that_no_case_has_is_refused(changes):
    assert CaseEntry.from_row(as_json(row_of())) == CaseEntry.of(case_of("a"))
    with pytest.raises(ValueError, match=r"expected|beyond|at most|orthonormal|more than"):
        CaseEntry.from_row(as_json(row_of(**changes)))


def test_a_case_that_cannot_be_read_back_is_not_written(tmp_path):
    with pytest.raises(InputError, match="plain name of a folder"):
        write_case(tmp_path, Case("../x", "P", case_of("a").ct), "test")
    assert not list(tmp_path.iterdir())


BAD_INDEXES = {
    "a case twice": lambda index: index["cases"].append(index["cases"][0]),
    "a patient in no split": lambda index: index["splits"]["train"].clear(),
    "a patient in two splits": lambda index: index["splits"]["val"].append("Pa"),
    "no test split": lambda index: index["splits"].pop("test"),
    "cases that are no list": lambda index: index.update(cases={}),
    "a format that is no number": lambda index: index.update(format="1"),
    "no fingerprint": lambda index: index.update(fingerprint="x"),
    "a hole in its rows": lambda index: index["cases"][0].pop("shape"),
}


@pytest.mark.parametrize("change", BAD_INDEXES.values(), ids=BAD_INDEXES)
def test_an_index_that_contradicts_itself_is_refused(old, change):
    change_index(old, change)
    with pytest.raises(InputError, match="a damaged store"):
        Store(old)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b"[]", b"{}", b'{"attributes": 3}', b"1"])
def test_an_index_that_is_no_index_is_refused(store, content):
    (store / "zarr.json").write_bytes(content)
    with pytest.raises(InputError, match="a damaged store"):
        Store(store)


def test_an_index_of_more_bytes_than_any_store_has_is_not_read(store):
    with open(store / "zarr.json", "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="the index of a store of at most 67108864 bytes"):
        Store(store)


# Format 1


@pytest.fixture
def old(tmp_path):
    """A store of format 1, as 0.1 wrote it: label maps by Zarr, no hashes of chunks."""
    folder = tmp_path / "old"
    (folder / "a").mkdir(parents=True)
    (folder / "prepare.json").write_text("{}")
    entries = []
    for name in "ab":
        case = case_of(name)
        has_mask = name == "a"
        mask = case.label_map()
        row = {
            "case_id": name,
            "patient_id": case.patient_id,
            "series_uid": "",
            "shape": list(SHAPE),
            "spacing_mm": list(case.ct.spacing_mm),
            "origin_mm": list(case.ct.origin_mm),
            "direction": np.eye(3).tolist(),
            "nodules": [nodule.row() for nodule in case.nodules] if has_mask else [],
            "has_mask": has_mask,
            "synthetic": "",
            "sha256": "",
            "given_split": None,
            "notes": [],
        }
        points = [point.row() for point in case.points]
        content = case.ct.voxels.tobytes() + mask.tobytes() * has_mask
        row["sha256"] = hashlib.sha256(content + json.dumps([row, points], sort_keys=True).encode()).hexdigest()
        attributes = {"synthorax": {"source": "key", "entry": row, "points": points}}
        group = zarr.create_group(folder / name, zarr_format=3, attributes=attributes)
        for array, values in (("ct", case.ct.voxels), ("mask", mask)):
            if array == "ct" or has_mask:
                shuffle = "bitshuffle" if array == "ct" else "noshuffle"
                chunks = tuple(min(n, c) for n, c in zip(SHAPE, (32, 128, 128), strict=True))
                codec = BloscCodec(cname="zstd", clevel=1, shuffle=shuffle)
                made = group.create_array(
                    array, shape=SHAPE, dtype=values.dtype, chunks=chunks, compressors=[codec], fill_value=0
                )
                made[:] = values
        entries.append(row)
    index = {"format": 1, "source": {"kind": "scans"}, "fingerprint": "0" * 64, "splits": SPLITS, "skipped": []}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"synthorax": index | {"cases": entries}}}
    (folder / "zarr.json").write_text(json.dumps(group))
    return folder


def test_a_store_of_format_1_is_read(old):
    opened, wanted = Store(old), case_of("a")
    case = opened.read("a")
    np.testing.assert_array_equal(case.ct.voxels, wanted.ct.voxels)
    np.testing.assert_array_equal(case.label_map(), wanted.label_map())
    np.testing.assert_array_equal(
        opened.read_box("a", (0, 50, 0), (20, 20, 20), "mask").voxels, wanted.label_map()[:20, 50:70]
    )
    assert opened.region("a", 1).voxels == 300
    assert case.points == wanted.points
    assert opened.read("b").regions == ()
    assert not opened["b"].has_mask


def test_of_format_1_a_scan_without_nodules_is_only_healthy_where_its_source_marks_all(old):
    assert [case.annotated for case in Store(old).cases] == ["all", "none-known"]
    for source in ({"kind": "lidc"}, {"kind": "pack", "packed": {"kind": "luna16"}}):
        change_index(old, lambda index, source=source: index.update(source=source))
        assert [case.annotated for case in Store(old).cases] == ["all", "all"]


def test_a_store_of_format_1_is_told_to_have_no_hashes_of_chunks_and_checked_by_its_cases(old):
    assert "none of chunks, as format 1" in sx.info(old, check=True)["hashes"]
    kept = (old / "a/ct/c/0/0/0").read_bytes()
    (old / "a/ct/c/0/0/0").write_bytes((old / "b/ct/c/0/0/0").read_bytes())
    with pytest.raises(InputError, match=r"old/a: found voxels or nodules changed after they were written"):
        sx.info(old, check=True)
    (old / "a/ct/c/0/0/0").write_bytes(kept)
    sx.info(old, check=True)


def test_a_missing_chunk_of_format_1_is_not_0_hu(old):
    (old / "a/ct/c/0/0/0").unlink()
    with pytest.raises(InputError, match="a/ct/c/0/0/0: found no such file"):
        Store(old).read("a")


def other_array(**how):
    def write(path):
        shutil.rmtree(path)
        array = zarr.create_array(path, shape=SHAPE, dtype=how.pop("dtype", np.int16), **how)
        array[:] = 1

    return write


def claims(**changes):
    def write(path):
        (path / "zarr.json").write_text(json.dumps(json.loads((path / "zarr.json").read_text()) | changes))

    return write


def bomb(path):
    """A chunk that says it becomes 2 GB."""
    data = bytearray((path / "c/0/0/0").read_bytes())
    data[4:8] = (2**31 - 1).to_bytes(4, "little")
    (path / "c/0/0/0").write_bytes(data)


OTHER_ARRAYS = {
    "Zarr 2": other_array(zarr_format=2, chunks=(32, 128, 20)),
    "another codec": other_array(chunks=(32, 128, 20), compressors=[GzipCodec()]),
    "another type": other_array(chunks=(32, 128, 20), dtype=np.float64),
    "other chunks": other_array(chunks=(40, 140, 20)),
    "another shape": claims(shape=[50000, 50000, 50000]),
    "huge chunks": claims(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [4000, 4000, 4000]}}),
    "a transformer": claims(storage_transformers=[{"name": "x"}]),
    "a chunk that grows": bomb,
}


@pytest.mark.parametrize("change", OTHER_ARRAYS.values(), ids=OTHER_ARRAYS)
def test_an_array_that_is_none_of_ours_is_refused_before_anything_is_allocated_for_it(old, change):
    change(old / "a/ct")
    with pytest.raises(InputError, match=r"old/a/ct/.*: found .*; expected what was written; prepare the store again"):
        Store(old).read("a")


def test_regions_of_a_label_map_keep_their_labels():
    labels = np.zeros(SHAPE, np.uint8)
    labels[:2], labels[5:7] = 2, 1
    one, two = regions_of(labels, (1, 2))
    assert (one.corner, two.corner) == ((5, 0, 0), (0, 0, 0))


def test_a_store_and_a_pack_tell_nothing_of_the_folders_of_the_machine(tmp_path):
    source = tmp_path / "my scans"
    source.mkdir()
    sx.write_scan(source / "a.nii.gz", case_of("a").ct)
    (source / "torn.nii.gz").write_bytes(b"torn")
    store = sx.prepare("scans", source, tmp_path / "store", workers=1)
    assert "torn.nii.gz" in store.skipped[0]["reason"]
    write_case(store.path, Case("x", "P", case_of("a").ct, notes=(f"{source}/b.nii.gz: lost",)), "test")
    assert "b.nii.gz: lost" in (store.path / "x" / "zarr.json").read_text()
    sx.pack(store, tmp_path / "pack.zip")
    for file in (tmp_path / "pack.zip", *store.path.rglob("*")):
        assert not file.is_file() or str(tmp_path).encode() not in file.read_bytes()
