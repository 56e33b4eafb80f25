"""Lungs out of a chest CT by their density and shape, without learned weights.

Air inside the body, less the airways, closed over the vessels in it and over what grows from its wall
(after Hu et al. 2001, with a closing in place of rolling a ball). It works at 2 mm, where a scan has ten
times fewer voxels, and puts the edge back at the scan's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cc3d
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from synthorax.errors import InputError
from synthorax.geometry import orient, resample, resample_like, to_sitk
from synthorax.volume import Volume

WORKING_MM = 2.0
BODY_HU = -500
"""Denser than this is body."""
LUNG_HU = -400
"""Lung is less dense; half-way between lung and soft tissue."""
LUMEN_HU, LEAK_HU = -940, -850
"""The lumen of trachea and bronchi is less dense than lung; how much less, the growing finds between these."""
LEAK_GROWTH = 1.5
"""A step that makes the airways so much larger has broken through their wall."""
LEAST_LUNG_ML = 150.0
LEAST_SHARE = 0.1
"""A part of the lungs has at least so much of the volume of the largest."""
CLOSING_MM = 8.0
"""Gaps up to twice this wide are closed: hilar vessels, and nodules on the wall."""
TRACHEA_MM2 = (40.0, 900.0)
"""Area of the trachea in a slice."""
TRACHEA_ML, MOST_AIRWAY_ML = 15.0, 120.0


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of a scan, on its voxels.

    Attributes:
        mask: bool [z, y, x], vessels and nodules in them included.
        airways: bool [z, y, x], trachea and large bronchi.
        body: bool [z, y, x].
    """

    mask: NDArray[np.bool_]
    airways: NDArray[np.bool_]
    body: NDArray[np.bool_]


def find_lungs(ct: Volume) -> Lungs:
    """The lungs of a chest CT in HU.

    Raises:
        InputError: no lung of at least `LEAST_LUNG_ML` in it.
    """
    small = resample(orient(ct, "LPS"), (WORKING_MM,) * 3)
    hu = ndimage.gaussian_filter(small.voxels, 0.5)
    body = _body(hu)
    air = (hu < LUNG_HU) & body
    airways = _airways(hu, air)
    lungs = _closed(_large_parts(air & ~airways), body) & body
    lungs &= ~airways
    if not lungs.any():
        raise InputError("scan", f"no lung of {LEAST_LUNG_ML:g} ml", "a chest CT in HU")
    return Lungs(*(_enlarged(mask, small, ct) for mask in (lungs, airways, body)))


def _body(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """The patient without the table, lungs filled, [z, y, x]."""
    dense = ndimage.binary_opening(hu > BODY_HU, iterations=2)
    labels = cc3d.largest_k(dense, k=1, connectivity=6)
    body = labels > 0
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])


def _large_parts(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The components of a size that lungs have."""
    labels, count = cc3d.connected_components(mask, connectivity=6, return_N=True)
    if not count:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    least = max(LEAST_LUNG_ML * 1000 / WORKING_MM**3, LEAST_SHARE * sizes.max())
    return (sizes >= least)[labels]


def _airways(hu: NDArray[np.int16], air: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Trachea and large bronchi: grown from a round lumen in the upper slices, up to where it would leak into lung."""
    seed = _trachea((hu < LUMEN_HU) & air)
    found = np.zeros_like(air)
    if seed is None:
        return found
    known = 0.0
    for most_hu in range(LUMEN_HU, LEAK_HU, 10):
        labels = cc3d.connected_components((hu < most_hu) & air, connectivity=6)
        grown = labels == labels[seed]
        volume_ml = float(grown.sum()) * WORKING_MM**3 / 1000
        if volume_ml > MOST_AIRWAY_ML or (known > TRACHEA_ML and volume_ml > LEAK_GROWTH * known):
            break
        known, found = volume_ml, grown
    return ndimage.binary_dilation(found, iterations=2) & air


def _trachea(lumen: NDArray[np.bool_]) -> tuple[int, int, int] | None:
    """A voxel of the trachea: the topmost lumen that stays round, small and near the middle for some slices."""
    depth, height, width = lumen.shape
    low, high = np.array(TRACHEA_MM2) / WORKING_MM**2
    for z in range(depth - 1, depth // 3, -1):
        labels, count = ndimage.label(lumen[z])
        for part, box in enumerate(ndimage.find_objects(labels), start=1):
            area = int((labels[box] == part).sum())
            extent = [side.stop - side.start for side in box]
            middle = [(side.start + side.stop) / 2 for side in box]
            is_round = max(extent) <= 2.5 * min(extent) and area >= 0.5 * extent[0] * extent[1]
            is_central = abs(middle[1] - width / 2) < width / 6 and abs(middle[0] - height / 2) < height / 3
            if low <= area <= high and is_round and is_central and count:
                y, x = np.argwhere(labels == part)[area // 2].tolist()
                below = lumen[max(z - 8, 0) : z, max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
                if below.any((1, 2)).all():
                    return z, y, x
    return None


def _closed(mask: NDArray[np.bool_], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each lung closed by itself, so that the mediastinum between them stays out, and its holes filled."""
    labels, count = cc3d.connected_components(_parted(mask), connectivity=6, return_N=True)
    closed = np.zeros_like(mask)
    for part in range(1, count + 1):
        lung = labels == part
        box = ndimage.find_objects(lung.astype(np.uint8))[0]
        margin = int(CLOSING_MM / WORKING_MM) + 2
        box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
        grown = _dilated(lung[box], CLOSING_MM)
        closed[box] |= _eroded(grown, CLOSING_MM)
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed | mask])


def _parted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask, cut where two lungs touch in front or behind the heart."""
    labels = cc3d.connected_components(mask, connectivity=6)
    sizes = np.bincount(labels.ravel())
    if len(sizes) != 2 or not mask.any():
        return mask
    core = _eroded(mask, 2 * WORKING_MM)
    parts, count = cc3d.connected_components(core, connectivity=6, return_N=True)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    two = np.argsort(sizes)[-2:]
    if count < 2 or sizes[two[0]] < 0.25 * sizes[two[1]]:
        return mask
    nearer = [ndimage.distance_transform_edt(parts != part) for part in two]
    one = nearer[0] < nearer[1]
    return mask & ~(one & ndimage.binary_dilation(~one))


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Millimetres from the edge of a mask, negative inside, [z, y, x]."""
    image = to_sitk(Volume(mask, (WORKING_MM,) * 3))
    found = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return sitk.GetArrayFromImage(found)


def _dilated(mask: NDArray[np.bool_], radius_mm: float) -> NDArray[np.bool_]:
    return _distance(np.pad(mask, 1))[1:-1, 1:-1, 1:-1] <= radius_mm


def _eroded(mask: NDArray[np.bool_], radius_mm: float) -> NDArray[np.bool_]:
    return _distance(mask) < -radius_mm


def _enlarged(mask: NDArray[np.bool_], small: Volume, ct: Volume) -> NDArray[np.bool_]:
    """A mask of the working grid on the scan's voxels, its edge smooth."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.6)
    return resample_like(replace(small, voxels=soft), ct, fill=0).voxels > 0.5
