"""One line, whatever happens: signals, unforeseen errors, names that a terminal would obey, damaged runs."""

import json
import os
import signal
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from synthorax.cli import main
from synthorax.cli.nets import ending_signals, file_at_hand, quiet
from synthorax.errors import InputError, Stopped
from synthorax.io.locks import claim
from synthorax.io.mappings import MOST_YAML_BYTES, parse_yaml, read_mapping
from synthorax.screen import one_line, plain
from synthorax.training.board import BOARD, Board
from synthorax.training.files import CONFIG, DATA, LOG, STATE, read_log

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN = ["train", "lung", "--preset", "smoke", "--device", "cpu"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, with a stack of masks; reports of errors are kept in it too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    masks = np.zeros((2, 20, 40, 40), np.float32)
    masks[:, 8:12, 18:22, 18:22] = 1
    np.save("balls.npy", masks)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    masks = np.zeros((4, 20, 40, 40), np.float32)
    for i, mask in enumerate(masks):
        mask[8:12, 18 - i : 22, 18 : 22 + i] = 1
    np.save(folder / "balls.npy", masks)
    assert main([*TRAIN, "--data", str(folder / "balls.npy"), "--out", str(folder / "run")]) == 0
    return folder


def the_line(capsys):
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert not out
    return line


def compute(error):
    def raises(*_, **__):
        raise error

    return raises


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_verb_in_one_line_and_leaves_nothing(desk, monkeypatch, capsys, request, number):
    before = sorted(desk.iterdir())
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, usual)))  # ignored in the background
    monkeypatch.setattr("synthorax.cli.features.compute", lambda *_, **__: signal.raise_signal(number))
    assert main(["features", "balls.npy", "--out", "table.csv"]) == 128 + number
    assert the_line(capsys) == "synthorax: stopped"
    assert sorted(desk.iterdir()) == before


def test_a_second_sigterm_lets_the_first_one_clean_up(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), ending_signals():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned = True
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_was_ignored_stays_ignored_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# What nobody foresaw


@pytest.mark.parametrize(
    "error",
    [
        ValueError("invalid literal for int() with base 10: 'x'"),
        RecursionError("maximum recursion depth exceeded"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        OverflowError("int too large"),
        AssertionError(),
        RuntimeError("two\nlines"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_unforeseen_error_is_one_line_that_names_the_file_and_a_report(desk, monkeypatch, capsys, error):
    monkeypatch.setattr("synthorax.cli.features.compute", compute(error))
    assert main(["features", "balls.npy"]) == 1
    line = the_line(capsys)
    assert line.startswith(f"synthorax: balls.npy: failed in a way that nobody foresaw ({type(error).__name__}")
    assert "Traceback (most recent call last)" in Path(line.rpartition(" ")[2]).read_text()


def test_too_little_memory_is_told_as_such(desk, monkeypatch, capsys):
    monkeypatch.setattr("synthorax.cli.features.compute", compute(MemoryError()))
    assert main(["features", "balls.npy"]) == 1
    assert the_line(capsys).startswith("synthorax: balls.npy: there is not enough memory")


def test_the_file_at_hand_is_the_one_that_the_code_nearest_to_the_error_read(desk):
    (desk / "table.json").write_text("1")
    code = "def read(path):\n    1 // 0\n"
    scope = {"__name__": "synthorax.made_up"}
    exec(code, scope)
    with pytest.raises(ZeroDivisionError) as caught:
        scope["read"](desk / "table.json")
    assert file_at_hand(caught.value, ["features", "balls.npy"]) == desk / "table.json"
    assert file_at_hand(ValueError(), ["features", "--out", "new.csv", "balls.npy"]) == Path("balls.npy")
    assert file_at_hand(ValueError(), ["models"]) is None


def test_libraries_are_silent_beside_our_line(capsys):
    with quiet():
        warnings.warn("noise", stacklevel=1)
        __import__("logging").getLogger("nibabel.global").error("noise")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")


# The screen


def test_nothing_in_a_name_is_obeyed_by_a_terminal():
    name = "a\x1b[2J\x07\x9b\r\u202e\x00.nii"
    assert plain(name) == r"a\x1b[2J\x07\x9b\r\u202e\x00.nii"
    assert one_line("a\nb\tc") == "a\\nb\tc"
    assert plain("Lungenrundherd ä 肺 [bold]") == "Lungenrundherd ä 肺 [bold]"


def test_a_name_of_any_bytes_is_printed_in_any_encoding(desk):
    names = [b"a\x1b[31m.npy", b"a[/bold].npy", b"a\xff\xfe.npy", "ä肺.npy".encode(), b"a\nb.npy"]
    (desk / "a[").mkdir()
    for name in names:
        with open(os.fsencode(desk) + b"/" + name, "wb") as stream:
            stream.write((desk / "balls.npy").read_bytes()[:-1])
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import sys; from synthorax.cli import main; print([main(['features', name]) for name in sys.argv[1:]])"
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, check=False, env=environment)
    assert done.stdout == b"[2, 2, 2, 2, 2]\n"
    lines = done.stderr.splitlines()
    assert all(line.startswith(b"synthorax: a") or line.startswith(b"synthorax: \\xe4") for line in lines), lines
    assert len(lines) == len(names)
    assert b"\x1b" not in done.stderr


def test_verbs_print_by_the_screens_function_alone():
    for file in (Path(__file__).parents[2] / "src" / "synthorax" / "cli").glob("*.py"):
        assert all("dumps(" in line for line in file.read_text().splitlines() if " print(" in line), file


# Damaged runs


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "noise": lambda data: np.random.default_rng(0).bytes(len(data)),
    "flipped": lambda data: data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 255]) + data[len(data) // 3 + 1 :],
    "a number": lambda data: b"3",
    "a list": lambda data: b"[1, 2]",
    "deep": lambda data: b"[" * 100_000,
    "not text": lambda data: b"\xff\xfe" + data,
    "aliases": lambda data: b"a: &a [1]\nb: [*a, *a]\n",
    "a date": lambda data: b"system: 2020-01-01\n",
    "nulls": lambda data: b"null\n",
}


@pytest.mark.parametrize("name", [CONFIG, DATA, STATE, LOG])
def test_a_damaged_run_is_one_line_that_names_the_file_or_goes_on(trained, desk, capsys, name):
    """Whatever a file of a run holds, `train` goes on, or says which file is damaged; `info` does so as well."""
    whole = {file: (trained / "run" / file).read_bytes() for file in (CONFIG, DATA, STATE, LOG)}
    (desk / "run").mkdir()
    for damage in DAMAGES.values():
        for file, content in whole.items():
            (desk / "run" / file).write_bytes(damage(content) if file == name else content)
        for command in ([*TRAIN, "--data", f"{trained}/balls.npy", "--out", "run"], ["info", "run"]):
            capsys.readouterr()
            code = main(command)
            err = capsys.readouterr().err
            assert code in (0, 2), (command, err)
            if code == 2:
                line = err.splitlines()[-1]
                assert line.startswith("synthorax: run"), line
                assert "Traceback" not in err


def test_a_state_that_claims_more_than_it_holds_is_refused(trained, desk, capsys):
    import zipfile

    whole = trained / "run" / STATE
    (desk / "run").mkdir()
    for file in (CONFIG, DATA, LOG):
        (desk / "run" / file).write_bytes((trained / "run" / file).read_bytes())
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(desk / "run" / STATE, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, bytes(10**7) if part.filename.endswith("data/0") else old.read(part))
    assert main([*TRAIN, "--data", f"{trained}/balls.npy", "--out", "run"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"synthorax: run/{STATE}: found a state that cannot be loaded")
    assert "is compressed" in line


def test_yaml_has_bounds(desk):
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{'a' if not i else f'b{i - 1}'}, *a]\n" for i in range(40))
    with pytest.raises(ValueError, match="alias"):
        parse_yaml(bomb)
    with pytest.raises(ValueError, match="64 mappings and lists within each other"):
        parse_yaml("[" * 10**5)
    (desk / "large.yaml").write_text("a: " + "x" * MOST_YAML_BYTES)
    with pytest.raises(InputError, match="at most 262144"):
        read_mapping(desk / "large.yaml")


def test_a_log_that_a_kill_has_cut_is_read_to_its_last_whole_line(desk):
    (desk / LOG).write_text('{"step": 1, "mse": 2.0}\n{"step": 2, "ms')
    assert read_log(desk) == [{"step": 1, "mse": 2.0}]


# Runs


def test_a_second_train_on_a_run_is_refused_by_the_firsts_process_id(trained, capsys):
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    before = {path.name: path.read_bytes() for path in (trained / "run").iterdir() if path.is_file()}
    with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
        thread.submit(stack.enter_context, claim(trained / "run")).result()
        assert main([*TRAIN, "--data", f"{trained}/balls.npy", "--out", f"{trained}/run"]) == 2
    assert f"found another process ({os.getpid()}) writing there" in the_line(capsys)
    assert {path.name: path.read_bytes() for path in (trained / "run").iterdir() if path.is_file()} == before


def test_a_run_tells_nothing_of_the_machine_it_was_made_on(trained, monkeypatch, tmp_path):
    monkeypatch.setattr("socket.gethostname", lambda: "workstation-of-jane-doe")
    with Board(tmp_path, 0) as board:
        board.scalars({"mse": 1.0}, 1)
    (events,) = (tmp_path / BOARD).iterdir()
    assert "workstation" not in events.name
    assert b"workstation" not in events.read_bytes()
    for path in (trained / "run").rglob("*"):
        if path.is_file():
            assert str(trained).encode() not in path.read_bytes(), path


# Numbers that nobody means


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("prepare phantom --scans 1000000000", "--scans: found 1000000000"),
        ("prepare phantom --spacing 1e308,1,1", "--spacing: found '1e308,1,1'"),
        ("prepare phantom --spacing nan,1,1", "--spacing: found 'nan,1,1'"),
        ("prepare phantom --scans 1 --workers 1000000000", "--workers: found 1000000000"),
        ("prepare phantom --scans 1 --workers -1", "--workers: found -1"),
        ("prepare shapes --grid 100000,100000,100000", "--grid: found 100000 x 100000 x 100000 voxels"),
        ("pack balls.npy --size 1000000000,1,1", "--size: found 1000000000 x 1 x 1 voxels"),
        ("train lung --data balls.npy --preset smoke --device cpu --devices 1000000000", "--devices: found 1000000000"),
        (
            "train lung --data balls.npy --preset smoke --device cpu --nodes 1000000000",
            "--devices: found 1 on 1000000000",
        ),
        ("train lung --data balls.npy --preset smoke --max-minutes nan", "--max-minutes: found nan"),
    ],
)
def test_numbers_that_nobody_means_are_one_line_and_nothing_is_written(desk, capsys, command, said):
    assert main([*command.split(), "--out", "new"]) == 2
    assert the_line(capsys).startswith(f"synthorax: {said}")
    assert not (desk / "new").exists()


def test_samples_tell_nothing_of_the_folders_they_were_made_in(trained, desk):
    near = ["--near", f"{trained}/balls.npy:2", "--formats", "npy", "--out", "new"]
    assert main(["sample", f"{trained}/run", "-n", "1", *near]) == 0
    assert json.loads((desk / "new" / "manifest.json").read_text())["how"]["nodule"] == "balls.npy:2"
    assert str(trained) not in (desk / "new" / "manifest.json").read_text()
