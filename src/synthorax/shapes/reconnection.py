"""LuNG's reconnection (section III-C): from any generated field to one connected nodule.

Connected means 18-connected: voxels that share a face or an edge. The released program has a
further step of random growth that its own control flow never reaches, so it can end with several
pieces. Here the last step is a shortest path between the pieces, which makes the result certain
and the whole a pure function of the field.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError

ON_THRESHOLD = 0.3255
"""A voxel is on from here: half of the least value that an input voxel of a nodule is mapped to."""
ON_LEAST = 0.651
"""The least value that the input map gives a nodule voxel; later bridges are set to it."""

_NEIGHBOURS = np.array(
    [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if 0 < abs(z) + abs(y) + abs(x) < 3]
)


@dataclass(frozen=True, eq=False)
class Reconnected:
    """Fields that hold one component each, and what they were before.

    Attributes:
        fields: float32 [n, z, y, x].
        n_components: int [n], 18-connected components of the given fields; 1 is "clean".
    """

    fields: NDArray[np.float32]
    n_components: NDArray[np.int64]


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Labels [z, y, x] of the 18-connected components of a mask, from 1, and how many there are."""
    labels, n = cc3d.connected_components(mask.view(np.uint8), connectivity=18, return_N=True)
    return labels, n


def reconnect(fields: NDArray[np.floating]) -> Reconnected:
    """Join the components of every field by setting as few further voxels as its rules allow.

    1. A field without an on voxel is brightened until it has one.
    2. An empty voxel whose neighbours belong to two or more components is set.
    3. That is repeated while it joins something.
    4. What is still apart is joined by shortest paths to the largest component.

    A field with one component is returned as it is; so the result is a fixed point.

    Args:
        fields: [n, z, y, x], values from 0 to 1; on from `ON_THRESHOLD`.

    Raises:
        InputError: wrong shape, or values that are not between 0 and 1.
    """
    if fields.ndim != 4 or 0 in fields.shape[1:] or not np.issubdtype(fields.dtype, np.floating):
        raise InputError("fields", f"{fields.dtype} of shape {fields.shape}", "floats [n, z, y, x]")
    if fields.size and not (fields.min() >= 0 and fields.max() <= 1):
        raise InputError("fields", "values that are NaN or outside 0 to 1", "a generator's output")
    result = np.array(fields, np.float32)
    counts = np.zeros(len(result), np.int64)
    for i, field in enumerate(result):
        labels, counts[i] = label_components(field >= ON_THRESHOLD)
        if counts[i] != 1:
            result[i] = _reconnect_one(field, labels, int(counts[i]))
    return Reconnected(result, counts)


def _reconnect_one(field: NDArray[np.float32], labels: NDArray[np.integer], n: int) -> NDArray[np.float32]:
    while n == 0:
        field = np.minimum(field / np.float32(ON_LEAST) + np.float32(0.0326), 1)
        labels, n = label_components(field >= ON_THRESHOLD)
    value = 1.0
    while n > 1:
        bridges = _bridges(labels)
        field[bridges] = value
        value = ON_LEAST
        before = n
        labels, n = label_components(field >= ON_THRESHOLD)
        if n == before:
            _join_by_paths(field, labels, n)
            break
    return field


def _bridges(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], ...]:
    """Indices of the empty voxels that touch two components.

    Left out are those whose labelled neighbours all lie in one outer plane of some axis: they would
    cap a pit of the surface, not bridge a gap.
    """
    padded = np.pad(labels, 1)
    flat = padded.ravel()
    steps = _NEIGHBOURS @ (np.array(padded.strides) // padded.itemsize)
    touched = np.zeros(flat.shape, bool)
    touched[(np.flatnonzero(flat)[:, None] + steps).ravel()] = True
    touched &= flat == 0
    inside = np.zeros(padded.shape, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    at = np.flatnonzero(touched & inside.ravel())
    around = flat[at[:, None] + steps]
    present = around > 0
    highest = around.max(1)
    lowest = np.where(present, around, highest[:, None]).min(1)
    bridge = lowest < highest
    for axis in range(3):
        for plane in (-1, 1):
            bridge &= (present & (_NEIGHBOURS[:, axis] != plane)).any(1)
    z, y, x = np.unravel_index(at[bridge], padded.shape)
    return z - 1, y - 1, x - 1


def _join_by_paths(field: NDArray[np.float32], labels: NDArray[np.integer], n: int) -> None:
    """Set the voxels of shortest paths from the largest component to each other one, nearest first."""
    from scipy.spatial import cKDTree  # takes a tenth of a second to import, which no injection needs

    points = np.argwhere(labels)
    label = labels[labels > 0]
    joined = label == np.bincount(label, minlength=n + 1).argmax()
    distance, nearest = cKDTree(points[joined]).query(points)
    target = points[joined][nearest]
    while not joined.all():
        distance[joined] = np.inf
        end = int(distance.argmin())
        path = _path(points[end], target[end])
        field[tuple(path.T)] = np.maximum(field[tuple(path.T)], np.float32(ON_LEAST))
        arrived = label == label[end]
        joined |= arrived
        new = np.concatenate([points[arrived], path])
        closer, nearest = cKDTree(new).query(points)
        target = np.where((closer < distance)[:, None], new[nearest], target)
        distance = np.minimum(closer, distance)


def _path(start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.int64]:
    """Voxels [n, (z, y, x)] of a shortest 18-connected path, both ends included."""
    at = start.copy()
    path = [at.copy()]
    while (at != stop).any():
        remaining = stop - at
        longest = np.argsort(-abs(remaining), kind="stable")[:2]
        at[longest] += np.sign(remaining[longest])
        path.append(at.copy())
    return np.array(path)
