"""Synthetic volumes along the label maps of training cases: painted from them, or nodules put into their CT.

Volume i has the same case, the same part of it and the same nodule at the same place, whoever makes it, so that two
sources differ by their voxels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import dilated
from synthorax.anatomy.placement import Ball
from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.progress import with_progress
from synthorax.datasets.store import CaseEntry, Store
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.editing.label_nodules import LabelledNodules, WantedNodules, as_labelled, put_nodules
from synthorax.editing.painting import painted_slabs
from synthorax.errors import InputError
from synthorax.geometry import orient, resample_like
from synthorax.io.atomic import atomic_file
from synthorax.makers import Maker, Method, Painter
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.provenance import fingerprint
from synthorax.rendering.shapes import Shape, ShapeSource
from synthorax.seeding import derive, generator
from synthorax.studies.marked_volumes import ELSE, NODULE, UNCOUNTED, MarkedVolumes
from synthorax.volume import Volume

MADE_RECIPE = 1
"""Raised whenever the same request would give other volumes, so that no old ones are read."""
VOLUMES_A_FILE = 16
"""Volumes of a file; a stopped study loses the work on one of them at most."""
WITH_NODULE = 0.8
"""Share of the volumes that get a nodule (section 4.1.2); the others keep those that their label maps have."""
REMOVED_MM = 2.0
"""The loss takes no notice of voxels this near to a real nodule in CT that a nodule was put into."""
LEAST_LUNG, PLACES = 0.2, 16
"""In a whole scan, the least share of lung in a volume, and the places tried to find it."""


@dataclass(frozen=True, eq=False)
class PlannedVolume:
    """What a synthetic volume is made from.

    Attributes:
        ct: the case's own HU on the volume's grid.
        labelled: its label map with the nodules that it had, and the one put in after them, if there is one.
        nodules_before: how many it had.
    """

    ct: Volume
    labelled: LabelledNodules
    nodules_before: int


@dataclass(frozen=True, eq=False)
class VolumePlan:
    """The synthetic volumes of a study by their number.

    Attributes:
        cases: with label maps, by turns.
        spec: grid of the volumes.
        shapes: of the nodules that are put in.
        key: of the shapes, which tells one plan from another.
    """

    store: Store
    cases: Sequence[CaseEntry]
    spec: PatchSpec
    shapes: ShapeSource
    key: str = ""
    seed: int = 0

    def __call__(self, number: int) -> PlannedVolume:
        """The plan of a volume, a function of the seed and its number; no nodule where none fits."""
        own, case = derive(self.seed, "volume", number), self.store.read(self._case(number).case_id)
        assert case.tissue is not None
        labels = orient(replace(case.ct, voxels=case.tissue), "LPS")
        grid, cut = self._cut(labels, own)
        ct = resample_like(orient(case.ct, "LPS"), grid)
        labelled = as_labelled(cut)
        before = len(labelled.regions)
        if generator(own, "share").random() < WITH_NODULE:
            with suppress(InputError):
                labelled = put_nodules(cut, WantedNodules(1), self.shapes, own)
        return PlannedVolume(ct, labelled, before)

    def patient(self, number: int) -> str:
        """Whose label map a volume has."""
        return self._case(number).patient_id

    def _case(self, number: int) -> CaseEntry:
        order = generator(self.seed, "cases").permutation(len(self.cases))
        return self.cases[int(order[number % len(order)])]

    def _cut(self, labels: Volume, seed: int) -> tuple[Volume, Volume]:
        """The grid of a volume somewhere in a case, and the label map on it."""
        random = generator(seed, "place")
        size, spacing = np.array(self.spec.size), np.array(self.spec.spacing_mm)
        room = np.maximum(np.array(labels.shape) * labels.spacing_mm - size * spacing, 0) / labels.spacing_mm
        for _ in range(PLACES):
            start = np.floor(random.random(3) * (np.floor(room) + 1))  # whole voxels of the case: nothing is blurred
            grid, cut = cut_labels(labels, start, self.spec)
            if (cut.voxels == TissueClass.OTHER).mean() >= LEAST_LUNG:
                break
        return grid, cut


def cut_labels(labels: Volume, start: NDArray[np.float64], spec: PatchSpec) -> tuple[Volume, Volume]:
    """Return the grid of a volume and the label map on it; beyond the map it is outside of the body.

    Args:
        start: index (z, y, x) in the label map of the volume's first voxel.
    """
    x, y, z = labels.to_world(start).tolist()
    grid = Volume(np.broadcast_to(np.uint8(0), spec.size), spec.spacing_mm, (x, y, z), labels.direction)
    return grid, resample_like(labels, grid, nearest=True, fill=int(TissueClass.OUTSIDE))


class FewShapes:
    """Some shapes of a source, each as often as another: the thesis had 15 templates.

    Args:
        count: of the shapes, drawn once.
    """

    heeds: frozenset[str] = frozenset()

    def __init__(self, source: ShapeSource, count: int, seed: int) -> None:
        self.lineage = source.lineage
        self._shapes = [source(NoduleAttributes(), derive(seed, "template", i)) for i in range(count)]

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """One of the shapes."""
        return self._shapes[int(generator(seed, "few").integers(len(self._shapes)))]


MakeVolume = Callable[[PlannedVolume, int], tuple[NDArray[np.int16], NDArray[np.uint8]]]
"""The HU and the marks of a planned volume, by a seed."""


def volume_maker(maker: Maker) -> MakeVolume:
    """How a maker makes volumes: a painter paints their label maps, an injector puts their nodule into the CT.

    Raises:
        InputError: one that does neither.
    """
    if "paints" in maker.roles:
        return _Paints(cast(Painter, maker))
    if "injects" in maker.roles:
        return _Injects(cast(Method, maker))
    raise InputError("model", f"{maker.name}, which {' and '.join(sorted(maker.roles))}", "one that paints or injects")


@dataclass(frozen=True)
class _Paints:
    painter: Painter

    def __call__(self, planned: PlannedVolume, seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        labels = planned.labelled.labels
        hu = np.concatenate([slab for _, slab in painted_slabs(labels, self.painter, seed)])
        return hu, (labels.voxels == TissueClass.NODULE).astype(np.uint8)


@dataclass(frozen=True)
class _Injects:
    method: Method

    def __call__(self, planned: PlannedVolume, seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        marks = np.full(planned.ct.shape, ELSE, np.uint8)
        for region in planned.labelled.regions[: planned.nodules_before]:
            region.paint(marks, UNCOUNTED)
        marks[dilated(marks == UNCOUNTED, REMOVED_MM, planned.ct.spacing_mm)] = UNCOUNTED
        wanted = [self._wanted(nodule) for nodule in planned.labelled.nodules[planned.nodules_before :]]
        try:
            made = inject_nodules(planned.ct, wanted, self.method, seed)
        except InputError:
            return planned.ct.voxels, marks
        for region in made.regions:
            region.paint(marks, NODULE)
        return made.ct.voxels, marks

    def _wanted(self, nodule: Nodule) -> Wanted:
        assert nodule.attributes.diameter_mm
        known = {name: value for name, value in nodule.attributes.given().items() if name in self.method.heeds}
        known.pop("diameter_mm", None)
        place = Ball(nodule.center_mm, nodule.attributes.diameter_mm)
        return Wanted(place, NoduleAttributes(**known), anywhere=True)


@dataclass(frozen=True, eq=False)
class MadeVolumes:
    """The volumes of a plan by one maker, made once and kept; the first ones are the same in a larger set.

    Attributes:
        folder: where they are kept.
        like: what the kept ones are known by: the store and its splits.
    """

    name: str
    maker: Maker
    plan: VolumePlan
    folder: Path
    like: str

    @property
    def key(self) -> str:
        """Of every volume, however many there are."""
        spec, plan = self.plan.spec, self.plan
        parts = (MADE_RECIPE, self.like, self.maker.name, self.maker.lineage.model_sha256, plan.key, plan.seed, spec)
        return fingerprint(repr(parts).encode())[:16]

    def first(self, count: int) -> list[MarkedVolumes]:
        """The first volumes, made where they are missing.

        Raises:
            OutputError: they cannot be written.
        """
        return list(self._parts(count))

    def _parts(self, count: int) -> Iterator[MarkedVolumes]:
        make = volume_maker(self.maker)
        starts = range(0, count, VOLUMES_A_FILE)
        for start in with_progress(starts, self.name, len(starts)):
            numbers = range(start, start + VOLUMES_A_FILE)
            stem = self.folder / f"{self.name.replace(' ', '-')}-{self.key}-{start:05d}"
            hu, marks = (stem.with_name(f"{stem.name}-{what}.npy") for what in ("hu", "marks"))
            found = _kept(hu, marks, self.plan.spec.size)
            if found is None:
                made = [make(self.plan(i), derive(self.plan.seed, "made", i)) for i in numbers]
                self.folder.mkdir(parents=True, exist_ok=True)
                for file, arrays in zip((hu, marks), zip(*made, strict=True), strict=True):
                    with atomic_file(file) as temporary, open(temporary, "wb") as stream:
                        np.lib.format.write_array(stream, np.stack(arrays))
                found = _kept(hu, marks, self.plan.spec.size)
                assert found is not None
            patients = np.array([self.plan.patient(i) for i in numbers])
            yield MarkedVolumes(*found, patients).rows(slice(0, count - start))


def _kept(hu: Path, marks: Path, size: Sequence[int]) -> tuple[NDArray[np.int16], NDArray[np.uint8]] | None:
    """The volumes of two files, which stay on disk; None where they are missing or damaged."""
    try:
        found = [np.load(file, mmap_mode="r", allow_pickle=False) for file in (hu, marks)]
    except (OSError, ValueError, EOFError):
        return None
    fits = all(array.shape == (VOLUMES_A_FILE, *size) for array in found)
    return (found[0], found[1]) if fits and found[0].dtype == np.int16 and found[1].dtype == np.uint8 else None
