"""Whole chests without outlined nodules: their look-alikes, places for nodules, and detectors' marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.placement import Clearance, Placement
from synthorax.datasets.injected import put_into_sites
from synthorax.datasets.patches import Place, read_patch
from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError
from synthorax.makers import Method
from synthorax.nodule import NoduleAttributes
from synthorax.patch import NEGATIVE, POSITIVE, PatchSpec
from synthorax.provenance import fingerprint
from synthorax.seeding import derive
from synthorax.studies.chest_places import ChestMap, LookAlike
from synthorax.tasks.classification import Classification
from synthorax.tasks.scanning import find_nodules
from synthorax.volume import Volume

MOST_OF_KIND = 60
"""Most look-alikes of each kind taken from a chest."""
MOST_FALSE_ALARMS = 100
"""Most false alarms of a detector taken from a chest."""
EACH_ALONE = Clearance(nodule_mm=None)
"""Distances that an injected nodule keeps. It keeps none from other injected nodules, since each is put into the
unedited chest."""
PLACE_TURNS = 3
"""Most chests in which a place for a nodule is searched."""


@dataclass(frozen=True, eq=False)
class UnmarkedChests:
    """Some whole chests of a store.

    Attributes:
        store: the store.
        cases: the chests.
    """

    store: Store
    cases: tuple[CaseEntry, ...]

    @property
    def key(self) -> str:
        """Hash of the chests' voxels."""
        return fingerprint(repr([case.sha256 for case in self.cases]).encode())

    @property
    def patients(self) -> NDArray[np.str_]:
        """Patient of each chest, [n]."""
        return np.array([case.patient_id for case in self.cases])

    @cached_property
    def maps(self) -> list[ChestMap]:
        """Healthy places and look-alikes of each chest."""
        return [ChestMap(find_lungs(self.ct(i))) for i in range(len(self.cases))]

    def ct(self, number: int) -> Volume:
        """Return a chest, HU."""
        return self.store.read(self.cases[number].case_id).ct

    @cached_property
    def look_alikes(self) -> list[list[LookAlike]]:
        """Look-alikes of each chest."""
        return [each.look_alikes(MOST_OF_KIND) for each in self.maps]

    def patches(self, places_mm: Sequence[Sequence[Sequence[float]]], spec: PatchSpec) -> NDArray[np.int16]:
        """Return patches around places (x, y, z) of each chest, chest by chest, int16 HU [n, z, y, x]."""
        found = [self.patch(i, at, spec) for i, places in enumerate(places_mm) for at in places]
        return np.stack(found) if found else np.zeros((0, *spec.size), np.int16)

    def patch(self, number: int, center_mm: Sequence[float], spec: PatchSpec) -> NDArray[np.int16]:
        """Return the patch around a place (x, y, z) of a chest, int16 HU [z, y, x]."""
        case, (x, y, z) = self.cases[number], center_mm
        place = Place(case.case_id, case.patient_id, (x, y, z), None, NEGATIVE)
        return np.rint(read_patch(self.store, place, spec)[0].voxels).astype(np.int16)

    def marks(self, task: Classification) -> NDArray[np.float64]:
        """Return a detector's marks at healthy places: rows of chest number, x, y, z in mm and score, [c, 5]."""
        found = [np.zeros((0, 5))]
        for i, each in enumerate(self.maps):
            marks = find_nodules(task, self.ct(i), each.known)
            marks = marks[each.is_healthy(marks[:, :3])]
            found.append(np.column_stack([np.full(len(marks), i), marks]))
        return np.concatenate(found)

    def false_alarms_mm(self, task: Classification) -> list[list[tuple[float, float, float]]]:
        """Return the healthy places (x, y, z) of each chest that a detector calls nodules, those with top scores."""
        marks = self.marks(task)
        found = []
        for i in range(len(self.cases)):
            own = marks[(marks[:, 0] == i) & (marks[:, 4] > 0)][:MOST_FALSE_ALARMS]
            found.append([(float(x), float(y), float(z)) for x, y, z in own[:, 1:4]])
        return found

    def nodule_places(self, diameters_mm: Sequence[float], seed: int) -> list[tuple[int, Place] | None]:
        """Find a place in the lungs for each nodule, as `inject --auto` does; chests are used in turn.

        Returns:
            Chest number and place of each nodule, or None if no chest that was tried has room for it.
        """
        rooms = [Placement(each.lungs) for each in self.maps]
        found: list[tuple[int, Place] | None] = []
        for i, mm in enumerate(diameters_mm):
            one: tuple[int, Place] | None = None
            for turn in range(min(PLACE_TURNS, len(rooms))):
                chest = (i + turn) % len(rooms)
                try:
                    ball = rooms[chest].find(mm, derive(seed, "place", i, turn), clearance=EACH_ALONE)
                except InputError:
                    continue
                case = self.cases[chest]
                one = (chest, Place(case.case_id, case.patient_id, ball.center_mm, None, POSITIVE))
                break
            found.append(one)
        return found

    def with_nodules(
        self, method: Method, nodules: Sequence[NoduleAttributes], spec: PatchSpec, seed: int
    ) -> NDArray[np.int16]:
        """Inject nodules into the chests and return the patches around them, int16 HU [n, z, y, x].

        A nodule that fits nowhere, or that the method refuses, is left out.
        """
        places = self.nodule_places([one.diameter_mm or 0.0 for one in nodules], seed)
        sites, diameters = [], []
        for i, (one, place) in enumerate(zip(nodules, places, strict=True)):
            if place is not None:
                heeded = {name: value for name, value in one.given().items() if name in method.heeds}
                sites.append((place[1], NoduleAttributes(**heeded), derive(seed, "put in", i)))
                diameters.append(float(one.diameter_mm or 0.0))
        hu, masks = put_into_sites(self.store, sites, diameters, spec, (0, 0, 0), method, None)
        return np.asarray(hu[masks.any((1, 2, 3))])
