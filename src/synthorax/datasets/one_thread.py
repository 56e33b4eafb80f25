"""Tensor work in one thread each, whatever number of threads torch has elsewhere.

A batch of patches is too little work for several threads: they wait for each other at every operation, and on a busy
machine for the processor too. Larger work is done several pieces at once: how sums are rounded depends on the number of
threads that share them, so pieces in one thread each have the same bits on any number of cores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_one_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call a function in a thread of which torch uses no more than that one; the caller's own number stays."""
    return _worker(os.getpid()).submit(function, *args, **kwargs).result()


def each_in_one_thread(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function with each item, as many at once as torch has threads here, each in one thread; results in order.

    The function is called in other threads, so it enters contexts such as `torch.no_grad` itself. No more results wait
    than are made at once.
    """
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count, "pieces") as workers:
        _limit(workers, count)
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(workers.submit(function, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@lru_cache(maxsize=1)
def _worker(process: int) -> ThreadPoolExecutor:
    """The thread of a process; a forked one has none of its parent's."""
    worker = ThreadPoolExecutor(1, "patches")
    _limit(worker, 1)
    return worker


def _limit(workers: ThreadPoolExecutor, count: int) -> None:
    """Let torch use one thread in each thread of a pool."""
    before, all_of_them = torch.get_num_threads(), Barrier(count)
    for begun in [workers.submit(_take_one, all_of_them) for _ in range(count)]:
        begun.result()
    torch.set_num_threads(before)  # torch has kept the 1 for threads to come too


def _take_one(all_of_them: Barrier) -> None:
    all_of_them.wait()  # so that every thread of the pool comes here
    torch.set_num_threads(1)
    torch.get_num_threads()  # from here on the thread has its own number: torch asks for it once
