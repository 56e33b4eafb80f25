"""Runs a training in several processes: starts the others, and ends all of them when one meets an error."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import NoReturn

from lightning_fabric import Fabric
from torch.distributed import DistError, destroy_process_group
from torch.distributed.distributed_c10d import _get_default_store

from synthorax.errors import SIGNALLED, ElsewhereError, InputError, SynthoraxError
from synthorax.registry import place_in_plugin
from synthorax.screen import one_line, say

FAILED, LEFT = "synthorax/failed", "synthorax/left"
LISTEN_S = 0.5
PROCESS_PATIENCE_S = 10.0
"""Seconds that the first process waits for the others to exit, and for itself to notice another process's error."""


def launch(fabric: Fabric) -> None:
    """Start the other processes; each runs the same command from its beginning, with its output discarded.

    Raises:
        InputError: the number of processes differs from the requested one, or they cannot connect to each other.
    """
    if fabric.world_size == 1:
        return
    try:
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # Fabric's and PyTorch's own errors are of these kinds.
        expected = "the same number of processes on each host, which can reach MASTER_ADDR"
        raise InputError("devices and nodes", " ".join(str(error).split())[:200], expected) from error
    if not fabric.is_global_zero:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for output in (1, 2):  # also messages of PyTorch's C++ code; `together` reports errors
            os.dup2(nowhere, output)


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """End all processes when one of them meets an error: the first process raises it, the others exit silently.

    Raises:
        SynthoraxError: another process met an error of the project; with the same text and exit code.
        ElsewhereError: another process met an unexpected error; with its traceback as a note.
    """
    if fabric.world_size == 1:
        yield
        return
    alarm = Alarm(fabric.is_global_zero, fabric.world_size)
    try:
        yield
    except BaseException as error:
        report = alarm.ring(error)
        alarm.off()  # its thread uses the group, which is left next
        with suppress(Exception):  # else PyTorch's threads, whose peers are gone, may abort the process as it ends
            destroy_process_group()
        if report is None or isinstance(error, SynthoraxError | KeyboardInterrupt):
            raise
        raise report.error() from None
    else:
        alarm.off()


@dataclass(frozen=True)
class ErrorReport:
    """The message by which a process reports its error to the others.

    Attributes:
        line: the text for the user.
        code: the exit code.
        trace: the traceback of an unexpected error; empty for an error of the project or an interrupt.
    """

    line: str
    code: int
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ErrorReport:
        """Return the message of an error."""
        match error:
            case SynthoraxError():
                return cls(str(error), error.exit_code)
            case KeyboardInterrupt():
                return cls(f"stopped {error}".rstrip(), SIGNALLED + getattr(error, "number", signal.SIGINT))
            case _:
                words = " ".join(f"{type(error).__name__}: {error}".split())
                words = ", ".join(filter(None, (words, place_in_plugin(error))))
                return cls(words, 1, "".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """Return the exception to raise in another process."""
        if self.trace:
            unforeseen = ElsewhereError(self.line)
            unforeseen.add_note(self.trace)
            return unforeseen
        error = SynthoraxError(self.line)
        error.exit_code = self.code
        return error


class Alarm:
    """Reports an error of this process to the others, and ends this process when another has reported one.

    A process that waits in a collective operation for one that failed would wait forever, so a thread watches for
    reports.

    Args:
        first: whether this is the first process, which reports errors to the user.
        world: number of processes.
    """

    def __init__(self, first: bool, world: int) -> None:
        self._first, self._world = first, world
        self._store = _get_default_store()  # a key-value store that lives in the first process
        self._off = Event()
        self._thread = Thread(target=self._listen, name="alarm", daemon=True)
        self._thread.start()

    def ring(self, error: BaseException) -> ErrorReport | None:
        """Report an error; in all processes but the first this ends the process.

        Returns:
            None if no other process had reported an error before, else that process's report.
        """
        own = json.dumps(vars(ErrorReport.of(error)))
        try:
            stored = self._store.compare_set(FAILED, "", own).decode()
        except DistError:
            self._leave()
        if not self._first:
            self._leave()
        self._wait_for_others()
        return None if stored == own else ErrorReport(**json.loads(stored))

    def off(self) -> None:
        """Stop watching for reports, and wait until the thread has ended.

        Python aborts if it ends while a thread comes back from PyTorch's C++ code.
        """
        self._off.set()
        self._thread.join(PROCESS_PATIENCE_S)

    def _listen(self) -> None:
        while not self._off.wait(LISTEN_S):
            try:
                rung = self._store.check([FAILED])
            except DistError:  # the first process is gone
                self._leave()
            if rung and not self._first:
                self._leave()
            # The main thread may be blocked in a collective operation, which cannot be interrupted.
            if rung and not self._off.wait(PROCESS_PATIENCE_S):
                report = ErrorReport(**json.loads(self._store.get(FAILED)))
                say(one_line(f"synthorax: {report.line}"), error=True)
                os._exit(report.code)

    def _wait_for_others(self) -> None:
        """Wait until the others have exited: PyTorch prints long errors in a process that finds the store gone."""
        deadline = time.monotonic() + PROCESS_PATIENCE_S
        while self._store.add(LEFT, 0) < self._world - 1 and time.monotonic() < deadline:
            time.sleep(0.05)

    def _leave(self) -> NoReturn:
        """End this process with exit code 0: Fabric kills the first process if another one seems to fail."""
        with suppress(DistError):
            self._store.add(LEFT, 1)
        os._exit(0)
