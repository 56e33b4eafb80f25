"""Lungs by the network of the `lungmask` package, where it is installed."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np

from synthorax.anatomy.lungs import Lungs, find_lungs
from synthorax.errors import InputError
from synthorax.geometry import resample_like, to_sitk
from synthorax.volume import Volume


def find_lungs_learned(ct: Volume) -> Lungs:
    """The lungs of a chest CT as lungmask's U-Net sees them (Hofmanninger et al. 2020), which knows dense disease.

    Airways and body are those of `find_lungs`.

    Raises:
        InputError: lungmask is not installed, or there is no lung.
    """
    try:
        lungmask = import_module("lungmask")
    except ImportError as error:
        raise InputError("lungs", "no lungmask here", "pip install 'synthorax[lungmask]'") from error
    plain = find_lungs(ct)
    found = np.asarray(lungmask.LMInferer().apply(to_sitk(ct))) > 0
    if not found.any():
        raise InputError("scan", "no lung that lungmask sees", "a chest CT in HU")
    soft = replace(ct, voxels=found.astype(np.float32))
    mask = resample_like(soft, plain.mask, fill=0).voxels > 0.5
    return replace(plain, mask=replace(plain.mask, voxels=mask & ~plain.airways.voxels))
