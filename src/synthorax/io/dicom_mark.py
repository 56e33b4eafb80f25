"""The synthetic mark in the header of a DICOM file."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from synthorax.io.dicom_elements import element_text

SYNTHESIZING_EQUIPMENT = "109100"
"""Of the standard's purposes of contributing equipment (CID 7005)."""
DICOM_MARK_START = "SYNTHETIC:"
"""Start of the mark in elements that other programs copy."""
CARRIED = ("DerivationDescription", "ImageComments", "SeriesDescription", "StudyDescription")
"""Text elements that programs keep when they convert a file, and that therefore may hold the mark."""
FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "UnassignedSharedConvertedAttributesSequence")
"""Sequences in which a multi-frame image keeps the header elements of its slices."""


def read_mark(header: Dataset) -> str:
    """What a header says of being synthetic; empty if nothing."""
    for place in _places(header):
        said = element_text(place, "SyntheticData") == "YES"
        if said and (described := _described(place)):
            return described
        for keyword in CARRIED:
            if (found := element_text(place, keyword)).startswith(DICOM_MARK_START):
                return found
        if said:
            return "SyntheticData YES"
    return ""


def _described(header: Dataset) -> str:
    """What the equipment says that synthesised an image."""
    try:
        for item in header.get("ContributingEquipmentSequence") or []:
            purposes = item.get("PurposeOfReferenceCodeSequence") or [Dataset()]
            if element_text(purposes[0], "CodeValue") == SYNTHESIZING_EQUIPMENT and "ContributionDescription" in item:
                return element_text(item, "ContributionDescription")
    except Exception:  # a damaged sequence, of which pydicom raises whatever it stumbles over
        return ""
    return ""


def _places(header: Dataset) -> Iterator[Dataset]:
    """The header, and the groups that all frames of a multi-frame image share."""
    yield header
    for name in FRAME_GROUPS:
        try:
            items = list(header.get(name) or ())[:1]
        except Exception:  # as above
            items = []
        for item in items:
            yield from _places(item)
