"""A nodule's attributes as the networks of generators take them, and the completion of those that are not known."""

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
"""This diameter becomes 0, twice of it 1 and half of it -1. It is LIDC's median."""
ALIKE_NODULES = 20
"""Attributes that were not asked for are copied from one of this many training nodules most similar in the others."""


def encoded(nodules: Sequence[NoduleAttributes], names: Sequence[str]) -> Float[Tensor, "b a"]:
    """Return attributes, a column a name: diameters as log2 of their share of 8 mm, ratings from -1 to 1.

    Attributes that are not known are nan.

    Raises:
        InputError: a diameter that is not positive, or a rating outside its scale.
    """
    columns = [[_encoded(name, getattr(nodule, name)) for name in names] for nodule in nodules]
    return torch.tensor(columns, dtype=torch.float32).reshape(len(nodules), len(names))


def with_given(values: Float[Tensor, "b a"]) -> Float[Tensor, "b 2*a"]:
    """Return encoded attributes as networks see them: each value, 0 if not known, and whether it is known, 0 or 1."""
    known = (~values.isnan()).to(values.dtype)
    return torch.stack([values.nan_to_num(0), known], 2).flatten(1)


def decoded(values: Float[Tensor, "b a"], names: Sequence[str]) -> Float[Tensor, "b a"]:
    """Return encoded values in millimetres and ratings; what a network guessed may lie outside a rating's scale."""
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
    """Return encoded attributes of a nodule, those not asked for copied from a similar training nodule.

    Args:
        known: encoded attributes of the training nodules, nan where not known.
        asked: nan where not asked for.
        random: chooses among the `ALIKE_NODULES` training nodules most similar in the attributes asked for.
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
    """The middle of a rating's scale, and half of its width."""
    most = MOST_RATING[name]
    return (1 + most) / 2, (most - 1) / 2
