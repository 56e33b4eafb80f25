"""The files that the page may open: scans below one chosen folder, and what was uploaded."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from synthorax.errors import InputError
from synthorax.io.images import is_image, stored_files
from synthorax.io.locks import clear_leftovers, temporary_folder

MOST_FOLDER_ENTRIES = 2000
"""Entries of a folder that the page lists; for the others it gives their number."""
MOST_UPLOADED_FILES = 3000
"""Files of one upload, such as the slices of a DICOM series."""
UPLOAD_ID = re.compile(r"[0-9a-f]{24}")
SAFE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
LONGEST_UPLOAD_NAME = 120
CHUNK_FREE_BYTES = 2**30
"""Bytes of the disk that uploads leave free."""


class ChosenFolder:
    """The one folder whose scans the page may open; without it the page opens none.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = None if root is None else root.resolve()

    def at(self, inside: str) -> Path:
        """Return the path of a file or folder by its path below the chosen folder, with `/` between the parts.

        Raises:
            InputError: no folder was chosen, or the path leads out of it.
        """
        if self.root is None:
            raise InputError(
                "path", "no folder to open scans from", "a studio started with --folder DIR or with a scan"
            )
        if "\0" in inside or len(inside) > 4096:
            raise InputError("path", "a name that no file has", "the path of a scan below the chosen folder")
        found = (self.root / inside).resolve()
        if found != self.root and self.root not in found.parents:
            raise InputError("path", "a path that leads out of the chosen folder", "one below it")
        return found

    def listing(self, inside: str) -> dict[str, object]:
        """Return what a folder holds: folders and images by name, and the number of other files.

        Raises:
            InputError: as of `at`; or it is not a folder.
        """
        folder = self.at(inside)
        if not folder.is_dir():
            raise InputError("path", f"{inside or '.'}, which is not a folder", "a folder")
        folders, images, others = [], [], 0
        for entry in sorted(folder.iterdir(), key=lambda path: path.name.lower()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif is_image(entry):
                images.append(entry.name)
            else:
                others += 1
        left_out = max(0, len(folders) + len(images) - MOST_FOLDER_ENTRIES)
        folders = folders[:MOST_FOLDER_ENTRIES]
        images = images[: MOST_FOLDER_ENTRIES - len(folders)]
        return {"folders": folders, "images": images, "others": others, "left_out": left_out}


class Uploads:
    """Uploaded files, each upload in a folder of its own.

    Args:
        folder: for all uploads; removed by its owner.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def begin(self) -> str:
        """Make a folder for an upload and return its id."""
        name = secrets.token_hex(12)
        (self.folder / name).mkdir()
        return name

    async def take(self, upload: str, name: str, body: AsyncIterator[bytes]) -> None:
        """Write one uploaded file.

        Args:
            upload: id of the upload.
            name: of the file on the user's machine, of which letters, digits, dots and dashes are kept.
            body: the file's bytes.

        Raises:
            InputError: there is no such upload, it has too many files, or the disk is nearly full.
        """
        folder = self.of(upload)
        with self._lock:
            count = sum(1 for _ in folder.iterdir())
            if count >= MOST_UPLOADED_FILES:
                raise InputError("upload", f"more than {MOST_UPLOADED_FILES} files", "the files of one scan")
            target = folder / f"{SAFE_NAME.sub('_', Path(name).name)[-LONGEST_UPLOAD_NAME:].lstrip('.') or 'scan'}"
            if target.exists():
                target = target.with_name(f"{count:04d}-{target.name}")
            target.touch()
        try:
            with open(target, "wb") as file:
                async for chunk in body:
                    if shutil.disk_usage(folder).free < CHUNK_FREE_BYTES:
                        raise InputError("upload", "a disk that is nearly full", "1 GB more space")
                    file.write(chunk)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def of(self, upload: str) -> Path:
        """Return the folder of an upload.

        Raises:
            InputError: there is none of this id.
        """
        folder = self.folder / upload
        if not UPLOAD_ID.fullmatch(upload) or not folder.is_dir():
            raise InputError("upload", "an unknown upload", "one that was begun and not yet closed")
        return folder

    def scan_in(self, upload: str) -> Path:
        """Return what to read of an upload: its only file, or the folder for the slices of a series.

        Raises:
            InputError: there is no such upload, or it has no file.
        """
        folder = self.of(upload)
        files = sorted(folder.iterdir())
        if not files:
            raise InputError("upload", "no file", "an image, or the files of a DICOM series")
        headers = [file for file in files if is_image(file) and file.suffix.lower() in (".mhd", ".nhdr")]
        if headers:
            return headers[0]
        return files[0] if len(files) == 1 else folder

    def drop(self, upload: str) -> None:
        """Remove an upload."""
        if UPLOAD_ID.fullmatch(upload):
            shutil.rmtree(self.folder / upload, ignore_errors=True)


def check_stored_inside(path: Path, root: Path) -> None:
    """Refuse an image outside a folder, or one whose header names a data file outside it.

    Raises:
        InputError: names the image.
    """
    root = root.resolve()
    if root not in (path.resolve(), *path.resolve().parents):
        raise InputError(path.name, "a file of another folder", "one below the chosen folder")
    if not (path.is_file() and is_image(path)):
        return
    for file in stored_files(path):
        if root not in file.resolve().parents:
            raise InputError(path.name, "a header that names a file of another folder", "data below the chosen folder")


@contextmanager
def studio_files(base: Path) -> Iterator[Path]:
    """Yield a folder for the studio's temporary files, which is removed at the end.

    The folder of a studio that was killed is removed when the next one starts.

    Args:
        base: folder of the temporary files of all studios; made if missing.
    """
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    clear_leftovers(base)
    with temporary_folder(base / "studio") as folder:
        yield folder
