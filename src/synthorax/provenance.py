"""Where a result comes from, and the mark that it is synthetic."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

SYNTHETIC_MARK = "SYNTHETIC: made by synthorax, not a patient"
"""Written inside every file of generated voxels; at most 79 characters, the NIfTI header's room."""
MANIFEST = "manifest.json"
"""The sidecar of a folder."""


SYNTHETIC_PATIENT = "SYNTHETIC-"
"""What the patient id of a synthetic scan begins with; the key of its source's patient follows."""
ANONYMOUS_PATIENT = "ANONYMOUS-"
"""What the patient id of a patient's own scan begins with that was written without identity; the key follows."""
KEY_DIGITS = 12
SEEN_BEFORE = "seen_before"
"""Of a run's `data.json`: patients of whom a run knows by the model that it started from, or by synthetic cases."""
UNTOLD = "untold"
"""Of a run's `data.json`: true where the maker of a synthetic case, or the model it started from, tells no patients."""


@dataclass(frozen=True)
class Origin:
    """What is needed to make a sample again.

    Attributes:
        model_sha256: hash of the weights file, empty where no model was used.
    """

    system: str
    model_sha256: str
    seed: int

    @property
    def mark(self) -> str:
        """The synthetic mark with the start of the model's hash and the seed."""
        return " ".join(filter(None, (f"{SYNTHETIC_MARK};", self.model_sha256[:8], f"s{self.seed}")))[:79]


def patient_key(patient_id: str) -> str:
    """A name for a patient that does not tell who the patient is: 12 hex digits of the SHA-256 of the patient id.

    The key of a synthetic or anonymous patient is the key of the patient that it was made from, so that a scan
    injected twice still belongs to its first source. Spaces around the id do not count; an empty id, which says
    nothing, has an empty key.

    >>> patient_key("LIDC-IDRI-0001")
    '3bb5d67ab461'
    >>> patient_key("SYNTHETIC-3bb5d67ab461") == patient_key(" LIDC-IDRI-0001")
    True
    """
    patient_id = patient_id.strip(" \0")
    key = patient_id.removeprefix(SYNTHETIC_PATIENT).removeprefix(ANONYMOUS_PATIENT)
    if key != patient_id and len(key) == KEY_DIGITS and set(key) <= set("0123456789abcdef"):
        return key
    return fingerprint(patient_id.encode("utf-8", "surrogatepass"))[:KEY_DIGITS] if patient_id else ""


def synthetic_patient(patient_id: str) -> str:
    """The patient id of every synthetic scan made from a scan of this patient: `SYNTHETIC-` and `patient_key`."""
    return SYNTHETIC_PATIENT + patient_key(patient_id)


def without_folders(text: str) -> str:
    """A message as a result may keep it: files by their names, nothing of the folders of the machine they lie on.

    >>> without_folders("/home/me/scans/a.nii: found text")
    'a.nii: found text'
    """
    return re.sub(r"(?<![^\s'\"(\[=])(/[^/\s:;,'\"]+)+/", "", text)


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(data: bytes | str) -> str:
    """Hash of bytes or text in memory, to recognise a data set by; text may hold names of files that are no Unicode."""
    return hashlib.sha256(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data).hexdigest()


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """The sidecar of a folder of results: JSON, with the version that made it."""
    path.write_text(_manifest(content) + "\n")


@contextmanager
def manifest_writer(
    path: Path, content: dict[str, Any], name: str, notes: Sequence[str] = ()
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write a manifest with a list that is too long for the memory; gives the function that writes an item.

    Args:
        content: the entries before the list.
        name: of the list.
        notes: come after it, if there are any by then.
    """
    with open(path, "w") as stream:
        stream.write(_manifest(content).removesuffix("\n}") + f',\n "{name}": [')
        is_first = True

        def write(item: Mapping[str, Any]) -> None:
            nonlocal is_first
            lines = json.dumps(item, indent=1, allow_nan=False).replace("\n", "\n  ")
            stream.write(("\n  " if is_first else ",\n  ") + lines)
            is_first = False

        yield write
        stream.write("]" if is_first else "\n ]")
        told = json.dumps(list(notes), indent=1).replace("\n", "\n ")
        stream.write(f',\n "notes": {told}\n}}\n' if notes else "\n}\n")


def _manifest(content: Mapping[str, Any]) -> str:
    return json.dumps({"synthorax": version("synthorax"), **content}, indent=1, allow_nan=False)
