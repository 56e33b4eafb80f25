"""The training loop. It reads from top to bottom."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from synthorax.errors import InputError, TrainingError
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import System

SAVE_EVERY_S = 30.0
"""A kill loses at most so many seconds of work."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `fit` ended.

    Attributes:
        step: steps done in all, earlier calls included.
        finished: whether those are all that were asked for.
    """

    step: int
    finished: bool


def fit(
    system: System,
    batch_at: Callable[[int], Any],
    run: RunFolder,
    fabric: Fabric,
    *,
    steps: int,
    max_minutes: float | None = None,
    log_every: int = 50,
) -> Outcome:
    """Train until `steps` steps are done, going on from what the run folder holds.

    Batches and learning rates are functions of the step alone, so a run that was stopped or killed
    and resumed ends with the same bytes as one that was not.

    Args:
        batch_at: the batch of a step.
        max_minutes: stop cleanly, state saved, after so long.

    Raises:
        InputError: the run folder holds a damaged state.
        TrainingError: a figure is no longer finite; the last good state stays on disk.
        KeyboardInterrupt: asked to stop by SIGINT or SIGTERM; the state is saved.
    """
    system.prepare_training(fabric)
    step = run.resume(system)
    started = saved = time.monotonic()
    deadline = started + 60 * (math.inf if max_minutes is None else max_minutes)
    with _progress() as progress:
        task = progress.add_task(system.name, total=steps, completed=step, figures="")
        with _stop_request() as stop:
            metrics: dict[str, Tensor] = {}
            while step < steps and time.monotonic() < deadline and not stop:
                metrics = system.training_step(fabric.to_device(batch_at(step)), step)
                step += 1
                if step % log_every == 0 or step == steps:
                    figures = _finite(metrics, step)
                    run.log({"step": step, "seconds": round(time.monotonic() - started, 2), **figures})
                    text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    progress.update(task, completed=step, figures=text)
                if time.monotonic() - saved > SAVE_EVERY_S:
                    _finite(metrics, step)
                    run.save(system, step)
                    saved = time.monotonic()
            _finite(metrics, step)
            run.save(system, step)
    if stop and step < steps:
        raise KeyboardInterrupt(f"after step {step}, which is saved; the same command goes on")
    return Outcome(step, finished=step == steps)


def make_fabric(device: str = "auto") -> Fabric:
    """Fabric on one device of a kind: auto, cpu, cuda, mps.

    Raises:
        InputError: this machine has none.
    """
    try:
        return Fabric(accelerator=device, devices=1)
    except (ValueError, RuntimeError) as error:  # Fabric's own errors are of these kinds.
        raise InputError("device", repr(device), "auto, cpu, or an accelerator this machine has") from error


@contextmanager
def _stop_request() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM put themselves in, so that the loop can stop between two steps."""
    received: list[int] = []
    before = {s: signal.signal(s, lambda number, _: received.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finite(metrics: dict[str, Tensor], step: int) -> dict[str, float]:
    """The figures as numbers, refused if one of them is none."""
    figures = {name: value.item() for name, value in metrics.items()}
    for name, value in figures.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: {name} is {value}; the last good state is kept")
    return figures


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
