"""`synthorax demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from synthorax.cli.options import Out, Seed
from synthorax.screen import say


def demo(*, out: Out = Path("demo"), seed: Seed = 0, preset: Literal["smooth", "compact", "smoke"] = "smooth") -> None:
    """Train a small model on real nodule shapes, measure its samples, inject them into a chest, and write a page.

    Parameters
    ----------
    out
        Folder for the run, the nodules, the chest and index.html. The same command resumes a demo that was stopped.
    seed
        Seed of the nodules drawn, the training and the samples.
    preset
        smooth: smooth shapes, about a minute. compact: rough shapes, as the paper's. smoke: half a minute, poor shapes.
    """
    from synthorax.demo import run_demo  # with PyTorch and Matplotlib, which take seconds

    say(run_demo(out, seed=seed, preset=preset))
