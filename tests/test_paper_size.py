"""The paper's own size runs: one step of the `paper` preset of every system."""

import resource
import subprocess
import sys

import pytest

STEP = """
import numpy as np
from synthorax.systems.lung.config import PRESETS
from synthorax.systems.lung.system import Lung
from synthorax.training.devices import make_fabric

seeds = np.zeros((51, 20, 40, 40), np.float32)
seeds[:, 8:12, 15:25, 15:25] = np.linspace(0.3, 1, 51)[:, None, None, None]
system, batches = Lung.for_training(PRESETS["paper"], seeds, seed=0)
system.prepare_training(make_fabric("cpu"))
figures = system.training_step(batches(0), 0)
print(float(figures["mse"]), batches(0).shape)
"""
MOST_GB = 1.5


@pytest.mark.prove
def test_a_paper_size_step_of_lung_fits_the_stated_memory():
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    mse, _, shape = done.stdout.partition(" ")
    assert float(mse) > 0
    assert "[128, 32000]" in shape
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6 < MOST_GB
