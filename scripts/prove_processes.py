"""Runs processes that are forked from one with all modules imported, within limits, and reports how they ended."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import IO

STILL_SECONDS = 20
"""Seconds without CPU time after which a process counts as waiting forever."""
LONGEST_S = 600
ADDRESS_BYTES = 4 << 30
"""Address space above the parent's at which a mutant gets a MemoryError, so that none fills the machine."""
FILE_BYTES = 1 << 30
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TERM": "dumb"}


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: exit code, or the negative number of a signal.
        memory_gb: peak memory in GB, including memory shared with its parent.
        is_late: whether it was killed because of its time.
        left_processes: whether processes that it started were still running.
    """

    code: int
    stdout: str
    stderr: str
    cpu_s: float
    memory_gb: float
    wall_s: float
    is_late: bool = False
    left_processes: bool = False


@dataclass
class Forked:
    """A process that runs in a folder, its working directory.

    Args:
        work: function to run; the process ends with it.
        most_s: CPU seconds after which it is stopped; None for no limits.
        start_s: CPU seconds that do not count.
    """

    work: Callable[[], object]
    folder: Path
    most_s: float | None = None
    start_s: float = 0.0
    pid: int = 0
    _out: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    _err: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    _started: float = 0.0

    def __post_init__(self) -> None:
        sys.stdout.flush()
        self._started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _in_child(self.work, self.folder, (self._out.fileno(), self._err.fileno()), self.most_s)

    def end(self) -> Ended:
        """Wait for the end of the process."""
        is_late = not _wait(self.pid)
        if is_late:
            os.killpg(self.pid, signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        left = _end_group(self.pid)
        said = []
        for stream in (self._out, self._err):
            stream.seek(0)
            said.append(stream.read().decode(errors="replace"))
            stream.close()
        return Ended(
            code=os.waitstatus_to_exitcode(status),
            stdout=said[0],
            stderr=said[1],
            cpu_s=max(used.ru_utime + used.ru_stime - self.start_s, 0.0),
            memory_gb=used.ru_maxrss / 2**20,
            wall_s=time.monotonic() - self._started,
            is_late=is_late,
            left_processes=left,
        )


def run_forked(work: Callable[[], object], folder: Path, *, most_s: float | None = None, start_s: float = 0.0) -> Ended:
    """Run a function in a separate process, in a folder, and wait for its end; see `Forked`."""
    return Forked(work, folder, most_s, start_s).end()


def import_everything() -> None:
    """Import every module of synthorax, and what its functions import when they are called."""
    import synthorax

    for module in walk_packages(synthorax.__path__, "synthorax."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in (
        "highdicom", "nibabel", "SimpleITK", "zarr", "torch", "lightning_fabric", "tensorboardX", "cc3d", "edt", "yaml",
        "matplotlib.pyplot", "matplotlib.backends.backend_agg", "scipy.ndimage", "scipy.spatial", "scipy.interpolate",
        "scipy.optimize", "scipy.sparse.linalg", "scipy.stats", "skimage.measure", "sklearn.neighbors", "rich.progress",
        "sklearn.svm", "sklearn.linear_model", "gdcm", "pydicom.pixels", "PIL.Jpeg2KImagePlugin", "jinja2",
        "isal.igzip",
    ):  # fmt: skip
        with suppress(ImportError):
            import_module(name)


def command_line(arguments: Sequence[str]) -> None:
    """Run the command as its script does."""
    from synthorax.cli import main

    sys.argv = ["synthorax", *arguments]
    sys.exit(main())


def _in_child(work: Callable[[], object], folder: Path, outputs: tuple[int, int], most_s: float | None) -> None:
    """Run in a new session within limits, and end as an interpreter would; does not return."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, output in enumerate(outputs, start=1):
            os.dup2(output, number)
        os.environ |= ENVIRONMENT | dict.fromkeys(("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"), f"{folder}/home")
        os.environ["TMPDIR"] = f"{folder}/tmp"
        tempfile.tempdir = None
        if most_s is not None:
            seconds = int(most_s) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
            space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ADDRESS_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (space, space))
            resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.stdout = open(1, "w", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> bool:
    """Wait for the end of a child; return False if it waits forever or takes too long."""
    handle = os.pidfd_open(child)
    started, used, since = time.monotonic(), -1.0, time.monotonic()
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while not poll.poll(1000):
            now = time.monotonic()
            if (seconds := _cpu_of_group(child)) > used:
                used, since = seconds, now
            if now - since > STILL_SECONDS or now - started > LONGEST_S:
                return False
        return True
    finally:
        os.close(handle)


def _cpu_of_group(leader: int) -> float:
    """Return the CPU ticks that the processes of a group have used."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader:
                ticks += sum(map(int, fields[11:15]))
    return float(ticks)


def _end_group(leader: int) -> bool:
    """Kill processes that a process left behind; return whether there were any a moment after its end."""
    for _ in range(20):
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    return True
