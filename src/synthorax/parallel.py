"""Work spread over the processes of this machine or of a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from threading import Thread
from typing import Any, TypeVar

from synthorax.errors import InputError, SynthoraxError
from synthorax.io.locks import uninterrupted

CONNECT_SECONDS = 10
"""Seconds that a Dask scheduler has to answer."""
MOST_WORKERS = 1024
"""Most processes of one call; more are a slip of the pen."""
BATCHES_PER_WORKER = 2
"""Batches per worker that are handed out before their results are taken; more would fill the memory."""
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
) -> Generator[Result, None, None]:
    """Call a function on every item in other processes, and yield the results in the order of the items.

    With a single worker, or no more items than `chunk`, the work is done in this process. Workers end when this process
    ends, in whatever way, and when the generator is closed.

    Args:
        function: must pickle, as must the items.
        items: arguments of the function, in order.
        workers: processes; as many as the machine has cores if not given.
        chunk: items that are sent to a worker at once.
        cluster: address of a Dask scheduler, such as `tcp://host:8786`, whose workers see the same files; `workers` and
            `chunk` do not matter then.
        name: returns the name of an item, to say in an error which item a worker had when it was killed.

    Raises:
        InputError: `workers` is below 1 or above `MOST_WORKERS`; Dask is not installed, or no scheduler answers; the
            function cannot be sent to other processes.
        SynthoraxError: a worker was killed.

    >>> list(map_processes(abs, [-3, 1, -2]))
    [3, 1, 2]
    """
    check_workers(workers)
    if cluster is not None:
        check_pickles(function)
        return _map_cluster(function, items, cluster)
    workers = min(workers or os.cpu_count() or 1, -(-len(items) // chunk))
    if workers <= 1:
        return (function(item) for item in items)
    check_pickles(function)
    return _map_pool(function, items, workers, chunk, name)


def check_workers(workers: int | None) -> None:
    """Refuse a number of worker processes below 1 or above `MOST_WORKERS`; None is accepted.

    Raises:
        InputError: names the number.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise InputError("workers", str(workers), f"1 to {MOST_WORKERS} processes")


def check_pickles(sent: object) -> None:
    """Refuse a method or function that cannot be sent to other processes.

    Raises:
        InputError: names the reason.
    """
    try:
        pickle.loads(pickle.dumps(sent))
    except Exception as error:  # a class may raise anything when it is pickled
        found = f"an object that cannot be sent to other processes ({error})"
        expected = "an object of a class that a module defines, or a single worker"
        raise InputError("method or function", found, expected) from error


def _map_pool(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    chunk: int,
    name: Callable[[Item], str] | None,
) -> Generator[Result, None, None]:
    slots, taken = multiprocessing.RawArray("q", 2 * workers), multiprocessing.Value("i", 0)
    jobs = enumerate(items)
    waiting: deque[Future[list[Result]]] = deque()
    processes: Mapping[int, Any] = {}
    try:
        with ProcessPoolExecutor(workers, initializer=_begin, initargs=(slots, taken)) as pool:
            try:
                while batch := list(islice(jobs, chunk)):
                    with uninterrupted():  # Python loses a Ctrl-C during a fork
                        waiting.append(pool.submit(_call, function, batch))
                    if len(waiting) >= BATCHES_PER_WORKER * workers:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            except BaseException:  # Ctrl-C, or the generator was closed, or an error of an item
                processes = dict(pool._processes or {})  # before Python 3.14 there is no public way to end workers
                for process in processes.values():
                    process.terminate()
                raise
    except BrokenProcessPool as error:
        at = _at_hand(slots, processes)
        where = "" if name is None or not at else " at " + " or ".join(name(items[index]) for index in at)
        advice = "perhaps because the memory was full; use fewer with --workers"
        raise SynthoraxError(f"a worker process was killed{where}, {advice}") from error


_slots: Any = None
_slot = 0


def _begin(slots: Any, taken: Any) -> None:
    """Make this process a worker: it ends when its parent ends, and ignores Ctrl-C, to which the parent reacts."""
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
    """Call the function on a batch of items in a worker, noting in shared memory which item is at hand."""
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
    """Return whether an error keeps its class when it is sent from another process."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _at_hand(slots: Sequence[int], processes: Mapping[int, Any]) -> list[int]:
    """Indices of the items that killed workers had; the items of all workers if it is not known which were killed."""
    had = {slots[i]: slots[i + 1] for i in range(0, len(slots), 2) if slots[i + 1] >= 0}
    ended_by_pool = (None, 0, -signal.SIGTERM)
    killed = [pid for pid, process in processes.items() if process.exitcode not in ended_by_pool]
    return sorted(had[pid] for pid in had if pid in killed or not killed)


def _map_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Generator[Result, None, None]:
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
