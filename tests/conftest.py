"""Checks of array types at run time, the switch for long proofs, and the fixtures that many test files use."""

import os
import signal
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

from synthorax.datasets.shapes import LUNG_GRID, LUNG_SPACING_MM
from tests.helpers.balls import ball_mask
from tests.helpers.chests import chest_of_two_lungs

# The hook checks array annotations in every call of a system; only what is imported after it is checked.
jaxtyping.install_import_hook("synthorax.systems", "beartype.beartype")

# nohup, and a shell that starts the tests in the background, make every process they start ignore these signals: the
# commands that tests interrupt would not stop.
for ending in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(ending) == signal.SIG_IGN:
        signal.signal(ending, signal.default_int_handler if ending == signal.SIGINT else signal.SIG_DFL)

settings.register_profile("synthorax", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("synthorax")


def pytest_addoption(parser):
    parser.addoption("--prove", action="store_true", help="run the long proofs too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--prove") or config.getoption("markexpr") == "prove":
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a long proof: give --prove or -m prove"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Give the tests a separate cache folder, which the workers of one run share; the user's cache is not touched."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(shared / "user-cache"))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def one_thread():
    """Run torch in one thread: the tests' networks are so small that several threads are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_data():
    """The folder with `lung-seeds`, `lidc-scans` and `luna16-nodules`; without it, tests that use it are skipped."""
    if not os.environ.get("SYNTHORAX_REAL_DATA"):
        pytest.skip("set SYNTHORAX_REAL_DATA to the folder of unpacked real data")
    return Path(os.environ["SYNTHORAX_REAL_DATA"])


@pytest.fixture(scope="session")
def ball():
    """Return a function that makes the mask, bool [z, y, x], of a ball `offset_mm` (z, y, x) off a grid's centre."""

    def make(diameter_mm, grid=LUNG_GRID, spacing_mm=LUNG_SPACING_MM, offset_mm=(0, 0, 0)):
        center = [(n - 1) / 2 + shift / step for n, step, shift in zip(grid, spacing_mm, offset_mm, strict=True)]
        return ball_mask(grid, diameter_mm, spacing_mm, center)

    return make


@pytest.fixture(scope="session")
def chest():
    """A trunk with two lungs, HU; the middle of one is at (-70, 0, 0) mm."""
    return chest_of_two_lungs()


@pytest.fixture(scope="session")
def lidc_readings():
    """The readings of every LIDC scan."""
    from synthorax.annotations.lidc_table import read_lidc_table

    return read_lidc_table()


@pytest.fixture(scope="session")
def lidc_nodules(lidc_readings):
    """The clustered nodules of every LIDC scan; takes about ten seconds."""
    from synthorax.annotations.clustering import cluster

    return [cluster(readings) for readings in lidc_readings]


@pytest.fixture(scope="session")
def lidc():
    """Every LIDC nodule that two readers agree on, on LuNG's grid; takes about fifteen seconds."""
    from synthorax.datasets.lidc import LidcRequest, lidc_shapes

    return lidc_shapes(LidcRequest())


@pytest.fixture(scope="session")
def untrained_gan():
    """Return an untrained model of the AC-WGAN-GP whose selection accepts every sample."""
    from synthorax.hub import Model
    from synthorax.systems.ac_wgan.config import PRESETS
    from synthorax.systems.ac_wgan.system import AcWgan

    system = AcWgan(PRESETS["smoke"], 0)
    system.facts["least_score"].fill_(-1e9)
    return Model(system, "0" * 64, frozenset(["somebody else"]))


@pytest.fixture(scope="module")
def lenient():
    """Return a copy of a model with a low threshold of selection: an untrained critic never reaches the usual one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthorax.systems.ac_wgan.system.LEAST_CONFIDENCE", 0.0)
        yield
