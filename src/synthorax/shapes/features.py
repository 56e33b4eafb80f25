"""The 12 shape features of LuNG's nodule analyzer (ALNSB), for many nodules at once.

In the `alnsb` convention the features equal those of the released analyzer, with its three faults:

* f9 and f10 exchange the slice spacing and the column spacing;
* lengths in the mid slice are scaled by one pixel spacing, although rows and columns may differ;
* the labelling that finds the largest component of the mid slice stops one pass early (`_alnsb_largest`).

The `corrected` convention has none of them. Otherwise both are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, get_args

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.volume import check_spacing

Convention = Literal["alnsb", "corrected"]

FEATURES = {
    "f1": "mid-slice area (mm²)",
    "f2": "mid-slice longest extent (mm)",
    "f3": "mid-slice perimeter (mm)",
    "f4": "mid-slice circularity",
    "f5": "volume (mm³)",
    "f6": "half the longest edge / RMS distance",
    "f7": "in-plane box ratio",
    "f8": "box ratio",
    "f9": "surface³ / (36π volume²)",
    "f10": "mean breadth (mm)",
    "f11": "Euler number",
    "f12": "circularity of the z projection",
}
"""Columns of a feature table, with descriptions."""

SCAN_TILE = 32
"""Side in pixels of the square tiles in which ALNSB's labelling visits a slice."""

MASKS_AT_ONCE = 64
"""Masks that are measured together. They are cut to their boxes first, so that memory depends on the nodules' sizes."""


def shape_features(
    masks: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    convention: Convention = "alnsb",
) -> NDArray[np.float64]:
    """Measure the 12 features of each mask.

    Args:
        masks: bool [n, z, y, x], a nodule each; all voxels of a mask count, also separate pieces.
        spacing_mm: voxel size (z, y, x).
        convention: `alnsb` as released, or `corrected`.

    Returns:
        float64 [n, 12], columns as in `FEATURES`. f6 of a single voxel is infinite; f1 to f4 are 0 if the mid slice
        between separate pieces is empty.

    Raises:
        InputError: the shape or type of the masks is wrong, a mask is empty, or the convention is unknown.

    >>> cube = np.zeros((1, 8, 8, 8), bool)
    >>> cube[0, 2:6, 2:6, 2:6] = True
    >>> features = shape_features(cube, (1.0, 1.0, 1.0))
    >>> dict(zip(FEATURES, features[0].round(2).tolist()))["f5"]  # volume in cubic millimetres
    64.0
    """
    if convention not in get_args(Convention):
        raise InputError("convention", repr(convention), " or ".join(get_args(Convention)))
    check_spacing(spacing_mm)
    if masks.ndim != 4 or masks.dtype != np.bool_:
        raise InputError("masks", f"{masks.dtype} of shape {masks.shape}", "bool [n, z, y, x]")
    if len(empty := np.flatnonzero(~masks.any((1, 2, 3)))):
        raise InputError(f"mask {empty[0]}", "no voxel set", "a nodule")
    if not len(masks):
        return np.empty((0, len(FEATURES)))
    low, high = bounding_boxes(masks)
    table = np.empty((len(masks), len(FEATURES)))
    for rows in _of_like_size(high - low + 1):
        table[rows] = _features(masks, rows, low[rows], high[rows], spacing_mm, convention)
    return table


def _of_like_size(edges: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield batches of indices into `edges` [n, axes] of boxes, so that the boxes of a batch have similar sizes."""
    order = np.argsort(edges.prod(1), kind="stable")
    for start in range(0, len(order), MASKS_AT_ONCE):
        yield order[start : start + MASKS_AT_ONCE]


def _features(
    masks: NDArray[np.bool_],
    rows: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    spacing_mm: Sequence[float],
    convention: Convention,
) -> NDArray[np.float64]:
    """Return the features of some rows of a stack of masks, whose boxes reach from `low` to `high` [rows, 3]."""
    middle = _round((low[:, 0] + high[:, 0]) / 2)
    boxes = _cut([masks[i] for i in rows], low, high)
    # ALNSB's labelling depends on the position of its tiles, so that its slices must begin at the edge of a tile.
    corner = low[:, 1:] // SCAN_TILE * SCAN_TILE if convention == "alnsb" else low[:, 1:]
    slices = _cut([masks[i, z] for i, z in zip(rows, middle, strict=True)], corner, high[:, 1:])
    dz, dy, dx = map(float, spacing_mm)
    if convention == "alnsb":
        # The analyzer keeps slices as [x, y]. That matters only for its labelling, which visits pixels in order.
        boxes, slices = boxes.swapaxes(2, 3), slices.swapaxes(1, 2)
        dy, dx = dx, dy
    table = np.empty((len(rows), len(FEATURES)))
    table[:, 0:4] = _mid_slice_features(slices, (dy, dx), convention)
    table[:, 4:8] = _box_features(boxes, (dz, dy, dx))
    table[:, 8:11] = _minkowski_features(boxes, (dz, dy, dx), convention)
    projection = np.any(boxes, axis=1)
    pixel = (1.0, 1.0) if convention == "alnsb" else (dy, dx)
    perimeter = _perimeter(projection, pixel)
    table[:, 11] = 4 * np.pi * projection.sum((1, 2)) * np.prod(pixel) / perimeter**2
    return table


def _cut(masks: Sequence[NDArray[np.bool_]], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the box from index `low` to `high` [n, axes] of each mask, at the first voxels of arrays of one shape."""
    boxes = np.zeros((len(masks), *(high - low + 1).max(0)), bool)
    for box, mask, first, last in zip(boxes, masks, low, high, strict=True):
        part = mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
        box[tuple(map(slice, part.shape))] = part
    return boxes


def _mid_slice_features(
    slices: NDArray[np.bool_], spacing: tuple[float, float], convention: Convention
) -> NDArray[np.float64]:
    """f1 to f4 of the mid slices [n, y, x]."""
    if convention == "alnsb":
        largest = slices.copy()
        for i in np.flatnonzero(_label_starts(slices) > 1):
            largest[i] = _alnsb_largest(slices[i])
    else:
        largest = np.stack([_largest(s) for s in slices])
    area = largest.sum((1, 2)) * np.prod(spacing)
    low, high = bounding_boxes(slices)
    extent = ((high - low + 1) * spacing).max(1, where=np.any(slices, axis=(1, 2))[:, None], initial=0)
    perimeter = _perimeter(largest, (spacing[0],) * 2 if convention == "alnsb" else spacing)
    circularity = np.divide(4 * np.pi * area, perimeter**2, where=perimeter > 0, out=np.zeros_like(area))
    return np.column_stack([area, extent, perimeter, circularity])


def _box_features(masks: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """f5 to f8 of masks [n, z, y, x]: volume, radius over RMS distance, and the two ratios of box edges."""
    voxels = masks.sum((1, 2, 3))
    low, high = bounding_boxes(masks)
    edges = (high - low + 1) * np.asarray(spacing)
    centre = _round((low + high) / 2)
    square_distance = np.zeros(len(masks))
    for axis, step in enumerate(spacing):
        others = tuple(a for a in (1, 2, 3) if a != axis + 1)
        profile = masks.sum(others)
        offset = np.arange(profile.shape[1]) - centre[:, axis, None]
        # A sum of whole numbers is exact, so it does not depend on how wide the box of the other masks is.
        square_distance += (profile * offset**2).sum(1) * step**2
    with np.errstate(divide="ignore"):
        compact = edges.max(1) / 2 / np.sqrt(square_distance / voxels)
    in_plane = edges[:, 1:]
    return np.column_stack(
        [
            voxels * np.prod(spacing),
            compact,
            in_plane.min(1) / in_plane.max(1),
            edges.min(1) / edges.max(1),
        ]
    )


def _minkowski_features(
    masks: NDArray[np.bool_], spacing: tuple[float, float, float], convention: Convention
) -> NDArray[np.float64]:
    """f9 to f11 of masks [n, z, y, x], from the numbers of voxels, adjacent pairs, 2x2 squares and 2x2x2 cubes."""
    dz, dy, dx = spacing
    if convention == "alnsb":
        dz, dx = dx, dz
    step = np.array([dz, dy, dx])
    pairs = [_both(masks, axis) for axis in (1, 2, 3)]
    squares = [_both(pairs[1], 3), _both(pairs[0], 3), _both(pairs[0], 2)]
    cubes = _both(squares[0], 1).sum((1, 2, 3))
    voxels = masks.sum((1, 2, 3))
    n_pairs = np.column_stack([p.sum((1, 2, 3)) for p in pairs])
    n_squares = np.column_stack([s.sum((1, 2, 3)) for s in squares])
    surface = 4 / 3 * step.prod() * ((voxels[:, None] - n_pairs) / step).sum(1)
    volume = voxels * step.prod()
    breadth = voxels[:, None] - (n_pairs.sum(1, keepdims=True) - n_pairs) + n_squares
    euler = voxels - n_pairs.sum(1) + n_squares.sum(1) - cubes
    return np.column_stack([surface**3 / (36 * np.pi * volume**2), (breadth * step).sum(1) / 3, euler])


def _both(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Return whether each voxel and the next one along `axis` are both marked."""
    n = mask.shape[axis]
    return mask.take(range(n - 1), axis) & mask.take(range(1, n), axis)


def _perimeter(slices: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Crofton's estimate of the perimeter of each slice [n, y, x] from crossings in four directions."""
    padded = np.pad(slices, ((0, 0), (1, 1), (1, 1)))
    here, below = padded[:, :-1], padded[:, 1:]
    dy, dx = spacing
    diagonal = dy * dx / np.hypot(dy, dx)
    crossings = (
        (here != below).sum((1, 2)) * dx
        + (padded[:, :, :-1] != padded[:, :, 1:]).sum((1, 2)) * dy
        + (here[:, :, :-1] != below[:, :, 1:]).sum((1, 2)) * diagonal
        + (here[:, :, 1:] != below[:, :, :-1]).sum((1, 2)) * diagonal
    )
    return crossings * np.pi / 8


def _largest(slice_mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 8-connected component of a slice [y, x]."""
    labels = cc3d.connected_components(slice_mask.view(np.uint8), connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    return slice_mask & (labels == 1 + sizes.argmax())


def _alnsb_walk(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The position of each pixel [y, x] in the order of ALNSB's labelling: tile by tile, by rows within a tile."""
    y, x = np.indices(shape)
    order = np.lexsort((x.ravel(), y.ravel(), x.ravel() // SCAN_TILE, y.ravel() // SCAN_TILE))
    return np.argsort(order).reshape(shape)


def _label_starts(slices: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of pixels in each slice [n, y, x] that ALNSB's labelling visits before any of their neighbours.

    Each of them gets a new label, so that ALNSB sees one component in a slice with one of them.
    """
    height, width = slices.shape[1:]
    rank = np.pad(_alnsb_walk((height, width)), 1, constant_values=height * width)
    padded = np.pad(slices, ((0, 0), (1, 1), (1, 1)))
    reached = np.zeros_like(slices)
    for y, x in product(range(3), repeat=2):
        earlier = rank[y : y + height, x : x + width] < rank[1:-1, 1:-1]
        reached |= padded[:, y : y + height, x : x + width] & earlier
    return (slices & ~reached).sum((1, 2))


def _alnsb_largest(slice_mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest component of a slice as ALNSB's labelling finds it, bool [y, x].

    The labelling visits the slice in tiles of 32 x 32 pixels and gives each pixel the least label around it. It spreads
    that label to the neighbours only if a *later* neighbour holds it. It stops after a pass in which pixels changed
    only their own labels, so that one pixel may keep a label of its own. Because of that, f1, f3 and f4 of 4 of the 51
    seeds differ by one pixel from the true component.
    """
    height, width = slice_mask.shape
    flat = np.arange((height + 2) * (width + 2)).reshape(height + 2, width + 2)[1:-1, 1:-1]
    walk = flat[slice_mask][np.argsort(_alnsb_walk(slice_mask.shape)[slice_mask])].tolist()
    present = set(walk)
    steps = [y * (width + 2) + x for y in (-1, 0, 1) for x in (-1, 0, 1)]
    around = {pixel: [p for step in steps if (p := pixel + step) in present] for pixel in walk}
    labels = dict.fromkeys(walk, 0)
    created = 0
    settled = False
    while not settled and len({*labels.values()} - {0}) != 1:  # a single label cannot change
        settled = True
        for pixel, near in around.items():
            seen = [label for p in near if (label := labels[p])]
            if not seen:
                created += 1
                labels[pixel] = created
                continue
            labels[pixel] = least = min(seen)
            if least < seen[0]:
                settled = False
                for p in near:
                    if labels[p]:
                        labels[p] = least
    sizes = Counter(labels.values())
    chosen = min(sizes, key=lambda label: (-sizes[label], label), default=0)
    largest = [pixel for pixel, label in labels.items() if label == chosen]
    return np.isin(flat, largest)


def bounding_boxes(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last marked index of each mask [n, ...] along each axis, both [n, axes]."""
    low, high = [], []
    for axis in range(1, masks.ndim):
        profile = np.any(masks, axis=tuple(a for a in range(1, masks.ndim) if a != axis))
        low.append(profile.argmax(1))
        high.append(profile.shape[1] - 1 - profile[:, ::-1].argmax(1))
    return np.column_stack(low), np.column_stack(high)


def _round(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round values of 0 or more with halves up, as C does."""
    return np.floor(values + 0.5).astype(np.int64)
