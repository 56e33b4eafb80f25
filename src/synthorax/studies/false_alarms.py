"""Which training patches spare a detector false alarms in whole chests? A harder question than corners of cubes.

Negatives are look-alikes in whole chests, false alarms of a first detector there, and corners of the store's cubes.
Positives are the nodules of the cubes, and nodules that makers inject into training chests. A detector that has seen no
nodule in a chest could recognise nodules by the scanner. So detectors are tested on real nodules of test patients that
are pasted into test chests, the same scans as those of the negatives, and on these chests without pasted nodules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from synthorax.datasets.lineage import check_unseen, check_unseen_patients
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.makers import Maker, Method
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.provenance import patient_key
from synthorax.studies.alarm_arms import (
    CORNERS,
    HARD,
    PASTED_ARM,
    AlarmBench,
    HardArm,
    as_many,
    as_negatives,
    in_chests,
)
from synthorax.studies.alarm_figures import AlarmArm, AlarmPatients, alarm_arms
from synthorax.studies.baselines import detection_splits
from synthorax.studies.chest_places import LOOK_ALIKE_KINDS, count_by_kind
from synthorax.studies.patch_makers import labelled, rendering
from synthorax.studies.trials import Splits, Study, patients_of
from synthorax.studies.unmarked_chests import UnmarkedChests
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.training import check_size

LEAST_CHEST_PATIENTS = {"train": 1, "val": 0, "test": 2}
"""Fewest patients with chests in each split; intervals over test patients need two."""


@dataclass(frozen=True)
class AlarmOutcome:
    """The results of the study.

    Attributes:
        arms: each arm with its measures.
        counts: numbers of patients, chests, patches and look-alikes, by what is counted.
        notes: sentences about chests and nodules that were left out.
        models: maker to the SHA-256 of its weights.
        drawn: number of patches that each training drew.
    """

    arms: list[AlarmArm]
    counts: dict[str, int]
    notes: list[str]
    models: dict[str, str]
    drawn: int


def false_alarm_study(
    study: Study,
    chests: Store,
    config: TaskConfig,
    injectors: Sequence[Maker] = (),
    erasers: Sequence[Maker] = (),
    *,
    baseline: Method | None = None,
) -> AlarmOutcome:
    """Train detectors with look-alikes and synthetic nodules in whole chests, and apply them to other chests.

    Args:
        study: a study on a store of nodules in cubes.
        chests: whole chests, split by patient; their nodules need not be known.
        config: the detector and its training.
        injectors: makers that inject; each has an arm beside that of the baseline.
        erasers: makers that erase; each has an arm in which places of erased training nodules are negatives.
        baseline: the trivial injector; by default, rendering with the outlines of the training patients.

    Raises:
        InputError: a store has too few patients, no lungs are found in a chest, or a maker was trained on held-out
            patients of either store.
    """
    check_size(Classification(config))
    parts, notes = split_chests(chests, study.store)
    unseen = {patient_key(patient): patient for split in ("val", "test") for patient in parts[split].patients.tolist()}
    for maker in (*injectors, *erasers):
        check_unseen(maker.lineage, study.store)
        check_unseen_patients(maker.lineage, unseen)
    named = labelled([baseline or rendering(study.store), *injectors])
    healers = labelled(erasers)
    splits = detection_splits(study, config)
    bench = AlarmBench(study, config, splits, parts)
    spots = {split: bench.look_alikes(split) for split in parts}
    if not len(spots["train"]):
        raise InputError(chests.path, "no look-alike of a nodule in training chests", "chests with vessels and walls")
    first = bench.trained(HardArm(HARD, {NEGATIVE: spots["train"]}), study.seeds[0], spots["val"])
    hard = {split: bench.hard(split, first) for split in parts}
    negatives = {NEGATIVE: hard["train"]}
    arms = [HardArm(CORNERS), HardArm(HARD, negatives)]
    arms.append(HardArm(PASTED_ARM, negatives | {POSITIVE: bench.pasted("train", splits.train)}))
    for name, maker in named.items():
        made = bench.injected(name, cast(Method, maker))
        arms.append(HardArm(in_chests(name), negatives | {POSITIVE: made}))
        if (wanted := int((splits.train.labels == POSITIVE).sum())) > len(made):
            notes.append(f"{name} injected {len(made)} of {wanted} nodules into chests and refused the others")
    for name, maker in healers.items():
        healed = bench.erased(name, cast(Method, maker))
        both = np.concatenate([as_many(hard["train"], len(healed)), healed])
        arms.append(HardArm(as_negatives(name), {NEGATIVE: both}))
    pasted = bench.pasted("test", splits.test)
    tested = np.concatenate([pasted, hard["test"]])
    said = {
        arm.name: [bench.said(arm, seed, hard["val"], tested, parts["test"]) for seed in study.seeds] for arm in arms
    }
    test = AlarmPatients(
        cubes=patients_of(splits.test),
        labels=splits.test.labels,
        pasted=patients_of(splits.test)[bench.pasted_rows("test", splits.test)],
        look_alikes=bench.hard_patients("test", first),
        chests=parts["test"].patients,
    )
    every: dict[str, Maker] = {**named, **healers}
    return AlarmOutcome(
        arms=alarm_arms(said, test, HARD),
        counts=_counts(splits, parts, {split: len(hard[split]) - len(spots[split]) for split in parts}, len(pasted)),
        notes=notes,
        models={name: maker.lineage.model_sha256 for name, maker in every.items() if maker.lineage.model_sha256},
        drawn=config.steps * config.batch_size,
    )


def split_chests(chests: Store, cubes: Store) -> tuple[dict[str, UnmarkedChests], list[str]]:
    """Return the whole chests of each split, and notes on the chests that are left out.

    A chest is left out if its patient has cubes in another split, because a patient must not be both trained on and
    tested.

    Raises:
        InputError: a split has too few patients.
    """
    split_of = {patient: split for split, patients in cubes.splits.items() for patient in patients}
    parts, notes = {}, []
    for split, least in LEAST_CHEST_PATIENTS.items():
        whole = [case for case in chests.in_split(split) if case.is_whole]
        own = [case for case in whole if split_of.get(case.patient_id, split) == split]
        notes += [
            f"left out: {case.case_id}, a {split} chest of a {split_of[case.patient_id]} patient of the cubes"
            for case in whole
            if case not in own
        ]
        if (n := len({case.patient_id for case in own})) < least:
            expected = f"{least} or more; prepare more chests, or divide them otherwise, by another --split or --seed"
            raise InputError(chests.path, f"whole {split} chests of {n} patients", expected)
        parts[split] = UnmarkedChests(chests, tuple(own))
    return parts, notes


def _counts(
    splits: Splits, parts: Mapping[str, UnmarkedChests], alarms: Mapping[str, int], pasted: int
) -> dict[str, int]:
    found = {
        "test patients of the cubes": len(np.unique(patients_of(splits.test))),
        "test nodules of the cubes": int((splits.test.labels == POSITIVE).sum()),
        "test corners": int((splits.test.labels == NEGATIVE).sum()),
        "nodules pasted into test chests": pasted,
    }
    for split, chests in parts.items():
        found[f"{split} chests"] = len(chests.cases)
        kinds = count_by_kind([one for each in chests.look_alikes for one in each])
        found |= {f"{split} look-alikes: {kind}": kinds[kind] for kind in LOOK_ALIKE_KINDS}
        found[f"{split} false alarms of the first detector"] = alarms[split]
    return found
