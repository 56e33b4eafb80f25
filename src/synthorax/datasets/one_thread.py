"""Small tensor work in one thread, whatever number of threads torch has elsewhere.

A batch of patches is too little work for several threads: they wait for each other at every operation, and on a busy
machine for the processor too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_one_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call a function in a thread of which torch uses no more than that one; the caller's own number stays."""
    return _worker(os.getpid()).submit(function, *args, **kwargs).result()


@lru_cache(maxsize=1)
def _worker(process: int) -> ThreadPoolExecutor:
    """The thread of a process; a forked one has none of its parent's."""
    before = torch.get_num_threads()
    worker = ThreadPoolExecutor(1, "patches")
    worker.submit(_take_one).result()
    torch.set_num_threads(before)  # torch has kept the 1 for threads to come too
    return worker


def _take_one() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # from here on the thread has its own number: torch asks for it once
