"""Real nodules that rendered ones are compared with, and the places at which they are."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from rendering_sites import LEAST_MATCH, MATCHED, SIZE, Real, matched_jobs, outline_of, readings_of
from synthorax.annotations.lidc_table import read_lidc_scans
from synthorax.io.images import read_image
from synthorax.io.tables import read_table
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.rendering.appearance import draw_appearance
from synthorax.rendering.renderer import render
from synthorax.rendering.solid import solid_of_mask
from synthorax.scanner import Scanner
from synthorax.volume import Volume


def cube(i, beside_wall):
    """A nodule of 5 mm in the middle of noisy lung, with a wall on one side of it or none."""
    random = np.random.default_rng(i)
    hu = random.normal(-850, 30, (50, 50, 50))
    away = np.sqrt(((np.indices(hu.shape) - 25.0) ** 2).sum(0))
    mask = away <= 2.5
    hu[mask] = 0
    wall = 31 if beside_wall else 46
    hu[:, wall:] = 40
    nodule = Nodule("1", (25.0, 25.0, 25.0), NoduleAttributes(diameter_mm=5.0, texture=5.0), 1)
    return Real(f"P{i // 2}", "test" if i < 8 else "train", hu.astype(np.int16), mask, nodule, 5.0, mask, 1.0)


@pytest.fixture(scope="module")
def reals():
    return [cube(i, beside_wall=i % 4 == 0) for i in range(16)]


@pytest.fixture(scope="module")
def jobs(reals):
    return matched_jobs(reals, seed=0)


def test_every_nodule_gets_a_place_without_a_nodule_in_another_patient_of_its_split(reals, jobs):
    assert [job.real for job in jobs] == list(range(16))
    for job in jobs:
        own, host = reals[job.real], reals[job.cube]
        assert own.patient != host.patient
        assert own.split == host.split
        box = tuple(slice(c - SIZE // 2, c + SIZE // 2) for c in job.center)
        assert host.mask[box].shape == (SIZE,) * 3
        assert not host.mask[box].any()
    assert len({(job.cube, job.center) for job in jobs}) == 16


def test_a_nodule_beside_a_wall_gets_a_place_with_more_wall_around_it(reals, jobs):
    def dense(job):
        box = tuple(slice(c - 10, c + 11) for c in job.center)
        return (reals[job.cube].hu[box] > -500).mean()

    beside = [dense(job) for job in jobs if job.real % 4 == 0]
    others = [dense(job) for job in jobs if job.real % 4]
    assert min(beside) > 2 * np.median(others) + 0.05


def test_places_are_those_of_the_seed(reals, jobs):
    assert matched_jobs(reals, seed=0) == jobs
    assert matched_jobs(reals, seed=1) != jobs


def test_rendered_nodules_have_the_densities_of_real_ones_within_a_readers_outline(real_data):
    """Of val patients; the constants were set on train."""
    folder = real_data / "luna16-nodules"
    scans, real, made = read_lidc_scans(), [], []
    for i, row in enumerate(read_table(folder / "nodules.csv")):
        if row["split"] != "val" or not row["texture"] or not row["diameter_mm"]:
            continue
        readers = {name: [float(v) for v in row[name].split()] for name in MATCHED}
        rated = {name: float(np.mean(values)) for name, values in readers.items()}
        if rated["texture"] < 4.5 or rated["calcification"] < 5.5 or not 6 <= float(row["diameter_mm"]) <= 14:
            continue
        image, mask = (read_image(folder / row[name]) for name in ("image", "mask"))
        nodule = Nodule("1", image.to_world(np.subtract(image.shape, 1) / 2), NoduleAttributes(), 1, readers)
        outline, match = outline_of(readings_of(nodule, scans[row["series_uid"]], mask.voxels > 0), mask.voxels > 0)
        if match < LEAST_MATCH:
            continue
        patch = Volume(np.full((41,) * 3, -850.0, np.float32), (1.0, 1.0, 1.0))
        appearance = draw_appearance(NoduleAttributes(**rated), np.random.default_rng(i))
        solid = solid_of_mask(Volume(outline, (1.0, 1.0, 1.0)))
        scanner = Scanner((0.7, 0.6), 0.0)
        rendered, drawn = render(patch, np.ones(patch.shape, bool), solid, appearance, scanner, i)
        real.append(shells(image.voxels, outline))
        made.append(shells(rendered, drawn))
    assert len(real) >= 20
    real, made = np.nanmedian(real, 0), np.nanmedian(made, 0)
    assert abs(real - made).max() < 100
    assert real[0] > real[1] + 150 > real[2] + 300


def shells(hu, mask):
    """Mean HU deeper than 1 mm, within 1 mm of the edge inside, and within 1 mm outside."""
    away = np.where(mask, -distance_transform_edt(mask), distance_transform_edt(~mask))
    return [hu[part].mean() if part.any() else np.nan for part in (away < -1.5, mask & (away >= -1), away == 1)]
