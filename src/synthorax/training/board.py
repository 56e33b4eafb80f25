"""The log as TensorBoard reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BOARD = "tensorboard"


class Board:
    """Event files in a run folder; lines of the log stay the truth.

    Args:
        step: earlier events of later steps are hidden, as the log drops their lines.
        enabled: only one process writes.
    """

    def __init__(self, run: Path, step: int, *, enabled: bool = True) -> None:
        self._writer = None
        if enabled:
            from tensorboardX import SummaryWriter

            # Files are named by the second, so that a run that goes on within one would write over its own.
            self._writer = SummaryWriter(str(run / BOARD), purge_step=step + 1, filename_suffix=f".{step:08d}")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def scalars(self, figures: Mapping[str, float], step: int) -> None:
        """One curve a figure."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def figure(self, picture: NDArray[np.uint8], step: int) -> None:
        """A picture [y, x, rgb]."""
        if self._writer is not None:
            self._writer.add_image("preview", picture, step, dataformats="HWC")
