"""Several processes that train as one: started by the first, and ended together when one of them cannot go on."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import NoReturn

from lightning_fabric import Fabric
from torch.distributed import DistError
from torch.distributed.distributed_c10d import _get_default_store

from synthorax.errors import SIGNALLED, InputError, SynthoraxError
from synthorax.screen import say

FAILED, LEFT = "synthorax/failed", "synthorax/left"
LISTEN_S = 0.5
PATIENCE_S = 10.0
"""So long the first process waits: for the others to leave, and for itself to notice what another one told."""


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
    """
    if fabric.world_size == 1:
        yield
        return
    alarm = Alarm(fabric.is_global_zero, fabric.world_size)
    try:
        yield
    except BaseException as error:
        text, code = alarm.ring(error)
        if isinstance(error, SynthoraxError | KeyboardInterrupt) or text == _words(error)[0]:
            raise
        raise _elsewhere(text, code) from None
    finally:
        alarm.off()


class Alarm:
    """Where a process tells that it cannot go on, and hears so of others while it waits for them in vain."""

    def __init__(self, first: bool, world: int) -> None:
        self._first, self._world = first, world
        self._store = _get_default_store()  # which the first process keeps
        self._off = Event()
        Thread(target=self._listen, name="alarm", daemon=True).start()

    def ring(self, error: BaseException) -> tuple[str, int]:
        """Tell of an error; whose text and exit code, unless another process was before. Only the first returns."""
        told = json.dumps(_words(error))
        try:
            told = self._store.compare_set(FAILED, "", told).decode()
        except DistError:
            self._leave()
        if not self._first:
            self._leave()
        self._wait_for_others()
        text, code = json.loads(told)
        return text, code

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
            if rung and not self._off.wait(PATIENCE_S):  # a process cannot always be woken from waiting for others
                text, code = json.loads(self._store.get(FAILED))
                say(f"synthorax: {text.strip().splitlines()[-1]}", error=True)
                os._exit(code)

    def _wait_for_others(self) -> None:
        """So that none of them finds the store gone, of which PyTorch would complain at length."""
        deadline = time.monotonic() + PATIENCE_S
        while self._store.add(LEFT, 0) < self._world - 1 and time.monotonic() < deadline:
            time.sleep(0.05)

    def _leave(self) -> NoReturn:
        """End this process, as if all were well: Fabric kills the first one if another seems to fail."""
        with suppress(DistError):
            self._store.add(LEFT, 1)
        os._exit(0)


def _words(error: BaseException) -> tuple[str, int]:
    """What to tell of an error, and the exit code."""
    match error:
        case SynthoraxError():
            return str(error), error.exit_code
        case KeyboardInterrupt():
            return f"stopped {error}".rstrip(), SIGNALLED + getattr(error, "number", signal.SIGINT)
        case _:
            return "".join(traceback.format_exception(error)), 1


def _elsewhere(text: str, code: int) -> Exception:
    """The error of another process; a traceback is one that nobody foresaw."""
    if "\n" in text:
        return RuntimeError(text)
    error = SynthoraxError(text)
    error.exit_code = code
    return error
