"""Every system of the registry and two of other packages, trained for some steps on the data of the golden runs.

The packages are `toy` of docs/extending.md, which is trained and makes patches, and `dabs` in this folder, which has no
weights and injects, erases and judges.
"""

import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from golden import GOLDEN
from synthorax import api, hub
from synthorax.datasets.store import Store
from synthorax.patch import PatchSpec
from synthorax.registry import registry
from synthorax.training import loop
from tests.helpers.balls import ball_stack
from tests.helpers.plugins import install_toy, write_metadata
from tests.helpers.stores import labelled
from tests.helpers.systems import OTHERS, ROLES

HERE = Path(__file__).parent
SETTINGS = {
    "ac-wgan": {"segmenter_steps": 2},
    "ct-sgan": {"region": "cube"},
    "volume-gan": {"region": "cube"},
}
"""Settings beside the smallest preset: two steps for masks, without which no sample can be injected; makers of scans
learn from cubes, as there is no whole scan."""


@pytest.fixture(scope="module")
def plugged_in(tmp_path_factory):
    """Install the other packages while a module of tests runs; gives the folders of `sys.path` that hold them."""
    place = tmp_path_factory.mktemp("site-packages")
    install_toy(place)
    write_metadata(place, "dabs", {"dabs": "dabs:ENTRY"})
    with pytest.MonkeyPatch.context() as patch:
        for folder in (HERE, place):
            patch.syspath_prepend(folder)
        registry.cache_clear()
        assert ROLES.keys() == registry().entries.keys()
        yield [str(place), str(HERE)]
    registry.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in OTHERS]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The store and the shapes that systems are trained on, by the kind of data that a system names."""
    place = tmp_path_factory.mktemp("data")
    with ZipFile(GOLDEN / "runs.zip") as zipped:
        zipped.extractall(place)
    np.save(place / "shapes.npy", ball_stack())
    store = labelled(Store(place / "store"), place / "labelled")
    return {"store": store.path, "shapes": place / "shapes.npy"}


@pytest.fixture(scope="module")
def train(data, plugged_in):
    """A function that trains the smallest preset of a system into a folder, on a given store or on `data`."""

    def run(name, out, store=None, **more):
        given = {"preset": "smoke", "settings": SETTINGS.get(name, {}), "seed": 3, "device": "cpu"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "_picture", lambda *_: None)  # it takes longer than the training
            return api.train(name, store or data[registry()[name].data], out, **given, **more)

    return run


@pytest.fixture(scope="module")
def run_of(train, tmp_path_factory):
    """A function that gives the run folder of a system, which is trained at the first call."""
    made = {}

    def run(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("runs") / name
            train(name, made[name])
        return made[name]

    return run


@pytest.fixture(scope="module")
def sure_segmenter():
    """Replace the segmenter, whose two steps of training make its masks arbitrary, by a ball in the middle."""
    ball = PatchSpec((16, 16, 16)).distances_mm() <= 3.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthorax.tasks.made_masks.nodule_voxels", lambda _, patches: np.stack([ball] * len(patches)))
        yield


@pytest.fixture(scope="module")
def maker_of(run_of, plugged_in):
    """A function that gives the maker of a system for a role."""

    def find(name, role):
        return hub.find(run_of(name) if registry()[name].is_trained else name, role)

    return find
