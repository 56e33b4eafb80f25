"""Lung segmentation by the network of the `lungmask` package, if it is installed."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np

from synthorax.anatomy.lungs import Lungs, find_lungs
from synthorax.errors import InputError
from synthorax.geometry import resample_like, to_sitk
from synthorax.volume import Volume


def find_lungs_learned(ct: Volume) -> Lungs:
    """Segment the lungs of a chest CT by lungmask's U-Net (Hofmanninger et al. 2020), also lungs with dense disease.

    Airways and body are segmented by `find_lungs`.

    Args:
        ct: HU [z, y, x].

    Raises:
        InputError: lungmask is not installed, or finds no lung.
    """
    try:
        lungmask = import_module("lungmask")
    except ImportError as error:
        raise InputError("lungs", "that lungmask is not installed", "pip install 'synthorax[lungmask]'") from error
    plain = find_lungs(ct)
    found = np.asarray(lungmask.LMInferer().apply(to_sitk(ct))) > 0
    if not found.any():
        raise InputError("scan", "no lung, by lungmask", "a chest CT in HU")
    soft = replace(ct, voxels=found.astype(np.float32))
    mask = resample_like(soft, plain.mask, fill=0).voxels > 0.5
    return replace(plain, mask=replace(plain.mask, voxels=mask & ~plain.airways.voxels))
