"""A folder of edited scans, one case each: started, resumed after a stop, and listed in one table and one manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthorax.annotations.nodule_table import NODULE_TABLE, under
from synthorax.editing.erase import is_gone
from synthorax.editing.label_nodules import OF_LABEL_MAP
from synthorax.errors import InputError, resumable
from synthorax.io.atomic import (
    MARK,
    atomic_file,
    check_folder_is_free,
    files_of,
    other_than_ours,
    working_in,
    write_mark,
)
from synthorax.io.locks import clear_leftovers
from synthorax.io.mappings import read_mapping
from synthorax.io.requests import differing_options
from synthorax.io.tables import even_rows, read_table, write_table
from synthorax.lineage import Lineage, joined_lineages
from synthorax.nodule import Nodule
from synthorax.provenance import MANIFEST, SYNTHETIC_MARK, write_manifest

CASES_REQUEST = "request.json"
"""File with the request of a folder of cases, and with the fingerprint of the files of each case."""
EDITED_CASES_RECIPE = 2
"""Version of the recipe, part of the request; raise it when the same request would give other cases."""


@dataclass(frozen=True)
class EditedFolder:
    """The result of editing a folder of scans.

    Attributes:
        out: folder with a subfolder for each case, `nodules.csv` and `manifest.json`.
        cases: names of the finished cases.
        nodules: number of their nodules; after an erasure, number of erased nodules.
        earlier: number of those nodules that the scans or label maps had before.
        failed: name of each case that could not be made to the reason.
        notes: sentences about results that differ from the request, each after the name of its case.
    """

    out: Path
    cases: tuple[str, ...]
    nodules: int
    failed: Mapping[str, str]
    notes: tuple[str, ...]
    earlier: int = 0


@contextmanager
def cases_begun(
    out: Path, wanted: Mapping[str, Any], keys: Mapping[str, str], overwrite: bool, what: str = "scans"
) -> Iterator[Path]:
    """Reserve a folder for the cases of a request while the block makes them; yield the folder's absolute path.

    At the end, unfinished files of stopped workers are removed, and the request too if no case was made.

    Args:
        out: folder to write.
        wanted: the request.
        keys: fingerprint of the files of each case, by case id; an existing case with another one is removed.
        overwrite: replace the cases of another request.
        what: what a case is, in the plural.

    Raises:
        InputError: the folder holds something else, or cases of another request.
        OutputError: the folder cannot be made.
        Stopped: a signal ended the block.
    """
    with working_in(out) as out:
        _begin(out, wanted, keys, overwrite)

        def finished() -> int:
            return sum(is_done(out / case_id) for case_id in keys)

        try:
            with resumable(finished, len(keys), what):
                yield out
        finally:
            clear_leftovers(out)
            if not finished():
                (out / CASES_REQUEST).unlink(missing_ok=True)


def _begin(out: Path, wanted: Mapping[str, Any], keys: Mapping[str, str], overwrite: bool) -> None:
    """Write the request of a folder, and remove cases of another request, or of files that have changed since.

    Raises:
        InputError: the folder holds something else, or cases of another request.
    """
    try:
        begun = read_mapping(out / CASES_REQUEST)
    except InputError:
        check_folder_is_free(out, overwrite=True)
        if any(out.iterdir()):
            raise InputError(out, "a result of another kind", "an empty or new folder") from None
        begun = {}
    earlier = begun.pop("cases", {})
    wanted = json.loads(json.dumps(wanted))  # in the form in which it will be read again
    if begun and begun != wanted and not overwrite:
        other = differing_options(begun, wanted)
        raise InputError(out, f"cases of another request ({other})", "the same request, or --overwrite")
    for case_id in earlier:
        if begun != wanted or keys.get(case_id) != earlier[case_id]:
            _remove(out / case_id)
    for name in (NODULE_TABLE, MANIFEST):
        (out / name).unlink(missing_ok=True)
    with atomic_file(out / CASES_REQUEST) as file:
        file.write_text(json.dumps({**wanted, "cases": dict(keys)}, indent=1) + "\n")


def is_stopped(out: Path) -> bool:
    """Return whether a folder holds cases of a request that was stopped before their table was written."""
    try:
        return not (out / MANIFEST).exists() and "cases" in read_mapping(out / CASES_REQUEST)
    except InputError:
        return False


def is_done(case: Path) -> bool:
    """Return whether a case is finished; a case's folder is put in place as a whole."""
    return (case / MARK).is_file() and (case / MANIFEST).is_file()


def _remove(case: Path) -> None:
    """Remove a case that this package wrote.

    Raises:
        InputError: its folder has other files too.
    """
    if is_done(case):
        if (other := other_than_ours(case)) is not None:
            raise InputError(case, f"{other} in a case to be replaced", "a folder without other files; move it away")
        shutil.rmtree(case)


def collected(
    out: Path, wanted: Mapping[str, Any], cases: Sequence[str], failed: Mapping[str, str], notes: Sequence[str]
) -> EditedFolder:
    """Write the manifest of all cases, and the table of the added nodules.

    Args:
        out: the folder.
        wanted: the request.
        cases: names of the requested cases.
        failed: name of each case that could not be made to the reason.
        notes: sentences about the whole folder.

    Raises:
        InputError: cases were made with different weights.
    """
    rows: list[dict[str, str]] = []
    entries, all_notes, lineages, erased, is_erasure = [], list(notes), [], 0, False
    earlier = 0
    done = [case_id for case_id in cases if is_done(out / case_id)]
    for case_id in done:
        content = read_mapping(out / case_id / MANIFEST)
        lineages.append(Lineage.from_row(content["lineage"]))
        all_notes += [f"{case_id}: {note}" for note in content["notes"]]
        kept = ("seed", "patient_id", "source", "files", "nodules", "erased", "region_voxels")
        entries.append({"case": case_id, **{name: content[name] for name in kept if name in content}})
        is_erasure |= "erased" in content
        erased += sum(is_gone(Nodule.from_row(row)) for row in content.get("erased", ()))
        table = out / case_id / NODULE_TABLE
        own = read_table(table) if table.is_file() else []
        rows += [under(case_id, row) for row in own]
        last = max((int(row.get("edit") or 0) for row in own), default=0)
        edits = len(dict(content.get("request") or {}).get("edits", ())) or last
        earlier += 0 if "erased" in content else sum(int(row.get("edit") or 0) != edits for row in own)
        earlier += sum(row.get("from") == OF_LABEL_MAP for row in own)
    hashes: dict[str, set[str]] = {}
    for lineage in lineages:
        hashes.setdefault(lineage.name, set()).add(lineage.model_sha256)
    for name, each in hashes.items():
        if len(each) > 1:
            found = f"cases made with {len(each)} different weights of {name}"
            raise InputError(out, found, "cases of one model; --overwrite makes all again")
    all_notes += [f"{case_id}: left out: {why}" for case_id, why in failed.items()]
    if rows:
        write_table(out / NODULE_TABLE, even_rows(rows))
    lineage = joined_lineages(lineages)
    manifest = {
        "synthetic": SYNTHETIC_MARK,
        "method": lineage.name,
        "model_sha256": lineage.model_sha256,
        "seed": wanted["seed"],
        "request": wanted["request"],
        "annotated": "some" if rows else "none-known",
        "lineage": lineage.row(),
        "cases": entries,
        "failed": [{"case": case_id, "reason": why} for case_id, why in failed.items()],
        "notes": all_notes,
    }
    write_manifest(out / MANIFEST, manifest)
    of_cases = [f"{case_id}/{name}" for case_id in done for name in (MARK, *files_of(out / case_id))]
    write_mark(out, sorted([*[NODULE_TABLE] * bool(rows), MANIFEST, CASES_REQUEST, *of_cases]))
    return EditedFolder(out, tuple(done), erased if is_erasure else len(rows), failed, tuple(all_notes), earlier)
