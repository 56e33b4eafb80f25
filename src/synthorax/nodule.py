"""A nodule: its place, and its attributes, which are also the condition that makers take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from statistics import median
from typing import Any, Literal

from synthorax.errors import InputError


@dataclass(frozen=True)
class NoduleAttributes:
    """A nodule's diameter and the nine LIDC ratings; None where an attribute is not known or not requested.

    Ratings have LIDC's scales (McNitt-Gray et al. 2007) from 1 to 5. They are means over readers, so they may have
    fractions. Calcification (1 to 6; 6 is absent) and internal structure (1 to 4) are codes of kinds, which have no
    mean; they are the kind that most readers chose.

    >>> import synthorax as sx
    >>> asked = sx.NoduleAttributes(diameter_mm=8, texture=5)
    >>> asked.given()
    {'diameter_mm': 8, 'texture': 5}
    >>> print(asked.malignancy)
    None
    """

    diameter_mm: float | None = None
    malignancy: float | None = None
    subtlety: float | None = None
    internal_structure: float | None = None
    calcification: float | None = None
    sphericity: float | None = None
    margin: float | None = None
    lobulation: float | None = None
    spiculation: float | None = None
    texture: float | None = None

    def given(self) -> dict[str, float]:
        """Return the attributes that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


ATTRIBUTES = tuple(f.name for f in fields(NoduleAttributes))
RATINGS = (
    "subtlety",
    "internal_structure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
"""The nine ratings, in the order the LIDC forms list them."""
MOST_RATING = dict.fromkeys(RATINGS, 5) | {"calcification": 6, "internal_structure": 4}
"""The highest value of each rating; the lowest is 1."""
ORDINARY_KIND = {"calcification": 6, "internal_structure": 1}
"""The ratings that are codes of kinds, with the kind of most nodules: no calcification, soft tissue."""
RATING_WORDS = {
    "texture": {"ground-glass": 1.0, "part-solid": 3.0, "solid": 5.0},
    "calcification": {
        "popcorn": 1.0,
        "laminated": 2.0,
        "solid": 3.0,
        "non-central": 4.0,
        "central": 5.0,
        "none": 6.0,
    },
    "internal_structure": {"soft": 1.0, "fluid": 2.0, "fat": 3.0, "air": 4.0},
}
"""Words that users may give in place of the numbers of a rating."""
MalignancyRule = Literal["median", "majority"]
"""Rule by which a nodule is malignant: `median`, the median of its readers' ratings is at least `MALIGNANT_FROM`;
`majority`, more than half of the ratings are."""
BENIGN_UP_TO, MALIGNANT_FROM = 2, 4
"""Highest rating of malignancy of a benign nodule, and lowest rating of a malignant one."""
FACE_MARGIN_MM = 1.0
"""A cube shows a nodule whole if at least this distance lies between the nodule and each face."""


def widest_mm(size: Sequence[float], spacing_mm: Sequence[float]) -> float:
    """Diameter of the widest nodule that a cube shows whole around its middle.

    Args:
        size: voxels (z, y, x).
        spacing_mm: spacing of the voxels (z, y, x).

    >>> widest_mm(size=(24, 24, 24), spacing_mm=(1.0, 1.0, 1.0))
    22.0
    """
    return min(n * s for n, s in zip(size, spacing_mm, strict=True)) - 2 * FACE_MARGIN_MM


def agreed_ratings(ratings: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return one value for each rating that several readers gave: the mean, or of a kind the most frequent one.

    If two kinds are equally frequent, the ordinary kind (`ORDINARY_KIND`) counts if it is one of them, otherwise the
    kind with the lower code.

    Args:
        ratings: name of a rating (`RATINGS`) -> the value of each reader.

    >>> agreed_ratings({"malignancy": (3, 4, 5), "calcification": (6, 6, 3)})
    {'malignancy': 4.0, 'calcification': 6.0}
    """
    return {name: _agreed(name, values) for name, values in ratings.items()}


def _agreed(name: str, values: Sequence[float]) -> float:
    if name not in ORDINARY_KIND:
        return sum(map(float, values)) / len(values)
    return float(max(sorted(set(values)), key=lambda kind: (values.count(kind), kind == ORDINARY_KIND[name])))


def rating_number(name: str, text: str) -> float:
    """Return the number of a rating that is given as a word (`RATING_WORDS`) or as a number.

    Args:
        name: name of the rating (`RATINGS`).
        text: the word, in capitals or not, or the number.

    Raises:
        InputError: the text is neither; lists the words. Whether the number is on the rating's scale is not checked.

    >>> rating_number("texture", "part-solid"), rating_number("spiculation", "4.5")
    (3.0, 4.5)
    """
    words = RATING_WORDS.get(name, {})
    try:
        return words[text.lower()] if text.lower() in words else float(text)
    except ValueError:
        raise InputError(name, repr(text), rating_values(name)) from None


def attribute_text(name: str, value: float) -> str:
    """Return the value of an attribute as a user may have written it, for errors.

    >>> attribute_text("calcification", 1.0), attribute_text("spiculation", 4.5), attribute_text("diameter_mm", 8.0)
    ('popcorn (1)', '4.5', '8 mm')
    """
    word = next((word for word, number in RATING_WORDS.get(name, {}).items() if number == value), "")
    if word:
        return f"{word} ({value:g})"
    return f"{value:g} mm" if name == "diameter_mm" else f"{value:g}"


def rating_word(name: str, value: float) -> str:
    """Return the word of a rating that lies nearest to a value; of two equally near words that of the lower number.

    Args:
        name: a rating that has words (`RATING_WORDS`).
        value: value on the rating's scale; the middle of two words' numbers is the border between them.

    >>> [rating_word("texture", value) for value in (1.0, 2.0, 3.7, 4.5)]
    ['ground-glass', 'ground-glass', 'part-solid', 'solid']
    """
    return min(RATING_WORDS[name].items(), key=lambda each: (abs(each[1] - value), each[1]))[0]


def kind_in_words(attributes: NoduleAttributes) -> str:
    """Return the kind of a nodule in words, by its texture and malignancy; empty if neither is known.

    A calcification is named too, since a nodule with one is much brighter.

    >>> kind_in_words(NoduleAttributes(texture=5, malignancy=3.67))
    'solid, malignancy 3.7 of 5'
    >>> kind_in_words(NoduleAttributes(texture=5, calcification=3))
    'solid, solid calcification'
    """
    texture, malignancy = attributes.texture, attributes.malignancy
    parts = [] if texture is None else [rating_word("texture", texture)]
    if (
        attributes.calcification is not None
        and (kind := rating_word("calcification", attributes.calcification)) != "none"
    ):
        parts.append(f"{kind} calcification")
    if malignancy is not None:
        parts.append(f"malignancy {malignancy:.2g} of {MOST_RATING['malignancy']}")
    return ", ".join(parts)


def reader_ratings(name: str, cell: str) -> tuple[float, ...]:
    """Return the ratings in a cell of a table: of one reader, or of several with spaces or semicolons between them.

    Raises:
        InputError: a word or number is not a rating, as of `rating_number`.

    >>> reader_ratings("texture", "solid part-solid 4"), reader_ratings("texture", "Part solid")
    ((5.0, 3.0, 4.0), (3.0,))
    """
    text = cell.lower().replace(";", " ")
    for word in RATING_WORDS.get(name, ()):
        text = text.replace(word.replace("-", " "), word)
    return tuple(rating_number(name, part) for part in text.split())


def rating_values(name: str) -> str:
    """Return the words and numbers of a rating in words, for errors.

    >>> rating_values("texture")
    'ground-glass, part-solid, solid, or 1 to 5'
    """
    number = _scale(name)
    return ", ".join([*RATING_WORDS[name], f"or {number}"]) if name in RATING_WORDS else number


def _scale(name: str) -> str:
    scale = f"1 to {MOST_RATING[name]}"
    return f"a whole number from {scale}" if name in ORDINARY_KIND else scale


def check_attributes(attributes: NoduleAttributes) -> None:
    """Refuse ratings outside LIDC's scales, and attributes that are no numbers.

    Raises:
        InputError: a rating is outside its scale, the code of a kind is not a whole number, or a value is no number.
    """
    for name, given in attributes.given().items():
        if not isinstance(given, Real) or isinstance(given, bool):
            raise InputError(name, repr(given), "a number of mm" if name == "diameter_mm" else _scale(name))
    for name in RATINGS:
        value, most = getattr(attributes, name), MOST_RATING[name]
        if value is None:
            continue
        if not 1 <= value <= most:
            raise InputError(name, f"{value:g}", f"1 to {most}")
        if name in ORDINARY_KIND and value != round(value):
            raise InputError(name, f"{value:g}", f"a whole number from 1 to {most}, the code of a kind")


@dataclass(frozen=True)
class Nodule:
    """A nodule of a scan.

    Attributes:
        nodule_id: unique within its scan.
        center_mm: world position (x, y, z), LPS.
        attributes: diameter and ratings, agreed over the readers (`agreed_ratings`).
        label: value of its voxels in the scan's mask; 0 if no voxels are marked.
        ratings: name of a rating (`RATINGS`) -> the value of each reader.
        extra: further facts that its source states, as text.

    >>> import synthorax as sx
    >>> known = sx.NoduleAttributes(diameter_mm=8, malignancy=3.67)
    >>> nodule = sx.Nodule("01", (-61.5, 12.0, -148.0), known, ratings={"malignancy": (3, 4, 4)})
    >>> nodule.attributes.malignancy, nodule.ratings["malignancy"]
    (3.67, (3, 4, 4))
    >>> sx.Nodule.from_row(nodule.row()) == nodule
    True
    """

    nodule_id: str
    center_mm: tuple[float, float, float]
    attributes: NoduleAttributes
    label: int = 0
    ratings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the nodule as JSON can hold it."""
        return {
            "nodule_id": self.nodule_id,
            "center_mm": [round(c, 4) for c in self.center_mm],
            "label": self.label,
            "attributes": self.attributes.given(),
            "ratings": {name: list(values) for name, values in self.ratings.items()},
            "extra": dict(self.extra),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Nodule:
        """Return the nodule of a row that `row()` made.

        Older versions wrote the mean code of a kind; the kind is agreed anew from the readers' values.
        """
        x, y, z = row["center_mm"]
        kinds = {name: values for name, values in row["ratings"].items() if name in ORDINARY_KIND and values}
        return cls(
            nodule_id=row["nodule_id"],
            center_mm=(x, y, z),
            attributes=NoduleAttributes(**row["attributes"] | agreed_ratings(kinds)),
            label=row["label"],
            ratings={name: tuple(values) for name, values in row["ratings"].items()},
            extra=dict(row["extra"]),
        )


def malignancy_of(nodule: Nodule, rule: MalignancyRule = "median") -> int | None:
    """Return 1 for a malignant nodule, 0 for any other, and None for a nodule without a rating of malignancy.

    Yang et al. say "the majority score >= 4".

    Args:
        nodule: its readers' ratings count; if it has none, its `attributes`.
        rule: median or majority of the readers' ratings.

    >>> rated = Nodule("01", (0.0, 0.0, 0.0), NoduleAttributes(), ratings={"malignancy": (3, 5)})
    >>> malignancy_of(rated), malignancy_of(rated, "majority")
    (1, 0)
    """
    ratings = nodule.ratings.get("malignancy") or (nodule.attributes.malignancy,)
    known = [rating for rating in ratings if rating is not None]
    if not known:
        return None
    if rule == "median":
        return int(median(known) >= MALIGNANT_FROM)
    return int(2 * sum(rating >= MALIGNANT_FROM for rating in known) > len(known))


def place_text(center_mm: Sequence[float]) -> str:
    """Return world coordinates (x, y, z) as text, to a tenth of a millimetre.

    >>> place_text((70.04, -2.0, 2.25))
    '70.0, -2.0, 2.2'
    """
    return ", ".join(f"{c:.1f}" for c in center_mm)
