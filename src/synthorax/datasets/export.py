"""Stores and folders of samples in the layouts that nnU-Net and MONAI read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from rich.console import Console
from rich.progress import track

from synthorax.annotations.nodule_table import TABLE, read_nodule_table
from synthorax.datasets.store import SPLITS, Store
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder
from synthorax.io.images import image_stem, is_image, read_image, write_image
from synthorax.nodule import Nodule
from synthorax.provenance import MANIFEST
from synthorax.region import Region
from synthorax.volume import Volume

Layout = Literal["nnunet", "monai"]
MONAI_SPLITS = {"train": "training", "val": "validation", "test": "testing"}
SUFFIX = ".nii.gz"


@dataclass(frozen=True, eq=False)
class Item:
    """A scan or sample to hand on.

    Attributes:
        ct: None for a sample of a shape alone.
        mask: a label a nodule; None for a sample of CT alone.
        regions: the voxels of the nodule with label i at index i - 1.
        mark: the synthetic mark; empty for a patient's.
    """

    name: str
    split: str
    patient_id: str
    ct: Volume | None
    mask: Volume | None
    nodules: tuple[Nodule, ...] = ()
    regions: tuple[Region, ...] = ()
    mark: str = ""


def store_items(store: Store) -> Iterator[Item]:
    """The cases of a store."""
    for entry in store.cases:
        case = store.read(entry.case_id)
        mask = replace(case.ct, voxels=case.label_map())
        split = store.split_of(entry.patient_id)
        yield Item(entry.case_id, split, entry.patient_id, case.ct, mask, case.nodules, case.regions, case.synthetic)


def sample_items(folder: Path) -> Iterator[Item]:
    """The samples of a folder that `synthorax sample` wrote, masks or CT with a table of nodules: all training data.

    Raises:
        InputError: no manifest, or no images.
    """
    try:
        mark = str(json.loads((folder / MANIFEST).read_text())["synthetic"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(folder, "no manifest of samples", "a store, or what `synthorax sample` wrote") from error
    masks, images = _images(folder / "masks"), _images(folder / "images")
    if not masks and not images:
        raise InputError(folder, "no images", "samples written with --formats nifti or mha")
    table = read_nodule_table(folder / TABLE) if (folder / TABLE).is_file() else []
    nodules = {image_stem(row.image): row.nodules for row in table}
    for name in masks or images:
        ct, mask = (read_image(files[name]) if name in files else None for files in (images, masks))
        placed = tuple(
            Nodule(row.nodule_id, row.center_mm, row.attributes, ratings=row.ratings)
            for row in nodules.get(name, ())
            if row.center_mm is not None
        )
        yield Item(name, "train", f"synthetic-{name}", ct, mask, placed, mark=mark)


def _images(folder: Path) -> dict[str, Path]:
    """The first image of each name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if is_image(path):
            found.setdefault(image_stem(path), path)
    return found


def export(items: Iterable[Item], n: int, out: Path, layout: str, *, name: str, overwrite: bool = False) -> None:
    """Write items in another tool's layout, all or nothing.

    nnunet  `nnUNet_raw`: imagesTr, labelsTr, imagesTs, labelsTs, dataset.json; splits_final.json keeps val apart.
    monai   images, labels, as far as there are masks, and dataset.json with training, validation and testing lists;
            boxes (x, y, z, width, height, depth) in world millimetres, RAS, as MONAI's detection reads them.

    Args:
        n: how many, for the progress.
        name: of the data set.

    Raises:
        InputError: no such layout; samples without images or masks for nnU-Net; a folder that is not ours to replace.
        OutputError: it cannot be written.
    """
    if layout not in get_args(Layout):
        raise InputError("layout", repr(layout), " or ".join(get_args(Layout)))
    with atomic_folder(out, overwrite=overwrite) as folder:
        shown = track(items, "export", total=n, console=Console(stderr=True))
        (_write_nnunet if layout == "nnunet" else _write_monai)(shown, folder, name)


def _write_nnunet(items: Iterable[Item], folder: Path, name: str) -> None:
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / part).mkdir()
    for item in items:
        if item.ct is None:
            raise InputError(item.name, "a mask without an image", "samples of CT; use the layout monai for shapes")
        if item.mask is None:
            raise InputError(item.name, "an image without a mask", "masks too; use the layout monai, which has boxes")
        part = "Ts" if item.split == "test" else "Tr"
        mask = replace(item.mask, voxels=(item.mask.voxels > 0).astype(np.uint8))
        write_image(folder / f"images{part}" / f"{item.name}_0000{SUFFIX}", item.ct, mark=item.mark)
        write_image(folder / f"labels{part}" / f"{item.name}{SUFFIX}", mask, mark=item.mark)
        names[item.split].append(item.name)
    about = {
        "name": name,
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "nodule": 1},
        "numTraining": len(names["train"]) + len(names["val"]),
        "file_ending": SUFFIX,
    }
    _write_json(folder / "dataset.json", about)
    _write_json(folder / "splits_final.json", [{"train": names["train"], "val": names["val"]}])


def _write_monai(items: Iterable[Item], folder: Path, name: str) -> None:
    lists: dict[str, list[dict[str, Any]]] = {title: [] for title in MONAI_SPLITS.values()}
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for item in items:
        row: dict[str, Any] = {"patient_id": item.patient_id}
        if item.ct is not None:
            row["image"] = f"images/{item.name}{SUFFIX}"
            write_image(folder / row["image"], item.ct, mark=item.mark)
        if item.mask is not None:
            row["label"] = f"labels/{item.name}{SUFFIX}"
            write_image(folder / row["label"], item.mask, mark=item.mark)
        row["box"] = [_box(item, nodule) for nodule in item.nodules]
        row["box_label"] = [0] * len(row["box"])
        lists[MONAI_SPLITS[item.split]].append(row)
    _write_json(folder / "dataset.json", {"name": name, "labels": {"0": "background", "1": "nodule"}, **lists})


def _box(item: Item, nodule: Nodule) -> list[float]:
    """A nodule's box (x, y, z, width, height, depth) in world millimetres, RAS."""
    if nodule.label and item.mask is not None:
        inside = item.regions[nodule.label - 1].indices()
        corners = item.mask.to_world(list(product(*zip(inside.min(0) - 0.5, inside.max(0) + 0.5, strict=True))))
    else:
        radius = (nodule.attributes.diameter_mm or 0) / 2
        corners = np.add([[-radius], [radius]], nodule.center_mm)
    ras = corners * [-1, -1, 1]
    low, high = ras.min(0), ras.max(0)
    return np.round([*((low + high) / 2), *(high - low)], 3).tolist()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
