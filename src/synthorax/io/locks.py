"""Locks that end with the process that holds them, and the names of unfinished files.

An unfinished file or folder has a hidden name that begins with `TEMPORARY`, and the process that writes it holds a lock
(`flock`) on it. The system releases the lock when the process ends, in whatever way. So an unlocked temporary file was
left by a process that has ended, and the next call that writes into the same folder removes it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from synthorax.errors import InputError, OutputError, reason

try:
    import fcntl
except ImportError:  # Windows: there are no locks, and the leftovers of killed processes are not removed
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".tmp-synthorax-"
"""Prefix of the names of unfinished files and folders."""
REPLACED = TEMPORARY + "replaced-"
"""Prefix of the name of a folder that is being replaced, on file systems that cannot exchange two folders in one step.
"""
LOCK = ".lock"
"""Suffix of a lock file."""
LONGEST_TARGET_NAME = 50
"""Most characters of the target's name in a temporary name; file systems allow names of 255 bytes."""
LOCK_PATIENCE_S = 10.0
"""Seconds to wait for a lock whose file names no process. A process that removes leftovers holds such locks briefly."""

_claimed: ContextVar[frozenset[str]] = ContextVar("claimed", default=frozenset())


@contextmanager
def claim(target: Path) -> Iterator[None]:
    """Keep other processes and threads from writing to a file or folder until the block ends.

    Within the block, the same thread may claim the target again. The lock is a hidden file beside the target, or inside
    the target if the folder above cannot be written to; it is removed at the end.

    Args:
        target: absolute path; the folder above it must exist.

    Raises:
        InputError: another process or thread writes there; names its process id.
        OutputError: the lock file cannot be made.
    """
    key = str(target)
    if key in _claimed.get():
        yield
        return
    lock, handle = None, -1
    try:
        with uninterrupted():
            try:
                lock, handle = _take(target)
            except OSError as error:
                raise OutputError(target, reason(error)) from error
            _claimed.set(_claimed.get() | {key})
        clear_leftovers(lock.parent)
        yield
    finally:
        if lock is not None:
            with uninterrupted():
                _claimed.set(_claimed.get() - {key})
                with suppress(OSError):
                    lock.unlink()  # before the lock is released: the next process sees that, and makes a new file
                os.close(handle)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay signals that end the process to the end of the block, so that no file is made that is never removed."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread alone
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    came: list[int] = []
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            before[came[0]](came[0], None)


def clear_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed processes from a folder, and restore a folder that one was replacing.

    Files of living processes, and files whose names do not begin with `TEMPORARY`, are kept.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(TEMPORARY)]
    except OSError:
        return
    for name in names:
        path = folder / name
        if fcntl is None or (handle := try_lock(path)) is None:
            continue
        with suppress(OSError):
            original = folder / name.removeprefix(REPLACED)
            if name.startswith(REPLACED) and not os.path.lexists(original):
                path.rename(original)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """Yield a new empty locked file beside the target; it is removed at the end if it is still there."""
    with _temporary(target, is_folder=False) as path:
        yield path


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new empty locked folder beside the target; it is removed at the end if it is still there."""
    with _temporary(target, is_folder=True) as path:
        yield path


@contextmanager
def _temporary(target: Path, *, is_folder: bool) -> Iterator[Path]:
    suffix = "-" + target.name[-LONGEST_TARGET_NAME:]
    path, handle = None, None
    try:
        with uninterrupted():
            while handle is None:
                if is_folder:
                    made, name = None, tempfile.mkdtemp(prefix=TEMPORARY, suffix=suffix, dir=target.parent)
                else:
                    made, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=suffix, dir=target.parent)
                path = Path(name)
                handle = _lock_new(path, made)
        assert path is not None
        yield path
    finally:
        if path is not None:
            with uninterrupted():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                if handle is not None and handle >= 0:
                    os.close(handle)


def _lock_new(path: Path, handle: int | None) -> int | None:
    """Lock a path that was just made; None if another process removed it as a leftover, -1 if there are no locks."""
    if handle is None:
        if fcntl is None:
            return -1
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
    if fcntl is None:
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks, such as some network drives, on which no leftovers are removed
        return handle
    if _names(path, handle):
        return handle
    os.close(handle)
    return None


def try_lock(path: Path) -> int | None:
    """Lock a file or folder and return the open handle; None if another process holds the lock or locking fails."""
    if fcntl is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _names(path, handle):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _take(target: Path) -> tuple[Path, int]:
    """Lock the lock file of a target; returns its path and the open handle."""
    lock = target.parent / (TEMPORARY + target.name[-LONGEST_TARGET_NAME:] + LOCK)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            handle = _open(lock)
        except OSError:
            if lock.parent == target or not target.is_dir():
                raise
            lock = target / (TEMPORARY + LOCK)  # the folder above is read-only, as above a mounted disk
            continue
        if fcntl is None:
            return lock, handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _owner(handle)
            os.close(handle)
            if owner or time.monotonic() > deadline:
                found = f"another process{owner and f' ({owner})'} writing there"
                raise InputError(target, found, "no other writer: wait for it to end, or give another --out") from error
            time.sleep(0.01)
            continue
        except OSError:  # a file system without locks; the target is still checked at the start and at the end
            return lock, handle
        if _names(lock, handle):
            with suppress(OSError):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()} {socket.gethostname()}".encode())
            return lock, handle
        os.close(handle)


def _open(lock: Path) -> int:
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except PermissionError:
        return os.open(lock, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))  # the lock file of another user


def _owner(handle: int) -> str:
    """The process id in a lock file, with the host's name if it is another host; empty if the file names no process."""
    with suppress(OSError):
        process, _, host = os.pread(handle, 300, 0).decode(errors="replace").partition(" ")
        if process.isdecimal():
            return process if host == socket.gethostname() else f"{process} on {host}"
    return ""


def _names(path: Path, handle: int) -> bool:
    """Return whether a path still leads to the file that a handle has open."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except OSError:
        return False
