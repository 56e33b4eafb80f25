"""Finding the patient of each scan. Splits are made by patient, so that no patient is both trained on and tested."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthorax.errors import InputError
from synthorax.io.dicom_file import About
from synthorax.io.images import image_stem
from synthorax.provenance import SYNTHETIC_PATIENT, fingerprint, patient_key, patient_keys
from synthorax.screen import first_of, quantity

NOBODY = re.compile(
    r"anon[a-z]*|unknown|none|null|n|a|na|nil|x+|0+|patient|name|dummy|removed|de|identified|deidentified|nobody|noname|"
    r"no|id|test|not|available",
    re.IGNORECASE,
)
"""Words that anonymisers write in place of a patient's id or name; an id of such words identifies nobody."""
COLLECTION = re.compile(
    r"(images?|labels?|masks?|segs?|segmentations?)(t[rsv]|_?(train|val|test)\w*)?|train\w*|val(id\w*)?|test\w*|data|"
    r"scans?|ct|cts|nifti|nii|mha|volumes?|subset\d*|fold\d*|batch\w*|part\w*|raw|input|output|injected|chests?|cubes?",
    re.IGNORECASE,
)
"""Names of folders that contain the scans of many patients."""
MOST_SCANS_OF_ONE = 10
"""A folder with more scans than this is taken to contain several patients."""
MOST_NAMED = 5
"""Most patients or files that a note names."""


@dataclass(frozen=True)
class Person:
    """Facts about the patient of a scan, from its header and path; an unknown one is an empty text.

    Attributes:
        path: path below the source of the image, or of the folder of the series.
        is_series: whether the scan is a DICOM series; other attributes are those of its header.
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
        """Take the facts from the header of a DICOM series.

        Args:
            about: header of any file of the series.
            path: path below the source of the folder of the series.
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
    """Return the patient id of each scan, and notes on how patients were identified.

    Args:
        scans: facts about each scan's patient.
        rule: `auto` for headers and paths; `folder` for the first folder below the source; `name` for the name of the
            file, or of the folder of a series; or a regular expression for the path below the source, whose first
            group, or whole match, is the patient.

    Raises:
        InputError: the rule is not a valid regular expression, or does not match a scan.
    """
    if rule != "auto":
        _check_rule(rule)
        note = [f"patients are identified by --patient-from {rule}"] if scans else []
        return [_by_rule(scan, rule) for scan in scans], note
    images = [scan.path for scan in scans if not scan.is_series]
    by_path, notes = _by_path(images)
    by_header, header_notes = _by_header([scan for scan in scans if scan.is_series])
    return [by_header[scan] if scan.is_series else by_path[scan.path] for scan in scans], [*notes, *header_notes]


def linked(patients: Sequence[str], people: Sequence[Person] | None = None) -> tuple[list[str], list[str], list[str]]:
    """Give each synthetic scan the patient from whose scan it was made.

    Args:
        patients: patient id of each scan; for a synthetic scan, `SYNTHETIC-` and the key of its source's patient.
        people: facts about each scan's patient; a series without a PatientID is identified by its study and its UID.

    Returns:
        Patient ids, in which a synthetic scan has the id of its source's patient if that patient is among them; for
        each synthetic scan the key of that patient, empty for other scans; and notes.
    """
    real = by_name(patients, people)
    keys = [patient_key(patient) if patient.startswith(SYNTHETIC_PATIENT) else "" for patient in patients]
    found = [real.get(key, set()) for key in keys]
    made = [next(iter(of)) if len(of) == 1 else patient for patient, of in zip(patients, found, strict=True)]
    notes = []
    if count := sum(len(of) == 1 for of in found):
        notes.append(f"made from scans of patients here, to whom they belong: {quantity(count, 'synthetic scan')}")
    if several := [of for of in found if len(of) > 1]:
        names = ", ".join(sorted(several[0])[:MOST_NAMED])
        notes.append(
            f"{len(several)} synthetic scans may be made from several patients here ({names}), and belong to none"
        )
    return made, keys, notes


def by_name(patients: Sequence[str], people: Sequence[Person] | None = None) -> dict[str, set[str]]:
    """Map the key of each name that a synthetic scan may have for its source's patient to the real patients.

    A name in other letters, upper or lower case, counts where no patient has it as it is written.
    """
    real: dict[str, set[str]] = defaultdict(set)
    otherwise: dict[str, set[str]] = defaultdict(set)
    for i, patient in enumerate(patients):
        if not patient.startswith(SYNTHETIC_PATIENT):
            known = people[i] if people else Person(Path())
            for name in (patient, known.patient_id, *((known.study_uid, known.series_uid) if known.is_series else ())):
                if key := patient_key(name):
                    real[key].add(patient)
                for key in patient_keys(name):
                    otherwise[key].add(patient)
    return defaultdict(set, otherwise | real)


def _check_rule(rule: str) -> None:
    """Refuse a rule that is no regular expression."""
    try:
        re.compile(rule)
    except re.error as error:
        expected = f"auto, folder, name or a regular expression ({error})"
        raise InputError("--patient-from", repr(rule), expected) from error


def _by_rule(scan: Person, rule: str) -> str:
    """Return the patient of a scan by the user's rule."""
    if rule == "name":
        return image_stem(scan.path)
    if rule == "folder":
        if len(scan.path.parts) < 2 and not scan.is_series:
            problem = f"folder, but {scan.path} is in no folder"
            raise InputError("--patient-from", problem, "name, or a regular expression")
        return scan.path.parts[0]
    found = re.search(rule, str(scan.path).replace("\\", "/"))
    patient = (found[1] if found.lastindex else found[0]) if found else ""
    if not patient:
        raise InputError(
            "--patient-from", f"{rule!r}, which does not match {scan.path}", "an expression that matches each path"
        )
    return str(patient)


def _by_path(paths: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    """Return the patients of images, which have no patient id: by folder if it looks like a patient's, else by name."""
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
        f"images have no patient id: {patients} patients of {len(paths)} images were identified by path ({named}); "
        "--patient-from folder, name or a regular expression, or patient_id in a table, changes this"
    ]


def _by_header(scans: Sequence[Person]) -> tuple[dict[Person, str], list[str]]:
    """Return the patients of DICOM series, by their headers, and notes, which results keep.

    The notes name files, by which a user finds a scan, and no patient or UID: results leave the machine.
    """
    made: dict[Person, str] = {}
    notes: list[str] = []
    groups: dict[str, list[Person]] = defaultdict(list)
    for scan in scans:
        groups[scan.patient_id.strip()].append(scan)
    for patient, members in groups.items():
        if _names_nobody(patient):
            ids = [_without_id(scan) for scan in members]
            made |= dict(zip(members, ids, strict=True))
            what = f"the PatientID {patient!r}, which identifies nobody" if patient else "no PatientID"
            notes.append(
                f"{len(members)} series have {what}; {len(set(ids))} patients were identified by name and birth date, "
                "or by study, frame of reference or folder"
            )
            continue
        births = {scan.birth_date for scan in members if scan.birth_date}
        names = {_plain(scan.name): scan for scan in members if _plain(scan.name)}
        if len(births) > 1:
            for scan in members:
                made[scan] = f"{patient}-{fingerprint(scan.birth_date)[:6]}" if scan.birth_date else patient
            notes.append(
                f"{_places(members)}: one PatientID with {len(births)} different birth dates; these are treated as "
                "different patients"
            )
            continue
        made |= dict.fromkeys(members, patient)
        if len(names) > 1:
            notes.append(
                f"{_places(list(names.values()))}: one PatientID with {len(names)} different names; these scans are "
                "treated as those of one patient; --patient-from changes this"
            )
    notes += _shared(scans, made)
    return made, notes


def _without_id(scan: Person) -> str:
    """Return a patient id for a series without one, from the rest of its header, or from its folder."""
    if not _names_nobody(scan.name):
        return f"unnamed-{fingerprint(f'{_plain(scan.name)} {scan.birth_date}')[:12]}"
    uid = scan.study_uid or scan.frame_uid
    return f"unnamed-{fingerprint(uid or str(scan.path))[:12]}"


def _shared(scans: Sequence[Person], patients: Mapping[Person, str]) -> list[str]:
    """Return notes on UIDs that several patients share."""
    notes = []
    for what in ("series_uid", "study_uid", "frame_uid"):
        groups: dict[str, dict[str, Person]] = defaultdict(dict)
        for scan in scans:
            groups[getattr(scan, what)].setdefault(patients[scan], scan)
        for uid, members in groups.items():
            if uid and len(members) > 1:
                label = what.replace("_uid", "").replace("frame", "frame of reference")
                where = _places(list(members.values()))
                notes.append(f"{where}: one {label} UID of {len(members)} patients, who are told apart by PatientID")
    return notes


def _names_nobody(text: str) -> bool:
    return all(NOBODY.fullmatch(word) for word in re.findall(r"[^\W_]+", text))


def _plain(name: str) -> str:
    """Return the words of a name in alphabetical order, for comparison; empty if the name identifies nobody."""
    return "" if _names_nobody(name) else " ".join(sorted(re.findall(r"\w+", name.casefold())))


def _places(scans: Sequence[Person]) -> str:
    return first_names(list(dict.fromkeys(str(scan.path) for scan in scans)))


def first_names(names: Sequence[str]) -> str:
    """Join the first `MOST_NAMED` names, with dots if there are more."""
    return first_of(names, MOST_NAMED)
