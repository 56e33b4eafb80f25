"""Segments and contours become nodules: each separately, all of them, and nothing else."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless
from skimage.draw import polygon2mask

from synthorax import api
from synthorax.annotations.masked import Masked, pieces, same_nodules
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.io.dicom import read_ct_series
from synthorax.io.dicom_masks import chosen_structures, list_structures, read_masks, read_structures
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.rtstruct import _filled
from synthorax.io.structure_names import StructureName, is_nodule
from synthorax.region import Region
from synthorax.volume import Volume
from tests.helpers.foreign_files import circle, write_contours, write_segments
from tests.helpers.structures import NODULE, SHAPE, ball, lung

BODY = [circle(0, 0, 18, z) for z in 100 + 2.0 * np.arange(12)]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A series on disk, its headers, and its volume."""
    folder = tmp_path_factory.mktemp("scan") / "ct"
    headers = write_ct_series(folder, lung(), mark=None)
    return folder, headers, read_ct_series(folder).volume


def read(scanned, tmp_path, structures, **more):
    write_contours(tmp_path / "rs.dcm", scanned[1], structures, **more)
    frame = str(scanned[1][0].FrameOfReferenceUID)
    return {str(s.named): s for s in read_structures(tmp_path / "rs.dcm", scanned[2], lambda _: True, frame_uid=frame)}


# Names


@pytest.mark.parametrize(
    ("name", "code", "wanted"),
    [
        ("Nodule 1", "", True),
        ("GTV-1", "", True),
        ("GTV_nodule", "", True),
        ("lung mass", "", True),
        ("Tumeur", "", True),
        ("Läsion 2", "", True),
        ("右肺结节", "", True),
        ("Segment_1", "27925004", True),
        ("Segment_1", "M-03010", True),
        ("Right lung", "27925004", False),
        ("Segment_1", "", False),
        ("BODY", "", False),
        ("Masseter_L", "", False),
        ("Lungs-GTV", "", False),
        ("Lung minus tumor", "", False),
        ("PTV GTV1", "", False),
        ("GTV+5mm", "", False),
        ("GTVn2", "", False),
        ("non-nodule", "27925004", False),
        ("Edit region", "", False),
    ],
)
def test_a_structure_is_a_nodule_by_its_name_or_by_a_code_that_its_name_does_not_contradict(name, code, wanted):
    assert is_nodule(StructureName(1, name, code)) is wanted


# Contours


def test_a_structure_has_its_voxels_whatever_is_drawn_around_it(scanned, tmp_path):
    alone = read(scanned, tmp_path, [("GTV", NODULE)])["GTV"].region
    assert alone.voxels == 437
    for others in ([("BODY", BODY)], [("Esophagus", [circle(0, 0, 4, z) for z in (110, 112, 114)])]):
        found = read(scanned, tmp_path, [("GTV", NODULE), *others])
        assert found["GTV"].region.corner == alone.corner
        np.testing.assert_array_equal(found["GTV"].region.mask, alone.mask)
        assert len(found) == 2


def test_a_hole_is_empty_however_it_is_drawn(scanned, tmp_path):
    def keyhole(z):
        outer, inner = circle(-5, 0, 6, z), circle(-5, 0, 3, z)[::-1]
        return np.vstack([outer, outer[:1], inner[-1:], inner, outer[:1]])

    inner = [c for z in (110, 112) for c in (circle(-5, 0, 6, z), circle(-5, 0, 3, z))]
    for contours, kind in ((inner, "CLOSED_PLANAR"), (inner, "CLOSEDPLANAR_XOR")):
        region = read(scanned, tmp_path, [("GTV", contours)], kind=kind)["GTV"].region
        assert region.voxels == 2 * (113 - 29)
    region = read(scanned, tmp_path, [("GTV", [keyhole(110), keyhole(112)])])["GTV"].region
    assert abs(region.voxels / 2 - (113 - 29)) <= 5  # pixels on the edge of the hole belong to the nodule
    assert not region.mask[:, 6, 6].any()


def test_a_contour_that_is_drawn_twice_counts_once_and_two_that_overlap_are_both_filled(scanned, tmp_path):
    assert read(scanned, tmp_path, [("GTV", NODULE + NODULE)])["GTV"].region.voxels == 437
    two = [circle(-5, 0, 5, 112), circle(1, 0, 5, 112)]
    found = read(scanned, tmp_path, [("GTV", two)])["GTV"]
    assert found.region.voxels == 127  # of 81 each, 35 shared
    assert any("overlap" in note for note in found.notes)


@pytest.mark.parametrize(
    ("points", "kind", "why"),
    [
        (circle(-5, 0, 6, 110), "OPEN_PLANAR", "not closed"),
        (np.array([[-5.0, 0, 110]]), "CLOSED_PLANAR", "fewer than three points"),
        (
            np.column_stack([circle(-5, 0, 6, 0)[:, :2], np.linspace(100, 120, 40)]),
            "CLOSED_PLANAR",
            "across the slices",
        ),
        (np.array([[1e30, 0, 110], [0, 1e30, 110], [0, -1e30, 110]]), "CLOSED_PLANAR", "not finite or far outside"),
        (np.array([[np.nan, 0, 110], [0, 3, 110], [0, -3, 110]]), "CLOSED_PLANAR", "not finite or far outside"),
    ],
)
def test_a_contour_that_cannot_be_used_is_left_out_alone_and_told(scanned, tmp_path, points, kind, why):
    write_contours(tmp_path / "rs.dcm", scanned[1], [("GTV", NODULE), ("Nodule 2", [points, circle(5, 0, 3, 112)])])
    header = pydicom.dcmread(tmp_path / "rs.dcm")
    header.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = kind
    header.save_as(tmp_path / "rs.dcm")
    whole, part = read_structures(tmp_path / "rs.dcm", scanned[2])
    assert (whole.region.voxels, whole.is_whole, whole.notes) == (437, True, ())
    assert (part.region.voxels, part.is_whole) == (29, False)
    assert "1 of 2 contours left out" in part.notes[0]
    assert why in part.notes[0]


def test_a_structure_of_another_frame_of_reference_is_refused_alone(scanned, tmp_path):
    structures = [("GTV", NODULE), ("Nodule 2", [circle(5, 0, 3, 112)])]
    found = read(scanned, tmp_path, structures, frames=[("GTV", "1.2.3.4")])
    assert found["GTV"].region is None
    assert "frame of reference 1.2.3.4" in found["GTV"].reason
    assert found["Nodule 2"].region.voxels == 29


def test_structures_without_contours_or_outside_the_scan_say_so(scanned, tmp_path):
    found = read(scanned, tmp_path, [("GTV", []), ("Nodule", [circle(0, 0, 5, 300)])])
    assert found["GTV"].reason == "it has no contour"
    assert "no voxel of the scan" in found["Nodule"].reason
    assert not found["GTV"].is_whole


def test_planes_far_apart_are_not_filled_between(scanned, tmp_path):
    found = read(scanned, tmp_path, [("GTV", [circle(0, 0, 5, z) for z in (102, 120)])])["GTV"]
    assert np.unique(found.region.indices()[:, 0]).tolist() == [1, 10]
    assert "18 mm apart" in found.notes[0]


def test_polygons_are_filled_as_scikit_image_fills_them():
    rng = np.random.default_rng(0)
    for _ in range(40):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radii = rng.uniform(2, 25, 12)
        points = np.column_stack([15 + radii * np.sin(angles), 18 + radii * np.cos(angles)])
        mask, (top, side) = _filled(points, (30, 40))
        whole = np.zeros((30, 40), bool)
        whole[top : top + mask.shape[0], side : side + mask.shape[1]] = mask
        np.testing.assert_array_equal(whole, polygon2mask((30, 40), points))


# Segments


def test_segments_that_overlap_keep_all_their_voxels(scanned, tmp_path):
    one, other = ball(6), ball(6, (6, 20, 22))
    body = np.ones(SHAPE, np.uint8)
    masks = [one.astype(np.uint8), other.astype(np.uint8), body]
    write_segments(tmp_path / "s.dcm", scanned[1], masks, ["Nodule 1", "Nodule 2", "Right lung"])
    first, second = read_structures(tmp_path / "s.dcm", scanned[2])
    np.testing.assert_array_equal(first.region.within((0, 0, 0), SHAPE), one)
    np.testing.assert_array_equal(second.region.within((0, 0, 0), SHAPE), other)


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_a_fractional_segment_is_cut_at_a_half(scanned, tmp_path, syntax):
    more = {"transfer_syntax_uid": syntax} if syntax else {}
    soft = ball(7) * 0.3 + ball(6) * 0.4 + ball(4) * 0.3
    masks = [soft.astype(np.float32), (ball(3) * 0.4).astype(np.float32)]
    write_segments(tmp_path / "s.dcm", scanned[1], masks, ["Nodule", "Nodule 2"], "FRACTIONAL", **more)
    sure, faint = read_structures(tmp_path / "s.dcm", scanned[2])
    np.testing.assert_array_equal(sure.region.within((0, 0, 0), SHAPE), ball(6))
    assert "fractional (probability)" in sure.notes[0]
    assert "none of which reaches 0.5" in faint.reason


def test_a_label_map_segmentation_is_read_by_its_numbers(scanned, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 5:35, 5:30] = 1
    labels[ball(5)] = 2
    write_segments(tmp_path / "s.dcm", scanned[1], labels, ["Left lung", "Segment_2"], "LABELMAP")
    (found,) = read_structures(tmp_path / "s.dcm", scanned[2])
    np.testing.assert_array_equal(found.region.within((0, 0, 0), SHAPE), ball(5))
    assert len(list_structures(tmp_path / "s.dcm")) == 2


@pytest.mark.parametrize("axes", ["RAS", "LSA", "PIR"])
def test_a_segmentation_of_other_slices_comes_to_the_same_voxels(scanned, tmp_path, axes):
    turned = orient(lung(), axes)
    headers = write_ct_series(tmp_path / "other", turned, mark=None)
    mask = orient(replace(lung(), voxels=ball(6).astype(np.uint8)), axes).voxels
    for header in headers:
        header.FrameOfReferenceUID = scanned[1][0].FrameOfReferenceUID
    if np.linalg.det(turned.direction) < 0:
        pytest.skip("DICOM has no left-handed slices")
    write_segments(tmp_path / "s.dcm", headers, [mask], ["Nodule"])
    (found,) = read_structures(tmp_path / "s.dcm", scanned[2])
    np.testing.assert_array_equal(found.region.within((0, 0, 0), SHAPE), ball(6))


def test_a_coarser_segmentation_is_resampled_in_its_place(scanned, tmp_path):
    coarse = Volume(lung().voxels[:, ::2, ::2].copy(), (2.0, 2.0, 2.0), (-19.5, -19.5, 100.0))
    headers = write_ct_series(tmp_path / "other", coarse, mark=None)
    z, y, x = np.meshgrid(*[np.arange(n) for n in coarse.shape], indexing="ij")
    mask = ((z - 6) * 2.0) ** 2 + (2 * y + 0.5 - 20) ** 2 + (2 * x + 0.5 - 15) ** 2 <= 36
    write_segments(tmp_path / "s.dcm", headers, [mask.astype(np.uint8)], ["Nodule"])
    (found,) = read_structures(tmp_path / "s.dcm", scanned[2])
    assert "resampled" in found.notes[0]
    assert found.region.voxels == pytest.approx(ball(6).sum(), rel=0.1)
    np.testing.assert_allclose(found.region.indices().mean(0), [6, 20, 15], atol=0.2)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda d: setattr(d, "PixelData", d.PixelData[:64]), "cut off"),
        (lambda d: setattr(d, "NumberOfFrames", 100_000), "100000 frames"),
        (lambda d: setattr(d, "SegmentSequence", None), "no readable segmentation"),
        (lambda d: setattr(d, "FrameOfReferenceUID", "1.2.3"), "frame of reference 1.2.3"),
    ],
)
def test_a_segmentation_that_cannot_be_read_is_one_line(scanned, tmp_path, edit, why):
    write_segments(tmp_path / "s.dcm", scanned[1], [ball(4).astype(np.uint8)], ["Nodule"], edit=edit)
    with pytest.raises(InputError, match=why):
        assert list_structures(tmp_path / "s.dcm")
        read_structures(tmp_path / "s.dcm", scanned[2], frame_uid=str(scanned[1][0].FrameOfReferenceUID))


def test_a_file_that_somebody_names_gives_its_nodules_or_its_only_structure(scanned, tmp_path):
    one = ball(4).astype(np.uint8)
    write_segments(tmp_path / "a.dcm", scanned[1], [one, np.ones_like(one)], ["Nodule", "BODY"])
    assert (read_masks(tmp_path / "a.dcm", scanned[2])[0].voxels > 0).sum() == one.sum()
    write_contours(tmp_path / "b.dcm", scanned[1], [("ROI-1", NODULE)])
    assert [s.region.voxels for s in chosen_structures(tmp_path / "b.dcm", scanned[2])] == [437]
    write_contours(tmp_path / "c.dcm", scanned[1], [("BODY", BODY), ("Heart", NODULE)])
    with pytest.raises(InputError, match="BODY, Heart"):
        chosen_structures(tmp_path / "c.dcm", scanned[2])


# Which masks are of one nodule


def masked(name, source, mask):
    return Masked(name, source, Region.of(mask))


def test_four_readers_masks_are_one_nodule_of_the_voxels_that_two_of_them_mark():
    radii = (5.5, 6.0, 6.5, 5.0)
    found, notes = same_nodules([masked(f"reader {i}", i, ball(r)) for i, r in enumerate(radii)])
    (nodule,) = found
    np.testing.assert_array_equal(nodule.region.within((0, 0, 0), SHAPE), ball(6.0))
    assert nodule.readings == 4
    assert "readings of one nodule" in notes[0]


def test_nodules_that_touch_are_two_and_a_core_belongs_to_its_nodule():
    touching = [masked("1", 0, ball(6)), masked("2", 1, ball(5, (6, 20, 24)))]
    assert touching[0].region.overlap(touching[1].region)
    assert len(same_nodules(touching)[0]) == 2
    (whole,), _ = same_nodules([masked("whole", 0, ball(6)), masked("core", 1, ball(3))])
    assert whole.region.voxels == ball(6).sum()


def test_stray_voxels_are_left_out_and_a_tiny_nodule_is_not():
    mask = ball(4)
    mask[1, 2, 2] = mask[1, 30, 30] = mask[1, 30, 31] = True
    found, note = pieces("Nodule", 0, Region.of(mask))
    assert [piece.region.voxels for piece in found] == [ball(4).sum()]
    assert "2 stray pieces" in note
    tiny = np.zeros(SHAPE, bool)
    tiny[3, 4, 5] = True
    assert len(pieces("Nodule", 0, Region.of(tiny))[0]) == 1


# Whole preparation


def test_a_structure_set_gives_its_nodules_names_the_rest_and_states_what_is_known(scanned, tmp_path, capsys):
    headers = write_ct_series(tmp_path / "in" / "ct", lung(), mark=None)
    write_contours(tmp_path / "in" / "rs.dcm", headers, [("GTV", NODULE), ("BODY", BODY), ("Nodule 9", [])])
    store = api.prepare("scans", tmp_path / "in", tmp_path / "store", workers=1, annotated="all")
    (case,) = store.cases
    assert case.annotated == "some"  # a lost nodule keeps `all` from being believed
    assert [nodule.extra["structure"] for nodule in case.nodules] == ["GTV"]
    assert any("BODY" in note for note in case.notes)
    assert any("Nodule 9 left out: it has no contour" in note for note in case.notes)
    about = api.info(tmp_path / "store")
    assert about["structures_not_taken"] == {"BODY": 1}
    assert about["annotated"] == {"all": 0, "some": 1, "none-known": 0}


def test_a_structure_whose_name_did_not_match_leaves_no_healthy_scan(tmp_path):
    headers = write_ct_series(tmp_path / "in" / "ct", lung(), mark=None)
    write_contours(tmp_path / "in" / "rs.dcm", headers, [("ROI-1", NODULE)])
    store = api.prepare("scans", tmp_path / "in", tmp_path / "store", workers=1, annotated="all")
    assert (store.cases[0].nodules, store.cases[0].annotated) == ((), "none-known")
    assert any("choose some by --structures" in note for note in store.cases[0].notes)
    store = api.prepare("scans", tmp_path / "in", tmp_path / "other", workers=1, structures="roi", annotated="all")
    assert (len(store.cases[0].nodules), store.cases[0].annotated) == (1, "all")
    write_contours(tmp_path / "in" / "rs.dcm", headers, [("BODY", BODY)])
    store = api.prepare("scans", tmp_path / "in", tmp_path / "third", workers=1, annotated="all")
    assert (store.cases[0].nodules, store.cases[0].annotated) == ((), "all")  # BODY is no nodule by any name
