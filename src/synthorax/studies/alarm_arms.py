"""Arms of the study of false alarms: what each trains on beside the nodules and corners of cubes, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from synthorax.datasets.mixed import MixedBatches
from synthorax.datasets.patches import PatchDataset
from synthorax.makers import Method
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.provenance import fingerprint
from synthorax.seeding import derive, generator
from synthorax.studies.erased import erased, nodule_sites
from synthorax.studies.noted import read_scores
from synthorax.studies.pasting import pasted_into
from synthorax.studies.patch_makers import kept_patches, key_of, nodules_of
from synthorax.studies.responses import log_odds_of, patch_around
from synthorax.studies.results import MADE
from synthorax.studies.trials import Feed, Scores, Splits, Study, write_scores
from synthorax.studies.unmarked_chests import UnmarkedChests
from synthorax.tasks.classification import Classification, cts
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.training import train_task

CORNERS, HARD, PASTED_ARM = "corners alone", "hard negatives", "hard negatives + pasted"
"""Arms: without look-alikes; with them, which the others are compared with; with real nodules pasted into chests."""
HARD_SHARE = 0.5
"""Share of the patches of a class that are look-alikes, or made nodules; the rest are real ones of the cubes."""
SITES_AT_ONCE = 64
"""Cubes that are in memory at once while nodules are taken out of them."""


def in_chests(maker: str) -> str:
    """The arm of a maker's nodules in chests."""
    return f"{HARD} + {maker}"


def as_negatives(maker: str) -> str:
    """The arm of the places of nodules that an eraser took out."""
    return f"{HARD} + erased by {maker}"


@dataclass(frozen=True, eq=False)
class HardArm:
    """What an arm trains on beside the real patches of the cubes.

    Attributes:
        made: int16 HU [n, z, y, x] by class, which take the place of `HARD_SHARE` of that class.
    """

    name: str
    made: Mapping[int, NDArray[np.int16]] = field(default_factory=dict)

    def feed(self, config: TaskConfig) -> Feed:
        """The batches of a training."""
        if not self.made:
            return Feed("", lambda train: partial(train.batch, size=config.batch_size))
        key = repr((HARD_SHARE, {label: key_of(made) for label, made in self.made.items()}))
        return Feed(key, lambda train: MixedBatches(train, self.made, HARD_SHARE, config.batch_size))


@dataclass(frozen=True, eq=False)
class AlarmBench:
    """Patches for arms, made once and kept, and the trainings of arms.

    Attributes:
        splits: nodules of cubes, and corners.
        chests: by split.
    """

    study: Study
    config: TaskConfig
    splits: Splits
    chests: Mapping[str, UnmarkedChests]

    @property
    def folder(self) -> Path:
        """Where made patches are kept."""
        return self.study.out.parent / MADE

    @cached_property
    def like(self) -> str:
        """What patches are known by: cubes, chests and the grid."""
        keys = [chests.key for chests in self.chests.values()]
        return self.study.key(self.splits, *keys, repr(self.config.patch))[:12]

    def look_alikes(self, split: str) -> NDArray[np.int16]:
        """Patches of look-alikes of the chests of a split."""
        chests = self.chests[split]

        def make() -> NDArray[np.int16]:
            return chests.patches([[one.center_mm for one in each] for each in chests.look_alikes], self.config.patch)

        return kept_patches(self.folder / f"look-alikes-{split}-{self.like}.npy", make)

    def alarm_places(self, split: str, detector: Classification) -> NDArray[np.float64]:
        """Places in the chests of a split that a detector takes for nodules: number of the chest, x, y, z, [n, 4]."""
        chests = self.chests[split]
        key = fingerprint(repr((self.like, self.config, detector.seed)).encode())[:12]

        def make() -> NDArray[np.float64]:
            places = chests.false_alarms_mm(detector)
            rows = [(i, *place) for i, each in enumerate(places) for place in each]
            return np.array(rows, np.float64).reshape(-1, 4)

        return kept_patches(self.folder / f"false-alarms-{split}-{key}.npy", make)

    def hard(self, split: str, detector: Classification) -> NDArray[np.int16]:
        """Patches of look-alikes of the chests of a split, and then of places that a detector takes for nodules."""
        rows = self.alarm_places(split, detector)
        chests = self.chests[split]
        alarms = [rows[rows[:, 0] == i, 1:].tolist() for i in range(len(chests.cases))]
        return np.concatenate([self.look_alikes(split), chests.patches(alarms, self.config.patch)])

    def hard_patients(self, split: str, detector: Classification) -> NDArray[np.str_]:
        """The patient of each of these patches."""
        chests = self.chests[split]
        spots = np.repeat(np.arange(len(chests.cases)), [len(each) for each in chests.look_alikes])
        numbers = np.concatenate([spots, self.alarm_places(split, detector)[:, 0].astype(int)])
        return chests.patients[numbers] if len(numbers) else np.zeros(0, np.str_)

    def pasted(self, split: str, patches: PatchDataset) -> NDArray[np.int16]:
        """The nodules of patches of cubes, each pasted into a place of the chests of a split.

        Nodules that fit nowhere, or whose voxels nobody outlined, are missing.
        """

        def make() -> NDArray[np.int16]:
            chests, spec = self.chests[split], self.config.patch
            places = self._places(split, patches)
            rows = np.array(sorted(places), np.int64)
            batch = patches.rows(rows.tolist())
            donors, masks = spec.to_hu(batch["ct"][:, 0]).numpy(), batch["mask"][:, 0].numpy() > 0
            found = np.zeros((len(rows), *spec.size), np.int16)
            for i, row in enumerate(rows.tolist()):
                chest, center = places[row]
                hu = chests.patch(chest, center, spec).astype(np.float32)
                found[i] = np.rint(pasted_into(hu, donors[i], masks[i], spec.spacing_mm)).astype(np.int16)
            return found

        return kept_patches(self.folder / f"pasted-{split}-{self.like}.npy", make)

    def pasted_rows(self, split: str, patches: PatchDataset) -> NDArray[np.int64]:
        """Numbers of the patches whose nodules are pasted."""
        return np.array(sorted(self._places(split, patches)), np.int64)

    def _places(self, split: str, patches: PatchDataset) -> dict[int, tuple[int, tuple[float, float, float]]]:
        """The chest and the place of each nodule that is pasted, by the number of its patch."""
        outlined = [i for i, place in enumerate(patches.places) if place.nodule is not None and place.nodule.label]
        widths = [patches.places[i].nodule.attributes.diameter_mm or 0.0 for i in outlined]  # type: ignore[union-attr]
        found = self.chests[split].nodule_places(widths, derive(0, "pasted", split))
        both = zip(outlined, found, strict=True)
        return {row: (place[0], place[1].center_mm) for row, place in both if place is not None}

    def injected(self, name: str, method: Method) -> NDArray[np.int16]:
        """Patches of training chests with a method's nodules, with the attributes of the cubes' training nodules."""
        n = int((self.splits.train.labels == POSITIVE).sum())
        key = "-".join(filter(None, (self.like, method.lineage.model_sha256[:12])))

        def make() -> NDArray[np.int16]:
            nodules = nodules_of(self.splits.train, n, 1)
            return self.chests["train"].with_nodules(method, nodules, self.config.patch, derive(0, "injected"))

        return kept_patches(self.folder / f"{name.replace(' ', '-')}-in-chests-{key}-{n}.npy", make)

    def erased(self, name: str, method: Method) -> NDArray[np.int16]:
        """Patches of the cubes' training nodules that an eraser took out; it is told their voxels."""
        key = "-".join(filter(None, (self.like, method.lineage.model_sha256[:12])))

        def make() -> NDArray[np.int16]:
            sites = nodule_sites(self.study.store, "train")
            patches = []
            for start in range(0, len(sites), SITES_AT_ONCE):
                made = erased(method, sites[start : start + SITES_AT_ONCE], derive(0, "erased", start), told=True)
                around = [(one.after, one.site.ball.center_mm) for one in made.made]
                patches += [np.rint(patch_around(*each, self.config.patch)).astype(np.int16) for each in around]
            return np.stack(patches)

        return kept_patches(self.folder / f"{name.replace(' ', '-')}-erased-{key}.npy", make)

    def trained(self, arm: HardArm, seed: int, hard: NDArray[np.int16]) -> Classification:
        """Train an arm, or read it from an earlier call.

        Args:
            hard: patches without a nodule of validation patients' chests, which the best weights are chosen by too.
        """
        task, feed = Classification(self.config, seed), arm.feed(self.config)
        key = self._key(arm, hard)
        train = self.splits.train.with_seed(seed).flipped(self.config.flip, self.config.turn)
        out = self.study.out / f"{arm.name}-{seed}".replace(" ", "-") / key
        validate = partial(_validate, task, self.splits.val, hard)
        about = {"fingerprint": key}
        return train_task(task, feed.batches(train), validate, out, about, device=self.study.device)

    def said(
        self, arm: HardArm, seed: int, hard: NDArray[np.int16], tested: NDArray[np.int16], chests: UnmarkedChests
    ) -> Scores:
        """What a training of an arm says of test patients, from an earlier call if there was one.

        Args:
            hard: as of `trained`.
            tested: patches in chests.

        Returns:
            val of the test patches of the cubes, test of `tested`, marks in the chests where no nodule is.
        """
        content = "".join((self._key(arm, hard), key_of(tested), chests.key))
        note = (
            self.study.out / f"{arm.name}-{seed}".replace(" ", "-") / f"said-{fingerprint(content.encode())[:16]}.npz"
        )
        if note.exists():
            return Scores(*read_scores(note, len(self.splits.test), len(tested)))
        self.study.console.print(f"{arm.name}, training seed {seed}", markup=False)
        detector = self.trained(arm, seed, hard)
        in_cubes = np.concatenate([log_odds_of(detector, ct) for ct in cts(self.splits.test)])
        scores = Scores(in_cubes, log_odds_of(detector, self._unit(tested)), chests.marks(detector))
        write_scores(note, scores)
        return scores

    def _key(self, arm: HardArm, hard: NDArray[np.int16]) -> str:
        content = (self.study.key(self.splits, arm.feed(self.config).key), repr(self.config), key_of(hard))
        return fingerprint("\n".join(content).encode())[:16]

    def _unit(self, patches: NDArray[np.int16]) -> torch.Tensor:
        return self.config.patch.to_unit(torch.from_numpy(patches.astype(np.float32)))[:, None]


def _validate(task: Classification, patches: PatchDataset, hard: NDArray[np.int16]) -> dict[str, float]:
    """Figures of the validation patients: nodules, corners and look-alikes weigh the same in the loss."""
    figures = task.validate(patches)
    if not len(hard):
        return figures
    unit = task.config.patch.to_unit(torch.from_numpy(hard.astype(np.float32)))[:, None]
    loss = float(-np.log(np.clip(task.probabilities(unit)[:, NEGATIVE], 1e-7, 1)).mean())
    return figures | {"val_loss": (2 * figures["val_loss"] + loss) / 3}


def as_many(patches: NDArray[np.int16], n: int, seed: int = 0) -> NDArray[np.int16]:
    """Some of the patches, or some of them several times, `n` in all."""
    random = generator(seed, "as many")
    rows = [random.permutation(len(patches)) for _ in range(-(-n // max(len(patches), 1)))]
    return patches[np.concatenate(rows)[:n]]
