"""Training in several processes: an error in any of them is reported once, and no process is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from synthorax.errors import InputError, SynthoraxError
from synthorax.training import processes
from synthorax.training.processes import Alarm
from tests.helpers.runs import log, told

RUN = """
import os, sys, time
from synthorax.cli import main
from synthorax.errors import InputError, OutputError, TrainingError
from synthorax.training import loop, processes, run_folder
from synthorax.systems.lung import training

def failing(error):
    def fail(*arguments, **options):
        raise error
    return fail

if __name__ == "__main__":
    rank = int(os.environ.get("LOCAL_RANK", 0))
    {fault}
    sys.exit(main(sys.argv[1:]))
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LONG = ["--set", "iterations=30000"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Four boxes on LuNG's grid."""
    stack = np.zeros((4, 20, 40, 40), np.float32)
    for i in range(4):
        stack[i, 8 - i : 11 + i, 17 - i : 22 + i, 17 - i : 22 + i] = 1
    path = tmp_path_factory.mktemp("shapes") / "boxes.npy"
    np.save(path, stack)
    return path


@pytest.fixture
def train(shapes, tmp_path):
    """Start `synthorax train lung` in two processes, with something going wrong."""

    def start(fault="pass", *more, **environment):
        script = tmp_path / "run.py"
        script.write_text(RUN.format(fault=fault))
        command = [sys.executable, script, "train", "lung", "--preset", "smoke", "--device", "cpu", "--data", shapes]
        command += ["--out", tmp_path / "run", *(more or ("--devices", 2))]
        return subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | environment,
            start_new_session=True,
        )

    return start


def finished(process):
    """Return the output that a user reads, without the progress line and the note on the masks, and the exit code."""
    out, err = process.communicate()
    aside = ("lung ", "synthorax: warning: the patients of these masks are not known")
    return out, [line for line in err.splitlines() if line.strip() and not line.startswith(aside)], process.returncode


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_group_to_end(process, seconds=300):
    """Wait until no process of the session that this process led is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("fault", "line", "code"),
    [
        pytest.param(
            'training.read_shapes = failing(InputError("boxes", "holes", "none"))',
            "boxes: found holes",
            2,
            marks=pytest.mark.prove,
        ),
        pytest.param(
            'loop.finite = failing(TrainingError("step 50: mse is nan"))',
            "step 50: mse is nan",
            1,
            marks=pytest.mark.prove,
        ),
        ('if rank == 0: run_folder.RunFolder.log = failing(OutputError("log", "full"))', "log: cannot write: full", 2),
        ('if rank == 1: training.read_shapes = failing(InputError("boxes", "holes", "none"))', "boxes: found holes", 2),
        (
            'if rank == 1: loop.finite = failing(InputError("a", "b", "c"))\n'
            "    else: processes.PROCESS_PATIENCE_S = 1; loop.finite = lambda *_: time.sleep(300)",
            "a: found b; expected c",
            2,
        ),
    ],
    ids=["data of all", "figures of all", "disk of the first", "data of one", "the first is busy"],
)
def test_an_error_in_any_process_is_one_line_and_an_exit_code_and_nobody_stays(train, fault, line, code):
    process = train(fault)
    out, lines, returned = finished(process)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"synthorax: {line}")
    assert (out, returned) == ("", code)
    assert wait_for_group_to_end(process)


def test_a_bug_in_another_process_is_one_line_and_a_file_that_shows_where_it_is(train):
    _, lines, code = finished(train("if rank == 1: loop.finite = failing(ZeroDivisionError('by nought'))"))
    assert code == 1
    (line,) = lines
    assert "nobody foresaw (ZeroDivisionError: by nought)" in line
    report = Path(line.rpartition(" ")[2])
    assert "raise" in report.read_text()
    report.unlink()


def test_an_error_that_was_foreseen_stays_so_whatever_characters_the_name_in_it_has():
    sent = json.dumps(vars(processes.ErrorReport.of(InputError("two\nlines", "holes", "none"))))
    report = processes.ErrorReport(**json.loads(sent))
    assert isinstance(report.error(), SynthoraxError)
    assert (str(report.error()), report.error().exit_code) == ("two\nlines: found holes; expected none", 2)


def test_two_processes_that_are_stopped_say_so_once(train, tmp_path):
    process = train("loop.SAVE_EVERY_S = 0", "--devices", 2, *LONG)
    while not (tmp_path / "run" / "state.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, lines, code = finished(process)
    assert lines[:-1] == ["stopping after this step; Ctrl-C again stops now"], lines
    assert lines[-1].startswith("synthorax: stopped after step")
    assert (out, code) == ("", 130)
    assert wait_for_group_to_end(process)


def test_when_the_first_process_is_killed_none_stays(train, tmp_path):
    process = train("loop.SAVE_EVERY_S = 0", "--devices", 2, *LONG)
    while not (tmp_path / "run" / "state.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert wait_for_group_to_end(process)


# Hosts


def hosts(train, *more, fault="pass"):
    """Run the same command on two hosts, as in docs/training.md."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [train(fault, "--devices", 1, "--nodes", 2, *more, NODE_RANK=str(node), **place) for node in range(2)]


def test_two_hosts_train_one_model_and_the_first_one_speaks(train, tmp_path):
    first, second = (finished(process) for process in hosts(train))
    assert first == (told(tmp_path / "run", 4), [], 0)
    assert second == ("", [], 0)
    assert [record["step"] for record in log(tmp_path / "run")] == [50, 60]


def test_hosts_that_do_not_share_the_run_folder_are_told_so(train, tmp_path):
    finished(train("pass", "--devices", 1))
    fault = "if os.environ['NODE_RANK'] == '1': run_folder.STATE = 'elsewhere.pt'"
    first, second = (finished(process) for process in hosts(train, fault=fault))
    assert first[1][0].endswith("found different states on different hosts; expected a folder that all hosts share")
    assert (first[2], second) == (2, ("", [], 0))


def test_torchrun_may_start_the_processes(train, tmp_path, shapes):
    paths = ["--data", str(shapes), "--out", str(tmp_path / "run"), "--preset", "smoke", "--device", "cpu"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    command = [sys.executable, *launcher, "-m", "synthorax", "train", "lung", *paths, "--devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == told(tmp_path / "run", 4)


def test_no_thread_watches_for_errors_once_the_training_is_over(monkeypatch):
    """Python aborts if it ends while a thread comes back from PyTorch's C++ code."""
    asked = threading.Event()

    class Store:
        def check(self, keys):
            asked.set()
            time.sleep(0.3)
            return False

    monkeypatch.setattr("synthorax.training.processes._get_default_store", Store)
    alarm = Alarm(first=True, world=2)
    assert asked.wait(60)
    alarm.off()
    assert "alarm" not in [thread.name for thread in threading.enumerate()]
