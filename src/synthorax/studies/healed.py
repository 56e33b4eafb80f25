"""Whether lung in the place of an erased nodule is like the lung of its scan: HU, texture and the seam.

The same voxels are looked at elsewhere in the scan, where no nodule is: an eraser cannot come nearer to the scan's lung
than the scan itself does, with its vessels.
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
"""Margin of equivalence: distances from the scan's lung that differ by less than this are taken for the same."""
BESIDE_NODULE_MM = 3.0
"""Lung of the scan is measured this far from the nodule's voxels, beyond the blur of its edge."""


@dataclass(frozen=True, eq=False)
class HealedPlace:
    """Lung in the place of a nodule beside the lung of its scan.

    Attributes:
        hu: median HU of the nodule's voxels after the edit.
        roughness: of the same voxels after the edit, in HU.
        site_hu, site_roughness: of as many voxels of the same shape at a healthy site, means over such sites.
        lung_hu, lung_roughness: of the scan's lung away from the nodule and from the edit.
        seam: at the border of the edit region.
        patient: whose scan it is.
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
    """How like the lung of its scan the lung is that an eraser made.

    Attributes:
        n: nodules that were taken out, and have a healthy site in their scan.
        apart_hu: mean distance of the HU in the nodule's place from that of the scan's lung.
        site_apart_hu: the same at healthy sites.
        more_hu: the first less the second, tested for equivalence.
        texture: roughness in the nodule's place over that of the scan's lung; None where no nodule is wide enough.
        site_texture: the same at healthy sites.
        seam: step across the border of the region after the edit over that before it; 1 is no seam.
    """

    n: int
    apart_hu: Estimate
    site_apart_hu: Estimate
    more_hu: Equivalence
    texture: Estimate | None
    site_texture: Estimate | None
    seam: Estimate


def healed_places(erasures: Erasures, sites_mm: Mapping[str, Sequence[Sequence[float]]]) -> list[HealedPlace]:
    """Measure the place of each erased nodule; those without a healthy site in their case are left out.

    Args:
        sites_mm: healthy places (x, y, z) of each case, by its id.
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
        InputError: fewer than 2 patients.
    """
    if len({place.patient for place in places}) < 2:
        found = f"{len(places)} places of fewer than 2 patients"
        raise InputError("erased nodules", found, "of 2 or more patients, with healthy sites in their scans")
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
    """Median HU and roughness of voxels of the nodule's shape at a place; None where they reach beyond the scan."""
    ct: Volume = one.site.ct
    middle = np.rint(ct.to_voxel(one.site.ball.center_mm)).astype(int)
    corner = np.array(one.site.own.corner) + np.rint(ct.to_voxel(center_mm)).astype(int) - middle
    if (corner < 0).any() or (corner + one.site.own.shape > ct.shape).any():
        return None
    box = tuple(slice(a, a + n) for a, n in zip(corner.tolist(), one.site.own.shape, strict=True))
    hu = ct.voxels[box]
    return float(np.median(hu[one.site.own.mask])), roughness_hu(hu, one.site.own.mask)
