"""The one place that spreads work over processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from synthorax.errors import InputError, SynthoraxError

CONNECT_SECONDS = 10
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    chunk: int = 64,
    cluster: str | None = None,
) -> Iterable[Result]:
    """`function` of every item, in order, as results arrive; one worker a core by default.

    `function` and the items must pickle. A single worker, or few items, stay in this process.

    Args:
        cluster: address of a Dask scheduler, such as `tcp://host:8786`, whose workers see the same files.

    Raises:
        InputError: nothing answers there, or Dask is not installed.
        SynthoraxError: a worker was killed.
    """
    if cluster is not None:
        yield from _map_cluster(function, items, cluster)
        return
    workers = min(workers or os.cpu_count() or 1, -(-len(items) // chunk))
    if workers <= 1:
        yield from map(function, items)
        return
    try:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool as error:
        raise SynthoraxError("a worker process was killed, perhaps for its memory; try fewer workers") from error


def _map_cluster(function: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterable[Result]:
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
