"""Painted CT against the real CT of its label maps: HU by class, steps from slice to slice, borders and noise."""

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
"""A class of fewer voxels in a case says nothing of it."""
FAR_LAG = 3
"""Voxels between two of lung whose noise has little in common."""
BLOCK = 4
"""Voxels along each axis whose mean stands for them where images are compared as wholes."""


@dataclass(frozen=True, eq=False)
class PaintedCase:
    """A label map, the CT that it was made from, and the CT that was painted from it, on one grid.

    Attributes:
        classes: uint8 of `TissueClass` [z, y, x].
        real, made: HU [z, y, x].
    """

    classes: NDArray[np.uint8]
    real: NDArray[np.int16]
    made: NDArray[np.int16]
    patient: str

    @property
    def error_hu(self) -> float:
        """Mean absolute difference of painted from real CT."""
        return float(np.abs(self.made.astype(np.int32) - self.real).mean())


def paint_cases(
    store: Store, cases: Sequence[CaseEntry], painter: Painter, spec: PatchSpec, seed: int = 0
) -> list[PaintedCase]:
    """Paint the label map in the middle of each case."""
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
"""A figure of HU [z, y, x] and the classes of their voxels; NaN where there is too little of a class."""


def class_mean(own: TissueClass) -> Values:
    """Mean HU of a class."""
    return lambda hu, classes: _over(hu, classes == own, np.mean)


def class_sd(own: TissueClass) -> Values:
    """Standard deviation of the HU of a class."""
    return lambda hu, classes: _over(hu, classes == own, np.std)


def step(own: TissueClass, axis: int, lag: int = 1) -> Values:
    """Mean absolute difference in HU of voxels of a class that lie next to each other along an axis (0 is z)."""

    def measured(hu: NDArray[np.floating], classes: NDArray[np.uint8]) -> float:
        first, second = (_shifted(each, axis, lag) for each in (hu, classes == own))
        return _over(np.abs(first[1] - first[0]), second[0] & second[1], np.mean)

    return measured


def border_step() -> Values:
    """Mean absolute difference in HU of neighbours in a slice, one of lung and one of soft tissue: sharpness."""

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
    """Correlation of neighbours' noise in lung: 1 less the ratio of squared steps over one voxel to those over three.

    Vessels and walls are left out, with two voxels around them.
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
"""What painted CT is compared with real CT by."""


def map_figures(cases: Sequence[PaintedCase], *, made: bool) -> dict[str, Interval]:
    """Every figure of painted or of real CT: the mean over cases, and its interval over patients."""
    found = {}
    for name, measure in MAP_FIGURES.items():
        values = np.array([measure((case.made if made else case.real).astype(float), case.classes) for case in cases])
        known = np.isfinite(values)
        patients = np.array([case.patient for case in cases])[known]
        if len(set(patients.tolist())) > 1:
            found[name] = over_seeds([mean_of(values[known])], patients)
    return found


def gives_away(cases: Sequence[PaintedCase], others: NDArray[np.int16]) -> float:
    """Share of painted volumes that are more like the real CT of their own label map than like any other real one.

    Args:
        others: HU [n, z, y, x] of further real volumes of the same size.
    """
    real = np.stack([_coarse(case.real) for case in cases] + [_coarse(hu) for hu in others])
    made = np.stack([_coarse(case.made) for case in cases])
    return float(((_normed(made) @ _normed(real).T).argmax(1) == np.arange(len(made))).mean())


def _over(values: NDArray, where: NDArray[np.bool_], how: Callable[..., np.floating]) -> float:
    chosen = values[where]
    return float(how(chosen)) if len(chosen) >= LEAST_VOXELS else np.nan


def _shifted(values: NDArray, axis: int, lag: int) -> tuple[NDArray, NDArray]:
    """Each voxel and the one `lag` further along an axis."""
    n = values.shape[axis]
    return values.take(range(n - lag), axis), values.take(range(lag, n), axis)


def _coarse(hu: NDArray[np.int16]) -> NDArray[np.float64]:
    """Means of blocks, as a row."""
    z, y, x = (n // BLOCK for n in hu.shape)
    whole = hu[: z * BLOCK, : y * BLOCK, : x * BLOCK].astype(np.float64)
    return whole.reshape(z, BLOCK, y, BLOCK, x, BLOCK).mean((1, 3, 5)).ravel()


def _normed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    apart = rows - rows.mean(1, keepdims=True)
    normed: NDArray[np.float64] = apart / np.linalg.norm(apart, axis=1, keepdims=True).clip(1e-9)
    return normed
