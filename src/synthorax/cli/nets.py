"""What every verb runs in: signals that end it cleanly, libraries kept quiet, and one line for an unexpected error."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from synthorax.errors import ElsewhereError, Stopped

AT_HAND = ("path", "file", "mask", "image", "scan", "table", "folder", "source")
"""Names of local variables in which this package's functions have the file that they read."""
LONGEST_UNFORESEEN = 200
"""Characters of an unexpected error's own text that are shown at most."""


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that unfinished files are removed.

    After the first signal, both are ignored, since `timeout` and others send several. A signal that was ignored before
    the block, as under `nohup`, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets only the main thread set handlers
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] is not signal.SIG_IGN]

    def receive(number: int, _: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    try:
        for number in ours:
            signal.signal(number, receive)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from printing warnings, log lines and errors of their threads in the block."""
    level = logging.root.manager.disable
    before = threading.excepthook
    with warnings.catch_warnings():
        warnings.showwarning = lambda *_, **__: None
        logging.disable(logging.CRITICAL)
        threading.excepthook = lambda _: None  # such as a pool's thread whose futures were cancelled
        try:
            yield
        finally:
            threading.excepthook = before
            logging.disable(level)


def unforeseen(error: Exception, arguments: Sequence[str]) -> str:
    """Return the line for an unexpected error, and write its traceback to a file that can be sent with a report.

    Args:
        error: exception that no code of the package handles.
        arguments: arguments of the command.
    """
    from synthorax.registry import place_in_plugin  # imports NumPy and Pydantic, without which `--help` is fast

    file = file_at_hand(error, arguments)
    at = f"{file}: " if file else ""
    if isinstance(error, MemoryError):
        return f"{at}there is not enough memory for this; smaller input or fewer --workers need less"
    words = str(error) if isinstance(error, ElsewhereError) else f"{type(error).__name__}: {error}"
    words = " ".join(words.split())[:LONGEST_UNFORESEEN].rstrip(": ")
    plugin = place_in_plugin(error)
    try:
        handle, name = tempfile.mkstemp(prefix="synthorax-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as report:
            report.write(f"synthorax {version('synthorax')}, Python {sys.version}, {platform.platform()}\n")
            report.write(f"{list(arguments)}\n\n" + "".join(traceback.format_exception(error)))
        kept = f"please report it, with the file {name}"
    except OSError:
        kept = "please report it"
    if plugin:  # the file at hand, which synthorax was reading, has no part in it
        yours = "if it is yours, synthorax doctor --system NAME tries it"
        return (
            f"the package {plugin}: failed ({words}); {kept.replace('report it', 'report it to that package')}; {yours}"
        )
    return f"{at}failed in a way that nobody foresaw ({words}); {kept}"


def file_at_hand(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Return the file that the innermost function of this package was reading when the error was raised.

    If no function was reading one, it is the first argument that is a file or folder, and None if there is none.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        if str(frame.f_globals.get("__name__", "")).startswith("synthorax.") and (at := _file_of(frame)):
            return at
    return next((Path(word) for word in arguments if not word.startswith("-") and os.path.exists(word)), None)


def _file_of(frame: FrameType) -> Path | None:
    values: list[Any] = [frame.f_locals.get(name) for name in AT_HAND]
    values.append(getattr(frame.f_locals.get("self"), "path", None))
    for value in values:
        if isinstance(value, Path) and value != Path() and os.path.exists(value):
            return value
    return None
