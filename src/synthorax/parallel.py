"""The one place that spreads work over processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from threading import Thread
from typing import Any, TypeVar

from synthorax.errors import InputError, SynthoraxError
from synthorax.io.locks import uninterrupted

CONNECT_SECONDS = 10
MOST_WORKERS = 1024
"""Processes of one call; no machine has more cores to give them."""
BATCHES_PER_WORKER = 2
"""Batches handed out for each worker; more would fill the memory where results are taken slowly."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    chunk: int = 64,
    cluster: str | None = None,
    name: Callable[[Item], str] | None = None,
) -> Iterator[Result]:
    """`function` of every item, in order, as results arrive; one worker a core by default.

    `function` and the items must pickle. A single worker, or few items, stay in this process. Workers end when this
    process does, however it ends, and when the results are no longer asked for.

    Args:
        cluster: address of a Dask scheduler, such as `tcp://host:8786`, whose workers see the same files.
        name: of an item, to tell which one a worker had when it was killed.

    Raises:
        InputError: fewer than one worker or more than `MOST_WORKERS`; no Dask, or nothing answers at its address; a
            function that cannot be sent to other processes.
        SynthoraxError: a worker was killed.
    """
    check_workers(workers)
    if cluster is not None:
        _check_pickles(function)
        return _map_cluster(function, items, cluster)
    workers = min(workers or os.cpu_count() or 1, -(-len(items) // chunk))
    if workers <= 1:
        return map(function, items)
    _check_pickles(function)
    return _map_pool(function, items, workers, chunk, name)


def check_workers(workers: int | None) -> None:
    """Refuse a number of processes that no machine has use for.

    Raises:
        InputError: below 1 or above `MOST_WORKERS`.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise InputError("workers", str(workers), f"1 to {MOST_WORKERS} processes")


def _check_pickles(function: Callable[..., object]) -> None:
    """Refuse a function that cannot be sent to other processes."""
    try:
        pickle.dumps(function)
    except Exception as error:  # of many kinds, and of the user's own classes
        found = f"one that cannot be sent to other processes ({error})"
        expected = "one of a class that a module defines, or a single worker"
        raise InputError("method or function", found, expected) from error


def _map_pool(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    chunk: int,
    name: Callable[[Item], str] | None,
) -> Iterator[Result]:
    slots, taken = multiprocessing.RawArray("q", 2 * workers), multiprocessing.Value("i", 0)
    jobs = enumerate(items)
    waiting: deque[Future[list[Result]]] = deque()
    processes: Mapping[int, Any] = {}
    try:
        with ProcessPoolExecutor(workers, initializer=_begin, initargs=(slots, taken)) as pool:
            try:
                while batch := list(islice(jobs, chunk)):
                    with uninterrupted():  # Python loses a Ctrl-C that comes while it forks
                        waiting.append(pool.submit(_call, function, batch))
                    if len(waiting) >= BATCHES_PER_WORKER * workers:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            except BaseException:  # such as Ctrl-C, or that nobody wants the other results
                processes = dict(pool._processes or {})  # Python offers no other way to end workers before 3.14
                for process in processes.values():
                    process.terminate()
                raise
    except BrokenProcessPool as error:
        at = _at_hand(slots, processes)
        told = "" if name is None or not at else " at " + " or ".join(name(items[index]) for index in at)
        advice = "perhaps for want of memory; use fewer with --workers"
        raise SynthoraxError(f"a worker process was killed{told}, {advice}") from error


_slots: Any = None
_slot = 0


def _begin(slots: Any, taken: Any) -> None:
    """Make this process a worker: it ends with its parent, and leaves Ctrl-C to it."""
    global _slots, _slot
    with taken.get_lock():
        _slots, _slot = slots, 2 * taken.value
        taken.value += 1
    _slots[_slot], _slots[_slot + 1] = os.getpid(), -1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for ending in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(ending, signal.SIG_DFL)
    Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(function: Callable[[Item], Result], batch: Sequence[tuple[int, Item]]) -> list[Result]:
    """Some items in a worker, which notes which one it has."""
    results = []
    for index, item in batch:
        _slots[_slot + 1] = index
        try:
            results.append(function(item))
        except Exception as error:
            if not _pickles(error):
                raise RuntimeError(f"{type(error).__name__}: {error}") from None
            raise
        finally:
            _slots[_slot + 1] = -1
    return results


def _pickles(error: Exception) -> bool:
    """Whether an error comes out of another process as it is."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _at_hand(slots: Sequence[int], processes: Mapping[int, Any]) -> list[int]:
    """The items that killed workers had; those of all workers where it cannot be told which one was killed."""
    had = {slots[i]: slots[i + 1] for i in range(0, len(slots), 2) if slots[i + 1] >= 0}
    ended_by_pool = (None, 0, -signal.SIGTERM)
    killed = [pid for pid, process in processes.items() if process.exitcode not in ended_by_pool]
    return sorted(had[pid] for pid in had if pid in killed or not killed)


def _map_cluster(function: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[Result]:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("--cluster", "no Dask here", "pip install 'synthorax[cluster]'") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError("--cluster", f"no answer from {address}", "the address of a Dask scheduler") from error
    with client:
        for future in client.map(function, items, pure=False):
            yield future.result()
