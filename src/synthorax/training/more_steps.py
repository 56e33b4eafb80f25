"""Computes the total number of steps of a run that gets more steps (`--more-steps`).

The new steps are added to the number that the run had when it last finished, or when it was started. The run's
configuration records that number (`had_steps`), so that repeating a command that was killed does not add steps twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthorax.errors import InputError
from synthorax.io.mappings import read_mapping
from synthorax.training.files import CONFIG, STATE, checked_count
from synthorax.training.run_folder import read_state
from synthorax.training.same_run import HAD_STEPS


def with_more_steps(run: Path, more: int) -> tuple[int, int]:
    """Return the number of steps of a run before and after steps are added.

    Both are values of the setting `steps`, which counts the steps of all stages in some systems and those of the last
    stage in others.

    Args:
        run: folder of a run that has begun.
        more: number of steps to add.

    Raises:
        InputError: `more` is not positive, the folder holds no run, the run has no setting `steps` or a damaged
            state, or it has already done more steps than the new total.
    """
    if more < 1:
        raise InputError("more_steps", str(more), "1 or more")
    if not (run / CONFIG).is_file():
        raise InputError(run, "no run", "a run that has begun; --set steps=N sets the steps of a new run")
    noted = read_mapping(run / CONFIG)
    try:
        steps, had = checked_count(noted["config"]["steps"]), noted.get(HAD_STEPS)
        had = None if had is None else checked_count(had)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(run / CONFIG, "no number of steps", "a run's configuration with config.steps") from error
    done = _done(run / STATE)
    before = steps if had is None or done >= steps else had
    if before + more < done:
        raise InputError(
            run,
            f"{done} steps done, {before} of them before steps were added",
            f"--more-steps {done - before} or more",
        )
    return before, before + more


def _done(state: Path) -> int:
    """Return the number of steps done at a saved state, counted as the setting `steps` counts; 0 without a state.

    Raises:
        InputError: the state is damaged.
    """
    if not state.is_file():
        return 0
    try:
        found: dict[str, Any] = read_state(state)
        if found.get("asked_steps") is not None:
            return max(checked_count(found["asked_steps"]) - checked_count(found["left"]), 0)
        # An older state, without the setting: there `steps` counted the steps of the last stage.
        return checked_count([*found["done"].values()][-1] if "done" in found else found["step"])
    except Exception as error:  # PyTorch raises errors of every kind over a damaged file
        expected = "the state of this run; if the file is deleted, the run starts from the beginning"
        raise InputError(state, "a state that cannot be loaded", expected) from error
