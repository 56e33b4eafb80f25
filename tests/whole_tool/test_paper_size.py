"""The paper's own size runs: one step of the `paper` preset of every system."""

import subprocess
import sys

import pytest

STEP = """
import resource
import numpy as np
from synthorax.systems.lung.config import PRESETS
from synthorax.systems.lung.system import Lung
from synthorax.training.devices import make_fabric

seeds = np.zeros((51, 20, 40, 40), np.float32)
seeds[:, 8:12, 15:25, 15:25] = np.linspace(0.3, 1, 51)[:, None, None, None]
system, batches = Lung.for_training(PRESETS["paper"], seeds, seed=0)
system.prepare_training(make_fabric("cpu"))
figures = system.training_step(batches(0), 0)
print(float(figures["mse"]), tuple(batches(0).shape), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, sep=";")
"""
MOST_GB = 1.5


@pytest.mark.prove
def test_a_paper_size_step_of_lung_fits_the_stated_memory():
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    mse, shape, gigabytes = done.stdout.split(";")
    assert float(mse) > 0
    assert shape == "(128, 32000)"
    assert float(gigabytes) < MOST_GB
