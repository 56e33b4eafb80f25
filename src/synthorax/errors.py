"""What can go wrong for a user, as exceptions that read as one line."""

from __future__ import annotations

LONGEST_ERROR_PART = 600
"""Characters that an error shows of each of its parts."""


class SynthoraxError(Exception):
    """Base of every error this package raises on purpose.

    The command line prints its text as one line and exits with `exit_code`.
    """

    exit_code = 1


class InputError(SynthoraxError):
    """Something the user gave cannot be used.

    Args:
        subject: what was looked at, usually a file or an option.
        found: what it holds.
        expected: what would have been right.
    """

    exit_code = 2

    def __init__(self, subject: object, found: str, expected: str) -> None:
        super().__init__(subject, found, expected)

    def __str__(self) -> str:
        subject, found, expected = self.args
        return f"{subject}: found {_cut(found)}; expected {_cut(expected)}"


def _cut(text: object) -> str:
    """Text of at most `LONGEST_ERROR_PART` characters: a damaged file may hold a word of a megabyte."""
    words = str(text)
    return words if len(words) <= LONGEST_ERROR_PART else f"{words[:LONGEST_ERROR_PART]}..."


class OutputError(SynthoraxError):
    """A result cannot be written where it was asked for."""

    exit_code = 2

    def __init__(self, target: object, reason: str) -> None:
        super().__init__(target, reason)  # as they are, so that the error comes whole out of another process
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.args[0]}: cannot write: {self.reason}"


SIGNALLED = 128
"""A command that a signal ends has this plus the signal's number as its exit code."""


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end; what it had begun is cleaned up as after Ctrl-C.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text

    def __str__(self) -> str:
        return getattr(self, "text", "")  # which another signal may have kept `__init__` from setting


class ElsewhereError(Exception):
    """An error that nobody foresaw, of another process; its text says of which kind, a note has the traceback."""


class TrainingError(SynthoraxError):
    """A training run stopped because a figure left the range where training makes sense."""


def reason(error: OSError) -> str:
    """What went wrong, in the system's words."""
    if error.errno is None and str(error).endswith(" written"):  # NumPy's, which counts what it could not write
        return "no space left on device, or a quota is used up"
    return (error.strerror or str(error)).lower()
