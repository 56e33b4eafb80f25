"""Seam, diversity and texture of nodules that any method put into scans: the ways in which in-painters fail silently.

`studies.painted` puts nodules into sites by any method, and `in_painting_figures` measures the edited patches beside
real nodules. Both treat all methods alike, so their measures can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.metrics.appearance import Nodules
from synthorax.metrics.bootstrap import Statistic, UndefinedError, mean_of, patient_bootstrap
from synthorax.metrics.counterparts import like_nodules, like_pairs
from synthorax.metrics.estimates import Estimate
from synthorax.metrics.roughness import (
    InsideAndAround,
    inside_and_around,
    lung_painted,
    quotient_of,
    relative_to_real_of,
    roughness_hu,
)
from synthorax.metrics.seam import Border, Seam, inner_seam_ratio_of, seam_ratio_of, steps_across_spheres_hu
from synthorax.metrics.seed_diversity import distances, diversity_of
from synthorax.nodule import NoduleAttributes
from synthorax.patch import NETWORK_WINDOW_HU
from synthorax.studies.painted import Painted

LEAST_SEED_DIVERSITY = 0.7
"""Goal: the distance of two seeds at one site, in HU and in shape, is at least this share of that of real pairs."""
TEXTURE_WITHIN = 0.15
"""Goal: the roughness of nodules differs from that of real nodules, and the roughness of repainted lung from that of
the scan, by at most this share."""

ROUNDED_SEAM = 5e-3
"""Excess of the seam's quotient over 1 that is not counted as a seam, since rounding to whole HU causes as much."""
INNER_SEAM_WITHIN = 0.1
"""Goal: steps across spheres around a nodule grow by at most this share; around pasted real nodules, by .06."""


@dataclass(frozen=True, eq=False)
class RealNodules:
    """Real nodules, each in the middle of a patch.

    Attributes:
        nodules: HU, masks and spacing. A mask has the outline of one reader, as have those on which methods were
            trained: the union of several readers' outlines has a rougher core.
        attributes, patients: attributes and patient of each nodule, [m].
    """

    nodules: Nodules
    attributes: Sequence[NoduleAttributes]
    patients: NDArray[np.str_]


@dataclass(frozen=True)
class Measured:
    """A measure of a set of patches.

    Attributes:
        n: number of patches it was measured on; for a diversity, number of sites.
        estimate: the value with its 95 % interval over patients; None if too few patches or patients have it.
    """

    n: int
    estimate: Estimate | None


@dataclass(frozen=True)
class InPaintingFigures:
    """Seam, diversity and texture of one method. A quotient is a ratio of two means.

    Attributes:
        seam: quotient of the steps across the border of the region after and before the edit; 1 is no seam.
        seam_hu, own_hu: mean step in HU after and before the edit.
        inner_seam: the same quotient for the sphere around the nodule, inside the region, at which it is largest.
        rank, own_rank: mean share of other places in the scan with smaller steps, after and before the edit.
        diversity_hu, diversity_shape: quotient of the distance of two seeds at one site and that of real pairs.
        texture: quotient of the roughness inside synthetic nodules and of the lung around them before the edit.
        texture_real: the same for real nodules of all sizes and textures.
        texture_to_real: quotient of `texture` and that of similar real nodules; 1 is as in real nodules.
        lung: quotient of the roughness of lung in the region after and before the edit; 1 is as in the scan.
        texture_bare, texture_bare_to_real, lung_bare: `texture`, `texture_to_real` and `lung` of edits whose noise was
            not exchanged for the scan's.
        refused: a sentence for each site and seed at which the method refused to make a nodule.
    """

    seam: Measured
    seam_hu: Measured
    own_hu: Measured
    inner_seam: Measured
    rank: Measured
    own_rank: Measured
    diversity_hu: Measured
    diversity_shape: Measured
    texture: Measured
    texture_real: Measured
    texture_to_real: Measured
    lung: Measured
    texture_bare: Measured
    texture_bare_to_real: Measured
    lung_bare: Measured
    refused: tuple[str, ...]

    def missed(self) -> tuple[str, ...]:
        """Return a sentence for each goal that the method misses or that could not be measured.

        A seam misses its goal if the lower end of its interval lies above the goal.
        """
        goals = {
            "seam": ("at most the scan's own steps, 1", lambda found: found.low <= 1 + ROUNDED_SEAM),
            "inner_seam": (f"at most {1 + INNER_SEAM_WITHIN:g} of the scan's own steps", _hidden),
            "diversity_hu": (f"at least {LEAST_SEED_DIVERSITY:g} of real pairs' distance", _diverse),
            "diversity_shape": (f"at least {LEAST_SEED_DIVERSITY:g} of real pairs' distance", _diverse),
            "texture_to_real": (f"within {TEXTURE_WITHIN:g} of real nodules', 1", _textured),
            "lung": (f"within {TEXTURE_WITHIN:g} of the scan's, 1", _textured),
        }
        found = []
        for name, (goal, reached) in goals.items():
            figure: Measured = getattr(self, name)
            if figure.estimate is None:
                found.append(f"{name} could not be measured on {figure.n} patches or sites; the goal is {goal}")
            elif not reached(figure.estimate):
                found.append(f"{name} is {figure.estimate.value:.2f}; the goal is {goal}")
        return tuple(found)


def _hidden(found: Estimate) -> bool:
    return found.low <= 1 + INNER_SEAM_WITHIN


def _diverse(found: Estimate) -> bool:
    return found.value >= LEAST_SEED_DIVERSITY


def _textured(found: Estimate) -> bool:
    return abs(found.value - 1) <= TEXTURE_WITHIN


def in_painting_figures(made: Painted, real: RealNodules, seed: int = 0) -> InPaintingFigures:
    """Measure seam, diversity and texture of edited patches beside real nodules.

    HU are clipped to `NETWORK_WINDOW_HU` before diversity is measured, because networks cannot make HU outside it.

    Args:
        made: patches into which a method put nodules.
        real: real nodules with the same voxel size.
        seed: seed of the real nodules drawn for comparison, and of the intervals.

    Raises:
        InputError: the real nodules have another voxel size.
    """
    if tuple(real.nodules.spacing_mm) != made.spacing_mm:
        raise InputError(
            "real nodules", f"voxels of {real.nodules.spacing_mm} mm", f"{made.spacing_mm} mm, as the synthetic ones"
        )
    theirs = inside_and_around(real.nodules.hu, real.nodules.masks, made.spacing_mm)
    with_noise = _textures(made, made.after, real, theirs, seed)
    without = None if made.bare is None else _textures(made, made.bare, real, theirs, seed)
    missing = Measured(0, None)
    return InPaintingFigures(
        **_seams(made, seed),
        **diversity_figures(made, real, seed),
        **with_noise,
        texture_real=_measured(
            quotient_of(theirs.inside_hu[theirs.known], theirs.around_hu[theirs.known]) if theirs.known.any() else None,
            real.patients[theirs.known],
            seed,
        ),
        texture_bare=without["texture"] if without else missing,
        texture_bare_to_real=without["texture_to_real"] if without else missing,
        lung_bare=without["lung"] if without else missing,
        refused=made.refused,
    )


def _seams(made: Painted, seed: int) -> dict[str, Measured]:
    found: list[Seam] = []
    for i, region in enumerate(made.regions):
        if not i or not np.array_equal(region, made.regions[i - 1]):  # the seeds of a site share their region
            border = Border.of(region, made.spacing_mm)
        found.append(border.seam(made.before[i], made.after[i]))
    columns = {"seam_hu": "made_hu", "own_hu": "own_hu", "rank": "rank", "own_rank": "own_rank"}
    figures = {"seam": _measured(seam_ratio_of(found), made.owners, seed)}
    for name, column in columns.items():
        values = np.array([getattr(each, column) for each in found])
        known = np.isfinite(values)
        figures[name] = _measured(mean_of(values[known]) if known.any() else None, made.owners[known], seed)
    return figures | {"inner_seam": _inner_seam(made, seed)}


def _inner_seam(made: Painted, seed: int) -> Measured:
    middles = np.array(made.before.shape[1:]) // 2 if made.middles is None else made.middles
    places = np.broadcast_to(middles, (len(made.before), 3))
    rows = zip(made.before, made.after, made.masks, places, made.wanted, strict=True)
    steps = [
        steps_across_spheres_hu(old, new, mask, middle, one.diameter_mm or 0.0, made.spacing_mm)
        for old, new, mask, middle, one in rows
    ]
    known = np.array([bool(np.isfinite(each).any()) for each in steps])
    of_known = [each for each, there in zip(steps, known, strict=True) if there]
    return _measured(inner_seam_ratio_of(of_known) if of_known else None, made.owners[known], seed)


def diversity_figures(made: Painted, real: RealNodules, seed: int = 0) -> dict[str, Measured]:
    """Measure only the diversity of seeds: `diversity_hu` and `diversity_shape` of `InPaintingFigures`.

    Args:
        made, real, seed: see `in_painting_figures`.
    """
    rows = [np.flatnonzero(made.sites == site) for site in range(len(made.asked))]
    several = [site for site, own in enumerate(rows) if len(own) > 1]
    pairs = np.array([pair for site in several for pair in combinations(rows[site].tolist(), 2)]).reshape(-1, 2)
    names = ("diversity_hu", "diversity_shape")
    counterparts = like_pairs([made.asked[site] for site in several], real.attributes, real.patients, seed)
    n = int(counterparts.known.sum())
    if not n:
        return dict.fromkeys(names, Measured(0, None))
    clipped = Nodules(np.clip(made.after, *NETWORK_WINDOW_HU), made.masks, made.spacing_mm)
    own = distances(clipped, pairs)
    apart = distances(replace(real.nodules, hu=np.clip(real.nodules.hu, *NETWORK_WINDOW_HU)), counterparts.real)
    of_site = made.sites[pairs[:, 0]]
    patients = np.concatenate([made.patients[several], real.patients])
    figures = {}
    for name, values, expected in zip(names, (own.hu, own.shape), (apart.hu, apart.shape), strict=True):
        means = np.array([values[of_site == site].mean() for site in several])
        figures[name] = replace(_measured(diversity_of(means, expected, counterparts), patients, seed), n=n)
    return figures


def _textures(
    made: Painted, after: NDArray, real: RealNodules, theirs: InsideAndAround, seed: int
) -> dict[str, Measured]:
    own = inside_and_around(after, made.masks, made.spacing_mm, around=made.before)
    known, there = own.known, theirs.known
    attributes = [one for one, kept in zip(real.attributes, there, strict=True) if kept]
    wanted = [one for one, kept in zip(made.wanted, known, strict=True) if kept]
    counterparts = like_nodules(wanted, attributes, seed)
    relative, quotient = None, None
    if known.any():
        quotient = quotient_of(own.inside_hu[known], own.around_hu[known])
    if counterparts.known.any():
        relative = relative_to_real_of(own.among(known), theirs.among(there), counterparts)
    patients = np.concatenate([made.owners[known], real.patients[there]])
    n = int(counterparts.known.sum())
    return {
        "texture": _measured(quotient, made.owners[known], seed),
        "texture_to_real": replace(_measured(relative, patients, seed), n=n),
        "lung": _lung(made, after, seed),
    }


def _lung(made: Painted, after: NDArray, seed: int) -> Measured:
    pairs = []
    for old, new, region, mask in zip(made.before, after, made.regions, made.masks, strict=True):
        lung = lung_painted(old, new, region, mask, made.spacing_mm)
        pairs.append((roughness_hu(new, lung), roughness_hu(old, lung)))
    values = np.array(pairs)
    known = np.isfinite(values).all(1)
    return _measured(quotient_of(*values[known].T) if known.any() else None, made.owners[known], seed)


def _measured(statistic: Statistic | None, patients: NDArray[np.str_], seed: int) -> Measured:
    if statistic is None or len(np.unique(patients)) < 2:
        return Measured(len(patients), None)
    try:
        return Measured(len(patients), patient_bootstrap(statistic, patients, seed=seed).interval())
    except UndefinedError:
        return Measured(len(patients), None)
