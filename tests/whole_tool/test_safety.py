"""Nothing is destroyed or half written: outputs are locked, checked again and replaced as a whole.

Leftovers are removed.
"""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from synthorax import api, errors
from synthorax.datasets import prepare as prepare_module
from synthorax.datasets.store import Store
from synthorax.errors import ElsewhereError, InputError, OutputError, Stopped, SynthoraxError, TrainingError, VoxelError
from synthorax.io import atomic, locks
from synthorax.io.atomic import MARK, atomic_file, atomic_folder, claiming, new_file, working_in
from synthorax.io.images import write_image
from synthorax.io.locks import REPLACED, TEMPORARY, claim, clear_leftovers
from synthorax.parallel import map_processes
from synthorax.volume import Volume


def make(folder, text="old", **options):
    with atomic_folder(folder, **options) as made:
        (made / "result.txt").write_text(text)


def result(folder):
    return (folder / "result.txt").read_text()


def hidden(folder):
    return [path.name for path in folder.rglob(".*") if path.name != MARK]


@contextmanager
def elsewhere(block):
    """A block that another thread has entered."""
    with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
        yield thread.submit(stack.enter_context, block).result()


# What may be replaced


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_appears_while_a_verb_runs_stays_as_it_is(tmp_path, overwrite):
    with pytest.raises(InputError, match="not empty"), atomic_folder(tmp_path / "out", overwrite=overwrite) as made:
        (made / "result.txt").write_text("ours")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("precious")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"
    assert not hidden(tmp_path)


def test_a_file_that_appears_while_a_verb_runs_stays_as_it_is(tmp_path):
    with pytest.raises(InputError, match="a file"), atomic_folder(tmp_path / "out") as made:
        (made / "result.txt").write_text("ours")
        (tmp_path / "out").write_text("precious")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_folder_that_takes_the_place_of_the_one_to_replace_stays_as_it_is(tmp_path):
    make(tmp_path / "out")
    with pytest.raises(InputError, match="not empty"), atomic_folder(tmp_path / "out", overwrite=True) as made:
        (made / "result.txt").write_text("new")
        (tmp_path / "out").rename(tmp_path / "moved")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("precious")
    assert (tmp_path / "out" / "thesis.txt").exists()
    assert result(tmp_path / "moved") == "old"


@pytest.mark.parametrize("other", ["thesis.txt", "deep/er/thesis.txt"])
def test_a_folder_of_ours_with_something_else_in_it_is_not_replaced(tmp_path, other):
    make(tmp_path / "out")
    (tmp_path / "out" / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / other).write_text("precious")
    with pytest.raises(InputError, match=f"{other} in it, which no earlier call made"):
        make(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / other).read_text() == "precious"


def test_what_file_browsers_leave_does_not_keep_a_folder_from_being_replaced(tmp_path):
    make(tmp_path / "out")
    (tmp_path / "out" / ".DS_Store").touch()
    make(tmp_path / "out", "new", overwrite=True)
    assert result(tmp_path / "out") == "new"


@pytest.mark.parametrize("source", ["out", "out/scans", "out/scans/1.nii"])
def test_a_source_is_never_replaced(tmp_path, source):
    with atomic_folder(tmp_path / "out") as made:
        (made / "scans").mkdir()
        (made / "scans" / "1.nii").write_text("precious")
    sources = [tmp_path / source]
    with pytest.raises(InputError, match="input"), claiming(tmp_path / "out", overwrite=True, sources=sources):
        pass
    assert (tmp_path / "out" / "scans" / "1.nii").read_text() == "precious"


def test_a_file_is_replaced_only_when_asked_if_ours_and_never_if_read(tmp_path):
    target, is_ours = tmp_path / "table.csv", lambda path: path.read_text().startswith("nodule,")
    for content, overwrite, sources, said in (
        ("nodule,f1", False, [], "--overwrite"),
        ("precious", True, [], "no earlier call made"),
        ("nodule,f1", True, [target], "input itself"),
    ):
        target.write_text(content)
        with (
            pytest.raises(InputError, match=said),
            new_file(target, overwrite=overwrite, is_ours=is_ours, sources=sources),
        ):
            pass
        assert target.read_text() == content
    with new_file(target, overwrite=True, is_ours=is_ours) as file:
        file.write_text("nodule,f2")
    assert target.read_text() == "nodule,f2"


def test_a_file_that_appears_while_a_verb_runs_is_not_overwritten(tmp_path):
    target = tmp_path / "table.csv"
    with pytest.raises(InputError, match=r"table\.csv"), new_file(target, overwrite=False, is_ours=bool) as file:
        file.write_text("ours")
        target.write_text("precious")
    assert target.read_text() == "precious"
    assert not hidden(tmp_path)


def test_outputs_that_cannot_be_put_in_place_are_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    places = {
        "~/out": "shell",
        f"{tmp_path}/loop": "leads to itself",
        ".": "the folder you are in",
        "/proc": "not empty",
    }
    for out, said in places.items():
        with pytest.raises(InputError, match=said):
            make(Path(out))


def test_a_linked_output_is_written_where_the_link_leads(tmp_path):
    (tmp_path / "link").symlink_to("far")
    make(tmp_path / "link")
    assert result(tmp_path / "far") == "old"
    assert (tmp_path / "link").is_symlink()


def test_folders_above_an_output_go_with_it_when_it_fails(tmp_path):
    with suppress(ZeroDivisionError), atomic_folder(tmp_path / "a" / "b" / "out"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_an_unreadable_input_is_not_told_as_an_output(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"scan\.nii"), atomic_folder(tmp_path / "out"):
        (tmp_path / "scan.nii").read_bytes()


# Killed at any point


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_whole_whether_or_not_the_disk_can_exchange_two(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(atomic, "_renameat2", lambda *_: False)
    make(tmp_path / "out")
    make(tmp_path / "out", "new", overwrite=True)
    assert result(tmp_path / "out") == "new"
    assert not hidden(tmp_path)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupt_between_two_renames_leaves_the_old_or_the_new(tmp_path, monkeypatch, at):
    monkeypatch.setattr(atomic, "_renameat2", lambda *_: False)
    make(tmp_path / "out")
    real, calls = Path.rename, []

    def rename(path, target):
        calls.append(target)
        if len(calls) == at + 1:  # the first one finds that the place is taken
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", "new", overwrite=True)
    monkeypatch.undo()
    assert result(tmp_path / "out") in ("old", "new")
    make(tmp_path / "other")  # any next call in that folder
    assert not hidden(tmp_path)


def test_what_was_being_replaced_when_a_process_was_killed_comes_back(tmp_path):
    make(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / f"{REPLACED}out")  # and killed there
    (tmp_path / f"{TEMPORARY}12345678-out").mkdir()
    make(tmp_path / "other")
    assert result(tmp_path / "out") == "old"
    assert not hidden(tmp_path)


def test_leftovers_of_the_dead_go_and_those_of_the_living_and_of_others_stay(tmp_path):
    (tmp_path / f"{TEMPORARY}abcdefgh-x").mkdir()
    (tmp_path / f"{TEMPORARY}abcdefgh-x" / "half.nii").touch()
    (tmp_path / f"{TEMPORARY}abcdefgh-y.csv").touch()
    (tmp_path / f"{TEMPORARY}z.lock").write_text(f"{os.getpid()} here")
    (tmp_path / ".tmp-of-another-program").mkdir()
    with elsewhere(atomic_folder(tmp_path / "out")) as living:
        (living / "half.nii").touch()
        clear_leftovers(tmp_path)
        assert (living / "half.nii").exists()
        assert sorted(hidden(tmp_path)) == sorted([".tmp-of-another-program", living.name, f"{TEMPORARY}out.lock"])
    assert hidden(tmp_path) == [".tmp-of-another-program"]
    assert (tmp_path / "out" / "half.nii").exists()


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    make(tmp_path / "out")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(OutputError, match="out: cannot write: no space left"),
        atomic_folder(tmp_path / "out", overwrite=True),
    ):
        raise full
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError, match="file: cannot write: no space left"), atomic_file(tmp_path / "file"):
        raise full
    assert (result(tmp_path / "out"), (tmp_path / "file").read_text()) == ("old", "old")
    assert not hidden(tmp_path)


# Two at once


@pytest.mark.parametrize("keep", [atomic_folder, claiming, working_in])
def test_a_second_writer_is_refused_by_the_first_ones_process_id(tmp_path, keep):
    with (
        elsewhere(keep(tmp_path / "out")),
        pytest.raises(InputError, match=rf"another process \({os.getpid()}\) writing"),
    ):
        make(tmp_path / "out", overwrite=True)
    assert not hidden(tmp_path)
    make(tmp_path / "out", overwrite=True)


def test_a_lock_that_a_killed_process_left_does_not_block(tmp_path):
    code = "import os, sys; from pathlib import Path; from synthorax.io.locks import claim\n"
    code += "with claim(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert hidden(tmp_path) == [f"{TEMPORARY}out.lock"]
    make(tmp_path / "out")
    assert not hidden(tmp_path)


def test_a_folder_whose_parent_is_closed_is_locked_inside(tmp_path, monkeypatch):
    real = locks._open
    (tmp_path / "mounted").mkdir()

    def denied(lock):
        if lock.parent == tmp_path:
            raise PermissionError(errno.EACCES, "permission denied")
        return real(lock)

    monkeypatch.setattr(locks, "_open", denied)
    with claim(tmp_path / "mounted"):
        assert hidden(tmp_path) == [f"{TEMPORARY}.lock"]
    assert not hidden(tmp_path)


def test_long_names_are_written_too(tmp_path):
    names = ["ü" * 120, "x" * 250]
    for name in names:
        make(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


# Errors and processes


ERRORS = [
    InputError(Path("scan.nii"), "nothing", "a scan"),
    OutputError(Path("out"), "no space left on device"),
    TrainingError("a collapse"),
    SynthoraxError("text"),
    Stopped(signal.SIGTERM, "after step 3"),
    ElsewhereError("OddError: 1 2"),
    VoxelError("toy", "NaN or infinite HU", "-32768 to 32767 HU", 2),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_comes_whole_out_of_another_process(error):
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


def test_no_error_is_left_out_of_that_test():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert kinds == {type(error) for error in ERRORS}


def fails(item):
    raise ERRORS[1] if item else OddError(1, 2)


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


# Where Dask was imported before, in this process or the one it was forked from, odd errors can be pickled too.
@pytest.mark.parametrize(
    ("item", "kind", "said"), [(1, OutputError, "no space left"), (0, (RuntimeError, OddError), "1 2")]
)
def test_an_error_in_a_worker_is_the_same_here(item, kind, said):
    with pytest.raises(kind, match=said):
        list(map_processes(fails, [item, item], workers=2, chunk=1))


def dies(item):
    if item == "large scan":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def test_what_cannot_be_sent_to_other_processes_is_refused_and_one_process_does_it():
    class Own:
        """A class of a function, as of a maker that somebody defined in a notebook's cell."""

        def __call__(self, item):
            return 2 * item

    with pytest.raises(InputError, match="cannot be sent to other processes"):
        map_processes(Own(), [1, 2, 3], workers=2, chunk=1)
    assert list(map_processes(Own(), [1, 2, 3], workers=1, chunk=1)) == [2, 4, 6]


def test_a_killed_worker_is_told_with_what_it_had(monkeypatch):
    with pytest.raises(
        SynthoraxError, match=r"a worker process was killed at large scan, perhaps because the memory was full"
    ):
        list(map_processes(dies, ["small scan", "large scan"], workers=2, chunk=1, name=str))


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_their_parent_is_killed(number):
    code = (
        "import os, time; from synthorax.parallel import map_processes\n"
        "def work(item): os.write(1, b'%d\\n' % os.getpid()); time.sleep(600)\n"  # in one piece each
        "list(map_processes(work, range(2), workers=2, chunk=1))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(number)
        parent.wait()
        until = time.monotonic() + 60
        while any(map(alive, workers)) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(map(alive, workers))


@pytest.mark.parametrize("workers", [0, -1, 10**9])
def test_a_number_of_workers_that_no_machine_has_use_for_is_refused(workers):
    with pytest.raises(InputError, match="workers: found"):
        map_processes(str, [1, 2, 3], workers=workers)


# Stores


@pytest.fixture
def prepare(tmp_path):
    """Prepare the scans of a folder into `store`; `level` decides their voxels."""

    def run(level=-700, **options):
        folder = tmp_path / "scans"
        folder.mkdir(exist_ok=True)
        for number in range(3):
            voxels = np.full((8, 8, 8), level - number, np.int16)
            voxels[4:] = 40  # tissue beside the air, as a CT has it
            write_image(folder / f"{number}.nii.gz", Volume(voxels, (1.0, 1.0, 1.0)))
        (folder / "nodules.csv").write_text("image,mask\n0.nii.gz,\n1.nii.gz,\n2.nii.gz,\n")
        return api.prepare("patches", folder, tmp_path / "store", workers=1, **options)

    return run


def levels(store):
    return {case.case_id: int(store.read(case.case_id).ct.voxels[0, 0, 0]) for case in store.cases}


def test_a_store_stays_whole_until_the_one_that_replaces_it_is(prepare, tmp_path, monkeypatch):
    old = levels(prepare(-700))
    real, stopped = prepare_module.write_case, []

    def write(store, case, key):
        if len(stopped) == 2:
            raise KeyboardInterrupt
        stopped.append(case.case_id)
        return real(store, case, key)

    monkeypatch.setattr(prepare_module, "write_case", write)
    with pytest.raises(Stopped, match="after 2 of 3 scans; the same command goes on"):
        prepare(-800)
    assert levels(Store(tmp_path / "store")) == old
    monkeypatch.setattr(prepare_module, "write_case", real)
    assert levels(prepare(-800)) == {name: level - 100 for name, level in old.items()}
    assert not hidden(tmp_path)


def test_a_store_or_whatever_lies_in_a_stores_folder_stays(prepare, tmp_path):
    prepare(-700)
    (tmp_path / "store" / "thesis.txt").write_text("precious")
    (tmp_path / "scans" / "1.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    api.prepare("scans", tmp_path / "scans", tmp_path / "store" / "inner", workers=1)
    store = prepare(-800)
    assert set(levels(store).values()) == {-800, -801, -802}
    assert len(Store(tmp_path / "store" / "inner")) == 2
    assert (tmp_path / "store" / "thesis.txt").read_text() == "precious"
    with pytest.raises(InputError, match="which no earlier call made"):
        make(tmp_path / "store", overwrite=True)


def test_a_store_in_the_folder_of_its_scans_is_not_taken_for_scans(prepare, tmp_path):
    prepare()
    (tmp_path / "store").rename(tmp_path / "scans" / "store")
    store = api.prepare("scans", tmp_path / "scans", tmp_path / "scans" / "store2", workers=1)
    assert len(store) == 3


def test_a_source_is_no_place_to_prepare_into(prepare, tmp_path):
    prepare()
    for source in ("store", "store/0"):
        with pytest.raises(InputError, match="found a store"):
            api.prepare("scans", tmp_path / source, tmp_path / "store", overwrite=True)
    with pytest.raises(InputError, match="the source, or a folder around it"):
        api.prepare("scans", tmp_path / "scans", tmp_path / "scans", overwrite=True)
