"""How well an in-painter gives back real nodules that it has not seen, told their outlines and attributes.

The nodule's ball is hidden and filled. The error is measured on the in-painter's own grid, over the voxels that were
hidden, beside three fills that know less: the same network told an empty outline, the outline painted flat, and lung.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        ct: HU [z, y, x].
        outline: bool [z, y, x], as one reader drew it.
        attributes: the diameter is known.
    """

    ct: Volume
    outline: NDArray[np.bool_]
    attributes: NoduleAttributes
    patient: str


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A real nodule and what an in-painter made of it, on the in-painter's grid, [z, y, x] each.

    Attributes:
        real: HU as they are, within the in-painter's window.
        hidden: bool, the voxels that were filled.
        outline: bool, of the real nodule.
        told: HU as filled by the in-painter that was told the outline and the attributes.
        blank: the same, told an empty outline.
        mask: bool, what it returned as the nodule's mask.
        spacing_mm: voxel size (z, y, x).
        patient: whose nodule it is.
    """

    real: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    outline: NDArray[np.bool_]
    told: NDArray[np.float32]
    blank: NDArray[np.float32]
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    patient: str


@dataclass(frozen=True)
class ReconstructionFigures:
    """Mean absolute HU over the hidden voxels of each nodule, and Dice; means over nodules, intervals over patients.

    Attributes:
        told: by the in-painter, told the outline and the attributes.
        blank: by the same, told an empty outline.
        flat: the outline in the mean HU of training nodules, and the rest as `lung`.
        lung: the mean HU of the lung of the patch that is not hidden.
        mask_seen: Dice of the mask that it returned with the nodule seen in what it made.
        mask_real: Dice of that mask with the reader's outline; 1 where it returns the outline that it was told.
        seen_real: Dice of the nodule seen in what it made with the outline.
        real_seen_real: Dice of the nodule seen in the real patch with the outline, as much as can be hoped for.
    """

    n: int
    told: Estimate
    blank: Estimate
    flat: Estimate
    lung: Estimate
    mask_seen: Estimate
    mask_real: Estimate
    seen_real: Estimate
    real_seen_real: Estimate


def reconstructed(method: Learned, nodules: Sequence[HeldOutNodule], seed: int = 0) -> list[Reconstruction]:
    """Hide and fill the balls of real nodules.

    Args:
        method: an in-painter; attributes that it does not heed are not told.
    """
    found = []
    for i, one in enumerate(nodules):
        heeded = {name: value for name, value in one.attributes.given().items() if name in method.heeds}
        known = NoduleAttributes(**heeded | {"diameter_mm": one.attributes.diameter_mm})
        everywhere, own = np.ones(one.ct.shape, bool), derive(seed, "reconstructed", i)
        told, blank = (
            method.on_grid(one.ct, everywhere, Edit("inject", known, outline), own)
            for outline in (one.outline, np.zeros_like(one.outline))
        )
        assert told.asked.mask is not None
        found.append(
            Reconstruction(
                real=told.seen,
                hidden=told.made.hu != told.seen,
                outline=told.asked.mask,
                told=told.made.hu,
                blank=blank.made.hu,
                mask=np.zeros(told.seen.shape, bool) if told.made.mask is None else told.made.mask,
                spacing_mm=told.before.spacing_mm,
                patient=one.patient,
            )
        )
    return found


def reconstruction_figures(made: Sequence[Reconstruction], nodule_hu: float, seed: int = 0) -> ReconstructionFigures:
    """Measure reconstructions.

    Args:
        nodule_hu: mean HU within the outlines of training nodules.
        seed: of the intervals.

    Raises:
        InputError: nodules of fewer than 2 patients.
    """
    rows = np.array([_measured_of(one, nodule_hu) for one in made])
    patients = np.array([one.patient for one in made])
    names = [field.name for field in fields(ReconstructionFigures)][1:]
    intervals = [patient_bootstrap(mean_of(column), patients, seed=seed).interval() for column in rows.T]
    return ReconstructionFigures(len(made), **dict(zip(names, intervals, strict=True)))


def _measured_of(one: Reconstruction, nodule_hu: float) -> list[float]:
    """The figures of a nodule, in the order of `ReconstructionFigures`."""
    lung = one.real[~one.hidden & (one.real < LUNG_BELOW_HU)]
    lung_hu = float(lung.mean()) if lung.size else LUNG_BELOW_HU
    flat = np.where(one.outline, nodule_hu, lung_hu)
    errors = [float(abs(fill - one.real)[one.hidden].mean()) for fill in (one.told, one.blank, flat, lung_hu)]
    seen, really = (_seen(hu, one) for hu in (one.told, one.real))
    pairs = ((one.mask, seen), (one.mask, one.outline), (seen, one.outline), (really, one.outline))
    return errors + [float(dice(first[None], second[None])[0]) for first, second in pairs]


def _seen(hu: NDArray[np.float32], one: Reconstruction) -> NDArray[np.bool_]:
    """The nodule that is seen in a patch; none where there is no lung beside it."""
    try:
        return seen_nodule(hu, one.outline, one.spacing_mm)
    except InputError:
        return np.zeros_like(one.outline)
