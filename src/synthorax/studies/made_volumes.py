"""Synthetic volumes from training cases: CT painted from their label maps, or their CT with injected nodules.

Volume i comes from the same part of the same case, and has the same nodule at the same place, for every maker. So the
sets of two makers differ only in their voxels.
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
from synthorax.provenance import fingerprint, making_key
from synthorax.rendering.shapes import Shape, ShapeSource
from synthorax.seeding import derive, generator
from synthorax.studies.marked_volumes import ELSE, NODULE, UNCOUNTED, MarkedVolumes
from synthorax.volume import Volume

MADE_RECIPE = 1
"""Version of the recipe, part of the volumes' hash; raise it when the same request would give other volumes, so that
files with the old ones are not read."""
VOLUMES_A_FILE = 16
"""Number of volumes in one file; a study that is stopped loses the work on one file at most."""
WITH_NODULE = 0.8
"""Share of the volumes that get a nodule (Hagvall Hörnstedt, section 4.1.2); the others have only those of their label
maps."""
REMOVED_MM = 2.0
"""In CT with an injected nodule, voxels within this distance in mm of a real nodule do not count in the loss."""
LEAST_LUNG, PLACES = 0.2, 16
"""Least share of lung in a volume cut from a whole scan, and number of places tried to reach it."""


@dataclass(frozen=True, eq=False)
class PlannedVolume:
    """The input from which a synthetic volume is made.

    Attributes:
        ct: the case's HU on the volume's grid.
        labelled: the case's label map with its own nodules, followed by the added nodule if there is one.
        nodules_before: number of the case's own nodules.
    """

    ct: Volume
    labelled: LabelledNodules
    nodules_before: int


@dataclass(frozen=True, eq=False)
class VolumePlan:
    """A function of a volume's number to the input from which the volume is made.

    Attributes:
        store: store of the cases.
        cases: cases with label maps, used in turn in a random order.
        spec: grid of the volumes.
        shapes: shapes of the added nodules.
        key: name of the shapes, part of the volumes' hash.
        seed: seed of the plan.
    """

    store: Store
    cases: Sequence[CaseEntry]
    spec: PatchSpec
    shapes: ShapeSource
    key: str = ""
    seed: int = 0

    def __call__(self, number: int) -> PlannedVolume:
        """Return the input of a volume, a function of seed and number; a nodule that fits nowhere is left out."""
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
        """Return the patient whose label map a volume has."""
        return self._case(number).patient_id

    def _case(self, number: int) -> CaseEntry:
        order = generator(self.seed, "cases").permutation(len(self.cases))
        return self.cases[int(order[number % len(order)])]

    def _cut(self, labels: Volume, seed: int) -> tuple[Volume, Volume]:
        """Draw the place of a volume in a case; return the volume's grid and the label map on it."""
        random = generator(seed, "place")
        size, spacing = np.array(self.spec.size), np.array(self.spec.spacing_mm)
        room = np.maximum(np.array(labels.shape) * labels.spacing_mm - size * spacing, 0) / labels.spacing_mm
        for _ in range(PLACES):
            start = np.floor(random.random(3) * (np.floor(room) + 1))  # a whole voxel, so that resampling does not blur
            grid, cut = cut_labels(labels, start, self.spec)
            if (cut.voxels == TissueClass.OTHER).mean() >= LEAST_LUNG:
                break
        return grid, cut


def cut_labels(labels: Volume, start: NDArray[np.float64], spec: PatchSpec) -> tuple[Volume, Volume]:
    """Return the grid of a volume and the label map on it; voxels beyond the map are outside the body.

    Args:
        labels: label map of a case.
        start: index (z, y, x) in the label map of the volume's first voxel.
        spec: size and voxel size of the volume.
    """
    x, y, z = labels.to_world(start).tolist()
    grid = Volume(np.broadcast_to(np.uint8(0), spec.size), spec.spacing_mm, (x, y, z), labels.direction)
    return grid, resample_like(labels, grid, nearest=True, fill=int(TissueClass.OUTSIDE))


class FewShapes:
    """A source of a few fixed shapes, each equally probable, like the thesis' 15 templates.

    Args:
        source: source from which the shapes are drawn once.
        count: number of shapes.
        seed: seed of the draw.
    """

    heeds: frozenset[str] = frozenset()

    def __init__(self, source: ShapeSource, count: int, seed: int) -> None:
        self.lineage = source.lineage
        self._shapes = [source(NoduleAttributes(), derive(seed, "template", i)) for i in range(count)]

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return one of the shapes, drawn by the seed."""
        return self._shapes[int(generator(seed, "few").integers(len(self._shapes)))]


MakeVolume = Callable[[PlannedVolume, int], tuple[NDArray[np.int16], NDArray[np.uint8]]]
"""A function of a planned volume and a seed to the HU and the marks [z, y, x] of the synthetic volume."""


def volume_maker(maker: Maker) -> MakeVolume:
    """Return the function that makes volumes with a maker: painting label maps, or injecting nodules into CT.

    Raises:
        InputError: the maker neither paints nor injects.
    """
    if "paints" in maker.roles:
        return _Paints(cast(Painter, maker))
    if "injects" in maker.roles:
        return _Injects(cast(Method, maker))
    raise InputError(
        "model", f"{maker.name}, which {' and '.join(sorted(maker.roles))}", "a model that paints or injects"
    )


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
    """The volumes of a plan by one maker, made once and kept in files. Volume i does not depend on their number.

    Attributes:
        name: name of the maker in the study.
        maker: paints or injects.
        plan: inputs of the volumes.
        folder: folder of the files.
        like: hash of the store and its splits, part of the file names.
    """

    name: str
    maker: Maker
    plan: VolumePlan
    folder: Path
    like: str

    @property
    def key(self) -> str:
        """Hash of everything on which the volumes depend, whatever their number."""
        spec, plan = self.plan.spec, self.plan
        parts = (MADE_RECIPE, self.like, making_key(self.maker), plan.key, plan.seed, spec)
        return fingerprint(repr(parts).encode())[:16]

    def first(self, count: int) -> list[MarkedVolumes]:
        """Return the first `count` volumes, and make those that are missing.

        Raises:
            OutputError: a file cannot be written.
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
    """Map the HU and the marks of two files into memory; None if a file is missing or damaged."""
    try:
        found = [np.load(file, mmap_mode="r", allow_pickle=False) for file in (hu, marks)]
    except (OSError, ValueError, EOFError):
        return None
    fits = all(array.shape == (VOLUMES_A_FILE, *size) for array in found)
    return (found[0], found[1]) if fits and found[0].dtype == np.int16 and found[1].dtype == np.uint8 else None
