"""Stops trainings at a step, and reads run folders."""

import json
import os
import signal

CLOCK = ("seconds", "steps_per_second")
"""Figures of the log that differ between two runs of the same bytes."""


def weights(folder):
    """Return the bytes of a run's weights."""
    return (folder / "weights.safetensors").read_bytes()


def log(folder):
    """Return the records of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def timeless_log(folder):
    """Return the records of a run's log without figures that depend on time."""
    return [{name: value for name, value in record.items() if name not in CLOCK} for record in log(folder)]


def stopping_at(batches, last, number=signal.SIGTERM):
    """Return the same batches; while that of step `last` is made, a signal is sent to this process."""

    def batch_at(step):
        if step == last:
            os.kill(os.getpid(), number)
        return batches(step)

    return batch_at


def told(folder, nodules):
    """Return what `train lung --preset smoke` on masks of unknown patients prints in the end."""
    use = f"`synthorax sample {folder}` and `synthorax inject SCAN --shapes {folder}`"
    return f"{folder}: trained, 60 steps, on {nodules} nodules\n{folder} is used by {use}\n"
