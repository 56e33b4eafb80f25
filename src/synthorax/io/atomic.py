"""Atomic writing: a file or folder is written whole or not at all, and replaces only the output of an earlier call.

A file or folder is written under a hidden temporary name beside its target and renamed at the end. The target is
checked when the work begins, so that no work is done in vain, and again before the result takes its place.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from synthorax.errors import InputError, OutputError, reason
from synthorax.io.locks import REPLACED, TEMPORARY, claim, clear_leftovers, temporary_file, temporary_folder, try_lock

MARK = ".synthorax"
"""File in every folder that synthorax made, with a list of the folder's files. A folder with other files is kept."""
OF_FILE_BROWSERS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that file browsers leave in folders; they do not keep a folder from being replaced."""
AT_WORKING_DIRECTORY = -100
EXCHANGE, NO_REPLACE = 2, 1
"""Linux's constants: AT_FDCWD, RENAME_EXCHANGE and RENAME_NOREPLACE."""


@contextmanager
def atomic_file(target: Path, *, check: Callable[[], None] | None = None) -> Iterator[Path]:
    """Yield a temporary path with the target's suffixes, which is renamed to `target` if the block succeeds.

    Args:
        target: file to write.
        check: called before the rename; raises an error if the target may not be replaced.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, or the target is a folder.
    """
    temporary = None
    try:
        if target.is_dir():
            raise OutputError(target, "a folder of that name exists")
        with temporary_file(target) as temporary:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            if check is not None:
                check()
            if check is None or os.path.lexists(target):
                temporary.replace(target)
            else:
                _rename_to_nothing(temporary, target)
    except OSError as error:
        _tell(error, target, temporary)


@contextmanager
def new_file(
    target: Path, *, overwrite: bool, is_ours: Callable[[Path], bool], sources: Sequence[Path] = ()
) -> Iterator[Path]:
    """Yield a temporary path as `atomic_file` does, for a target that the user named and no other process may write.

    Args:
        target: file to write.
        overwrite: replace a file that an earlier call made.
        is_ours: tells whether a file was made by an earlier call.
        sources: input files, which are never replaced.

    Raises:
        InputError: there is a file that may not be replaced, or another process writes there.
        OutputError: see `atomic_file`.
    """
    target = resolved_output(target)

    def check() -> None:
        check_file_is_free(target, overwrite=overwrite, is_ours=is_ours, sources=sources)

    check()
    with claim(target), atomic_file(target, check=check) as temporary:
        check()  # again: another process may have written while this one waited for the lock
        yield temporary


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False, alone: bool = True) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to `target` if the block succeeds and removed if it fails.

    Args:
        target: folder to write.
        overwrite: replace a folder that an earlier call made, if it holds no other files.
        alone: claim the target; not needed in a folder that is claimed as a whole.

    Raises:
        InputError: the target exists, unless it is empty, or an earlier call made it and `overwrite` is given; or
            another process writes there.
        OutputError: the folder cannot be written.
    """
    with claiming(target, overwrite=overwrite, alone=alone) as target:
        temporary = None
        try:
            with temporary_folder(target) as temporary:
                temporary.chmod(0o777 & ~_umask())
                yield temporary
                write_mark(temporary)
                check_folder_is_free(target, overwrite=overwrite)
                put_folder(temporary, target)
        except OSError as error:
            _tell(error, target, temporary)
        except OutputError as error:  # names a file of the temporary folder, which the user does not know
            raise OutputError(target, error.reason) from error


@contextmanager
def claiming(
    target: Path, *, overwrite: bool = False, sources: Sequence[Path] = (), alone: bool = True
) -> Iterator[Path]:
    """Reserve the target of long work for this process, and yield its absolute path.

    Args:
        target: folder that the block writes at its end, for example by `atomic_folder`.
        overwrite, alone: see `atomic_folder`.
        sources: input files and folders, which are never replaced.

    Raises:
        InputError: see `atomic_folder`, but before the block.
        OutputError: the folder above the target cannot be made or written to.
    """
    check_folder_is_free(target, overwrite=overwrite, sources=sources)
    _check_can_go(target)
    target = resolved_output(target)
    with _parents(target):
        if not alone or any(parent.name.startswith(TEMPORARY) for parent in target.parents):
            yield target  # a folder above it is claimed already
            return
        with claim(target):
            if target.is_dir():
                clear_leftovers(target)
            check_folder_is_free(target, overwrite=overwrite, sources=sources)  # nobody else writes now
            yield target


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """Claim a folder that the block writes into directly, not under a temporary name; yield its absolute path.

    The folder is made if needed, and removed if it is empty at the end. Unfinished files of killed calls are removed.

    Raises:
        InputError: there is a file of that name, or another process writes there.
        OutputError: the folder cannot be made.
    """
    target = resolved_output(folder)
    if target.exists() and not target.is_dir():
        raise InputError(folder, "a file", "a folder to write into")
    with _parents(target), claim(target):
        is_new = not target.exists()
        try:
            target.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(target, reason(error)) from error
        try:
            clear_leftovers(target)
            yield target
        finally:
            if is_new:
                with suppress(OSError):
                    target.rmdir()


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the folders above a target; at the end, remove those of them that are still empty."""
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(target, reason(error)) from error
        yield
    finally:
        for parent in missing:
            with suppress(OSError):  # the folder is not empty
                parent.rmdir()


def resolved_output(target: Path) -> Path:
    """Return the absolute path of an output, with links followed.

    Raises:
        InputError: the name begins with ~, or a link leads to itself.
    """
    if os.path.expanduser(target) != str(target):
        raise InputError(target, "a ~ that the shell did not expand", "the whole path; or `--out ~/NAME`, without =")
    try:
        return target.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(target, "a link that leads to itself", "a file or folder to write") from error


def check_folder_is_free(target: Path, *, overwrite: bool = False, sources: Sequence[Path] = ()) -> None:
    """Refuse a target folder that may not be replaced.

    Args:
        target: folder to write.
        overwrite: a folder that an earlier call made may be replaced.
        sources: input files and folders, which are never replaced.

    Raises:
        InputError: the target is a file, holds an input, is not empty, or holds files that no earlier call made.
    """
    asked, target = target, resolved_output(target)
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(asked, "a file", "a folder to write into")
    for source in map(Path, sources):
        if source.exists() and target in ((real := source.resolve()), *real.parents):
            is_it = "the input itself" if real == target else f"a folder that holds the input, {source}"
            raise InputError(asked, is_it, "another folder to write into")
    if all(path.name.startswith(TEMPORARY) for path in target.iterdir()):
        return
    if not (overwrite and (target / MARK).is_file()):
        hint = "an empty or new folder" if overwrite else "an empty or new folder, or --overwrite"
        raise InputError(asked, "a folder that is not empty", hint)
    if (other := other_than_ours(target)) is not None:
        found = f"a folder with {other} in it, which no earlier call made"
        raise InputError(asked, found, "a folder with nothing else in it; move that elsewhere first")


def _check_can_go(target: Path) -> None:
    """Refuse a target folder that cannot be renamed.

    Raises:
        InputError: a disk is mounted there, or the working directory is the folder or lies in it.
    """
    asked, target = target, resolved_output(target)
    if not target.exists():
        return
    if os.path.ismount(target):
        raise InputError(asked, "a place where a disk is mounted, which cannot be replaced", "a folder in it")
    with suppress(FileNotFoundError):
        if target in ((here := Path.cwd().resolve()), *here.parents):
            raise InputError(asked, "the folder you are in, which cannot be replaced", "a folder in it or elsewhere")


def check_file_is_free(
    target: Path, *, overwrite: bool, is_ours: Callable[[Path], bool], sources: Sequence[Path] = ()
) -> None:
    """Refuse a target file that may not be replaced.

    Args:
        target: file to write.
        overwrite: a file that an earlier call made may be replaced.
        is_ours: tells whether a file was made by an earlier call.
        sources: input files, which are never replaced.

    Raises:
        InputError: the target is a folder or an input, exists without `overwrite`, or was not made by an earlier call.
    """
    if not os.path.lexists(target):
        return
    if target.is_dir():
        raise InputError(target, "a folder", "a file to write")
    if any(source.exists() and os.path.samefile(source, target) for source in sources):
        raise InputError(target, "the input itself", "another file to write")
    if not overwrite:
        raise InputError(target, "a file of that name", "a new file, or --overwrite")
    if not target.is_file() or not is_ours(target):
        raise InputError(target, "a file that no earlier call made", "a new file")


def write_mark(folder: Path, files: Sequence[str] | None = None) -> None:
    """Write the file `MARK` into a folder: synthorax made the folder and these files.

    Args:
        folder: folder to mark.
        files: paths relative to the folder; all files of the folder if not given.
    """
    listed = sorted(files_of(folder) if files is None else files)
    (folder / MARK).write_text(json.dumps(listed, indent=0) + "\n")


def files_of(folder: Path) -> Iterator[str]:
    """Yield the relative path of every file below a folder and of links to folders, but not of its own `MARK`."""
    for at, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        for name in names + links:
            if (relative := os.path.relpath(os.path.join(at, name), folder)) != MARK:
                yield relative


def other_than_ours(folder: Path) -> str | None:
    """Return the relative path of a file that the folder's `MARK` does not list, or None if there is none.

    Older versions wrote an empty `MARK`, which is taken to list all files.
    """
    try:
        text = (folder / MARK).read_text()
        listed = set(json.loads(text)) if text.strip() else None
    except (OSError, ValueError, TypeError, RecursionError):
        return MARK + " of another kind"
    if listed is None:
        return None
    for name in files_of(folder):
        if name not in listed and not Path(name).name.startswith((TEMPORARY, *OF_FILE_BROWSERS)):
            return name
    return None


def put_folder(temporary: Path, target: Path) -> None:
    """Rename a folder to a target that is free, or exchange it with the folder there, which is then at `temporary`.

    Raises:
        InputError: a file or folder that synthorax did not make has appeared at the target.
    """
    try:
        temporary.rename(target)  # the system refuses to replace anything but an empty folder
        return
    except (FileExistsError, NotADirectoryError):
        raise InputError(target, "a file that appeared meanwhile", "a folder to write into") from None
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    if not (target / MARK).is_file():
        raise InputError(target, "a folder that appeared meanwhile", "an empty or new folder")
    lock = try_lock(target)  # so that no other process removes the replaced folder as a leftover before it is checked
    try:
        replaced = os.stat(target)
        if _exchange(temporary, target):
            if not os.path.samestat(os.stat(temporary), replaced):  # another folder took its place just now
                _exchange(temporary, target)
                raise InputError(target, "a folder that appeared meanwhile", "an empty or new folder")
            return
        aside = target.with_name(REPLACED + target.name)
        try:
            target.rename(aside)
            temporary.rename(target)
        except BaseException:
            if aside.exists() and not target.exists():
                aside.rename(target)
            raise
        aside.rename(temporary)
    finally:
        if lock is not None:
            os.close(lock)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step, so that a kill leaves either state; False if the system cannot do that."""
    return _renameat2(one, other, EXCHANGE)


def _rename_to_nothing(temporary: Path, target: Path) -> None:
    """Rename a file to a name that does not exist; raises InputError if a file of that name has appeared."""
    if _renameat2(temporary, target, NO_REPLACE):
        return
    if os.path.lexists(target):
        raise InputError(target, "a file that appeared meanwhile", "a new file")
    temporary.replace(target)


def _renameat2(one: Path, other: Path, flags: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library older than 2018
        return False
    return rename(AT_WORKING_DIRECTORY, os.fsencode(one), AT_WORKING_DIRECTORY, os.fsencode(other), flags) == 0


def _tell(error: OSError, target: Path, temporary: Path | None) -> None:
    """Raise an error of the temporary file as an OutputError of the target; an error of another file as it is."""
    at = error.filename
    if isinstance(at, str | bytes) and temporary is not None:
        path = Path(os.fsdecode(at)).absolute()
        if not {target, temporary} & {path, *path.parents}:
            raise error
    raise OutputError(target, reason(error)) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
