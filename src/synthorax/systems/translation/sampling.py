"""Samples whole volumes: cuts a cube of a label map around an added nodule or an empty place, and paints it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthorax import hub
from synthorax.anatomy.placement import Ball, Placement
from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.store import Store
from synthorax.editing.label_nodules import LabelledNodules, WantedNodules, as_labelled, find_place, with_nodule
from synthorax.editing.painting import notes_on_classes, painted_slabs
from synthorax.errors import InputError
from synthorax.geometry import resample_like
from synthorax.io.images import is_image
from synthorax.makers import Asked, Lineage, Painter, Samples
from synthorax.nodule import Nodule
from synthorax.patch import PatchSpec
from synthorax.provenance import patient_key
from synthorax.region import Region, paint_labels
from synthorax.rendering.config import LIDC
from synthorax.rendering.maker import shape_source
from synthorax.rendering.shapes import ShapeSource
from synthorax.seeding import derive, generator
from synthorax.systems.translation.anatomies import Anatomies, LabelledAnatomy, Phantoms, StoredMaps
from synthorax.systems.translation.config import TranslationOptions
from synthorax.systems.translation.templates import Templates, TemplateShapes
from synthorax.volume import Volume

EMPTY_MM = 4.0
"""Diameter in mm of the place in the lungs at the centre of a volume without a nodule."""


@dataclass(frozen=True, eq=False)
class VolumeSampler:
    """Samples volumes with a painter.

    Attributes:
        painter: paints the label maps.
        spec: grid of the volumes.
        shapes: source of the added nodules' shapes; None if there is none.
        anatomies: source of the label maps.
        lineage: the patients whose data painter, shapes and label maps are made with.
    """

    painter: Painter
    spec: PatchSpec
    shapes: ShapeSource | None
    anatomies: Anatomies
    lineage: Lineage

    @classmethod
    def of(
        cls, painter: Painter, spec: PatchSpec, templates: Templates, phantom_mm: float, options: TranslationOptions
    ) -> VolumeSampler:
        """Return the sampler with the sources that the options name.

        Args:
            painter: paints the label maps.
            spec: grid of the volumes.
            templates: shapes of training nodules, used if the options name no shapes.
            phantom_mm: smallest voxel spacing of a phantom.
            options: options of sampling.

        Raises:
            InputError: the shapes or label maps do not exist.
        """
        shapes: ShapeSource | None = TemplateShapes(templates) if len(templates) else None
        lineage = painter.lineage
        if options.shapes is not None:
            named: Any = options.shapes
            if str(named) != LIDC and not is_image(Path(named)):
                named = hub.find(named, "makes shapes")
            shapes = shape_source(named)
            lineage = lineage.joined(shapes.lineage)
        anatomies: Anatomies = Phantoms(spec.spacing_mm, phantom_mm)
        if options.labels is not None:
            anatomies = StoredMaps(Store(options.labels), spec)
            lineage = replace(lineage, outlines=lineage.outlines | anatomies.patients)
        return cls(painter, spec, shapes, anatomies, lineage)

    def samples(self, asked: Sequence[Asked], seed: int, without: float) -> Iterator[Samples]:
        """Sample the volumes, one in each part. A volume that gets no nodule by chance has an empty request.

        Requests are checked at the call, before the first volume is sampled.

        Args:
            asked: request of each volume: one nodule, or none.
            seed: seed of all random draws.
            without: share of the volumes without a nodule, whatever was requested.

        Raises:
            InputError: a volume has several nodules, there is no source of shapes, or a nodule is too wide for a
                volume.
        """
        for one in asked:
            if len(one) > 1:
                raise InputError("nodules", f"{len(one)} in one volume", "one at its centre, or none")
            if one and self.shapes is None:
                expected = "shapes: lidc, a mask or a model that makes shapes"
                raise InputError("shapes", "none, as the model was trained without outlined nodules", expected)
            width = one[0].diameter_mm if one else None
            if width is not None and width > self.spec.widest_mm:
                raise InputError("diameter", f"{width:g} mm", f"at most {self.spec.widest_mm:g} mm in these volumes")
        return self._parts(asked, seed, without)

    def _parts(self, asked: Sequence[Asked], seed: int, without: float) -> Iterator[Samples]:
        noted: set[str] = set()
        for i, one in enumerate(asked):
            own = derive(seed, "sample", i)
            wanted = () if generator(own, "without").random() < without else one
            made = self._sample(i, wanted, self.anatomies(i, seed), own)
            yield replace(made, notes=tuple(note for note in made.notes if note not in noted))
            noted |= {*made.notes}

    def _sample(self, i: int, asked: Asked, anatomy: LabelledAnatomy, seed: int) -> Samples:
        placement = Placement(anatomy.lungs, list(anatomy.taken))
        shape = None
        if asked:
            assert self.shapes is not None
            diameters = () if asked[0].diameter_mm is None else (asked[0].diameter_mm,)
            place, shape = find_place(WantedNodules(1, diameters), 0, placement, self.shapes, derive(seed, "nodule"))
        else:
            place = placement.find(EMPTY_MM, derive(seed, "empty"))
        made = as_labelled(self._cube(anatomy.labels, place))
        if shape is not None:
            made = with_nodule(made, place, shape, anatomy.lungs, derive(seed, "turned"))
        labels = Volume(made.labels.voxels, self.spec.spacing_mm)
        hu = np.concatenate([slab for _, slab in painted_slabs(labels, self.painter, seed)])
        regions, nodules = _numbered(made, labels)
        outline = patient_key(shape.origin) if shape is not None and shape.origin else ""
        return Samples(
            {"ct": hu[None], "mask": paint_labels(regions, labels.shape).astype(np.uint8)[None]},
            np.array([i]),
            (asked,),
            (nodules,),
            ({**anatomy.about, **({"outline": outline} if outline else {})},),
            self.spec,
            self.lineage,
            tuple(note.partition(" ")[2] for note in notes_on_classes(labels, self.painter)),
            1,
        )

    def _cube(self, labels: Volume, place: Ball) -> Volume:
        """Return the label map on the grid of a volume centred at a place; beyond the map the class is `OUTSIDE`."""
        spacing, size = self.spec.spacing_mm, self.spec.size
        half = ((np.array(size) - 1) / 2 * spacing)[::-1]
        x, y, z = (np.array(place.center_mm) - labels.direction @ half).tolist()
        grid = Volume(np.broadcast_to(np.uint8(0), size), spacing, (x, y, z), labels.direction)
        return resample_like(labels, grid, nearest=True, fill=int(TissueClass.OUTSIDE))


def _numbered(made: LabelledNodules, labels: Volume) -> tuple[list[Region], tuple[Nodule, ...]]:
    """Return the nodules' regions and entries, numbered from 1, with the added nodule first."""
    regions = list(reversed(made.regions))
    nodules = []
    for label, (region, nodule) in enumerate(zip(regions, reversed(made.nodules), strict=True), start=1):
        x, y, z = labels.to_world(region.indices().mean(0)).tolist()
        extra = {"diameter_is": "measured", "from": nodule.extra["from"]}
        nodules.append(replace(nodule, nodule_id=str(label), center_mm=(x, y, z), label=label, extra=extra))
    return regions, tuple(nodules)
