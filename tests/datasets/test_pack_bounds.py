"""Packs from unknown sources: no claim is trusted, and nothing outside the target is touched."""

import json
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import synthorax as sx
from synthorax.datasets.pack import Pack
from synthorax.datasets.pack_codec import encode_ct
from synthorax.datasets.store import Case, Store, write_case, write_index
from synthorax.errors import InputError
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region
from synthorax.volume import Volume
from tests.helpers.packs import members_of, row_with, written

SHAPE = (6, 8, 10)


def case_of(name, regions):
    hu = np.random.default_rng(ord(name)).integers(-1000, 400, SHAPE).astype(np.int16)
    nodules = tuple(Nodule(f"{i}", (0.0, 0.0, 0.0), NoduleAttributes(), i) for i in range(1, len(regions) + 1))
    ct = Volume(hu, (2.0, 1.0, 1.0), (-10.0, -70.0, 300.0))
    return Case(name, f"P{name}", ct, regions, nodules, annotated="some", source_patient="0" * 12)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two nodules that overlap, and 300 of them."""
    folder = tmp_path_factory.mktemp("store")
    box = np.ones((2, 3, 4), bool)
    cases = [
        case_of("a", (Region((1, 1, 1), box), Region((1, 2, 2), box))),
        case_of("b", tuple(Region((i % 6, i % 8, i % 10), np.ones((1, 1, 1), bool)) for i in range(300))),
    ]
    entries = [write_case(folder, case, "test") for case in cases]
    write_index(folder, entries, {"train": ["Pa"], "val": [], "test": ["Pb"]}, source={}, skipped=[])
    (folder / "prepare.json").write_text("{}")
    return Store(folder)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    return sx.pack(store, tmp_path_factory.mktemp("pack") / "whole.zip").path


def test_overlapping_nodules_and_300_of_them_come_back_with_all_their_voxels(store, whole, tmp_path):
    back = sx.unpack(whole, tmp_path / "back")
    assert back.fingerprint == store.fingerprint
    for name in "ab":
        one, other = store.read(name), back.read(name)
        assert (other.annotated, other.source_patient) == ("some", "0" * 12)
        for mine, theirs in zip(one.regions, other.regions, strict=True):
            assert mine.corner == theirs.corner
            np.testing.assert_array_equal(mine.mask, theirs.mask)


def test_a_pack_of_format_1_is_read(whole, tmp_path):
    members = members_of(whole)
    index = json.loads(members["index.json"]) | {"format": 1, "source": {"kind": "scans"}}
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 1:4, 1:5], labels[4, 5, 6] = 1, 2
    del index["store_format"]
    for number, row in enumerate(index["cases"]):
        del row["boxes"], row["annotated"], row["source_patient"], members[f"{number}.regions"]
        row |= {"has_mask": number == 0, "split": row.pop("given_split")}
    index["cases"][1]["nodules"] = []
    planes = np.packbits([(labels >> plane) & 1 for plane in range(2)])
    members |= {"0.mask": b"\2" + zlib.compress(planes.tobytes()), "index.json": json.dumps(index).encode()}
    pack = Pack(written(tmp_path / "old.zip", members))
    np.testing.assert_array_equal(pack.mask(0), labels)
    back = sx.unpack(pack.path, tmp_path / "back")
    np.testing.assert_array_equal(back.read("a").label_map(), labels)
    assert [case.annotated for case in back.cases] == ["all", "none-known"]


def picture(pixels, kind="JPEG2000"):
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def ct_of(data, depth=6, least=0):
    return json.dumps([[depth], [False, least, len(data)]]).encode() + b"\n" + data


def huge_picture():
    """A JPEG 2000 picture whose header claims 40,000 pixels a side."""
    data = bytearray(picture(np.zeros((48, 10), np.uint16)))
    for old, new in (((10).to_bytes(4, "big"), 40_000), ((48).to_bytes(4, "big"), 40_000)):
        data = data.replace(old, new.to_bytes(4, "big"))
    return bytes(data)


HOSTILE = {
    "7 GB of voxels": row_with(shape=[1500, 1500, 1600]),
    "more slices than pictures": row_with(shape=[600, 8, 10], boxes=[], nodules=[]),
    "a box beyond the scan": row_with(boxes=[[[0, 0, 0], [7, 1, 1]], [[0, 0, 0], [1, 1, 1]]]),
    "a larger box than its bits": row_with(boxes=[[[0, 0, 0], [6, 8, 10]]] * 2),
    "a bomb of zeros": lambda members: members.update({"0.regions": zlib.compress(bytes(2**28))}),
    "a picture of 40,000 pixels a side": lambda members: members.update({"0.ct": ct_of(huge_picture())}),
    "a picture of another kind": lambda members: members.update(
        {"0.ct": ct_of(picture(np.zeros((48, 10), np.uint8), "BMP"))}
    ),
    "a picture of colours": lambda members: members.update({"0.ct": ct_of(picture(np.zeros((48, 10, 3), np.uint8)))}),
    "no slices in a picture": lambda members: members.update({"0.ct": b"[[0]]\n"}),
    "endless HU": lambda members: members.update({"0.ct": encode_ct(np.zeros(SHAPE, int)).replace(b" 0,", b" 1e9,")}),
    "deep JSON before the pictures": lambda members: members.update({"0.ct": b"[" * 100_000}),
    "deep JSON": lambda members: members.update({"index.json": b"[" * 100_000}),
    "the folder above": row_with(case_id=".."),
    "an empty id": row_with(case_id=""),
    "an absolute path": row_with(case_id="/tmp/elsewhere"),
    "an id with a NUL": row_with(case_id="a\0"),
    "an id of the store's own file": row_with(case_id=".synthorax"),
    "a step of no HU": lambda members: members.update(
        {"index.json": members["index.json"].replace(b'"hu_step": 1', b'"hu_step": 0')}
    ),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_pack_that_claims_what_it_has_not_is_refused_and_nothing_is_written(whole, tmp_path, change):
    members = members_of(whole)
    change(members)
    bad = written(tmp_path / "bad.zip", members)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match=r"bad\.zip: found a damaged pack or another file"):
        sx.unpack(bad, tmp_path / "sub" / "back")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["bad.zip", "mine.txt"]


def test_an_index_named_as_the_index_of_a_store_is_refused(whole, tmp_path):
    members = members_of(whole)
    row_with(case_id="zarr.json")(members)
    with pytest.raises(InputError, match=r"case_id 'zarr\.json'"):
        sx.unpack(written(tmp_path / "bad.zip", members), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_zip_within_the_pack_is_not_inflated(whole, tmp_path):
    members = members_of(whole) | {"index.json": b" " * 2**27}
    with pytest.raises(InputError, match="compressed once more"):
        Pack(written(tmp_path / "bad.zip", members, zipfile.ZIP_DEFLATED))


def test_an_encrypted_pack_is_told(whole, tmp_path):
    data = bytearray(whole.read_bytes())
    for start in (data.rfind(b"PK\1\2") + 8, data.rfind(b"PK\3\4") + 6):
        data[start] |= 1
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(InputError, match="encrypted"):
        Pack(tmp_path / "bad.zip")


def test_the_same_member_twice_is_refused(whole, tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_bytes(whole.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(bad, "a") as file:
        file.writestr("0.ct", b"")
    with pytest.raises(InputError, match="twice"):
        Pack(bad)
