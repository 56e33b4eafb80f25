"""The exceptions that this package raises on purpose, each of which reads as one line."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_ERROR_PART = 600
"""Most characters that an `InputError` shows of what was found, and of what was expected."""

MISSING_ARGUMENT = "(not given)"
"""What an `InputError` has found of an argument that was not given; its text says that the argument is missing."""


class SynthoraxError(Exception):
    """Base of every error that this package raises on purpose.

    The command line prints the error's text as one line and exits with `exit_code`.
    """

    exit_code = 1


class InputError(SynthoraxError):
    """An input of the user's cannot be used: a file, an option or an argument.

    Args:
        subject: the file, option or argument.
        found: content or value of the subject.
        expected: contents or values that are accepted.

    >>> print(InputError("--workers", "0", "1 to 1024 processes"))
    --workers: found 0; expected 1 to 1024 processes
    >>> print(InputError("--diameter", MISSING_ARGUMENT, "a diameter in mm"))
    --diameter is missing; expected a diameter in mm
    """

    exit_code = 2

    def __init__(self, subject: object, found: str, expected: str) -> None:
        super().__init__(subject, found, expected)

    def __str__(self) -> str:
        subject, found, expected = self.args
        if found == MISSING_ARGUMENT:
            return f"{subject} is missing; expected {_cut(expected)}"
        return f"{subject}: found {_cut(found)}; expected {_cut(expected)}"


class VoxelError(InputError):
    """Voxels that a maker made cannot be stored as whole HU, because they are NaN, infinite or beyond int16.

    Args:
        subject: the maker, or what the voxels are.
        found, expected: see `InputError`.
        row: first row of the array, such as a sample, that has such a voxel.
    """

    def __init__(self, subject: object, found: str, expected: str, row: int = 0) -> None:
        super().__init__(subject, found, expected)
        self.row = row


def _cut(text: object) -> str:
    """Cut a text to `LONGEST_ERROR_PART` characters: a damaged file may hold a word of a megabyte."""
    words = str(text)
    return words if len(words) <= LONGEST_ERROR_PART else f"{words[:LONGEST_ERROR_PART]}..."


class OutputError(SynthoraxError):
    """A result cannot be written.

    Args:
        target: the file or folder that should have been written.
        reason: what prevents it.
    """

    exit_code = 2

    def __init__(self, target: object, reason: str) -> None:
        super().__init__(target, reason)  # unpickling in another process calls the class with these arguments
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.args[0]}: cannot write: {self.reason}"


SIGNALLED = 128
"""The exit code of a command that a signal ended is this plus the number of the signal, as in a shell."""


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end; unfinished output is removed, as after Ctrl-C.

    Attributes:
        number: number of the signal.
        text: line for the screen; may be empty.
    """

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text

    def __str__(self) -> str:
        return getattr(self, "text", "")  # a second signal may have interrupted `__init__` before `text` was set


@contextmanager
def resumable(finished: Callable[[], int], total: int, what: str = "scans") -> Iterator[None]:
    """Let a signal that ends the block say how much is finished, and that the same command resumes the work.

    Args:
        finished: returns the number of finished results.
        total: number of all results.
        what: what a result is, in the plural.

    Raises:
        Stopped: Ctrl-C or another signal ended the block.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        text = f"after {finished()} of {total} {what}; the same command goes on"
        raise Stopped(getattr(stopped, "number", signal.SIGINT), text) from None


class ElsewhereError(Exception):
    """An unexpected error of another process. Its text names the error's type; a note holds the traceback."""


class TrainingError(SynthoraxError):
    """A training run stopped: a weight or a logged figure was not finite, or a figure left its limits for too long.

    Args:
        what: what was found.
        more: further parts of the text, such as what the user can do.
    """

    def __init__(self, what: str, *more: str) -> None:
        super().__init__(what, *more)

    def __str__(self) -> str:
        return "; ".join(self.args)


def reason(error: OSError) -> str:
    """Return what went wrong in the operating system's words, in lower case."""
    if error.errno is None and str(error).endswith(" written"):  # NumPy's text: "N requested and M written"
        return "no space left on device, or a quota is used up"
    return (error.strerror or str(error)).lower()
