"""Grouping the DICOM files of a folder into series.

The series UID alone is not enough, because anonymisers delete it or give all patients the same. Files are one series if
patient, study, series, frame of reference, kind of object and orientation are the same. Files of several folders are
one series only if their UIDs, positions and instance numbers are all present and all different.
"""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthorax.errors import InputError
from synthorax.io.dicom_bounds import is_dicom, what_else
from synthorax.io.dicom_elements import brief
from synthorax.io.dicom_file import CT_CLASSES, About, read_about
from synthorax.io.own_kinds import own_kind
from synthorax.io.walk import LeftOut, listed, not_regular, survey

SAME_ORIENTATION = 2e-3
"""Direction cosines that differ by less than this are one orientation, because headers round."""
MOST_LISTED = 20
"""Most series that a message lists to choose from."""
OTHER_KINDS = (
    *(".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".pdf", ".log", ".ini"),
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".svg", ".py", ".ipynb", ".xls", ".xlsx", ".doc"),
    *(".docx", ".npy", ".npz", ".stl", ".obj", ".zraw", ".raw", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"),
    *(".safetensors", ".pt", ".exe", ".bat", ".dll", ".db", ".inf"),
)
"""Files with these suffixes are not expected to be DICOM; if they are not, they are ignored without a note."""
LOCALIZER = "a localizer image"
FILE_COPY = "a copy of a file in another folder"
"""Reasons why a file beside a series is left out that also rule out that it is a mask."""
OTHER_NAMES = ("dicomdir", "license", "licence", "readme", "thumbs.db", "desktop.ini", "lockfile", "version")


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series.

    Attributes:
        uid, study_uid: SeriesInstanceUID and StudyInstanceUID; empty if missing.
        patient_id: PatientID.
        modality: such as CT, MR or SEG.
        description: SeriesDescription.
        files: sorted by path.
        part: 1, or 2, 3, ... for further series with the same UID.
        apart: the difference from part 1, such as `another patient`; empty for part 1.
        is_localizer: whether it holds only localizers (overview images).
        left_out: files in its folders that belong to no series, each with the reason.
    """

    uid: str
    patient_id: str
    modality: str
    description: str
    files: tuple[Path, ...]
    study_uid: str = ""
    part: int = 1
    apart: str = ""
    is_localizer: bool = False
    left_out: tuple[LeftOut, ...] = ()

    @property
    def key(self) -> str:
        """The series UID, followed by `#` and the part if that is 2 or more."""
        return self.uid + f"#{self.part}" * (self.part > 1)

    def __str__(self) -> str:
        whose = f"patient {brief(self.patient_id)}" if self.patient_id else ""
        apart = f"{self.apart} in {self.files[0].parent}" if self.apart else ""
        details = [brief(self.modality), f"{len(self.files)} files", whose, brief(self.description), apart]
        return f"{brief(self.key, 80) or 'no UID'} ({', '.join(filter(None, details))})"


@dataclass(frozen=True)
class FoundSeries(Sequence[SeriesFiles]):
    """The series of a folder, as a sequence sorted by UID.

    Attributes:
        series: all series.
        left_out: files and folders that belong to no series, each with the reason.
    """

    series: tuple[SeriesFiles, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: Any) -> Any:
        return self.series[index]


SCANS_EXPECTED = "a DICOM series, or the path of an image: NIfTI, MHA, MHD or NRRD"
"""What an error expects of a path without a scan."""
Members = list[tuple[Path, About]]


def find_series(path: Path) -> FoundSeries:
    """Find the series of a folder and its subfolders, or of one file.

    Raises:
        InputError: the path does not exist, or there is no DICOM file that can be read.
    """
    if path.is_dir():
        surveyed = survey(path)
        found = group_series(surveyed.files, surveyed.left_out)
    elif kind := not_regular(path):
        raise InputError(path, kind, "a DICOM file or folder")
    else:
        found = group_series([path])
    if not len(found):
        if own := own_kind(path):
            raise InputError(path, own.name, f"a DICOM folder or another scan; {own.use}")
        beside = f" that can be read; left out: {listed(found.left_out)}" if found.left_out else ""
        raise InputError(path, f"no DICOM file{beside}", SCANS_EXPECTED)
    return found


def group_series(files: Iterable[Path], left_out: Sequence[LeftOut] = ()) -> FoundSeries:
    """Group DICOM files into series.

    Args:
        files: files to group.
        left_out: files that were left out before, for the result.

    Returns:
        The series, perhaps none, and every file that was left out with the reason, except files such as `.csv`, whose
        names say that they are not DICOM.
    """
    passed_over = list(left_out)
    alike: dict[tuple, Members] = defaultdict(list)
    localizers: dict[tuple, Members] = defaultdict(list)
    for file in files:
        try:
            about = read_about(file)
        except InputError as error:
            if not _is_other(file):
                passed_over.append((file, str(error.args[1])))
        except OSError as error:
            passed_over.append((file, f"a file that cannot be read ({error.strerror})"))
        else:
            if about.is_localizer and about.modality == "CT":
                localizers[_whose(about)].append((file, about))
            elif about.modality:
                alike[_identity(about)].append((file, about))
    groups: list[Members] = []
    for members in [turned for several in alike.values() for turned in _by_orientation(several)]:
        folders: dict[Path, Members] = defaultdict(list)
        for file, about in members:
            folders[file.parent].append((file, about))
        merged, copies = _across_folders([folders[place] for place in sorted(folders)])
        groups += merged
        passed_over += copies
    overviews = []
    imaged = {_whose(group[0][1]) for group in groups}
    for whose, members in localizers.items():
        if whose in imaged:
            passed_over += [(file, LOCALIZER) for file, _ in members]
        else:
            overviews.append(members)
    return FoundSeries(_numbered(groups, overviews, passed_over), tuple(sorted(passed_over)))


def choose_series(path: Path, series: str | None = None) -> SeriesFiles:
    """Return the CT series that is meant by a path.

    Args:
        path: a folder with one CT series; or a slice, whose series is returned.
        series: UID of the series, or the end of the UID, if the folder holds several.

    Raises:
        InputError: there is no such series, or several.
    """
    if path.is_file():
        if not is_dicom(path):
            raise InputError(path, what_else(path), "a DICOM file")
        read_about(path)  # raises the error of this file, if it cannot be read
        found = group_series(sorted(file for file in path.parent.iterdir() if not not_regular(file)))
        mine = [one for one in found if path in one.files]
        if not mine:
            reason = next((why for file, why in found.left_out if file == path), "a file of no series")
            raise InputError(path, reason, "a slice of a CT series")
        return mine[0]
    found = find_series(path)
    if series:
        wanted = [s for s in found if s.key.endswith(series)] or [s for s in found if s.uid.endswith(series)]
    else:
        wanted = [s for s in found if s.modality == "CT" and not s.is_localizer]
    if len(wanted) == 1:
        elsewhere = {file.parent for one in found for file in one.files} - {file.parent for file in wanted[0].files}
        beside = [(file, reason) for file, reason in found.left_out if file.parent not in elsewhere]
        return replace(wanted[0], left_out=tuple(beside))
    listed = "; ".join(map(str, (wanted or found)[:MOST_LISTED])) + "; ..." * (len(wanted or found) > MOST_LISTED)
    if not wanted:
        raise InputError(path, listed, f"a series whose UID ends in {series}" if series else "a CT series")
    raise InputError(path, f"{len(wanted)} series: {listed}", "one series; choose it by its UID or the end of the UID")


def _whose(about: About) -> tuple[str, ...]:
    return (about.patient_id, about.patient_name, about.birth_date, about.study_uid, about.series_uid)


def _identity(about: About) -> tuple:
    """Return the values that all files of one series share, besides the orientation."""
    kind = "CT" if about.sop_class in CT_CLASSES else about.sop_class
    return (*_whose(about), about.series_number, about.frame_of_reference, about.modality, kind)


def _by_orientation(members: Members) -> list[Members]:
    """Groups of files of one orientation each; a file without a usable orientation joins another group.

    Reading the series then refuses such a file by its name.
    """
    groups: list[tuple[tuple[float, ...], Members]] = []
    for file, about in sorted(members, key=lambda member: not member[1].orientation):
        for orientation, group in groups:
            gaps = [abs(a - b) for a, b in zip(orientation, about.orientation, strict=False)]
            if max(gaps, default=0.0) < SAME_ORIENTATION:
                group.append((file, about))
                break
        else:
            groups.append((about.orientation, [(file, about)]))
    return [sorted(group, key=lambda member: member[0]) for _, group in groups]


def _across_folders(folders: Sequence[Members]) -> tuple[list[Members], list[LeftOut]]:
    """Merge files of several folders that differ in nothing but the folder; returns the series and the copied files."""
    series: list[Members] = []
    copies: list[LeftOut] = []
    for members in folders:
        known = {_instance(about): file for group in series for file, about in group}
        new: Members = []
        for file, about in members:
            twin = known.get(_instance(about))
            if twin is not None and filecmp.cmp(twin, file, shallow=False):
                copies.append((file, FILE_COPY))
            else:
                new.append((file, about))
        if not new:
            continue
        for group in series:
            if _continues(group, new):
                group += new
                break
        else:
            series.append(new)
    return series, copies


def _instance(about: About) -> tuple[str, ...]:
    return (about.sop_uid, about.position_mm, about.number)


def _continues(group: Members, new: Members) -> bool:
    """Whether files of another folder are further slices of a series: all identifiers are present and different."""
    whole = [about for _, about in [*group, *new]]
    if whole[0].modality != "CT":
        return True
    if not (whole[0].series_uid and whole[0].study_uid):
        return False
    return all(
        "" not in values and len(values) == len(whole)
        for values in (
            {about.sop_uid for about in whole},
            {about.position_mm for about in whole},
            {about.number for about in whole},
        )
    )


def _numbered(groups: list[Members], overviews: list[Members], left_out: Sequence[LeftOut]) -> tuple[SeriesFiles, ...]:
    """Return the series in the order of UID and path; series that share a UID are numbered."""
    made: list[SeriesFiles] = []
    first: dict[str, About] = {}
    parts: dict[str, int] = defaultdict(int)
    for members in sorted([*groups, *overviews], key=lambda group: (group[0][1].series_uid, group[0][0])):
        files, about = tuple(sorted(file for file, _ in members)), members[0][1]
        parts[about.series_uid] += 1
        places = {file.parent for file in files}
        made.append(
            SeriesFiles(
                uid=about.series_uid,
                patient_id=about.patient_id,
                modality=about.modality,
                description=about.description,
                files=files,
                study_uid=about.study_uid,
                part=parts[about.series_uid],
                apart=_difference(first.setdefault(about.series_uid, about), about, parts[about.series_uid]),
                is_localizer=about.is_localizer,
                left_out=tuple((file, reason) for file, reason in left_out if file.parent in places),
            )
        )
    return tuple(made)


def _difference(one: About, other: About, part: int) -> str:
    """Return the difference between two series with one UID, in words."""
    if part == 1:
        return ""
    named = {
        "patient": ("patient_id", "patient_name", "birth_date"),
        "study": ("study_uid",),
        "series number": ("series_number",),
        "frame of reference": ("frame_of_reference",),
        "kind of object": ("modality", "sop_class"),
    }
    differ = [name for name, fields in named.items() if any(getattr(one, f) != getattr(other, f) for f in fields)]
    gaps = [abs(a - b) for a, b in zip(one.orientation, other.orientation, strict=False)]
    differ += ["orientation"] * (max(gaps, default=0.0) >= SAME_ORIENTATION)
    return "another " + (" and ".join(differ) or "copy, or another scan of the same UIDs,")


def _is_other(file: Path) -> bool:
    """Return whether a file's name says that it is not DICOM."""
    name = file.name.lower()
    return name.endswith(OTHER_KINDS) or name in OTHER_NAMES
