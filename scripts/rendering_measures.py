"""The measurements of rendered and real nodules, for `results_rendering.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rendering_sites import SIZE, Job, Real
from synthorax import hub
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.metrics.appearance import EDGES_MM, Nodules, mean_hu, profiles
from synthorax.metrics.bootstrap import Statistic, patient_bootstrap
from synthorax.metrics.contrast import invisible
from synthorax.metrics.distances import kid, kid_of_all
from synthorax.metrics.estimates import Estimate
from synthorax.metrics.features import Features
from synthorax.scanner import measure_scanner
from synthorax.shapes.diameter import axial_diameters_mm
from synthorax.studies.conditions import half_widths_mm, rank_correlation_of
from synthorax.studies.fidelity import Patches
from synthorax.studies.told_apart import Controls, Judged, smallest_auc
from synthorax.tasks.features.system import FeatureNet
from synthorax.volume import Volume

MM = (1.0, 1.0, 1.0)
EXTRACTOR = "features-24mm"
KINDS = ("solid", "part-solid", "ground glass", "calcified")
DENSE_HU = -500
"""Voxels denser than this before the edit count as walls and vessels, and are left out of the shell around a nodule."""
RIM_MM, HIDDEN_HU = 2.0, -800
"""Margin in mm with which “the nodule alone” is shown, and HU of the hidden voxels of its patch."""
View = Literal["whole", "nodule alone", "surroundings alone"]
VIEWS: tuple[View, ...] = get_args(View)
CUBE_HU = (-1024, 1023)
"""The HU that the cubes of luna16-nodules are clipped to."""
LEAST = 4
"""Least number of nodules for which a class has figures."""


@dataclass(frozen=True, eq=False)
class Made:
    """The nodules that a version of the renderer made, one for each job.

    Attributes:
        hu: HU, int16 [n, z, y, x], clipped like the cubes of the real nodules.
        mask: bool [n, z, y, x].
        visible: whether the version reports the nodule as visible, bool [n].
        notes: notes on each nodule, one text each, [n].
    """

    hu: NDArray[np.int16]
    mask: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    notes: NDArray[np.str_]

    @classmethod
    def of(cls, file: Path) -> Made:
        """Read the file of `rendering_made.py`."""
        found = np.load(file)
        return cls(found["hu"].clip(*CUBE_HU), found["mask"], found["visible"], found["notes"])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Real nodules, and the rendered one of each.

    Attributes:
        owners: the patient of each real nodule, [n].
        hosts: the patient of the scan with each rendered nodule, [n].
        hu, mask, outline: HU, masks and outlines of the real nodules, [n, z, y, x].
        before: HU of the places before the rendered nodules were added, [n, z, y, x].
    """

    reals: Sequence[Real]
    jobs: Sequence[Job]
    owners: NDArray[np.str_]
    hosts: NDArray[np.str_]
    hu: NDArray[np.int16]
    mask: NDArray[np.bool_]
    outline: NDArray[np.bool_]
    before: NDArray[np.int16]

    @classmethod
    def of(cls, every: Sequence[Real], jobs: Sequence[Job]) -> Pairs:
        """Return the real nodules of jobs, which refer to a list of all."""
        reals = [every[job.real] for job in jobs]
        hu, mask, outline = (np.stack(part) for part in zip(*(real.patch for real in reals), strict=True))
        half = SIZE // 2
        before = np.stack([every[job.cube].hu[tuple(slice(c - half, c + half) for c in job.center)] for job in jobs])
        owners, hosts = np.array([real.patient for real in reals]), np.array([every[job.cube].patient for job in jobs])
        return cls(reals, jobs, owners, hosts, hu, mask, outline, before)

    @property
    def real(self) -> Patches:
        """The real patches."""
        return Patches(self.hu.astype(np.float32), self.owners)

    def made(self, made: Made) -> Patches:
        """The rendered patches, each with the patient of the surrounding scan."""
        return Patches(made.hu.astype(np.float32), self.hosts)

    def rows(self, kind: str, split: str = "") -> NDArray[np.bool_]:
        """Return which nodules are of a class, or `all` or `spiculated`, and of a split (all if empty), bool [n]."""
        inside = [kind in ("all", real.kind) or (kind == "spiculated" and real.spiculated) for real in self.reals]
        return np.array([here and split in ("", real.split) for here, real in zip(inside, self.reals, strict=True)])

    def seen(self, patches: Patches, view: View) -> Patches:
        """Return patches that show everything, only the nodule's ball with a margin of `RIM_MM`, or everything else.

        The ball is that of the real nodule's mask; hidden voxels have `HIDDEN_HU`.
        """
        if view == "whole":
            return patches
        away = np.sqrt(((np.indices((SIZE,) * 3) - SIZE // 2) ** 2).sum(0))
        ball = away <= np.array([real.chord_mm / 2 + RIM_MM for real in self.reals])[:, None, None, None]
        shown = ball if view == "nodule alone" else ~ball
        return Patches(np.where(shown, patches.hu, HIDDEN_HU).astype(np.float32), patches.patients)


def interval(found: Estimate) -> list[float]:
    """Return value, low and high in a form for JSON."""
    return [round(float(value), 4) for value in (found.value, found.low, found.high)]


def told_apart_figures(pairs: Pairs, judged: Judged, split: str = "") -> dict[str, Any]:
    """Return AUCs by class and the smallest detectable one; None for a class with too few nodules or patients."""
    found: dict[str, Any] = {}
    for kind in ("all", *KINDS, "spiculated"):
        rows = pairs.rows(kind, split)
        n = int(rows.sum())
        found[kind] = {"n": n, "smallest": round(smallest_auc(n, n), 3) if n else None, "auc": None}
        if n >= LEAST:
            with suppress(InputError):
                found[kind]["auc"] = interval(judged.auc(np.tile(rows, 2)))
    return found


def control_figures(known: Controls) -> dict[str, Any]:
    """Return the two controls."""
    same, blurred = known.same, known.blurred
    return {
        "same": interval(same.auc()),
        "blurred": interval(blurred.auc()),
        "n": [int((each.labels == 1).sum()) for each in (same, blurred)],
        "void": known.void,
    }


def kids(sets: Mapping[str, tuple[Patches, Patches]]) -> dict[str, list[float]]:
    """Return KID x 1000 of the first patches to the second, and bounds that contain 95 % of subsets of half of them."""
    model = hub.load(EXTRACTOR)
    assert isinstance(model.system, FeatureNet)
    features = model.system.extractor(EXTRACTOR, model.sha256)
    seen: dict[int, Features] = {}
    found = {}
    for name, pair in sets.items():
        for each in pair:
            if id(each) not in seen:
                seen[id(each)] = features(each.hu, MM)
        made, real = (seen[id(each)] for each in pair)
        subsets = kid(real, made, seed=0)
        values = (kid_of_all(real, made).value, subsets.low or 0.0, subsets.high or 0.0)
        found[name] = [round(1000 * value, 1) for value in values]
    return found


def curves(pairs: Pairs, hu: NDArray, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return profiles and HU by class."""
    found: dict[str, Any] = {}
    for kind in (*KINDS, "spiculated"):
        rows = pairs.rows(kind) & mask.any((1, 2, 3))
        if rows.sum() < LEAST:
            continue
        nodules = Nodules(hu[rows].astype(np.float32), mask[rows], MM)
        single, means = profiles(nodules), mean_hu(nodules)
        within = np.array([float(hu[i][mask[i]].std()) for i in np.flatnonzero(rows)])
        reached = np.isfinite(single).sum(0) >= max(3, len(single) / 5)
        curve = [float(np.nanmedian(column)) if r else None for column, r in zip(single.T, reached, strict=True)]
        inner = np.array([value if value is not None else np.nan for value in curve])[np.array(EDGES_MM[:-1]) < -2]
        deep = float(np.nanmedian(inner)) if np.isfinite(inner).any() else None
        found[kind] = {
            "n": int(rows.sum()),
            "hu": round(float(np.median(means)), 1),
            "spread": round(float(np.std(means)), 1),
            "within": round(float(np.median(within)), 1),
            "deep": deep,
            "curve": curve,
        }
    return found


def diameters(hu: NDArray, mask: NDArray[np.bool_], asked: NDArray[np.float64], units: NDArray) -> dict[str, Any]:
    """Return requested or stated diameters and measured ones, by the half-width of the profile and by the mask."""
    half, own = half_widths_mm(np.clip(hu, -1000, 400), MM), np.nan_to_num(axial_diameters_mm(mask, MM))
    return {
        "half-width": interval(_rank(asked, half, units)),
        "mask": interval(_rank(asked, own, units)),
        "median asked, half-width, mask": [round(float(np.median(each)), 2) for each in (asked, half, own)],
    }


def _rank(first: NDArray[np.float64], second: NDArray[np.float64], units: NDArray) -> Estimate:
    statistic: Statistic = rank_correlation_of(first, second)
    return patient_bootstrap(statistic, units, replicates=1000).interval()


def unseen(
    pairs: Pairs, every: Sequence[Real], made: Made, asked_mm: NDArray[np.float64], kinds: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return by class the number of nodules that do not differ from their surroundings, and of those without a note."""
    noise = np.array([noise_hu_of(every[job.cube]) for job in pairs.jobs])
    hidden = invisible(made.hu, asked_mm, noise, MM, (pairs.before > DENSE_HU) | made.mask, middles_of(made.mask))
    own = np.array([noise_hu_of(real) for real in pairs.reals])
    chords = np.array([real.chord_mm for real in pairs.reals])
    # A real nodule's walls and vessels are not known without it, so all that is dense beyond its mask is left out.
    real = invisible(pairs.hu, chords, own, MM, (pairs.hu > DENSE_HU) | pairs.mask, middles_of(pairs.mask))
    return {
        kind: {
            "n": int((here := pairs.rows(kind)).sum()),
            "real": int((real & here).sum()),
            "made": int((hidden & here).sum()),
            "without a note": int((hidden & made.visible & here).sum()),
            "noted": int((~made.visible & here).sum()),
        }
        for kind in kinds
    }


def middles_of(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean indices of masks [n, z, y, x]; the centre of the patch for an empty one."""
    middle = (np.array(masks.shape[1:]) - 1) / 2
    return np.array([np.argwhere(mask).mean(0) if mask.any() else middle for mask in masks])


@cache
def noise_hu_of(real: Real) -> float:
    """Return the standard deviation of the noise in a nodule's cube."""
    return measure_scanner(Volume(real.hu, MM)).noise_hu


def judged_file(view: View) -> str:
    """Return the name of a verdict's file."""
    return f"judged-{view.replace(' ', '-')}.npz"


def write_judged(file: Path, judged: Judged) -> None:
    """Keep a verdict."""
    with atomic_file(file) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **vars(judged))


def read_judged(file: Path) -> Judged:
    """Return a verdict that `write_judged` kept."""
    found = np.load(file)
    return Judged(**{name: found[name] for name in ("labels", "scores", "patients", "folds")})
