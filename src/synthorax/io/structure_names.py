"""Rules that recognise nodules among segments and structures by their names and codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from synthorax.errors import InputError

NODULE_WORDS = (
    r"nodul|n[oó]dulo|lesi[oó]n|l[eéäæ]sion|laesion|tumou?r|tumeur|neoplas|n[eé]oplas|metasta|carcino|cancer|gtv",
    r"(?<![a-z])(mass(es|a|e|en)?|findings?|(rund)?herde?|(lungen|rund)?knoten)(?![a-z])",
    r"结节|結節|肿瘤|腫瘤|肿块|腫塊|病灶|узел|узелок|опухол",
)
NODULE_NAME = re.compile("|".join(NODULE_WORDS), re.IGNORECASE)
"""A structure whose name contains one of these words is a nodule. The words are English, German, French, Spanish,
Italian, Portuguese, Russian, Chinese and Japanese; GTV is the gross tumour volume of radiotherapy."""
DERIVED = re.compile(
    r"non[-_ ]?nodul|edit region|"
    r"lymph|(?<![a-z])ln(?![a-z])|gtv[-_ ]?n(od(al|es?)?)?\d*(?![a-z])|"  # nodes lie outside the lung
    r"^\W*(ptv|ctv|itv|prv|ring|shell|avoid|opt)|gtv\S*\s*\+|(margin|ring|bed)(?![a-z])|"
    r"(lungs?|body|external|normal|healthy)\W*(left|right|total|both|all|[lr])?\W*-\W*i?gtv|"
    r"(minus|without|excluding|excl|ohne|sans|sub|(?<![a-z])no)[-_ .]+(the )?(i?gtv|tumou?r|nodul|lesion|mass)",
    re.IGNORECASE,
)
"""Names that contain such a word but mean something else: a margin around a tumour, a lung without its tumour, a lymph
node."""
ANATOMY = re.compile(
    r"body|external|skin|patient|couch|table|lung|lobe|heart|cord|spin|esoph|oesoph|trache|bronch|carina|airway|aorta|"
    r"vessel|arter|vein|ven[ao]|liver|kidney|spleen|stomach|bone|rib|vertebr|sternum|thora|chest|mediast|breast|muscle|"
    r"diaphragm|thyroid|pleura|edit region|background",
    re.IGNORECASE,
)
"""A structure with such a name is not a nodule, even if its code says so: many files give all segments one code."""
NODULE_CODES = frozenset(
    {
        *("27925004", "427359005", "308689002"),  # nodule, solitary nodule of lung, coin lesion of lung
        *("52988006", "4147007", "118538004"),  # lesion, mass
        *("108369006", "86049000", "372087000", "93880001"),  # neoplasm, primary
        *("14799000", "128462008", "94391008"),  # metastasis, pulmonary metastasis
        *("228791009", "GTV"),  # gross tumour volume
        *("M-03010", "M-01100", "M-03000", "M-8FFFF", "M-80003", "M-80006"),  # the same in the codes of SRT
    }
)
"""Codes of nodules in SNOMED CT and SRT, and GTV, the interpreted type of a gross tumour volume in a structure set."""


@dataclass(frozen=True)
class StructureName:
    """The name and code of a segment or structure.

    Attributes:
        number: segment number or ROI number in its file.
        name: name in the file; may be empty.
        code: code of its property type or its interpreted type; empty if there is none.
    """

    number: int
    name: str
    code: str = ""

    def __str__(self) -> str:
        return self.name or f"structure {self.number}"


StructureFilter = Callable[[StructureName], bool]
REPEATED_GROUP = re.compile(r"(?<!\\)\)(?:[*+]|\{\d*,)")
"""A repeated group in a regular expression, as in (a+)+; searching a name with one may take exponential time."""


def is_nodule(structure: StructureName) -> bool:
    """Return whether a structure is a nodule by its name, or by its code unless its name says otherwise.

    >>> [is_nodule(StructureName(1, name)) for name in ("Nodule 1", "GTV-1", "BODY", "Lungs-GTV", "PTV")]
    [True, True, False, False, False]
    """
    if DERIVED.search(structure.name):
        return False
    if NODULE_NAME.search(structure.name):
        return True
    return structure.code in NODULE_CODES and not ANATOMY.search(structure.name)


def may_be_nodule(structure: StructureName) -> bool:
    """Return whether a structure is not known to be a nodule, but its name, such as ROI-1, leaves it open.

    >>> [may_be_nodule(StructureName(1, name)) for name in ("ROI-1", "Segment_1", "BODY", "PTV")]
    [True, True, False, False]
    """
    says_else = ANATOMY.search(structure.name) or DERIVED.search(structure.name) or NODULE_NAME.search(structure.name)
    return not is_nodule(structure) and not says_else


def wanted_structures(expression: str | None) -> StructureFilter:
    """Return the test that chooses structures.

    Args:
        expression: regular expression that is searched in the name, without regard to case; `is_nodule` if None.

    Raises:
        InputError: the expression is not valid, or repeats a group.
    """
    if expression is None:
        return is_nodule
    try:
        found = re.compile(expression, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError("structures", repr(expression), f"a regular expression ({error})") from error
    if REPEATED_GROUP.search(expression):
        expected = "a regular expression without a repeated group such as (a+)+, whose search could take years"
        raise InputError("structures", repr(expression), expected)
    return lambda structure: found.search(structure.name) is not None
