"""Every preset at the size of its paper, and every other preset for a GPU, takes a step of each of its stages."""

from dataclasses import replace
from math import isfinite

import pytest

from synthorax import api
from synthorax.registry import registry
from synthorax.training.devices import make_fabric
from synthorax.training.files import read_log
from synthorax.training.loop import fit
from synthorax.training.precision import with_precision
from synthorax.training.run_folder import RunFolder

LARGE = [
    (name, preset)
    for name, entry in registry().entries.items()
    if entry.data == "store"
    for preset in entry.presets
    if preset.startswith(("paper", "large"))
]


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    """A store of phantoms with nodules and label maps."""
    folder = tmp_path_factory.mktemp("large") / "chests"
    return api.prepare_phantom(folder, scans=12, tissue=True).path


def test_every_system_of_a_paper_has_a_preset_of_its_size():
    assert {name for name, _ in LARGE} == {name for name, entry in registry().entries.items() if entry.data == "store"}


@pytest.mark.prove
@pytest.mark.parametrize(("name", "preset"), LARGE, ids=[f"{name} {preset}" for name, preset in LARGE])
def test_a_step_of_each_stage_of_a_large_preset_runs(name, preset, chests, tmp_path):
    entry = registry()[name]
    config = with_precision(entry.presets[preset], "cpu")
    training = entry.load("training", "training")(config, chests, 0, entry.make_training_options({}))
    training = replace(training, stages=[replace(stage, steps=1) for stage in training.stages], validation=None)
    fit(training, RunFolder(tmp_path), make_fabric("cpu", precision=getattr(config, "precision", "32")))
    figures = read_log(tmp_path)[-1]
    assert figures["step"] == len(training.stages)
    assert all(isfinite(value) for value in figures.values() if isinstance(value, float))
