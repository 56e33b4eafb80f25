"""Nodules rendered into lung: width, density, partial volume, and unchanged voxels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from synthorax.annotations.lidc_table import draw_reading, lidc_patients
from synthorax.errors import InputError
from synthorax.makers import Edit, fill
from synthorax.nodule import NoduleAttributes
from synthorax.rendering.appearance import draw_appearance
from synthorax.rendering.config import Options
from synthorax.rendering.maker import maker
from synthorax.rendering.renderer import Renderer, fitted, outlined, render
from synthorax.rendering.shapes import LidcOutlines, OneShape
from synthorax.rendering.solid import solid_of_mask, turned
from synthorax.scanner import Scanner
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

SCANNER = Scanner((0.7, 0.6), 15.0, 0.5, 0.7)
LUNG_HU = -860
SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (0.6, 0.6, 0.6)]
PLAIN = {"margin": 5.0, "spiculation": 1.0, "lobulation": 1.0, "calcification": 6.0, "internal_structure": 1.0}


def lung(spacing_mm=(1.0, 1.0, 1.0), width_mm=60, noise=True):
    """A patch of lung with nothing in it."""
    shape = [2 * round(width_mm / s / 2) + 1 for s in spacing_mm]
    hu = np.full(shape, LUNG_HU, np.float32)
    return Volume(hu + SCANNER.noise(shape, spacing_mm, 9) * noise, spacing_mm)


def ball_mask(ball, diameter_mm, spacing_mm=(0.5, 0.5, 0.5)):
    n = int(diameter_mm / spacing_mm[0]) + 5
    return Volume(ball(diameter_mm, (n, n, n), spacing_mm), spacing_mm)


def fill_one(method, patch, region, attributes, seed):
    return fill(method, patch, region, Edit("inject", attributes), seed)


def filled(patch, seed=0, region=None, **attributes):
    """Return a patch with a rendered nodule of LIDC; the region is the whole patch unless another one is given."""
    region = np.ones(patch.shape, bool) if region is None else region
    return fill_one(Renderer(scanner=SCANNER), patch, region, NoduleAttributes(**attributes), seed)


def shell(mask, spacing_mm=(1.0, 1.0, 1.0)):
    """Millimetres from a mask's edge, inside negative."""
    return np.where(mask, -distance_transform_edt(mask, spacing_mm), distance_transform_edt(~mask, spacing_mm))


# Shape


def test_a_shape_knows_its_distance(ball):
    solid = solid_of_mask(ball_mask(ball, 12), 12)
    radii = np.array([0, 2, 5, 8, 20.0])
    found = solid.at(np.array([radii * 0, radii * 0.6, radii * 0.8]))
    assert found == pytest.approx(radii - 6, abs=0.75)  # to the nearest of its voxels outside
    assert solid.depth_mm == pytest.approx(6, abs=0.75)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("diameter_mm", [4, 9, 22])
def test_a_mask_has_the_diameter_that_was_asked_for_on_any_slices(spacing_mm, diameter_mm):
    patch = lung(spacing_mm, 70, noise=False)
    for seed in range(3):
        mask = filled(patch, seed, diameter_mm=diameter_mm).mask
        found = axial_diameter_mm(np.argwhere(mask), spacing_mm)
        assert found == pytest.approx(diameter_mm, abs=max(0.12 * diameter_mm, 1.3 * spacing_mm[1]))


def test_turning_and_mirroring_leave_the_diameter(ball):
    patch = lung((0.6, 0.6, 0.6), noise=False)
    reading = draw_reading(NoduleAttributes(diameter_mm=14, spiculation=3), 4)
    solid = solid_of_mask(Volume(reading.region.mask, reading.scan.voxel_mm), 14)
    volumes, widths = [], []
    for seed in range(4):
        mask = outlined(turned(solid, np.random.default_rng(seed)), patch)
        volumes.append(mask.sum())
        widths.append(axial_diameter_mm(np.argwhere(mask), patch.spacing_mm))
    assert np.ptp(widths) < 1.3
    assert np.std(volumes) / np.mean(volumes) < 0.03
    assert np.mean(widths) == pytest.approx(14, abs=0.8)


def test_of_an_empty_mask_there_is_no_shape():
    with pytest.raises(InputError, match="no voxel"):
        solid_of_mask(Volume(np.zeros((3, 3, 3), bool), (1.0, 1.0, 1.0)))


def test_a_shape_is_fitted_to_thick_slices(ball):
    patch = lung((5.0, 0.7, 0.7), noise=False)
    solid = solid_of_mask(ball_mask(ball, 6), 6)
    mask = outlined(fitted(solid, patch, 6), patch)
    assert axial_diameter_mm(np.argwhere(mask), patch.spacing_mm) == pytest.approx(6, abs=0.8)


# Density


@pytest.mark.parametrize(
    ("texture", "low", "high", "spread"),
    [(5, -60, 100, (10, 60)), (1, -750, -250, (60, 180))],
    ids=["solid", "ground glass"],
)
def test_the_inside_is_as_dense_as_its_texture_says_and_nodules_differ(ball, texture, low, high, spread):
    renderer = Renderer(OneShape(ball_mask(ball, 16)), SCANNER)
    means = []
    for seed in range(12):
        patch = lung()
        made = fill_one(
            renderer, patch, np.ones(patch.shape, bool), NoduleAttributes(16, texture=texture, **PLAIN), seed
        )
        means.append(made.hu[shell(made.mask) < -4].mean())
    assert low < min(means) <= max(means) < high
    assert spread[0] < np.std(means) < spread[1]


def test_a_part_solid_nodule_has_a_core_and_a_haze(ball):
    patch = lung()
    renderer = Renderer(OneShape(ball_mask(ball, 20)), SCANNER)
    made = fill_one(renderer, patch, np.ones(patch.shape, bool), NoduleAttributes(20, texture=3, **PLAIN), 1)
    deep = shell(made.mask)
    assert made.hu[deep < -8].mean() > -60
    assert -700 < made.hu[(deep < -1.5) & (deep > -3)].mean() < -250


@pytest.mark.parametrize(
    ("attributes", "holds"),
    [
        ({"calcification": 3}, lambda hu, deep: hu[deep < -2].mean() > 400),
        ({"calcification": 5}, lambda hu, deep: hu[deep < -6].mean() > 400 > hu[(deep > -3) & (deep < -1.5)].mean()),
        ({"calcification": 1}, lambda hu, deep: hu[deep < -2].max() > 300 > np.median(hu[deep < -2])),
        ({"calcification": 2}, lambda hu, deep: hu[deep < -1].std() > 150),
        ({"calcification": 4}, lambda hu, deep: hu[deep < -1].max() > 300 > np.median(hu[deep < -1])),
        (
            {"internal_structure": 4},
            lambda hu, deep: hu[deep < -6].mean() < -500 < hu[(deep > -3) & (deep < -2)].mean(),
        ),
        ({"internal_structure": 3}, lambda hu, deep: -150 < hu[deep < -4].mean() < -50),
        ({"internal_structure": 2}, lambda hu, deep: -30 < hu[deep < -4].mean() < 30),
    ],
    ids=lambda value: "-".join(f"{k}-{v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_what_is_inside_is_where_its_rating_says(ball, attributes, holds):
    patch = lung()
    wanted = NoduleAttributes(18, texture=5, **PLAIN | attributes)
    made = fill_one(Renderer(OneShape(ball_mask(ball, 18)), SCANNER), patch, np.ones(patch.shape, bool), wanted, 2)
    assert holds(made.hu, shell(made.mask))


def test_a_vague_margin_is_wider_than_a_sharp_one(ball):
    renderer = Renderer(OneShape(ball_mask(ball, 14)), SCANNER)

    def slope(margin):
        patch = lung(noise=False)
        wanted = NoduleAttributes(14, texture=5, **PLAIN | {"margin": margin})
        made = fill_one(renderer, patch, np.ones(patch.shape, bool), wanted, 0)
        return abs(np.diff(made.hu[30, 30])).max()

    assert slope(5) > 1.3 * slope(1)


def test_spicules_reach_beyond_the_outline(ball):
    renderer = Renderer(OneShape(ball_mask(ball, 14)), SCANNER)

    def tissue_outside(spiculation):
        found = []
        for seed in range(4):
            patch = lung(noise=False)
            wanted = NoduleAttributes(14, texture=5, **PLAIN | {"spiculation": spiculation})
            made = fill_one(renderer, patch, np.ones(patch.shape, bool), wanted, seed)
            around = (shell(made.mask) > 3) & (shell(made.mask) < 8)
            found.append((made.hu[around] > LUNG_HU + 100).mean())
        return np.mean(found)

    assert tissue_outside(1) < 0.005
    assert tissue_outside(5) > 0.02


def test_strands_of_pure_ground_glass_are_fainter_than_those_of_solid_nodules(ball):
    renderer = Renderer(OneShape(ball_mask(ball, 14)), SCANNER)

    def densest_strand(texture):
        patch = lung(noise=False)
        wanted = NoduleAttributes(14, texture=texture, **PLAIN | {"spiculation": 5.0})
        made = fill_one(renderer, patch, np.ones(patch.shape, bool), wanted, 1)
        return np.quantile(made.hu[(shell(made.mask) > 3) & (shell(made.mask) < 5)], 0.999)

    assert densest_strand(5) > -500
    assert densest_strand(1) < densest_strand(5) - 100


def test_thick_slices_show_the_same_tissue_as_thin_ones(ball, monkeypatch):
    """Partial volume: whatever the voxels, they add up to the nodule; its rough edge is drawn anew on each grid."""
    monkeypatch.setattr("synthorax.rendering.renderer.BUMP_MM", 1e-6)
    monkeypatch.setattr("synthorax.rendering.renderer.DENT_MM", 1e-6)

    def mass(spacing_mm):
        patch = lung(spacing_mm, noise=False)
        # Off the middle of a voxel: there a ball's edge meets all parts of voxels alike.
        solid = replace(solid_of_mask(ball_mask(ball, 8), 8), offset_mm=(0.13, 0.21, 0.08))
        appearance = draw_appearance(NoduleAttributes(8, texture=5, **PLAIN), np.random.default_rng(0))
        quiet = Scanner((0.5, 0.5), 0.0)
        hu, _ = render(patch, np.ones(patch.shape, bool), solid, appearance, quiet, 0)
        return (hu - patch.voxels).sum() * np.prod(spacing_mm)

    masses = [mass(spacing_mm) for spacing_mm in [(0.5, 0.5, 0.5), *SPACINGS, (4.0, 0.8, 0.8)]]
    assert np.ptp(masses) / np.mean(masses) < 0.08
    whole = 4 / 3 * np.pi * 4**3 * (35 - LUNG_HU)
    assert whole * 0.6 < np.mean(masses) < whole * 1.3


# What is there already


def test_vessels_wall_and_bone_stay_under_a_nodule(ball):
    patch = lung(noise=False)
    patch.voxels[:, 38:] = 45.0
    patch.voxels[:, 44:48] = 700.0
    patch.voxels[28:31, :, 24:27] = 40.0  # a vessel through it
    renderer, everywhere = Renderer(OneShape(ball_mask(ball, 18)), SCANNER), np.ones(patch.shape, bool)
    made = fill_one(renderer, patch, everywhere, NoduleAttributes(18, texture=5, **PLAIN), 1)
    assert (abs(made.hu - patch.voxels)[:, 44:48] < 1).all()
    assert abs(made.hu - patch.voxels)[:, 40:43].mean() < 30
    haze = fill_one(renderer, patch, everywhere, NoduleAttributes(18, texture=1, **PLAIN), 1)
    inside = shell(haze.mask) < -1
    vessel = np.zeros(patch.shape, bool)
    vessel[28:31, :, 24:27] = True
    assert (inside & vessel).sum() > 5
    assert haze.hu[inside & vessel].mean() > haze.hu[inside & ~vessel].mean() + 400


def test_outside_its_region_nothing_changes():
    patch = lung()
    region = np.zeros(patch.shape, bool)
    region[24:36, 22:34, 26:38] = True
    made = filled(patch, 3, region, diameter_mm=16, texture=5, spiculation=5)
    assert (made.hu[~region] == patch.voxels[~region]).all()
    assert not made.mask[~region].any()
    assert (made.hu[region] != patch.voxels[region]).mean() > 0.5


def test_a_nodule_is_as_noisy_as_the_patch(ball):
    patch = lung(width_mm=90)
    made = fill_one(
        Renderer(OneShape(ball_mask(ball, 24))),
        patch,
        np.ones(patch.shape, bool),
        NoduleAttributes(24, texture=5, **PLAIN),
        1,
    )
    inside = shell(made.mask) < -4
    fine = np.diff(made.hu, axis=2)[:, :, 1:][inside[:, :, 2:]]
    around = np.diff(patch.voxels, axis=2)
    assert fine.std() == pytest.approx(around.std(), rel=0.35)


def test_the_same_seed_gives_the_same_nodule_and_another_another():
    patch = lung()
    first, again, other = (filled(patch, seed, diameter_mm=9) for seed in (4, 4, 5))
    assert (first.hu == again.hu).all()
    assert first.attributes == again.attributes
    assert (first.mask != other.mask).any()


def test_without_a_diameter_there_is_no_nodule():
    with pytest.raises(InputError, match="no diameter"):
        filled(lung(), texture=5)


# Shapes of readers


def test_outlines_are_drawn_by_likeness():
    for wanted in (NoduleAttributes(8, spiculation=5), NoduleAttributes(20, lobulation=4), NoduleAttributes(5)):
        drawn = [draw_reading(wanted, seed) for seed in range(12)]
        assert len({(r.scan.series_uid, r.reader, r.contours[0].slice_index) for r in drawn}) > 6
        assert all(0.6 < r.diameter_mm / wanted.diameter_mm < 1.6 for r in drawn)
        for name in ("spiculation", "lobulation"):
            if (value := getattr(wanted, name)) is not None:
                assert abs(np.mean([r.ratings[name] for r in drawn]) - value) < 1


def test_of_nothing_wanted_all_sizes_are_drawn():
    drawn = [draw_reading(NoduleAttributes(), seed).diameter_mm for seed in range(60)]
    assert min(drawn) < 6
    assert max(drawn) > 18


def test_only_allowed_patients_give_outlines():
    some = lidc_patients()[100:130]
    drawn = {draw_reading(NoduleAttributes(9), seed, some).scan.patient_id for seed in range(20)}
    assert drawn <= set(some)
    with pytest.raises(InputError, match="LIDC"):
        draw_reading(NoduleAttributes(9), 0, ["nobody"])
    shape = LidcOutlines(some)(NoduleAttributes(9), 1)
    assert shape.mask.voxels.any()
    assert shape.attributes.malignancy is not None
    assert shape.origin in some


def test_patients_are_listed_with_commas_or_in_a_file(tmp_path):
    file = tmp_path / "patients.txt"
    file.write_text("LIDC-IDRI-0003\nLIDC-IDRI-0013\n")
    listed = Path("LIDC-IDRI-0003,LIDC-IDRI-0013")
    assert maker(Options(patients=listed)).lineage == maker(Options(patients=file)).lineage
    with pytest.raises(InputError, match="1 ids that LIDC-IDRI does not have, such as 'ann'"):
        maker(Options(patients=Path("LIDC-IDRI-0003,ann")))
    with pytest.raises(InputError, match="expected ids of patients such as LIDC-IDRI-0001 with commas between them"):
        maker(Options(patients=tmp_path / "none.txt"))
