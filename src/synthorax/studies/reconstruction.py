"""How well an in-painter reconstructs held-out real nodules from their outlines and attributes.

The ball around the nodule is hidden and filled. The error is measured on the in-painter's own grid, over the hidden
voxels. Three fills with less information are measured beside it: the same network with an empty outline, a constant HU
within the outline, and the mean HU of lung.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import LUNG_BELOW_HU
from synthorax.editing.learned import Learned
from synthorax.errors import InputError
from synthorax.makers import Edit
from synthorax.metrics.bootstrap import mean_of, patient_bootstrap
from synthorax.metrics.borders import seen_nodule
from synthorax.metrics.estimates import Estimate
from synthorax.nodule import NoduleAttributes
from synthorax.seeding import derive
from synthorax.shapes.overlap import dice
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class HeldOutNodule:
    """A real nodule in the middle of a patch.

    Attributes:
        ct: the patch, HU [z, y, x].
        outline: the outline of one reader, bool [z, y, x].
        attributes: the nodule's attributes, with a diameter.
        patient: patient of the nodule.
    """

    ct: Volume
    outline: NDArray[np.bool_]
    attributes: NoduleAttributes
    patient: str


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A real nodule and an in-painter's reconstructions of it, on the in-painter's grid; all arrays are [z, y, x].

    Attributes:
        real: HU of the real patch, clipped to the in-painter's window.
        hidden: the voxels that were filled, bool.
        outline: the reader's outline, bool.
        filled: HU of the reconstruction from the outline and the attributes.
        blank: HU of the reconstruction from an empty outline and the attributes; None if the in-painter refuses it.
        mask: the nodule's mask that the in-painter returned, bool.
        spacing_mm: voxel size (z, y, x).
        patient: patient of the nodule.
    """

    real: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    outline: NDArray[np.bool_]
    filled: NDArray[np.float32]
    blank: NDArray[np.float32] | None
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    patient: str


@dataclass(frozen=True)
class ReconstructionFigures:
    """Mean absolute errors in HU over the hidden voxels, and Dice; means over nodules, intervals over patients.

    The seen nodule of a patch is the mask that `metrics.borders.seen_nodule` finds in its HU.

    Attributes:
        n: number of nodules.
        told: error of the reconstruction from the outline and the attributes.
        blank: error of the reconstruction from an empty outline; None if the in-painter refuses it.
        flat: error of the fill with the training nodules' mean HU within the outline, and with `lung` outside.
        lung: error of the fill with the mean HU of the patch's lung that is not hidden.
        mask_seen: Dice of the returned mask and the nodule seen in the reconstruction.
        mask_real: Dice of the returned mask and the reader's outline; 1 if the in-painter returns the outline.
        seen_real: Dice of the nodule seen in the reconstruction and the outline.
        real_seen_real: Dice of the nodule seen in the real patch and the outline, a bound for `seen_real`.
    """

    n: int
    told: Estimate
    blank: Estimate | None
    flat: Estimate
    lung: Estimate
    mask_seen: Estimate
    mask_real: Estimate
    seen_real: Estimate
    real_seen_real: Estimate


def reconstructed(
    method: Learned, nodules: Sequence[HeldOutNodule], seed: int = 0
) -> tuple[list[Reconstruction], tuple[str, ...]]:
    """Hide and fill the balls around real nodules.

    Args:
        method: an in-painter; it gets those of the attributes that it heeds.
        nodules: the nodules.
        seed: seed of the in-painter's noise.

    Returns:
        The reconstructions, and a sentence for each nodule whose outline the in-painter refused.
    """
    found, refused = [], []
    for i, one in enumerate(nodules):
        heeded = {name: value for name, value in one.attributes.given().items() if name in method.heeds}
        known = NoduleAttributes(**heeded | {"diameter_mm": one.attributes.diameter_mm})
        everywhere, own = np.ones(one.ct.shape, bool), derive(seed, "reconstructed", i)
        try:
            filled = method.on_grid(one.ct, everywhere, Edit("inject", known, one.outline), own)
        except InputError as error:
            refused.append(f"nodule {i}: {error}")
            continue
        blank = None
        with suppress(InputError):  # of an in-painter that refuses an outline without a voxel
            empty = Edit("inject", known, np.zeros_like(one.outline))
            blank = method.on_grid(one.ct, everywhere, empty, own).made.hu
        assert filled.asked.mask is not None
        found.append(
            Reconstruction(
                real=filled.seen,
                hidden=filled.made.hu != filled.seen,
                outline=filled.asked.mask,
                filled=filled.made.hu,
                blank=blank,
                mask=np.zeros(filled.seen.shape, bool) if filled.made.mask is None else filled.made.mask,
                spacing_mm=filled.before.spacing_mm,
                patient=one.patient,
            )
        )
    return found, tuple(refused)


def reconstruction_figures(made: Sequence[Reconstruction], nodule_hu: float, seed: int = 0) -> ReconstructionFigures:
    """Measure reconstructions.

    Args:
        made: the reconstructions.
        nodule_hu: mean HU within the outlines of training nodules.
        seed: seed of the intervals.

    Raises:
        InputError: the nodules belong to fewer than 2 patients.
    """
    rows = np.array([_measured_of(one, nodule_hu) for one in made])
    patients = np.array([one.patient for one in made])
    names = [field.name for field in fields(ReconstructionFigures)][1:]
    intervals = {
        name: patient_bootstrap(mean_of(column), patients, seed=seed).interval() if np.isfinite(column).all() else None
        for name, column in zip(names, rows.T, strict=True)
    }
    return ReconstructionFigures(len(made), **intervals)  # type: ignore[arg-type]


def _measured_of(one: Reconstruction, nodule_hu: float) -> list[float]:
    """Return the measures of one nodule, in the order of `ReconstructionFigures`; NaN for a missing reconstruction."""
    lung = one.real[~one.hidden & (one.real < LUNG_BELOW_HU)]
    lung_hu = float(lung.mean()) if lung.size else LUNG_BELOW_HU
    flat = np.where(one.outline, nodule_hu, lung_hu)
    fills = (one.filled, np.nan if one.blank is None else one.blank, flat, lung_hu)
    errors = [float(abs(fill - one.real)[one.hidden].mean()) for fill in fills]
    seen, really = (_seen(hu, one) for hu in (one.filled, one.real))
    pairs = ((one.mask, seen), (one.mask, one.outline), (seen, one.outline), (really, one.outline))
    return errors + [float(dice(first[None], second[None])[0]) for first, second in pairs]


def _seen(hu: NDArray[np.float32], one: Reconstruction) -> NDArray[np.bool_]:
    """Return the mask of the nodule seen in a patch; empty if there is no lung beside it."""
    try:
        return seen_nodule(hu, one.outline, one.spacing_mm)
    except InputError:
        return np.zeros_like(one.outline)
