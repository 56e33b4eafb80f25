"""Detectors' responses to injected and erased nodules of held-out patients, to real nodules and to healthy lung."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from in_painting_made import CODE, Making, code_of
from in_painting_sheets import Sheet, drawn_sheet, write_sheet
from known_sites import SEED, WORK, kept
from rendering_measures import interval
from synthorax import hub
from synthorax.datasets.case import Split
from synthorax.datasets.lineage import check_unseen
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.makers import Method
from synthorax.metrics.estimates import Equivalence, Estimate
from synthorax.patch import NEGATIVE
from synthorax.provenance import fingerprint, making_key
from synthorax.studies.baselines import detection_splits
from synthorax.studies.detection import DETECTION_STRATA_MM
from synthorax.studies.erased import Erasures, NoduleSite, erased, nodule_sites
from synthorax.studies.healed import HealedFigures, healed_figures, healed_places
from synthorax.studies.responses import Detectors, Rated, called_apart, patch_around, way_left
from synthorax.studies.trials import Study
from synthorax.tasks.config import DETECTION

DETECTORS, QUICK_DETECTORS = 3, 1
"""Number of trainings of the detector, whose mean log odds count."""
ERASER_INPUTS = {True: "given the nodule's voxels", False: "given its place and diameter"}
"""The information on a nodule that an eraser gets."""


@dataclass(frozen=True, eq=False)
class Judging:
    """Detectors that are trained on real training patients, and their responses to real nodules and healthy sites.

    Attributes:
        split: split of the patients to test on.
        out: folder that keeps erased patches.
    """

    store: Store
    split: Split
    n: int
    out: Path

    @cached_property
    def _splits_and_detectors(self) -> tuple[Any, Detectors]:
        study = Study(self.store, WORK / "detectors", range(self.n), "cpu")
        config = DETECTION["compact"]
        splits = detection_splits(study, config)
        return splits, Detectors.trained(study, config, splits)

    @property
    def detectors(self) -> Detectors:
        """The detectors."""
        found: Detectors = self._splits_and_detectors[1]
        return found

    @cached_property
    def sites(self) -> list[NoduleSite]:
        """The outlined nodules."""
        return nodule_sites(self.store, self.split)

    @cached_property
    def healthy_mm(self) -> dict[str, list[tuple[float, float, float]]]:
        """Places without a nodule (x, y, z) in the scans of the nodules, by case."""
        patches = getattr(self._splits_and_detectors[0], self.split)
        own = {site.case_id for site in self.sites}
        found: dict[str, list[tuple[float, float, float]]] = {}
        for place in patches.places:
            if place.label == NEGATIVE and place.case_id in own:
                found.setdefault(place.case_id, []).append(place.center_mm)
        return found

    @cached_property
    def nodules(self) -> Rated:
        """The responses to the nodules."""
        places = [(site.ct, site.ball.center_mm) for site in self.sites]
        return self.detectors.rated(places, [site.patient for site in self.sites])

    @cached_property
    def healthy(self) -> Rated:
        """The responses at the healthy places."""
        first = {site.case_id: site for site in reversed(self.sites)}
        places = [(first[case_id], center) for case_id, centers in self.healthy_mm.items() for center in centers]
        return self.detectors.rated([(site.ct, at) for site, at in places], [site.patient for site, _ in places])

    def erased(self, name: str, method: Method, *, with_masks: bool) -> Erasures:
        """Return a method's results for the nodules, which are kept."""
        content = [making_key(method), self.store.fingerprint, self.split, str(with_masks)]
        key = fingerprint("\n".join(content).encode() + code_of(CODE))[:16]
        file = self.out / "made" / f"{name}-erased-{key}.pickle"
        return kept(file, lambda: erased(method, self.sites, SEED, with_masks=with_masks))


def named_erasers(asked: Sequence[str], store: Store) -> dict[str, Method]:
    """Return erasers by their names.

    Args:
        asked: `NAME=MODEL`, or a model, whose system names it.

    Raises:
        InputError: two erasers have the same name, or an eraser was trained on a held-out patient.
    """
    found: dict[str, Method] = {}
    for text in asked:
        name, _, what = text.rpartition("=")
        method = cast(Method, hub.find(what, "erases"))
        check_unseen(method.lineage, store)
        name = name or method.name
        if name in found:
            raise InputError("erasers", f"{name} twice", "NAME=ERASER, with a name of its own for each")
        found[name] = method
    return found


def erased_rows(judging: Judging, made: Erasures) -> dict[str, Any]:
    """Return detectors' responses before and after an erasure and at healthy sites, and the similarity of the lung."""
    cut = judging.detectors.cut
    after = judging.detectors.rated([(one.after, one.site.ball.center_mm) for one in made.made], made.patients.tolist())
    before = judging.nodules.among(np.array([one.number for one in made.made]))
    kinds = {"nodules": before, "the same places, erased": after, "healthy sites": judging.healthy}
    return {
        "n": len(made.made),
        "refused": list(made.refused),
        "doubted": sum(one.is_doubted for one in made.made),
        **_responses(kinds, cut),
        "way left": _equivalence(way_left(after, judging.healthy, before, SEED)),
        "called more": _equivalence(called_apart(after, judging.healthy, cut, SEED)),
        "by size": _by_size(made.diameters_mm, {"before": before, "after": after}, cut),
        "healed": _healed(healed_figures(healed_places(made, judging.healthy_mm), SEED)),
    }


def injected_rows(judging: Judging, making: Making) -> dict[str, Any]:
    """Return detectors' responses to nodules added at healthy sites, and to real nodules of the same diameters."""
    places, made = making.places, making.twins
    jobs = [places.jobs[site] for site in made.sites.tolist()]
    rows = np.flatnonzero([places.every[job.real].split == judging.split for job in jobs])
    chosen, own = made.rows(rows), [places.every[jobs[row].real] for row in rows.tolist()]
    size = judging.detectors.spec.size
    corner = [(n - m) // 2 for n, m in zip(own[0].hu.shape, size, strict=True)]
    box = tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))
    real_hu = np.stack([real.hu[box] for real in own])
    real = Rated(judging.detectors.log_odds(real_hu), np.array([one.patient for one in own]))
    after, before = (
        Rated(judging.detectors.log_odds(chosen.around(hu, size)), chosen.owners)
        for hu in (chosen.after, chosen.before)
    )
    cut, kinds = judging.detectors.cut, {"real nodules": real, "injected": after, "the same sites before": before}
    diameters = np.array([one.asked_mm for one in own])
    return {
        "n": len(rows),
        "refused": list(made.refused),
        **_responses(kinds, cut),
        "way left": _equivalence(way_left(after, real, before, SEED)),
        "called more": _equivalence(called_apart(after, real, cut, SEED)),
        "by size": _by_size(diameters, {"real": real, "injected": after}, cut),
    }


def erased_sheet(judging: Judging, made: Erasures, name: str, out: Path) -> Sheet:
    """Write a contact sheet of erased places and healthy sites of other scans, and its key."""
    with_site = [one for one in made.made if judging.healthy_mm.get(one.site.case_id)]
    sheet = drawn_sheet(np.array([one.site.ball.diameter_mm for one in with_site]), name, SEED)
    spec = judging.detectors.spec

    def shown(real: bool, number: int) -> tuple[NDArray, NDArray, str]:
        one = with_site[number]
        at = judging.healthy_mm[one.site.case_id][0] if real else one.site.ball.center_mm
        hu = patch_around(one.site.ct if real else one.after, at, spec)[spec.size[0] // 2]
        text = "healthy" if real else f"erased, {one.site.ball.diameter_mm:.0f} mm"
        return hu, np.zeros(hu.shape, bool), text

    write_sheet(sheet, shown, spec.size[1], out, f"{name}-erased")
    return sheet


def _responses(kinds: Mapping[str, Rated], cut: float) -> dict[str, Any]:
    return {
        "log odds": {name: interval(one.mean(SEED)) for name, one in kinds.items()},
        "called": {name: interval(one.called(cut, SEED)) for name, one in kinds.items()},
        "places": {name: len(one.log_odds) for name, one in kinds.items()},
    }


def _by_size(diameters_mm: NDArray[np.float64], kinds: Mapping[str, Rated], cut: float) -> dict[str, Any]:
    """Return mean log odds and the share called nodules, for the nodules in each stratum of diameter."""
    found = {}
    for name, (low, high) in DETECTION_STRATA_MM.items():
        rows = (diameters_mm >= low) & (diameters_mm < high)
        means = {
            kind: [float(one.log_odds[rows].mean()), float((one.log_odds[rows] >= cut).mean())]
            for kind, one in kinds.items()
            if rows.any()
        }
        found[name] = {"n": int(rows.sum()), **means}
    return found


def _healed(found: HealedFigures) -> dict[str, Any]:
    def of(estimate: Estimate | None) -> list[float] | None:
        return None if estimate is None else interval(estimate)

    return {
        "n": found.n,
        "apart": of(found.apart_hu),
        "site apart": of(found.site_apart_hu),
        "more": _equivalence(found.more_hu),
        "texture": of(found.texture),
        "site texture": of(found.site_texture),
        "seam": of(found.seam),
    }


def _equivalence(found: Equivalence) -> dict[str, Any]:
    value = interval(Estimate(found.difference, found.low, found.high))
    return {"value": value, "margin": found.margin, "p": round(found.p, 4), "equivalent": found.equivalent}
