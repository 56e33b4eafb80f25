"""Arms of the study of false alarms: the patches that each adds to the store's cubes, its trainings and its scores."""

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
from synthorax.provenance import fingerprint, making_key
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
"""Names of arms: trained without look-alikes; with look-alikes, the reference of the comparisons; with look-alikes, and
with real nodules pasted into chests."""
HARD_SHARE = 0.5
"""Share of a class's training patches that are look-alikes or synthetic nodules; the rest are patches of the cubes."""
SITES_AT_ONCE = 64
"""Number of cubes held in memory at once while their nodules are erased."""


def in_chests(maker: str) -> str:
    """Return the name of the arm that adds a maker's nodules, injected into chests, as positives."""
    return f"{HARD} + {maker}"


def as_negatives(maker: str) -> str:
    """Return the name of the arm that adds places from which an eraser removed the nodule, as negatives."""
    return f"{HARD} + erased by {maker}"


@dataclass(frozen=True, eq=False)
class HardArm:
    """The patches that an arm adds to the real patches of the cubes.

    Attributes:
        made: class to its added patches, int16 HU [n, z, y, x]; they replace `HARD_SHARE` of the class's real patches.
    """

    name: str
    made: Mapping[int, NDArray[np.int16]] = field(default_factory=dict)

    def feed(self, config: TaskConfig) -> Feed:
        """Return the batches of a training of this arm."""
        if not self.made:
            return Feed("", lambda train: partial(train.batch, size=config.batch_size))
        key = repr((HARD_SHARE, {label: key_of(made) for label, made in self.made.items()}))
        return Feed(key, lambda train: MixedBatches(train, self.made, HARD_SHARE, config.batch_size))


@dataclass(frozen=True, eq=False)
class AlarmBench:
    """The patches of all arms, each made once and kept in a file, and the trainings of the arms.

    Attributes:
        splits: patches of the store's cubes: nodules, and corners without a nodule.
        chests: split to its chests.
    """

    study: Study
    config: TaskConfig
    splits: Splits
    chests: Mapping[str, UnmarkedChests]

    @property
    def folder(self) -> Path:
        """Folder in which patches are kept."""
        return self.study.out.parent / MADE

    @cached_property
    def like(self) -> str:
        """Hash of the cubes, the chests and the patch grid; names the files of kept patches."""
        keys = [chests.key for chests in self.chests.values()]
        return self.study.key(self.splits, *keys, repr(self.config.patch))[:12]

    def look_alikes(self, split: str) -> NDArray[np.int16]:
        """Return the patches around the look-alikes of a split's chests, int16 HU [n, z, y, x]."""
        chests = self.chests[split]

        def make() -> NDArray[np.int16]:
            return chests.patches([[one.center_mm for one in each] for each in chests.look_alikes], self.config.patch)

        return kept_patches(self.folder / f"look-alikes-{split}-{self.like}.npy", make)

    def alarm_places(self, split: str, detector: Classification) -> NDArray[np.float64]:
        """Return a detector's false alarms in a split's chests: rows of chest number and x, y, z in mm, [n, 4]."""
        chests = self.chests[split]
        key = fingerprint(repr((self.like, self.config, detector.seed)).encode())[:12]

        def make() -> NDArray[np.float64]:
            places = chests.false_alarms_mm(detector)
            rows = [(i, *place) for i, each in enumerate(places) for place in each]
            return np.array(rows, np.float64).reshape(-1, 4)

        return kept_patches(self.folder / f"false-alarms-{split}-{key}.npy", make)

    def hard(self, split: str, detector: Classification) -> NDArray[np.int16]:
        """Return patches around a split's look-alikes, then around a detector's false alarms, int16 HU [n, z, y, x]."""
        rows = self.alarm_places(split, detector)
        chests = self.chests[split]
        alarms = [rows[rows[:, 0] == i, 1:].tolist() for i in range(len(chests.cases))]
        return np.concatenate([self.look_alikes(split), chests.patches(alarms, self.config.patch)])

    def hard_patients(self, split: str, detector: Classification) -> NDArray[np.str_]:
        """Return the patient of each patch of `hard`, [n]."""
        chests = self.chests[split]
        spots = np.repeat(np.arange(len(chests.cases)), [len(each) for each in chests.look_alikes])
        numbers = np.concatenate([spots, self.alarm_places(split, detector)[:, 0].astype(int)])
        return chests.patients[numbers] if len(numbers) else np.zeros(0, np.str_)

    def pasted(self, split: str, patches: PatchDataset) -> NDArray[np.int16]:
        """Paste the nodules of the cubes' patches into a split's chests; return the patches around them.

        Nodules without an outline, and nodules for which no chest has room, are left out (`pasted_rows` has the rest).

        Returns:
            int16 HU [n, z, y, x].
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
        """Return the rows of `patches` whose nodules `pasted` pastes, [n], in its order."""
        return np.array(sorted(self._places(split, patches)), np.int64)

    def _places(self, split: str, patches: PatchDataset) -> dict[int, tuple[int, tuple[float, float, float]]]:
        """Map the row of each pasted nodule's patch to its chest number and its place (x, y, z) in mm."""
        outlined = [i for i, place in enumerate(patches.places) if place.nodule is not None and place.nodule.label]
        widths = [patches.places[i].nodule.attributes.diameter_mm or 0.0 for i in outlined]  # type: ignore[union-attr]
        found = self.chests[split].nodule_places(widths, derive(0, "pasted", split))
        both = zip(outlined, found, strict=True)
        return {row: (place[0], place[1].center_mm) for row, place in both if place is not None}

    def injected(self, name: str, method: Method) -> NDArray[np.int16]:
        """Return patches of training chests into which a method injected nodules, int16 HU [n, z, y, x].

        The nodules have the attributes of the training nodules of the cubes.
        """
        n = int((self.splits.train.labels == POSITIVE).sum())
        key = "-".join(filter(None, (self.like, making_key(method)[:12])))

        def make() -> NDArray[np.int16]:
            nodules = nodules_of(self.splits.train, n, 1)
            return self.chests["train"].with_nodules(method, nodules, self.config.patch, derive(0, "injected"))

        return kept_patches(self.folder / f"{name.replace(' ', '-')}-in-chests-{key}-{n}.npy", make)

    def erased(self, name: str, method: Method) -> NDArray[np.int16]:
        """Return patches around training nodules of the cubes that an eraser removed, int16 HU [n, z, y, x].

        The eraser gets the masks of the nodules.
        """
        key = "-".join(filter(None, (self.like, making_key(method)[:12])))

        def make() -> NDArray[np.int16]:
            sites = nodule_sites(self.study.store, "train")
            patches = []
            for start in range(0, len(sites), SITES_AT_ONCE):
                made = erased(method, sites[start : start + SITES_AT_ONCE], derive(0, "erased", start), with_masks=True)
                around = [(one.after, one.site.ball.center_mm) for one in made.made]
                patches += [np.rint(patch_around(*each, self.config.patch)).astype(np.int16) for each in around]
            return np.stack(patches)

        return kept_patches(self.folder / f"{name.replace(' ', '-')}-erased-{key}.npy", make)

    def trained(self, arm: HardArm, seed: int, hard: NDArray[np.int16]) -> Classification:
        """Train an arm, or load the training of an earlier call.

        Args:
            hard: patches without a nodule from validation patients' chests; their loss counts when the best weights
                are chosen.
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
        """Return the scores that one training of an arm gives test patients, or load those of an earlier call.

        Args:
            hard: see `trained`.
            tested: patches in chests, int16 HU [n, z, y, x].

        Returns:
            Log odds of a nodule: in `val` for the test patches of the cubes, in `test` for `tested`, and in `marks`
            for the detector's marks at places of the chests that hold no nodule.
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
    """Return the measures on validation patients; nodules, corners and look-alikes weigh the same in the loss."""
    figures = task.validate(patches)
    if not len(hard):
        return figures
    unit = task.config.patch.to_unit(torch.from_numpy(hard.astype(np.float32)))[:, None]
    loss = float(-np.log(np.clip(task.probabilities(unit)[:, NEGATIVE], 1e-7, 1)).mean())
    return figures | {"val_loss": (2 * figures["val_loss"] + loss) / 3}


def as_many(patches: NDArray[np.int16], n: int, seed: int = 0) -> NDArray[np.int16]:
    """Draw `n` of the patches; if there are fewer than `n`, draw patches several times."""
    random = generator(seed, "as many")
    rows = [random.permutation(len(patches)) for _ in range(-(-n // max(len(patches), 1)))]
    return patches[np.concatenate(rows)[:n]]
