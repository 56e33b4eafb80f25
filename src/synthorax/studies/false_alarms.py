"""A harder question than corners of nodule cubes: which nodules help a detector that is led over whole chests?

Negatives are look-alikes of whole chests, and false alarms of a first detector there, beside the corners of the cubes.
Nodules are those of the cubes, and those that makers put into training chests. A detector that has seen no nodule in a
chest could tell nodules by the scanner; so it is tested on real nodules of test patients pasted into test chests, which
lie on the scans of the negatives, and on those chests as they are.
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
"""Patients with chests that the study needs in each split; of fewer than 2 test patients nothing has an interval."""


@dataclass(frozen=True)
class AlarmOutcome:
    """What the study found.

    Attributes:
        arms: with their figures.
        counts: of patients, chests, patches and look-alikes, by these words.
        notes: what was left out.
        models: hashes of the makers' weights, by maker.
        drawn: patches that each training drew.
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
    """Train detectors with look-alikes of whole chests and made nodules in them, and lead them over other chests.

    Args:
        study: on a store of nodules in cubes.
        chests: whole chests, split by patient, of whose nodules nobody says anything.
        injectors: each has an arm beside that of the baseline.
        erasers: each has an arm with the places of training nodules that it took out as negatives.
        baseline: the trivial injector; rendering outlines of the training patients if not given.

    Raises:
        InputError: stores of too few patients, chests without lungs, or a maker that knows held-out patients of either
            store.
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
            notes.append(f"{name}: {len(made)} of {wanted} nodules were put into chests; it refused the others")
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
    """Return the whole chests of each split, and notes on those that are left out.

    A chest is left out whose patient has cubes in another split, by whom the test would be known beforehand.

    Raises:
        InputError: too few patients of a split.
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
            raise InputError(chests.path, f"whole {split} chests of {n} patients", f"{least} or more")
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
