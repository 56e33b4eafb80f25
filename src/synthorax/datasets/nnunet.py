"""nnU-Net's raw data set: images and label maps by name, `dataset.json`, `splits_final.json`.

The rules are nnU-Net v2's own: `verify_dataset_integrity`, its data sets' file names, and how its trainer splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.export_items import Content, Item, Report, ball, few, file_name, write_json
from synthorax.datasets.store import SPLITS
from synthorax.io.images import write_image
from synthorax.io.nifti import NIFTI_SUFFIX

FOLDER = re.compile(r"Dataset\d{3}(_.*)?")
"""How nnU-Net finds a data set: by the three digits of its folder's name."""
TAKEN_FOR_LABELS = "_seg"
"""A case whose name ends so is passed over among the preprocessed files, where `NAME_seg` holds the labels of NAME."""
NNUNET_FOLDS = 5
"""Folds that nnU-Net makes of a data set with at least this many cases."""
NODULE_LABEL, IGNORE_LABEL = 1, 2
"""Labels of nodules, and of voxels that nnU-Net leaves out of training."""


def write(
    items: Iterable[Item],
    folder: Path,
    title: str,
    name: str,
    report: Report,
    *,
    balls: bool = False,
    ignore: bool = False,
) -> None:
    """Write the items into a folder.

    Args:
        title: the name that the folder will have.
        name: of the data set.
        report: takes the numbers and what the user has to know.
        balls: paint nodules whose voxels are not known as balls.
        ignore: give such balls nnU-Net's ignore label.

    Raises:
        InputError: a nodule that lies outside its scan; a name that is no file name.
        OutputError: it cannot be written.
    """
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / part).mkdir()
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    has_nodules = False
    patients: Counter[str] = Counter()
    taken: set[str] = set()
    renamed, painted = {}, []
    for item in items:
        stem = file_name(item.name, taken, refused=(TAKEN_FOR_LABELS,))
        if stem != item.name:
            renamed[stem] = item.name
        part = "Ts" if item.split == "test" else "Tr"
        content = item.read()
        if item.voxelless:
            painted.append(item.name)
        labels = replace(content.grid, voxels=label_map(item, content, IGNORE_LABEL if ignore else NODULE_LABEL))
        write_image(folder / f"images{part}" / f"{stem}_0000{NIFTI_SUFFIX}", content.grid, mark=item.mark)
        write_image(folder / f"labels{part}" / f"{stem}{NIFTI_SUFFIX}", labels, mark=item.mark)
        names[item.split].append(stem)
        report.count(item)
        if item.split != "test":
            patients[item.patient_id] += 1
            has_nodules |= bool((labels.voxels == NODULE_LABEL).any())
    if painted:
        what = "nnU-Net's ignore label, where it learns nothing" if ignore else "nodule"
        report.notes.append(f"nodules without voxels are balls of their diameter, labelled as {what}: {few(painted)}")
    if renamed:
        pairs = [f"{old} is {new}" for new, old in renamed.items()]
        report.notes.append(f"cases renamed, as nnU-Net or a file system cannot hold their names: {few(pairs)}")
    if not FOLDER.fullmatch(title):
        report.notes.append(
            f"nnU-Net finds a data set by a folder name like Dataset501_{title}; rename {title} before it reads it"
        )
    train, val = names["train"], names["val"]
    if train and val:
        write_json(folder / "splits_final.json", [{"train": train, "val": val}])
    else:
        report.notes.append(_without_splits(len(train) + len(val), patients, "val" if train else "train"))
    if (train or val) and not has_nodules:
        report.notes.append("no training case has a voxel of a nodule: nnU-Net has nothing to learn")
    about = {
        "name": name,
        "description": "Lung nodules in CT, written by synthorax; all nodules of a scan have one label.",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "nodule": NODULE_LABEL} | ({"ignore": IGNORE_LABEL} if ignore and painted else {}),
        "numTraining": len(train) + len(val),
        "file_ending": NIFTI_SUFFIX,
        "notes": report.notes,
    }
    if renamed:
        about["renamed"] = renamed
    write_json(folder / "dataset.json", about)


def label_map(item: Item, content: Content, without_voxels: int) -> NDArray[np.uint8]:
    """The labels [z, y, x] of a case: 1 in every nodule's voxels, `without_voxels` in the balls of the others."""
    labels = np.zeros(content.grid.shape, np.uint8)
    for nodule in item.voxelless:
        ball(content.grid, nodule, item.name).paint(labels, without_voxels)
    for region in content.regions:
        region.paint(labels, NODULE_LABEL)
    return labels


def _without_splits(n: int, patients: Counter[str], missing: str) -> str:
    """What nnU-Net does with the training cases where no split of ours can stand."""
    if not n:
        return "no training cases: nnU-Net can predict imagesTs, and has nothing to train on"
    told = f"no case is in {missing}, so there is no splits_final.json"
    if n < NNUNET_FOLDS:
        return f"{told}; nnU-Net needs {NNUNET_FOLDS} cases for its own folds and has {n}: train it with fold `all`"
    several = sum(count > 1 for count in patients.values())
    parted = f", which part {several} patients of several cases: give such data a val share" if several else ""
    return f"{told}; nnU-Net makes {NNUNET_FOLDS} folds of the {n} cases{parted}"
