"""A run folder's files by their names, and its log. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthorax.errors import InputError, reason

CONFIG, DATA, WEIGHTS, STATE, LOG = "config.yaml", "data.json", "weights.safetensors", "state.pt", "log.jsonl"
BEST, PREVIEWS = "best.safetensors", "previews"
STAGE = "stage"
"""Key of a log's line that names the stage of a training of several stages; all other values are numbers."""


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, each a mapping of `step`, numbers and perhaps `STAGE`; none if there is no log.

    A last line without its end was cut off by a kill, and is left out.

    Raises:
        InputError: another line is damaged.
    """
    path = run / LOG
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(whole_lines(path), start=1):
        if (record := parse_record(line)) is None:
            mend = "a line of numbers in JSON; `synthorax train` goes on without it"
            raise InputError(path, f"a damaged line {number}", mend)
        records.append(record)
    return records


def whole_lines(log: Path) -> list[str]:
    """The lines of a log that were written to their ends.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return log.read_text(errors="replace").split("\n")[:-1]
    except OSError as error:
        raise InputError(log, f"a log that cannot be read ({reason(error)})", "a file of JSON lines") from error


def parse_record(line: str) -> dict[str, Any] | None:
    """A line of the log; None if it is damaged."""
    try:
        record = json.loads(line)
        record["step"] = checked_count(record["step"])
        numbers = [value for name, value in record.items() if name != STAGE]
        is_sound = isinstance(record.get(STAGE, ""), str) and all(isinstance(value, int | float) for value in numbers)
        return record if is_sound else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def checked_count(number: Any) -> int:
    """A count that is 0 or more.

    Raises:
        ValueError: it is none.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0 or number != int(number):
        raise ValueError(f"{number!r} is no count")
    return int(number)
