"""Lung segmentation in a chest CT by density and shape, without learned weights.

The lungs are the air inside the body without the airways, closed over vessels and over nodules on the wall (after Hu et
al. 2001, with a morphological closing in place of a rolling ball). The segmentation works on blocks of about 2 mm, of
which a scan has a tenth of its voxels; the result is resampled to the scan's voxels with a smooth edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthorax.anatomy.morphology import box_around, closed, dilated, distance_inside, eroded, filled_slices
from synthorax.errors import InputError
from synthorax.geometry import crop, from_sitk, orient, resample_like, to_sitk
from synthorax.volume import Volume

WORKING_MM = 2.5
"""Largest width of a block."""
BODY_HU = -500
"""Blocks denser than this are body."""
LEAST_SPACING_MM = 0.05
"""No CT has voxels this small in all directions; their header is probably in metres."""
LUNG_BELOW_HU = -400
"""Blocks of lung are less dense than this, which is half-way between lung and soft tissue."""
LUMEN_BELOW_HU, LEAK_HU = -940, -850
"""Airways grow from blocks below the first HU; the threshold rises until they leak into lung or reaches the second."""
LEAK_GROWTH = 1.5
"""If raising the threshold by 10 HU makes the airways larger by this factor, they have leaked into lung."""
LEAST_LUNG_ML = 150.0
"""Smallest volume of a lung, in ml, in a scan of an adult that is at least `CHEST_MM` deep; `_Sizes` scales it."""
CHEST_MM = 100.0
"""A scan at least this deep can hold a whole lung; in a thinner slab the expected volume grows with the depth."""
ADULT_CM2 = 400.0
"""Area of a small adult's chest in a slice, in cm2; smaller bodies are expected to have smaller lungs and airways."""
LEAST_SHARE = 0.1
"""A part of the lungs has at least this share of the volume of the largest part."""
FREE_AIR_HU, UNSEEN_HU = -950, -1100
"""Air around the patient and gas are below the first HU; voxels outside the field of view are below the second."""
CUT_MM = 8.0
"""A lung that is cut open by a side of the scan has a block this far from its edge; a gap beside the skin has none."""
BODY_EDGE_MM = 3.0
"""The border of the body in blocks is at most this far from the skin."""
OPENING_MM = 4.0
"""Parts thinner than twice this, such as the table, are removed from the body."""
CLOSING_MM = 8.0
"""Gaps up to twice this wide are closed: hilar vessels, and nodules on the wall."""
PARTING_MM = 4.0
"""Two lungs that touch are separated where they are less than twice this wide."""
AIRWAY_WALL_MM = 4.0
"""The lumen of trachea and bronchi is dilated by this, the thickness of their wall."""
MASK_EDGE_MM = 1.2
"""Standard deviation of the Gaussian that smooths a mask's edge when it is resampled to finer voxels."""
TRACHEA_MM2 = (40.0, 900.0)
"""Least and largest area of an adult's trachea in a slice."""
TRACHEA_ML, MOST_AIRWAY_ML = 15.0, 120.0
"""Volumes of an adult's airways: above the first, growth is checked for leaks; the second is the largest."""


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of a scan, on blocks of its voxels; `on` resamples them to any voxels.

    Attributes:
        hu: mean HU [z, y, x] of the blocks, cropped to the patient.
        mask: mask of the lungs, bool [z, y, x], with the vessels and nodules in them.
        airways: trachea and large bronchi, bool [z, y, x].
        body: the patient, bool [z, y, x], with lungs filled.
    """

    hu: Volume
    mask: Volume
    airways: Volume
    body: Volume

    def on(self, ct: Volume) -> Lungs:
        """Return the lungs on the voxels of the scan or of a part of it, with smooth edges."""
        return Lungs(ct, *(_enlarged(mask, ct) for mask in (self.mask, self.airways, self.body)))

    def mask_on(self, ct: Volume) -> NDArray[np.bool_]:
        """Return the mask alone on the voxels of `ct`, bool [z, y, x]; takes a third of the time of `on`."""
        found: NDArray[np.bool_] = _enlarged(self.mask, ct).voxels
        return found


@dataclass(frozen=True)
class _Sizes:
    """The expected size of structures in a scan, as shares of an adult's; 1 for a whole scan of an adult.

    Attributes:
        area: share of the area of a structure in a slice, from the body's area.
        depth: share of a lung's height that the scan can hold.
    """

    area: float
    depth: float

    @classmethod
    def of(cls, body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> _Sizes:
        """Return the sizes expected in a body, bool [z, y, x]."""
        slices = max(int(body.any((1, 2)).sum()), 1)
        area_cm2 = float(body.sum()) / slices * spacing_mm[1] * spacing_mm[2] / 100
        return cls(min(1.0, area_cm2 / ADULT_CM2), min(1.0, slices * spacing_mm[0] / CHEST_MM))

    @property
    def volume(self) -> float:
        """Share of the volume of a structure that lies in the scan as a whole."""
        return self.area**1.5

    @property
    def least_lung_ml(self) -> float:
        """Smallest expected volume of a lung, in ml."""
        return LEAST_LUNG_ML * self.volume * self.depth


def find_lungs(ct: Volume) -> Lungs:
    """Segment the lungs of a chest CT of an adult or a child; the scan may be a slab, or cut lungs off at any face.

    Args:
        ct: HU [z, y, x], in any orientation.

    Raises:
        InputError: no part of the scan has the density and size of a lung.
    """
    small, hu = _blocks(ct)
    spacing = small.spacing_mm
    body = _body(hu, spacing)
    if body.any():  # crop to the body to save time
        box = box_around(body, 1)
        small = crop(small, [side.start for side in box], body[box].shape)
        hu, body = hu[box], body[box]
    sizes = _Sizes.of(body, spacing)
    air = (hu < LUNG_BELOW_HU) & body
    airways = _airways(hu, air, spacing, sizes)
    lungs = _large_parts(air & ~airways, hu, spacing, sizes.least_lung_ml)
    if lungs.any():
        box = box_around(lungs, [int(CLOSING_MM / s) + 1 for s in spacing])
        lungs[box] = _closed(lungs[box], spacing, sizes.least_lung_ml)
        lungs &= body & ~airways
    if not lungs.any():
        if max(ct.spacing_mm) < LEAST_SPACING_MM:
            voxels = " x ".join(f"{mm:.3g}" for mm in reversed(ct.spacing_mm))
            raise InputError("scan", f"no lung in voxels of {voxels} mm", "a header in millimetres, not metres")
        raise InputError(
            "scan",
            "no lung",
            "a chest CT in HU with the chest wall; in a crop, places given by `at_mm`, with `force`",
        )
    return Lungs(small, *(replace(small, voxels=mask) for mask in (lungs, airways, body)))


def find_body(ct: Volume) -> NDArray[np.bool_]:
    """Segment the patient in a chest CT in HU, with lungs filled; bool [z, y, x], all False if there is no patient.

    Within `BODY_EDGE_MM` of the border that `_body` finds on blocks, the HU of the scan's voxels decide.
    """
    small, hu = _blocks(ct)
    body = _body(hu, small.spacing_mm)
    if not body.any():
        return np.zeros(ct.shape, bool)
    inner, outer = (
        _enlarged(replace(small, voxels=changed(body, BODY_EDGE_MM, small.spacing_mm)), ct).voxels
        for changed in (eroded, dilated)
    )
    found: NDArray[np.bool_] = inner | (outer & (ct.voxels > BODY_HU))
    return found


def _blocks(ct: Volume) -> tuple[Volume, NDArray[np.float32]]:
    """Return the means of a scan's blocks in the orientation LPS, and the same after slight smoothing against noise."""
    import SimpleITK as sitk

    blocks = [
        min(max(1, int(WORKING_MM / s)), n) for s, n in zip(reversed(ct.spacing_mm), reversed(ct.shape), strict=True)
    ]
    small = orient(from_sitk(sitk.BinShrink(to_sitk(ct), blocks)), "LPS")
    return small, ndimage.gaussian_filter(small.voxels.astype(np.float32), 0.5)


def _body(hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return the patient without the table, with lungs filled, bool [z, y, x]."""
    core = eroded(hu > BODY_HU, OPENING_MM, spacing_mm)
    if not core.any():
        return core
    body = cc3d.largest_k(core, k=1, connectivity=6) > 0
    body = filled_slices(dilated(body, OPENING_MM, spacing_mm))
    cut = _cut_lungs(hu, body, spacing_mm)
    return filled_slices(body | cut) if cut.any() else body


def _cut_lungs(
    hu: NDArray[np.float32], body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Lungs that are cut open by the sides of the scan, bool [z, y, x]: without a wall, filling holes misses them.

    Their density distinguishes them from the air around the patient, the body beside them from the foam of a table.
    """
    found = np.zeros_like(body)
    unseen = hu < UNSEEN_HU
    labels, count = cc3d.connected_components((hu < LUNG_BELOW_HU) & ~body & ~unseen, connectivity=6, return_N=True)
    least = _Sizes.of(body, spacing_mm).least_lung_ml * 1000 / np.prod(spacing_mm)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    for part, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if sizes[part] < least:
            continue
        wider = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        own = labels[wider] == part
        if np.quantile(hu[wider][own], 0.1) < FREE_AIR_HU or distance_inside(own, spacing_mm).max() < CUT_MM:
            continue
        own = filled_slices(own)
        around = ndimage.binary_dilation(own) & ~own & ~unseen[wider]
        if not around.any() or body[wider][around].mean() >= 0.5:
            found[wider] |= own
    return found


def _large_parts(
    mask: NDArray[np.bool_], hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], least_ml: float
) -> NDArray[np.bool_]:
    """Return the components of a mask that have the size and the density of lungs."""
    labels, count = cc3d.connected_components(mask, connectivity=6, return_N=True)
    if not count:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    for part in np.flatnonzero(sizes >= least_ml * 1000 / np.prod(spacing_mm)):
        if np.median(hu[labels == part]) < FREE_AIR_HU:
            sizes[part] = 0
    least = max(least_ml * 1000 / np.prod(spacing_mm), LEAST_SHARE * sizes.max())
    return (sizes >= least)[labels]


def _airways(
    hu: NDArray[np.float32], air: NDArray[np.bool_], spacing_mm: tuple[float, float, float], sizes: _Sizes
) -> NDArray[np.bool_]:
    """Trachea and large bronchi, grown from a round lumen in the upper slices until they would leak into lung."""
    seed = _trachea((hu < LUMEN_BELOW_HU) & air, spacing_mm, sizes)
    found = np.zeros_like(air)
    if seed is None:
        return found
    known = 0.0
    for most_hu in range(LUMEN_BELOW_HU, LEAK_HU, 10):
        labels = cc3d.connected_components((hu < most_hu) & air, connectivity=6)
        grown = labels == labels[seed]
        volume_ml = float(grown.sum() * np.prod(spacing_mm)) / 1000
        most_ml, from_ml = MOST_AIRWAY_ML * sizes.volume, TRACHEA_ML * sizes.volume
        if volume_ml > most_ml or (known > from_ml and volume_ml > LEAK_GROWTH * known):
            break
        known, found = volume_ml, grown
    return dilated(found, AIRWAY_WALL_MM, spacing_mm) & air if found.any() else found


def _trachea(
    lumen: NDArray[np.bool_], spacing_mm: tuple[float, float, float], sizes: _Sizes
) -> tuple[int, int, int] | None:
    """A block of the trachea, the topmost lumen that is round, small, near the middle and continues downwards."""
    depth, height, width = lumen.shape
    pixel = np.array(spacing_mm[1:])
    low, high = np.array(TRACHEA_MM2) * (sizes.area, 1) / pixel.prod()
    further = max(2, round(16 / spacing_mm[0]))
    for z in range(depth - 1, depth // 3, -1):
        labels, count = ndimage.label(lumen[z])
        for part, box in enumerate(ndimage.find_objects(labels), start=1):
            area = int((labels[box] == part).sum())
            extent = [(side.stop - side.start) for side in box]
            middle = [(side.start + side.stop) / 2 for side in box]
            sides = np.multiply(extent, pixel)
            is_round = sides.max() <= 2.5 * sides.min() and area >= 0.5 * extent[0] * extent[1]
            is_central = abs(middle[1] - width / 2) < width / 6 and abs(middle[0] - height / 2) < height / 3
            if low <= area <= high and is_round and is_central and count:
                y, x = np.argwhere(labels == part)[area // 2].tolist()
                below = lumen[max(z - further, 0) : z, max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
                if below.any((1, 2)).all():
                    return z, y, x
    return None


def _closed(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], least_ml: float) -> NDArray[np.bool_]:
    """Return the lungs, each closed by itself so that the mediastinum between them stays out, with holes filled."""
    labels = cc3d.connected_components(_parted(mask, spacing_mm), connectivity=6)
    margin = [int(CLOSING_MM / s) for s in spacing_mm]
    whole = mask.copy()
    for part, box in enumerate(ndimage.find_objects(labels), start=1):
        if (labels[box] == part).sum() * np.prod(spacing_mm) < 1000 * least_ml:
            continue
        wider = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(box, margin, strict=True))
        whole[wider] |= closed(labels[wider] == part, CLOSING_MM, spacing_mm)
    return filled_slices(whole)


def _parted(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return the mask, separated where the two lungs touch in front of or behind the heart."""
    if cc3d.connected_components(mask, connectivity=6, return_N=True)[1] != 1:
        return mask
    core = eroded(mask, PARTING_MM, spacing_mm)
    parts, count = cc3d.connected_components(core, connectivity=6, return_N=True)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    smaller, larger = np.argsort(sizes)[-2:]
    if sizes[smaller] < 0.25 * sizes[larger]:
        return mask
    nearer = [distance_inside(parts != part, spacing_mm) for part in (smaller, larger)]
    one = nearer[0] < nearer[1]
    return mask & ~(one & ndimage.binary_dilation(~one))


def _enlarged(mask: Volume, grid: Volume) -> Volume:
    """A mask of blocks resampled to other voxels, with a smooth edge."""
    corners = mask.to_voxel(grid.to_world(list(product(*[(0, n - 1) for n in grid.shape]))))
    margin = np.ceil(np.divide(4 * MASK_EDGE_MM, mask.spacing_mm)) + 1
    low = np.clip(np.floor(corners.min(0) - margin), 0, np.subtract(mask.shape, 1)).astype(int)
    high = np.clip(np.ceil(corners.max(0) + margin) + 1, low + 1, mask.shape).astype(int)
    near = crop(mask, low.tolist(), (high - low).tolist(), fill=0)
    soft = ndimage.gaussian_filter(near.voxels.astype(np.float32), np.divide(MASK_EDGE_MM, mask.spacing_mm))
    soft = np.pad(soft, 1, mode="edge")  # the outer halves of the outermost blocks
    x, y, z = near.to_world((-1, -1, -1)).tolist()
    found = resample_like(replace(near, voxels=soft, origin_mm=(x, y, z)), grid, fill=0)
    return replace(found, voxels=found.voxels > 0.5)
