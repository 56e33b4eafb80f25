"""Prepares the training of a translation: the model, and windows of label maps and CT, of the same or other places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.anatomy.tissue import ARTEFACT_HU
from synthorax.datasets.label_windows import LabelWindows, Windows, read_label_windows
from synthorax.datasets.lineage import HELD_OUT, training_data
from synthorax.datasets.one_thread import in_one_thread
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.provenance import SEEN_BEFORE, UNTOLD, patient_key
from synthorax.seeding import generator
from synthorax.systems.translation.coding import cleaned
from synthorax.systems.translation.config import TrainingOptions, TranslationConfig
from synthorax.systems.translation.system import Translation
from synthorax.systems.translation.templates import templates_of
from synthorax.training.system import Stage, Training

METAL_BECOMES_HU = 40.0
"""HU of soft tissue that replaces metal and streaks, voxels above `ARTEFACT_HU` (section 3.2, which states no HU)."""
ALIKE_SPACING = 0.05
"""Largest relative difference in voxel spacing between two stores; otherwise the critic could tell painted from real CT
by their sharpness."""
WINDOWS_SHOWN = 6


def training(config: TranslationConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a new model on windows of a store's training patients.

    Args:
        config: settings.
        data: a prepared store with the CT, and with the label maps unless `options.labels` names another store.
        seed: seed of all random draws.
        options: options of training.

    Raises:
        InputError: there is no store, it has no label maps, its cases are smaller than a window, two stores are given
            for Pix2Pix or differ in spacing, or label maps for training are of patients of the validation or test
            split.
    """
    store = Store.of(data)
    other = None if options.labels is None else Store(options.labels)
    if other is not None and config.model == "pix2pix":
        expected = "one store, whose label maps and CT are of the same places; or model=cyclegan"
        raise InputError("labels", f"{options.labels} beside {store.path} for Pix2Pix", expected)
    if other is not None:
        check_alike_spacing(other, store)
    cts = _windows(store, config, seed, options, tissue=other is None)
    labels = cts if other is None else _windows(other, config, seed, options, tissue=True)
    counts = labels.class_counts()
    shapes = templates_of(other or store, (other or store).in_split("train"), config.templates, seed)
    model = Translation(config, seed, torch.from_numpy(counts / counts.sum()).float(), shapes)
    batches = WindowPairs(labels, cts, config)
    model.shown = batches.shown()
    about = {"windows_of": len(labels.cases), "nodules": len(labels.nodules), **training_data(store)}
    if other is not None:
        about = _with_patients(about, training_data(other), other.path)
    return Training(model, [Stage("gan", config.steps, batches)], about, max(config.steps // 400, 1), config.precision)


def _windows(
    store: Store, config: TranslationConfig, seed: int, options: TrainingOptions, *, tissue: bool
) -> LabelWindows:
    return read_label_windows(
        store, store.in_split("train"), config.size, config.spacing_mm, seed, tissue=tissue, cache=options.cache
    )


def check_alike_spacing(labels: Store, cts: Store) -> None:
    """Check that the training cases of two stores have nearly the same median voxel spacing.

    Args:
        labels: store of the label maps.
        cts: store of the CT.

    Raises:
        InputError: the spacings differ by more than `ALIKE_SPACING`; names both.
    """
    usual = [np.median([case.spacing_mm for case in store.in_split("train")], axis=0) for store in (labels, cts)]
    if np.abs(np.log(usual[0] / usual[1])).max() > ALIKE_SPACING:
        sizes = [" x ".join(f"{s:.3g}" for s in own) for own in usual]
        expected = f"{sizes[1]} mm (z, y, x), as in {cts.path}; prepare one of the stores at the other's spacing"
        raise InputError(labels.path, f"voxels of {sizes[0]} mm", expected)


def _with_patients(about: dict[str, Any], labels: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the description of the data for `data.json`, with the patients of another store's label maps in training.

    Args:
        about: description of the store of the CT.
        labels: description of the store of the label maps.
        path: path of the store of the label maps, for the error.

    Raises:
        InputError: a training label map is of a patient of the CT store's validation or test split.
    """
    held = {patient_key(name): name for split in HELD_OUT for name in about["patients"][split]}
    if known := sorted(held[key] for key in map(patient_key, labels["patients"]["train"]) if key in held):
        found = (
            f"training label maps of {len(known)} patients of the data's validation and test splits, such as {known[0]}"
        )
        raise InputError(path, found, "label maps of training patients, or of patients who are not in the data")
    train = sorted({*about["patients"]["train"], *labels["patients"]["train"]})
    seen = sorted({*about.get(SEEN_BEFORE, ()), *labels.get(SEEN_BEFORE, ())})
    made = about | {"patients": about["patients"] | {"train": train}, "labels_fingerprint": labels["fingerprint"]}
    made |= {SEEN_BEFORE: seen} if seen else {}
    return made | ({UNTOLD: True} if about.get(UNTOLD) or labels.get(UNTOLD) else {})


@dataclass(frozen=True, eq=False)
class WindowPairs:
    """Gives the batch of each step: label maps and CT, of the same places for Pix2Pix, else drawn separately.

    Attributes:
        labels: source of the label maps.
        cts: source of the CT.
        config: settings.
    """

    labels: LabelWindows
    cts: LabelWindows
    config: TranslationConfig

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step, see `Translation.training_step`."""
        return in_one_thread(self._of, step, self.config.batch_size)

    def shown(self) -> dict[str, Tensor]:
        """Return windows for the preview, of the same places if the label maps and the CT are of one store."""
        maps = self._drawn(self.labels, "shown", 0, WINDOWS_SHOWN)
        cts = maps if self.labels is self.cts else self._drawn(self.cts, "shown", 0, WINDOWS_SHOWN)
        assert maps.tissue is not None
        return {"tissue": torch.from_numpy(maps.tissue), "ct": self._unit(cts.ct)}

    def _of(self, step: int, size: int) -> dict[str, Tensor]:
        maps = self._drawn(self.labels, "labels", step, size)
        cts = maps if self.config.model == "pix2pix" else self._drawn(self.cts, "ct", step, size)
        assert maps.tissue is not None
        tissue, ct = torch.from_numpy(maps.tissue), self._unit(cts.ct)
        n = round(self.config.cleaned * size)
        random = generator(self.labels.seed, "augmentation", step)
        if n:
            chosen = torch.from_numpy(random.permutation(size)[:n])
            tissue[chosen] = cleaned(tissue[chosen])
        if self.config.turns:
            drawn = [_Turn.drawn(random, self.config.by_slices) for _ in range(size)]
            apart = (
                drawn if self.config.model == "pix2pix" else [_Turn.drawn(random, self.config.by_slices) for _ in drawn]
            )
            tissue = torch.stack([turn(one) for turn, one in zip(drawn, tissue, strict=True)])
            ct = torch.stack([turn(one) for turn, one in zip(apart, ct, strict=True)])
        return {"tissue": tissue, "ct": ct}

    def _drawn(self, windows: LabelWindows, kind: str, step: int, size: int) -> Windows:
        config = self.config
        margin = config.slices // 2 if config.by_slices else 0
        return windows.drawn(kind, step, size, at_nodules=config.at_nodules, centred=config.centred, margin=margin)

    def _unit(self, hu: NDArray[np.int16]) -> Tensor:
        """Return HU [b, d, y, x] within -1 to 1, [b, 1, d, y, x]; metal becomes soft tissue, as in the label maps."""
        ct = torch.from_numpy(hu.astype(np.float32))
        ct[ct > ARTEFACT_HU] = METAL_BECOMES_HU
        return self.config.patch.to_unit(ct)[:, None]


@dataclass(frozen=True)
class _Turn:
    """A random flip of a window, and possibly an exchange of y and x.

    Attributes:
        mirrored: axes to flip, -3 for z to -1 for x.
        exchanged: whether to exchange y and x.
    """

    mirrored: tuple[int, ...]
    exchanged: bool

    @classmethod
    def drawn(cls, random: np.random.Generator, by_slices: bool) -> _Turn:
        flips = random.integers(0, 2, 3).astype(bool).tolist()
        axes = tuple(axis for axis, flip in zip((-3, -2, -1), flips, strict=True) if flip)
        return cls(axes, bool(random.integers(0, 2)))

    def __call__(self, window: Tensor) -> Tensor:
        turned = window.flip(self.mirrored) if self.mirrored else window
        return turned.transpose(-1, -2) if self.exchanged else turned
