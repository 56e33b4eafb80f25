"""The provenance of a result: its synthetic mark, patients' keys, hashes and manifests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthorax.makers import Maker

SYNTHETIC_MARK = "SYNTHETIC: made by synthorax, not a patient"
"""Text that every file of generated voxels holds; at most 79 characters fit into a NIfTI header."""
MANIFEST = "manifest.json"
"""File in a folder of results that says how they were made."""


SYNTHETIC_PATIENT = "SYNTHETIC-"
"""Prefix of the patient id of a synthetic scan; the key of the patient it was made from follows."""
ANONYMOUS_PATIENT = "ANONYMOUS-"
"""Prefix of the patient id of a real scan that was written without identity; the patient's pseudonym follows."""
KEY_DIGITS = 12
"""Hexadecimal digits of a patient's key."""
SEEN_BEFORE = "seen_before"
"""Entry of a run's `data.json`: patients behind the model that the run started from, and behind synthetic cases."""
UNTOLD = "untold"
"""Entry of a run's `data.json`: true if the model that the run started from, or the maker of a synthetic case, has no
record of its patients."""


@dataclass(frozen=True)
class Origin:
    """The facts from which a sample can be made again.

    Attributes:
        system: name of the system that made it.
        model_sha256: hash of the weights file; empty if no model was used.
        seed: seed of the sample.
    """

    system: str
    model_sha256: str
    seed: int

    @property
    def mark(self) -> str:
        """The synthetic mark with the start of the model's hash and the seed."""
        return " ".join(filter(None, (f"{SYNTHETIC_MARK};", self.model_sha256[:8], f"s{self.seed}")))[:79]


def patient_key(patient_id: str) -> str:
    """Return a pseudonym of a patient: 12 hexadecimal digits of the SHA-256 of the patient id.

    It is not anonymous: the hash has no secret, so whoever has a list of patient ids can compute the keys and compare.

    A synthetic or anonymous patient has the key of the patient that it was made from, so that a scan injected twice
    still belongs to its first source. Spaces around the id do not count. An empty id has an empty key.

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


def patient_keys(patient_id: str) -> set[str]:
    """Return the keys of a patient id as it is written, in lower and in upper case.

    A patient whose id is the name of a file, as an image's is, may be written differently than in a header.

    >>> patient_key("lidc-idri-0001") in patient_keys("LIDC-IDRI-0001")
    True
    """
    return {key for text in (patient_id, patient_id.lower(), patient_id.upper()) if (key := patient_key(text))}


def synthetic_patient(patient_id: str) -> str:
    """Return the patient id of every synthetic scan made from this patient's scans: `SYNTHETIC-` and the key."""
    return SYNTHETIC_PATIENT + patient_key(patient_id)


def without_folders(text: str) -> str:
    """Return a message with each absolute path cut to the file's name, so that a result says nothing of the machine.

    >>> without_folders("/home/me/scans/a.nii: found text")
    'a.nii: found text'
    """
    return re.sub(r"(?<![^\s'\"(\[=])(/[^/\s:;,'\"]+)+/", "", text)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(data: bytes | str) -> str:
    """Return the SHA-256 of bytes or text in hexadecimal digits; the text may hold file names that are not Unicode."""
    return hashlib.sha256(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data).hexdigest()


def making_key(maker: Maker) -> str:
    """Return a hash of what decides what a maker makes of a request and a seed; caches of made voxels are named by it.

    This is its system, weights and patients, its options, and the version of this package. The options are those that
    `hub.find` was given, or else the defaults of the system.
    """
    from synthorax.registry import registry  # imports Pydantic, without which packs are read

    options = getattr(maker, "options", None)
    if options is None and (entry := registry().entries.get(maker.name)) is not None:
        options = entry.options()
    chosen = {} if options is None else {name: _content_key(value) for name, value in options}
    return fingerprint(repr((maker.name, maker.lineage.row(), chosen, version("synthorax"))))


def _content_key(value: Any) -> str:
    """Return a text that differs between values of an option with different content."""
    if hasattr(value, "lineage"):
        return making_key(value)
    if hasattr(value, "voxels"):  # a volume
        return repr((_content_key(value.voxels), value.spacing_mm))
    if hasattr(value, "tobytes"):  # an array
        return repr((value.shape, str(value.dtype), fingerprint(value.tobytes())))
    if isinstance(value, str | Path) and Path(value).is_file():
        return fingerprint(Path(value).read_bytes())
    return repr(sorted(value) if isinstance(value, frozenset | set) else value)


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest: JSON of `content`, after the version of this package."""
    path.write_text(_manifest(content) + "\n")


@contextmanager
def manifest_writer(
    path: Path, content: dict[str, Any], name: str, notes: Sequence[str] = ()
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write a manifest whose last entry is a long list, item by item; yields the function that writes an item.

    Args:
        path: path of the manifest.
        content: entries before the list.
        name: name of the list.
        notes: an entry after the list, if there are any at the end of the block; the caller may add to them in it.
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
        text = json.dumps(list(notes), indent=1).replace("\n", "\n ")
        stream.write(f',\n "notes": {text}\n}}\n' if notes else "\n}\n")


def _manifest(content: Mapping[str, Any]) -> str:
    return json.dumps({"synthorax": version("synthorax"), **content}, indent=1, allow_nan=False)
