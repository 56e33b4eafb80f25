"""LIDC readings: what an outline encloses, which readings are one nodule, and that none is lost."""

import csv
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthorax.annotations.clustering import AnnotatedNodule, cluster
from synthorax.annotations.reading import AnnotatedScan, Contour, Reading
from synthorax.errors import InputError
from synthorax.nodule import RATINGS, Nodule, NoduleAttributes, agreed_ratings, check_attributes
from synthorax.region import Region

SCAN = AnnotatedScan("patient", "study", "series", 0.5, 2.0, 2.5, -100.0, 60)

regions = st.builds(Region, st.tuples(*[st.integers(-3, 6)] * 3), arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)))


def square(left, top, side):
    """The outline points (x, y) of a square, its own pixels the border of `side` x `side`."""
    edge = range(side - 1)
    ring = [(i, 0) for i in edge] + [(side - 1, i) for i in edge]
    ring += [(side - 1 - i, side - 1) for i in edge] + [(0, side - 1 - i) for i in edge]
    return np.array(ring, np.int16) + np.array([left, top], np.int16)


def reading(reader, left, top, side, slices=(5, 6), ratings=3, holes=()):
    contours = [Contour(z, square(left, top, side)) for z in slices]
    contours += [Contour(z, square(*hole), inclusion=False) for z in slices for hole in holes]
    return Reading(SCAN, reader, tuple(contours), dict.fromkeys(RATINGS, ratings))


def on_canvas(region, corner=(-10, -10, -10), shape=(30, 30, 30)):
    """A region's mask in a box large enough for any of them."""
    canvas = np.zeros(shape, bool)
    start = np.subtract(region.corner, corner)
    canvas[tuple(slice(a, a + n) for a, n in zip(start, region.mask.shape, strict=True))] = region.mask
    return canvas


def readings_of(nodules):
    """Nodules as sets of readings, to compare whatever their order."""
    return {frozenset(map(id, nodule.readings)) for nodule in nodules}


def test_an_outlines_own_pixels_are_outside():
    found = reading(0, left=10, top=20, side=6).region
    assert found.corner == (5, 20, 10)
    expected = np.zeros((2, 6, 6), bool)
    expected[:, 1:-1, 1:-1] = True
    np.testing.assert_array_equal(found.mask, expected)


def test_an_outline_given_by_its_corners_alone_is_drawn_through_the_pixels_between_them():
    corners = Contour(5, square(10, 20, 6)[::5])
    found = Reading(SCAN, 0, (corners,)).region
    assert len(corners.points_px) == 4
    assert found.mask.sum() == 4 * 4
    assert not found.mask[0, 0].any()


def test_the_inside_does_not_depend_on_where_an_outline_starts_or_which_way_it_runs():
    diamond = np.array([(3, 0), (4, 1), (5, 2), (6, 3), (5, 4), (4, 5), (3, 6), (2, 5), (1, 4), (0, 3), (1, 2), (2, 1)])
    masks = [
        Reading(SCAN, 0, (Contour(1, np.roll(points, shift, axis=0).astype(np.int16)),)).region.mask
        for points in (diamond, diamond[::-1])
        for shift in range(len(diamond))
    ]
    assert {mask.tobytes() for mask in masks} == {masks[0].tobytes()}
    assert masks[0].sum() == 13  # the pixels less than three steps from the centre


def test_a_hole_is_removed_and_its_outline_belongs_to_the_nodule():
    whole = reading(0, left=0, top=0, side=12).region.mask
    holed = reading(0, left=0, top=0, side=12, holes=[(3, 3, 5)]).region.mask
    removed = whole & ~holed
    assert removed.sum() == 2 * 3 * 3
    assert removed[:, 4:7, 4:7].all()


def test_a_hole_is_removed_even_if_its_contour_is_listed_first():
    nodule = reading(0, left=0, top=0, side=12, holes=[(3, 3, 5)])
    turned = Reading(SCAN, 0, nodule.contours[::-1])
    np.testing.assert_array_equal(turned.region.mask, nodule.region.mask)


@pytest.mark.parametrize(
    "points", [[(4, 7)], [(4, 7), (5, 7)], [(4, 7), (5, 8), (6, 9)], [(4, 7), (5, 7), (5, 8), (4, 8)]]
)
def test_an_outline_too_thin_to_have_an_inside_marks_its_own_pixels(points):
    found = Reading(SCAN, 0, (Contour(3, np.array(points, np.int16)),)).region
    marked = np.argwhere(found.mask) + found.corner
    assert sorted((x, y) for _, y, x in marked.tolist()) == sorted(points)


def test_a_hole_too_thin_to_have_an_inside_removes_nothing():
    whole = reading(0, left=0, top=0, side=12)
    thin = Contour(5, np.array([(4, 4), (5, 4), (6, 4)], np.int16), inclusion=False)
    np.testing.assert_array_equal(Reading(SCAN, 0, (*whole.contours, thin)).region.mask, whole.region.mask)


def test_the_diameter_is_thelongest_chord_of_the_inside():
    nodule = reading(0, left=0, top=0, side=12)
    assert nodule.diameter_mm == pytest.approx((11 * np.sqrt(2) - 1) * SCAN.pixel_spacing_mm)


@given(st.lists(st.tuples(*[st.integers(-200, 200)] * 2), min_size=1, max_size=30))
def test_thelongest_chord_is_that_of_all_pairs_of_points(points):
    xy = np.array(points, np.int16)
    longest = max(np.hypot(*(a - b)) for a in xy.astype(float) for b in xy.astype(float))
    found = Reading(SCAN, 0, (Contour(0, xy),)).diameter_mm
    assert found == pytest.approx(max(longest - 1, 1) * SCAN.pixel_spacing_mm)


@given(regions, regions)
def test_an_overlap_counts_the_voxels_that_both_mark(first, second):
    shared = int((on_canvas(first) & on_canvas(second)).sum())
    assert first.overlap(second) == second.overlap(first) == shared


@given(st.lists(st.tuples(*[st.integers(-4, 8)] * 2, st.integers(3, 7)), min_size=1, max_size=4), st.integers(1, 4))
def test_a_consensus_holds_the_voxels_that_so_many_readers_marked(squares, readers):
    nodule = AnnotatedNodule(
        tuple(reading(i, *where, slices=(5 + i % 2, 6 + i % 2)) for i, where in enumerate(squares))
    )
    votes = sum(on_canvas(r.region, (0, -10, -10)).astype(int) for r in nodule.readings)
    found = on_canvas(nodule.consensus(readers), (0, -10, -10))
    np.testing.assert_array_equal(found, votes >= readers)


def test_readings_that_overlap_or_nearly_touch_are_one_nodule_and_others_are_not():
    first, over, beside, away = (
        reading(0, 10, 10, 8),
        reading(1, 12, 12, 8),
        reading(2, 20, 12, 6),
        reading(3, 60, 10, 8),
    )
    assert readings_of(cluster([first, over, beside, away])) == readings_of(
        [AnnotatedNodule((first, over, beside)), AnnotatedNodule((away,))]
    )


def test_one_reader_never_sees_a_nodule_twice_however_much_the_readings_overlap():
    assert len(cluster([reading(0, 10, 10, 8), reading(0, 11, 11, 8)])) == 2


def test_of_two_readings_of_a_reader_the_one_that_overlaps_more_joins_the_other_readers_nodule():
    theirs, better, worse = reading(1, 10, 10, 12), reading(0, 11, 11, 12), reading(0, 17, 17, 12)
    for order in ([theirs, better, worse], [worse, better, theirs], [worse, theirs, better]):
        assert readings_of(cluster(order)) == {frozenset(map(id, (theirs, better))), frozenset([id(worse)])}


@pytest.mark.parametrize(
    ("name", "named", "agreed"),
    [
        ("calcification", (6, 6, 3, 6), 6),
        ("calcification", (3, 6), 6),
        ("calcification", (3, 3, 6), 3),
        ("calcification", (5, 3), 3),
        ("internal_structure", (1, 4), 1),
        ("internal_structure", (4, 2, 4), 4),
        ("texture", (5, 4), 4.5),
    ],
)
def test_of_ratings_that_name_kinds_there_is_no_mean(name, named, agreed):
    assert agreed_ratings({name: named}) == {name: agreed}


def test_a_store_of_means_of_kinds_is_read_as_what_its_readers_named():
    nodule = Nodule("01", (0, 0, 0), NoduleAttributes(calcification=5.25), ratings={"calcification": (6, 6, 3, 6)})
    assert Nodule.from_row(nodule.row()).attributes.calcification == 6


def test_a_kind_between_two_kinds_is_refused():
    with pytest.raises(InputError, match=r"calcification: found 5\.25; expected a whole number from 1 to 6"):
        check_attributes(NoduleAttributes(calcification=5.25))


def test_a_nodules_attributes_are_the_means_of_its_readings():
    nodule = AnnotatedNodule((reading(0, 10, 10, 8, ratings=2), reading(1, 10, 10, 10, ratings=5)))
    assert nodule.attributes.malignancy == 3.5
    assert nodule.attributes.diameter_mm == pytest.approx(np.mean([r.diameter_mm for r in nodule.readings]))


def test_the_table_holds_the_1018_scans_of_1010_patients_and_their_6859_readings(lidc_readings):
    readings = [r for scan in lidc_readings for r in scan]
    assert len(lidc_readings) == 1018
    assert len(readings) == 6859
    assert {r.reader for r in readings} == {0, 1, 2, 3}
    assert Counter(r.ratings["malignancy"] for r in readings) == {1: 1020, 2: 1580, 3: 2606, 4: 962, 5: 691}


def test_every_rating_but_one_of_lidcs_own_slips_is_on_its_scale(lidc_readings):
    top = dict.fromkeys(RATINGS, 5) | {"calcification": 6, "internal_structure": 4}
    off = [
        (r.scan.patient_id, name, value)
        for scan in lidc_readings
        for r in scan
        for name, value in r.ratings.items()
        if not 1 <= value <= top[name]
    ]
    assert off == [("LIDC-IDRI-0510", "internal_structure", 5)]


def test_every_contour_lies_in_its_scan(lidc_readings):
    for r in (r for scan in lidc_readings for r in scan):
        assert all(0 <= c.slice_index < r.scan.n_slices for c in r.contours)
        assert all(0 <= c.points_px.min() <= c.points_px.max() < 512 for c in r.contours)


def test_there_are_2670_nodules_of_which_909_were_seen_by_all_four_readers(lidc_nodules):
    seen_by = Counter(len(nodule.readings) for scan in lidc_nodules for nodule in scan)
    assert seen_by == {1: 785, 2: 490, 3: 486, 4: 909}


def test_no_nodule_of_the_table_holds_two_readings_of_one_reader(lidc_nodules):
    for nodule in (nodule for scan in lidc_nodules for nodule in scan):
        readers = [r.reader for r in nodule.readings]
        assert len(set(readers)) == len(readers), nodule.scan.patient_id


def test_every_reading_of_the_table_is_in_exactly_one_nodule(lidc_readings, lidc_nodules):
    for readings, nodules in zip(lidc_readings, lidc_nodules, strict=True):
        clustered = [id(r) for nodule in nodules for r in nodule.readings]
        assert sorted(clustered) == sorted(map(id, readings))


def test_the_order_of_the_readings_does_not_change_the_nodules(lidc_readings, lidc_nodules):
    for seed, k in enumerate(range(0, len(lidc_readings), 10)):
        order = np.random.default_rng(seed).permutation(len(lidc_readings[k]))
        shuffled = cluster([lidc_readings[k][i] for i in order])
        assert readings_of(shuffled) == readings_of(lidc_nodules[k])


@pytest.mark.real_data
def test_luna16_finds_the_same_nodules_with_the_same_ratings_at_the_same_height(real_data, lidc_nodules):
    nodules_of = defaultdict(list)
    for nodule in (nodule for scan in lidc_nodules for nodule in scan):
        nodules_of[nodule.scan.series_uid].append(nodule)
    with open(real_data / "luna16-nodules" / "nodules.csv", newline="") as file:
        rated = [row for row in csv.DictReader(file) if row["malignancy"]]

    def matches(row, nodule):
        (first_slice, _, _), votes = nodule.agreement
        middle = first_slice + (len(votes) - 1) / 2
        z_mm = nodule.scan.first_slice_z_mm + middle * nodule.scan.slice_spacing_mm
        ratings = sorted(r.ratings["malignancy"] for r in nodule.readings)
        near = abs(z_mm - (float(row["origin_z_mm"]) + 24.5)) <= 3
        return near and ratings == sorted(map(int, row["malignancy"].split()))

    found = [any(matches(row, nodule) for nodule in nodules_of[row["series_uid"]]) for row in rated]
    assert len(rated) > 900
    assert np.mean(found) >= 0.95


def xml_readings(file):
    """Of an LIDC XML file: its series, and reader, malignancy and contours of each large nodule."""
    root = ElementTree.parse(file).getroot()
    for element in root.iter():
        element.tag = element.tag.split("}")[-1]
    readings = []
    for reader, session in enumerate(root.findall("readingSession")):
        for nodule in session.findall("unblindedReadNodule"):
            if (malignancy := nodule.findtext("characteristics/malignancy")) is None:
                continue
            contours = {
                (
                    float(roi.findtext("imageZposition")),
                    frozenset((int(p.findtext("xCoord")), int(p.findtext("yCoord"))) for p in roi.findall("edgeMap")),
                )
                for roi in nodule.findall("roi")
            }
            readings.append((reader, int(malignancy), contours))
    return root.findtext(".//SeriesInstanceUid"), readings


@pytest.mark.real_data
@pytest.mark.parametrize("file", ["LIDC-IDRI-0001/069.xml", "LIDC-IDRI-0003/072.xml"])
def test_readers_outlines_and_ratings_are_those_of_the_original_xml(real_data, lidc_readings, file):
    series_uid, original = xml_readings(real_data / "lidc-scans" / file)
    ours = next(scan for scan in lidc_readings if scan and scan[0].scan.series_uid == series_uid)
    shipped = [
        (
            r.reader,
            r.ratings["malignancy"],
            {
                (
                    r.scan.first_slice_z_mm + c.slice_index * r.scan.slice_spacing_mm,
                    frozenset(map(tuple, c.points_px.tolist())),
                )
                for c in r.contours
            },
        )
        for r in ours
    ]
    assert len(shipped) == len(original) > 0
    assert all(reading in shipped for reading in original)
