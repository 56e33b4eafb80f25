"""The training loop: shares of a batch, averages, guards, pictures, best weights, devices, starting weights."""

import json
import os
import struct
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pydantic import BaseModel
from rich.console import Console
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event, SessionLog
from torch import nn

from synthorax import api, hub
from synthorax.api import info
from synthorax.api.training import best_step
from synthorax.datasets.shapes import ShapeRecord, ShapeSet
from synthorax.errors import InputError, TrainingError
from synthorax.seeding import generator
from synthorax.systems.ac_wgan.config import PRESETS, ac_wgan_config
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.training import devices, loop
from synthorax.training.devices import make_fabric
from synthorax.training.guards import Guards, finite
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Stage, Training, Validation
from synthorax.training.trainable import Limit, Share, Trainable, parts
from tests.helpers.balls import ball_stack
from tests.helpers.runs import log, stopping_at, timeless_log, told, weights

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 8


class Nothing(BaseModel):
    """A configuration without settings."""


class Toy(Trainable):
    """A small network with batch norm and dropout that fits a line from noisy inputs."""

    name = "toy"

    def __init__(self, seed=0, decay=0.0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
        super().__init__(Nothing(), {"net": net}, seed=seed, decays={"net": decay})
        self.done = 0

    def make_optimizers(self):
        return {"adam": torch.optim.Adam(self.networks["net"].parameters(), lr=0.01)}

    def training_step(self, batch, step):
        inputs = batch["x"] + 0.1 * self.drawn("noise", step, ROWS, 3)
        loss = (self.networks["net"](inputs) - batch["x"].sum(1, keepdim=True)).square().mean()
        loss.backward()
        self.update("adam")
        self.done = step + 1
        return {"loss": loss.detach()}


class GivenFigures(Toy):
    """A system whose figures of each step are given in advance."""

    limits = {"shape": Limit("all shapes alike", low=0.2, high=5, records=3)}  # noqa: RUF012

    def __init__(self, values):
        super().__init__()
        self.values = values

    def training_step(self, batch, step):
        return super().training_step(batch, step) | {"shape": torch.tensor(float(self.values[step]))}


class Drawing(Toy):
    """A system that draws a picture of its weights."""

    def preview(self):
        figure = Figure(figsize=(1, 1), dpi=32)
        figure.add_axes((0, 0, 1, 1)).imshow(self.networks["net"][0].weight.detach().numpy())
        return figure


def batches(step):
    return {"x": torch.from_numpy(generator(0, "toy", step).standard_normal((ROWS, 3), np.float32))}


def fit(model, folder, steps=12, given=batches, log_every=1, validation=None, **options):
    run = RunFolder.open(folder, {"toy": 1}, {})
    training = Training(model, [Stage("line", steps, given)], log_every=log_every, validation=validation)
    return loop.fit(training, run, make_fabric("cpu"), **options)


def stop_and_resume(make, folder, last, **options):
    """A run stopped after `last + 1` steps, then finished by a fresh model."""
    with pytest.raises(KeyboardInterrupt):
        fit(make(), folder, given=stopping_at(batches, last), **options)
    return fit(make(), folder, **options)


def events(folder):
    """The events of all TensorBoard files of a run, as TensorBoard shows them: purged ones are left out."""
    shown = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                shown = [earlier for earlier in shown if earlier.step < event.step]
            shown.append(event)
    return shown


def shown(folder, tag):
    return [(e.step, v) for e in events(folder) for v in e.summary.value if v.tag == tag]


# Shares of a batch


@given(each=st.integers(1, 5), world=st.integers(1, 6))
def test_the_rows_of_all_processes_put_together_are_the_batch(each, world):
    whole = torch.arange(each * world * 2).reshape(each * world, 2)
    batch = {"a": whole, "more": [{"b": whole + 1}, whole[:, 0]], "name": "everybody's", "n": 3}
    shares = [Share(rank, world).of(batch) for rank in range(world)]
    assert torch.equal(torch.cat([s["a"] for s in shares]), whole)
    assert torch.equal(torch.cat([s["more"][0]["b"] for s in shares]), whole + 1)
    assert torch.equal(torch.cat([s["more"][1] for s in shares]), whole[:, 0])
    assert {(s["name"], s["n"]) for s in shares} == {("everybody's", 3)}
    assert {len(s["a"]) for s in shares} == {each}


def test_a_batch_that_does_not_divide_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^batch size: found 7; expected a multiple of 2, the number of processes$"):
        Share(1, 2).of([torch.zeros(7)])
    with pytest.raises(InputError, match=r"^batch size: found 8; expected a multiple of 3, the number of parts"):
        list(parts({"x": torch.zeros(8, 2)}, 3))


@pytest.mark.parametrize("uniform", [False, True])
def test_the_noise_of_two_shares_put_together_is_that_of_one(uniform):
    whole, first, second = Toy(3), Toy(3), Toy(3)
    first.share, second.share = Share(0, 2), Share(1, 2)
    both = [toy.drawn("kind", 5, 6, 4, uniform=uniform) for toy in (first, second)]
    assert torch.equal(torch.cat(both), whole.drawn("kind", 5, 6, 4, uniform=uniform))
    assert [len(noise) for noise in both] == [3, 3]


def test_noise_is_a_function_of_the_seed_its_kind_and_the_step_alone():
    asked = [(0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0)]
    drawn = {key: Toy(key[0]).drawn(*key[1:], 1000) for key in asked}
    toy = Toy(0)
    toy.drawn("a", 7, 3)
    torch.rand(5)
    assert torch.equal(toy.drawn("a", 0, 1000), drawn[0, "a", 0])
    different = list(drawn.values())
    assert not any(torch.equal(a, b) for i, a in enumerate(different) for b in different[:i])
    assert abs(float(different[0].mean())) < 0.1
    assert float(different[0].std()) == pytest.approx(1, abs=0.1)
    uniform = toy.drawn("a", 0, 1000, uniform=True)
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() < 1


# Moving averages


def test_an_average_is_the_exponential_mean_of_the_weights_after_each_step(tmp_path):
    decay, seen = 0.7, []

    class Watched(Toy):
        def update_averages(self):
            seen.append(self.networks["net"][0].weight.detach().clone())
            super().update_averages()

    toy = Watched(decay=decay)
    first = toy.networks["net"][0].weight.detach().clone()
    fit(toy, tmp_path, steps=9)
    expected = decay**9 * first + sum((1 - decay) * decay ** (8 - k) * weights for k, weights in enumerate(seen))
    torch.testing.assert_close(toy.averages["net"][0].weight, expected)
    assert not torch.equal(toy.averages["net"][0].weight, seen[-1])


def test_averages_are_saved_and_loaded_and_leave_training_alone(tmp_path):
    toy, without = Toy(decay=0.9), Toy()
    fit(toy, tmp_path / "with")
    fit(without, tmp_path / "without")
    saved = load_file(tmp_path / "with" / "weights.safetensors")
    for name, tensor in load_file(tmp_path / "without" / "weights.safetensors").items():
        assert torch.equal(saved[name], tensor)
    loaded = Toy(seed=1, decay=0.9)
    loaded.load_weights(saved)
    for name, tensor in toy.averages["net"].state_dict().items():
        assert torch.equal(loaded.averages["net"].state_dict()[name], tensor)
        assert saved[f"net_average.{name}"].dtype == tensor.dtype


@pytest.mark.parametrize("last", [0, 4, 10])
def test_a_run_with_averages_resumes_to_the_same_bytes(tmp_path, last):
    fit(Toy(decay=0.9), tmp_path / "whole")
    stop_and_resume(lambda: Toy(decay=0.9), tmp_path / "run", last)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_averages_that_a_run_did_not_keep_start_from_its_network():
    old, new = Toy(), Toy(seed=1, decay=0.9)
    old.networks["net"][1].num_batches_tracked.fill_(17)
    new.load_weights(old.weights())
    for name, tensor in old.networks["net"].state_dict().items():
        assert torch.equal(new.averages["net"].state_dict()[name], tensor)
        assert torch.equal(new.networks["net"].state_dict()[name], tensor)
    assert new.averages["net"][1].num_batches_tracked.dtype == torch.int64


# Guards


def test_a_figure_beyond_its_limit_for_long_stops_the_run_and_is_named_with_its_value(tmp_path):
    values = [1, 1, 0.1, 0.15, 0.125, 1, 1]
    with pytest.raises(TrainingError) as caught:
        fit(GivenFigures(values), tmp_path, steps=7)
    message = str(caught.value)
    assert message.startswith("step 5: all shapes alike: shape is 0.125, below 0.2 for 3 lines")
    assert "\n" not in message
    with pytest.raises(TrainingError, match="shape is 7, above 5"):
        fit(GivenFigures([6, 6, 7]), tmp_path / "high", steps=3)


def test_one_good_line_sets_a_guard_back(tmp_path):
    assert fit(GivenFigures([0.1, 0.1, 1, 0.1, 9, 0.2, 0.1, 0.1]), tmp_path, steps=8).finished


def test_a_guard_counts_lines_of_the_log_and_not_steps(tmp_path):
    assert fit(GivenFigures([0.1] * 8), tmp_path, steps=8, log_every=4).finished


def test_a_guard_leaves_other_figures_and_missing_ones_alone():
    guards = Guards(GivenFigures.limits)
    for step in range(20):
        guards.check({"loss": 1e9}, step)
    assert guards.content


def test_a_collapse_leaves_the_state_before_it_and_training_goes_on_from_there(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    with pytest.raises(TrainingError):
        fit(GivenFigures([1, 1, 1, 1, 0, 0, 0, 0]), tmp_path / "run", steps=8)
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 4
    Toy().load_weights(load_file(tmp_path / "run" / "weights.safetensors"))
    assert fit(GivenFigures([1] * 8), tmp_path / "run", steps=8).finished
    fit(GivenFigures([1] * 8), tmp_path / "whole", steps=8)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_no_number_stops_the_run_at_once(tmp_path, value):
    assert finite({"a": torch.tensor(1.5), "b": 2}, 1) == {"a": 1.5, "b": 2}
    with pytest.raises(TrainingError, match=rf"step 3: shape is {value}"):
        fit(GivenFigures([1, 1, value, 1]), tmp_path, steps=4)
    assert [line["step"] for line in log(tmp_path)] == [1, 2]


def test_weights_that_an_update_spoils_are_not_saved_though_no_figure_shows_it_yet(tmp_path, monkeypatch):
    class Spoilt(Toy):
        def training_step(self, batch, step):
            figures = super().training_step(batch, step)
            if step == 5:
                self.networks["net"][3].weight.data[0, 1] = float("nan")
            return figures

    said = "step 6: the net's weights are not finite"
    with pytest.raises(TrainingError, match=said):
        fit(Spoilt(), tmp_path / "last", steps=6)
    assert not (tmp_path / "last" / "state.pt").exists()
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    with pytest.raises(TrainingError, match=said):
        fit(Spoilt(), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] == 5
    assert all(tensor.isfinite().all() for tensor in state["weights"].values())


# Pictures and curves


def test_pictures_appear_twenty_times_and_at_the_end_in_the_folder_and_on_the_board(tmp_path):
    fit(Drawing(), tmp_path, steps=43, log_every=10)
    expected = [*range(2, 43, 2), 43]
    pictures = sorted((tmp_path / "previews").iterdir())
    assert [int(path.stem) for path in pictures] == expected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert [step for step, _ in shown(tmp_path, "preview")] == expected
    assert {(v.image.height, v.image.width) for _, v in shown(tmp_path, "preview")} == {(32, 32)}


def test_the_board_has_the_curves_of_the_log(tmp_path):
    fit(Toy(), tmp_path, steps=9, log_every=2)
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9]
    assert all(line["steps_per_second"] > 0 and line["seconds"] >= 0 for line in lines)
    found = {step: value.simple_value for step, value in shown(tmp_path, "loss")}
    assert found == pytest.approx({line["step"]: line["loss"] for line in lines})


def test_a_resumed_run_shows_every_step_once_and_pictures_as_one_that_was_not_disturbed(tmp_path):
    fit(Drawing(), tmp_path / "whole")

    class Killed(Exception):
        pass

    def batch_at(step):
        if step == 9:
            raise Killed
        return batches(step)

    with pytest.raises(KeyboardInterrupt):
        fit(Drawing(), tmp_path / "run", given=stopping_at(batches, 4))
    with pytest.raises(Killed):  # after lines and pictures of steps that were not saved
        fit(Drawing(), tmp_path / "run", given=batch_at)
    assert [step for step, _ in shown(tmp_path / "run", "loss")] == list(range(1, 10))
    for file in (tmp_path / "run" / "tensorboard").iterdir():  # as if that had been a while ago
        first, _, rest = file.name.partition("tfevents.")
        file.rename(file.with_name(f"{first}tfevents.{int(rest.split('.')[0]) - 9}.{rest.partition('.')[2]}"))
    fit(Drawing(), tmp_path / "run")
    for tag in ("loss", "preview"):
        assert [step for step, _ in shown(tmp_path / "run", tag)] == list(range(1, 13))
    for picture in (tmp_path / "whole" / "previews").iterdir():
        assert picture.read_bytes() == (tmp_path / "run" / "previews" / picture.name).read_bytes()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_progress_is_one_line_within_the_terminal_that_shows_the_first_figures(width):
    names = ("wasserstein", "penalty", "class_real", "class_fake", *(f"figure {i}" for i in range(8)))
    screen = StringIO()
    with loop._progress(disable=False, console=Console(file=screen, width=width)) as progress:
        task = progress.add_task("ac-wgan", total=20_000, completed=13_579, figures="")
        progress.update(task, figures=loop._shown(1.234, dict.fromkeys(names, 1.23456)))
    (line,) = screen.getvalue().splitlines()
    assert len(line) <= width
    if width == 200:
        assert "13579/20000 1.23/s  wasserstein 1.235  penalty 1.235  class_real 1.235  class_fake 1.235  ..." in line


def test_a_model_without_pictures_makes_no_folder_for_them(tmp_path):
    fit(Toy(), tmp_path)
    assert not (tmp_path / "previews").exists()


# The best weights


def validated(model, values, every=2, **options):
    return Validation(lambda: {"v": values[model.done]}, every, "v", **options)


def best_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)["best"]


@pytest.mark.parametrize(
    ("values", "larger", "best"),
    [
        ({2: 5, 4: 3, 6: 4, 8: 3, 10: 9, 11: 6}, False, 4),
        ({2: 5, 4: 3, 6: 9, 8: 9, 10: 1, 11: 9}, True, 6),
        ({2: 5, 4: 4, 6: 3, 8: 2, 10: 1, 11: 0.5}, False, 11),
        ({2: 5, 4: 4, 6: 3, 8: 2, 10: 1, 11: 0.5}, True, 2),
    ],
)
def test_the_best_weights_are_those_of_the_best_validation_and_of_equals_the_first(tmp_path, values, larger, best):
    toy = Toy()
    fit(toy, tmp_path / "run", steps=11, validation=validated(toy, values, larger_is_better=larger))
    fit(Toy(), tmp_path / "until", steps=best)
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == weights(tmp_path / "until")
    assert best_of(tmp_path / "run") == {"step": best, "value": values[best]}
    assert [(line["step"], line["v"]) for line in log(tmp_path / "run") if "v" in line] == list(values.items())


@pytest.mark.parametrize("last", [1, 4, 5, 9])
def test_a_resumed_run_keeps_the_best_weights_of_one_that_was_not_disturbed(tmp_path, last):
    values = {2: 5, 4: 3, 6: 4, 8: 3, 10: 2, 12: 6}
    for name in ("whole", "run"):
        first, second = Toy(), Toy()
        if name == "run":
            with pytest.raises(KeyboardInterrupt):
                fit(first, tmp_path / name, given=stopping_at(batches, last), validation=validated(first, values))
        fit(second, tmp_path / name, validation=validated(second, values))
    for file in ("best.safetensors", "weights.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert best_of(tmp_path / "run") == best_of(tmp_path / "whole") == {"step": 10, "value": 2}


def test_a_validation_may_belong_to_the_training(tmp_path):
    toy = Toy()
    validation = validated(toy, {6: 1.0, 12: 2.0}, every=6)
    run = RunFolder.open(tmp_path, {}, {})
    loop.fit(Training(toy, [Stage("line", 12, batches)], validation=validation), run, make_fabric("cpu"))
    assert best_of(tmp_path) == {"step": 6, "value": 1.0}
    facts = info(tmp_path)
    assert facts["best"] == {"step": 6, "v": 1.0}
    assert facts["weights_used"] == "best.safetensors, those of the best validation"
    assert best_step(tmp_path) == 6
    (tmp_path / "state.pt").unlink()  # as in a run folder that was copied to use its weights alone
    assert info(tmp_path)["weights_used"] == facts["weights_used"]
    assert best_step(tmp_path) is None


def test_a_validation_that_is_no_number_stops_the_run_and_leaves_the_best_alone(tmp_path):
    toy = Toy()
    with pytest.raises(TrainingError, match="step 4: v is nan"):
        fit(toy, tmp_path / "run", validation=validated(toy, {2: 5, 4: float("nan")}))
    fit(Toy(), tmp_path / "until", steps=2)
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == weights(tmp_path / "until")


def test_a_figure_to_select_by_that_validation_does_not_have_is_one_clear_line(tmp_path):
    toy = Toy()
    wrong = Validation(lambda: {"v": 1.0, "w": 2.0}, 2, "dice")
    with pytest.raises(InputError, match=r"^select: found 'dice'; expected v or w$"):
        fit(toy, tmp_path, validation=wrong)


# Devices


@pytest.mark.parametrize("device", ["cuda", "gpu", "tpu", "quantum"])
def test_a_device_that_is_not_there_is_one_clear_line(device, tmp_path):
    if device in ("cuda", "gpu") and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError) as caught:
        make_fabric(device)
    assert repr(device) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_hosts_need_to_know_of_each_other(monkeypatch):
    for name in devices.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        InputError, match="nodes: found 2, but nothing that says where the other hosts are; expected MASTER_ADDR"
    ):
        make_fabric("cpu", nodes=2)


@pytest.mark.parametrize(("devices", "nodes"), [(0, 1), (-1, 1), (1, 0)])
def test_no_devices_are_refused(devices, nodes):
    with pytest.raises(InputError, match=r"^devices: found .*; expected 1 or more$"):
        make_fabric("cpu", devices, nodes)


def test_a_missing_gpu_is_found_before_a_run_folder_is_made(shapes, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match="'cuda'"):
        api.train("lung", shapes, tmp_path / "run", preset="smoke", device="cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("there", "meant"), [(True, "cuda"), (False, "cpu")])
def test_auto_means_cuda_or_the_cpu_and_never_another_accelerator(monkeypatch, there, meant):
    asked = {}
    monkeypatch.setattr(devices, "Fabric", lambda **options: asked.update(options))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    make_fabric()
    assert asked["accelerator"] == meant


@pytest.mark.parametrize(
    ("precision", "tf32", "dtype"),
    [("32", False, torch.float32), ("tf32", True, torch.float32), ("bf16", True, torch.bfloat16)],
)
def test_a_precision_says_whether_tf32_and_bfloat16_are_used_whatever_was_set_before(precision, tf32, dtype):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    for backend in backends:
        backend.allow_tf32 = not tf32
    fabric = make_fabric("cpu", precision=precision)
    assert [backend.allow_tf32 for backend in backends] == [tf32, tf32]
    with fabric.autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def test_the_precision_that_is_asked_for_is_that_of_the_run_and_in_its_notes(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "make_fabric", lambda *given: asked.append(given) or make_fabric("quantum"))
    with pytest.raises(InputError, match="quantum"):
        api.train("ac-wgan", tmp_path, tmp_path / "run", preset="smoke", settings={"precision": "tf32"})
    assert asked == [("auto", 1, 1, "tf32")]
    assert ac_wgan_config("smoke", {"precision": "tf32"}).model_dump(mode="json")["precision"] == "tf32"
    with pytest.raises(InputError, match="precision"):
        ac_wgan_config("smoke", {"precision": "16"})


# Several processes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "balls.npy"
    np.save(path, ball_stack())
    return path


@pytest.fixture(scope="module")
def lung(shapes, tmp_path_factory):
    """Return an uninterrupted run of LuNG."""
    folder = tmp_path_factory.mktemp("lung") / "run"
    api.train("lung", shapes, folder, preset="smoke", device="cpu")
    return folder


def test_two_processes_train_lung_as_one_does_and_one_of_them_writes_and_speaks(shapes, lung, tmp_path):
    command = [sys.executable, "-m", "synthorax", "train", "lung", "--preset", "smoke", "--device", "cpu"]
    paths = ["--data", shapes, "--out", tmp_path / "run", "--devices", 2]
    done = subprocess.run(
        command + [str(part) for part in paths],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == told(tmp_path / "run", len(ball_stack()))
    alone, together = timeless_log(lung), timeless_log(tmp_path / "run")
    assert [line["step"] for line in together] == [line["step"] for line in alone]
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(p.name for p in lung.iterdir())
    one, two = (hub.load(folder).system.sample(4, 0).fields for folder in (lung, tmp_path / "run"))
    np.testing.assert_allclose(two, one, atol=0.02)


# Fine-tuning


def first_error(folder):
    return log(folder)[0]["mse"]


def test_fine_tuning_starts_from_the_weights_it_is_given_and_notes_whose(shapes, lung, tmp_path):
    settings = {"iterations": 4, "rounds": 1, "initialisation": "default"}
    options = {"preset": "smoke", "settings": settings, "device": "cpu", "seed": 3}
    api.train("lung", shapes, tmp_path / "fresh", **options)
    api.train("lung", shapes, tmp_path / "tuned", start=lung, **options)
    assert first_error(tmp_path / "tuned") < 0.5 * first_error(tmp_path / "fresh")
    kept = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())
    assert kept["from"] == hub.load(lung).sha256
    assert "from" not in yaml.safe_load((tmp_path / "fresh" / "config.yaml").read_text())
    assert json.loads((tmp_path / "tuned" / "data.json").read_text())["seen_before"] == sorted(hub.load(lung).seen)
    # The same command goes on; one without the start, or with another, is another run.
    assert api.train("lung", shapes, tmp_path / "tuned", start=str(lung), **options).finished
    for start in (None, tmp_path / "fresh"):
        with pytest.raises(InputError, match="a run with from"):
            api.train("lung", shapes, tmp_path / "tuned", start=start, **options)


def test_a_model_has_seen_what_its_ancestors_have_seen(tmp_path):
    records = [ShapeRecord(f"{name}-0", name) for name in "ABC"]
    z, y, x = np.indices((20, 40, 40))
    ball = (z - 10) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 30
    before = None
    for i, record in enumerate(records):
        shapes = ShapeSet(ball[None].astype(np.float32), (1.25, 0.7, 0.7), (record,))
        folder = tmp_path / record.patient_id
        settings = {"iterations": 2, "rounds": 1, "initialisation": "default"}
        api.train("lung", shapes, folder, preset="smoke", settings=settings, device="cpu", start=before)
        assert hub.load(folder).seen == {r.patient_id for r in records[: i + 1]}
        assert hub.load(folder / "weights.safetensors").seen == hub.load(folder).seen
        before = folder
    (before / "data.json").write_text("{")
    with pytest.raises(InputError, match=r"data\.json: found a damaged file"):
        hub.load(before)
    (before / "data.json").unlink()
    assert hub.load(before).seen == frozenset()


def test_weights_of_other_sizes_or_of_another_system_are_refused_in_one_line(shapes, lung, tmp_path):
    other = hub.Model(AcWgan(PRESETS["smoke"]), "0" * 64)
    misfit = r"^from: found weights that do not fit.*a lung with networks of the same sizes"
    for start, settings, message in (
        (lung, {"layers": "8_2_16_64"}, misfit),
        (other, {}, r"^from: found a model of ac-wgan; expected a model of lung$"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            api.train("lung", shapes, tmp_path / "run", preset="smoke", settings=settings, start=start, device="cpu")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"no config\.yaml"):
        api.train("lung", shapes, tmp_path / "run", preset="smoke", start=Path(tmp_path / "none"), device="cpu")
    assert not (tmp_path / "run").exists()
