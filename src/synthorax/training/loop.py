"""The training loop: steps, logging, validation, previews, saving and stopping."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from synthorax.errors import InputError, Stopped, TrainingError
from synthorax.io.atomic import resolved_output
from synthorax.io.locks import claim
from synthorax.makers import check_returned
from synthorax.screen import say
from synthorax.training.board import Board
from synthorax.training.files import STAGE, STATE
from synthorax.training.guards import Guards, finite, sound
from synthorax.training.run_folder import RunFolder
from synthorax.training.supply import Supply, workers_for
from synthorax.training.system import Stage, Training
from synthorax.training.trainable import Trainable, step_seed

SAVE_EVERY_S = 30.0
"""Seconds between two saves of the state: the most work that is lost if the process is killed."""
PREVIEWS_A_RUN = 20
"""Number of preview pictures of a whole run."""
SHOWN_FIGURES = 4
"""Number of figures that the progress line shows; the log has all of them."""


@dataclass(frozen=True)
class FitOutcome:
    """How a call of `fit` ended.

    Attributes:
        step: number of steps done so far, earlier calls included.
        finished: whether all steps are done.
        stages: number of steps of each stage of the training, by the stage's name.
    """

    step: int
    finished: bool
    stages: Mapping[str, int]


def fit(
    training: Training,
    run: RunFolder,
    fabric: Fabric,
    *,
    max_minutes: float | None = None,
    announce: bool = True,
) -> FitOutcome:
    """Train until all steps are done, from the state that the run folder holds, or from the beginning.

    Stages, batches, noise and learning rates are functions of the step alone, so a run that was stopped or killed
    and then resumed ends with the same bytes as an uninterrupted one. Several processes share each batch and take the
    same steps; the first process writes. Each process computes the validation on all held-out data.

    Args:
        training: the model, its stages and its data.
        run: the run folder.
        fabric: devices of this process group.
        max_minutes: stop after this time, with the state saved; None trains to the end.
        announce: say after which step a run continues.

    Raises:
        InputError: the run folder holds a damaged state, another process trains in it, the processes of the run see
            different states, or the validation lacks the figure that selects the best weights.
        OutputError: a file cannot be written, for instance on a full disk; the last complete state stays.
        TrainingError: a figure is no longer finite, or shows a collapse; the last state that was saved stays on disk.
        Stopped: SIGINT, SIGTERM or SIGHUP was received; the state is saved. After a second SIGINT training stops at
            once, and the last state that was saved stays.
    """
    with claim(resolved_output(run.path)) if fabric.is_global_zero else nullcontext():
        try:
            return _fit(training, run, fabric, max_minutes, announce)
        except TrainingError as error:
            what, *remedies = error.args
            raise TrainingError(what, _kept(run), *remedies) from error
        except Stopped:
            raise
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT, f"at once; {_kept(run)}") from None


def _kept(run: RunFolder) -> str:
    """Return what a run folder holds when its training has stopped with an error."""
    if not (run.path / STATE).exists():
        return "no state was saved before, so that the same command begins anew"
    return "the run folder keeps the last state that was saved before"


def _fit(training: Training, run: RunFolder, fabric: Fabric, max_minutes: float | None, announce: bool) -> FitOutcome:
    """Do the work of `fit`, once no other process can train in the folder."""
    model, validation = training.model, training.validation
    model.prepare_training(fabric)
    step, training = run.resume(training)
    steps = training.steps
    if _any(fabric, step != fabric.broadcast(step)):
        raise InputError(run.path, "different states on different hosts", "a folder that all hosts share")
    first = fabric.is_global_zero
    if announce and first and 0 < step < steps:
        say(f"{run.path}: continues after step {step} of {steps}", error=True)
    earlier = run.seconds()
    guards = Guards(model.limits, run.beyond)
    started = saved = time.monotonic()
    deadline = started + 60 * (math.inf if max_minutes is None else max_minutes)
    rate = Rate(step)
    with (
        _progress(disable=not first) as progress,
        _stop_request(tell=first) as stop,
        Board(run.path, step, enabled=first) as board,
        Supply(training.batch, step, steps, workers=workers_for(fabric.device.type)) as supply,
    ):
        task = progress.add_task(model.name, total=steps, completed=step, figures="")
        metrics: dict[str, torch.Tensor] = {}
        figures: dict[str, float] = {}
        stage: Stage | None = None
        while step < steps and not _any(fabric, time.monotonic() >= deadline or bool(stop)):
            before, (stage, within) = stage, training.at(step)
            if stage is not before:
                model.enter(stage.name, stage.trains, step - within)
                progress.update(task, description=_title(training, stage))
            torch.manual_seed(step_seed(model.seed, step, fabric.global_rank))
            batch = fabric.to_device(model.share.of(supply[step]))
            metrics = _figures_of(model, model.training_step(batch, within))
            model.update_averages()
            step += 1
            if step % training.log_every == 0 or step == steps:
                figures = finite(_mean(fabric, metrics), step)
                record = {"step": step, "seconds": round(earlier + time.monotonic() - started, 2), **figures}
                named = {STAGE: stage.name} if len(training.stages) > 1 else {}
                if first:
                    run.log(record | named | {"steps_per_second": rate(step)})
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
        raise Stopped(stop[0], f"after step {step}, which is saved; run the same command again to continue")
    return FitOutcome(step, step == steps, {stage.name: stage.steps for stage in training.stages})


def _figures_of(model: Trainable, found: Any) -> dict[str, torch.Tensor]:
    """Return the figures of a training step.

    Raises:
        InputError: they are not tensors by name.
    """
    expected = "the figures of the step by name, each a tensor of one number"
    figures: dict[str, torch.Tensor] = check_returned(
        model.name, "the result of `training_step`", found, dict, expected
    )
    for name, value in figures.items():
        check_returned(model.name, f"the figure {name} of `training_step`", value, torch.Tensor, expected)
    return figures


def _title(training: Training, stage: Stage) -> str:
    """Return the title of the progress line: the system's name, and the stage's name if there are several stages."""
    return " ".join([training.model.name, *([stage.name] if len(training.stages) > 1 else [])])


def _picture(training: Training, run: RunFolder, board: Board, step: int) -> None:
    figure = training.model.preview()
    if figure is not None:
        board.figure(run.picture(figure, step), step)


def _mean(fabric: Fabric, metrics: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the figures of the global batch: the mean over all processes."""
    if fabric.world_size == 1:
        return metrics
    return {name: fabric.all_reduce(value.detach(), reduce_op="mean") for name, value in metrics.items()}  # type: ignore[misc]


def _any(fabric: Fabric, here: bool) -> bool:
    """Return whether `here` is true in any process; used so that all processes stop at the same step."""
    if fabric.world_size == 1:
        return here
    total = fabric.all_reduce(torch.tensor(float(here), device=fabric.device), reduce_op="sum")
    return bool(total > 0)  # type: ignore[operator]


class Rate:
    """Measures the steps per second since it was made.

    Args:
        step: steps done before.
    """

    def __init__(self, step: int) -> None:
        self._step, self._started = step, time.monotonic()

    def __call__(self, step: int) -> float:
        """Return the mean steps per second up to this step."""
        return round((step - self._step) / max(time.monotonic() - self._started, 1e-9), 3)


@contextmanager
def _stop_request(*, tell: bool) -> Iterator[list[int]]:
    """Give a list that collects the numbers of received SIGINT, SIGTERM and SIGHUP; the loop stops between two steps.

    After the first signal SIGINT gets its former handler back, so that a second Ctrl-C stops at once. SIGTERM does not,
    because `timeout` sends it twice.

    Args:
        tell: print a line when the first signal is received, since a step may take long.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield received
        return

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def receive(number: int, _: object) -> None:
        received.append(number)
        if tell and len(received) == 1:
            with suppress(RuntimeError):  # the signal came while this thread was printing
                say("stopping after this step; Ctrl-C again stops now", error=True)
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
    """Return the figures of the progress line as text."""
    first = [f"{name} {value:.4g}" for name, value in list(figures.items())[:SHOWN_FIGURES]]
    return "  ".join([f"{rate:.3g}/s", *first, *(["..."] if len(figures) > SHOWN_FIGURES else [])])


def _progress(*, disable: bool, console: Console | None = None) -> Progress:
    """Return a progress display of one line, whose figures are cut off at the width of the terminal."""
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
