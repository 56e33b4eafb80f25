"""Painting a label map window by window.

Slices are yielded as soon as no later window reaches them, so that the memory is that of one row of windows, whatever
the number of slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.tissue import TissueClass
from synthorax.errors import InputError
from synthorax.geometry import crop, orient, resample_to_spacing
from synthorax.makers import Painter, check_returned
from synthorax.patch import whole_hu
from synthorax.volume import Volume

SAME_SPACING = 1e-3
"""A label map whose voxel size differs from the painter's by at most this share is not resampled."""


def on_painters_grid(labels: Volume, painter: Painter) -> tuple[Volume, tuple[str, ...]]:
    """Reorient a label map to LPS and resample it to the painter's voxel size; return it, and a note if resampled.

    Args:
        labels: `TissueClass` of each voxel, uint8.
        painter: the painter.
    """
    upright = orient(labels, "LPS")
    wanted = painter.spacing_mm
    if np.allclose(upright.spacing_mm, wanted, rtol=SAME_SPACING, atol=0):
        return upright, ()
    fill = int(TissueClass.OUTSIDE)
    found = resample_to_spacing(upright, wanted, nearest=True, fill=fill)
    sizes = [" x ".join(f"{s:.3g}" for s in own) for own in (upright.spacing_mm, wanted)]
    note = (
        f"the label map was resampled from voxels of {sizes[0]} mm (z, y, x) to the painter's {sizes[1]} mm, nearest "
        f"voxel: {' x '.join(map(str, found.shape))} in place of {' x '.join(map(str, upright.shape))} voxels"
    )
    return found, (note,)


def check_paintable(subject: object, labels: Volume, painter: Painter) -> None:
    """Check that a label map is at least as large as a painter's smallest window.

    Args:
        subject: the label map's file, for the error.
        labels: the label map.
        painter: the painter.

    Raises:
        InputError: it is smaller; the error has both sizes.
    """
    if any(n < k for n, k in zip(labels.shape, painter.smallest, strict=True)):
        found, least = (" x ".join(map(str, size)) for size in (labels.shape, painter.smallest))
        spacing = " x ".join(f"{s:.3g}" for s in painter.spacing_mm)
        expected = f"at least {least} of them (z, y, x), the smallest window of {painter.name}"
        raise InputError(subject, f"a label map of {found} voxels of {spacing} mm", expected)


def notes_on_classes(labels: Volume, painter: Painter) -> tuple[str, ...]:
    """Return a note on a label map without tissue around its lungs, and one on each class new to the painter."""
    counts = np.bincount(labels.voxels.ravel(), minlength=len(TissueClass))
    present = [own for own in TissueClass if counts[own]]
    notes = []
    if set(present) <= {TissueClass.OUTSIDE, TissueClass.OTHER, TissueClass.NODULE}:
        notes.append("the label map has no tissue but air and lung; if it is a mask of nodules, give a label map")
    for own in present:
        if own not in painter.codes:
            painted_as = "air" if own is TissueClass.OUTSIDE else "soft tissue"
            which = f"{counts[own]:,} voxels of the class {own.name.lower()}, on which the model was not trained"
            notes.append(f"{which}, are painted as {painted_as}")
    return tuple(notes)


def painted_slabs(labels: Volume, painter: Painter, seed: int) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Paint a label map in overlapping windows, and blend them where they overlap.

    Args:
        labels: `TissueClass` of each voxel, uint8, from `on_painters_grid`, at least as large as the painter's smallest
            window.
        painter: the painter.
        seed: seed of the painting.

    Yields:
        Index of the first slice of a slab, and its HU [z, y, x], from the first slice of the map to the last.
    """
    shape = labels.shape
    size = [min(n, most) for n, most in zip(shape, painter.largest, strict=True)]
    along = [_Along.of(*each) for each in zip(shape, size, painter.overlap, strict=True)]
    open_ = np.zeros((size[0], *shape[1:]), np.float32)
    for row, z in enumerate(along[0].starts):
        for j, y in enumerate(along[1].starts):
            for i, x in enumerate(along[2].starts):
                seen = _window(labels, (z, y, x), size, painter.context)
                painted = painter.paint(seen, (z, y, x), seed)
                hu = check_returned(painter.name, "the result of `paint`", painted, Volume, "a Volume").voxels
                if hu.shape != tuple(size) or not np.isfinite(hu).all():
                    raise InputError(
                        painter.name, f"a window of {hu.shape} voxels", f"{tuple(size)} voxels of finite HU"
                    )
                weight_y, weight_x = along[1].weights[j][:, None], along[2].weights[i]
                hu = hu * along[0].weights[row][:, None, None] * weight_y * weight_x
                open_[:, y : y + size[1], x : x + size[2]] += hu
        last = row + 1 == len(along[0].starts)
        done = size[0] if last else along[0].starts[row + 1] - z
        yield z, whole_hu(open_[:done], painter.name)
        if not last:
            open_ = np.concatenate([open_[done:], np.zeros((done, *shape[1:]), np.float32)])


def _window(labels: Volume, start: Sequence[int], size: Sequence[int], context: int) -> Volume:
    """Cut a window with slices of context; beyond the map its first and last slices are repeated."""
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
        starts: first voxel of each window.
        weights: weights of each window's voxels, float32 [n]; at every voxel of the axis they add up to 1.
    """

    starts: list[int]
    weights: list[NDArray[np.float32]]

    @classmethod
    def of(cls, length: int, size: int, overlap: int) -> _Along:
        """Return the fewest evenly spaced windows that cover an axis and overlap by at least `overlap` voxels."""
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
