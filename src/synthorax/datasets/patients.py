"""Whose each scan is: the unit of splits, which decides whether a test is honest."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthorax.errors import InputError
from synthorax.io.dicom_file import About
from synthorax.io.images import image_stem
from synthorax.provenance import SYNTHETIC_PATIENT, fingerprint, patient_key

NOBODY = re.compile(
    r"anon[a-z]*|unknown|none|null|n|a|na|nil|x+|0+|patient|name|dummy|removed|de|identified|deidentified|nobody|noname|"
    r"no|id|test|not|available",
    re.IGNORECASE,
)
"""Words that an anonymiser writes for a patient's id or name. An id of such words alone names nobody."""
COLLECTION = re.compile(
    r"(images?|labels?|masks?|segs?|segmentations?)(t[rsv]|_?(train|val|test)\w*)?|train\w*|val(id\w*)?|test\w*|data|"
    r"scans?|ct|cts|nifti|nii|mha|volumes?|subset\d*|fold\d*|batch\w*|part\w*|raw|input|output|injected|chests?|cubes?",
    re.IGNORECASE,
)
"""Folders of these names hold the scans of many patients."""
MOST_SCANS_OF_ONE = 10
"""A folder of more scans than this holds several patients."""
MOST_NAMED = 5
"""Patients or files that a note names, at most."""


@dataclass(frozen=True)
class Person:
    """What a scan and its path tell of its patient; empty text where they tell nothing.

    Attributes:
        path: the image, or the folder of the series, below the source.
        is_series: whether it is a DICOM series, whose header speaks.
    """

    path: Path
    is_series: bool = False
    patient_id: str = ""
    name: str = ""
    birth_date: str = ""
    study_uid: str = ""
    frame_uid: str = ""
    series_uid: str = ""

    @classmethod
    def of_series(cls, about: About, path: Path) -> Person:
        """What the header of a DICOM series tells of its patient.

        Args:
            about: any file of the series.
            path: the folder of the series, below the source.
        """
        return cls(
            path=path,
            is_series=True,
            patient_id=about.patient_id,
            name=about.patient_name,
            birth_date=about.birth_date,
            study_uid=about.study_uid,
            frame_uid=about.frame_of_reference,
            series_uid=about.series_uid,
        )


def tell_patients_apart(scans: Sequence[Person], rule: str = "auto") -> tuple[list[str], list[str]]:
    """The patient id of each scan, and notes on how patients were told apart.

    Args:
        rule: `auto`; `folder`, the first folder below the source; `name`, the name of the file or of the folder of a
            series; else a regular expression to be found in the path below the source, whose first group, or whole
            match, is the patient.

    Raises:
        InputError: a rule that is no regular expression, or that does not fit a scan.
    """
    if rule != "auto":
        return [_by_rule(scan, rule) for scan in scans], [f"patients are told apart by --patient-from {rule}"]
    images = [scan.path for scan in scans if not scan.is_series]
    by_path, notes = _by_path(images)
    by_header, told = _by_header([scan for scan in scans if scan.is_series])
    return [by_header[scan] if scan.is_series else by_path[scan.path] for scan in scans], [*notes, *told]


def linked(patients: Sequence[str], people: Sequence[Person] | None = None) -> tuple[list[str], list[str], list[str]]:
    """Give synthetic scans to the patients that they were made from.

    Args:
        patients: ids, of synthetic scans `SYNTHETIC-` and the key of their source's patient.
        people: what the scans tell; a series without a PatientID is known by its study and its own UID.

    Returns:
        Ids in which a synthetic scan has its source's, if the source is there; the key of the source's patient for
        each synthetic scan, empty for others; and notes.
    """
    real = by_name(patients, people)
    keys = [patient_key(patient) if patient.startswith(SYNTHETIC_PATIENT) else "" for patient in patients]
    found = [real.get(key, set()) for key in keys]
    made = [next(iter(of)) if len(of) == 1 else patient for patient, of in zip(patients, found, strict=True)]
    notes = []
    if count := sum(len(of) == 1 for of in found):
        notes.append(f"{count} synthetic scans are of patients whose own scans are here, and are theirs")
    if several := [of for of in found if len(of) > 1]:
        names = ", ".join(sorted(several[0])[:MOST_NAMED])
        notes.append(
            f"{len(several)} synthetic scans may be of several patients here ({names}), and are of none of them"
        )
    return made, keys, notes


def by_name(patients: Sequence[str], people: Sequence[Person] | None = None) -> dict[str, set[str]]:
    """The patients, less synthetic ones, by the keys of all names by which a scan made from theirs may know them."""
    real: dict[str, set[str]] = defaultdict(set)
    for i, patient in enumerate(patients):
        if not patient.startswith(SYNTHETIC_PATIENT):
            known = people[i] if people else Person(Path())
            for name in (patient, known.patient_id, *((known.study_uid, known.series_uid) if known.is_series else ())):
                if key := patient_key(name):
                    real[key].add(patient)
    return real


def _by_rule(scan: Person, rule: str) -> str:
    """The patient by a rule that the user gave."""
    if rule == "name":
        return image_stem(scan.path)
    if rule == "folder":
        if len(scan.path.parts) < 2 and not scan.is_series:
            raise InputError("--patient-from", f"folder, and {scan.path} in no folder", "name, or a regular expression")
        return scan.path.parts[0]
    try:
        found = re.search(rule, str(scan.path).replace("\\", "/"))
    except re.error as error:
        expected = f"auto, folder, name or a regular expression ({error})"
        raise InputError("--patient-from", repr(rule), expected) from error
    patient = (found[1] if found.lastindex else found[0]) if found else ""
    if not patient:
        raise InputError(
            "--patient-from", f"{rule!r}, which is not in {scan.path}", "an expression that fits each path"
        )
    return str(patient)


def _by_path(paths: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    """The patients of images, which say nothing of them: by folders that look like a patient's, else by names."""
    below: Counter[Path] = Counter(folder for path in paths for folder in path.parents)
    made: dict[Path, str] = {}
    how: Counter[str] = Counter()
    for path in paths:
        folders = [folder for folder in reversed(path.parents) if folder.name]
        own = next(
            (
                folder
                for folder in folders
                if below[folder] <= MOST_SCANS_OF_ONE
                and below[folder] < len(paths)
                and not COLLECTION.fullmatch(folder.name)
            ),
            None,
        )
        made[path] = str(own).replace("\\", "/") if own else image_stem(path)
        how["folder" if own else "file name"] += 1
    if len(paths) < 2:
        return made, []
    named = ", ".join(f"{count} by {what}" for what, count in how.items())
    patients = len(set(made.values()))
    return made, [
        f"images do not say whose they are: {patients} patients of {len(paths)} images were told apart by path "
        f"({named}); --patient-from folder, name or a regular expression, or a table's patient_id, says otherwise"
    ]


def _by_header(scans: Sequence[Person]) -> tuple[dict[Person, str], list[str]]:
    """The patients of DICOM series."""
    made: dict[Person, str] = {}
    notes: list[str] = []
    groups: dict[str, list[Person]] = defaultdict(list)
    for scan in scans:
        groups[scan.patient_id.strip()].append(scan)
    for patient, members in groups.items():
        if _names_nobody(patient):
            ids = [_without_id(scan) for scan in members]
            made |= dict(zip(members, ids, strict=True))
            what = f"the PatientID {patient!r}, which names nobody" if patient else "no PatientID"
            notes.append(
                f"{len(members)} series have {what}; {len(set(ids))} patients were told apart by name and birth date, "
                "else by study, frame of reference or folder"
            )
            continue
        births = {scan.birth_date for scan in members if scan.birth_date}
        names = {_plain(scan.name): scan for scan in members if _plain(scan.name)}
        if len(births) > 1:
            for scan in members:
                made[scan] = f"{patient}-{fingerprint(scan.birth_date)[:6]}" if scan.birth_date else patient
            notes.append(
                f"PatientID {patient} is of {len(births)} people with different birth dates ({_places(members)}); they "
                "are different patients here"
            )
            continue
        made |= dict.fromkeys(members, patient)
        if len(names) > 1:
            notes.append(
                f"PatientID {patient} has {len(names)} different names ({_places(list(names.values()))}); these scans "
                "are taken for one patient's; --patient-from says otherwise"
            )
    notes += _shared(scans, made)
    return made, notes


def _without_id(scan: Person) -> str:
    """A patient id for a series that has none: of what else its header says, or of its folder."""
    if not _names_nobody(scan.name):
        return f"unnamed-{fingerprint(f'{_plain(scan.name)} {scan.birth_date}')[:12]}"
    uid = scan.study_uid or scan.frame_uid
    return f"unnamed-{fingerprint(uid or str(scan.path))[:12]}"


def _shared(scans: Sequence[Person], patients: Mapping[Person, str]) -> list[str]:
    """Notes on identifiers that two patients share."""
    notes = []
    for what in ("series_uid", "study_uid", "frame_uid"):
        groups: dict[str, dict[str, Person]] = defaultdict(dict)
        for scan in scans:
            groups[getattr(scan, what)].setdefault(patients[scan], scan)
        for uid, members in groups.items():
            if uid and len(members) > 1:
                names = first_names(list(members))
                label = what.replace("_uid", "").replace("frame", "frame of reference")
                notes.append(f"{label} {uid} is of patients {names}; their PatientIDs tell them apart")
    return notes


def _names_nobody(text: str) -> bool:
    return all(NOBODY.fullmatch(word) for word in re.findall(r"[^\W_]+", text))


def _plain(name: str) -> str:
    """A name's words in order of the alphabet, to compare; empty where it names nobody."""
    return "" if _names_nobody(name) else " ".join(sorted(re.findall(r"\w+", name.casefold())))


def _places(scans: Sequence[Person]) -> str:
    return first_names(list(dict.fromkeys(str(scan.path) for scan in scans)))


def first_names(names: Sequence[str]) -> str:
    """The first `MOST_NAMED` names in a row, and dots where there are more."""
    return ", ".join(names[:MOST_NAMED]) + ", ..." * (len(names) > MOST_NAMED)
