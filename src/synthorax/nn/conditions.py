"""Encoding of a nodule's attributes for networks, and completion of attributes that are not requested."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from synthorax.errors import InputError
from synthorax.nodule import MOST_RATING, NoduleAttributes

USUAL_DIAMETER_MM = 8.0
"""This diameter, LIDC's median, is encoded as 0, twice the diameter as 1, and half of it as -1."""
ALIKE_NODULES = 20
"""Attributes that are not requested are copied from one of the 20 training nodules most similar in the requested ones.
"""


def encoded(nodules: Sequence[NoduleAttributes], names: Sequence[str]) -> Float[Tensor, "b a"]:
    """Encode attributes: diameters as log2(diameter / 8 mm), ratings from -1 to 1, unknown ones as NaN.

    Args:
        nodules: b nodules.
        names: names of the attributes, which are the a columns of the result.

    Raises:
        InputError: a diameter is not positive, or a rating is outside its scale.

    >>> encoded([NoduleAttributes(diameter_mm=16.0, texture=5.0)], ["diameter_mm", "texture"]).tolist()
    [[1.0, 1.0]]
    """
    columns = [[_encoded(name, getattr(nodule, name)) for name in names] for nodule in nodules]
    return torch.tensor(columns, dtype=torch.float32).reshape(len(nodules), len(names))


def with_given(values: Float[Tensor, "b a"]) -> Float[Tensor, "b 2*a"]:
    """Return two columns for each encoded attribute: its value, 0 if unknown, and 1 if it is known, otherwise 0."""
    known = (~values.isnan()).to(values.dtype)
    return torch.stack([values.nan_to_num(0), known], 2).flatten(1)


def decoded(values: Float[Tensor, "b a"], names: Sequence[str]) -> Float[Tensor, "b a"]:
    """Return encoded values as millimetres and ratings; a network's predictions may be outside a rating's scale."""
    columns = []
    for name, column in zip(names, values.unbind(1), strict=True):
        if name == "diameter_mm":
            columns.append(USUAL_DIAMETER_MM * torch.exp2(column))
        else:
            middle, half = _scale(name)
            columns.append(half * column + middle)
    return torch.stack(columns, 1) if columns else values


def completed(
    known: Float[Tensor, "k a"], asked: Float[Tensor, " a"], random: np.random.Generator
) -> Float[Tensor, " a"]:
    """Fill in the encoded attributes that are not requested, from a training nodule similar in the requested ones.

    Args:
        known: encoded attributes of k training nodules, NaN if unknown.
        asked: encoded requested attributes, NaN if not requested.
        random: chooses one of the `ALIKE_NODULES` most similar training nodules.
    """
    given = ~asked.isnan()
    unlike = (known - asked)[:, given].square().sum(1)
    rows = unlike.isfinite().nonzero()[:, 0]
    if given.all() or not len(rows):
        return asked
    nearest = rows[unlike[rows].argsort(stable=True)][: ALIKE_NODULES if given.any() else None]
    return torch.where(given, asked, known[nearest[int(random.integers(len(nearest)))]])


def _encoded(name: str, value: float | int | None) -> float:
    if value is None:
        return math.nan
    if name == "diameter_mm":
        if not 0 < value < math.inf:
            raise InputError(name, f"{value:g}", "a positive diameter in mm")
        return math.log2(value / USUAL_DIAMETER_MM)
    middle, half = _scale(name)
    if not abs(value - middle) <= half:
        raise InputError(name, f"{value:g}", f"a rating from 1 to {MOST_RATING[name]}")
    return (value - middle) / half


def _scale(name: str) -> tuple[float, float]:
    """Return the middle and half the width of a rating's scale."""
    most = MOST_RATING[name]
    return (1 + most) / 2, (most - 1) / 2
