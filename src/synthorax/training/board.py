"""The training log as event files that TensorBoard reads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import OutputError, reason

BOARD = "tensorboard"


class Board:
    """Writes TensorBoard's event files into a run folder; `log.jsonl` stays the authoritative log.

    The training thread itself writes them: the writer thread that TensorBoard's own libraries start waits forever on
    a full disk.

    Args:
        run: the run folder.
        step: step at which training begins or resumes; TensorBoard hides earlier events of later steps, as the log
            drops their lines.
        enabled: whether this process writes; of several processes only one does.

    Raises:
        OutputError: the files cannot be written, for instance on a full disk; all methods raise it too.
    """

    def __init__(self, run: Path, step: int, *, enabled: bool = True) -> None:
        self._folder = run / BOARD
        self._writer = None
        if enabled:
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.record_writer import RecordWriter

            with self._as_output_error():
                self._folder.mkdir(exist_ok=True)
                # TensorBoard's own writers put the host's name here. The time is in nanoseconds so that a run that is
                # resumed at once does not overwrite its own file; TensorBoard reads files in the order of their names.
                self._writer = RecordWriter(str(self._folder / f"events.out.tfevents.{time.time_ns()}.{step:08d}"))
            self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
            self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with suppress(OSError):  # figures that are lost here are in the log
                self._writer.close()

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        """Write the figures of a step; each name is one curve."""
        if self._writer is not None:
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.summary import scalar

            for name, value in figures.items():
                self._write(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))

    def figure(self, picture: NDArray[np.uint8], step: int) -> None:
        """Write the preview picture of a step, [y, x, rgb]."""
        if self._writer is not None:
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.summary import image

            shown = image("preview", picture, dataformats="HWC")
            self._write(Event(step=step, wall_time=time.time(), summary=shown))

    def _write(self, event: Any) -> None:
        if self._writer is not None:
            with self._as_output_error():
                self._writer.write(event.SerializeToString())
                self._writer.flush()

    @contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(self._folder, reason(error)) from error
