"""Finding the scans of a folder, with the DICOM masks of each, and the files that are not read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthorax.annotations.nodule_table import NODULE_TABLE
from synthorax.datasets.mask_matching import MaskFile, ScanHeader, match_masks
from synthorax.datasets.patients import MOST_NAMED, Person
from synthorax.datasets.sources import Files, Unreadable
from synthorax.errors import InputError
from synthorax.io.dicom_file import read_about
from synthorax.io.dicom_masks import MODALITIES, read_references
from synthorax.io.dicom_series import FILE_COPY, LOCALIZER, SeriesFiles, group_series
from synthorax.io.images import image_stem, is_image
from synthorax.io.walk import LeftOut, survey
from synthorax.screen import quantity

SEGMENTED_LUNGS = "seg-lungs-LUNA16"
"""Folder of LUNA16 with lung masks, which have the names of the scans."""
MASK_WORDS = re.compile(
    r"masks?|seg(mentation)?s?|labels?(t[rs])?|annotations?|nodules?|lesions?|tumou?rs?|gtv", re.IGNORECASE
)
"""Words in the name or folder of a mask. An image may be the mask of another one if their names agree without them."""
MASKLESS_REASONS = (LOCALIZER, FILE_COPY)
"""Reasons for leaving out a file that show that it is not a mask."""


@dataclass(frozen=True)
class FoundScans:
    """The scans and other files of a folder.

    Attributes:
        scans: the scans with their masks.
        people: the patient of each scan, as far as headers and paths tell.
        refused: damaged files, and masks whose series are missing.
        tables: CSV files named `nodules.csv`.
        notes: sentences about files that were not read.
    """

    scans: tuple[Files, ...]
    people: tuple[Person, ...]
    refused: tuple[Unreadable, ...]
    tables: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def find_scans(folder: Path) -> FoundScans:
    """Find the CT series and images of a folder and its subfolders, in the order of their names.

    Raises:
        InputError: the folder does not exist, or has no scan.
    """
    if not folder.exists():
        raise InputError(folder, "nothing", "a folder of scans")
    surveyed = survey(folder) if folder.is_dir() else None
    paths = list(surveyed.files) if surveyed else [folder]
    images = [path for path in paths if is_image(path) and SEGMENTED_LUNGS not in path.parts]
    found = group_series([path for path in paths if not is_image(path)], surveyed.left_out if surveyed else ())
    series = [one for one in found if one.modality == "CT" and not one.is_localizer]
    harmless = {left for one in series for left in one.left_out if left[1] in MASKLESS_REASONS}
    refused = [_unreadable(folder, left) for left in found.left_out if left not in harmless]
    refused += [
        _unreadable(folder, (one.files[0], "localizer images without slices")) for one in found if one.is_localizer
    ]
    headers = [ScanHeader(one.files, read_about(one.files[0])) for one in series]
    masks, damaged = _mask_files(found.series)
    matched = match_masks(headers, masks)
    refused += [_unreadable(folder, (path, reason)) for path, reason in (*damaged, *matched.orphans)]
    base = folder if folder.is_dir() else folder.parent
    scans = [
        _of_series(one, header, matched.masks[i], matched.doubts[i], base)
        for i, (one, header) in enumerate(zip(series, headers, strict=True))
    ]
    scans += [(Files(path), Person(path.relative_to(base))) for path in images]
    if not scans and not refused:
        expected = "DICOM, NIfTI, MHA, MHD or NRRD"
        raise InputError(folder, f"{len(paths)} files, none of them a CT scan", expected)
    scans.sort(key=lambda pair: (str(pair[0].path), pair[0].series_uid))
    return FoundScans(
        scans=tuple(files for files, _ in scans),
        people=tuple(person for _, person in scans),
        refused=tuple(refused),
        tables=tuple(path for path in paths if path.name == NODULE_TABLE),
        notes=tuple(_not_read(paths, found.series)),
    )


def masks_by_name(images: Sequence[Path]) -> dict[Path, list[Path]]:
    """Map each image to the images that are its masks by name, such as `a_mask.nii.gz` or `labelsTr/a.nii.gz`.

    >>> masks_by_name([Path("imagesTr/a_0000.nii.gz"), Path("labelsTr/a.nii.gz")])
    {PosixPath('imagesTr/a_0000.nii.gz'): [PosixPath('labelsTr/a.nii.gz')]}
    """
    scans: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    masks = []
    for path in images:
        if MASK_WORDS.search(path.parent.name) or MASK_WORDS.search(image_stem(path)):
            masks.append(path)
        else:
            scans[path.parent, _bare(path)].append(path)
            scans[path.parent.parent, _bare(path)].append(path)
    found: dict[Path, list[Path]] = defaultdict(list)
    for mask in masks:
        beside = scans.get((mask.parent, _bare(mask))) or scans.get((mask.parent.parent, _bare(mask))) or []
        for scan in dict.fromkeys(beside):
            found[scan].append(mask)
    return dict(found)


def _bare(path: Path) -> str:
    """Return an image's name without words such as `mask` and `ct`, in lower case."""
    name = MASK_WORDS.sub("", image_stem(path).lower().removesuffix("_0000"))
    return re.sub(r"(?<![a-z])(ct|image|img|scan|volume|vol)(?![a-z])|[^a-z0-9]+", "", name)


def _of_series(
    series: SeriesFiles, header: ScanHeader, masks: tuple[Path, ...], doubts: tuple[str, ...], base: Path
) -> tuple[Files, Person]:
    """Return the files of a DICOM series, and its patient."""
    lost = [reason for _, reason in series.left_out if reason not in MASKLESS_REASONS]
    if lost:
        doubts = (*doubts, f"not read: {quantity(len(lost), 'file')} beside it that may be its masks")
    files = Files(header.folder, series.uid, series.patient_id, series.files, masks, doubts, series.left_out)
    return files, Person.of_series(header.about, header.folder.relative_to(base))


def _mask_files(series: Sequence[SeriesFiles]) -> tuple[list[MaskFile], list[LeftOut]]:
    """Return the DICOM masks of a folder with their references to scans, and the masks that cannot be read."""
    found: list[MaskFile] = []
    damaged: list[LeftOut] = []
    for one in series:
        if one.modality in MODALITIES:
            for path in one.files:
                try:
                    found.append(MaskFile(path, read_references(path)))
                except InputError as error:
                    damaged.append((path, str(error.args[1])))
    return found, damaged


def _not_read(paths: Sequence[Path], series: Sequence[SeriesFiles]) -> list[str]:
    """Return notes on files that may describe nodules and are not read."""
    notes = []
    others = Counter(one.modality for one in series if one.modality not in ("CT", *MODALITIES) for _ in one.files)
    if others:
        counted = ", ".join(f"{count} {modality}" for modality, count in sorted(others.items()))
        notes.append(f"DICOM files that are neither CT nor masks were not read: {counted}")
    lists = [
        path for path in paths if path.suffix.lower() in (".csv", ".tsv", ".xlsx", ".xls") and path.name != NODULE_TABLE
    ]
    if lists:
        named = ", ".join(dict.fromkeys(path.name for path in lists[:MOST_NAMED])) + ", ..." * (len(lists) > MOST_NAMED)
        notes.append(f"not read: {quantity(len(lists), 'table')} ({named}); only {NODULE_TABLE} is a table of nodules")
    return notes


def _unreadable(folder: Path, left: LeftOut) -> Unreadable:
    path, reason = left
    return Unreadable(path.name, InputError(path, reason, "a CT slice, an image or a mask of one of the scans"))
