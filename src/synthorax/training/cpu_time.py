"""Says, before a training on a CPU, what a preset for a GPU would take there, and which preset suits a CPU."""

from __future__ import annotations

from synthorax.registry import Entry

SHORT_HOURS = 6.0
"""Hours of one core up to which a training is taken as fit for a CPU."""
HOURS_A_DAY, HOURS_A_YEAR = 24.0, 24.0 * 365


def note_on_cpu(entry: Entry, preset: str, steps: int) -> str:
    """Return a warning if a training on a CPU would take more than `SHORT_HOURS` of a core; otherwise an empty text.

    Args:
        entry: the system; its `core_seconds` name the presets that are too large for a CPU.
        preset: name of the preset.
        steps: number of training steps.
    """
    if preset not in entry.core_seconds:
        return ""
    seconds = entry.core_seconds[preset]
    instead = f"; --preset {entry.cpu_preset} is for a CPU" if entry.cpu_preset else ""
    if seconds is None:
        time = f"was never measured on a CPU; its {steps:,} steps are for a GPU, and may take weeks here"
        return f"{entry.name}: the preset {preset} {time}{instead}"
    hours = steps * seconds / 3600
    if hours <= SHORT_HOURS:
        return ""
    step = f"{seconds:.2g} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
    took = f"takes about {_duration(hours)} of one core of a CPU, {steps:,} steps of about {step}"
    return f"{entry.name}: the preset {preset} is for a GPU and {took}{instead}"


def _duration(hours: float) -> str:
    """Return a time in hours, days or years, as text."""
    for unit, length in (("years", HOURS_A_YEAR), ("days", HOURS_A_DAY)):
        if hours >= 2 * length:
            return f"{hours / length:.0f} {unit}"
    return f"{hours:.0f} hours"
