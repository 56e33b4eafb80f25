"""Painted CT beside the real CT of the same label maps: HU of tissues, steps between slices, borders and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import dilated
from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.store import CaseEntry, Store
from synthorax.editing.painting import painted_slabs
from synthorax.geometry import orient, resample_like
from synthorax.makers import Painter
from synthorax.metrics.bootstrap import mean_of
from synthorax.patch import PatchSpec
from synthorax.seeding import derive
from synthorax.studies.made_volumes import cut_labels
from synthorax.studies.results import Interval
from synthorax.studies.trials import over_seeds

STEPPED = {"lung": TissueClass.OTHER, "soft tissue": TissueClass.SOFT}
"""Tissues whose steps between neighbouring voxels are measured."""
LEAST_VOXELS = 200
"""Fewest voxels of a class in a case; with fewer, the case has no value for the class."""
FAR_LAG = 3
"""Distance in voxels at which the noise of two lung voxels is taken for uncorrelated."""
BLOCK = 4
"""Edge in voxels of the blocks whose means are compared to find the most similar volume."""


@dataclass(frozen=True, eq=False)
class PaintedCase:
    """A label map, the real CT from which it was derived, and the CT that was painted from it, on one grid.

    Attributes:
        classes: `TissueClass` of each voxel, uint8 [z, y, x].
        real, made: HU of the real and of the painted CT, [z, y, x].
        patient: patient of the case.
    """

    classes: NDArray[np.uint8]
    real: NDArray[np.int16]
    made: NDArray[np.int16]
    patient: str

    @property
    def error_hu(self) -> float:
        """Mean absolute difference in HU between painted and real CT."""
        return float(np.abs(self.made.astype(np.int32) - self.real).mean())


def paint_cases(
    store: Store, cases: Sequence[CaseEntry], painter: Painter, spec: PatchSpec, seed: int = 0
) -> list[PaintedCase]:
    """Cut a volume from the middle of each case's label map, and paint it.

    Args:
        store: store of the cases.
        cases: cases with label maps.
        painter: paints label maps.
        spec: size and voxel size of the volumes.
        seed: seed of the painting.
    """
    made = []
    for i, entry in enumerate(cases):
        case = store.read(entry.case_id)
        assert case.tissue is not None
        labels = orient(replace(case.ct, voxels=case.tissue), "LPS")
        start = (np.array(labels.shape) * labels.spacing_mm - spec.size_mm) / 2 / labels.spacing_mm
        grid, cut = cut_labels(labels, np.rint(start), spec)
        hu = np.concatenate([slab for _, slab in painted_slabs(cut, painter, derive(seed, "painted case", i))])
        real = resample_like(orient(case.ct, "LPS"), grid).voxels.astype(np.int16)
        made.append(PaintedCase(cut.voxels, real, hu, entry.patient_id))
    return made


Values = Callable[[NDArray[np.floating], NDArray[np.uint8]], float]
"""A function of HU [z, y, x] and the classes of the voxels [z, y, x] to a measure; NaN with too few voxels of a
class."""


def class_mean(own: TissueClass) -> Values:
    """Return the measure of a class's mean HU."""
    return lambda hu, classes: _over(hu, classes == own, np.mean)


def class_sd(own: TissueClass) -> Values:
    """Return the measure of the standard deviation of a class's HU."""
    return lambda hu, classes: _over(hu, classes == own, np.std)


def step(own: TissueClass, axis: int, lag: int = 1) -> Values:
    """Return the measure of the mean absolute difference in HU of two voxels of a class, `lag` apart along an axis.

    Args:
        own: the class of both voxels.
        axis: 0 for z, 1 for y, 2 for x.
        lag: distance in voxels.
    """

    def measured(hu: NDArray[np.floating], classes: NDArray[np.uint8]) -> float:
        first, second = (_shifted(each, axis, lag) for each in (hu, classes == own))
        return _over(np.abs(first[1] - first[0]), second[0] & second[1], np.mean)

    return measured


def border_step() -> Values:
    """Return the measure of sharpness: the mean absolute difference in HU of a lung voxel and a soft one beside it."""

    def measured(hu: NDArray[np.floating], classes: NDArray[np.uint8]) -> float:
        steps, borders = [], []
        for axis in (1, 2):
            a, b = _shifted(hu, axis, 1)
            c, d = _shifted(classes, axis, 1)
            lung, soft = TissueClass.OTHER, TissueClass.SOFT
            borders.append((((c == lung) & (d == soft)) | ((c == soft) & (d == lung))).ravel())
            steps.append(np.abs(b - a).ravel())
        return _over(np.concatenate(steps), np.concatenate(borders), np.mean)

    return measured


def noise_correlation() -> Values:
    """Return the measure of the correlation of noise in neighbouring lung voxels.

    It is 1 less the ratio of the mean squared steps over one voxel and over `FAR_LAG` voxels along x. Vessels and walls
    are left out, with two voxels around them.
    """

    def measured(hu: NDArray[np.floating], classes: NDArray[np.uint8]) -> float:
        lung = ~dilated(classes != TissueClass.OTHER, 2.0, (1.0, 1.0, 1.0))
        squares = []
        for lag in (1, FAR_LAG):
            (a, b), (c, d) = _shifted(hu, 2, lag), _shifted(lung, 2, lag)
            squares.append(_over((b - a) ** 2, c & d, np.mean))
        near, far = squares
        return 1 - near / far if far > 0 else np.nan

    return measured


MAP_FIGURES: Mapping[str, Values] = {
    **{f"{own.name.lower()}, mean HU": class_mean(own) for own in TissueClass if own is not TissueClass.OUTSIDE},
    **{f"{own.name.lower()}, SD": class_sd(own) for own in TissueClass if own is not TissueClass.OUTSIDE},
    **{f"{name}, step between slices": step(own, 0) for name, own in STEPPED.items()},
    **{f"{name}, step in a slice": step(own, 2) for name, own in STEPPED.items()},
    "border of lung and soft tissue, step": border_step(),
    "noise in lung, correlation of neighbours": noise_correlation(),
}
"""Name of each measure by which painted and real CT are compared, and the measure."""


def map_figures(cases: Sequence[PaintedCase], *, made: bool) -> dict[str, Interval]:
    """Return every measure of painted or of real CT: the mean over cases, with its interval over patients.

    Args:
        cases: the cases; a measure known for fewer than two patients is left out.
        made: whether to measure the painted CT, and not the real one.
    """
    found = {}
    for name, measure in MAP_FIGURES.items():
        values = np.array([measure((case.made if made else case.real).astype(float), case.classes) for case in cases])
        known = np.isfinite(values)
        patients = np.array([case.patient for case in cases])[known]
        if len(set(patients.tolist())) > 1:
            found[name] = over_seeds([mean_of(values[known])], patients)
    return found


def gives_away(cases: Sequence[PaintedCase], others: NDArray[np.int16]) -> float:
    """Return the share of painted volumes whose most similar real volume is the one of their own label map.

    Similarity is the correlation of the means of blocks.

    Args:
        cases: painted volumes with their real CT.
        others: further real volumes of the same size, HU [n, z, y, x].
    """
    real = np.stack([_coarse(case.real) for case in cases] + [_coarse(hu) for hu in others])
    made = np.stack([_coarse(case.made) for case in cases])
    return float(((_normed(made) @ _normed(real).T).argmax(1) == np.arange(len(made))).mean())


def _over(values: NDArray, where: NDArray[np.bool_], how: Callable[..., np.floating]) -> float:
    chosen = values[where]
    return float(how(chosen)) if len(chosen) >= LEAST_VOXELS else np.nan


def _shifted(values: NDArray, axis: int, lag: int) -> tuple[NDArray, NDArray]:
    """Return the voxels that have a neighbour `lag` further along an axis, and these neighbours."""
    n = values.shape[axis]
    return values.take(range(n - lag), axis), values.take(range(lag, n), axis)


def _coarse(hu: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return the means of a volume's blocks as one row."""
    z, y, x = (n // BLOCK for n in hu.shape)
    whole = hu[: z * BLOCK, : y * BLOCK, : x * BLOCK].astype(np.float64)
    return whole.reshape(z, BLOCK, y, BLOCK, x, BLOCK).mean((1, 3, 5)).ravel()


def _normed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    apart = rows - rows.mean(1, keepdims=True)
    normed: NDArray[np.float64] = apart / np.linalg.norm(apart, axis=1, keepdims=True).clip(1e-9)
    return normed
