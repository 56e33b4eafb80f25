"""The augmentation of `PatchDataset`, done by TorchIO and by MONAI on the same arrays in memory.

Each function takes int16 HU and uint8 masks [n, z, y, x] with a margin around the patch, and returns a function that
makes a batch: with flips and shifts, and scaling if requested, cut to the patch, HU within -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthorax.patch import NETWORK_WINDOW_HU

SIZE = 48
SHIFT_VOXELS = 3
SCALE = (0.9, 1.1)
Batches = Callable[[NDArray[np.int64]], dict[str, torch.Tensor]]


def torchio_batches(hu: NDArray[np.int16], masks: NDArray[np.uint8], *, scaling: bool) -> Batches:
    """Return batches by TorchIO as in its documentation: a sampler, and transforms that copy."""
    import torchio as tio

    flip = tio.RandomFlip((0, 1, 2), flip_probability=0.5)
    unit = tio.RescaleIntensity((-1, 1), in_min_max=NETWORK_WINDOW_HU, include=["ct"])
    affine = tio.RandomAffine(scales=SCALE, degrees=0, translation=SHIFT_VOXELS, isotropic=True)
    made = tio.Compose([flip, affine, tio.CropOrPad(SIZE), unit] if scaling else [flip, unit])
    cut = tio.UniformSampler(SIZE)
    return _torchio_batch(hu, masks, made if scaling else lambda subject: made(next(cut(subject, 1))))


def lean_torchio_batches(hu: NDArray[np.int16], masks: NDArray[np.uint8], *, scaling: bool) -> Batches:
    """Return batches by TorchIO in its fastest way: cut first, without copies, HU scaled by plain arithmetic."""
    import torchio as tio

    flip = tio.RandomFlip((0, 1, 2), flip_probability=0.5, copy=False)
    unit = tio.Lambda(_to_unit, types_to_apply=[tio.INTENSITY], copy=False)
    affine = tio.RandomAffine(
        scales=SCALE,
        degrees=0,
        translation=SHIFT_VOXELS,
        isotropic=True,
        default_pad_value=NETWORK_WINDOW_HU[0],
        copy=False,
    )
    steps = [affine, tio.CropOrPad(SIZE, copy=False), flip, unit] if scaling else [flip, unit]
    made = tio.Compose(steps, copy=False)
    rng = np.random.default_rng(0)

    def cut(subject: Any) -> Any:
        before = rng.integers(0, 2 * SHIFT_VOXELS + 1, 3)
        sides = [side for low in before for side in (int(low), 2 * SHIFT_VOXELS - int(low))]
        return made(tio.Crop(tuple(sides), copy=False)(subject))

    return _torchio_batch(hu, masks, made if scaling else cut)


def _to_unit(hu: torch.Tensor) -> torch.Tensor:
    low, high = NETWORK_WINDOW_HU
    return ((hu - low) * (2 / (high - low)) - 1).clamp_(-1, 1)


def _torchio_batch(hu: NDArray[np.int16], masks: NDArray[np.uint8], made: Callable[[Any], Any]) -> Batches:
    import torchio as tio

    def batch(rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        subjects = []
        for row in rows:
            ct, mask = (torch.from_numpy(a[row][None].astype(np.float32)) for a in (hu, masks))
            subjects.append(made(tio.Subject(ct=tio.ScalarImage(tensor=ct), mask=tio.LabelMap(tensor=mask))))
        return {name: torch.stack([subject[name].data for subject in subjects]) for name in ("ct", "mask")}

    return batch


def monai_batches(hu: NDArray[np.int16], masks: NDArray[np.uint8], *, scaling: bool) -> Batches:
    """Return batches by MONAI, without the bookkeeping for undoing transforms."""
    from monai.data import set_track_meta
    from monai.transforms import Compose, RandAffined, RandFlipd, RandSpatialCropd, ScaleIntensityRanged

    set_track_meta(False)
    both = ["ct", "mask"]
    steps: list[Any] = [RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)]
    if scaling:
        spread = [(SCALE[0] - 1, SCALE[1] - 1)] * 3
        steps.append(
            RandAffined(
                both,
                prob=1,
                scale_range=spread,
                translate_range=SHIFT_VOXELS,
                spatial_size=(SIZE,) * 3,
                mode=["bilinear", "nearest"],
                padding_mode="border",
                cache_grid=True,
            )
        )
    else:
        steps.append(RandSpatialCropd(both, (SIZE,) * 3, random_size=False))
    low, high = NETWORK_WINDOW_HU
    made = Compose([*steps, ScaleIntensityRanged("ct", low, high, -1, 1, clip=True)])

    def batch(rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        found: list[Any] = [
            made(
                {
                    "ct": torch.from_numpy(hu[row][None].astype(np.float32)),
                    "mask": torch.from_numpy(masks[row][None].astype(np.float32)),
                }
            )
            for row in rows
        ]
        return {name: torch.stack([torch.as_tensor(one[name]) for one in found]) for name in both}

    return batch


OTHERS = {
    "TorchIO {}": ("torchio", torchio_batches),
    "TorchIO {}, cut first, nothing copied": ("torchio", lean_torchio_batches),
    "MONAI {}": ("monai", monai_batches),
}


def installed() -> dict[str, Callable[..., Batches]]:
    """Return the other libraries that are installed, by name and version."""
    found = {}
    for name, (package, batches) in OTHERS.items():
        try:
            found[name.format(version(package))] = batches
        except PackageNotFoundError:
            continue
    return found
