"""Export of nnU-Net's raw data set: images, label maps, `dataset.json` and `splits_final.json`.

It follows nnU-Net v2: `verify_dataset_integrity`, the file names of its data sets, and the splits of its trainer.
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
"""Names of folders in which nnU-Net finds a data set, by the three digits."""
TAKEN_FOR_LABELS = "_seg"
"""Ending that a case's name must not have: nnU-Net takes a preprocessed file `NAME_seg` for the labels of NAME."""
NNUNET_FOLDS = 5
"""Number of folds that nnU-Net makes, and fewest cases for which it can."""
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
        items: scans and samples.
        folder: an empty folder.
        title: final name of the folder.
        name: name of the data set.
        report: gets the numbers and notes.
        balls: whether to paint nodules without a mask as balls.
        ignore: whether to give such balls nnU-Net's ignore label.

    Raises:
        InputError: a nodule lies outside its scan.
        OutputError: a file cannot be written.
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
        what = "nnU-Net's ignore label, which its loss leaves out" if ignore else "nodule"
        report.notes.append(f"nodules without a mask are balls of their diameter, labelled as {what}: {few(painted)}")
    if renamed:
        pairs = [f"{old} is {new}" for new, old in renamed.items()]
        report.notes.append(
            f"cases renamed, because nnU-Net or a file system does not accept their names: {few(pairs)}"
        )
    if not FOLDER.fullmatch(title):
        report.notes.append(
            f"nnU-Net reads only folders with a name like Dataset501_{title}; rename {title} before you use it"
        )
    train, val = names["train"], names["val"]
    if train and val:
        write_json(folder / "splits_final.json", [{"train": train, "val": val}])
    else:
        report.notes.append(_without_splits(len(train) + len(val), patients, "val" if train else "train"))
    if (train or val) and not has_nodules:
        report.notes.append("no training case has a voxel of a nodule, so nnU-Net cannot be trained on it")
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
    """Return the labels of a case, [z, y, x]: 1 in the nodules' masks, `without_voxels` in the balls of the others."""
    labels = np.zeros(content.grid.shape, np.uint8)
    for nodule in item.voxelless:
        ball(content.grid, nodule, item.name).paint(labels, without_voxels)
    for region in content.regions:
        region.paint(labels, NODULE_LABEL)
    return labels


def _without_splits(n: int, patients: Counter[str], missing: str) -> str:
    """Return a note on nnU-Net's own splits, for an export without splits_final.json."""
    if not n:
        return "no training cases: nnU-Net can predict imagesTs, but cannot be trained"
    no_file = f"no case is in {missing}, so there is no splits_final.json"
    if n < NNUNET_FOLDS:
        return f"{no_file}; nnU-Net needs {NNUNET_FOLDS} cases for its own folds and has {n}: train it with fold `all`"
    several = sum(count > 1 for count in patients.values())
    parted = f", which split {several} patients with several cases; give a share of patients to val" if several else ""
    return f"{no_file}; nnU-Net makes {NNUNET_FOLDS} folds of the {n} cases{parted}"
