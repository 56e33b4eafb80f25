"""Export of images and boxes in the format of MONAI's published lung nodule detector.

The bundle `lung_nodule_ct_detection` and the LUNA16 tutorial read, for each image, `box`: centre and size (x, y, z,
width, height, depth) in world millimetres, LPS as in LUNA16's tables; and `label`: the class of each box, 0 for a
nodule. They reorient the image to RAS and convert the boxes to its voxels by
`AffineBoxToImageCoordinated(affine_lps_to_ras=True)`.

In voxels, MONAI's boxes run from the first voxel of a nodule to the one after its last (`MaskToBox`), while its affine
places a voxel's centre at its index. So a box that is right in voxels is shifted by half a voxel in the world, towards
right, anterior and superior. The exported boxes are shifted in this way, and so are the boxes that a network trained on
them predicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import ArrayLike

from synthorax.datasets.export_items import Content, Item, Report, ball, center_voxel, few, file_name, write_json
from synthorax.io.images import write_image
from synthorax.io.nifti import NIFTI_SUFFIX
from synthorax.nodule import Nodule
from synthorax.region import paint_labels
from synthorax.volume import Volume

LISTS = {"train": "training", "val": "validation", "test": "testing"}
DATASET_DESCRIPTION = (
    "Lung nodules in CT, written by synthorax. box: centre and size (x, y, z, width, height, depth) in mm, world LPS,"
    " for AffineBoxToImageCoordinated(affine_lps_to_ras=True) of images turned to RAS; in voxels as MaskToBox makes it."
    " label: the class of each box. nodules: diameter in mm and ratings of each box, as far as they are known. mask: a"
    " label map with one label for each nodule; overlaps have the smaller label. synthetic: whether voxels were made."
)
STRAIGHT = 1e-3
"""A scan is oblique if an entry of its direction cosines differs from -1, 0 and 1 by more than this."""
RENAMED = "cases renamed, because their names are not valid file names"
PAINTED = "nodules without a mask are balls of their diameter in the written masks"
NO_MASK = "no mask is written, because the mask of a nodule is not known; its box is written"
OBLIQUE = "scans oblique to the patient's axes; their boxes are right in voxels, after MONAI's transform"
EMPTY_BOXES = "cases without a nodule have `box: []`; MONAI's transforms then need StandardizeEmptyBoxd first"


def write(items: Iterable[Item], folder: Path, name: str, report: Report, *, balls: bool = False) -> None:
    """Write the items into a folder.

    Args:
        items: scans and samples.
        folder: an empty folder.
        name: name of the data set.
        report: gets the numbers and notes.
        balls: whether to paint nodules without a mask as balls.

    Raises:
        InputError: a nodule lies outside its scan.
        OutputError: a file cannot be written.
    """
    lists: dict[str, list[dict[str, Any]]] = {title: [] for title in LISTS.values()}
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    taken: set[str] = set()
    named: dict[str, list[str]] = {sentence: [] for sentence in (RENAMED, PAINTED, NO_MASK, OBLIQUE, EMPTY_BOXES)}
    for item in items:
        stem = file_name(item.name, taken)
        content = item.read()
        row: dict[str, Any] = {"patient_id": item.patient_id}
        if item.has_ct:
            row["image"] = f"images/{stem}{NIFTI_SUFFIX}"
            write_image(folder / row["image"], content.grid, mark=item.mark)
        if balls or not item.voxelless:
            row["mask"] = f"masks/{stem}{NIFTI_SUFFIX}"
            write_image(folder / row["mask"], _mask(content, item), mark=item.mark)
        else:
            named[NO_MASK].append(item.name)
        row["box"] = [nodule_box(content, item, nodule) for nodule in item.nodules]
        row["label"] = [0] * len(row["box"])
        row["nodules"] = [nodule.attributes.given() for nodule in item.nodules]
        row["synthetic"] = bool(item.mark)
        lists[LISTS[item.split]].append(row)
        report.count(item)
        for sentence, holds in (
            (RENAMED, stem != item.name),
            (PAINTED, balls and bool(item.voxelless)),
            (OBLIQUE, not is_straight(content.grid)),
            (EMPTY_BOXES, not item.nodules),
        ):
            named[sentence] += [item.name] * holds
    report.notes += [f"{sentence}: {few(names)}" for sentence, names in named.items() if names]
    about = {"name": name, "description": DATASET_DESCRIPTION, "notes": report.notes, "labels": {"0": "nodule"}}
    write_json(folder / "dataset.json", about | lists)


def _mask(content: Content, item: Item) -> Volume:
    """Return the label map of a case, one label for each nodule; a nodule without a mask is a ball."""
    balls = [ball(content.grid, nodule, item.name) for nodule in item.voxelless]
    return replace(content.grid, voxels=paint_labels([*content.regions, *balls], content.grid.shape))


def nodule_box(content: Content, item: Item, nodule: Nodule) -> list[float]:
    """Return a nodule's box (x, y, z, width, height, depth) in mm, LPS, from its mask or otherwise its diameter."""
    if nodule.label in item.outlined:
        inside = content.regions[nodule.label - 1].indices()
        low, high = inside.min(0) - 0.5, inside.max(0) + 0.5
    else:
        at = center_voxel(content.grid, nodule, item.name)
        reach = (nodule.attributes.diameter_mm or 0) / 2 / np.asarray(content.grid.spacing_mm)
        low, high = at - reach, at + reach
    return world_box(content.grid, low, high)


def world_box(grid: Volume, low: ArrayLike, high: ArrayLike) -> list[float]:
    """Return the world box that MONAI converts to a given box of voxels.

    Args:
        grid: the image.
        low, high: fractional indices (z, y, x) of the box's corners; a voxel extends from its index - 0.5 to + 0.5.

    Returns:
        (x, y, z, width, height, depth) in mm, LPS. If an image is so oblique that no box along the world's axes is
        converted to the given one, this is the smallest box that contains it.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    toward_ras = io_orientation(np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine)
    sign_ras = toward_ras[::-1, 1]
    sign_lps = np.where(toward_ras[::-1, 0] == 2, sign_ras, -sign_ras)
    half = sign_ras / 2
    ends = np.where(sign_lps > 0, low, high) + half, np.where(sign_lps > 0, high, low) + half
    first, last = grid.to_world(np.stack(ends))
    if (last <= first).any():
        corners = grid.to_world(list(product(*zip(low + half, high + half, strict=True))))
        first, last = corners.min(0), corners.max(0)
    return [round(float(value), 4) for value in (*((first + last) / 2), *(last - first))]


def is_straight(grid: Volume) -> bool:
    """Return whether a scan's axes are parallel to the patient's."""
    off = np.abs(grid.direction)
    return bool((np.minimum(off, 1 - off) < STRAIGHT).all())
