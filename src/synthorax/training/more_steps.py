"""How many steps a run has in all once it is given more of them.

The steps are counted from those that the run had when it was finished last, or when it was made. The run's
configuration remembers that number (`had_steps`), so that a command that was killed and is given again adds nothing.
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
    """Return the steps that a run had before it was given more, and those that it has then.

    They are counted as the setting `steps` counts them: those of all stages, or of the last one alone.

    Args:
        run: folder of a run that has begun.
        more: steps to add.

    Raises:
        InputError: not a positive number, no run, a run without the setting `steps` or with a damaged state, or one
            that has done more steps already.
    """
    if more < 1:
        raise InputError("more steps", str(more), "1 or more")
    if not (run / CONFIG).is_file():
        raise InputError(run, "no run", "a run that has begun; --set steps=N gives a new run its steps")
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
            f"{done} steps done, {before} of them before it was given more",
            f"--more-steps {done - before} or more",
        )
    return before, before + more


def _done(state: Path) -> int:
    """Steps that a saved state has behind it, as the setting `steps` counts them; at least 0."""
    if not state.is_file():
        return 0
    try:
        found: dict[str, Any] = read_state(state)
        if found.get("asked_steps") is not None:
            return max(checked_count(found["asked_steps"]) - checked_count(found["left"]), 0)
        # A state that does not tell: `steps` counted those of the last stage.
        return checked_count([*found["done"].values()][-1] if "done" in found else found["step"])
    except Exception as error:  # PyTorch raises errors of every kind over a damaged file
        expected = "the state of this run; without the file the run starts anew"
        raise InputError(state, "a state that does not load", expected) from error
