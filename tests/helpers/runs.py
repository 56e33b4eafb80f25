"""Trainings stopped at a step, and what is in a run folder."""

import json
import os
import signal

CLOCK = ("seconds", "steps_per_second")
"""Figures of the log that differ between two runs of the same bytes."""


def weights(folder):
    """The bytes of a run's weights."""
    return (folder / "weights.safetensors").read_bytes()


def log(folder):
    """The records of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def timeless_log(folder):
    """The records of a run's log without the figures of the clock."""
    return [{name: value for name, value in record.items() if name not in CLOCK} for record in log(folder)]


def stopping_at(batches, last, number=signal.SIGTERM):
    """The same batches, with a signal to this process while the batch of step `last` is made."""

    def batch_at(step):
        if step == last:
            os.kill(os.getpid(), number)
        return batches(step)

    return batch_at
