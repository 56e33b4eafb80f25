"""Elements of DICOM headers as text and numbers, also of damaged headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from synthorax.errors import InputError

BINARY_VRS = ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UN")
"""Value representations (VRs) of elements whose bytes are not text."""


def element_text(header: Dataset, keyword: str) -> str:
    r"""Return an element as text as it is written, several values with `\` between them; empty if it is missing.

    Bytes that are not in its character set, and control characters, become `?`.
    """
    tag, stored = tag_for_keyword(keyword) or 0, None
    try:
        raw: Any = header.get_item(tag)
        stored = raw.value if isinstance(raw, RawDataElement) else None
        is_plain = isinstance(stored, bytes) and stored.isascii() and b"\x1b" not in stored
        if stored is not None and is_plain and (raw.VR or dictionary_VR(tag)) not in BINARY_VRS:
            return _printable(stored.decode("ascii"))
        value = header.get(keyword)
        if value is None:
            return ""
        return _printable("\\".join(str(part) for part in value) if isinstance(value, MultiValue) else str(value))
    except Exception:  # pydicom raises whatever its conversion stumbles over.
        return _printable((stored or b"").decode("ascii", "replace"))


def brief(text: str, most: int = 64) -> str:
    """Return a text cut to at most `most` characters, for a message."""
    return text if len(text) <= most else text[: most - 3] + "..."


def element_numbers(file: Path, header: Dataset, keyword: str, count: int) -> NDArray[np.float64]:
    """Return the numbers of an element, [count].

    Args:
        file: named by errors.
        header: holds the element.
        keyword: keyword of the element, such as `PixelSpacing`.
        count: numbers that it must have.

    Raises:
        InputError: the element is missing, or does not hold `count` finite numbers.
    """
    plural = f"{count} number{'s' * (count > 1)}"
    try:
        value = header.get(keyword)
        value = [] if value is None else [value] if isinstance(value, (str, int, float)) else list(value)
        values = np.array([float(v) for v in value])
    except Exception as error:  # pydicom raises whatever its conversion stumbles over.
        written = element_text(header, keyword)
        raise InputError(file, f"{keyword} {brief(written)!r}", f"{plural} with decimal points") from error
    if not len(values):
        raise InputError(file, f"no {keyword}", f"a slice with {keyword}")
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(file, f"{keyword} {brief(str(values.tolist()))}", f"{count} finite number{'s' * (count > 1)}")
    return values


def is_localizer(header: Dataset) -> bool:
    """Return whether an image is a localizer (an overview), not a slice."""
    return "LOCALIZER" in element_text(header, "ImageType").upper().split("\\")


def _printable(text: str) -> str:
    """Return the text with `?` in place of control characters and of bytes that could not be decoded."""
    text = text.strip(" \0")
    if text.isprintable() and "\ufffd" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in text)
