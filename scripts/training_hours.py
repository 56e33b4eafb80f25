"""The training times of models, from their logs or, for bundled models, from their cards."""

from __future__ import annotations

from pathlib import Path

from bundle_model import SEGMENTER, minutes_of
from synthorax import hub
from synthorax.training.files import LOG

CLOCK = (
    "Hours are wall-clock hours of the last leg, from a run's log or a bundled model's card, with those of a "
    "separately trained segmenter: of some on one core of a CPU, of others on a GPU, so they cannot be compared. "
    "docs/weights.md has all legs and machines."
)
"""A sentence for a page on what the hours are."""


def training_hours(what: str) -> float | None:
    """Return the wall-clock hours of a model's training; None if unknown.

    Args:
        what: a run folder, a weights file in one, a bundled model's name, or a system without weights, which took none.
    """
    path = Path(what)
    if not path.exists() and what not in hub.bundled():
        return 0.0
    folder = hub.bundled()[what] if not path.exists() else path if path.is_dir() else path.parent
    if (folder / hub.CARD).is_file():
        facts = hub.read_card(folder).facts
        minutes = float(facts["minutes"] or 0) + float(facts.get(SEGMENTER, {}).get("minutes", 0))
    else:
        minutes = minutes_of(folder / LOG)
    return round(minutes / 60, 2) or None
