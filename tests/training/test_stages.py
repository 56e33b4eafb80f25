"""Trainings with several stages.

This tests which networks are trained on what, and that a stop at any step resumes to the same bytes.
"""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file
from torch import nn

from synthorax.errors import InputError
from synthorax.seeding import generator
from synthorax.training import loop
from synthorax.training.devices import make_fabric
from synthorax.training.files import read_log
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Stage, Training, Validation
from synthorax.training.trainable import Trainable
from tests.helpers.runs import log

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST, LAST = 4, 5


class Nothing(BaseModel):
    """A configuration without settings."""


class Pair(Trainable):
    """Two networks, the second of which learns from the first and from what it saw in the step before."""

    name = "pair"

    def __init__(self, seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            networks = {"teacher": nn.Linear(3, 1), "pupil": nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.2))}
        facts = {"middle": torch.tensor(float("nan")), "rows": torch.full((2, 3), float(seed))}
        decays = {"teacher": 0.5, "pupil": 0.5}
        super().__init__(Nothing(), networks, seed=seed, decays=decays, facts=facts)
        self.seen = []

    def make_optimizers(self):
        return {name: torch.optim.Adam(net.parameters(), lr=0.05) for name, net in self.networks.items()}

    def training_step(self, batch, step):
        self.seen.append((self.stage, step))
        name = "teacher" if self.stage == "first" else "pupil"
        inputs = batch + 0.1 * self.drawn(self.stage, step, *batch.shape)
        aim = batch.sum(1, keepdim=True)
        if name == "pupil":
            aim = self.networks["teacher"](batch) + self.memory.get("before", torch.zeros(()))
            self.memory["before"] = batch.mean()
        loss = (self.networks[name](inputs) - aim).square().mean()
        loss.backward()
        self.update(name)
        return {f"{name}_loss": loss.detach()}

    def conclude(self):
        self.facts["middle"] = self.networks["pupil"][0].weight.detach().mean()


def batches_of(kind):
    return lambda step: torch.from_numpy(generator(0, kind, step).standard_normal((8, 3), np.float32))


def training_of(model, first=FIRST, last=LAST, **options):
    stages = [
        Stage("first", first, batches_of("first"), frozenset({"teacher"})),
        Stage("last", last, batches_of("last"), frozenset({"pupil"})),
    ]
    return Training(model, stages, log_every=1, **options)


def stopping_after(training, done):
    """The training, stopped by a signal in its step `done`, which is done before it stops."""

    def batches(stage, before):
        def batch_at(step):
            if before + step == done - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return stage.batches(step)

        return batch_at

    first, last = training.stages
    stages = [replace(first, batches=batches(first, 0)), replace(last, batches=batches(last, first.steps))]
    return replace(training, stages=stages)


def fit(training, folder):
    return loop.fit(training, RunFolder.open(folder, {"pair": 1}, {}), make_fabric("cpu"))


def same(one, other):
    """Whether two trees of tensors and numbers are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    outcome = fit(training_of(Pair()), folder)
    assert outcome.finished
    assert outcome.stages == {"first": FIRST, "last": LAST}
    return folder


@pytest.mark.parametrize("done", range(1, FIRST + LAST))
def test_a_run_stopped_after_any_step_resumes_to_the_same_bytes(whole, tmp_path, done):
    with pytest.raises(KeyboardInterrupt):
        fit(stopping_after(training_of(Pair()), done), tmp_path / "run")
    resumed = Pair()
    assert fit(training_of(resumed), tmp_path / "run").finished
    assert len(resumed.seen) == FIRST + LAST - done
    weights = "weights.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (whole / weights).read_bytes()
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (tmp_path / "run", whole)]
    assert same(*states)
    curves = [[(row["step"], row["stage"]) for row in read_log(folder)] for folder in (tmp_path / "run", whole)]
    assert curves[0] == curves[1] == list(enumerate(["first"] * FIRST + ["last"] * LAST, start=1))
    times = [row["seconds"] for row in read_log(tmp_path / "run")]
    assert times == sorted(times)


def test_each_stage_counts_its_own_steps_and_gets_its_own_batches(tmp_path):
    model = Pair()
    training = training_of(model)
    fit(training, tmp_path / "run")
    assert model.seen == [("first", i) for i in range(FIRST)] + [("last", i) for i in range(LAST)]
    assert torch.equal(training.batch(FIRST + 2), batches_of("last")(2))
    assert [record["stage"] for record in log(tmp_path / "run")] == ["first"] * FIRST + ["last"] * LAST


def test_networks_that_do_not_learn_in_a_stage_stay_as_they_are_and_so_do_their_averages(tmp_path):
    model = Pair()
    fresh = Pair().weights()
    with pytest.raises(KeyboardInterrupt):
        fit(stopping_after(training_of(model), FIRST), tmp_path / "run")
    between = load_file(tmp_path / "run" / "weights.safetensors")
    fit(training_of(Pair()), tmp_path / "run")
    after = load_file(tmp_path / "run" / "weights.safetensors")
    for key in fresh:
        if key.startswith("pupil"):
            assert torch.equal(between[key], fresh[key])
        elif key.startswith("teacher"):
            assert torch.equal(after[key], between[key])
            assert not torch.equal(between[key], fresh[key])


def test_memory_is_in_the_state_alone_and_facts_are_with_the_weights(whole):
    state = torch.load(whole / "state.pt", weights_only=True)
    assert state["memory"]["before"] == batches_of("last")(LAST - 1).mean()
    kept = load_file(whole / "weights.safetensors")
    assert not any("before" in key for key in kept)
    assert kept["facts.middle"] == kept["pupil.0.weight"].mean()


def test_a_model_started_from_another_keeps_its_own_facts_and_takes_the_networks():
    one, other = Pair(0), Pair(1)
    other.start_from(one.weights())
    assert torch.equal(other.networks["pupil"][0].weight, one.networks["pupil"][0].weight)
    assert torch.equal(other.facts["rows"], torch.ones(2, 3))


def test_weights_without_a_fact_are_those_of_another_model():
    weights = Pair().weights()
    del weights["facts.rows"]
    with pytest.raises(RuntimeError, match="found facts middle; expected middle, rows"):
        Pair().load_weights(weights)


@pytest.mark.parametrize(("first", "last"), [(FIRST, LAST + 2), (FIRST + 2, LAST), (FIRST - 1, LAST + 3)])
def test_a_stage_that_is_over_keeps_its_steps_and_the_last_gets_the_others(first, last, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(stopping_after(training_of(Pair()), FIRST + 2), tmp_path / "run")
    model = Pair()
    assert fit(training_of(model, first=first, last=last), tmp_path / "run").step == FIRST + LAST + 2
    assert model.seen == [("last", step) for step in range(2, LAST + 2)]
    assert model.begun == FIRST


def test_a_stage_that_has_not_begun_may_not_have_come_before(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(stopping_after(training_of(Pair()), FIRST - 1), tmp_path / "run")
    with pytest.raises(InputError, match="3 of first; expected 2 of first, 1 of last"):
        fit(training_of(Pair(), first=FIRST - 2), tmp_path / "run")


def test_a_validation_is_measured_in_the_last_stage_alone(tmp_path):
    model = Pair()
    measured = []

    def measure():
        measured.append(model.stage)
        return {"figure": 1.0}

    fit(training_of(model, validation=Validation(measure, 2, "figure")), tmp_path / "run")
    assert set(measured) == {"last"}
    assert log(tmp_path / "run")[-1]["step"] == FIRST + LAST


def test_a_stage_of_a_network_that_there_is_not_is_told(tmp_path):
    with pytest.raises(KeyError, match="stage first: teecher"):
        Pair().enter("first", frozenset({"teecher"}))


@pytest.mark.parametrize(("most", "norm"), [(0.5, 0.5), (100.0, 10.0), (None, 10.0)])
def test_a_gradient_steeper_than_the_most_is_scaled_down_to_it_and_others_are_left(most, norm):
    model = Pair()
    network = model.networks["teacher"]
    model.optimizers = {"teacher": torch.optim.SGD(network.parameters(), lr=1.0)}
    before = torch.cat([parameter.detach().clone().flatten() for parameter in network.parameters()])
    network.weight.grad, network.bias.grad = torch.tensor([[6.0, 0.0, 0.0]]), torch.tensor([8.0])
    model.update("teacher", most)
    after = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert float((after - before).norm()) == pytest.approx(norm, rel=1e-4)
