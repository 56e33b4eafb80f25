"""Reading the XML files of LIDC-IDRI, with the outlines, points and ratings of a scan's four readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from synthorax.annotations.reading import AnnotatedScan, Contour, Reading
from synthorax.errors import InputError
from synthorax.nodule import RATINGS

XML_RATINGS = {"internal_structure": "internalStructure"}
"""Ratings whose names in the files differ from ours."""
MOST_XML_BYTES = 64 * 1024 * 1024
MOST_COORDINATE = 4096
"""Pixel coordinates of an outline must be below this; larger ones mean a damaged file."""
MOST_SLICES = 4096
"""An outline may lie this many slices before or after the first slice of the scan, which may be a part of the annotated
scan; one further away means a damaged file."""


@dataclass(frozen=True)
class Mark:
    """A point that a reader marked: a nodule below 3 mm or a non-nodule.

    Attributes:
        kind: kind of the finding.
        reader: index of the reading session, 0 to 3.
        pixel: (x, y) = (column, row).
        z_mm: patient z of the slice.
    """

    kind: Literal["small nodule", "non-nodule"]
    reader: int
    pixel: tuple[int, int]
    z_mm: float


@dataclass(frozen=True, eq=False)
class LidcXml:
    """An annotation file of a scan.

    Attributes:
        path: path of the file.
        series_uid, study_uid: UIDs of the annotated scan.
        sessions: a reading session for each reader.
    """

    path: Path
    series_uid: str
    study_uid: str
    sessions: tuple[ElementTree.Element, ...]

    def readings(self, scan: AnnotatedScan) -> list[Reading]:
        """Return the outlined nodules of 3 mm or more.

        Args:
            scan: slice grid on which the outlines were drawn.

        Raises:
            InputError: outlines or ratings are not numbers, or outlines lie far outside the scan.
        """
        return list(self._guarded(lambda: self._readings(scan)))

    def marks(self) -> list[Mark]:
        """Return the nodules below 3 mm and the non-nodules, a point for each.

        Raises:
            InputError: coordinates are not numbers.
        """
        return list(self._guarded(self._marks))

    def slices(self) -> list[tuple[str, float]]:
        """Return the SOP instance UID and the patient z in mm of each outline's and each point's slice.

        A UID that the file does not give is empty.

        Raises:
            InputError: a z is not a number.
        """
        return list(self._guarded(self._slices))

    def _guarded(self, read: Callable[[], Iterator]) -> Iterator:
        try:
            yield from read()
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                self.path, f"a damaged reading ({error})", "outlines and ratings as in LIDC's files"
            ) from error

    def _readings(self, scan: AnnotatedScan) -> Iterator[Reading]:
        for reader, session in enumerate(self.sessions):
            for nodule in _all(session, "unblindedReadNodule"):
                ratings = _first(nodule, "characteristics")
                if ratings is None or not len(ratings):
                    continue
                contours = tuple(self._contours(nodule, scan))
                if any(c.inclusion for c in contours):
                    given = {name: int(_text(ratings, XML_RATINGS.get(name, name)) or 0) for name in RATINGS}
                    if not all(1 <= value <= 6 for value in given.values()):
                        raise ValueError(f"ratings {sorted(given.values())}")
                    yield Reading(scan=scan, reader=reader, contours=contours, ratings=given)

    def _contours(self, nodule: ElementTree.Element, scan: AnnotatedScan) -> Iterator[Contour]:
        for roi in _all(nodule, "roi"):
            points = [(int(_text(p, "xCoord")), int(_text(p, "yCoord"))) for p in _all(roi, "edgeMap")]
            if len(points) <= 1:
                continue
            index = scan.slice_index(float(_text(roi, "imageZposition")))
            array = np.array(points)
            if abs(index) > MOST_SLICES or array.min() < 0 or array.max() >= MOST_COORDINATE:
                raise ValueError(f"an outline in slice {index} of {scan.n_slices}, with pixels up to {array.max()}")
            if np.array_equal(array[0], array[-1]):
                array = array[:-1]
            yield Contour(index, array.astype(np.int16), _text(roi, "inclusion").upper() != "FALSE")

    def _slices(self) -> Iterator[tuple[str, float]]:
        for session in self.sessions:
            for nodule in _all(session, "unblindedReadNodule"):
                for roi in _all(nodule, "roi"):
                    yield _text(roi, "imageSOP_UID"), float(_text(roi, "imageZposition"))
            for point in _all(session, "nonNodule"):
                yield _text(point, "imageSOP_UID"), float(_text(point, "imageZposition"))

    def _marks(self) -> Iterator[Mark]:
        for reader, session in enumerate(self.sessions):
            for nodule in _all(session, "unblindedReadNodule"):
                ratings = _first(nodule, "characteristics")
                if ratings is None or not len(ratings):
                    yield from _points(_all(nodule, "roi"), "small nodule", reader, "imageZposition", "edgeMap")
            yield from _points(_all(session, "nonNodule"), "non-nodule", reader, "imageZposition", "locus")


def read_lidc_xml(path: Path) -> LidcXml:
    """Read an annotation file of a CT scan.

    Raises:
        InputError: the file is not XML, or not an annotation file of a CT scan of LIDC-IDRI.
    """
    try:
        if path.stat().st_size > MOST_XML_BYTES:
            expected = f"an annotation file of at most {MOST_XML_BYTES} bytes"
            raise InputError(path, f"{path.stat().st_size} bytes", expected)
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError, LookupError, ValueError) as error:
        raise InputError(path, "no readable XML", "an annotation file of LIDC-IDRI") from error
    header = _first(root, "ResponseHeader")
    series = _text(header, "SeriesInstanceUid") if header is not None else ""
    if _name(root) != "LidcReadMessage" or not series:
        raise InputError(path, f"XML of <{_name(root)}>", "an annotation file of LIDC-IDRI's CT scans")
    study = _text(header, "StudyInstanceUID") if header is not None else ""
    return LidcXml(path, series, study, tuple(_all(root, "readingSession")))


def _points(
    items: list[ElementTree.Element],
    kind: Literal["small nodule", "non-nodule"],
    reader: int,
    z_name: str,
    point_name: str,
) -> Iterator[Mark]:
    for item in items:
        for point in _all(item, point_name)[:1]:
            pixel = int(_text(point, "xCoord")), int(_text(point, "yCoord"))
            yield Mark(kind, reader, pixel, float(_text(item, z_name)))


def _name(element: ElementTree.Element) -> str:
    """Return the tag of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _all(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in element if _name(child) == name]


def _first(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next(iter(_all(element, name)), None)


def _text(element: ElementTree.Element, name: str) -> str:
    child = _first(element, name)
    return (child.text or "").strip() if child is not None else ""
