"""Where a result comes from, and the mark that it is synthetic."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

SYNTHETIC_MARK = "SYNTHETIC: made by synthorax, not a patient"
"""Written inside every file of generated voxels; at most 79 characters, the NIfTI header's room."""
MANIFEST = "manifest.json"
"""The sidecar of a folder."""


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


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(data: bytes) -> str:
    """Hash of bytes in memory, to recognise a data set by."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """The sidecar of a folder of results: JSON, with the version that made it."""
    manifest = {"synthorax": version("synthorax"), **content}
    path.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
