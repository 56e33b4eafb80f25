"""The flags for LIDC's ratings, shared by all verbs that make nodules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter

from synthorax.cli.options import RATING_FLAGS
from synthorax.errors import InputError
from synthorax.makers import Maker
from synthorax.nodule import NoduleAttributes, check_attributes, rating_number, rating_values

HELP = frozenset({"--help", "-h"})
"""Flags that show a verb's help."""
ONE_FOR_ALL = "one value for all nodules"
"""What the error for several values of a rating's flag says."""


@Parameter(name="*", group=RATING_FLAGS)
@dataclass(kw_only=True, frozen=True)
class Attributes:
    """Ratings of the nodules to make; the maker chooses those that are not given.

    Parameters
    ----------
    texture
        ground-glass, part-solid, solid, or LIDC's rating from 1 to 5.
    calcification
        none, solid, central, non-central, laminated, popcorn, or LIDC's rating from 1 to 6.
    internal_structure
        soft, fluid, fat, air, or LIDC's rating from 1 to 4.
    spiculation
        LIDC's rating from 1 (none) to 5 (marked).
    lobulation
        LIDC's rating from 1 (none) to 5 (marked).
    sphericity
        LIDC's rating from 1 (linear) to 5 (round).
    margin
        LIDC's rating from 1 (poorly defined) to 5 (sharp).
    subtlety
        LIDC's rating from 1 (extremely subtle) to 5 (obvious).
    malignancy
        LIDC's rating from 1 (highly unlikely) to 5 (highly suspicious).
    """

    texture: str | None = None
    calcification: str | None = None
    internal_structure: str | None = None
    spiculation: str | None = None
    lobulation: str | None = None
    sphericity: str | None = None
    margin: str | None = None
    subtlety: str | None = None
    malignancy: str | None = None

    def given(self, several: str = ONE_FOR_ALL) -> dict[str, float]:
        """Return the ratings that were given, by name.

        Args:
            several: what an error adds if a flag has several values.

        Raises:
            InputError: the rating does not have this word or number.
        """
        given = {name: text for name, text in vars(self).items() if text is not None}
        return {name: _rating(name, text, several) for name, text in given.items()}


def asks_help(arguments: Sequence[str]) -> bool:
    """Return whether the words of a command line have a flag that shows a verb's help."""
    return not HELP.isdisjoint(arguments)


def kinds_taken(find: Callable[[], Sequence[Maker]]) -> dict[str, Any]:
    """Return annotations of a verb's parameters that hide the flags of the attributes that a maker does not take.

    The verb reads the hidden flags all the same, so that their error names the maker.

    Args:
        find: loads the makers; of several, those attributes are shown that all of them take.
    """
    try:
        makers = find()
    except InputError:  # the verb raises it too
        return {}
    if not makers:
        return {}
    heeded = frozenset.intersection(*(maker.heeds for maker in makers))
    kinds: dict[str, Any] = {"attributes": _ratings_shown(heeded) | None}
    if "diameter_mm" not in heeded:
        kinds["diameter"] = Annotated[Any, Parameter(show=False)]
    if not all(getattr(maker, "makes_empty", True) for maker in makers):
        kinds["positive"] = Annotated[Any, Parameter(show=False)]
    return kinds


def _ratings_shown(names: frozenset[str]) -> type[Attributes]:
    """Return the flags of the ratings, of which `--help` shows only those of these names."""
    types = get_type_hints(Attributes)
    flags = [
        (one.name, Annotated[types[one.name], Parameter(show=one.name in names)], field(default=None))
        for one in fields(Attributes)
    ]
    made = make_dataclass(Attributes.__name__, flags, bases=(Attributes,), kw_only=True, frozen=True)
    made.__doc__, made.__module__ = Attributes.__doc__, Attributes.__module__
    return Parameter(name="*", group=RATING_FLAGS)(made)


def _rating(name: str, text: str, several: str) -> float:
    """Return the number of a rating that is given as a word or a number.

    Args:
        name: name of the rating.
        text: value of the flag.
        several: what an error adds if the flag has several values.
    """
    try:
        rating = rating_number(name, text)
        check_attributes(NoduleAttributes(**{name: rating}))
    except InputError as error:
        expected = rating_values(name) + (f"; {several}" if "," in text else "")
        raise InputError("--" + name.replace("_", "-"), repr(text), expected) from error
    return rating
