"""Training runs that are stopped, killed or without disk space resume as if nothing had happened."""

import contextlib
import errno
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from synthorax import api, hub
from synthorax.errors import InputError, OutputError, SynthoraxError, TrainingError
from synthorax.systems.lung import training as lung_training
from synthorax.systems.lung.config import lung_config
from synthorax.systems.lung.system import Lung
from synthorax.training import loop
from synthorax.training.board import Board
from synthorax.training.devices import make_fabric
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Stage, Training
from tests.helpers.balls import ball_stack
from tests.helpers.runs import log, stopping_at, timeless_log, weights

STEPS = 60
CHILD_STEPS = 900
PAUSE = 400
"""The step of a child's run before which it waits for a signal, so that no test depends on how fast anybody is."""
CHILD = """
import os, signal, sys
from itertools import count
from pathlib import Path
import synthorax.training.loop as loop
from synthorax.systems.lung.system import Lung
from synthorax.cli import main

loop.SAVE_EVERY_S = {save_every_s}
pause, paused, train = {pause}, Path({paused!r}), Lung.training_step

def training_step(self, batch, step):
    if step == pause - 1:
        loop.SAVE_EVERY_S = 0  # the state after this step is saved
    if step == pause:
        loop.SAVE_EVERY_S = 1e9
        arrived, sent = os.pipe()
        os.set_blocking(sent, False)
        signal.set_wakeup_fd(sent)
        paused.touch()
        os.read(arrived, 1)
    return train(self, batch, step)

Lung.training_step = training_step
sys.exit(main(sys.argv[1:]))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def stack():
    return ball_stack()


@pytest.fixture(scope="module")
def data(stack, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "balls.npy"
    np.save(path, stack)
    return path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return an uninterrupted run of `STEPS` steps."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert api.train("lung", data, folder, preset="smoke", device="cpu").finished
    return folder


@pytest.fixture(scope="module")
def long_whole(data, tmp_path_factory):
    """Return an uninterrupted run of `CHILD_STEPS` steps."""
    folder = tmp_path_factory.mktemp("long") / "run"
    assert train_long(data, folder).finished
    return folder


@pytest.fixture
def lab(stack, tmp_path):
    """Return what a test needs to call `fit`: a new system, its batches and a run folder."""

    def fresh():
        system, batches = Lung.for_training(lung_config("smoke", {}), stack, 0)
        run = RunFolder.open(tmp_path / "run", {"system": "lung", "config": system.config.model_dump(mode="json")}, {})
        return SimpleNamespace(system=system, batches=batches, run=run)

    return fresh


def fit(lab, batches=None, **options):
    log_every = options.pop("log_every", 50)
    stages = [Stage("autoencoder", STEPS, batches or lab.batches)]
    training = Training(lab.system, stages, log_every=log_every)
    return loop.fit(training, lab.run, make_fabric("cpu"), **options)


def train_long(data, folder):
    return api.train("lung", data, folder, preset="smoke", settings={"iterations": CHILD_STEPS}, device="cpu")


def child(data, folder, save_every_s=1e9, pause=PAUSE):
    """Start `synthorax train lung` in a separate process, which waits before a step."""
    arguments = ["train", "lung", "--data", data, "--out", folder, "--preset", "smoke"]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.format(save_every_s=save_every_s, pause=pause, paused=str(paused(folder)))]
        + [str(a) for a in [*arguments, "--set", f"iterations={CHILD_STEPS}", "--device", "cpu"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def paused(folder):
    """Return the file by which a child shows that it waits."""
    return folder.with_suffix(".paused")


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def saved_step(folder):
    return torch.load(folder / "state.pt", weights_only=True)["step"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Stopped and resumed


def test_a_run_folder_holds_what_it_says(whole):
    assert names(whole) == ["config.yaml", "data.json", "log.jsonl", "state.pt", "tensorboard", "weights.safetensors"]
    assert [record["step"] for record in timeless_log(whole)] == [50, 60]
    assert saved_step(whole) == STEPS


def test_two_runs_of_one_seed_have_the_same_bytes_and_another_seed_has_others(data, whole, tmp_path):
    api.train("lung", data, tmp_path / "again", preset="smoke", device="cpu")
    api.train("lung", data, tmp_path / "other", preset="smoke", device="cpu", seed=1)
    assert weights(tmp_path / "again") == weights(whole)
    assert weights(tmp_path / "other") != weights(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("last", [0, 28, 29, 30, 49, 58])
def test_a_run_stopped_at_any_step_and_resumed_ends_with_the_bytes_of_one_that_was_not(
    lab, whole, last, number, capsys
):
    stopped = lab()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, stopping_at(stopped.batches, last, number))
    assert saved_step(stopped.run.path) == last + 1
    resumed = lab()
    asked = []
    outcome = fit(resumed, lambda step: asked.append(step) or resumed.batches(step))
    assert asked == list(range(last + 1, STEPS))
    assert (outcome.step, outcome.finished) == (STEPS, True)
    told = f"continues after step {last + 1} of {STEPS}\n"
    assert (told in capsys.readouterr().err) == (last + 1 < STEPS)
    assert weights(resumed.run.path) == weights(whole)
    assert timeless_log(resumed.run.path) == timeless_log(whole)


def test_a_run_given_a_moment_at_a_time_ends_with_the_bytes_of_one_that_was_not(lab, whole, monkeypatch):
    ticks = count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: 0.001 * next(ticks))  # goes on when it is looked at
    calls = 0
    finished = False
    while not finished:
        given = lab()
        outcome = fit(given, max_minutes=0.03 / 60)
        finished = outcome.finished
        assert outcome.step == saved_step(given.run.path)
        calls += 1
        assert calls < 100
    assert calls > 1
    assert weights(given.run.path) == weights(whole)
    assert timeless_log(given.run.path) == timeless_log(whole)


def test_minutes_count_from_the_beginning_of_the_call_as_the_data_are_made_ready(data, tmp_path, monkeypatch):
    made_ready = lung_training.training

    def slowly(*arguments):
        time.sleep(0.5)
        return made_ready(*arguments)

    monkeypatch.setattr(lung_training, "training", slowly)
    outcome = api.train("lung", data, tmp_path / "run", preset="smoke", device="cpu", max_minutes=0.4 / 60)
    assert (outcome.step, outcome.finished) == (0, False)


def test_more_steps_of_a_system_that_has_no_setting_steps_are_refused_in_one_line(data, tmp_path):
    with pytest.raises(
        InputError, match="more_steps: found given for lung, whose finished runs cannot be trained further"
    ):
        api.train("lung", data, tmp_path / "run", preset="smoke", more_steps=5)
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_found_before_any_work_on_data(data, tmp_path, monkeypatch):
    monkeypatch.setattr(lung_training, "training", lambda *_: pytest.fail("data were read"))
    with pytest.raises(InputError, match="'quantum'"):
        api.train("lung", data, tmp_path / "run", preset="smoke", device="quantum")


def test_the_seconds_of_the_log_go_on_where_a_stopped_run_had_them(lab, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])

    def ticking(batches):
        def batch_at(step):
            clock[0] += 1
            return batches(step)

        return batch_at

    stopped = lab()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, stopping_at(ticking(stopped.batches), 29), log_every=10)
    clock[0] += 1000
    resumed = lab()
    fit(resumed, ticking(resumed.batches), log_every=10)
    assert [record["seconds"] for record in log(resumed.run.path)] == [10, 20, 30, 40, 50, 60]


def test_the_first_interrupt_is_told_before_the_step_ends(lab, capsys):
    stopped, said = lab(), []

    def batch_at(step):
        if step == 20:
            signal.raise_signal(signal.SIGINT)
            said.append(capsys.readouterr().err)
        return stopped.batches(step)

    with pytest.raises(KeyboardInterrupt, match="after step 21, which is saved"):
        fit(stopped, batch_at)
    assert "stopping after this step; Ctrl-C again stops now\n" in said[0]


def test_a_second_interrupt_stops_at_once(lab, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    stopped = lab()
    seen = []

    def batch_at(step):
        seen.append(step)
        if step == 20:
            signal.raise_signal(signal.SIGINT)  # which returns when it was received: two may not arrive as one
            signal.raise_signal(signal.SIGINT)
        return stopped.batches(step)

    with pytest.raises(
        KeyboardInterrupt, match=r"^at once; the run folder keeps the last state that was saved before$"
    ):
        fit(stopped, batch_at)
    assert (seen[-1], saved_step(stopped.run.path)) == (20, 20)


def test_rate_and_time_left_are_shown_from_the_first_steps_on(lab, monkeypatch):
    made, seen, given, progress = [], {}, lab(), loop._progress
    monkeypatch.setattr(loop, "_progress", lambda **options: made.append(progress(**options)) or made[0])

    def batch_at(step):
        if step == 3:
            (task,) = made[0].tasks
            seen.update(completed=task.completed, left=task.time_remaining, figures=task.fields["figures"])
        return given.batches(step)

    fit(given, batch_at, log_every=50)
    assert seen["completed"] == 3
    assert seen["left"] is not None
    assert re.fullmatch(r"\S+/s", seen["figures"])


def test_two_terms_as_timeout_sends_them_still_save(lab):
    stopped = lab()
    with pytest.raises(KeyboardInterrupt, match="after step 21"):
        fit(stopped, stopping_at(stopping_at(stopped.batches, 20), 20))
    assert saved_step(stopped.run.path) == 21


def test_a_run_may_be_trained_in_a_thread(lab, whole):
    given = lab()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fit, given).result().finished
    assert weights(given.run.path) == weights(whole)


def test_a_run_without_a_setting_that_came_later_goes_on_if_its_default_is_asked_for(data, whole, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names(whole):
        if (whole / name).is_file():
            (folder / name).write_bytes((whole / name).read_bytes())
    older = yaml.safe_load((folder / "config.yaml").read_text())
    del older["config"]["reflected"], older["config"]["morph_weight"]  # which smoke has as they are by default
    (folder / "config.yaml").write_text(yaml.safe_dump(older))
    assert api.train("lung", data, folder, preset="smoke", device="cpu").finished
    with pytest.raises(InputError, match="a run with reflected true; expected reflected false"):
        api.train("lung", data, folder, preset="smoke", settings={"reflected": False}, device="cpu")
    older["config"]["depth"] = 3
    (folder / "config.yaml").write_text(yaml.safe_dump(older))
    with pytest.raises(InputError, match="a run with depth 3; expected depth none"):
        api.train("lung", data, folder, preset="smoke", device="cpu")


def test_a_difference_of_hundreds_of_patients_is_told_in_a_short_line(tmp_path):
    RunFolder.open(tmp_path, {}, {"patients": {"train": [f"P{i}" for i in range(999)]}})
    with pytest.raises(InputError, match=r'patients\.train \["P0",') as caught:
        RunFolder.open(tmp_path, {}, {"patients": {"train": [f"P{i}" for i in range(998)]}})
    assert len(str(caught.value).replace(str(tmp_path), "")) < 400


def test_a_finished_run_that_is_asked_for_again_stays_as_it_is(data, whole):
    before = weights(whole), timeless_log(whole)
    outcome = api.train("lung", data, whole, preset="smoke", device="cpu")
    assert (outcome.step, outcome.finished) == (STEPS, True)
    assert (weights(whole), timeless_log(whole)) == before


def test_the_handlers_of_signals_are_given_back(lab):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fit(lab(), max_minutes=0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_sigterm_stops_the_command_cleanly_and_the_same_command_goes_on(data, long_whole, tmp_path):
    folder = tmp_path / "run"
    process = child(data, folder)
    wait_for(process, paused(folder).exists)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1].startswith("synthorax: stopped")
    assert "Traceback" not in out + err
    assert saved_step(folder) == PAUSE + 1
    hub.load(folder)
    assert train_long(data, folder).finished
    assert weights(folder) == weights(long_whole)


# Killed


def kill_and_resume(data, folder, moment, expected):
    """Kill a run without warning, `moment` seconds after its folder appears; then finish it."""
    process = child(data, folder, save_every_s=0.2, pause=-1)
    wait_for(process, lambda: (folder / "config.yaml").exists())
    time.sleep(moment)
    process.kill()
    process.communicate()
    if (folder / "weights.safetensors").exists():
        hub.load(folder)
    assert train_long(data, folder).finished
    assert weights(folder) == weights(expected)
    assert timeless_log(folder) == timeless_log(expected)


def test_a_killed_run_goes_on_to_the_bytes_of_one_that_was_not(data, long_whole, tmp_path):
    folder = tmp_path / "run"
    process = child(data, folder)
    wait_for(process, paused(folder).exists)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert saved_step(folder) == PAUSE
    hub.load(folder)
    assert train_long(data, folder).finished
    assert weights(folder) == weights(long_whole)
    assert timeless_log(folder) == timeless_log(long_whole)


@pytest.mark.prove
@pytest.mark.parametrize("trial", range(10))
def test_a_run_killed_at_a_random_moment_goes_on_to_the_bytes_of_one_that_was_not(data, long_whole, tmp_path, trial):
    kill_and_resume(data, tmp_path / "run", random.Random(trial).uniform(0, 4), long_whole)


@pytest.mark.prove
def test_a_run_killed_ten_times_ends_with_the_bytes_of_one_that_was_not(data, long_whole, tmp_path):
    folder = tmp_path / "run"
    moments = random.Random(10)
    for _ in range(10):
        process = child(data, folder, save_every_s=0.05, pause=-1)
        time.sleep(moments.uniform(2, 5))
        process.kill()
        process.communicate()
    assert train_long(data, folder).finished
    assert weights(folder) == weights(long_whole)
    assert timeless_log(folder) == timeless_log(long_whole)


def test_a_run_killed_before_its_first_save_starts_its_log_anew(lab, whole):
    killed = lab()
    killed.run.log({"step": 50, "seconds": 1.0, "mse": 123.0})
    fit(lab())
    assert timeless_log(killed.run.path) == timeless_log(whole)


def test_a_run_killed_while_its_folder_was_made_can_be_started(data, whole, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "data.json").write_bytes((whole / "data.json").read_bytes())
    assert api.train("lung", data, folder, preset="smoke", device="cpu").finished
    assert weights(folder) == weights(whole)


@pytest.mark.parametrize("tail", ['{"step": 60, "se', "{", '{"step": 10', '{"step": 40, "seconds": 1, "mse": 2.0}'])
def test_a_half_written_last_line_of_the_log_is_trimmed(lab, whole, tail):
    stopped = lab()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, stopping_at(stopped.batches, 54))
    with open(stopped.run.path / "log.jsonl", "a") as file:
        file.write(tail)
    fit(lab())
    assert timeless_log(stopped.run.path) == timeless_log(whole)


def test_lines_of_steps_after_the_last_save_are_dropped(lab, whole):
    stopped = lab()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, stopping_at(stopped.batches, 30))
    for step in (50, 60):
        stopped.run.log({"step": step, "seconds": 1.0, "mse": 123.0})
    fit(lab())
    assert timeless_log(stopped.run.path) == timeless_log(whole)


# Figures that are no numbers


def nan_from(batches, first):
    return lambda step: batches(step) * (float("nan") if step >= first else 1)


def test_a_nan_stops_the_run_and_keeps_the_last_good_state(lab, whole, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    broken = lab()
    with pytest.raises(TrainingError, match="step 32: mse is nan; the run folder keeps the last state that was saved"):
        fit(broken, nan_from(broken.batches, 31), log_every=10)
    assert saved_step(broken.run.path) == 31
    assert [record["step"] for record in timeless_log(broken.run.path)] == [10, 20, 30]
    assert np.isfinite(hub.load(broken.run.path).system.sample(3, 0).fields).all()
    fit(lab())
    assert weights(broken.run.path) == weights(whole)


def test_a_nan_before_the_first_save_leaves_nothing_to_resume_from(lab):
    broken = lab()
    with pytest.raises(TrainingError, match="mse is nan; no state was saved before, so that the same command begins"):
        fit(broken, nan_from(broken.batches, 3))
    assert not {"state.pt", "weights.safetensors"} & set(names(broken.run.path))


@pytest.mark.parametrize("how", ["signal", "time"])
def test_a_stop_soon_after_a_nan_does_not_save_it(lab, monkeypatch, how):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    broken = lab()
    batches = nan_from(broken.batches, 31)
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])

    def batch_at(step):
        clock[0] += 1
        return batches(step)

    stop = {"signal": stopping_at(batch_at, 33), "time": batch_at}[how]
    with contextlib.suppress(TrainingError, KeyboardInterrupt):
        fit(broken, stop, log_every=10, max_minutes=34 / 60)
    saved = torch.load(broken.run.path / "state.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in saved["weights"].values())


# Other runs, other folders


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed 0"),
        ({"preset": "compact"}, "preset smoke"),
        ({"settings": {"iterations": 80}}, "iterations 60"),
        ({"settings": {"layers": "8_2_16_64"}}, "layers 8_3_16_64"),
        ({"settings": {"learning_rate": 0.004}}, "learning_rate 0.003"),
        ({"nodules": 3}, "other data, as requested; the data of the run"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings_or_data(data, whole, change, named):
    before = weights(whole), timeless_log(whole), names(whole)
    with pytest.raises(InputError) as caught:
        api.train("lung", data, whole, **({"preset": "smoke", "device": "cpu"} | change))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (weights(whole), timeless_log(whole), names(whole)) == before


def test_a_run_does_not_go_on_with_nodules_that_changed_under_the_same_name(stack, whole, tmp_path):
    np.save(tmp_path / "balls.npy", stack[::-1])
    with pytest.raises(InputError, match="other data, as requested; the data of the run"):
        api.train("lung", tmp_path / "balls.npy", whole, preset="smoke", device="cpu")


def test_a_folder_of_something_else_is_left_alone(data, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="not a run"):
        api.train("lung", data, tmp_path, preset="smoke", device="cpu")
    assert names(tmp_path) == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", ""),
        ("config.yaml", "- a list\n"),
        ("config.yaml", "just words\n"),
        ("config.yaml", "a: [1, 2\n"),
        ("config.yaml", "learning_rate: 0.1\n"),
        ("config.yaml", b"\xff\xfe\x00"),
        ("data.json", ""),
        ("data.json", "{"),
        ("data.json", "[1]"),
        ("data.json", None),
    ],
)
def test_a_run_whose_notes_are_damaged_is_refused_in_one_line(lab, data, whole, tmp_path, name, content):
    folder = tmp_path / "run"
    folder.mkdir()
    for part in ("config.yaml", "data.json"):
        (folder / part).write_bytes((whole / part).read_bytes())
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        api.train("lung", data, folder, preset="smoke", device="cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


# Damage and full disks


@pytest.mark.parametrize("damage", ["empty", "half", "words", "foreign pickle", "other networks", "no optimiser"])
def test_a_damaged_state_is_refused_in_one_line(lab, damage):
    stopped = lab()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, stopping_at(stopped.batches, 10))
    path = stopped.run.path / "state.pt"
    content = path.read_bytes()
    state = torch.load(path, weights_only=True)
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "words":
            path.write_text("no state at all\n" * 100)
        case "foreign pickle":
            torch.save(SimpleNamespace(step=3), path)
        case "other networks":
            torch.save(state | {"weights": {k: t[..., :1] for k, t in state["weights"].items()}}, path)
        case "no optimiser":
            torch.save(state | {"optimizers": {}}, path)
    with pytest.raises(InputError) as caught:
        fit(lab())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@contextlib.contextmanager
def files_no_larger_than(size):
    """A context in which the kernel refuses to let a file grow further, as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("failing", ["state", "weights", "rename"])
def test_a_full_disk_leaves_the_last_whole_files_and_no_rubbish(lab, monkeypatch, failing):
    stopped = lab()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, stopping_at(stopped.batches, 20))
    folder = stopped.run.path
    there = names(folder)
    before = {name: (folder / name).read_bytes() for name in there if (folder / name).is_file()}
    room = 1_000_000
    assert room < len(before["weights.safetensors"]) < len(before["state.pt"])
    starved = lab()
    with contextlib.ExitStack() as disk, monkeypatch.context() as patch:
        replace = pathlib.Path.replace

        def then_full(source, target):
            if failing == "rename":
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)
            disk.enter_context(files_no_larger_than(room))

        if failing == "state":
            disk.enter_context(files_no_larger_than(room))
        patch.setattr(pathlib.Path, "replace", then_full)
        with pytest.raises(OutputError) as caught:
            starved.run.save(Training(starved.system, [Stage("autoencoder", 40, starved.batches)]), 30)
    assert "\n" not in str(caught.value)
    assert names(folder) == there
    changed = {name for name in before if (folder / name).read_bytes() != before[name]}
    assert changed == ({"state.pt"} if failing == "weights" else set())
    assert saved_step(folder) == (30 if failing == "weights" else 21)
    hub.load(folder)


# Loading a run


@pytest.fixture
def copy(whole, tmp_path):
    """A finished run that a test may damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("config.yaml", "weights.safetensors"):
        (folder / name).write_bytes((whole / name).read_bytes())
    return folder


def test_a_run_loads_from_its_configuration_and_weights_alone(copy, whole):
    loaded, original = hub.load(copy), hub.load(str(whole))
    assert loaded.sha256 == original.sha256
    np.testing.assert_array_equal(loaded.system.sample(3, 0).fields, original.system.sample(3, 0).fields)


def _change_config(folder, **changes):
    content = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(content | changes))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "config.yaml").unlink(), "no config.yaml"),
        (lambda f: (f / "weights.safetensors").unlink(), "no weights.safetensors"),
        (lambda f: (f / "weights.safetensors").write_bytes(b""), "damaged"),
        (lambda f: (f / "weights.safetensors").write_bytes(weights(f)[:5000]), "damaged"),
        (lambda f: (f / "weights.safetensors").write_bytes(weights(f)[:-1]), "damaged"),
        (lambda f: (f / "weights.safetensors").write_text("words"), "damaged"),
        (lambda f: (f / "config.yaml").write_text(""), "damaged"),
        (lambda f: (f / "config.yaml").write_text("a: [1"), "damaged"),
        (lambda f: (f / "config.yaml").write_bytes(b"\xff\xfe\x00"), "damaged"),
        (lambda f: _change_config(f, config={"layers": "8_4_16_64"}), "damaged"),
        (lambda f: _change_config(f, config={"layers": "no layers"}), "layers"),
        (lambda f: _change_config(f, config={"depth": 3}), "damaged"),
        (lambda f: _change_config(f, system="alchemy"), "'alchemy'"),
    ],
)
def test_a_run_that_does_not_load_says_why_in_one_line(copy, damage, said):
    damage(copy)
    with pytest.raises(InputError) as caught:
        hub.load(copy)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["nowhere", "file.txt"])
def test_what_is_no_folder_is_no_run(tmp_path, place):
    (tmp_path / "file.txt").write_text("words")
    with pytest.raises(InputError, match=r"no config\.yaml"):
        hub.load(tmp_path / place)


def test_every_error_on_purpose_has_an_exit_code_and_one_line():
    errors = [InputError("a", "b", "c"), OutputError("a", "b"), TrainingError("a")]
    assert all(isinstance(error, SynthoraxError) for error in errors)
    assert [error.exit_code for error in errors] == [2, 2, 1]
    assert [str(error) for error in errors] == ["a: found b; expected c", "a: cannot write: b", "a"]


def test_a_disk_that_fills_while_curves_are_written_is_told_of(lab):
    run = lab().run
    with Board(run.path, 0) as board:
        for _ in range(50):
            board.scalars({"mse": 1.0}, 1)
        (file,) = (run.path / "tensorboard").iterdir()
        with files_no_larger_than(file.stat().st_size + 10), pytest.raises(OutputError, match="cannot write"):
            for step in range(100):
                board.scalars({"mse": 1.0}, step)
