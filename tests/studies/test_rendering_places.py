"""Places at which rendered nodules are compared with real ones."""

import numpy as np
import pytest

from rendering_sites import SIZE, Real, matched_jobs
from synthorax.nodule import Nodule, NoduleAttributes


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
