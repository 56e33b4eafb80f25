"""The names of the files in a run folder, and how its log is read. Does not import torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthorax.errors import InputError, reason

CONFIG, DATA, WEIGHTS, STATE, LOG = "config.yaml", "data.json", "weights.safetensors", "state.pt", "log.jsonl"
BEST, PREVIEWS = "best.safetensors", "previews"
STAGE = "stage"
"""Key in a line of the log that names the stage, if the training has several; all other values are numbers."""


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log: `step`, figures by name and possibly `STAGE`; no lines if there is no log.

    A last line that is incomplete, because the process was killed while it wrote, is left out.

    Args:
        run: the run folder.

    Raises:
        InputError: the log cannot be read, or another line is damaged.
    """
    path = run / LOG
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(whole_lines(path), start=1):
        if (record := parse_record(line)) is None:
            mend = "a line of numbers in JSON; `synthorax train` drops the line when it resumes the run"
            raise InputError(path, f"a damaged line {number}", mend)
        records.append(record)
    return records


def whole_lines(log: Path) -> list[str]:
    """Return the complete lines of a log; an incomplete last line is left out.

    Raises:
        InputError: the log cannot be read.
    """
    try:
        return log.read_text(errors="replace").split("\n")[:-1]
    except OSError as error:
        raise InputError(log, f"a log that cannot be read ({reason(error)})", "a file of JSON lines") from error


def parse_record(line: str) -> dict[str, Any] | None:
    """Return a line of the log as a mapping; None if the line is damaged."""
    try:
        record = json.loads(line)
        record["step"] = checked_count(record["step"])
        numbers = [value for name, value in record.items() if name != STAGE]
        is_sound = isinstance(record.get(STAGE, ""), str) and all(isinstance(value, int | float) for value in numbers)
        return record if is_sound else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def checked_count(number: Any) -> int:
    """Return a number as an integer of 0 or more.

    Raises:
        ValueError: it is not a whole number of 0 or more.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0 or number != int(number):
        raise ValueError(f"{number!r} is not a whole number of 0 or more")
    return int(number)
