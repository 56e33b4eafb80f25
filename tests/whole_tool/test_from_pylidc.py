"""The page on pylidc: its code runs, and its statements on both programs' rules are true."""

import numpy as np
import pytest

from synthorax.annotations.clustering import AnnotatedNodule
from synthorax.annotations.reading import AnnotatedScan, Contour, Reading
from synthorax.io.images import write_image
from synthorax.nodule import RATINGS
from synthorax.volume import Volume
from tests.helpers.foreign_files import lidc_xml
from tests.helpers.pages import follow

SERIES = "1.2.3.4"


def outline(low, high):
    """The outline (x, y) of a square, each of its pixels: the nodule is what lies within."""
    side = range(low, high)
    return [
        *((low, i) for i in side),
        *((i, high) for i in side),
        *((high, high + low - i) for i in side),
        *((high + low - i, low) for i in side),
    ]


def test_every_step_of_the_page_works(tmp_path):
    folder = tmp_path / "LIDC-IDRI" / "LIDC-IDRI-9999"
    folder.mkdir(parents=True)
    voxels = np.random.default_rng(0).integers(-1000, 100, (8, 40, 40)).astype(np.int16)
    write_image(folder / "ct.nii.gz", Volume(voxels, (2.0, 0.7, 0.7), (-10.0, -20.0, 100.0)))
    both = {104.0: outline(10, 20), 106.0: outline(10, 20)}
    (folder / "1.xml").write_text(lidc_xml([both, both], SERIES))
    follow("from-pylidc.md", tmp_path)


@pytest.fixture
def scan():
    return AnnotatedScan("P", "", SERIES, 0.7, 2.0, 2.0, 100.0, 8)


def reading(scan, reader, low, high):
    contours = (Contour(3, np.array(outline(low, high), np.int16)),)
    return Reading(scan, reader, contours, dict.fromkeys(RATINGS, 3))


def test_the_diameter_is_a_pixel_less_than_from_outline_to_outline(scan):
    one = reading(scan, 0, 10, 20)
    assert one.region.mask.sum() == 9 * 9
    assert one.diameter_mm + scan.pixel_spacing_mm == pytest.approx(np.hypot(10, 10) * 0.7)


def test_consensus_is_of_readers_not_of_a_share_of_those_who_saw_the_nodule(scan):
    first, second = reading(scan, 0, 10, 20), reading(scan, 1, 10, 16)
    seen = AnnotatedNodule((first, second))
    assert seen.consensus(2).voxels == 5 * 5
    assert seen.consensus(-(-len(seen.readings) // 2)).voxels == 9 * 9  # pylidc's clevel=0.5: of one of two
    assert AnnotatedNodule((first,)).consensus(2).voxels == 0
