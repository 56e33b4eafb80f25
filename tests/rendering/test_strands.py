"""Strands that lead away from a nodule: how they bend and taper, and where they end."""

from dataclasses import replace

import numpy as np
import pytest

from synthorax.nodule import NoduleAttributes
from synthorax.rendering.appearance import draw_appearance
from synthorax.rendering.solid import solid_of_mask
from synthorax.rendering.strands import draw_strands, find_ends, share_of
from synthorax.volume import Volume

LUNG_HU = -850.0
MM = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def solid(ball):
    return solid_of_mask(Volume(ball(10, (15, 15, 15), MM), MM))


@pytest.fixture
def patch():
    """Lung of 51 mm with a vessel of 3 mm along z, 10 mm beside the middle, and a wall from 9 mm on."""
    hu = np.full((51, 51, 51), LUNG_HU, np.float32)
    hu[:, 24:27, 34:37] = 30.0
    hu[:, 34:] = 40.0
    return Volume(hu, MM)


def appearance(**strands):
    drawn = draw_appearance(NoduleAttributes(diameter_mm=10.0), np.random.default_rng(0))
    return replace(drawn, **{"spicules": 0, "tags": 0, "vessels": 0} | strands)


def test_vessels_are_told_from_the_wall(solid, patch):
    ends = find_ends(patch, solid, 20.0)
    assert ends.vessels[:, 2].min() >= 8
    assert ends.vessels[:, 1].max() < 8
    assert ends.wall[:, 1].min() >= 8


@pytest.mark.parametrize(("kind", "axis"), [("vessels", 2), ("tags", 1)])
def test_a_strand_leads_from_the_nodule_to_a_vessel_or_to_the_wall(solid, patch, kind, axis):
    (strand,) = draw_strands(solid, appearance(**{kind: 1}), patch, 20.0, np.random.default_rng(1))
    assert np.linalg.norm(strand.points_mm[0]) < 5.5
    assert strand.points_mm[-1, axis] >= 8


def test_without_a_vessel_no_strand_leads_to_one(solid):
    empty = Volume(np.full((51, 51, 51), LUNG_HU, np.float32), MM)
    assert draw_strands(solid, appearance(vessels=3, tags=3), empty, 20.0, np.random.default_rng(1)) == []


def test_spicules_bend_taper_and_differ_in_length(solid, patch):
    strands = draw_strands(solid, appearance(spicules=30), patch, 30.0, np.random.default_rng(2))
    assert len(strands) == 30
    chords = [np.linalg.norm(s.points_mm[-1] - s.points_mm[0]) for s in strands]
    paths = [np.linalg.norm(np.diff(s.points_mm, axis=0), axis=1).sum() for s in strands]
    assert np.quantile(np.divide(paths, chords), 0.8) > 1.02
    assert max(chords) > 2 * min(chords)
    assert all((np.diff(s.radii_mm) < 0).all() for s in strands)


def test_no_strand_leads_further_than_it_may(solid, patch):
    strands = draw_strands(solid, appearance(spicules=30, tags=3, vessels=3), patch, 9.0, np.random.default_rng(3))
    assert max(np.linalg.norm(s.points_mm[-1]) for s in strands) <= 9.01


def test_strands_fill_the_parts_of_voxels_that_they_cross(solid, patch):
    (strand,) = draw_strands(solid, appearance(vessels=1), patch, 20.0, np.random.default_rng(1))
    axis = np.arange(-20, 20.1, 0.5)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).astype(np.float32)
    share = share_of(points, [strand], 0.5)
    length = np.linalg.norm(np.diff(strand.points_mm, axis=0), axis=1)
    areas = np.pi * ((strand.radii_mm[:-1] + strand.radii_mm[1:]) / 2) ** 2
    caps = 2 / 3 * np.pi * (strand.radii_mm[0] ** 3 + strand.radii_mm[-1] ** 3)
    assert share.sum() * 0.5**3 == pytest.approx((length * areas).sum() + caps, rel=0.1)
    assert share[np.linalg.norm(points, axis=0) > 19].max() == 0
