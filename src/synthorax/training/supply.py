"""The supply of a training with batches, which worker processes prepare while an accelerator computes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from synthorax.errors import SynthoraxError
from synthorax.training.system import Batches

MOST_LOADERS = 4
"""Most processes that prepare the batches of a training. A GPU takes some 20 ms for a step, and a batch as long."""
BATCHES_AHEAD = 3
"""Batches that each process prepares in advance."""


def workers_for(device: str) -> int:
    """Return the number of processes that prepare batches, by the kind of device.

    It is 0 on a CPU, whose cores are busy with the training itself, and on systems that cannot fork, because batches
    cannot be sent to a process that does not share the memory of this one.
    """
    if device == "cpu" or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return max(1, min(MOST_LOADERS, (os.cpu_count() or 1) - 1))


class Supply:
    """Gives the batch of each step.

    Args:
        batches: returns the batch of a step; it must not use an accelerator.
        first: first step.
        steps: number of steps of the whole training.
        workers: number of processes that prepare batches in advance; 0 prepares each in this process when it is asked
            for, and steps may then be taken in any order. Otherwise each step must be taken once, in order.
    """

    def __init__(self, batches: Batches, first: int, steps: int, workers: int) -> None:
        self._steps = _Steps(batches, steps)
        self._loader = None
        if workers:
            self._loader = DataLoader(
                self._steps,
                batch_size=None,
                sampler=range(first, steps),
                num_workers=workers,
                prefetch_factor=BATCHES_AHEAD,
                multiprocessing_context="fork",
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=_begin,
            )
        self._prepared: Iterator[Any] | None = None

    def __enter__(self) -> Supply:
        if self._loader is not None:
            self._prepared = iter(self._loader)
        return self

    def __exit__(self, *_: object) -> None:
        self._prepared = None  # the last reference, which ends the processes

    def __getitem__(self, step: int) -> Any:
        """Return the batch of a step.

        Raises:
            SynthoraxError: the batch could not be prepared, for instance because a store is damaged.
        """
        batch = self._steps[step] if self._prepared is None else next(self._prepared)
        if isinstance(batch, SynthoraxError):
            raise batch
        return batch


class _Steps(Dataset[Any]):
    """The batches of all steps, with an error in the place of a batch that could not be prepared.

    A process hands the error on as it is; torch would change its type.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        self._batches, self._count = batches, steps

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: int) -> Any:
        try:
            return self._batches(step)
        except SynthoraxError as error:
            return error


def _begin(_: int) -> None:
    """Prepare a worker process: one thread, and no reaction to signals, which this process's parent handles."""
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
