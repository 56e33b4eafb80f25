"""Whether the lung that an eraser painted in a nodule's place is like the lung of its scan: HU, texture and the seam.

Voxels in the shape of the nodule are also measured at healthy sites of the scan, with their vessels. An eraser cannot
be expected to come nearer to the scan's lung than these do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import dilated
from synthorax.datasets.places import HEALTHY_LUNG_HU
from synthorax.errors import InputError
from synthorax.metrics.bootstrap import Statistic, difference, mean_of, patient_bootstrap
from synthorax.metrics.estimates import Equivalence, Estimate
from synthorax.metrics.roughness import quotient_of, roughness_hu
from synthorax.metrics.seam import Border, Seam, seam_ratio_of
from synthorax.studies.erased import ErasedNodule, Erasures
from synthorax.volume import Volume

HEALED_WITHIN_HU = 50.0
"""Margin of equivalence in HU between the distances of erased places and of healthy sites from the scan's lung."""
BESIDE_NODULE_MM = 3.0
"""The scan's lung is measured at least this far, in mm, from the nodule and the edit region, beyond the nodule's
blur."""


@dataclass(frozen=True, eq=False)
class HealedPlace:
    """Measures of one erased nodule's place, of healthy sites of its scan, and of the scan's lung.

    Attributes:
        hu: median HU of the nodule's voxels after the edit.
        roughness: roughness in HU of the same voxels after the edit.
        site_hu, site_roughness: the same for voxels in the shape of the nodule at healthy sites, means over sites.
        lung_hu, lung_roughness: the same for the scan's lung away from the nodule and from the edit region.
        seam: seam at the border of the edit region.
        patient: patient of the scan.
    """

    hu: float
    roughness: float
    site_hu: float
    site_roughness: float
    lung_hu: float
    lung_roughness: float
    seam: Seam
    patient: str


@dataclass(frozen=True)
class HealedFigures:
    """Similarity of the lung that an eraser painted to the lung of the scans.

    Attributes:
        n: number of erased nodules with a healthy site in their scan.
        apart_hu: mean distance in HU between the nodule's place after the edit and the scan's lung.
        site_apart_hu: the same for healthy sites.
        more_hu: `apart_hu` less `site_apart_hu`, tested for equivalence within `HEALED_WITHIN_HU`.
        texture: quotient of the roughness in the nodule's place and that of the scan's lung; None if it can be measured
            for fewer than two patients.
        site_texture: the same for healthy sites.
        seam: quotient of the step across the border of the region after the edit and before it; 1 is no seam.
    """

    n: int
    apart_hu: Estimate
    site_apart_hu: Estimate
    more_hu: Equivalence
    texture: Estimate | None
    site_texture: Estimate | None
    seam: Estimate


def healed_places(erasures: Erasures, sites_mm: Mapping[str, Sequence[Sequence[float]]]) -> list[HealedPlace]:
    """Measure the place of each erased nodule; nodules without a healthy site, or without lung, are left out.

    Args:
        erasures: the erased nodules.
        sites_mm: case id to its healthy places (x, y, z), LPS mm.
    """
    found = []
    for one in erasures.made:
        at_sites = [_at_site(one, center) for center in sites_mm.get(one.site.case_id, ())]
        inside = [values for values in at_sites if values is not None]
        if not inside:
            continue
        mask = one.site.own.within((0, 0, 0), one.site.ct.shape)
        away = ~dilated(mask | one.region, BESIDE_NODULE_MM, one.site.ct.spacing_mm)
        before = one.site.ct.voxels
        lung = away & (before > HEALTHY_LUNG_HU[0]) & (before < HEALTHY_LUNG_HU[1])
        if not lung.any():
            continue
        site_hu, site_roughness = np.mean(inside, 0).tolist()
        border = Border.of(one.region, one.site.ct.spacing_mm)
        found.append(
            HealedPlace(
                float(np.median(one.after.voxels[mask])),
                roughness_hu(one.after.voxels, mask),
                site_hu,
                site_roughness,
                float(np.median(before[lung])),
                roughness_hu(before, lung),
                border.seam(before, one.after.voxels),
                one.site.patient,
            )
        )
    return found


def healed_figures(places: Sequence[HealedPlace], seed: int = 0) -> HealedFigures:
    """Compare the places of erased nodules with healthy sites of the same scans.

    Raises:
        InputError: the places belong to fewer than 2 patients.
    """
    if len({place.patient for place in places}) < 2:
        found = f"{len(places)} places of fewer than 2 patients"
        raise InputError("erased nodules", found, "nodules of 2 or more patients, with healthy sites in their scans")
    patients = np.array([place.patient for place in places])
    own = _column(places, "hu") - _column(places, "lung_hu")
    site = _column(places, "site_hu") - _column(places, "lung_hu")
    apart, site_apart = mean_of(abs(own)), mean_of(abs(site))
    rough, site_rough, lung = (_column(places, name) for name in ("roughness", "site_roughness", "lung_roughness"))
    known = np.isfinite(rough) & np.isfinite(site_rough) & np.isfinite(lung)
    has_texture = len(np.unique(patients[known])) > 1

    def interval(statistic: Statistic, of: NDArray[np.str_] = patients) -> Estimate:
        return patient_bootstrap(statistic, of, seed=seed).interval()

    return HealedFigures(
        n=len(places),
        apart_hu=interval(apart),
        site_apart_hu=interval(site_apart),
        more_hu=patient_bootstrap(difference(apart, site_apart), patients, seed=seed).equivalence(HEALED_WITHIN_HU),
        texture=interval(quotient_of(rough[known], lung[known]), patients[known]) if has_texture else None,
        site_texture=interval(quotient_of(site_rough[known], lung[known]), patients[known]) if has_texture else None,
        seam=interval(seam_ratio_of([place.seam for place in places])),
    )


def _column(places: Sequence[HealedPlace], name: str) -> NDArray[np.float64]:
    return np.array([getattr(place, name) for place in places], np.float64)


def _at_site(one: ErasedNodule, center_mm: Sequence[float]) -> tuple[float, float] | None:
    """Return median HU and roughness of voxels in the nodule's shape at a place; None if they leave the scan."""
    ct: Volume = one.site.ct
    middle = np.rint(ct.to_voxel(one.site.ball.center_mm)).astype(int)
    corner = np.array(one.site.own.corner) + np.rint(ct.to_voxel(center_mm)).astype(int) - middle
    if (corner < 0).any() or (corner + one.site.own.shape > ct.shape).any():
        return None
    box = tuple(slice(a, a + n) for a, n in zip(corner.tolist(), one.site.own.shape, strict=True))
    hu = ct.voxels[box]
    return float(np.median(hu[one.site.own.mask])), roughness_hu(hu, one.site.own.mask)
