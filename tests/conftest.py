"""What the tests share: runtime types, the real data, the LIDC nodules, and a ball."""

import os
import signal
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings

from synthorax.volume import Volume

# Before anything imports a system, so that its array annotations are checked whenever it is called.
jaxtyping.install_import_hook("synthorax.systems", "beartype.beartype")

# A shell that starts the tests in the background, and nohup, ignore these signals for all that is started from there,
# the commands too that a test interrupts.
for ending in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(ending) == signal.SIG_IGN:
        signal.signal(ending, signal.default_int_handler if ending == signal.SIGINT else signal.SIG_DFL)

settings.register_profile("synthorax", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("synthorax")

LUNG_GRID = (20, 40, 40)
LUNG_SPACING_MM = (1.25, 0.7, 0.7)


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
    """Nothing is read from the user's cache folder or left there; the workers of a run share theirs."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(shared / "user-cache"))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def one_thread():
    """Threads only get in each other's way with networks as small as the tests'."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_data():
    """The folder that holds lung-seeds, lidc-scans and luna16-nodules."""
    if not os.environ.get("SYNTHORAX_REAL_DATA"):
        pytest.skip("set SYNTHORAX_REAL_DATA to the folder of unpacked real data")
    return Path(os.environ["SYNTHORAX_REAL_DATA"])


@pytest.fixture(scope="session")
def ball():
    """Make a ball's mask, bool [z, y, x], in the middle of LuNG's grid or another."""

    def make(diameter_mm, grid=LUNG_GRID, spacing_mm=LUNG_SPACING_MM, offset_mm=(0, 0, 0)):
        squares = [
            ((np.arange(n) - (n - 1) / 2) * step - shift) ** 2
            for n, step, shift in zip(grid, spacing_mm, offset_mm, strict=True)
        ]
        z, y, x = np.ix_(*squares)
        return z + y + x <= (diameter_mm / 2) ** 2

    return make


@pytest.fixture(scope="session")
def chest():
    """Two lungs in a body, HU; the middle of one is at (-70, 0, 0) mm."""
    step = 4.0
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step for n in (60, 64, 96)], indexing="ij")
    lungs = (z / 100) ** 2 + (y / 70) ** 2 + ((abs(x) - 70) / 45) ** 2 <= 1
    hu = np.where((y / 110) ** 2 + (x / 160) ** 2 <= 1, np.where(lungs, -850, 40), -1000)
    hu = hu + np.random.default_rng(0).normal(0, 10, hu.shape)
    first = tuple(-(n - 1) / 2 * step for n in reversed(hu.shape))
    return Volume(np.rint(hu).astype(np.int16), (step,) * 3, first)


@pytest.fixture(scope="session")
def lidc_readings():
    """The readings of every LIDC scan."""
    from synthorax.annotations.lidc_table import read_lidc_table

    return read_lidc_table()


@pytest.fixture(scope="session")
def lidc_nodules(lidc_readings):
    """The clustered nodules of every LIDC scan; some ten seconds."""
    from synthorax.annotations.clustering import cluster

    return [cluster(readings) for readings in lidc_readings]


@pytest.fixture(scope="session")
def lidc():
    """Every LIDC nodule that two readers agree on, on LuNG's grid; some fifteen seconds."""
    from synthorax.datasets.lidc import LidcRequest, lidc_shapes

    return lidc_shapes(LidcRequest())


@pytest.fixture(scope="session")
def untrained_gan():
    """An AC-WGAN-GP that has learned nothing, whose selection lets all pass, as a model."""
    from synthorax.hub import Model
    from synthorax.systems.ac_wgan.config import PRESETS
    from synthorax.systems.ac_wgan.system import AcWgan

    system = AcWgan(PRESETS["smoke"], 0)
    system.facts["least_score"].fill_(-1e9)
    return Model(system, "0" * 64, frozenset(["somebody else"]))


@pytest.fixture(scope="module")
def lenient():
    """An untrained critic is sure of nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthorax.systems.ac_wgan.system.LEAST_CONFIDENCE", 0.0)
        yield
