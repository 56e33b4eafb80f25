"""Cropping, reorienting and resampling of volumes; every voxel keeps its place in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.region import Region
from synthorax.volume import Volume, check_spacing

if TYPE_CHECKING:
    import SimpleITK as sitk

PATIENT_AXES = ("LR", "PA", "SI")
"""Anatomical directions in which world x, y and z grow (first letters) and shrink (second letters)."""
AIR_HU = -1024
"""HU of voxels outside a scan."""
AIR_BELOW_HU = -200
"""A CT has voxels below this HU, because there is air in it; a mask or a scaled picture has none."""


def crop(volume: Volume, start: Sequence[int], shape: Sequence[int], *, fill: float = AIR_HU) -> Volume:
    """Cut out a box of voxels; it may reach beyond the volume, so that this pads as well.

    Args:
        volume: of any type of voxel.
        start: index (z, y, x) of the first voxel; may be negative.
        shape: voxels along (z, y, x).
        fill: value of voxels outside the volume.

    >>> import numpy as np
    >>> scan = Volume(np.zeros((40, 64, 64), np.int16), (2.5, 0.7, 0.7))
    >>> box = crop(scan, (10, -2, 0), (8, 16, 16))
    >>> box.shape, box.origin_mm
    ((8, 16, 16), (0.0, -1.4, 25.0))
    >>> box.voxels[0, :4, 0].tolist()  # two rows lie outside of the scan
    [-1024, -1024, 0, 0]
    """
    first = np.asarray(start)
    low, high = np.clip([first, first + shape], 0, volume.shape)
    inside = volume.voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if inside.shape != tuple(shape):
        whole = np.full(tuple(shape), fill, volume.voxels.dtype)
        if inside.size:
            whole[tuple(slice(a, a + n) for a, n in zip(low - first, inside.shape, strict=True))] = inside
        inside = whole
    x, y, z = volume.to_world(first).tolist()
    return replace(volume, voxels=inside, origin_mm=(x, y, z))


def mirrored_crop(volume: Volume, start: Sequence[int], shape: Sequence[int]) -> Volume:
    """Cut out a box of voxels; beyond the volume's faces the volume is mirrored.

    Args:
        volume: has at least one voxel in common with the box.
        start: index (z, y, x) of the first voxel; may be negative.
        shape: voxels along (z, y, x).
    """
    first, last = np.asarray(start), np.add(start, shape)
    low, high = np.clip([first, last], 0, volume.shape)
    inside = crop(volume, low.tolist(), (high - low).tolist())
    beyond = np.stack([low - first, last - high], 1)
    if not beyond.any():
        return inside
    x, y, z = volume.to_world(first).tolist()
    return replace(inside, voxels=np.pad(inside.voxels, beyond.tolist(), mode="reflect"), origin_mm=(x, y, z))


def pad(volume: Volume, before: Sequence[int], after: Sequence[int], *, fill: float = AIR_HU) -> Volume:
    """Add voxels of value `fill`: along (z, y, x), `before` of them before the volume and `after` of them after it."""
    shape = np.add(volume.shape, before) + np.asarray(after)
    return crop(volume, np.negative(before).tolist(), shape.tolist(), fill=fill)


def orient(volume: Volume, axes: str = "LPS") -> Volume:
    """Flip and transpose the array so that its x, y and z axes point nearest to three anatomical directions.

    Args:
        volume: any orientation.
        axes: directions in which x, y and z grow, such as LPS (left, posterior, superior) or RAS.

    Raises:
        InputError: `axes` does not have one letter each of L/R, P/A and S/I.

    >>> import numpy as np
    >>> scan = Volume(np.zeros((40, 64, 32), np.int16), (2.5, 0.7, 0.7))
    >>> axes_of(scan), axes_of(orient(scan, "RAS")), orient(scan, "SPL").shape
    ('LPS', 'RAS', (32, 64, 40))
    """
    wanted = [next((i for i, pair in enumerate(PATIENT_AXES) if letter in pair), -1) for letter in axes.upper()]
    if sorted(wanted) != [0, 1, 2]:
        raise InputError("axes", repr(axes), "three directions, as in LPS")
    own = axes_of(volume)
    found = [next(i for i, pair in enumerate(PATIENT_AXES) if letter in pair) for letter in own]
    order = [found.index(axis) for axis in wanted]  # of the array's x, y and z
    mirrored = [own[i] != letter for i, letter in zip(order, axes.upper(), strict=True)]
    if order == [0, 1, 2] and not any(mirrored):
        return volume
    turned = volume.voxels.transpose([2 - i for i in reversed(order)])
    voxels = np.ascontiguousarray(turned[tuple(slice(None, None, -1 if m else 1) for m in reversed(mirrored))])
    z, y, x = (volume.spacing_mm[2 - i] for i in reversed(order))
    last = np.array(volume.shape[::-1]) - 1
    corner = np.zeros(3)
    corner[order] = np.where(mirrored, last[order], 0)
    first_x, first_y, first_z = volume.to_world(corner[::-1]).tolist()
    direction = volume.direction[:, order] * np.where(mirrored, -1.0, 1.0)
    return Volume(voxels, (z, y, x), (first_x, first_y, first_z), direction)


def axes_of(volume: Volume) -> str:
    """Return the anatomical directions nearest to those in which the x, y and z array axes grow, such as LPS."""
    nearness = np.abs(volume.direction)
    letters = [""] * 3
    for _ in range(3):
        world, array = np.unravel_index(nearness.argmax(), (3, 3))
        letters[array] = PATIENT_AXES[world][int(volume.direction[world, array] < 0)]
        nearness[world], nearness[:, array] = -1, -1
    return "".join(letters)


def turned_like(volume: Volume, like: Volume) -> Volume:
    """Undo `orient`: return the voxels of `volume` in the axis order and with the geometry of `like`.

    Args:
        volume: a volume that `orient` made of `like`, its voxels perhaps edited since.
        like: the volume before `orient`.
    """
    return replace(like, voxels=orient(volume, axes_of(like)).voxels)


def turned_region(region: Region, volume: Volume, like: Volume) -> Region:
    """Return a region of `volume` as a region of `like`, the same scan in another orientation.

    Args:
        region: marked voxels of `volume`.
        volume: a scan.
        like: the same scan as `orient` turned it.
    """
    if not region.mask.size:
        return region
    x, y, z = volume.to_world(region.corner).tolist()
    box = orient(replace(volume, voxels=region.mask, origin_mm=(x, y, z)), axes_of(like))
    k, j, i = np.rint(like.to_voxel(box.origin_mm)).astype(int).tolist()
    return Region((k, j, i), box.voxels)


def resample_to_spacing(
    volume: Volume, spacing_mm: tuple[float, float, float], *, nearest: bool = False, fill: float = AIR_HU
) -> Volume:
    """Resample a volume to voxels of another size by linear interpolation; its outer faces keep their places.

    Args:
        volume: of any type of voxel; whole numbers stay whole, rounded.
        spacing_mm: voxel size (z, y, x) of the result.
        nearest: take the nearest voxel instead of interpolating, as for labels.
        fill: value of voxels outside the volume.

    Raises:
        InputError: the spacing is not three positive numbers.

    >>> import numpy as np
    >>> scan = Volume(np.zeros((40, 64, 64), np.int16), (2.5, 0.75, 0.75))
    >>> resample_to_spacing(scan, (1.0, 1.0, 1.0)).shape
    (100, 48, 48)
    """
    check_spacing(spacing_mm)
    shape = np.maximum(np.rint(np.multiply(volume.shape, volume.spacing_mm) / spacing_mm), 1).astype(int)
    first = (np.divide(spacing_mm, volume.spacing_mm) - 1) / 2
    x, y, z = volume.to_world(first).tolist()
    grid = Volume(np.empty((1, 1, 1), volume.voxels.dtype), spacing_mm, (x, y, z), volume.direction)
    return resample_like(volume, grid, shape.tolist(), nearest=nearest, fill=fill)


def resample_like(
    volume: Volume, grid: Volume, shape: Sequence[int] | None = None, *, nearest: bool = False, fill: float = AIR_HU
) -> Volume:
    """Resample a volume on the voxel grid of another by linear interpolation.

    Args:
        volume: of any type of voxel; whole numbers stay whole, rounded.
        grid: gives spacing, origin and direction.
        shape: voxels along (z, y, x); the shape of `grid` if not given.
        nearest: take the nearest voxel instead of interpolating, as for labels.
        fill: value of voxels outside the volume.
    """
    import SimpleITK as sitk

    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in reversed(shape or grid.shape)])
    filter_.SetOutputSpacing(grid.spacing_mm[::-1])
    filter_.SetOutputOrigin(grid.origin_mm)
    filter_.SetOutputDirection(grid.direction.ravel().tolist())
    filter_.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    filter_.SetDefaultPixelValue(fill)
    image, dtype = to_sitk(volume), volume.voxels.dtype
    if nearest or dtype.kind == "f":
        return from_sitk(filter_.Execute(image), dtype)
    made = from_sitk(filter_.Execute(sitk.Cast(image, sitk.sitkFloat32)))
    return replace(made, voxels=np.rint(made.voxels).astype(dtype))  # ITK truncates instead of rounding


def resized_box(volume: Volume, start: Sequence[int], stop: Sequence[int], shape: Sequence[int]) -> Volume:
    """Resample a box of a volume to another number of voxels; the outer faces of the box keep their places.

    Along an axis that gets fewer voxels, each new voxel is a mean weighted by a triangle two new voxels wide, so that
    every old voxel counts and noise is averaged. Along an axis that gets more voxels, they are interpolated linearly.

    Args:
        volume: of any type of voxel.
        start, stop: indices (z, y, x) of the box's first voxel and of the voxel after its last.
        shape: voxels (z, y, x) of the result.

    Returns:
        Voxels of the volume's own type; whole numbers are rounded.

    >>> import numpy as np
    >>> scan = Volume(np.arange(8, dtype=np.int16)[:, None, None] * np.ones((1, 4, 4), np.int16), (1.0, 1.0, 1.0))
    >>> small = resized_box(scan, (0, 0, 0), (8, 4, 4), (4, 2, 2))
    >>> small.spacing_mm, small.origin_mm, small.voxels[:, 0, 0].tolist()
    ((2.0, 2.0, 2.0), (0.5, 0.5, 0.5), [1, 2, 4, 6])
    """
    box = volume.voxels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    along_z, along_y, along_x = (_weights(n, m) for n, m in zip(box.shape, shape, strict=True))
    # Plane by plane, because a whole scan in float32 takes twice the scan's memory.
    planes = np.stack([along_y @ plane.astype(np.float32) @ along_x.T for plane in box])
    voxels = np.tensordot(along_z, planes, 1)
    dtype = volume.voxels.dtype
    step = np.divide(box.shape, shape)
    x, y, z = volume.to_world(np.asarray(start) + (step - 1) / 2).tolist()
    spacing_z, spacing_y, spacing_x = np.multiply(volume.spacing_mm, step).tolist()
    made = np.rint(voxels).astype(dtype) if dtype.kind in "iu" else voxels.astype(dtype)
    return Volume(made, (spacing_z, spacing_y, spacing_x), (x, y, z), volume.direction)


def _weights(n: int, m: int) -> NDArray[np.float32]:
    """Return the weights [m, n] with which n old voxels along an axis enter each of m new ones."""
    step = n / m
    centers = (np.arange(m) + 0.5) * step - 0.5
    apart = np.abs(np.arange(n) - np.clip(centers, 0, n - 1)[:, None])
    weights = np.maximum(1 - apart / max(step, 1.0), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def to_sitk(volume: Volume) -> sitk.Image:
    """Return the volume as a SimpleITK image; bool voxels become uint8."""
    import SimpleITK as sitk

    voxels = volume.voxels.view(np.uint8) if volume.voxels.dtype == np.bool_ else volume.voxels
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin_mm)
    image.SetDirection(volume.direction.ravel().tolist())
    return image


def from_sitk(image: sitk.Image, dtype: np.dtype | None = None) -> Volume:
    """Return a SimpleITK image as a volume, its voxels cast to `dtype` if given."""
    import SimpleITK as sitk

    x, y, z = image.GetSpacing()
    voxels: NDArray = sitk.GetArrayFromImage(image)
    return Volume(
        voxels=voxels if dtype is None else voxels.astype(dtype, copy=False),
        spacing_mm=(z, y, x),
        origin_mm=image.GetOrigin(),
        direction=np.reshape(image.GetDirection(), (3, 3)),
    )
