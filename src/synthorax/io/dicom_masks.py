"""Reading nodule masks from DICOM segmentations (SEG) and structure sets (RTSTRUCT)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from synthorax.errors import InputError
from synthorax.geometry import orient, turned_like
from synthorax.io.dicom import read_header
from synthorax.io.dicom_seg import read_dicom_segments, segment_names
from synthorax.io.rtstruct import read_contours, structure_names
from synthorax.io.structure import Structure
from synthorax.io.structure_names import StructureFilter, StructureName, is_nodule
from synthorax.region import Region, paint_labels
from synthorax.volume import Volume

MODALITIES = ("SEG", "RTSTRUCT")
MOST_DEPTH = 8
"""Sequences nested deeper than this are not searched for references."""
EXPECTED_MASKS = "a whole DICOM SEG or RTSTRUCT"


@dataclass(frozen=True)
class MaskReferences:
    """The scan on which a SEG or RTSTRUCT was drawn, by its references; a missing reference is empty.

    Attributes:
        series_uids: UIDs of the series.
        frame_uids: UIDs of the frames of reference.
        study_uid, patient_id: ids of the scan.
    """

    series_uids: frozenset[str]
    frame_uids: frozenset[str]
    study_uid: str
    patient_id: str


def list_structures(path: Path) -> list[StructureName]:
    """Return the names of a file's segments or structures, in its order.

    Raises:
        InputError: the file is neither SEG nor RTSTRUCT, or damaged.
    """
    header = _header(path)
    try:
        named = segment_names(header) if header.Modality == "SEG" else structure_names(header)
    except Exception as error:  # pydicom raises errors of any kind over a damaged file
        raise _damaged(path, error) from error
    if not named:
        raise InputError(path, "no readable segmentation or structure set (it names no structure)", EXPECTED_MASKS)
    return named


def read_structures(
    path: Path, scan: Volume, wanted: StructureFilter = is_nodule, *, frame_uid: str = ""
) -> list[Structure]:
    """Read segments or structures of a file as regions of a scan, one by one, because they may overlap.

    A structure that cannot be used has the reason instead of a region.

    Args:
        path: path of the SEG or RTSTRUCT.
        scan: gives the grid, in the orientation LPS (`geometry.orient`).
        wanted: chooses structures by their names.
        frame_uid: the scan's frame of reference; empty if not known.

    Raises:
        InputError: the file is neither SEG nor RTSTRUCT, or cannot be read at all.
    """
    header = _header(path)
    theirs = str(header.get("FrameOfReferenceUID", "") or "")
    if header.Modality == "SEG" and frame_uid and theirs and theirs != frame_uid:
        raise InputError(path, f"frame of reference {theirs}", f"{frame_uid}, as the scan has it")
    try:
        if header.Modality == "SEG":
            return list(read_dicom_segments(path, scan, wanted))
        return list(read_contours(path, scan, wanted, frame_uid))
    except InputError as error:
        raise InputError(path, *error.args[1:]) from error
    except OSError:
        raise
    except Exception as error:  # as in `list_structures`
        raise _damaged(path, error) from error


def chosen_structures(path: Path, scan: Volume) -> list[Structure]:
    """Read the structures of a file that are nodules by their names, or its only structure.

    Args:
        path: path of the SEG or RTSTRUCT.
        scan: gives the grid, in the orientation LPS (`geometry.orient`).

    Raises:
        InputError: there are several structures and none has a nodule's name; or none can be used.
    """
    named = list_structures(path)
    nodules = [structure.number for structure in named if is_nodule(structure)]
    if not nodules and len(named) != 1:
        names = ", ".join(map(str, named[:20])) or "no structure"
        raise InputError(path, names, "a structure with a nodule's name, or a file with one structure")
    read = read_structures(path, scan, lambda s: s.number in nodules if nodules else True)
    if not any(structure.region for structure in read):
        reasons = "; ".join(f"{s.named}: {s.reason}" for s in read[:3])
        raise InputError(path, f"no voxel within the scan ({reasons})", "nodules within the scan")
    return read


def read_masks(path: Path, scan: Volume) -> tuple[Volume, list[str]]:
    """Read the structures that `chosen_structures` chooses as a label map of a scan.

    Args:
        path: path of the SEG or RTSTRUCT.
        scan: gives the grid, in any orientation.

    Returns:
        A label map, uint8 or uint16 [z, y, x], and the names of the labels 1, 2, ...; where two structures overlap,
        the smaller lies on top.

    Raises:
        InputError: see `chosen_structures`.
    """
    upright = orient(scan, "LPS")
    regions: list[Region] = []
    names = []
    for structure in chosen_structures(path, upright):
        if structure.region is not None:
            regions.append(structure.region)
            names.append(str(structure.named))
    labels = Volume(paint_labels(regions, upright.shape), upright.spacing_mm, upright.origin_mm, upright.direction)
    return turned_like(labels, scan), names


def read_references(path: Path) -> MaskReferences:
    """Read the references of a SEG or RTSTRUCT to its scan, without slices (see `read_slice_references`).

    Raises:
        InputError: the file is neither SEG nor RTSTRUCT, or damaged.
    """
    header = _header(path)
    try:
        frames = [*_below(header, "ReferencedFrameOfReferenceSequence")]
        series = [*_below(header, "ReferencedSeriesSequence")]
        studies = [study for frame in frames for study in _below(frame, "RTReferencedStudySequence")]
        series += [one for study in studies for one in _below(study, "RTReferencedSeriesSequence")]
        structures = _below(header, "StructureSetROISequence")
        frame_uids = {str(item.get("FrameOfReferenceUID", "") or "").strip() for item in (header, *frames)}
        frame_uids |= {str(item.get("ReferencedFrameOfReferenceUID", "") or "").strip() for item in structures}
        series_uids = {str(item.get("SeriesInstanceUID", "") or "").strip() for item in series}
        study, patient = (str(header.get(n, "") or "").strip() for n in ("StudyInstanceUID", "PatientID"))
    except Exception as error:  # as in `list_structures`
        raise _damaged(path, error) from error
    return MaskReferences(frozenset(series_uids - {""}), frozenset(frame_uids - {""}), study, patient)


def read_slice_references(path: Path) -> frozenset[str]:
    """Read the SOP instance UIDs of the slices on which a SEG or RTSTRUCT was drawn; there may be thousands.

    Raises:
        InputError: the file is neither SEG nor RTSTRUCT, or damaged.
    """
    header = _header(path)
    try:
        uids = (str(item.get("ReferencedSOPInstanceUID", "") or "").strip() for item in _items(header))
        return frozenset(uids) - {""}
    except Exception as error:  # as in `list_structures`
        raise _damaged(path, error) from error


def _below(item: Dataset, name: str) -> list[Dataset]:
    return list(item.get(name) or [])


def _items(header: Dataset) -> Iterator[Dataset]:
    """Yield a data set and all items of its sequences, to a depth of `MOST_DEPTH`."""
    stack = [(header, 0)]
    while stack:
        item, depth = stack.pop()
        yield item
        if depth < MOST_DEPTH:
            for tag in list(item.keys()):
                element = item.get_item(tag)
                if element is not None and element.VR in ("SQ", None, "UN"):
                    value = item[tag].value if item[tag].VR == "SQ" else []
                    stack += [(child, depth + 1) for child in value]


def _header(path: Path) -> Dataset:
    header = read_header(path)
    try:
        modality = str(header.get("Modality", ""))
    except Exception as error:  # as in `list_structures`
        raise _damaged(path, error) from error
    if modality not in MODALITIES:
        raise InputError(path, f"modality {modality or 'unknown'}", " or ".join(MODALITIES))
    return header


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:100]
    return InputError(path, f"no readable segmentation or structure set ({reason})", EXPECTED_MASKS)
