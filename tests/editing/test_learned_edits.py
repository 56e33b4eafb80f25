"""Edits of in-painters and generators, which work on a fixed grid, transferred to a scan's voxels."""

import re
from dataclasses import replace

import numpy as np
import pytest

from synthorax import hub
from synthorax.editing.blended import Blended
from synthorax.editing.learned import Learned
from synthorax.errors import InputError
from synthorax.makers import Edit, Lineage, Samples, fill
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec, ScaledPatch
from synthorax.scanner import Scanner
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

SCANNER = Scanner((0.7, 0.6), 20.0, 0.5, 0.7)
LUNG_HU = -860.0
SPEC = PatchSpec((32, 32, 32), (1.0, 1.0, 1.0))


def lung(spacing_mm=(1.5, 0.75, 0.75), width_mm=48, noise=True):
    shape = [2 * round(width_mm / s / 2) + 1 for s in spacing_mm]
    hu = np.full(shape, LUNG_HU, np.float32)
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    return Volume(hu + noise * SCANNER.noise(shape, spacing_mm, 9), spacing_mm, (10.0, -20.0, 30.0), turned)


def away_mm(shape, spacing_mm):
    return PatchSpec(shape, spacing_mm).distances_mm()


def in_painter(paint, **options):
    return Learned(
        paint,
        SPEC,
        name="toy",
        lineage=Lineage("toy"),
        heeds=frozenset({"diameter_mm"}),
        roles=frozenset({"injects", "erases"}),
        **options,
    )


def ball_of(hu, edit, value=0.0):
    ball = away_mm(hu.shape, SPEC.spacing_mm) <= edit.nodule.diameter_mm / 2
    return np.where(ball, value, hu).astype(np.float32), ball


def edited(method, patch, diameter_mm, kind="inject", mask=None, seed=3):
    region = away_mm(patch.shape, patch.spacing_mm) <= method.reach_mm(wish(diameter_mm))[1]
    return fill(method, patch, region, replace(wish(diameter_mm, kind), mask=mask), seed), region


def wish(diameter_mm, kind="inject"):
    return Edit(kind, NoduleAttributes(diameter_mm=diameter_mm))


@pytest.mark.parametrize("spacing_mm", [(1.5, 0.75, 0.75), (2.5, 0.9, 0.7), (0.6, 0.6, 0.6)])
def test_an_in_painted_ball_lies_in_the_middle_of_an_oblique_patch_and_is_as_wide_as_on_its_own_grid(spacing_mm):
    patch = lung(spacing_mm)
    made, _ = edited(in_painter(lambda hu, region, edit, seed: ball_of(hu, edit)), patch, 12)
    where = np.argwhere(made.mask)
    assert where.mean(0) == pytest.approx((np.array(patch.shape) - 1) / 2, abs=0.6)
    assert axial_diameter_mm(where, patch.spacing_mm) == pytest.approx(12, abs=1.5)
    core = away_mm(patch.shape, patch.spacing_mm) < 3.5
    assert made.hu[core].mean() == pytest.approx(0, abs=15)


@pytest.mark.parametrize("diameter_mm", [3.0, 6.0, 24.0])
def test_a_grid_that_grows_with_the_nodule_shows_nodules_of_every_diameter_alike(diameter_mm):
    scaled = ScaledPatch(PatchSpec((32, 32, 32), (0.25, 0.25, 0.25)), (2.0, 2.5, 3.0), coarsest=8.0)
    voxels = []

    def paint(hu, region, edit, seed):
        voxels.append(scaled.of_nodule(edit.diameter_mm).spacing_mm[0])
        ball = PatchSpec(hu.shape).distances_mm() <= edit.diameter_mm / voxels[-1] / 2
        return np.where(ball, 0, hu).astype(np.float32), ball

    patch = lung((0.75, 0.75, 0.75), 80)
    method = Learned(paint, scaled, name="toy", lineage=Lineage("toy"), heeds=frozenset(), roles=frozenset())
    made, region = edited(method, patch, diameter_mm)
    assert voxels == [max(2.5 * diameter_mm / 32, 0.25)]
    assert axial_diameter_mm(np.argwhere(made.mask), patch.spacing_mm) == pytest.approx(diameter_mm, abs=1.3)
    assert not (made.hu != patch.voxels)[~region].any()
    with pytest.raises(InputError, match=r"at most 25\.6 mm with toy"):
        method.reach_mm(wish(26))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda mask: mask[1:], r"\(31, 32, 32\) of bool"),
        (lambda mask: mask.astype(np.uint8), r"\(32, 32, 32\) of uint8"),
    ],
    ids=["shape", "type"],
)
def test_a_mask_that_is_not_on_the_grid_is_refused_by_the_name_of_the_in_painter(spoil, found):
    def paint(hu, region, edit, seed):
        made, ball = ball_of(hu, edit)
        return made, spoil(ball)

    size = re.escape(f"{SPEC.size} [z, y, x] of bool")
    with pytest.raises(InputError, match=f"toy: found a mask of shape {found}; expected a mask of shape {size}"):
        edited(in_painter(paint), lung(), 12)
    outlined = in_painter(lambda *given: ball_of(given[0], given[2]), outline=lambda region, *_: spoil(region))
    with pytest.raises(InputError, match=f"toy: found a mask of shape {found}; expected a mask of shape {size}"):
        edited(outlined, lung(), 12)


def test_beyond_a_patch_that_is_narrower_than_its_grid_an_in_painter_sees_the_patch_mirrored():
    seen = []

    def paint(hu, region, edit, seed):
        seen.append(hu)
        return ball_of(hu, edit)

    patch = lung((1.5, 0.75, 0.75), 15)
    made, _ = edited(in_painter(paint), patch, 6)
    assert seen[0].min() > LUNG_HU - 6 * SCANNER.noise_hu  # no air
    assert made.hu.shape == patch.shape


def test_what_an_in_painter_leaves_stays_to_the_bit_even_beyond_its_window_and_where_it_only_hums():
    patch = lung()
    patch.voxels[:, :8] = 900  # bone, of which the in-painter sees 400
    hum = np.random.default_rng(0).normal(0, 5, SPEC.size)
    made, _ = edited(in_painter(lambda hu, region, edit, seed: (hu.copy(), np.ones(hu.shape, bool))), patch, 12)
    assert (made.hu == patch.voxels).all()
    humming = in_painter(lambda hu, region, edit, seed: ((hu + hum).astype(np.float32), np.ones(hu.shape, bool)))
    assert abs(edited(humming, patch, 12)[0].hu - patch.voxels).max() < 5


def test_nothing_is_interpolated_where_a_scan_has_the_grids_voxels():
    patch = lung((1.0, 1.0, 1.0))
    assert patch.shape[0] % 2 == 1  # around a voxel, while the grid's middle is between two
    found = in_painter(lambda hu, region, edit, seed: ball_of(hu, edit))
    seen = found.on_grid(patch, np.ones(patch.shape, bool), wish(12), 0).before.voxels
    start = (patch.shape[0] - 1) // 2 - 15
    assert seen == pytest.approx(patch.voxels[(slice(start, start + 32),) * 3], abs=0.01)


def test_without_noise_a_method_gives_what_the_in_painter_made():
    patch = lung((1.0, 1.0, 1.0))
    method = in_painter(lambda hu, region, edit, seed: ball_of(hu, edit))
    core = away_mm(patch.shape, patch.spacing_mm) < 4
    assert edited(method.without_noise(), patch, 12)[0].hu[core] == pytest.approx(0, abs=1)
    assert edited(method, patch, 12)[0].hu[core].std() > 5


def test_what_was_replaced_has_the_noise_of_the_scan_once():
    patch = lung((1.0, 0.7, 0.7))
    core = away_mm(patch.shape, patch.spacing_mm) < 8
    deviations = {}
    for keeps, value in ((False, 0.0), (True, None)):  # a smooth ball, and a ball that keeps the noise it saw

        def paint(hu, region, edit, seed, value=value):
            ball = away_mm(hu.shape, SPEC.spacing_mm) <= edit.nodule.diameter_mm / 2
            return np.where(ball, hu + 860 if value is None else value, hu).astype(np.float32), ball

        made, _ = edited(in_painter(paint, keeps_noise=keeps), patch, 22)
        deviations[keeps] = made.hu[core].std()
    assert deviations[False] == pytest.approx(SCANNER.noise_hu, rel=0.2)  # measured in the flattest parts, it is less
    assert deviations[True] == pytest.approx(SCANNER.noise_hu, rel=0.15)


@pytest.mark.parametrize("spacing_mm", [(2.5, 0.7, 0.7), (1.0, 1.0, 1.0), (0.6, 0.6, 0.6)])
def test_an_erasure_leaves_nothing_of_a_nodule_that_is_sharper_than_the_in_painters_grid(spacing_mm):
    patch = lung(spacing_mm)
    away = away_mm(patch.shape, patch.spacing_mm)
    dense = replace(patch, voxels=patch.voxels + np.where(away < 3, 850, 0).astype(np.float32))

    def paint(hu, region, edit, seed):
        ball = away_mm(hu.shape, SPEC.spacing_mm) <= edit.nodule.diameter_mm / 2 + 3
        noise = SCANNER.noise(hu.shape, SPEC.spacing_mm, seed)
        return np.where(ball, LUNG_HU + noise, hu).astype(np.float32), None

    made, _ = edited(in_painter(paint, keeps_noise=True, ball_mm=lambda mm, spec: mm + 6), dense, 6, "erase")
    assert made.hu[away < 3].mean() == pytest.approx(LUNG_HU, abs=25)
    assert made.hu[away < 5].std() == pytest.approx(SCANNER.noise_hu, rel=0.5)


@pytest.mark.parametrize("spacing_mm", [(2.5, 0.7, 0.7), (1.25, 0.7, 0.7), (1.0, 1.0, 1.0), (0.6, 0.6, 0.6)])
def test_nothing_shines_through_a_nodule_that_replaced_a_vessel(spacing_mm):
    patch = lung(spacing_mm)
    z, y, _ = np.indices(patch.shape)
    middle = (np.array(patch.shape) - 1) / 2
    from_vessel = np.hypot((z - middle[0]) * spacing_mm[0], (y - middle[1]) * spacing_mm[1] - 2)  # mm
    crossed = replace(patch, voxels=patch.voxels + np.where(from_vessel < 1.2, 800, 0).astype(np.float32))

    def paint(hu, region, edit, seed):
        ball = away_mm(hu.shape, SPEC.spacing_mm) <= edit.nodule.diameter_mm / 2
        return np.where(ball, SCANNER.noise(hu.shape, SPEC.spacing_mm, seed), hu).astype(np.float32), ball

    made, _ = edited(in_painter(paint, keeps_noise=True), crossed, 20)
    core = away_mm(patch.shape, spacing_mm) < 7
    assert made.hu[core & (from_vessel < 1.2)].mean() == pytest.approx(0, abs=25)
    assert made.hu[core].std() == pytest.approx(SCANNER.noise_hu, rel=0.15)


def test_an_in_painters_own_noise_is_exchanged_for_that_of_the_scan_and_its_edges_stay():
    patch = lung((1.0, 1.0, 1.0))
    away = away_mm(patch.shape, patch.spacing_mm)

    def paint(hu, region, edit, seed):
        made, ball = ball_of(hu, edit)
        return (made + 40 * ball * generator(seed, "noise").standard_normal(hu.shape)).astype(np.float32), ball

    method = in_painter(paint)
    made, bare = edited(method, patch, 22)[0], edited(method.without_noise(), patch, 22)[0]
    assert bare.hu[away < 8].std() > 30
    assert made.hu[away < 8].std() == pytest.approx(SCANNER.noise_hu, rel=0.25)
    edges = [one.hu[away < 10].mean() - one.hu[(away > 12) & (away < 14)].mean() for one in (made, bare)]
    assert edges[0] == pytest.approx(edges[1], rel=0.02)


def test_an_in_painter_whose_masks_are_known_beforehand_makes_each_nodule_once_and_the_same():
    """It makes nodules narrower than asked for, so that the diameter is found by trying."""
    patch, filled = lung(), []

    def paint(hu, region, edit, seed):
        filled.append(edit.diameter_mm)
        return ball_of(hu, wish(0.8 * edit.diameter_mm))

    def outline(region, edit, seed):
        return ball_of(1.0 * region, wish(0.8 * edit.diameter_mm))[1]

    plain, _ = edited(in_painter(paint), patch, 10)
    assert len(filled) > 1
    filled.clear()
    known, _ = edited(in_painter(paint, outline=outline), patch, 10)
    assert len(filled) == 1
    assert known.hu.tobytes() == plain.hu.tobytes()
    assert (known.mask == plain.mask).all()


def test_an_outline_that_is_made_as_asked_for_is_the_nodules_to_the_voxel_though_the_grid_has_other_voxels():
    patch = lung()
    own = np.zeros(patch.shape, bool)
    own[tuple(slice(n // 2 - 3, n // 2 + 2) for n in patch.shape)] = True
    made, _ = edited(in_painter(lambda hu, region, edit, seed: (hu, edit.mask)), patch, 8, mask=own)
    assert (made.mask == own).all()
    other, _ = edited(in_painter(lambda hu, region, edit, seed: ball_of(hu, edit)), patch, 8, mask=own)
    assert (other.mask != own).any()


def test_an_erasure_comes_with_the_nodules_mask_on_the_in_painters_grid():
    patch = lung()
    ball = away_mm(patch.shape, patch.spacing_mm) <= 5
    patch.voxels[ball] = 30
    seen = []

    def erase(hu, region, edit, seed):
        seen.append(edit.mask)
        return np.where(away_mm(hu.shape, SPEC.spacing_mm) <= 7, LUNG_HU, hu).astype(np.float32), None

    made, region = edited(in_painter(erase), patch, 10, "erase", ball)
    assert seen[0].shape == SPEC.size
    assert seen[0].sum() == pytest.approx(ball.sum() * 1.5 * 0.75**2, rel=0.1)
    assert made.mask is None
    assert made.hu[ball].mean() == pytest.approx(LUNG_HU, abs=10)
    assert (made.hu == patch.voxels)[~region].all()


@pytest.mark.parametrize("spacing_mm", [(2.5, 0.8, 0.8), (5.0, 1.6, 1.6)])
@pytest.mark.parametrize("off", [0.8, 1.0, 1.25])
def test_a_nodule_has_the_diameter_on_the_voxels_of_the_scan_that_was_asked_for(spacing_mm, off):
    def paint(hu, region, edit, seed):
        half = np.multiply([0.5, 1, 1], off * edit.diameter_mm / 2)  # flat, as many nodules are
        z, y, x = np.indices(hu.shape) - (np.array(hu.shape).reshape(3, 1, 1, 1) - 1) / 2
        inside = (z / half[0]) ** 2 + (y / half[1]) ** 2 + (x / half[2]) ** 2 <= 1
        return np.where(inside, 0, hu).astype(np.float32), inside

    patch = lung(spacing_mm)
    made, _ = edited(in_painter(paint), patch, 10)
    assert axial_diameter_mm(np.argwhere(made.mask), patch.spacing_mm) == pytest.approx(10, abs=spacing_mm[1])
    assert made.attributes.diameter_mm == 10


@pytest.mark.parametrize("kind", ["in-painted", "blended"])
def test_a_nodule_narrower_than_slices_are_thick_is_refused_and_one_as_wide_has_voxels(kind):
    patch = lung((5.0, 0.8, 0.8))
    method = in_painter(lambda hu, region, edit, seed: ball_of(hu, edit)) if kind == "in-painted" else BLENDED
    with pytest.raises(InputError, match=r"4 mm; expected at least 5 mm with .*, since voxels are 5 x 0\.8 x 0\.8 mm"):
        edited(method, patch, 4)
    made, _ = edited(method, patch, 5)
    assert axial_diameter_mm(np.argwhere(made.mask), patch.spacing_mm) == pytest.approx(5, abs=1)


def test_a_nodule_whose_ball_the_grid_does_not_show_whole_is_refused():
    method = in_painter(lambda hu, region, edit, seed: ball_of(hu, edit), ball_mm=lambda mm, spec: mm + 6)
    assert method.reach_mm(wish(24))[1] == 16  # 30 of 32 mm
    with pytest.raises(InputError, match=r"24\.5 mm; expected at most 24 mm with toy"):
        method.reach_mm(wish(24.5))


class SoftBalls:
    """A generator whose nodule is a soft ball, `off` times as wide as asked, beside a wall in every second sample."""

    name, lineage, heeds = (
        "balls",
        Lineage("balls", "a" * 64, frozenset({"0" * 12})),
        frozenset({"diameter_mm", "texture"}),
    )
    roles, makes_empty, selects, spec = frozenset({"makes patches"}), False, False, SPEC

    def __init__(self, off=1.0, lung_hu=-820.0, masks=True):
        self.off, self.lung_hu, self.masks = off, lung_hu, masks

    def sample(self, asked, seed, options=None):
        away = away_mm(SPEC.size, SPEC.spacing_mm)
        ct, masks = [], []
        for i, (one,) in enumerate(asked):
            radius = one.diameter_mm * self.off / 2
            soft = 1 / (1 + np.exp((away - radius) / 0.4))
            tissue = -600.0 if one.texture == 1 else 20.0
            hu = (
                self.lung_hu
                + soft * (tissue - self.lung_hu)
                + np.random.default_rng([seed, i]).normal(0, 25, away.shape)
            )
            if i % 2:
                hu[..., : 16 - int(radius)] = 50
            ct.append(np.rint(hu).astype(np.int16))
            masks.append((away <= radius).astype(np.uint8))
        n = len(asked)
        nodules = tuple((Nodule("01", (0, 0, 0), replace(one, malignancy=4.0), 1),) for (one,) in asked)
        arrays = {"ct": np.stack(ct)} | ({"mask": np.stack(masks)} if self.masks else {})
        return iter([self.part(arrays, asked, nodules, n)])

    def select(self, asked, seed, options=None):
        raise InputError("selection", "balls", "a maker that selects")

    def part(self, arrays, asked, nodules, n):
        return Samples(arrays, np.arange(n), tuple(asked), nodules, ({},) * n, SPEC, self.lineage, (), n)


BLENDED = Blended(SoftBalls())


@pytest.mark.parametrize("off", [0.85, 1.0, 1.25])
def test_a_blended_nodule_has_the_diameter_asked_for_whatever_the_generator_makes_of_it(off):
    patch = lung()
    made, region = edited(Blended(SoftBalls(off)), patch, 12)
    assert axial_diameter_mm(np.argwhere(made.mask), patch.spacing_mm) == pytest.approx(12, abs=0.8)
    assert (made.hu == patch.voxels)[~region].all()
    assert made.attributes == NoduleAttributes(diameter_mm=12, malignancy=4.0)


def test_a_blended_nodule_has_no_box_no_halo_and_the_noise_of_the_scan_once():
    patch = lung((1.0, 0.7, 0.7))
    made, _ = edited(Blended(SoftBalls()), patch, 14)
    away = away_mm(patch.shape, patch.spacing_mm)
    change = made.hu - patch.voxels
    rings = [change[(away > r) & (away <= r + 1)].mean() for r in (10, 11, 12, 13, 14, 15)]
    assert max(map(abs, rings)) < 3  # the sample's lung is 40 HU denser than the scan's
    core = away < 5
    assert made.hu[core].mean() == pytest.approx(20, abs=25)
    assert made.hu[core].std() == pytest.approx(SCANNER.noise_hu, rel=0.15)


def test_ground_glass_lies_on_the_lung_of_the_scan():
    patch = lung()
    method = Blended(SoftBalls(lung_hu=-780.0))
    glass = Edit("inject", NoduleAttributes(diameter_mm=14, texture=1.0))
    made = fill(method, patch, np.ones(patch.shape, bool), glass, 1)
    core = away_mm(patch.shape, patch.spacing_mm) < 4
    expected = -600 + (LUNG_HU + 780) * 630 / 810  # the lung in a voxel of glass is the scan's
    assert made.hu[core].mean() == pytest.approx(expected, abs=20)


def test_what_is_denser_in_the_scan_than_the_nodule_stays():
    patch = lung()
    patch.voxels[..., : patch.shape[2] // 2] = 700
    made, _ = edited(Blended(SoftBalls()), patch, 14)
    wall = np.zeros(patch.shape, bool)
    wall[..., : patch.shape[2] // 2 - 5] = True
    assert (made.hu == patch.voxels)[wall].all()


def test_a_blend_depends_on_its_own_patch_and_seed_alone_and_another_seed_gives_another():
    patch, other = lung(width_mm=30), lung((1.0, 1.0, 1.0), 24)
    method, every = Blended(SoftBalls()), [np.ones(p.shape, bool) for p in (patch, other)]
    both = method.fill_many([other, patch], every[::-1], [wish(8), wish(10)], [5, 6])
    assert (both[1].hu == fill(method, patch, every[0], wish(10), 6).hu).all()
    assert (both[1].hu != fill(method, patch, every[0], wish(10), 7).hu).any()


def test_generators_of_patches_inject_and_those_without_masks_say_so():
    method = hub.find(SoftBalls(), "injects")
    assert method.lineage == SoftBalls.lineage
    with pytest.raises(InputError, match="samples without masks; expected"):
        edited(hub.find(SoftBalls(masks=False), "injects"), lung(), 10)
    with pytest.raises(InputError, match=r"at most 40\.5 mm with balls"):
        method.reach_mm(wish(50))


def test_an_in_painter_that_returns_the_output_of_a_network_is_refused():
    def forgot(hu, region, edit, seed):
        noise = np.random.default_rng(seed).uniform(-1, 1, hu.shape).astype(np.float32)
        return np.where(region, noise, hu), ball_of(hu, edit)[1]

    said = "HU of the in-painter from -1 to 1, the range of a network's output; expected HU, into which PatchSpec.to_hu"
    with pytest.raises(InputError, match=re.escape(said)):
        edited(in_painter(forgot), lung(), 8.0)
