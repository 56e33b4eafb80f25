"""The paper's own size runs: one step of the `paper` preset of every system."""

import json
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


IN_PAINTER_STEP = """
import json, resource, sys, time
import torch
from synthorax.systems.class_aware.config import PRESETS
from synthorax.systems.class_aware.system import CLASSES_STAGE, ClassAware
from synthorax.training.devices import make_fabric

config = PRESETS[sys.argv[1]].model_copy(update=json.loads(sys.argv[2]))
model = ClassAware(config)
model.prepare_training(make_fabric("cpu"))
model.enter(CLASSES_STAGE)
rows = config.batch_size
ball = torch.from_numpy(config.patch.distances_mm() <= 9).float().expand(rows, 1, *config.size).contiguous()
batch = {
    "ct": torch.rand(rows, 1, *config.size) * 2 - 1,
    "region": ball,
    "mask": ball,
    "mask_known": torch.ones(rows, dtype=torch.bool),
    "label": torch.arange(rows) % 2 + 1,
    "condition": torch.ones(rows, config.conditions),
    **({"outline": ball} if config.outlines else {}),
}
began = time.process_time()
figures = model.training_step([batch] * config.n_critic, 0)
assert all(value.isfinite() for value in figures.values()), figures
seconds, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"seconds": seconds, "gigabytes": peak}))
"""
IN_PAINTER_GB = {"paper": 9.0, "patch48": 9.0}


@pytest.mark.prove
@pytest.mark.parametrize("preset", IN_PAINTER_GB)
def test_a_step_of_a_large_class_aware_preset_fits_the_stated_memory(preset, capsys):
    """Five critic updates and one of the in-painter by 16 patches each; minutes on a CPU."""
    done = subprocess.run(
        [sys.executable, "-c", IN_PAINTER_STEP, preset, "{}"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\nA step of class-aware {preset}: {found['seconds']:.0f} s of CPU, at most {found['gigabytes']:.1f} GB")
    assert found["gigabytes"] < IN_PAINTER_GB[preset]


@pytest.mark.parametrize("preset", IN_PAINTER_GB)
def test_the_program_of_a_large_class_aware_step_runs(preset, monkeypatch, capsys):
    small = {"size": (16, 16, 16), "width": 4, "critic_width": 2, "batch_size": 4, "n_critic": 1}
    monkeypatch.setattr(sys, "argv", ["-c", preset, json.dumps(small)])
    exec(IN_PAINTER_STEP, {})
    assert json.loads(capsys.readouterr().out)["gigabytes"] > 0.2
