"""Running tensor operations in a single thread, whatever number of threads torch uses elsewhere.

A batch of patches is too little work for several threads: they would wait for each other at every operation. Larger
work is split into pieces that run at the same time, each in one thread. Since the rounding of a sum depends on the
number of threads that compute it, pieces in one thread give the same bits on any number of cores.
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
    """Call a function in a thread in which torch uses one thread; the caller's number of threads does not change."""
    return _worker(os.getpid()).submit(function, *args, **kwargs).result()


def each_in_one_thread(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function with each item, each call in one thread; yield the results in order.

    As many calls run at once as torch has threads here, and at most as many results are kept waiting. The function runs
    in other threads, so it must enter contexts such as `torch.no_grad` itself.
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
    """Return the worker thread of a process; a forked process needs its own, so the id of the process is the key."""
    worker = ThreadPoolExecutor(1, "patches")
    _limit(worker, 1)
    return worker


def _limit(workers: ThreadPoolExecutor, count: int) -> None:
    """Let torch use one thread in each thread of a pool."""
    before, all_of_them = torch.get_num_threads(), Barrier(count)
    for begun in [workers.submit(_take_one, all_of_them) for _ in range(count)]:
        begun.result()
    torch.set_num_threads(before)  # torch applies the 1 to later threads too, so restore the number


def _take_one(all_of_them: Barrier) -> None:
    all_of_them.wait()  # so that every thread of the pool runs this function once
    torch.set_num_threads(1)
    torch.get_num_threads()  # torch fixes a thread's number at its first use, which this call is
