"""A label map painted window by window.

Slices are handed on when no later window reaches them, so that the memory is that of one row of windows, however many
slices there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.tissue import TissueClass
from synthorax.errors import InputError
from synthorax.geometry import crop, orient, resample_to_spacing
from synthorax.makers import Painter
from synthorax.volume import Volume

SAME_SPACING = 1e-3
"""A label map whose voxels differ from the painter's by at most this part of them is painted on its own voxels."""


def on_painters_grid(labels: Volume, painter: Painter) -> tuple[Volume, tuple[str, ...]]:
    """A label map with its axes along LPS and its voxels of the painter's size, and a note where they are others.

    Args:
        labels: uint8 of `TissueClass`.
    """
    upright = orient(labels, "LPS")
    wanted = painter.spacing_mm
    if np.allclose(upright.spacing_mm, wanted, rtol=SAME_SPACING, atol=0):
        return upright, ()
    fill = int(TissueClass.OUTSIDE)
    found = resample_to_spacing(upright, wanted, nearest=True, fill=fill)
    sizes = [" x ".join(f"{s:.3g}" for s in own) for own in (upright.spacing_mm, wanted)]
    note = (
        f"the label map's voxels of {sizes[0]} mm (z, y, x) are put on the painter's of {sizes[1]} mm, nearest voxel: "
        f"{' x '.join(map(str, found.shape))} in place of {' x '.join(map(str, upright.shape))}"
    )
    return found, (note,)


def check_paintable(subject: object, labels: Volume, painter: Painter) -> None:
    """Refuse a label map that is smaller than a painter's smallest window.

    Raises:
        InputError: it is; tells both sizes.
    """
    if any(n < k for n, k in zip(labels.shape, painter.smallest, strict=True)):
        found, least = (" x ".join(map(str, size)) for size in (labels.shape, painter.smallest))
        spacing = " x ".join(f"{s:.3g}" for s in painter.spacing_mm)
        expected = f"at least {least} of them (z, y, x), the smallest window of {painter.name}"
        raise InputError(subject, f"a label map of {found} voxels of {spacing} mm", expected)


def notes_on_classes(labels: Volume, painter: Painter) -> tuple[str, ...]:
    """What is to be told of tissue classes in a label map that a painter has not learned."""
    counts = np.bincount(labels.voxels.ravel(), minlength=len(TissueClass))
    return tuple(
        f"{counts[own]:,} voxels of the class {own.name.lower()}, which the model has not learned, are painted as "
        + ("air" if own is TissueClass.OUTSIDE else "soft tissue")
        for own in TissueClass
        if counts[own] and own not in painter.codes
    )


def painted_slabs(labels: Volume, painter: Painter, seed: int) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Paint a label map; gives its slices from the first to the last, in slabs.

    Windows overlap and are blended where they do; each window of a row takes the place of the same window whatever is
    above and below it, so the result does not depend on how the slabs are used.

    Args:
        labels: uint8 of `TissueClass`, as `on_painters_grid` gives it, no smaller than the painter's smallest window.

    Returns:
        Index of a slab's first slice, and its HU [z, y, x].
    """
    shape = labels.shape
    size = [min(n, most) for n, most in zip(shape, painter.largest, strict=True)]
    along = [_Along.of(*each) for each in zip(shape, size, painter.overlap, strict=True)]
    open_ = np.zeros((size[0], *shape[1:]), np.float32)
    for row, z in enumerate(along[0].starts):
        for j, y in enumerate(along[1].starts):
            for i, x in enumerate(along[2].starts):
                seen = _window(labels, (z, y, x), size, painter.context)
                hu = painter.paint(seen, (z, y, x), seed).voxels
                weight_y, weight_x = along[1].weights[j][:, None], along[2].weights[i]
                hu = hu * along[0].weights[row][:, None, None] * weight_y * weight_x
                open_[:, y : y + size[1], x : x + size[2]] += hu
        last = row + 1 == len(along[0].starts)
        done = size[0] if last else along[0].starts[row + 1] - z
        yield z, np.rint(open_[:done]).astype(np.int16)
        if not last:
            open_ = np.concatenate([open_[done:], np.zeros((done, *shape[1:]), np.float32)])


def _window(labels: Volume, start: Sequence[int], size: Sequence[int], context: int) -> Volume:
    """A window with slices of context; beyond the map its first and last slices go on."""
    z, y, x = start
    low, high = z - context, z + size[0] + context
    inside = crop(labels, (max(low, 0), y, x), (min(high, labels.shape[0]) - max(low, 0), *size[1:]))
    more = (max(-low, 0), max(high - labels.shape[0], 0))
    if not any(more):
        return inside
    voxels = np.pad(inside.voxels, (more, (0, 0), (0, 0)), mode="edge")
    world_x, world_y, world_z = labels.to_world((low, y, x)).tolist()
    return Volume(voxels, labels.spacing_mm, (world_x, world_y, world_z), labels.direction)


@dataclass(frozen=True, eq=False)
class _Along:
    """Windows along an axis.

    Attributes:
        starts: first voxel of each.
        weights: float32 [n] of each window's voxels; at every voxel of the axis they add up to 1.
    """

    starts: list[int]
    weights: list[NDArray[np.float32]]

    @classmethod
    def of(cls, length: int, size: int, overlap: int) -> _Along:
        """The fewest windows of a size that cover an axis and overlap by so many voxels, evenly spaced."""
        if length <= size:
            return cls([0], [np.ones(length, np.float32)])
        count = -(-(length - overlap) // (size - overlap))
        starts = np.rint(np.linspace(0, length - size, count)).astype(int).tolist()
        total, raw = np.zeros(length), []
        for k, start in enumerate(starts):
            own = np.ones(size)
            if k:
                shared = starts[k - 1] + size - start
                own[:shared] = (np.arange(shared) + 1) / (shared + 1)
            if k + 1 < count:
                shared = start + size - starts[k + 1]
                own[size - shared :] = np.minimum(own[size - shared :], (np.arange(shared) + 1)[::-1] / (shared + 1))
            raw.append(own)
            total[start : start + size] += own
        weights = [(own / total[a : a + size]).astype(np.float32) for a, own in zip(starts, raw, strict=True)]
        return cls(starts, weights)
