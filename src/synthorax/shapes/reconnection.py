"""LuNG's reconnection (LuNG's paper, III-C), which turns any generated field into one connected nodule.

Connected means 18-connected: voxels that share a face or an edge. The released program has a further step of random
growth that its own control flow never reaches, so that it can end with several pieces. Here the last step joins pieces
by shortest paths, so that the result is always one piece and depends on the field alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError

ON_THRESHOLD = 0.3255
"""A voxel is on if its value is at least this, half of `ON_LEAST`."""
ON_LEAST = 0.651
"""Least value of a nodule's voxel in the network's input; all bridges but the first are set to it."""

_NEIGHBOURS = np.array(
    [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if 0 < abs(z) + abs(y) + abs(x) < 3]
)


@dataclass(frozen=True, eq=False)
class Reconnected:
    """Fields of one component each, with the number of components that they had before.

    Attributes:
        fields: float32 [n, z, y, x].
        n_components: int [n], 18-connected components of the given fields; 1 needed no reconnection.
    """

    fields: NDArray[np.float32]
    n_components: NDArray[np.int64]


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Return labels [z, y, x] of the 18-connected components of a mask, from 1, and the number of components."""
    labels, n = cc3d.connected_components(mask.view(np.uint8), connectivity=18, return_N=True)
    return labels, n


def reconnect(fields: NDArray[np.floating]) -> Reconnected:
    """Join the components of each field by switching on further voxels.

    1. A field without an on voxel is brightened until it has one.
    2. Each off voxel whose neighbours belong to two or more components is switched on.
    3. Step 2 is repeated while it reduces the number of components.
    4. Components that are still separate are joined to the largest one by shortest paths.

    A field with one component is returned as it is.

    Args:
        fields: float [n, z, y, x], values from 0 to 1; a voxel is on from `ON_THRESHOLD`.

    Raises:
        InputError: the shape is wrong, or values are not between 0 and 1.

    >>> field = np.zeros((1, 1, 1, 5), np.float32)
    >>> field[0, 0, 0, [0, 4]] = 1  # two voxels apart
    >>> made = reconnect(field)
    >>> made.n_components.tolist(), (made.fields[0, 0, 0] >= ON_THRESHOLD).tolist()
    ([2], [True, True, True, True, True])
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
    """Indices (z, y, x) of the off voxels that touch two components.

    Voxels whose labelled neighbours all lie on one side of them along some axis are left out: they would cap a pit of
    the surface instead of bridging a gap.
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
    """Switch on the voxels of shortest paths that join each component to the largest, the nearest component first."""
    from scipy.spatial import cKDTree  # takes a tenth of a second to import, and injections do not need it

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
