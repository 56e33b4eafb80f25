"""`synthorax demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from synthorax.screen import say


def demo(*, out: Path = Path("demo"), seed: int = 0, preset: Literal["smooth", "compact", "smoke"] = "smooth") -> None:
    """Real nodule shapes in, new ones out, and into a chest: trains, generates, measures, injects, and writes a page.

    Parameters
    ----------
    out
        Folder for the run, the nodules, the chest and index.html. A demo that was stopped goes on.
    seed
        Decides the nodules drawn, the training and the samples.
    preset
        smooth: for outlined nodules, about a minute. compact: for rough ones. smoke: half a minute, of poor quality.
    """
    from synthorax.demo import run_demo  # with PyTorch and Matplotlib, which take seconds

    say(run_demo(out, seed=seed, preset=preset))
