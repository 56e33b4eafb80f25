"""Reading and writing files: complete or not at all, with their geometry and the synthetic mark."""

import csv
import gzip
import json
import re
from hashlib import sha256 as reference_sha256

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from synthorax.errors import InputError, OutputError
from synthorax.io.atomic import MARK, atomic_file, atomic_folder, check_folder_is_free
from synthorax.io.images import read_image, write_image
from synthorax.io.stl import read_stl, write_stl
from synthorax.io.tables import read_table, write_table
from synthorax.provenance import SYNTHETIC_MARK, Origin, fingerprint, sha256, write_manifest
from synthorax.seeding import derive, generator
from synthorax.volume import Volume

ORIGIN = Origin("lung", "0123456789abcdef", 7)


def signed_permutation(order, signs):
    return np.eye(3)[list(order)] * signs


directions = st.one_of(
    st.builds(
        signed_permutation, st.permutations(range(3)), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3).map(np.array)
    ),
    st.builds(
        lambda angles, sign: Rotation.from_euler("zyx", angles).as_matrix() * [1, 1, sign],
        st.tuples(*[st.floats(-3.1, 3.1)] * 3),
        st.sampled_from([-1, 1]),
    ),
)
volumes = st.builds(
    lambda shape, seed, **geometry: Volume(
        np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16), **geometry
    ),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.integers(0, 1000),
    spacing_mm=st.tuples(*[st.floats(0.2, 5).map(lambda s: round(s, 4))] * 3),
    origin_mm=st.tuples(*[st.floats(-600, 600)] * 3),
    direction=directions,
)


def corners(volume):
    """World positions of the eight corner voxels."""
    last = [n - 1 for n in volume.shape]
    return volume.to_world([[i * n for i, n in zip(at, last, strict=True)] for at in np.ndindex(2, 2, 2)])


# Volumes and images


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
@given(volume=volumes)
def test_a_written_volume_comes_back_with_every_voxel_at_the_same_millimetre(tmp_path_factory, volume, suffix):
    path = tmp_path_factory.mktemp("image") / f"volume{suffix}"
    write_image(path, volume)
    found = read_image(path)
    np.testing.assert_array_equal(found.voxels, volume.voxels)
    np.testing.assert_allclose(found.spacing_mm, volume.spacing_mm, atol=1e-5)
    np.testing.assert_allclose(corners(found), corners(volume), rtol=0, atol=1e-3)


@given(volumes, st.lists(st.tuples(*[st.floats(-500, 500)] * 3), min_size=1, max_size=5))
def test_voxel_to_world_and_back_is_nothing_done(volume, points):
    np.testing.assert_allclose(volume.to_voxel(volume.to_world(points)), points, atol=1e-6)
    np.testing.assert_allclose(volume.to_world(volume.to_voxel(points)), points, atol=1e-6)


@given(volumes)
def test_positions_are_those_that_simpleitk_gives(volume):
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin_mm)
    image.SetDirection(volume.direction.ravel().tolist())
    z, y, x = 3.5, -1, 7
    np.testing.assert_allclose(
        volume.to_world((z, y, x)), image.TransformContinuousIndexToPhysicalPoint((x, y, z)), atol=1e-9
    )


def test_the_affine_takes_voxel_indices_x_y_z_to_the_world():
    volume = Volume(np.zeros((4, 5, 6)), (2.0, 1.0, 0.5), (10.0, 20.0, 30.0), np.diag([-1.0, 1, 1]))
    np.testing.assert_allclose(volume.affine @ [2, 3, 1, 1], [10 - 1, 20 + 3, 30 + 2, 1])
    np.testing.assert_allclose(volume.to_world((1, 3, 2)), [9, 23, 32])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_voxels_keep_their_type_and_masks_become_bytes(tmp_path, dtype, suffix):
    voxels = np.random.default_rng(0).integers(0, 2, (2, 3, 4)).astype(dtype)
    write_image(tmp_path / f"image{suffix}", Volume(voxels, (1.0, 1.0, 1.0)))
    found = read_image(tmp_path / f"image{suffix}").voxels
    np.testing.assert_array_equal(found, voxels)
    assert found.dtype == (np.uint8 if dtype is bool else dtype)


@pytest.mark.parametrize(
    ("geometry", "found"),
    [
        ({"voxels": np.zeros((3, 3))}, r"volume: found shape \(3, 3\)"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, r"spacing: found \(1.0, 0.0, 1.0\)"),
        ({"spacing_mm": (1.0, 1.0, np.inf)}, r"spacing: found \(1.0, 1.0, inf\)"),
        ({"direction": np.diag([1.0, 1, 2])}, "volume: found direction"),
        ({"direction": np.ones((3, 3))}, "volume: found direction"),
        ({"direction": np.full((3, 3), np.nan)}, "volume: found direction"),
    ],
)
def test_a_volume_without_a_sound_geometry_cannot_be_made(geometry, found):
    with pytest.raises(InputError, match=found):
        Volume(**{"voxels": np.zeros((2, 2, 2)), "spacing_mm": (1.0, 1.0, 1.0)} | geometry)


def test_the_mark_is_in_the_nifti_headers_description(tmp_path):
    for name, read in (("image.nii", bytes), ("image.nii.gz", gzip.decompress)):
        write_image(tmp_path / name, Volume(np.zeros((2, 3, 4), np.int16), (1.0, 1.0, 1.0)), mark=ORIGIN.mark)
        header = read((tmp_path / name).read_bytes())
        assert header[148:228].rstrip(b"\0").decode() == ORIGIN.mark  # `descrip`, 80 bytes


def test_the_mark_is_in_the_mha_header(tmp_path):
    write_image(tmp_path / "image.mha", Volume(np.zeros((2, 3, 4), np.int16), (1.0, 1.0, 1.0)), mark=ORIGIN.mark)
    header = (tmp_path / "image.mha").read_bytes().split(b"ElementDataFile")[0].decode()
    assert f"SyntheticData = {ORIGIN.mark}\n" in header


def test_an_image_that_is_not_synthetic_has_no_mark(tmp_path):
    for name in ("image.nii", "image.mha"):
        write_image(tmp_path / name, Volume(np.zeros((2, 3, 4), np.int16), (1.0, 1.0, 1.0)))
        assert b"SYNTHETIC" not in (tmp_path / name).read_bytes().upper().replace(b"SYNTHETICDATA", b"")


@pytest.mark.parametrize("name", ["image.txt", "image.png", "image"])
def test_an_image_of_an_unknown_kind_is_not_written_and_leaves_nothing(tmp_path, name):
    with pytest.raises(OutputError, match=name):
        write_image(tmp_path / name, Volume(np.zeros((2, 3, 4), np.int16), (1.0, 1.0, 1.0)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_writing_an_image_leaves_no_temporary_files(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    try:
        write_image(path, Volume(np.zeros((2, 3, 4), np.int16), (1.0, 1.0, 1.0)))
    except OutputError:
        assert not list(tmp_path.iterdir())
    else:
        assert all(file.name.startswith("image") for file in tmp_path.iterdir())
        assert read_image(path).shape == (2, 3, 4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_an_image_that_was_cut_off_is_refused_and_not_filled_up(tmp_path, suffix, share):
    path = tmp_path / f"image{suffix}"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    write_image(path, Volume(voxels, (1.0, 1.0, 1.0)))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=re.escape(path.name)):
        read_image(path)


@pytest.mark.parametrize("name", ["missing.nii.gz", "missing.mha"])
def test_an_image_that_is_not_there_is_refused_by_its_name(tmp_path, name):
    with pytest.raises(InputError, match=name):
        read_image(tmp_path / name)


@pytest.mark.real_data
def test_a_real_scan_is_read_with_its_spacing(real_data):
    volume = read_image(real_data / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz")
    assert volume.shape == (140, 512, 512)
    assert volume.spacing_mm == pytest.approx((2.5, 0.820312, 0.820312), abs=1e-6)


# Meshes and tables


def test_a_mesh_comes_back_from_stl_with_its_mark(tmp_path):
    triangles = np.random.default_rng(0).normal(size=(50, 3, 3)).astype(np.float32)
    write_stl(tmp_path / "mesh.stl", triangles, ORIGIN.mark)
    found, header = read_stl(tmp_path / "mesh.stl")
    np.testing.assert_array_equal(found, triangles)
    assert header == ORIGIN.mark
    assert (tmp_path / "mesh.stl").stat().st_size == 84 + 50 * 50


def test_stl_normals_are_unit_vectors_by_the_right_hand_rule(tmp_path):
    flat, point = [[0, 0, 0], [2, 0, 0], [0, 3, 0]], [[1, 1, 1]] * 3
    write_stl(tmp_path / "mesh.stl", np.array([flat, point], float), "mark")
    content = (tmp_path / "mesh.stl").read_bytes()[84:]
    normals = [np.frombuffer(content[i : i + 12], "<f4").tolist() for i in (0, 50)]
    assert normals == [[0, 0, 1], [0, 0, 0]]


def test_a_long_mark_is_cut_to_the_stl_header_and_no_mark_begins_as_the_text_format_does(tmp_path):
    write_stl(tmp_path / "mesh.stl", np.zeros((1, 3, 3)), "x" * 200)
    assert read_stl(tmp_path / "mesh.stl")[1] == "x" * 80
    assert not ORIGIN.mark.lower().startswith("solid")


def test_a_table_keeps_its_columns_and_nine_digits(tmp_path):
    rows = [{"name": "a, b", "value": 1 / 3, "n": 2, "none": None}, {"name": "ü", "value": 1e-12, "n": 0, "none": None}]
    write_table(tmp_path / "table.csv", rows)
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [list(row) for row in found] == [["name", "value", "n", "none"]] * 2
    assert [row["value"] for row in found] == ["0.333333333", "1e-12"]
    assert [(row["name"], row["n"], row["none"]) for row in found] == [("a, b", "2", ""), ("ü", "0", "")]
    assert read_table(tmp_path / "table.csv") == found


def test_rows_of_different_columns_are_no_table_and_leave_no_file(tmp_path):
    with pytest.raises(ValueError, match="other"):
        write_table(tmp_path / "table.csv", [{"a": 1}, {"a": 2, "other": 3}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"", b"only,a,header\n", b"\xff\xfe\x00\x81"])
def test_what_is_no_table_is_refused_by_its_name(tmp_path, content):
    if content is not None:
        (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"table\.csv"):
        read_table(tmp_path / "table.csv")


# Whole or not at all


class Interrupted(Exception):
    """What a test raises in the middle of writing."""


def write_half(path):
    path.write_text("half")
    raise Interrupted


def test_a_file_appears_when_its_block_ends_and_not_before(tmp_path):
    target = tmp_path / "result.txt"
    with atomic_file(target) as file:
        file.write_text("whole")
        assert not target.exists()
        assert file.name.endswith("-result.txt")
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_file_leaves_nothing_or_what_was_there_before(tmp_path):
    target = tmp_path / "result.txt"
    for before in (None, "old"):
        if before:
            target.write_text(before)
        with pytest.raises(Interrupted), atomic_file(target) as file:
            write_half(file)
        assert [path.read_text() for path in tmp_path.iterdir()] == ([before] if before else [])


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(OutputError, match=r"result\.txt: cannot write: no space left"),
        atomic_file(tmp_path / "result.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["missing/result.txt", "file/result.txt", "folder"])
def test_a_file_that_cannot_be_written_is_refused_by_its_name_and_leaves_nothing(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    entered = []
    with pytest.raises(OutputError, match=place), atomic_file(tmp_path / place):
        entered.append(True)
    assert not entered
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_written_file_may_be_read_as_widely_as_any_other(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "atomic") as file:
        file.touch()
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_appears_when_its_block_ends_and_not_before(tmp_path):
    target = tmp_path / "new" / "results"
    with atomic_folder(target) as folder:
        (folder / "one").write_text("1")
        assert not target.exists()
    assert sorted(path.name for path in target.iterdir()) == sorted([MARK, "one"])
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_folder_leaves_what_was_there_before(tmp_path, overwrite):
    target = tmp_path / "results"
    if overwrite:
        with atomic_folder(target) as folder:
            (folder / "old").touch()
    with pytest.raises(Interrupted), atomic_folder(target, overwrite=overwrite) as folder:
        write_half(folder / "new")
    assert target.exists() == overwrite
    assert list(tmp_path.iterdir()) == ([target] if overwrite else [])
    assert not overwrite or (target / "old").exists()


def test_our_own_folder_is_replaced_only_on_demand(tmp_path):
    target = tmp_path / "results"
    with atomic_folder(target) as folder:
        (folder / "old").touch()
    with pytest.raises(InputError, match="not empty; expected an empty or new folder, or --overwrite"):
        check_folder_is_free(target)
    with atomic_folder(target, overwrite=True) as folder:
        (folder / "new").touch()
    assert sorted(path.name for path in target.iterdir()) == sorted([MARK, "new"])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with (
        pytest.raises(InputError, match="thesis: found a folder that is not empty"),
        atomic_folder(tmp_path / "thesis", overwrite=overwrite),
    ):
        pass
    assert (tmp_path / "thesis" / "chapter").read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_folder_may_be_written_into(tmp_path):
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "one").touch()
    assert (tmp_path / "empty" / "one").exists()


def test_a_folder_cannot_be_made_where_a_file_is_nor_below_one(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: found a file"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(OutputError, match="file/results"), atomic_folder(tmp_path / "file" / "results"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Seeds and origins


def test_random_streams_are_the_same_today_as_when_this_was_written():
    assert derive(0) == 7896617691693857887
    assert derive(7, "x", 3) == 1847705101145361065
    stream = generator(7, "sample", 17)
    assert stream.integers(0, 10**6, 4).tolist() == [460824, 786898, 888949, 583981]
    assert generator(7, "sample", 17).standard_normal() == pytest.approx(-0.44125285263283054)


parts = st.lists(st.one_of(st.integers(0, 2**31), st.sampled_from(["a", "b", "ab", "sample"])), max_size=3)


@given(st.integers(0, 2**63), parts, st.integers(0, 2**63), parts)
def test_streams_of_different_names_differ_and_of_one_name_do_not(seed, index, other_seed, other_index):
    same = (seed, index) == (other_seed, other_index)
    assert (derive(seed, *index) == derive(other_seed, *other_index)) == same
    drawn = [generator(s, *i).random(4).tolist() for s, i in ((seed, index), (other_seed, other_index))]
    assert (drawn[0] == drawn[1]) == same


@given(st.integers(0, 2**63), parts)
def test_a_derived_seed_fits_torch(seed, index):
    assert 0 <= derive(seed, *index) < 2**63


def test_neighbouring_streams_are_not_correlated():
    streams = np.stack([generator(3, "sample", i).standard_normal(2000) for i in range(40)])
    correlation = np.corrcoef(streams) - np.eye(40)
    assert abs(correlation).max() < 5 / np.sqrt(2000)


def test_drawing_from_one_stream_moves_no_other():
    alone = generator(1, "b").random(5)
    first, second = generator(1, "a"), generator(1, "b")
    first.random(1000)
    np.testing.assert_array_equal(second.random(5), alone)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed: found -1"):
        generator(-1, "a")


@given(st.text("0123456789abcdef", max_size=64), st.integers(0, 2**63))
def test_the_mark_says_synthetic_and_fits_the_nifti_header_with_hash_and_seed(model, seed):
    mark = Origin("lung", model, seed).mark
    assert mark.startswith(SYNTHETIC_MARK)
    assert len(mark.encode("ascii")) <= 79
    assert model[:8] in mark
    assert mark.endswith(f"s{seed}")


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert sha256(tmp_path / "file") == fingerprint(b"content") == reference_sha256(b"content").hexdigest()


def test_a_manifest_says_which_version_made_it_and_holds_no_nan(tmp_path):
    write_manifest(tmp_path / "manifest.json", {"seed": 7})
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert found["seed"] == 7
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", found["synthorax"])
    with pytest.raises(ValueError, match="JSON"):
        write_manifest(tmp_path / "manifest.json", {"mse": float("nan")})
