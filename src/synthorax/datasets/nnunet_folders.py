"""Reading nnU-Net's raw data sets: the labels of `labelsTr` are the nodules of the scans of `imagesTr`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthorax.annotations.nodule_table import NoduleRow, TableImage
from synthorax.errors import InputError
from synthorax.io.images import image_stem
from synthorax.io.mappings import read_mapping
from synthorax.io.structure_names import StructureName, is_nodule
from synthorax.io.walk import real_path
from synthorax.nodule import NoduleAttributes

NNUNET_INDEX = "dataset.json"
"""File of an nnU-Net data set with the names of its labels."""
FIRST_CHANNEL = "_0000"
"""End of the name of a case's CT."""
LABELS_OF = {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}
"""Folder of images to the folder of their labels."""


def nnunet_images(images: Sequence[Path], listed: Sequence[TableImage]) -> tuple[list[TableImage], list[str]]:
    """Return the images of nnU-Net data sets with their labels as nodules, and notes.

    The one label of a data set must have the name of a nodule; its separate pieces are nodules. A label map without a
    voxel is a scan without a nodule.

    Args:
        images: images, among them the label maps.
        listed: images of tables, which are left to their tables.
    """
    known = {real_path(image.image) for image in listed}
    masks = {(path.parent, image_stem(path)): path for path in images}
    made: list[TableImage] = []
    notes: dict[str, None] = {}
    for path in images:
        name = image_stem(path)
        index = path.parent.parent / NNUNET_INDEX
        labels = LABELS_OF.get(path.parent.name)
        if labels is None or not name.endswith(FIRST_CHANNEL) or real_path(path) in known or not index.is_file():
            continue
        mask = masks.get((path.parent.parent / labels, name.removesuffix(FIRST_CHANNEL)))
        if mask is None:
            continue
        if not _is_of_nodules(index):
            rows = f"image,mask,mask_label / {path.parent.name}/{path.name},{labels}/{mask.name},1"
            notes[
                f"the labels of {index.parent.name} are not one label with the name of a nodule ({NNUNET_INDEX}), and "
                f"were not read; write nodules.csv beside it, such as: {rows}"
            ] = None
            continue
        row = NoduleRow("01", mask, None, None, NoduleAttributes(), {}, {}, may_be_empty=True)
        made.append(TableImage(path, "", None, (row,), index))
    if made:
        notes[f"the labels of {len(made)} scans of nnU-Net data sets are their nodules"] = None
    return made, list(notes)


def _is_of_nodules(index: Path) -> bool:
    """Return whether the one label of a data set, besides the background, has the name of a nodule."""
    try:
        labels = read_mapping(index).get("labels")
    except InputError:
        return False
    names = [str(name) for name in labels if str(name).lower() != "background"] if isinstance(labels, dict) else []
    return len(names) == 1 and is_nodule(StructureName(1, names[0]))
