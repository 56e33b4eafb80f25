"""A mask on the grid of an image: parts of the grid, rounded headers, probabilities, named segments."""

from dataclasses import replace

import numpy as np
import pytest

from synthorax.api import features, prepare
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.geometry import crop, orient, resample_to_spacing
from synthorax.io.images import write_image
from synthorax.io.masks import place_labels, read_labels_on, read_nodule_on
from synthorax.shapes.features import shape_features
from synthorax.volume import Volume

CT = Volume(np.full((12, 40, 40), -850, np.int16), (2.0, 0.703125, 0.703125), (-166.0, -171.7, -340.0))
NODULE = np.zeros(CT.shape, np.uint8)
NODULE[5:8, 20:26, 10:17] = 1
MASK = replace(CT, voxels=NODULE)


def moved(volume, voxels_xyz):
    return replace(volume, origin_mm=tuple(volume.to_world(np.flip(voxels_xyz)).tolist()))


@pytest.mark.parametrize(
    ("mask", "count"),
    [
        (MASK, 0),
        (orient(MASK, "RAS"), 0),
        (orient(MASK, "SLP"), 0),
        (crop(MASK, (4, 15, 8), (5, 14, 12), fill=0), 0),
        (crop(MASK, (-3, -5, 4), (40, 60, 50), fill=0), 0),
        (orient(crop(MASK, (5, 20, 10), (3, 6, 7)), "RPI"), 0),
        (replace(MASK, spacing_mm=(2.0, 0.703, 0.703)), 0),
        (replace(MASK, spacing_mm=(2.0, 0.7, 0.7)), 1),
        (moved(MASK, (0.2, 0, 0)), 1),
    ],
    ids=["same", "flipped", "turned", "cropped", "padded", "its box", "rounded", "more rounded", "a fifth off"],
)
def test_a_mask_whose_voxels_are_the_images_is_taken(mask, count):
    found = place_labels("mask", mask, CT)
    np.testing.assert_array_equal(found.voxels, NODULE)
    assert len(found.notes) == count


@pytest.mark.parametrize(
    "mask",
    [
        moved(MASK, (0.5, 0, 0)),
        replace(MASK, spacing_mm=(2.5, 0.703125, 0.703125)),
        replace(MASK, spacing_mm=(2.0, 0.68, 0.68)),
        resample_to_spacing(MASK, (2.0, 1.0, 1.0), nearest=True, fill=0),
        replace(MASK, direction=np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])),
    ],
    ids=["half a voxel off", "other slices", "other pixels", "coarser", "rotated"],
)
def test_a_mask_of_other_voxels_is_refused_with_what_to_do(mask):
    with pytest.raises(InputError, match="resample the mask onto the image, nearest voxel"):
        place_labels("mask", mask, CT)


@pytest.mark.parametrize(
    ("mask", "copies", "resamples"),
    [
        (moved(MASK, (0.5, 0, 0)), True, True),
        (moved(MASK, (100.5, 0, 0)), True, False),
        (moved(MASK, (100, 0, 0)), True, False),
        (moved(replace(MASK, spacing_mm=(2.5, 0.7, 0.7)), (100.5, 0, 0)), False, False),
        (replace(MASK, spacing_mm=(2.5, 0.703125, 0.703125)), False, True),
    ],
    ids=["half a voxel off", "elsewhere", "whole voxels elsewhere", "other voxels elsewhere", "other voxels"],
)
def test_the_advice_about_a_mask_never_leads_to_an_empty_one(mask, copies, resamples):
    with pytest.raises(InputError) as raised:
        place_labels("mask", mask, CT)
    assert ("mask.CopyInformation(image)" in str(raised.value)) == copies
    assert ("SimpleITK.Resample(" in str(raised.value)) == resamples


def test_a_mask_beyond_the_image_is_cut_and_told_or_refused():
    found = place_labels("mask", moved(MASK, (-12, 0, 0)), CT)
    assert found.voxels.sum() == 3 * 6 * 5
    assert found.notes == ("mask: 36 marked voxels lie outside the image and are left out",)
    with pytest.raises(InputError, match="outside the image"):
        place_labels("mask", moved(MASK, (100, 0, 0)), CT)


def test_a_mask_turned_like_no_axis_of_its_image_still_lies_on_its_voxels():
    turned = orient(CT, "SRA")
    found = place_labels("mask", MASK, turned)
    assert found.voxels.shape == turned.shape
    np.testing.assert_array_equal(orient(replace(turned, voxels=found.voxels), "LPS").voxels, NODULE)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize(
    ("values", "label", "parts"),
    [
        (NODULE * 255, None, []),
        (NODULE.astype(np.float32), 1, []),
        (NODULE * 0.6, None, ["probabilities up to 0.6; the 126 voxels of 0.5 or more are taken"]),
        (NODULE * 0.6, 1, ["probabilities up to 0.6"]),
        (NODULE + 2 * (np.roll(NODULE, 9, 2)), 1, []),
    ],
    ids=["255", "floats", "probabilities", "probabilities with a label", "labels"],
)
def test_the_voxels_of_a_nodule_are_those_of_its_label_or_a_half(tmp_path, values, label, parts, suffix):
    write_image(tmp_path / f"m{suffix}", replace(CT, voxels=values))
    found = read_nodule_on(tmp_path / f"m{suffix}", CT, label)
    np.testing.assert_array_equal(found.voxels, NODULE)
    assert [part in note for part, note in zip(parts, found.notes, strict=True)] == [True] * len(parts)


def test_labels_that_are_taken_together_are_told(tmp_path):
    write_image(tmp_path / "m.nrrd", replace(CT, voxels=NODULE + 2 * np.roll(NODULE, 9, 2)))
    found = read_nodule_on(tmp_path / "m.nrrd", CT)
    assert found.voxels.sum() == 2 * NODULE.sum()
    assert "labels 1, 2 are taken together; mask_label chooses one of them" in found.notes[0]


@pytest.mark.parametrize(
    ("values", "label", "found"),
    [
        (NODULE * 255, 1, "labels 255, but not 1"),
        (NODULE * 0, None, "no marked voxel in the image"),
        (NODULE * 0.3, None, "probabilities up to 0.3, none of which reaches 0.5"),
        (NODULE * 37.5, None, "fractions from 0 to 37.5"),
        (NODULE.astype(np.int16) * -1, None, "values from -1 to 0"),
        (np.where(NODULE, np.nan, 0.0), None, "not finite"),
        (NODULE, "nodule", "a mask without named segments"),
    ],
)
def test_a_mask_without_the_nodule_is_refused(tmp_path, values, label, found):
    write_image(tmp_path / "m.nrrd", replace(CT, voxels=values))
    with pytest.raises(InputError) as caught:
        read_nodule_on(tmp_path / "m.nrrd", CT, label)
    assert found in str(caught.value)


def segmentation(path, segments, layers=True):
    """A segmentation as 3D Slicer writes it: a mask [z, y, x] of the CT for each name, a layer each or one."""
    header = [f"space directions: {'none ' * layers}(0.703125,0,0) (0,0.703125,0) (0,0,2)"]
    header += ["space origin: (-166,-171.7,-340)", "space: left-posterior-superior", "type: uchar", "encoding: raw"]
    header += [f"dimension: {3 + layers}", f"sizes: {f'{len(segments)} ' * layers}40 40 12"]
    for i, name in enumerate(segments):
        value, layer = (1, i) if layers else (i + 1, 0)
        header += [f"Segment{i}_ID:=S{i}", f"Segment{i}_Name:={name}"]
        header += [f"Segment{i}_LabelValue:={value}", f"Segment{i}_Layer:={layer}"]
    values = list(segments.values())
    voxels = np.stack(values, -1) if layers else sum(mask * (i + 1) for i, mask in enumerate(values))
    path.write_bytes("\n".join(["NRRD0004", *header, "", ""]).encode() + voxels.astype(np.uint8).tobytes())
    return path


LUNG = np.ones(CT.shape, np.uint8)
OTHER = np.roll(NODULE, 9, 2)


@pytest.mark.parametrize(
    ("segments", "label"),
    [
        ({"right lung": LUNG, "Nodule 1": NODULE}, None),
        ({"right lung": LUNG, "Nodule 1": NODULE}, 1),
        ({"right lung": LUNG, "Nodule 1": NODULE}, "nodule 1"),
        ({"a": OTHER, "b": NODULE}, "b"),
        ({"Segment_1": NODULE}, None),
    ],
)
def test_the_segment_that_is_meant_is_found_by_name_though_segments_overlap(tmp_path, segments, label):
    found = read_nodule_on(segmentation(tmp_path / "m.seg.nrrd", segments), CT, label)
    np.testing.assert_array_equal(found.voxels, NODULE)


def test_segments_of_one_layer_are_found_by_value_and_name(tmp_path):
    path = segmentation(tmp_path / "m.seg.nrrd", {"vessel": OTHER, "nodule": NODULE}, layers=False)
    for label in (None, 2, "Nodule"):
        np.testing.assert_array_equal(read_nodule_on(path, CT, label).voxels, NODULE)
    np.testing.assert_array_equal(read_nodule_on(path, CT, 1).voxels, OTHER)


@pytest.mark.parametrize(
    ("segments", "label", "found"),
    [
        ({"a": NODULE, "b": OTHER}, None, "2 segments ('a: 1; b: 1'), none with the name of a nodule"),
        ({"a": NODULE, "b": OTHER}, 1, "2 of them with label 1"),
        ({"a": NODULE, "b": OTHER}, "c", "0 of them with label c"),
        ({"nodule": NODULE * 0}, None, "no voxel in the segment 'nodule'"),
    ],
)
def test_segments_of_which_none_is_meant_are_refused_by_their_names(tmp_path, segments, label, found):
    with pytest.raises(InputError) as caught:
        read_nodule_on(segmentation(tmp_path / "m.seg.nrrd", segments), CT, label)
    assert found in str(caught.value)


def test_the_labels_of_a_segmentation_are_its_nodules(tmp_path):
    for layers in (True, False):
        segments = {"right lung": LUNG - NODULE - OTHER, "nodule a": NODULE, "nodule b": OTHER}
        found = read_labels_on(segmentation(tmp_path / "m.seg.nrrd", segments, layers), CT)
        np.testing.assert_array_equal(found.voxels, NODULE + 2 * OTHER)
        assert found.notes == ("m.seg.nrrd: not taken for nodules: 'right lung'",)
    with pytest.raises(InputError, match="2 segments that overlap"):
        read_labels_on(segmentation(tmp_path / "m.seg.nrrd", {"a": LUNG, "b": OTHER}), CT)


def test_a_mask_without_orientation_is_refused_with_what_its_header_lacks(tmp_path):
    (tmp_path / "m.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 40 40 12\nspacings: 0.703125 0.703125 2\nencoding: raw\n\n"
        + NODULE.tobytes()
    )
    with pytest.raises(InputError, match="no orientation in the header"):
        read_nodule_on(tmp_path / "m.nrrd", CT)


def test_a_table_takes_cropped_soft_and_layered_masks(tmp_path):
    write_image(tmp_path / "ct.nrrd", replace(CT, voxels=np.where(NODULE, 30, CT.voxels).astype(np.int16)))
    write_image(tmp_path / "cropped.nii.gz", crop(MASK, (4, 15, 8), (5, 14, 12), fill=0))
    write_image(tmp_path / "soft.mha", replace(CT, voxels=NODULE * np.float32(0.7)))
    segmentation(tmp_path / "layers.seg.nrrd", {"lung": LUNG, "nodule": NODULE})
    for name, label in (
        ("cropped.nii.gz", ""),
        ("soft.mha", ""),
        ("layers.seg.nrrd", "1"),
        ("layers.seg.nrrd", "nodule"),
    ):
        (tmp_path / "nodules.csv").write_text(f"image,mask,mask_label\nct.nrrd,{name},{label}\n")
        store = prepare("patches", tmp_path, tmp_path / f"store {name} {label}", split=(1, 0, 0), workers=1)
        assert isinstance(store, Store)
        (case,) = store.cases
        assert len(case.nodules) == 1
        assert store.region(case.case_id, 1).voxels == NODULE.sum()
        assert any("probabilities" in note or "segment" in note for note in case.notes) == (name != "cropped.nii.gz")


def test_features_of_a_mask_do_not_depend_on_how_it_is_stored(tmp_path):
    wanted = shape_features(NODULE[None] > 0, CT.spacing_mm)
    (tmp_path / "many").mkdir()
    write_image(tmp_path / "many" / "a.nii.gz", MASK)
    write_image(tmp_path / "many" / "b.mha", replace(CT, voxels=NODULE * 255))
    soft = np.maximum(NODULE * np.float32(0.8), np.float32(0.3))
    write_image(tmp_path / "many" / "c.nrrd", replace(CT, voxels=soft))
    segmentation(tmp_path / "many" / "d.seg.nrrd", {"nodule": NODULE})
    table = features(tmp_path / "many")
    np.testing.assert_allclose(table.values, np.repeat(wanted, 4, 0), rtol=1e-4)
    assert table.names == ["a.nii.gz", "b.mha", "c.nrrd", "d.seg.nrrd:nodule"]
    assert [note.split(":")[0] for note in table.notes] == ["c.nrrd"]
