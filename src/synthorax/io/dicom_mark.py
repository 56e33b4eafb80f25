"""The synthetic mark in the header of a DICOM file."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from synthorax.io.dicom_elements import element_text

SYNTHESIZING_EQUIPMENT = "109100"
"""Code of synthesizing equipment among DICOM's purposes of contributing equipment (CID 7005)."""
DICOM_MARK_START = "SYNTHETIC:"
"""Start of the mark in text elements."""
CARRIED = ("DerivationDescription", "ImageComments", "SeriesDescription", "StudyDescription")
"""Text elements that other programs keep when they convert a file, so that they may hold the mark."""
FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "UnassignedSharedConvertedAttributesSequence")
"""Sequences in which a multi-frame image keeps the header elements of its slices."""


def read_mark(header: Dataset) -> str:
    """Return the synthetic mark of a header, or `SyntheticData YES` if it has that element alone; empty if neither."""
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
    """Return the description of the equipment that synthesised an image; empty if there is none."""
    try:
        for item in header.get("ContributingEquipmentSequence") or []:
            purposes = item.get("PurposeOfReferenceCodeSequence") or [Dataset()]
            if element_text(purposes[0], "CodeValue") == SYNTHESIZING_EQUIPMENT and "ContributionDescription" in item:
                return element_text(item, "ContributionDescription")
    except Exception:  # pydicom raises errors of any kind over a damaged sequence
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
