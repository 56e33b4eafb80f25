"""The study of in-painting distinguishes an in-painter that equals real nodules from in-painters that fail silently."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.makers import Lineage
from synthorax.metrics.appearance import Nodules
from synthorax.nodule import NoduleAttributes
from synthorax.studies.in_painting import RealNodules, in_painting_figures
from synthorax.studies.painted import HealthySite, Painted, painted
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.toy_makers import Dots

MM = (1.0, 1.0, 1.0)
SHAPE = (26, 26, 26)
REGION = ball_mask(SHAPE, 22)
ASKED = NoduleAttributes(10.0, texture=5.0)
SITES = 10


def lump(random):
    """The mask of a nodule of about 10 mm with an uneven surface."""
    away = np.sqrt(((np.indices(SHAPE) - 12.5) ** 2).sum(0))
    field = gaussian_filter(random.standard_normal(SHAPE), 3.0)
    return (away + field / field.std() < 5.5) & (away < 9)


def lung(random, noise_hu=25.0):
    return random.normal(-850, noise_hu, SHAPE)


def with_nodule(hu, mask, random, noise_hu=25.0):
    share = gaussian_filter(mask.astype(float), 0.6)
    return hu + share * (random.normal(30, noise_hu, SHAPE) - hu)


@pytest.fixture(scope="module")
def real():
    random = np.random.default_rng(0)
    masks = np.stack([lump(random) for _ in range(24)])
    hu = np.stack([with_nodule(lung(random), mask, random) for mask in masks])
    return RealNodules(Nodules(hu, masks, MM), [ASKED] * 24, np.array([f"R{i // 2}" for i in range(24)]))


def in_painted(one_shape=False, nodule_noise_hu=25.0, lung_noise_hu=25.0, lung_more_hu=0.0, ball_more_hu=0.0, seed=1):
    """Two seeds at ten sites, by an in-painter that paints all of the region anew."""
    random = np.random.default_rng(seed)
    before, after, masks = [], [], []
    for _ in range(SITES):
        scan, shapes = lung(random), [lump(random) for _ in range(2)]
        for shape in shapes[:1] * 2 if one_shape else shapes:
            paint = np.where(REGION, lung(random, lung_noise_hu) + lung_more_hu, scan)
            before.append(scan)
            paint = paint + ball_more_hu * ball_mask(SHAPE, 16)
            after.append(with_nodule(paint, shape, random, nodule_noise_hu))
            masks.append(shape)
    return Painted(
        before=np.stack(before),
        after=np.stack(after),
        regions=np.repeat(REGION[None], 2 * SITES, 0),
        masks=np.stack(masks),
        sites=np.repeat(np.arange(SITES), 2),
        seeds=np.tile([0, 1], SITES),
        asked=[ASKED] * SITES,
        patients=np.array([f"P{i}" for i in range(SITES)]),
        spacing_mm=MM,
    )


def missed(made, real):
    """The first words of the goals that are missed."""
    return {sentence.split()[0] for sentence in in_painting_figures(made, real).missed()}


def test_an_in_painter_as_good_as_real_nodules_reaches_every_goal(real):
    found = in_painting_figures(in_painted(), real)
    assert found.missed() == ()
    for figure in (
        found.seam,
        found.inner_seam,
        found.diversity_hu,
        found.diversity_shape,
        found.texture_to_real,
        found.lung,
    ):
        assert figure.estimate.low < figure.estimate.value < figure.estimate.high
        assert figure.estimate.value == pytest.approx(1, abs=0.2)
    assert (found.seam.n, found.diversity_hu.n, found.texture.n, found.lung.n) == (20, 10, 20, 20)
    assert found.texture_bare.estimate is None


def test_one_nodule_for_all_seeds_misses_diversity_alone_though_its_noise_differs(real):
    assert missed(in_painted(one_shape=True), real) == {"diversity_hu", "diversity_shape"}


def test_a_smooth_nodule_and_smooth_lung_miss_the_texture_and_a_step_at_the_border_the_seam(real):
    assert missed(in_painted(nodule_noise_hu=5), real) == {"texture_to_real"}
    assert missed(in_painted(lung_noise_hu=5), real) == {"lung"}
    assert missed(in_painted(lung_more_hu=15), real) == {"seam", "inner_seam"}


def test_the_edge_of_the_ball_that_was_filled_is_a_seam_inside_the_region(real):
    assert missed(in_painted(ball_more_hu=30), real) == {"inner_seam"}


def test_texture_is_given_with_the_noise_put_back_in_and_without(real):
    made = in_painted()
    smooth = in_painted(nodule_noise_hu=2.5, lung_noise_hu=5)
    found = in_painting_figures(replace(made, bare=smooth.after), real)
    assert found.texture_to_real.estimate.value == pytest.approx(1, abs=0.15)
    assert found.texture_bare_to_real.estimate.value == pytest.approx(0.1, abs=0.05)
    assert found.lung_bare.estimate.value == pytest.approx(0.2, abs=0.05)


def test_figures_that_nothing_can_be_told_of_are_none_and_named(real):
    unlike = replace(real, attributes=[NoduleAttributes(30.0)] * 24)
    found = in_painting_figures(in_painted(), unlike)
    assert (found.diversity_hu.n, found.diversity_hu.estimate, found.texture_to_real.estimate) == (0, None, None)
    assert found.missed()[0] == (
        "diversity_hu could not be measured on 0 patches or sites; the goal is at least 0.7 of real pairs' distance"
    )


def test_nodules_are_painted_into_the_middle_of_patches_that_change_in_their_region_alone():
    random = np.random.default_rng(0)
    cubes = [Volume(random.normal(-850, 25, (40, 40, 40)).astype(np.int16), MM) for _ in range(2)]
    sites = [
        HealthySite(cubes[0], (20.0, 20.0, 20.0), ASKED, "a"),
        HealthySite(cubes[1], (20.0, 20.0, 8.0), replace(ASKED, diameter_mm=5.0), "b"),
    ]
    made = painted(Dots(), sites, (0, 7), (24, 24, 24), bare=Dots())
    assert (made.sites.tolist(), made.seeds.tolist()) == ([0, 0, 1, 1], [0, 7, 0, 7])
    assert made.owners.tolist() == ["a", "a", "b", "b"]
    assert (made.before == made.after)[~made.regions].all()
    assert np.argwhere(made.masks[0]).mean(0) == pytest.approx([12, 12, 12])
    assert np.argwhere(made.masks[2]).mean(0) == pytest.approx([8, 12, 12])  # moved into the scan
    assert made.masks[0].sum() > 3 * made.masks[2].sum()
    near = made.around(made.masks, (9, 9, 9))
    assert np.argwhere(near[2]).mean(0) == pytest.approx([4, 4, 4])  # around the place, wherever it lies in the patch
    assert made.around(made.after, (24, 24, 24)).shape == made.after.shape
    assert (made.bare == made.after).all()


def test_what_a_method_refuses_is_told_and_the_rest_is_measured(real):
    class Picky(Dots):
        def fill_many(self, patches, regions, edits, seeds):
            if edits[0].diameter_mm < 6:
                raise InputError("picky", "a small nodule", "a large one")
            return super().fill_many(patches, regions, edits, seeds)

    cube = Volume(np.random.default_rng(0).normal(-850, 25, (40, 40, 40)).astype(np.int16), MM)
    large = [HealthySite(cube, (20.0, 20.0, 20.0), ASKED, patient) for patient in "ab"]
    small = replace(large[0], asked=replace(ASKED, diameter_mm=5.0))
    method = Picky(lineage=Lineage("picky", "a" * 64))  # a method with a model works in this process
    made = painted(method, [large[0], small, large[1]], (0, 1), (24, 24, 24))
    assert made.sites.tolist() == [0, 0, 2, 2]
    found = in_painting_figures(made, real)
    assert found.refused == tuple(
        f"site 1, seed {k}: picky: found a small nodule; expected a large one" for k in (0, 1)
    )
    assert (found.seam.n, found.diversity_shape.n) == (4, 2)
    with pytest.raises(InputError, match=r"none at which dots can put a nodule \(site 0, seed 0: picky"):
        painted(method, [small], (0, 1), (24, 24, 24))


def test_sites_and_patches_that_do_not_fit_are_refused_in_one_line(real):
    cube = Volume(np.full((20, 20, 20), -850, np.int16), MM)
    site = HealthySite(cube, (10.0, 10.0, 10.0), ASKED, "a")
    other = replace(site, ct=Volume(cube.voxels, (2.0, 1.0, 1.0)))
    made = in_painted()
    for call, text in (
        (lambda: painted(Dots(), [], (0,), (8, 8, 8)), "sites: found none"),
        (lambda: painted(Dots(), [replace(site, asked=NoduleAttributes())], (0,), (8, 8, 8)), "without a diameter"),
        (lambda: painted(Dots(), [site, other], (0,), (8, 8, 8)), r"voxels of \(1.0, 1.0, 1.0\) and \(2.0"),
        (lambda: painted(Dots(), [site], (0,), (24, 24, 24)), "a scan of"),
        (lambda: replace(made, seeds=made.seeds[1:]), "painted patches: found"),
        (lambda: replace(made, masks=np.zeros_like(made.masks)), "masks: found an empty"),
        (lambda: in_painting_figures(replace(made, spacing_mm=(1.0, 1.0, 2.0)), real), "real nodules: found voxels"),
    ):
        with pytest.raises(InputError, match=text):
            call()
