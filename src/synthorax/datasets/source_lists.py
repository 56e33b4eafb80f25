"""Finding the sources of a store in folders of scans and in tables, with the patient of each case."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from synthorax.annotations.nodule_table import KNOWN, NODULE_TABLE, TableImage
from synthorax.datasets.case import Annotated
from synthorax.datasets.case_ids import case_ids
from synthorax.datasets.discovery import FoundScans, find_scans, masks_by_name
from synthorax.datasets.manifests import Manifests
from synthorax.datasets.nnunet_folders import nnunet_images
from synthorax.datasets.patients import MOST_NAMED, Person
from synthorax.datasets.sources import Files, ScanSource, Source, TableSource, Unreadable
from synthorax.datasets.whose import Known, whose_scans
from synthorax.editing.cases import CASES_REQUEST, is_stopped
from synthorax.errors import InputError
from synthorax.io.dicom_file import read_about
from synthorax.io.dicom_series import choose_series
from synthorax.io.images import image_stem, is_image
from synthorax.io.tables import misnamed_columns, some_of
from synthorax.io.walk import files_below, real_path

FOLDERS_ABOVE = 2
"""Number of folders above a scan's own in which a table of its nodules is looked for."""


@dataclass(frozen=True)
class FoundSources:
    """The sources of a store.

    Attributes:
        sources: one source for each case.
        notes: sentences about how patients were identified, and about files that were not read.
    """

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()


def scan_sources(
    folder: Path,
    table: Path | None = None,
    structures: str | None = None,
    *,
    stated: Annotated | None = None,
    patient_from: str = "auto",
    above: Sequence[Path] = (),
) -> FoundSources:
    """Find whole scans: scans of tables with the nodules of their rows, and others with the DICOM masks beside them.

    The labels of an nnU-Net data set are the nodules of its scans.

    Args:
        folder: folder of the scans.
        table: table of nodules; by default, every `nodules.csv` of the folder and its subfolders.
        structures: regular expression for the names of segments and structures that are nodules.
        stated: the user's statement whether all nodules of the scans are known, or None.
        patient_from: rule by which patients are identified (`patients.tell_patients_apart`).
        above: tables of folders above (`tables_above`), for scans that they name and no other table does. If one cannot
            be read, it is a doubt of every scan.

    Raises:
        InputError: there is no scan, a table does not match the scans, or a patient is in two splits.
    """
    found = find_scans(folder)
    manifests = Manifests()
    paths = [files.path for files in found.scans if not files.files]
    images, notes = _joined([table] if table else [*found.tables, *manifests.tables_of(paths)], manifests)
    of_nnunet, nnunet_notes = nnunet_images(paths, images)
    images, notes = [*images, *of_nnunet], [*notes, *nnunet_notes]
    named_above, doubts = _named_above(above, found.scans, images, manifests)
    images += named_above
    masks = {real_path(row.mask) for image in images for row in image.nodules if row.mask}
    masks |= set(map(real_path, manifests.other_images(paths)))
    pairs = [
        (replace(files, doubts=(*files.doubts, *doubts)), person)
        for files, person in zip(found.scans, found.people, strict=True)
        if files.files or real_path(files.path) not in masks
    ]
    rows = _rows_of([files for files, _ in pairs], images)
    scans = _doubted([files for files, _ in pairs], rows)
    whose, patient_notes = whose_scans(scans, [person for _, person in pairs], rows, manifests, patient_from, stated)
    used = {id(row) for row in rows}
    missing = [image for image in images if id(image) not in used]
    stems = [of_case.patient_id if files.files else files.stem for files, of_case in zip(scans, whose, strict=True)]
    below = [None if files.files else person.path for files, person in pairs]
    ids = case_ids([*stems, *(image.image.name for image in missing)], [*below, *[None] * len(missing)])
    made: list[Source] = []
    for case_id, files, image, of_case in zip(ids, scans, rows, whose, strict=False):
        if image is not None:
            made.append(TableSource(case_id, files, image.nodules, structures, of_case, manifests.usual(image)))
        else:
            made.append(ScanSource(case_id, files, structures, of_case))
    for case_id, image in zip(ids[len(pairs) :], missing, strict=True):
        found_ = f"{_row(image)}, which is not in {folder}"
        reason = InputError(image.table, found_, "images in that folder")
        made.append(Unreadable(case_id, reason))
    return FoundSources((*made, *found.refused), (*patient_notes, *notes, *found.notes))


def patch_sources(
    tables: Sequence[Path],
    structures: str | None = None,
    *,
    stated: Annotated | None = None,
    patient_from: str = "auto",
    known: Sequence[Known] = (),
) -> FoundSources:
    """Find the images of tables.

    Args:
        tables: tables, each in the folder of its images or above it.
        structures, stated, patient_from: see `scan_sources`.
        known: scans of the store that the images join, if they are synthetic.

    Raises:
        InputError: a table is not valid, or a patient is in two splits.
    """
    manifests = Manifests()
    images, notes = _joined(tables, manifests)
    top = _common(tables)
    find = cache(find_scans)
    files = [_files_at(image, find) for image in images]
    people = [_person(image.image, one, top) for image, one in zip(images, files, strict=True)]
    read = [one if isinstance(one, Files) else Files(image.image) for one, image in zip(files, images, strict=True)]
    whose, patient_notes = whose_scans(read, people, images, manifests, patient_from, stated, known)
    ids = case_ids([image_stem(image.image) for image in images], [person.path for person in people])
    made: list[Source] = []
    for case_id, image, one, of_case in zip(ids, images, files, whose, strict=True):
        if isinstance(one, InputError):
            made.append(Unreadable(case_id, one))
        else:
            made.append(TableSource(case_id, one, image.nodules, structures, of_case, manifests.usual(image)))
    return FoundSources(tuple(made), (*patient_notes, *notes))


def find_tables(folder: Path) -> list[Path]:
    """Return the `nodules.csv` of a folder; if it has none, those of its subfolders.

    Raises:
        InputError: there is none, or the folder has cases of an injection that was stopped.
    """
    if found := tables_of(folder):
        return found
    raise InputError(folder, f"no {NODULE_TABLE}", "a folder with its table, or --table FILE.csv")


def tables_of(folder: Path) -> list[Path]:
    """Return the tables that `find_tables` finds, or an empty list.

    For a folder of samples without any nodule, which has no table, the path of the missing table is returned.

    Raises:
        InputError: the folder has cases of an injection that was stopped before it wrote the table of all cases.
    """
    if (folder / NODULE_TABLE).is_file():
        return [folder / NODULE_TABLE]
    files = list(files_below(folder))
    if stopped := [path.parent for path in files if path.name == CASES_REQUEST and is_stopped(path.parent)]:
        raise InputError(stopped[0], "cases of an injection that was stopped", "the same `inject` run to its end")
    images = [path for path in files if is_image(path)]
    return [*(path for path in files if path.name == NODULE_TABLE), *Manifests().tables_of(images)]


def tables_above(path: Path) -> list[Path]:
    """Return the `nodules.csv` in the nearest folders above a folder, or above that of an image, the nearest first.

    Args:
        path: the folder or image.
    """
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    return [table for above in folder.parents[:FOLDERS_ABOVE] if (table := above / NODULE_TABLE).is_file()]


def _named_above(
    tables: Sequence[Path], scans: Sequence[Files], images: Sequence[TableImage], manifests: Manifests
) -> tuple[list[TableImage], list[str]]:
    """Return the images of tables in folders above that are scans, by path or series UID, and doubts about tables.

    Args:
        tables: the tables, the nearest first.
        scans: the scans.
        images: images of other tables, which count first.
        manifests: reads the tables.
    """
    paths, uids = {real_path(files.path) for files in scans}, {files.series_uid for files in scans if files.series_uid}
    known: set[Path | str] = {key for image in images for key in (real_path(image.image), image.image.name)}
    named: list[TableImage] = []
    doubts: list[str] = []
    for table in tables:
        try:
            listed = manifests.images_of(table)
        except InputError as error:
            doubts.append(f"{NODULE_TABLE} in a folder above was not read: {error.args[1]}; expected {error.args[2]}")
            continue
        for image in listed:
            path, uid = real_path(image.image), image.image.name
            if (path in paths and path not in known) or (uid in uids and uid not in known):
                known |= {path, uid}
                named.append(image)
    return named, doubts


def _joined(tables: Sequence[Path], manifests: Manifests) -> tuple[list[TableImage], list[str]]:
    """Return the images of several tables, and notes.

    An image that several tables name is taken from the uppermost one. A note says so, except for the tables that
    `inject` writes for its cases.
    """
    images: dict[Path, TableImage] = {}
    twice: Counter[Path] = Counter()
    notes = []
    used: set[Path] = set()
    for table in sorted(tables, key=lambda path: len(path.parts)):
        listed = manifests.images_of(table)
        if not manifests.of(table.parent):
            columns = dict.fromkeys(name for image in listed for row in image.nodules for name in row.extra)
            if misnamed := misnamed_columns(columns, KNOWN):
                said = ", ".join(
                    f"{name} is not read; rename it to {meant} if it is meant" for name, meant in misnamed.items()
                )
                notes.append(f"{table.name}: {said}")
            if others := [name for name in columns if name not in misnamed and name not in KNOWN]:
                notes.append(f"{table.name}: columns that are kept as text, but not read: {some_of(others)}")
        for image in listed:
            key = real_path(image.image)
            if key not in images:
                used.add(table)
            elif not manifests.of(table.parent):
                twice[table] += 1
            images.setdefault(key, image)
    if twice:
        first = next(iter(twice))
        named = f"{first.parent.name}/{first.name}" + f" and {len(twice) - 1} more tables" * (len(twice) > 1)
        notes.append(f"{twice.total()} images of {named} are also in a table in a folder above, which is used")
    if len(used) > 1:
        notes.append(f"{len(used)} tables were read: {len(images)} images")
    return list(images.values()), notes


def _rows_of(scans: Sequence[Files], images: Sequence[TableImage]) -> list[TableImage | None]:
    """Return the tables' entry for each scan, matched by path, series UID or patient id; None if there is none.

    An image that is the path of a scan, from its table's own folder, is that scan, and no other one of that name.
    """
    listed = {real_path(image.image): image for image in images}
    by_path = [listed.get(real_path(files.path)) for files in scans]
    paths = {id(image) for image in by_path if image is not None}
    by_name = {image.image.name: image for image in images if id(image) not in paths}
    rows = [
        image or by_name.get(files.series_uid) or by_name.get(files.stem)
        for files, image in zip(scans, by_path, strict=True)
    ]
    fits: dict[int, list[Files]] = defaultdict(list)
    for files, image in zip(scans, rows, strict=True):
        if image is not None:
            fits[id(image)].append(files)
            if len(fits[id(image)]) > 1:
                expected = "one scan; name a file, a folder of one series or a series UID in the column `image`"
                found = f"{_row(image)}, which matches several scans"
                raise InputError(image.table, found, expected)
    return rows


def _row(image: TableImage) -> str:
    """Return the line and the name of an image in its table."""
    return f"line {image.line}: " * bool(image.line) + f"image {image.image.name}"


def _doubted(scans: Sequence[Files], rows: Sequence[TableImage | None]) -> list[Files]:
    """Return the scans, with a doubt for each that has an image beside it that may be a mask no table names."""
    masks = masks_by_name([files.path for files in scans if not files.files])
    made = []
    for files, row in zip(scans, rows, strict=True):
        beside = masks.get(files.path, []) if row is None and not files.files else []
        if beside:
            names = ", ".join(path.name for path in beside[:MOST_NAMED])
            doubt = f"{names} may be its masks and were not read; name them in {NODULE_TABLE}, columns image and mask"
            files = replace(files, doubts=(*files.doubts, doubt))
        made.append(files)
    return made


def _files_at(image: TableImage, find: Callable[[Path], FoundScans]) -> Files | InputError:
    """Return the scan of an image of a table, with DICOM masks beside it if a row needs them; or the error.

    Args:
        image: the image.
        find: `find_scans` with a cache.
    """
    path = image.image
    if not path.is_dir():
        return Files(path)
    try:
        series = choose_series(path)
        beside = () if all(row.mask is not None for row in image.nodules) else find(path.parent).scans
    except InputError as error:
        return error
    mine = next((files for files in beside if files.files and set(files.files) == set(series.files)), None)
    return mine or Files(path, series.uid, series.patient_id, series.files, left_out=series.left_out)


def _person(path: Path, files: Files | InputError, top: Path) -> Person:
    """Return the facts about the patient of an image of a table, from its path and header."""
    below = path.relative_to(top) if path.is_relative_to(top) else Path(path.name)
    if not isinstance(files, Files) or not files.files:
        return Person(below)
    return Person.of_series(read_about(files.files[0]), below)


def _common(tables: Sequence[Path]) -> Path:
    """Return the lowest folder that contains all tables."""
    return Path(os.path.commonpath([table.parent for table in tables]))
