"""Nodule shapes: resampled with their true spacing, drawn, cached, meshed, and read from files."""

import io
import json
import re
from collections import Counter

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

import synthorax.datasets.lidc as lidc_module
from synthorax import api
from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes
from synthorax.datasets.shape_files import read_nodule_masks, read_shape_set
from synthorax.datasets.shapes import LUNG_GRID, LUNG_SPACING_MM, ShapeRecord, ShapeSet
from synthorax.errors import InputError
from synthorax.io.atomic import MARK
from synthorax.io.images import write_image
from synthorax.io.tables import read_table, write_table
from synthorax.nodule import RATINGS, NoduleAttributes
from synthorax.shapes.mesh import surface
from synthorax.shapes.resampling import OCCUPANCY_STEPS, PRESENT, resample
from synthorax.volume import Volume

EIGHTEEN = ndimage.generate_binary_structure(3, 2)
VOXEL_MM3 = np.prod(LUNG_SPACING_MM)


def on_lung_grid(mask, spacing_mm):
    return resample(mask, spacing_mm, LUNG_GRID, LUNG_SPACING_MM)


def shape_set(patients, seed=0):
    occupancy = np.random.default_rng(seed).random((len(patients), 2, 3, 4), np.float32)
    records = tuple(ShapeRecord(shape_id=f"shape {i}", patient_id=patient) for i, patient in enumerate(patients))
    return ShapeSet(occupancy, LUNG_SPACING_MM, records)


# Resampling


@pytest.mark.parametrize("slice_mm", [0.6, 1, 1.25, 1.8, 2.5, 3])
@pytest.mark.parametrize("diameter_mm", [12, 16, 22])
def test_a_ball_keeps_its_volume_whatever_the_slice_spacing(ball, slice_mm, diameter_mm):
    spacing_mm = (slice_mm, 0.7, 0.7)
    mask = ball(diameter_mm, [int(np.ceil(26 / s)) for s in spacing_mm], spacing_mm)
    shape = on_lung_grid(mask, spacing_mm)
    assert (shape > 0).sum() * VOXEL_MM3 == pytest.approx(mask.sum() * np.prod(spacing_mm), rel=0.12)


@given(arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)).filter(np.any), st.tuples(*[st.floats(0.4, 3)] * 3))
def test_a_resampled_mask_is_one_piece_of_occupancy_in_even_steps(mask, spacing_mm):
    shape = on_lung_grid(mask, spacing_mm)
    assert shape.shape == LUNG_GRID
    assert shape.dtype == np.float32
    assert ndimage.label(shape > 0, EIGHTEEN)[1] == 1
    assert shape[shape > 0].min() >= PRESENT
    assert shape.max() <= 1
    np.testing.assert_array_equal(shape * OCCUPANCY_STEPS, np.rint(shape * OCCUPANCY_STEPS))


def test_a_mask_on_the_grids_own_spacing_lies_where_it_lay(ball):
    mask = ball(14)
    shape = on_lung_grid(mask, LUNG_SPACING_MM)
    assert ((shape > 0.5) == mask).mean() > 0.999


def test_a_resampled_mask_does_not_depend_on_the_empty_space_about_it(ball):
    mask = ball(9)
    moved = np.pad(mask, ((3, 0), (0, 7), (5, 1)))
    np.testing.assert_array_equal(on_lung_grid(mask, LUNG_SPACING_MM), on_lung_grid(moved, LUNG_SPACING_MM))


@pytest.mark.parametrize(("voxels", "fits"), [((20, 40, 40), True), ((21, 1, 1), False), ((1, 1, 41), False)])
def test_a_nodule_larger_than_the_grid_has_no_shape_on_it(voxels, fits):
    assert (on_lung_grid(np.ones(voxels, bool), LUNG_SPACING_MM) is not None) == fits


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.3, 0.3), (1.25, 0.7, 0.7), (3, 0.5, 0.5)])
def test_a_nodule_of_one_voxel_survives(spacing_mm):
    shape = on_lung_grid(np.pad(np.ones((1, 1, 1), bool), 2), spacing_mm)
    assert shape.any()
    centre = ndimage.center_of_mass(shape)
    np.testing.assert_allclose(centre, [9.5, 19.5, 19.5], atol=0.51)


def test_of_several_pieces_the_largest_is_kept(ball):
    apart = ball(8, offset_mm=(0, -7, 0)) | ball(4, offset_mm=(0, 9, 0))
    shape = on_lung_grid(apart, LUNG_SPACING_MM)
    large = ball(8).sum() * VOXEL_MM3
    assert (shape > 0).sum() * VOXEL_MM3 == pytest.approx(large, rel=0.2)


def test_lidc_nodules_keep_about_their_volume_through_resampling(lidc_nodules):
    ratios = []
    for nodule in (nodule for scan in lidc_nodules[::13] for nodule in scan):
        mask = nodule.consensus(2).mask
        if not mask.any() or (shape := on_lung_grid(mask, nodule.scan.voxel_mm)) is None:
            continue
        native = mask.sum() * np.prod(nodule.scan.voxel_mm)
        ratios.append((nodule.scan.slice_spacing_mm, (shape > 0).sum() * VOXEL_MM3 / native))
    assert len(ratios) > 100
    slice_mm, ratio = np.transpose(ratios)
    for chosen in (slice_mm < 1.2, (slice_mm >= 1.2) & (slice_mm < 2.4), slice_mm >= 2.4):
        assert np.median(ratio[chosen]) == pytest.approx(1, abs=0.08)


# The nodules of LIDC-IDRI


def test_of_2670_lidc_nodules_1787_have_a_consensus_of_two_and_fit_the_grid(lidc):
    assert lidc.counts == {"nodules": 2670, "kept": 1787, "without consensus": 786, "larger than the grid": 97}
    assert len(lidc.shapes) == len(lidc.shapes.records) == 1787


def test_every_lidc_shape_is_one_piece_with_a_name_of_its_own_and_ratings_on_their_scales(lidc):
    for shape, record in zip(lidc.shapes.occupancy, lidc.shapes.records, strict=True):
        assert ndimage.label(shape > 0, EIGHTEEN)[1] == 1
        assert 2 <= record.n_readers <= 4
        assert all(1 <= getattr(record.attributes, name) <= 6 for name in RATINGS)
        assert 1 < record.attributes.diameter_mm < 50
    assert len({record.shape_id for record in lidc.shapes.records}) == 1787


def test_larger_diameters_go_with_larger_volumes(lidc):
    diameter = np.array([record.attributes.diameter_mm for record in lidc.shapes.records])
    volume = lidc.shapes.occupancy.sum((1, 2, 3)) * VOXEL_MM3
    assert np.corrcoef(np.log(diameter), np.log(volume))[0, 1] > 0.85


@pytest.mark.parametrize(
    "setting",
    [
        {"readers": 0},
        {"readers": 5},
        {"grid": (0, 40, 40)},
        {"spacing_mm": (1.25, -0.7, 0.7)},
        {"spacing_mm": (1.25, np.nan, 0.7)},
    ],
)
def test_a_request_that_no_nodule_can_meet_is_refused(setting):
    with pytest.raises(InputError):
        LidcRequest(**setting)


@pytest.fixture
def few_scans(monkeypatch, lidc_readings):
    """The first scans for the whole table, and a list that grows whenever it is read."""
    reads = []

    def read():
        reads.append(1)
        return lidc_readings[:12]

    monkeypatch.setattr(lidc_module, "read_lidc_table", read)
    return reads


def assert_same(first, second):
    assert first.counts == second.counts
    assert first.shapes.records == second.shapes.records
    assert first.shapes.fingerprint == second.shapes.fingerprint


def test_the_second_call_reads_the_cache_and_gives_the_same(few_scans, tmp_path):
    made, remembered = (cached_lidc_shapes(LidcRequest(), tmp_path / "new" / "cache") for _ in range(2))
    assert len(few_scans) == 1
    assert len(made.shapes) > 5
    assert_same(made, remembered)


def test_another_request_is_not_answered_from_the_cache_of_the_first(few_scans, tmp_path):
    by_two, by_four = (cached_lidc_shapes(LidcRequest(readers=n), tmp_path) for n in (2, 4))
    assert len(few_scans) == 2
    assert by_four.counts["kept"] < by_two.counts["kept"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"no archive",
        lambda content: content[: len(content) // 2],
        lambda content: content[:200] + bytes(200) + content[400:],
        lambda content: _npz(occupancy=np.zeros((1, 2, 3, 4))),
        lambda content: _npz(occupancy=np.zeros((1, 2, 3, 4)), notes=json.dumps({})),
        lambda content: _npz(occupancy=np.zeros((1, 2, 3, 4)), notes=json.dumps({"counts": {}, "records": [{}]})),
    ],
    ids=["empty", "garbage", "cut off", "overwritten", "no notes", "empty notes", "other records"],
)
def test_a_spoilt_cache_is_made_anew(few_scans, tmp_path, spoil):
    made = cached_lidc_shapes(LidcRequest(), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(spoil(file.read_bytes()))
    assert_same(made, cached_lidc_shapes(LidcRequest(), tmp_path))
    assert_same(made, cached_lidc_shapes(LidcRequest(), tmp_path))
    assert len(few_scans) == 2
    assert len(list(tmp_path.iterdir())) == 1


def _npz(**content):
    stream = io.BytesIO()
    np.savez(stream, **content)
    return stream.getvalue()


def test_a_cache_that_cannot_be_written_is_done_without(few_scans, tmp_path):
    (tmp_path / "file").touch()
    made, again = (cached_lidc_shapes(LidcRequest(), tmp_path / "file" / "cache") for _ in range(2))
    assert len(few_scans) == 2
    assert_same(made, again)


# Sets of shapes


def test_a_draw_is_repeated_by_its_seed_and_changed_by_another():
    shapes = shape_set([f"patient {i}" for i in range(30)])
    assert shapes.draw(10, seed=4).records == shapes.draw(10, seed=4).records
    assert shapes.draw(10, seed=4).records != shapes.draw(10, seed=5).records


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=15), st.data(), st.integers(0, 5))
def test_a_draw_takes_a_patient_again_only_when_all_others_were_taken_as_often(patients, data, seed):
    shapes = shape_set(patients)
    n = data.draw(st.integers(1, len(patients)))
    drawn = shapes.draw(n, seed)
    taken, there = (Counter(record.patient_id for record in s.records) for s in (drawn, shapes))
    assert len({record.shape_id for record in drawn.records}) == n
    assert all(taken[p] == there[p] or taken[p] >= max(taken.values()) - 1 for p in there)


def test_lidc_draws_are_of_distinct_patients(lidc):
    assert len(lidc.shapes.draw(51, seed=1).patient_ids) == 51


@pytest.mark.parametrize("n", [0, 4])
def test_more_shapes_than_there_are_or_none_cannot_be_drawn(n):
    with pytest.raises(InputError, match=f"nodules: found {n}; expected 1 to 3"):
        shape_set("abc").draw(n, seed=0)


def test_a_selected_shape_keeps_its_record():
    shapes = shape_set("abcd")
    picked = shapes.select([2, 0])
    np.testing.assert_array_equal(picked.occupancy, shapes.occupancy[[2, 0]])
    assert picked.records == (shapes.records[2], shapes.records[0])


def test_the_fingerprint_tells_shapes_and_spacings_apart():
    shapes = shape_set("abc")
    assert shapes.fingerprint == shape_set("abc").fingerprint
    assert shapes.fingerprint != shape_set("abc", seed=1).fingerprint
    assert shapes.fingerprint != ShapeSet(shapes.occupancy, (1, 1, 1), shapes.records).fingerprint


attributes = st.builds(
    NoduleAttributes, *[st.one_of(st.none(), st.floats(0, 50))] * len(NoduleAttributes.__dataclass_fields__)
)


@given(st.builds(ShapeRecord, st.text(), st.text(), st.text(), st.integers(0, 4), attributes))
def test_a_record_comes_back_from_its_flat_row_and_from_json(record):
    row = record.row()
    assert not any(isinstance(value, dict) for value in row.values())
    assert ShapeRecord.from_row(row) == record
    assert ShapeRecord.from_row(json.loads(json.dumps(row))) == record


def test_a_record_comes_back_from_a_table_file(tmp_path):
    records = [
        ShapeRecord("a-1", "a", "1.2.3", 3, NoduleAttributes(diameter_mm=7.25, malignancy=3.5)),
        ShapeRecord("b-1", "b"),
    ]
    write_table(tmp_path / "nodules.csv", [record.row() for record in records])
    assert [ShapeRecord.from_row(row) for row in read_table(tmp_path / "nodules.csv")] == records


# Meshes


def uses_of_edges(mesh):
    """How many triangles hold each edge, and how many run along it in each direction."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    return np.unique(np.sort(edges, 1), axis=0, return_counts=True)[1], np.unique(edges, axis=0, return_counts=True)[1]


def assert_watertight(mesh):
    shared, directed = uses_of_edges(mesh)
    assert set(shared) == {2}
    assert set(directed) == {1}  # neighbours agree on which side is out
    assert mesh.volume_mm3 > 0


@given(arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)).filter(np.any))
def test_the_surface_of_any_mask_is_watertight_also_at_the_grids_border(mask):
    assert_watertight(surface(mask.astype(np.float32), LUNG_SPACING_MM))


@given(arrays(np.float32, (4, 5, 5), elements=st.sampled_from([0, 0.25, 0.3255, 0.5, 0.651, 1])).filter(np.any))
def test_the_surface_is_watertight_also_where_values_equal_the_level(field):
    for level in (0.3255, 0.5):
        if field.max() > level:
            assert_watertight(surface(field, LUNG_SPACING_MM, level))


@pytest.mark.parametrize("diameter_mm", [10, 14, 20])
def test_the_mesh_of_a_ball_has_the_balls_volume_and_place(ball, diameter_mm):
    mesh = surface(ball(diameter_mm).astype(np.float32), LUNG_SPACING_MM, level=0.5, origin_mm=(100, -50, 7))
    assert_watertight(mesh)
    assert mesh.volume_mm3 == pytest.approx(ball(diameter_mm).sum() * VOXEL_MM3, rel=0.04)
    middle = (mesh.vertices_mm.min(0) + mesh.vertices_mm.max(0)) / 2
    np.testing.assert_allclose(middle, [100 + 39 * 0.35, -50 + 39 * 0.35, 7 + 19 * 0.625], atol=1e-4)


# Files


@pytest.fixture
def mask(ball):
    return ball(9)


def save(path, array):
    """An array as what its suffix says."""
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        write_image(path, Volume(array, (2.0, 0.5, 0.5)))
    return path


def test_a_stack_of_masks_is_read_nodule_by_nodule(tmp_path, mask):
    found = read_nodule_masks(save(tmp_path / "stack.npy", np.stack([mask, mask[::-1]])), (3, 1, 1))
    assert [nodule.name for nodule in found] == ["stack.npy[0]", "stack.npy[1]"]
    assert found[0].spacing_mm == (3, 1, 1)
    np.testing.assert_array_equal(found[1].mask, mask[::-1])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64])
def test_a_single_numpy_mask_is_read_whatever_numbers_it_is_made_of(tmp_path, mask, dtype):
    (nodule,) = read_nodule_masks(save(tmp_path / "one.npy", mask.astype(dtype)))
    np.testing.assert_array_equal(nodule.mask, mask)
    assert nodule.spacing_mm == LUNG_SPACING_MM


@pytest.mark.parametrize("on", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_an_images_mask_is_read_with_the_images_spacing(tmp_path, mask, suffix, dtype, on):
    path = save(tmp_path / f"nodule{suffix}", (mask * on).astype(dtype))
    (nodule,) = read_nodule_masks(path, (9, 9, 9))
    np.testing.assert_array_equal(nodule.mask, mask)
    assert nodule.spacing_mm == (2.0, 0.5, 0.5)
    assert nodule.name == path.name


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_each_label_of_a_label_map_is_a_nodule(tmp_path, ball, dtype):
    first, second = ball(5, offset_mm=(0, -6, 0)), ball(7, offset_mm=(0, 6, 0))
    found = read_nodule_masks(save(tmp_path / "map.mha", (first * 3 + second * 8).astype(dtype)))
    assert [nodule.name for nodule in found] == ["map.mha:3", "map.mha:8"]
    for nodule, there in zip(found, (first, second), strict=True):
        np.testing.assert_array_equal(nodule.mask, there)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".npy"])
def test_separate_nodules_of_a_mask_are_nodules_and_named_and_a_gap_is_not(tmp_path, ball, suffix):
    first, second = ball(5, offset_mm=(0, -9, 0)), ball(7, offset_mm=(0, 9, 0))
    path = save(tmp_path / f"two{suffix}", (first | second).astype(np.uint8))
    found = read_nodule_masks(path)
    assert [nodule.name for nodule in found] == [f"two{suffix}:1", f"two{suffix}:2"]
    np.testing.assert_array_equal(found[0].mask, second)  # in the order of their first voxels
    np.testing.assert_array_equal(found[1].mask, first)
    note = f"two{suffix}: 2 pieces more than 5 mm apart are taken as 2 nodules"
    table = api.features(path)
    assert table.notes == (note,)
    assert len(table.values) == 2
    shapes = read_shape_set(path, LUNG_GRID, LUNG_SPACING_MM)
    assert (len(shapes), shapes.notes) == (2, (note,))
    stack = save(tmp_path / "rows.npy", (first | second)[None])  # a row of a stack is one nodule by its format
    assert len(read_nodule_masks(stack)) == 1
    parted = ball(9)
    parted[:, parted.shape[1] // 2] = False
    (nodule,) = read_nodule_masks(save(tmp_path / f"one{suffix}", parted.astype(np.uint8)))
    np.testing.assert_array_equal(nodule.mask, parted)


def test_a_folders_masks_are_read_in_the_order_of_their_names_and_other_files_left(tmp_path, mask):
    for name in ("b.nii.gz", "c.npy", "a.mha"):
        save(tmp_path / name, mask.astype(np.uint8))
    (tmp_path / "notes.txt").write_text("not a mask")
    assert [nodule.name for nodule in read_nodule_masks(tmp_path)] == ["a.mha", "b.nii.gz", "c.npy[0]"]


def test_a_stack_of_occupancies_is_a_shape_set_as_it_is(tmp_path):
    occupancy = np.random.default_rng(0).random((3, *LUNG_GRID), np.float32)
    shapes = read_shape_set(save(tmp_path / "seeds.npy", occupancy), LUNG_GRID, LUNG_SPACING_MM)
    np.testing.assert_array_equal(shapes.occupancy, occupancy)
    assert len({record.patient_id for record in shapes.records}) == 3
    assert (shapes.patient_ids, shapes.tells_patients) == ([], False)  # a row of a stack is no patient


def test_a_nodule_larger_than_the_grid_is_left_out_and_named_unless_there_is_no_other(tmp_path, ball):
    grid, spacing_mm = (20, 80, 80), (2.0, 0.5, 0.5)
    save(tmp_path / "large.nii.gz", ball(36, grid, spacing_mm))
    larger = "larger than the model's grid of 25.0 x 28.0 x 28.0 mm (z, y, x; see its setting grid)"
    with pytest.raises(InputError, match=re.escape(f"found only nodules {larger}")):
        read_shape_set(tmp_path, LUNG_GRID, LUNG_SPACING_MM)
    save(tmp_path / "small.nii.gz", ball(16, grid, spacing_mm))
    shapes = read_shape_set(tmp_path, LUNG_GRID, LUNG_SPACING_MM)
    assert [record.shape_id for record in shapes.records] == ["small.nii.gz"]
    assert f"{tmp_path.name}: nodules left out: 1 {larger}: large.nii.gz" in shapes.notes
    with pytest.raises(InputError, match=re.escape(f"large.nii.gz: found a nodule {larger}")):
        read_shape_set(tmp_path, LUNG_GRID, LUNG_SPACING_MM, every=True)


def test_images_of_any_spacing_become_shapes_of_the_grid(tmp_path, ball):
    grid, spacing_mm = (13, 52, 52), (2.0, 0.5, 0.5)
    native = ball(16, grid, spacing_mm)
    shapes = read_shape_set(save(tmp_path / "nodule.nii.gz", native), LUNG_GRID, LUNG_SPACING_MM)
    assert shapes.occupancy.shape == (1, *LUNG_GRID)
    assert shapes.occupancy.sum() * VOXEL_MM3 == pytest.approx(native.sum() * 0.5, rel=0.06)


@pytest.fixture
def prepared(tmp_path, mask):
    """A folder as `prepare shapes` makes it: one stack, its table, and the mark that it is ours."""
    np.save(tmp_path / "shapes.npy", np.stack([mask, mask[::-1]]).astype(np.float32))
    records = [ShapeRecord(f"{name}-1", name, n_readers=2) for name in ("ann", "bob")]
    write_table(tmp_path / "nodules.csv", [record.row() for record in records])
    (tmp_path / MARK).touch()
    return tmp_path


def test_a_prepared_folder_keeps_its_patients(prepared):
    shapes = read_shape_set(prepared, LUNG_GRID, LUNG_SPACING_MM)
    assert shapes.patient_ids == ["ann", "bob"]
    assert [record.n_readers for record in shapes.records] == [2, 2]
    assert read_shape_set(prepared / "shapes.npy", LUNG_GRID, LUNG_SPACING_MM).patient_ids == ["ann", "bob"]


@pytest.mark.parametrize("above", [False, True], ids=["beside", "above"])
@pytest.mark.parametrize("suffix", [".mha", ".nii.gz", ".npy"])
def test_masks_belong_to_the_patients_of_the_table_that_names_them(tmp_path, mask, suffix, above):
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in "ab":
        save(folder / f"{name}{suffix}", mask)
    table = (tmp_path if above else folder) / "nodules.csv"
    rows = [
        {"image": f"{name}_ct.mha", "mask": f"{'masks/' * above}{name}{suffix}", "patient_id": f"P{name}"}
        for name in "ab"
    ]
    write_table(table, rows)
    shapes = read_shape_set(folder, LUNG_GRID, LUNG_SPACING_MM)
    assert (shapes.patient_ids, shapes.tells_patients) == (["Pa", "Pb"], True)
    assert shapes.select([1]).patient_ids == ["Pb"]
    write_table(table, rows[:1])  # the patient of a mask is missing
    shapes = read_shape_set(folder, LUNG_GRID, LUNG_SPACING_MM)
    assert (shapes.patient_ids, shapes.tells_patients, shapes.draw(1, 0).tells_patients) == ([], False, False)


@pytest.mark.parametrize(
    ("table", "found"),
    [("shape_id,patient_id\na,b\n", "columns shape_id, patient_id"), ("shape_id\n", "no rows"), ("", "no rows")],
)
def test_a_prepared_folder_whose_table_was_spoilt_is_refused_by_the_tables_name(prepared, table, found):
    (prepared / "nodules.csv").write_text(table)
    with pytest.raises(InputError, match=rf"nodules\.csv: found {found}"):
        read_shape_set(prepared, LUNG_GRID, LUNG_SPACING_MM)


def test_a_prepared_folder_whose_table_lost_a_row_is_refused(prepared):
    lines = (prepared / "nodules.csv").read_text().splitlines()
    (prepared / "nodules.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match=r"nodules\.csv: found 1 rows; expected one for each of the 2 shapes"):
        read_shape_set(prepared, LUNG_GRID, LUNG_SPACING_MM)


@pytest.mark.parametrize("spacing_mm", [(1, 1), (1, 0, 1), (1, 1, np.nan), (1, 1, -1)])
def test_a_spacing_that_is_not_three_positive_lengths_is_refused(tmp_path, mask, spacing_mm):
    with pytest.raises(InputError, match="spacing: found"):
        read_nodule_masks(save(tmp_path / "one.npy", mask), spacing_mm)


@pytest.mark.real_data
def test_the_original_seeds_are_a_shape_set(real_data):
    shapes = read_shape_set(real_data / "lung-seeds" / "seeds.npy", LUNG_GRID, LUNG_SPACING_MM)
    assert len(shapes) == 51


HALF = np.full((3, 3, 3), 0.5)


def with_value(array, value):
    changed = array.copy()
    changed[(0,) * array.ndim] = value
    return changed


BAD_ARRAYS = {
    "objects": np.array([[[{"a": 1}]]], dtype=object),
    "text": np.full((3, 3, 3), "a"),
    "complex numbers": HALF.astype(complex),
    "two axes": np.ones((3, 3), bool),
    "five axes": np.ones((1, 1, 3, 3, 3), bool),
    "nothing": np.ones((0, 3, 3, 3), bool),
    "NaN": with_value(HALF, np.nan),
    "infinity": with_value(HALF, np.inf),
    "negative": with_value(HALF, -0.1),
    "negative labels": with_value(np.ones((3, 3, 3), np.int16), -1),
    "fractions above one": with_value(HALF, 1.5),
    "no voxel set": np.zeros((3, 3, 3), np.uint8),
    "no voxel set in the second": np.stack([HALF, 0 * HALF]),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_a_numpy_file_that_holds_no_masks_is_refused_by_its_name(tmp_path, name):
    np.save(tmp_path / "given.npy", BAD_ARRAYS[name])
    with pytest.raises(InputError, match=r"given\.npy"):
        read_nodule_masks(tmp_path / "given.npy")


BAD_IMAGES = {
    "fractions above one": with_value(HALF, 1.5),
    "CT": with_value(np.full((3, 3, 3), 40, np.int16), -1000),
    "CT in floats": with_value(np.full((3, 3, 3), 40.0), -1000),
    "no voxel set": np.zeros((3, 3, 3), np.uint8),
    "thousands of labels": np.arange(4096, dtype=np.int32).reshape(16, 16, 16),
}


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
@pytest.mark.parametrize("name", BAD_IMAGES)
def test_an_image_that_is_no_mask_is_refused_by_its_name(tmp_path, name, suffix):
    path = save(tmp_path / f"given{suffix}", BAD_IMAGES[name])
    with pytest.raises(InputError, match=re.escape(path.name)):
        read_nodule_masks(path)


@pytest.mark.parametrize("name", ["given.npy", "given.nii", "given.nii.gz", "given.mha", "given.mhd", "given.nrrd"])
@pytest.mark.parametrize("content", [b"", b"this is text\n", bytes(1000)], ids=["empty", "text", "zeros"])
def test_a_file_that_is_not_what_its_name_says_is_refused_by_its_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        read_nodule_masks(tmp_path / name)


@pytest.mark.parametrize("name", ["given.nii", "given.mha"])
def test_an_image_with_nan_voxels_is_refused_by_its_name(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: found values that are not finite"):
        read_nodule_masks(save(tmp_path / name, with_value(HALF, np.nan)))


@pytest.mark.parametrize("name", ["given.npy", "given.nii.gz", "given.mha"])
def test_a_file_that_was_cut_off_is_refused_by_its_name(tmp_path, name):
    noise = (np.random.default_rng(0).random((20, 20, 20)) > 0.5).astype(np.uint8)
    path = save(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=re.escape(name)):
        read_nodule_masks(path)


@pytest.mark.parametrize("name", ["missing.npy", "missing.nii.gz", "missing"])
def test_a_missing_file_is_refused_by_its_name(tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: found nothing"):
        read_nodule_masks(tmp_path / name)


@pytest.mark.parametrize("name", ["nodule.png", "nodule.npz", "nodule.dcm", "nodule", "nodule.gz"])
def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"content")
    with pytest.raises(InputError, match=re.escape(name)):
        read_nodule_masks(tmp_path / name)


def test_a_folder_without_masks_is_refused_by_its_name(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=f"{tmp_path.name}: found a folder without masks"):
        read_nodule_masks(tmp_path)


def test_a_folder_named_like_a_numpy_file_within_a_folder_is_refused_by_its_name(tmp_path):
    (tmp_path / "odd.npy").mkdir()
    with pytest.raises(InputError, match=r"odd\.npy"):
        read_nodule_masks(tmp_path)


@pytest.mark.parametrize("kind", ["two axes", "four axes", "colour"])
def test_an_image_that_is_no_single_volume_is_refused_by_its_name(tmp_path, kind):
    image = {
        "two axes": sitk.Image([4, 4], sitk.sitkUInt8),
        "four axes": sitk.Image([4, 4, 4, 2], sitk.sitkUInt8),
        "colour": sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3),
    }[kind]
    sitk.WriteImage(image, str(tmp_path / "given.mha"))
    with pytest.raises(InputError, match=r"given\.mha"):
        read_nodule_masks(tmp_path / "given.mha")


def test_a_stack_of_another_grid_is_refused_with_both_grids(tmp_path):
    np.save(tmp_path / "small.npy", np.ones((2, 5, 6, 7), np.float32))
    with pytest.raises(InputError, match=r"small\.npy\[0\]: found \(5, 6, 7\) voxels; expected \(20, 40, 40\)"):
        read_shape_set(tmp_path / "small.npy", LUNG_GRID, LUNG_SPACING_MM)
