"""The training loop. It reads from top to bottom."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from synthorax.errors import InputError, Stopped
from synthorax.io.atomic import resolved_output
from synthorax.io.locks import claim
from synthorax.training.board import Board
from synthorax.training.files import STAGE
from synthorax.training.guards import Guards, finite, sound
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Batches, Stage, Training
from synthorax.training.trainable import step_seed

SAVE_EVERY_S = 30.0
"""Seconds after which the state is saved; a kill loses the work of at most this time."""
PREVIEWS_A_RUN = 20
"""Pictures drawn in the course of a run."""
SHOWN_FIGURES = 4
"""Figures that the progress line shows; the log has all of them."""
BATCHES_AHEAD = 2
"""Batches made in advance while an accelerator works; a CPU is busy with training itself."""


@dataclass(frozen=True)
class FitOutcome:
    """How a call of `fit` ended.

    Attributes:
        step: steps that are done, those of earlier calls included.
        finished: whether no step is left.
    """

    step: int
    finished: bool


def fit(
    training: Training,
    run: RunFolder,
    fabric: Fabric,
    *,
    max_minutes: float | None = None,
) -> FitOutcome:
    """Train until all steps are done, going on from what the run folder holds.

    Stages, batches, noise and learning rates are functions of the step alone, so a run that was stopped or killed
    and resumed ends with the same bytes as one that was not. Several processes share each batch and take the same
    steps; the first of them writes. A validation is measured by each of them, on all held-out data.

    Args:
        max_minutes: stop after this time, with the state saved.

    Raises:
        InputError: the run folder holds a damaged state, another process trains in it, or several processes of one
            run see different states.
        OutputError: the disk is full; the last whole state stays.
        TrainingError: a figure is no longer finite, or shows a collapse; the last good state stays on disk.
        Stopped: asked to stop by SIGINT, SIGTERM or SIGHUP; the state is saved.
        KeyboardInterrupt: a second SIGINT stops at once, unsaved.
    """
    with claim(resolved_output(run.path)) if fabric.is_global_zero else nullcontext():
        return _fit(training, run, fabric, max_minutes)


def _fit(training: Training, run: RunFolder, fabric: Fabric, max_minutes: float | None) -> FitOutcome:
    """`fit` in a folder that is this run's alone."""
    model, validation = training.model, training.validation
    model.prepare_training(fabric)
    step, training = run.resume(training)
    steps = training.steps
    if _any(fabric, step != fabric.broadcast(step)):
        raise InputError(run.path, "other states on other hosts", "a folder that all of them share")
    first = fabric.is_global_zero
    earlier = run.seconds()
    guards = Guards(model.limits, run.beyond)
    started = saved = time.monotonic()
    deadline = started + 60 * (math.inf if max_minutes is None else max_minutes)
    rate = Rate(step)
    with (
        _progress(disable=not first) as progress,
        _stop_request() as stop,
        Board(run.path, step, enabled=first) as board,
        Supply(training.batch, step, steps, ahead=BATCHES_AHEAD if fabric.device.type == "cuda" else 0) as supply,
    ):
        task = progress.add_task(model.name, total=steps, completed=step, figures="")
        metrics: dict[str, torch.Tensor] = {}
        stage: Stage | None = None
        while step < steps and not _any(fabric, time.monotonic() >= deadline or bool(stop)):
            before, (stage, within) = stage, training.at(step)
            if stage is not before:
                model.enter(stage.name, stage.trains, step - within)
                progress.update(task, description=_title(training, stage))
            torch.manual_seed(step_seed(model.seed, step, fabric.global_rank))
            batch = fabric.to_device(model.share.of(supply[step]))
            metrics = model.training_step(batch, within)
            model.update_averages()
            step += 1
            if step % training.log_every == 0 or step == steps:
                figures = finite(_mean(fabric, metrics), step)
                record = {"step": step, "seconds": round(earlier + time.monotonic() - started, 2), **figures}
                told = {STAGE: stage.name} if len(training.stages) > 1 else {}
                if first:
                    run.log(record | told | {"steps_per_second": rate(step)})
                    board.scalars(figures, step)
                guards.check(figures, step)
                progress.update(task, completed=step, figures=_shown(rate(step), figures))
            if (
                validation is not None
                and stage is training.stages[-1]
                and (step % validation.every == 0 or step == steps)
            ):
                found = finite(validation.measure(), step)
                if validation.select not in found:
                    raise InputError("select", repr(validation.select), " or ".join(found))
                if first:
                    run.log({"step": step, **found})
                    board.scalars(found, step)
                    run.keep_best(model, step, found[validation.select], validation.larger_is_better)
            if first and (step % max(steps // PREVIEWS_A_RUN, 1) == 0 or step == steps):
                _picture(training, run, board, step)
            if first and guards.content and time.monotonic() - saved > SAVE_EVERY_S:
                finite(metrics, step)
                sound(model, step)
                run.save(training, step)
                saved = time.monotonic()
        finite(metrics, step)
        if first:
            sound(model, step)
            model.conclude()
            run.save(training, step)
    fabric.barrier()
    if stop and step < steps:
        raise Stopped(stop[0], f"after step {step}, which is saved; the same command goes on")
    return FitOutcome(step, finished=step == steps)


def _title(training: Training, stage: Stage) -> str:
    """What the progress line calls a stage: the system's name, and the stage's where there are several."""
    return " ".join([training.model.name, *([stage.name] if len(training.stages) > 1 else [])])


def _picture(training: Training, run: RunFolder, board: Board, step: int) -> None:
    figure = training.model.preview()
    if figure is not None:
        board.figure(run.picture(figure, step), step)


def _mean(fabric: Fabric, metrics: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Figures of the global batch."""
    if fabric.world_size == 1:
        return metrics
    return {name: fabric.all_reduce(value.detach(), reduce_op="mean") for name, value in metrics.items()}  # type: ignore[misc]


def _any(fabric: Fabric, here: bool) -> bool:
    """Whether any process says so; they must stop at the same step."""
    if fabric.world_size == 1:
        return here
    total = fabric.all_reduce(torch.tensor(float(here), device=fabric.device), reduce_op="sum")
    return bool(total > 0)  # type: ignore[operator]


class Rate:
    """Steps a second since the call began."""

    def __init__(self, step: int) -> None:
        self._step, self._started = step, time.monotonic()

    def __call__(self, step: int) -> float:
        """Of the steps up to this one."""
        return round((step - self._step) / max(time.monotonic() - self._started, 1e-9), 3)


class Supply:
    """The batches of the steps, some of them made ahead in a thread."""

    def __init__(self, batches: Batches, first: int, steps: int, ahead: int) -> None:
        self._batches, self._steps, self._ahead = batches, steps, ahead
        self._pool = ThreadPoolExecutor(1) if ahead else None
        self._next = first
        self._waiting: dict[int, Future[Any]] = {}

    def __enter__(self) -> Supply:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __getitem__(self, step: int) -> Any:
        if self._pool is None:
            return self._batches(step)
        while self._next < min(step + 1 + self._ahead, self._steps):
            self._waiting[self._next] = self._pool.submit(self._batches, self._next)
            self._next += 1
        return self._waiting.pop(step).result()


@contextmanager
def _stop_request() -> Iterator[list[int]]:
    """A list that SIGINT, SIGTERM and SIGHUP put themselves in, so that the loop can stop between two steps.

    After the first of them SIGINT does what it did before. Not so SIGTERM, of which `timeout` sends two.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield received
        return

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def receive(number: int, _: object) -> None:
        received.append(number)
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    try:
        for number in before:
            signal.signal(number, receive)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shown(rate: float, figures: Mapping[str, float]) -> str:
    """What the progress line tells."""
    first = [f"{name} {value:.4g}" for name, value in list(figures.items())[:SHOWN_FIGURES]]
    return "  ".join([f"{rate:.3g}/s", *first, *(["..."] if len(figures) > SHOWN_FIGURES else [])])


def _progress(*, disable: bool, console: Console | None = None) -> Progress:
    """One line, whose figures are cut short where the terminal ends."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", table_column=Column(ratio=1, no_wrap=True)),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=disable,
        expand=True,
    )
