"""Writing that is either finished or has not happened.

A file or folder is made under a hidden temporary name beside its target and renamed at the end. What
a killed process leaves behind is recognisable by its name and never mistaken for a result.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthorax.errors import InputError, OutputError

TEMPORARY = ".tmp-"
"""How the names of unfinished files and folders begin."""
MARK = ".synthorax"
"""A file of this name in a folder says that we made the folder, so that we may replace it."""


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A temporary path of the target's suffixes; renamed to `target` if the block succeeds.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, the target is a folder.
    """
    temporary = None
    try:
        if target.is_dir():
            raise OutputError(target, "a folder of that name exists")
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix="-" + target.name, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(target, _reason(error)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder; renamed to `target` if the block succeeds, removed if it fails.

    Raises:
        InputError: the target exists, unless it is empty, or `overwrite` is given and we made it.
        OutputError: it cannot be made.
    """
    check_folder_is_free(target, overwrite=overwrite)
    target = target.resolve()
    temporary = aside = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, suffix="-" + target.name, dir=target.parent))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        (temporary / MARK).touch()
        if target.exists():  # moved aside whole: a kill must not leave it half removed under its own name
            aside = Path(tempfile.mkdtemp(prefix=TEMPORARY, suffix="-" + target.name, dir=target.parent))
            target.replace(aside)
        try:
            temporary.replace(target)
        except OSError:
            if aside is not None:
                aside.replace(target)
            raise
    except OSError as error:
        raise OutputError(target, _reason(error)) from error
    except OutputError as error:  # of a file in the temporary folder, whose name means nothing to anybody
        raise OutputError(target, error.reason) from error
    finally:
        for left in (temporary, aside):
            if left is not None and left.exists():
                shutil.rmtree(left, ignore_errors=True)


def check_folder_is_free(target: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds something which is not ours to replace.

    Raises:
        InputError: as `atomic_folder` says.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(target, "a file", "a folder to write into")
    if any(target.iterdir()) and not (overwrite and (target / MARK).exists()):
        hint = "an empty or new folder" if overwrite else "an empty or new folder, or --overwrite"
        raise InputError(target, "a folder that is not empty", hint)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
