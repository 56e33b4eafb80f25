"""The items of an export: the cases of a store, or the samples of a folder, with their nodules and masks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.nodule_table import NODULE_TABLE, read_nodule_table
from synthorax.datasets.case import ANNOTATED, CaseEntry
from synthorax.datasets.manifests import Manifests
from synthorax.datasets.store import SPLITS, Annotated, Store
from synthorax.errors import InputError
from synthorax.io.fractions import as_labels
from synthorax.io.images import image_stem, is_image, read_image
from synthorax.io.mappings import read_mapping
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.provenance import MANIFEST
from synthorax.region import Region
from synthorax.screen import quantity
from synthorax.volume import Volume

UNFIT_CHARACTERS = re.compile(r'[\x00-\x1f\x7f/\\\\:*?"<>|]')
"""Characters that are not valid in file names on every system."""
MOST_CASES_NAMED = 5
"""Most cases that a message names; it gives the number of further ones."""


@dataclass(frozen=True, eq=False)
class Content:
    """The voxels of an item.

    Attributes:
        grid: the CT; for a shape without CT, its mask, which gives the geometry.
        regions: masks of the nodules; the nodule with label i has index i - 1.
    """

    grid: Volume
    regions: tuple[Region, ...]


@dataclass(frozen=True, eq=False)
class Item:
    """A scan or sample to export.

    Attributes:
        name: name of the case or sample.
        split: its split.
        patient_id: its patient.
        nodules: its nodules; a nodule whose label is not in `outlined` has no mask.
        outlined: labels of the nodules with a mask.
        annotated: whether all nodules of the scan are known.
        has_ct: False for a sample that is a shape without CT.
        mark: the mark of generated voxels; empty for a patient's scan.
        read: function that reads the voxels.
        small: number of marked nodules without an outline, for LIDC nodules below 3 mm.
    """

    name: str
    split: str
    patient_id: str
    nodules: tuple[Nodule, ...]
    outlined: frozenset[int]
    annotated: Annotated
    has_ct: bool
    mark: str
    read: Callable[[], Content]
    small: int = 0

    @property
    def voxelless(self) -> tuple[Nodule, ...]:
        """The nodules without a mask."""
        return tuple(nodule for nodule in self.nodules if nodule.label not in self.outlined)


@dataclass
class Report:
    """The numbers and notes of an export.

    Attributes:
        cases: split to its number of cases.
        nodules: number of nodules written.
        notes: sentences about what was left out, painted or renamed, and how the other tool treats it.
    """

    cases: Counter[str] = field(default_factory=Counter)
    nodules: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, item: Item) -> None:
        """Count an item that was written."""
        self.cases[item.split] += 1
        self.nodules += len(item.nodules)

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {self.cases[split]}" for split in SPLITS)
        return f"{quantity(self.cases.total(), 'case')} ({splits}), {quantity(self.nodules, 'nodule')}"


def store_items(store: Store) -> list[Item]:
    """Return the cases of a store as items."""
    return [
        Item(
            name=entry.case_id,
            split=store.split_of(entry.patient_id),
            patient_id=entry.patient_id,
            nodules=entry.nodules,
            outlined=_outlined(store, entry),
            annotated=entry.annotated,
            has_ct=True,
            mark=entry.synthetic,
            read=_store_reader(store, entry.case_id),
            small=sum(point.kind == "small nodule" for point in store.points(entry.case_id)),
        )
        for entry in store.cases
    ]


def _outlined(store: Store, entry: CaseEntry) -> frozenset[int]:
    """Return the labels of a case's nodules that have a mask."""
    if entry.boxes is not None:  # no region of format 2 is empty
        return frozenset(range(1, len(entry.boxes) + 1))
    return frozenset(n.label for n in entry.nodules if n.label and store.region(entry.case_id, n.label).voxels)


def _store_reader(store: Store, case_id: str) -> Callable[[], Content]:
    def read() -> Content:
        case = store.read(case_id)
        return Content(case.ct, case.regions)

    return read


def sample_items(folder: Path) -> list[Item]:
    """Return the samples of a folder that `synthorax sample` wrote as items, all in the training split.

    Nothing is known about the nodules of a CT sample that has neither a mask nor a row in the table of nodules, unless
    the manifest says that it has no nodule.

    Raises:
        InputError: the folder has no manifest, or no images.
    """
    ours = "a store, or a folder that `synthorax sample` wrote"
    if not (folder / MANIFEST).is_file():
        raise InputError(folder, "no manifest of samples", ours)
    try:
        manifest = read_mapping(folder / MANIFEST, "manifest")
        mark = str(manifest["synthetic"])
        if not isinstance(manifest["samples"], list):
            raise ValueError("samples that are not a list")
    except (ValueError, KeyError) as error:
        ours += "; of scans with injected nodules `synthorax prepare scans` makes a store first"
        raise InputError(folder / MANIFEST, "no manifest of samples", ours) from error
    masks, images = _images(folder / "masks"), _images(folder / "images")
    if not masks and not images:
        raise InputError(folder, "no images", "samples written with --formats nifti or mha")
    table = read_nodule_table(folder / NODULE_TABLE) if (folder / NODULE_TABLE).is_file() else []
    empty = [image_stem(sample.scan) for sample in Manifests().samples(folder) if sample.is_empty]
    listed: dict[str, tuple[Nodule, ...]] = dict.fromkeys(empty, ())
    listed |= {
        image_stem(row.image): tuple(
            Nodule(nodule.nodule_id, nodule.center_mm, nodule.attributes, ratings=nodule.ratings)
            for nodule in row.nodules
            if nodule.center_mm is not None
        )
        for row in table
    }
    known = manifest.get("annotated", "all")
    if known not in ANNOTATED:
        raise InputError(folder / MANIFEST, f"annotated {str(known)[:40]!r}", " or ".join(ANNOTATED))
    names = sorted(masks | images)
    return [_sample(name, images.get(name), masks.get(name), listed.get(name), mark, known) for name in names]


def _sample(
    name: str,
    image: Path | None,
    mask: Path | None,
    listed: tuple[Nodule, ...] | None,
    mark: str,
    known: Annotated,
) -> Item:
    nodules = listed or ()
    if mask is not None:
        content = _sample_content(None, mask)
        nodules = _with_labels(nodules, content)
    return Item(
        name=name,
        split="train",
        patient_id=f"synthetic-{name}",
        nodules=nodules,
        outlined=frozenset(nodule.label for nodule in nodules if nodule.label),
        annotated="none-known" if mask is None and listed is None else known,
        has_ct=image is not None,
        mark=mark,
        read=lambda: _sample_content(image, mask),
    )


def _sample_content(image: Path | None, mask: Path | None) -> Content:
    labels = read_image(mask) if mask is not None else None
    regions: list[Region] = []
    if labels is not None:
        voxels, _ = as_labels(mask, labels.voxels)
        regions = [Region.of(voxels == label) for label in np.unique(voxels[voxels > 0])]
    grid = read_image(image) if image is not None else labels
    if grid is None or (labels is not None and labels.shape != grid.shape):
        raise InputError(str(mask), "a mask with another grid than its image", "files that `synthorax sample` wrote")
    return Content(grid, tuple(regions))


def _with_labels(listed: Sequence[Nodule], content: Content) -> tuple[Nodule, ...]:
    """Give each nodule of the table the label of the mask at its centre, and add a nodule for every other label."""
    nodules = []
    free = {label for label, region in enumerate(content.regions, start=1) if region.voxels}
    for nodule in listed:
        at = np.rint(content.grid.to_voxel(nodule.center_mm)).astype(int)
        hit = next((label for label in free if content.regions[label - 1].within(at.tolist(), (1, 1, 1)).any()), 0)
        free.discard(hit)
        nodules.append(replace(nodule, label=hit))
    for label in sorted(free):
        x, y, z = content.grid.to_world(content.regions[label - 1].indices().mean(0)).tolist()
        nodules.append(Nodule(f"{label:02d}", (x, y, z), NoduleAttributes(), label=label))
    return tuple(nodules)


def _images(folder: Path) -> dict[str, Path]:
    """Return the first image of each name in a folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if is_image(path):
            found.setdefault(image_stem(path), path)
    return found


def center_voxel(grid: Volume, nodule: Nodule, case: str) -> NDArray[np.float64]:
    """Return the fractional index (z, y, x) of a nodule's centre.

    Raises:
        InputError: the centre lies outside the grid.
    """
    at = grid.to_voxel(nodule.center_mm)
    if not grid.holds(at):
        x, y, z = nodule.center_mm
        found = f"nodule {nodule.nodule_id} centred at ({x:.1f}, {y:.1f}, {z:.1f}) mm, outside its scan"
        raise InputError(case, found, "a place in the scan, in world millimetres, LPS")
    return at


def ball(grid: Volume, nodule: Nodule, case: str) -> Region:
    """Return the voxels of a grid within a ball of a nodule's diameter, at least the voxel nearest to its centre.

    Raises:
        InputError: the centre lies outside the grid.
    """
    at = center_voxel(grid, nodule, case)
    radius_mm = (nodule.attributes.diameter_mm or 0) / 2
    reach = radius_mm / np.asarray(grid.spacing_mm)
    low = np.maximum(np.floor(at - reach), 0).astype(int)
    high = np.minimum(np.ceil(at + reach), np.asarray(grid.shape) - 1).astype(int)
    axes = [(np.arange(a, b + 1) - c) * s for a, b, c, s in zip(low, high, at, grid.spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    distance = z**2 + y**2 + x**2
    z0, y0, x0 = low.tolist()
    return Region((z0, y0, x0), distance <= max(radius_mm**2, distance.min()))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file with an indent of one."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def few(names: Sequence[str]) -> str:
    """Return the first names of a list, and the number of the others."""
    more = f" and {len(names) - MOST_CASES_NAMED} more" if len(names) > MOST_CASES_NAMED else ""
    return ", ".join(names[:MOST_CASES_NAMED]) + more


def file_name(name: str, taken: set[str], refused: Sequence[str] = ()) -> str:
    """Return a unique file stem for a case, its name if possible, and add it to `taken`.

    Args:
        name: name of the case.
        taken: stems in use, case-folded, because some file systems ignore case.
        refused: endings that have a special meaning for the tool that reads the files.
    """
    stem = UNFIT_CHARACTERS.sub("-", name).lstrip(".-").rstrip(" .") or "case"
    if stem.endswith(tuple(refused)):
        stem += "-ct"
    found, number = stem, 1
    while found.casefold() in taken:
        number += 1
        found = f"{stem}-{number}"
    taken.add(found.casefold())
    return found
