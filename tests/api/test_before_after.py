"""Every edited scan comes with a picture of its nodules before and after the edit."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.image import imread

import synthorax as sx
from synthorax import figures
from synthorax.api.edit_session import EditSession
from synthorax.api.side_by_side import draw_sites
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.mappings import read_mapping
from tests.helpers.toy_makers import DenseBalls, Dots, LungFiller

LEFT, RIGHT = (-70.0, 2.0, 2.0), (70.0, -10.0, 20.0)
PICTURE = "before-after.png"


@pytest.fixture(scope="module")
def scans(chest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    write_image(folder / "chest.nii.gz", chest)
    write_ct_series(folder / "series", chest, mark=None)
    return folder


@pytest.mark.parametrize("scan", ["chest.nii.gz", "series"])
def test_an_injection_and_an_erasure_have_a_picture_with_a_row_for_each_nodule(scan, scans, tmp_path):
    made = sx.inject(scans / scan, Dots(), at_mm=[LEFT, RIGHT], diameter_mm=12, out=tmp_path / "two")
    sx.inject(scans / scan, Dots(), at_mm=LEFT, diameter_mm=12, out=tmp_path / "one")
    files = read_mapping(tmp_path / "one" / "manifest.json")["files"]
    assert files["picture"] == PICTURE
    one, two = imread(tmp_path / "one" / PICTURE), imread(tmp_path / "two" / PICTURE)
    assert two.shape[1:] == one.shape[1:]
    a_row = two.shape[0] - one.shape[0]
    assert 0 < one.shape[0] - a_row < a_row / 3  # the lines below
    half = one.shape[1] // 2
    assert abs(one[:, :half].mean() - one[:, half:].mean()) > 0.001  # the nodule is after, not before
    edited = tmp_path / "two" / files["scan"]
    where = [nodule.center_mm for nodule in made.nodules]
    sx.erase(edited, LungFiller(), at_mm=where, diameter_mm=12, out=tmp_path / "erased")
    erased = imread(tmp_path / "erased" / PICTURE)  # which needs no lines below
    assert erased.shape[0] == pytest.approx(2 * a_row, abs=4)  # rounding of captions


def test_the_cases_of_a_folder_and_a_session_have_it_too(scans, tmp_path):
    made = sx.inject_folder(scans, tmp_path / "cases", Dots(), auto=1, diameter_mm=12, workers=1)
    assert len(made.cases) == 2
    assert all((tmp_path / "cases" / case / PICTURE).is_file() for case in made.cases)
    session = EditSession(scans / "chest.nii.gz")
    session.inject(Dots(), at_mm=LEFT, diameter_mm=12)
    session.erase(LungFiller(), label=1)
    session.write(tmp_path / "nothing")
    assert not (tmp_path / "nothing" / PICTURE).exists()  # no nodule is left to show


def test_a_slice_has_a_bar_of_10_mm_and_the_outlines_of_both_kinds():
    hu, mask, other = np.zeros((40, 40)), np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    mask[18:22, 18:22], other[30:34, 30:34] = True, True
    shown = figures.Slice(hu, mask, "", (20, 20), others=other, pixel_mm=0.8)
    (axes,) = figures.ct_slices([shown], half=18, below="a line").axes
    (bar,) = axes.lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(10 / 0.8)
    assert [text.get_text() for text in axes.texts] == ["10 mm"]
    assert len([each for each in axes.collections if len(each.get_paths())]) == 2


def test_a_line_about_ratings_stands_only_below_a_picture_that_shows_some(chest, tmp_path, monkeypatch):
    said = []
    drawn = figures.ct_slices
    monkeypatch.setattr(figures, "ct_slices", lambda *slices, below, **how: said.append(below) or drawn(*slices, **how))
    for attributes in (sx.NoduleAttributes(), sx.NoduleAttributes(texture=5)):
        made = sx.inject(chest, DenseBalls(), at_mm=LEFT, diameter_mm=12, attributes=attributes)
        draw_sites(tmp_path / "picture.png", chest, {"": made})
    assert ["Ratings are those" in lines for lines in said] == [False, True]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_lines_below_the_pictures_are_as_wide_as_these_at_most(columns):
    shown = [figures.Slice(np.zeros((40, 40)), np.zeros((40, 40), bool), "", (20, 20))] * columns
    made = figures.ct_slices(shown, half=18, columns=columns, below="Line: mask.\n" + "of the outline or sample " * 9)
    made.draw_without_rendering()
    (text,) = made.texts
    assert text.get_text().startswith("Line: mask.\n")
    ends = text.get_window_extent().intervalx
    assert ends[0] >= 0
    assert ends[1] <= made.bbox.width
    assert text.get_window_extent().y1 < min(axes.get_window_extent().y0 for axes in made.axes)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn from here on."""
    kept, draw = [], figures.ct_slices
    monkeypatch.setattr(figures, "ct_slices", lambda *args, **more: kept.append(draw(*args, **more)) or kept[-1])
    return kept


def captions(figure):
    return [axes.get_title() for axes in figure.axes]


def test_the_captions_say_nodule_slice_method_diameters_and_kind(scans, drawn, tmp_path):
    kind = sx.NoduleAttributes(texture=1, malignancy=4)
    made = sx.inject(scans / "chest.nii.gz", "render", at_mm=LEFT, diameter_mm=12, attributes=kind, out=tmp_path / "in")
    mm, z = made.nodules[0].attributes.diameter_mm, made.ct.to_world(made.ct.to_voxel(LEFT).round())[2]
    before, after = captions(drawn[-1])
    assert before == f"nodule 01, before\naxial slice at z = {z:.1f} mm"
    assert after.splitlines() == [
        "made by render",
        f"mask of {mm:.1f} mm, 12 mm requested",
        f"ground-glass, malignancy {made.nodules[0].attributes.malignancy:.2g} of 5",
    ]
    sx.erase(tmp_path / "in" / "chest.nii.gz", LungFiller(), at_mm=LEFT, diameter_mm=12, out=tmp_path / "out")
    assert captions(drawn[-1])[1] == "erased by filler\na nodule of 12.0 mm"
    each = sx.inject_each(scans / "chest.nii.gz", [Dots(), "render"], at_mm=LEFT, diameter_mm=12, out=tmp_path / "each")
    assert [caption.splitlines()[0] for caption in captions(drawn[-1])[1:]] == [f"made by {name}" for name in each]


def test_no_caption_is_cut_off_or_covers_another_one(scans, drawn, tmp_path):
    scan = sx.read_scan(scans / "chest.nii.gz")
    made = sx.inject(scan, Dots(), at_mm=[LEFT, RIGHT], diameter_mm=12)
    worst = sx.NoduleAttributes(diameter_mm=12.25, texture=1, malignancy=11 / 3)
    nodules = [
        replace(one, attributes=worst, extra={"visible": "no", "wanted_diameter_mm": "12.3333"}) for one in made.nodules
    ]
    made = replace(made, nodules=tuple(nodules))
    draw_sites(tmp_path / "a.png", scan.ct, {"a-run-with-a-long-name-of-which-the-end-matters-1": made, "render": made})
    (figure,) = drawn
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 for box in boxes)
    panels = [axes.get_window_extent() for axes in figure.axes]
    assert not any(a.overlaps(b) for a, b in combinations([*boxes, *panels], 2))
