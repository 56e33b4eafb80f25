"""Synthetic scans that are as completely annotated as the scans of the store that they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthorax.datasets.case import CaseEntry
from synthorax.datasets.joined import MadeSource
from synthorax.datasets.sources import ScanSource, Source, TableSource
from synthorax.io.walk import real_path
from synthorax.provenance import fingerprint

KEPT_MM = 1.0
"""A nodule of the original is kept if the synthetic scan has one whose centre is at most this far from its own."""


def with_inherited(read: Sequence[tuple[Source, CaseEntry]]) -> list[CaseEntry]:
    """Return the entries of a store, in which synthetic scans inherit that all their nodules are known.

    A synthetic scan of which some nodules are known has all of them in its table if all of its original are known, and
    it keeps each of these: what `inject` adds is in the table. It stays as it is if a row of its table was lost, or if
    the user has stated how it is annotated.

    Args:
        read: sources of cases, each with the entry of its case.
    """
    originals = {
        real_path(source.files.path): entry
        for source, entry in read
        if isinstance(source, ScanSource | TableSource) and not entry.synthetic
    }
    return [_inherited(source, entry, originals) for source, entry in read]


def _inherited(source: Source, entry: CaseEntry, originals: dict[Path, CaseEntry]) -> CaseEntry:
    table = source.made if isinstance(source, MadeSource) else source
    if not isinstance(table, TableSource) or table.whose.original is None or not entry.synthetic:
        return entry
    original = originals.get(real_path(table.whose.original))
    if original is None or (entry.annotated, original.annotated, table.whose.stated) != ("some", "all", None):
        return entry
    is_whole = len(entry.nodules) >= len(table.rows) and not table.files.doubts
    if not is_whole or not _keeps(entry, original):
        return entry
    # The fingerprint of the store depends on the annotation, which the hash of the case's files does not have.
    return replace(entry, annotated="all", sha256=fingerprint(f"{entry.sha256} all {original.sha256}"))


def _keeps(entry: CaseEntry, original: CaseEntry) -> bool:
    """Return whether a case has every nodule of another one at its place, with a mask if it has one there."""
    for nodule in original.nodules:
        near = [
            other
            for other in entry.nodules
            if float(np.linalg.norm(np.subtract(other.center_mm, nodule.center_mm))) <= KEPT_MM
        ]
        if not any(other.label or not nodule.label for other in near):
            return False
    return True
