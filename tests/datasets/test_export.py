"""Exports to nnU-Net and MONAI: read back by their own rules, and nothing unknown becomes background."""

import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from synthorax import api
from synthorax.annotations.nodule_table import CENTER
from synthorax.datasets.export import export
from synthorax.datasets.export_items import Content, Item, ball
from synthorax.datasets.store import Case, MarkedPoint, Store
from synthorax.errors import InputError
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region
from synthorax.volume import Volume
from tests.helpers.stores import store_of

SHAPE = (10, 14, 12)


def grid(spacing_mm=(1.25, 0.7, 0.8), origin_mm=(-22.3, -17.7, -100.25), direction=None):
    rng = np.random.default_rng(0)
    voxels = rng.integers(-900, 100, SHAPE).astype(np.int16)
    return Volume(voxels, spacing_mm, origin_mm, np.eye(3) if direction is None else direction)


def brick(corner, edges):
    return Region(corner, np.ones(edges, bool))


def placed(volume, index, label=0, diameter_mm=None, nodule_id="01"):
    """A nodule centred at a voxel."""
    return Nodule(nodule_id, tuple(volume.to_world(index).tolist()), NoduleAttributes(diameter_mm), label=label)


def item(name="a", split="train", volume=None, nodules=None, regions=None, annotated="all", patient_id=None, **more):
    """Return a scan with one nodule, of 4 x 5 x 3 voxels by default."""
    volume = volume or grid()
    regions = (brick((2, 3, 4), (4, 5, 3)),) if regions is None else regions
    if nodules is None:
        nodules = tuple(
            placed(volume, (4, 5, 5), label, nodule_id=f"{label:02d}") for label in range(1, len(regions) + 1)
        )
    outlined = frozenset(range(1, len(regions) + 1))
    content = Content(volume, tuple(regions))
    return Item(name, split, patient_id or name, nodules, outlined, annotated, True, "", lambda: content, **more)


def labels_of(root, part="Tr"):
    return {p.name: np.asarray(nib.load(p).dataobj).T for p in sorted((root / f"labels{part}").iterdir())}


# nnU-Net


def check_as_nnunet_does(root):
    """The checks of nnU-Net v2's `verify_dataset_integrity` and of how its trainer takes the splits."""
    about = json.loads((root / "dataset.json").read_text())
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= about.keys()
    labels = about["labels"]
    assert labels["background"] == 0
    values = sorted(value for name, value in labels.items() if name != "ignore")
    if "ignore" in labels:
        assert labels["ignore"] == max(values) + 1
        values.append(labels["ignore"])
    assert (np.ediff1d(values) == 1).all()
    ending = about["file_ending"]
    files = [p.name for p in (root / "imagesTr").iterdir() if p.name.endswith(ending)]
    cases = {name[: -len(ending) - 5] for name in files}
    assert len(cases) == about["numTraining"]
    preprocessed = [f for case in cases for f in (f"{case}.b2nd", f"{case}_seg.b2nd")]
    assert {f[:-5] for f in preprocessed if not f.endswith("_seg.b2nd")} == cases
    for case in cases:
        (image,) = [n for n in files if re.fullmatch(re.escape(case) + r"_\d\d\d\d" + re.escape(ending), n)]
        ct, label = nib.load(root / "imagesTr" / image), nib.load(root / "labelsTr" / f"{case}{ending}")
        assert ct.shape == label.shape
        np.testing.assert_allclose(ct.affine, label.affine)
        assert set(np.unique(label.dataobj)) <= set(values)
    if (root / "splits_final.json").is_file():
        for fold in json.loads((root / "splits_final.json").read_text()):
            assert fold["train"]
            assert fold["val"]
            assert not set(fold["train"]) & set(fold["val"])
            assert {*fold["train"], *fold["val"]} == cases
    return cases


def test_nnunet_takes_a_data_set_of_all_splits(tmp_path):
    items = [item(f"s{i}", split) for i, split in enumerate(("train", "val", "test", "train"))]
    report = export(items, tmp_path / "Dataset501_X", "nnunet", name="X")
    assert check_as_nnunet_does(tmp_path / "Dataset501_X") == {"s0", "s1", "s3"}
    assert json.loads((tmp_path / "Dataset501_X" / "splits_final.json").read_text()) == [
        {"train": ["s0", "s3"], "val": ["s1"]}
    ]
    assert [p.name for p in (tmp_path / "Dataset501_X" / "imagesTs").iterdir()] == ["s2_0000.nii.gz"]
    assert str(report) == "4 cases (train 2, val 1, test 1), 4 nodules"
    assert report.notes == []


@pytest.mark.parametrize(
    ("splits", "training", "pattern"),
    [
        (["train"] * 6 + ["test"], 6, "no case is in val, .* makes 5 folds of the 6 cases"),
        (["val"] * 5, 5, "no case is in train"),
        (["train"] * 3, 3, "needs 5 cases for its own folds and has 3"),
        (["test"] * 2, 0, "no training cases"),
    ],
)
def test_no_split_is_written_of_which_a_part_is_empty_and_it_is_said_what_nnunet_does_then(
    splits, training, pattern, tmp_path
):
    items = [item(f"s{i}", split) for i, split in enumerate(splits)]
    report = export(items, tmp_path / "Dataset501_X", "nnunet", name="X")
    assert len(check_as_nnunet_does(tmp_path / "Dataset501_X")) == training
    assert not (tmp_path / "Dataset501_X" / "splits_final.json").exists()
    assert any(re.search(pattern, note) for note in report.notes)


def test_it_is_said_that_folds_of_nnunets_own_would_part_a_patient(tmp_path):
    items = [item(f"s{i}", patient_id=f"P{i // 2}") for i in range(6)]
    report = export(items, tmp_path / "Dataset501_X", "nnunet", name="X")
    assert any("split 3 patients with several cases" in note for note in report.notes)


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (("scan", "scan_seg"), {"scan", "scan_seg-ct"}),
        (("A1", "a1"), {"A1", "a1-2"}),
        (("../evil", "/tmp/x"), {"evil", "tmp-x"}),
        (("a\nb", "Übung 1.5"), {"a-b", "Übung 1.5"}),
    ],
)
@pytest.mark.parametrize("layout", ["nnunet", "monai"])
def test_names_that_the_files_cannot_have_are_changed_and_it_is_said(layout, names, stems, tmp_path):
    root = tmp_path / "Dataset501_X"
    report = export([item(name, "val" if i else "train") for i, name in enumerate(names)], root, layout, name="X")
    if layout == "nnunet":
        assert check_as_nnunet_does(root) == stems
        assert any("renamed" in note for note in report.notes) == (set(names) != stems)
    else:
        found = {p.name.removesuffix(".nii.gz") for p in (root / "images").iterdir()}
        assert len(found) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Dataset501_X"]


@pytest.mark.parametrize("title", ["nodules", "Dataset5011_X", "dataset501_X", "Dataset51_X"])
def test_a_folder_that_nnunet_would_not_find_by_its_number_is_told_of(title, tmp_path):
    report = export([item(), item("b", "val")], tmp_path / title, "nnunet", name="X")
    assert any("rename" in note for note in report.notes)
    report = export([item(), item("b", "val")], tmp_path / "Dataset502", "nnunet", name="X")
    assert report.notes == []


def test_overlapping_nodules_are_one_label_for_nnunet(tmp_path):
    regions = (brick((2, 3, 4), (4, 5, 3)), brick((4, 6, 5), (3, 4, 4)))
    export([item(regions=regions), item("b", "val")], tmp_path / "Dataset501", "nnunet", name="X")
    label = labels_of(tmp_path / "Dataset501")["a.nii.gz"]
    assert label.sum() == 60 + 48 - 2 * 2 * 2
    assert label.max() == 1


def test_training_data_without_a_voxel_of_a_nodule_are_told_of(tmp_path):
    healthy = [item(f"s{i}", "val" if i else "train", nodules=(), regions=()) for i in range(2)]
    report = export(healthy, tmp_path / "Dataset501", "nnunet", name="X")
    assert any("cannot be trained" in note for note in report.notes)


# What is not known


def voxelless(diameter_mm=4.0, name="a", regions=(), **more):
    """A scan with a nodule by centre and diameter, beside those with voxels."""
    volume = grid()
    nodules = [placed(volume, (3, 5, 5), i + 1, nodule_id=f"{i:02d}") for i in range(len(regions))]
    nodules.append(placed(volume, (7, 9, 8), 0, diameter_mm, "lonely"))
    return item(name, volume=volume, nodules=tuple(nodules), regions=regions, **more)


MIXED = (brick((2, 3, 4), (2, 2, 2)),)


@pytest.mark.parametrize("regions", [(), MIXED])
def test_a_nodule_without_voxels_stops_the_export_to_nnunet_and_names_the_ways_on(regions, tmp_path):
    with pytest.raises(InputError, match=r"a: found 1 nodule without a mask \(lonely\).*monai.*--voxelless balls"):
        export([item("b"), voxelless(regions=regions)], tmp_path / "Dataset501", "nnunet", name="X")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("regions", [(), MIXED])
def test_balls_stand_for_nodules_without_voxels_and_it_is_said(regions, tmp_path):
    root = tmp_path / "Dataset501"
    report = export([voxelless(regions=regions), item("b", "val")], root, "nnunet", name="X", voxelless="balls")
    check_as_nnunet_does(root)
    label = labels_of(root)["a.nii.gz"]
    painted = label.sum() - 8 * len(regions)
    assert painted * 1.25 * 0.7 * 0.8 == pytest.approx(4 / 3 * np.pi * 2**3, rel=0.15)
    assert label[7, 9, 8] == 1
    said = [note for note in report.notes if "balls" in note and "a" in note]
    assert said
    assert said[0] in json.loads((root / "dataset.json").read_text())["notes"]


def test_nnunet_can_be_told_to_learn_nothing_where_a_nodule_has_no_voxels(tmp_path):
    root = tmp_path / "Dataset501"
    export([voxelless(regions=MIXED), item("b", "val")], root, "nnunet", name="X", voxelless="ignore")
    check_as_nnunet_does(root)
    assert json.loads((root / "dataset.json").read_text())["labels"] == {"background": 0, "nodule": 1, "ignore": 2}
    label = labels_of(root)["a.nii.gz"]
    assert label[7, 9, 8] == 2
    assert (label == 1).sum() == 8


def test_a_scan_with_a_nodule_without_voxels_can_be_left_out_and_it_is_said(tmp_path):
    root = tmp_path / "Dataset501"
    report = export([voxelless(), item("b")], root, "nnunet", name="X", voxelless="leave-out")
    assert check_as_nnunet_does(root) == {"b"}
    assert any("left out" in note and note.endswith(": a") for note in report.notes)


@pytest.mark.parametrize("layout", ["nnunet", "monai"])
@pytest.mark.parametrize("diameter_mm", [None, 0.0])
def test_a_nodule_with_neither_voxels_nor_diameter_becomes_neither_ball_nor_box(layout, diameter_mm, tmp_path):
    for choice in ("refuse", "balls"):
        with pytest.raises(InputError, match="lonely"):
            export([voxelless(diameter_mm)], tmp_path / "x", layout, name="X", voxelless=choice)
    report = export([voxelless(diameter_mm), item("b")], tmp_path / "x", layout, name="X", voxelless="leave-out")
    assert report.cases.total() == 1


@pytest.mark.parametrize("layout", ["nnunet", "monai"])
def test_a_nodule_outside_its_scan_is_refused(layout, tmp_path):
    volume = grid()
    outside = item(volume=volume, nodules=(placed(volume, (40, 5, 5), diameter_mm=5.0),), regions=())
    with pytest.raises(InputError, match=r"a: found nodule 01 centred at .* outside its scan"):
        export([outside], tmp_path / "x", layout, name="X", voxelless="balls")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["nnunet", "monai"])
@pytest.mark.parametrize("annotated", ["none-known", "some"])
def test_a_scan_of_which_not_every_nodule_is_known_is_left_out_unless_asked_for(layout, annotated, tmp_path):
    unsure = item("unsure", annotated=annotated, nodules=(), regions=())
    report = export([item(), unsure], tmp_path / "x", layout, name="X")
    assert report.cases.total() == 1
    assert any("left out" in note and "unsure" in note for note in report.notes)
    report = export([item(), unsure], tmp_path / "y", layout, name="X", unknown="include")
    assert report.cases.total() == 2
    assert any("background" in note and "unsure" in note for note in report.notes)
    with pytest.raises(
        InputError,
        match=r"no case to write, of 1 case: left out.*If masks and tables mark every nodule, .*--annotated all",
    ):
        export([unsure], tmp_path / "z", layout, name="X")
    assert not (tmp_path / "z").exists()


def test_marks_too_small_to_be_outlined_are_counted(tmp_path):
    volume = grid()
    point = MarkedPoint("small nodule", tuple(volume.to_world((4, 5, 5)).tolist()))
    case = Case("a", "P", volume, points=(point, replace(point, kind="non-nodule")), annotated="all")
    store = store_of(tmp_path / "store", [case]).path
    (store / "prepare.json").write_text("{}")
    report = api.export(store, tmp_path / "x", "monai")
    assert any(note.startswith("1 mark") for note in report.notes)


@pytest.mark.parametrize("place", ["store", "store/within", "."])
def test_the_source_is_never_written_over(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = store_of(tmp_path / "store", [Case("a", "P", grid(), annotated="all")]).path
    (store / "prepare.json").write_text("{}")
    (store / ".synthorax").touch()
    with pytest.raises(InputError, match="expected a folder elsewhere"):
        api.export("store", place, "monai", overwrite=True)
    assert Store(store).read("a").case_id == "a"


@pytest.mark.parametrize(
    "wrong",
    [{"layout": "yolo"}, {"unknown": "guess"}, {"voxelless": "cubes"}, {"layout": "monai", "voxelless": "ignore"}],
)
def test_choices_that_are_none_are_refused(wrong, tmp_path):
    with pytest.raises(InputError):
        export([item()], tmp_path / "x", **{"layout": "nnunet", "name": "X", **wrong})


def test_a_ball_has_the_volume_of_its_diameter_and_at_least_the_voxel_at_its_centre():
    volume = replace(grid((1, 1, 1)), voxels=np.zeros((40, 40, 40), np.int16))
    assert ball(volume, placed(volume, (20, 20, 20), diameter_mm=20.0), "a").voxels == pytest.approx(4189, rel=0.01)
    speck = ball(volume, placed(volume, (20.3, 3.4, 39), diameter_mm=0.1), "a")
    assert speck.indices().tolist() == [[20, 3, 39]]
    edge = ball(volume, placed(volume, (0, 20, 20), diameter_mm=10.0), "a")
    assert edge.corner[0] == 0
    assert edge.voxels < 4 / 3 * np.pi * 5**3


# MONAI


def read_as_monai_does(root, row):
    """Boxes in the voxels (x, y, z) of the image turned to RAS, by MONAI's `AffineBoxToImageCoordinated`."""
    affine = nib.as_closest_canonical(nib.load(root / row["image"])).affine
    lps = np.diag([-1, -1, 1, 1]) @ affine
    boxes = np.asarray(row["box"], float).reshape(-1, 6)
    ends = [boxes[:, :3] - boxes[:, 3:] / 2, boxes[:, :3] + boxes[:, 3:] / 2]
    ends = [np.c_[end, np.ones(len(end))] @ np.linalg.inv(lps).T for end in ends]
    return np.c_[np.minimum(*ends)[:, :3], np.maximum(*ends)[:, :3]]


def boxes_of_masks(root, row):
    """What MONAI's `MaskToBox` makes of each label of the mask."""
    mask = np.asarray(nib.as_closest_canonical(nib.load(root / row["mask"])).dataobj)
    found = [np.argwhere(mask == label) for label in range(1, mask.max() + 1)]
    return np.array([[*inside.min(0), *(inside.max(0) + 1)] for inside in found])


def monai_rows(items, out, **more):
    report = export(items, out, "monai", name="X", **more)
    return json.loads((out / "dataset.json").read_text()), report


TURNS = {
    "straight": np.eye(3),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "mirrored": np.diag([1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "oblique": Rotation.from_euler("zyx", [8, -5, 11], degrees=True).as_matrix(),
}


@pytest.mark.parametrize("turn", TURNS)
def test_monai_reads_from_our_boxes_what_it_makes_of_our_masks(turn, tmp_path):
    volume = grid(direction=TURNS[turn])
    two = item(volume=volume, regions=(brick((2, 3, 4), (4, 5, 3)), brick((7, 9, 1), (1, 1, 1))))
    lists, report = monai_rows([two], tmp_path / "m")
    (row,) = lists["training"]
    assert row["label"] == [0, 0]
    np.testing.assert_allclose(read_as_monai_does(tmp_path / "m", row), boxes_of_masks(tmp_path / "m", row), atol=2e-3)
    assert any("oblique" in note for note in report.notes) == (turn == "oblique")


def test_a_box_lies_in_the_world_where_its_nodule_does_but_for_half_a_voxel(tmp_path):
    volume = grid()
    lists, _ = monai_rows([item(volume=volume)], tmp_path / "m")
    (box,) = lists["training"][0]["box"]
    middle = volume.to_world((3.5, 5, 5))
    np.testing.assert_allclose(box[:3], np.add(middle, [-0.8 / 2, -0.7 / 2, 1.25 / 2]), atol=1e-4)
    np.testing.assert_allclose(box[3:], [3 * 0.8, 5 * 0.7, 4 * 1.25], atol=1e-4)


def test_a_box_that_no_box_of_the_world_can_be_read_back_as_holds_its_nodule(tmp_path):
    volume = grid((1.0, 1.0, 1.0), direction=Rotation.from_euler("z", 40, degrees=True).as_matrix())
    long = item(volume=volume, regions=(brick((2, 5, 1), (2, 1, 10)),))
    lists, _ = monai_rows([long], tmp_path / "m")
    (box,) = lists["training"][0]["box"]
    inside = volume.to_world(brick((2, 5, 1), (2, 1, 10)).indices())
    assert (np.abs(inside - box[:3]) <= np.divide(box[3:], 2) + 0.5).all()


def test_boxes_of_diameters_agree_with_balls_of_them(tmp_path):
    volume = grid((1.0, 1.0, 1.0))
    known = item(volume=volume, nodules=(placed(volume, (5, 6, 6), diameter_mm=6.9),), regions=())
    lists, report = monai_rows([known], tmp_path / "m", voxelless="balls")
    (row,) = lists["training"]
    np.testing.assert_allclose(read_as_monai_does(tmp_path / "m", row), boxes_of_masks(tmp_path / "m", row), atol=0.06)
    assert (row["nodules"], row["synthetic"]) == ([{"diameter_mm": 6.9}], False)
    assert any("balls" in note for note in report.notes)
    lists, report = monai_rows([known], tmp_path / "n")
    assert "mask" not in lists["training"][0]
    assert len(lists["training"][0]["box"]) == 1


def test_a_mask_that_lacks_one_of_the_nodules_is_not_written_and_it_is_said(tmp_path):
    lists, report = monai_rows([voxelless(regions=MIXED)], tmp_path / "m")
    (row,) = lists["training"]
    assert "mask" not in row
    assert row["label"] == [0, 0]
    assert not list((tmp_path / "m" / "masks").iterdir())
    assert any("no mask" in note for note in report.notes)


def test_numbers_of_a_box_are_never_whole_to_json(tmp_path):
    # MONAI's EnsureTyped makes an integer tensor of whole numbers, and its affine then cuts the boxes.
    volume = grid((2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    lists, _ = monai_rows([item(volume=volume)], tmp_path / "m")
    assert all(isinstance(value, float) for value in lists["training"][0]["box"][0])


def test_a_scan_without_a_nodule_is_told_of_since_monais_bundle_cannot_read_its_empty_box(tmp_path):
    lists, report = monai_rows([item(), item("healthy", nodules=(), regions=())], tmp_path / "m")
    assert lists["training"][1]["box"] == lists["training"][1]["label"] == []
    assert any("StandardizeEmptyBoxd" in note and "healthy" in note for note in report.notes)


@pytest.mark.parametrize("turn", TURNS)
def test_monais_own_transforms_read_the_boxes(turn, tmp_path):
    pytest.importorskip("monai")
    import torch
    from monai.apps.detection.transforms.dictionary import (
        AffineBoxToImageCoordinated,
        BoxToMaskd,
        ConvertBoxToStandardModed,
        MaskToBoxd,
    )
    from monai.data import load_decathlon_datalist
    from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Orientationd

    lists, _ = monai_rows([item(volume=grid(direction=TURNS[turn]))], tmp_path / "m")
    wanted = boxes_of_masks(tmp_path / "m", lists["training"][0])
    (row,) = load_decathlon_datalist(str(tmp_path / "m" / "dataset.json"), True, "training", str(tmp_path / "m"))
    read = Compose(
        [
            LoadImaged(keys=["image", "mask"]),
            EnsureChannelFirstd(keys=["image", "mask"]),
            EnsureTyped(keys=["image", "box"]),
            EnsureTyped(keys="label", dtype=torch.long),
            Orientationd(keys=["image", "mask"], axcodes="RAS"),
            ConvertBoxToStandardModed(box_keys="box", mode="cccwhd"),
            AffineBoxToImageCoordinated(box_keys="box", box_ref_image_keys="image", affine_lps_to_ras=True),
        ]
    )(row)
    np.testing.assert_allclose(np.asarray(read["box"]), wanted, atol=2e-3)
    there = BoxToMaskd("box", "box_mask", "label", "image", min_fg_label=0)
    back = MaskToBoxd("box", "box_mask", "label", min_fg_label=0)
    again = back(there(read | {"box": read["box"].round()}))
    np.testing.assert_array_equal(np.asarray(again["box"]), wanted)
    assert np.asarray(again["label"]).tolist() == [0]


# Samples


def samples(folder, masks=None, table=None, rows=({"class": 1},), cts=1):
    """A folder as `synthorax sample` writes it."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    files = [{"nifti": f"images/{i:05d}.nii.gz"} for i in range(cts)]
    for i in range(cts):
        write_image(folder / files[i]["nifti"], grid())
    for i, mask in enumerate(masks or []):
        write_image(folder / "masks" / f"{i:05d}.nii.gz", replace(grid(), voxels=mask))
    if table:
        write_table(folder / "nodules.csv", table)
    made = [{"files": file, **row} for file, row in zip(files, rows, strict=False)]
    about = {"synthorax": "0", "synthetic": "SYNTHETIC: a test", "samples": made}
    (folder / "manifest.json").write_text(json.dumps(about))
    return folder


def nodule_row(volume, index, name="00000"):
    middle = dict(zip(CENTER, volume.to_world(index).tolist(), strict=True))
    return {"image": f"images/{name}.nii.gz", **middle, "diameter_mm": 3.0}


def test_a_sample_of_which_the_table_and_the_manifest_say_nothing_is_not_one_without_a_nodule(tmp_path):
    with pytest.raises(InputError, match="left out"):
        api.export(samples(tmp_path / "made"), tmp_path / "x", "monai")
    healthy = samples(tmp_path / "healthy", rows=[{"class": 0}])
    assert api.export(healthy, tmp_path / "y", "monai").cases["train"] == 1


def test_a_samples_mask_and_table_tell_of_one_nodule_where_they_meet_and_of_two_where_not(tmp_path):
    mask = brick((2, 3, 4), (4, 5, 3)).within((0, 0, 0), SHAPE).astype(np.uint8) * 7
    together = samples(tmp_path / "a", [mask], [nodule_row(grid(), (4, 5, 5))])
    assert api.export(together, tmp_path / "x", "nnunet").nodules == 1
    apart = samples(tmp_path / "b", [mask], [nodule_row(grid(), (8, 10, 9))])
    with pytest.raises(InputError, match="1 nodule without a mask"):
        api.export(apart, tmp_path / "y", "nnunet")
    assert api.export(apart, tmp_path / "z", "nnunet", voxelless="balls").nodules == 2
    alone = samples(tmp_path / "c", [mask])
    assert api.export(alone, tmp_path / "w", "monai").nodules == 1
