"""Several processes that train as one: started by the first, and ended together when one of them cannot go on."""

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
from torch.distributed import DistError
from torch.distributed.distributed_c10d import _get_default_store

from synthorax.errors import SIGNALLED, ElsewhereError, InputError, SynthoraxError
from synthorax.screen import one_line, say

FAILED, LEFT = "synthorax/failed", "synthorax/left"
LISTEN_S = 0.5
PROCESS_PATIENCE_S = 10.0
"""Seconds that the first process waits for the others to leave, and for a message of another process."""


def launch(fabric: Fabric) -> None:
    """Start the other processes, each of which runs the same command from its beginning, and says nothing.

    Raises:
        InputError: they are others than was said, or do not find each other.
    """
    if fabric.world_size == 1:
        return
    try:
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # Fabric's and PyTorch's own errors are of these kinds.
        expected = "as many processes on each host, which reach MASTER_ADDR"
        raise InputError("devices and nodes", " ".join(str(error).split())[:200], expected) from error
    if not fabric.is_global_zero:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for output in (1, 2):  # what PyTorch's own code complains of too; errors are told by `together`
            os.dup2(nowhere, output)


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """End all processes when one of them meets an error, which the first one raises; the others leave without a word.

    Raises:
        SynthoraxError: another process met an error; its text and exit code.
        ElsewhereError: another process met one that nobody foresaw.
    """
    if fabric.world_size == 1:
        yield
        return
    alarm = Alarm(fabric.is_global_zero, fabric.world_size)
    try:
        yield
    except BaseException as error:
        told = alarm.ring(error)
        if told is None or isinstance(error, SynthoraxError | KeyboardInterrupt):
            raise
        raise told.error() from None
    finally:
        alarm.off()


@dataclass(frozen=True)
class Told:
    """What a process tells the others of its error.

    Attributes:
        line: what to tell a user.
        code: the exit code.
        trace: the traceback of an error that nobody foresaw; empty for others.
    """

    line: str
    code: int
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Told:
        """What to tell of an error."""
        match error:
            case SynthoraxError():
                return cls(str(error), error.exit_code)
            case KeyboardInterrupt():
                return cls(f"stopped {error}".rstrip(), SIGNALLED + getattr(error, "number", signal.SIGINT))
            case _:
                words = " ".join(f"{type(error).__name__}: {error}".split())
                return cls(words, 1, "".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """The same in another process."""
        if self.trace:
            unforeseen = ElsewhereError(self.line)
            unforeseen.add_note(self.trace)
            return unforeseen
        error = SynthoraxError(self.line)
        error.exit_code = self.code
        return error


class Alarm:
    """Where a process tells that it cannot go on, and hears so of others while it waits for them in vain."""

    def __init__(self, first: bool, world: int) -> None:
        self._first, self._world = first, world
        self._store = _get_default_store()  # which the first process keeps
        self._off = Event()
        Thread(target=self._listen, name="alarm", daemon=True).start()

    def ring(self, error: BaseException) -> Told | None:
        """Tell of an error, unless another process was before, whose error is returned. Only the first returns."""
        own = json.dumps(vars(Told.of(error)))
        try:
            told = self._store.compare_set(FAILED, "", own).decode()
        except DistError:
            self._leave()
        if not self._first:
            self._leave()
        self._wait_for_others()
        return None if told == own else Told(**json.loads(told))

    def off(self) -> None:
        """Hear no more."""
        self._off.set()

    def _listen(self) -> None:
        while not self._off.wait(LISTEN_S):
            try:
                rung = self._store.check([FAILED])
            except DistError:  # the first process is gone
                self._leave()
            if rung and not self._first:
                self._leave()
            # A process cannot always be woken from waiting for others.
            if rung and not self._off.wait(PROCESS_PATIENCE_S):
                told = Told(**json.loads(self._store.get(FAILED)))
                say(one_line(f"synthorax: {told.line}"), error=True)
                os._exit(told.code)

    def _wait_for_others(self) -> None:
        """So that none of them finds the store gone, of which PyTorch would complain at length."""
        deadline = time.monotonic() + PROCESS_PATIENCE_S
        while self._store.add(LEFT, 0) < self._world - 1 and time.monotonic() < deadline:
            time.sleep(0.05)

    def _leave(self) -> NoReturn:
        """End this process, as if all were well: Fabric kills the first one if another seems to fail."""
        with suppress(DistError):
            self._store.add(LEFT, 1)
        os._exit(0)
