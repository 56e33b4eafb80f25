"""The painter of label maps made ready for the loop: windows of a store's label maps and CT, of one place or of two."""

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
"""Metal and streaks, voxels above `ARTEFACT_HU`, become soft tissue (section 3.2, which does not say of which HU)."""
ALIKE_SPACING = 0.05
"""Two stores' voxels differ by at most this share: what one scanner blurs more would tell painted from real CT."""
WINDOWS_SHOWN = 6


def training(config: TranslationConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return a fresh model and the windows of a store's training patients.

    Args:
        data: a prepared store whose CT is learned from, and its label maps too, unless `options.labels` names another.

    Raises:
        InputError: no store, one without label maps, or cases smaller than a window; two stores for Pix2Pix, or of
            different spacing.
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
    """Refuse two stores whose training cases differ in their usual spacing.

    Raises:
        InputError: they do; names both spacings.
    """
    usual = [np.median([case.spacing_mm for case in store.in_split("train")], axis=0) for store in (labels, cts)]
    if np.abs(np.log(usual[0] / usual[1])).max() > ALIKE_SPACING:
        told = [" x ".join(f"{s:.3g}" for s in own) for own in usual]
        expected = f"{told[1]} mm (z, y, x), as those of {cts.path} are; prepare one of them at the other's spacing"
        raise InputError(labels.path, f"voxels of {told[0]} mm", expected)


def _with_patients(about: dict[str, Any], labels: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a run notes of its data, with the patients of another store's label maps among those of its training.

    Raises:
        InputError: patients of those label maps whom the data hold out.
    """
    held = {patient_key(name): name for split in HELD_OUT for name in about["patients"][split]}
    if known := sorted(held[key] for key in map(patient_key, labels["patients"]["train"]) if key in held):
        found = f"training label maps of {len(known)} patients whom the data hold out, such as {known[0]}"
        raise InputError(path, found, "label maps of training patients, or of others")
    train = sorted({*about["patients"]["train"], *labels["patients"]["train"]})
    seen = sorted({*about.get(SEEN_BEFORE, ()), *labels.get(SEEN_BEFORE, ())})
    made = about | {"patients": about["patients"] | {"train": train}, "labels_fingerprint": labels["fingerprint"]}
    made |= {SEEN_BEFORE: seen} if seen else {}
    return made | ({UNTOLD: True} if about.get(UNTOLD) or labels.get(UNTOLD) else {})


@dataclass(frozen=True, eq=False)
class WindowPairs:
    """The batch of a step: label maps and CT, of the same places for Pix2Pix, else drawn apart."""

    labels: LabelWindows
    cts: LabelWindows
    config: TranslationConfig

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return tissue, uint8 [b, d, y, x] of `TissueClass`, and ct, float32 [b, 1, d, y, x] from -1 to 1."""
        return in_one_thread(self._of, step, self.config.batch_size)

    def shown(self) -> dict[str, Tensor]:
        """Windows of the same places, where there is CT beside the label maps, for the preview."""
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
        """HU [b, d, y, x] as networks see them, [b, 1, d, y, x]; metal is soft tissue, as in the label maps."""
        ct = torch.from_numpy(hu.astype(np.float32))
        ct[ct > ARTEFACT_HU] = METAL_BECOMES_HU
        return self.config.patch.to_unit(ct)[:, None]


@dataclass(frozen=True)
class _Turn:
    """How a window is mirrored along (z, y, x), and whether y and x change places."""

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
