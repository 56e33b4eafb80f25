"""How long models were trained, by their logs or, of bundled ones, by their cards."""

from __future__ import annotations

from pathlib import Path

from bundle_model import SEGMENTER, minutes_of
from synthorax import hub
from synthorax.training.files import LOG

CLOCK = (
    "Hours of training are those of its process by the clock, over all its legs, as a run's log or a bundled model's "
    "card has them, with those of a segmenter that learned by itself. A process had one core or less "
    "(docs/weights.md), so a model took at most as many CPU-hours."
)
"""What the hours are, for a page."""


def training_hours(what: str) -> float | None:
    """Return the hours by the clock that a model was trained; None where nothing tells.

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
