"""How many real scans do synthetic ones replace for a segmenter? The study of Hagvall Hörnstedt, with further arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.lineage import check_unseen, outline_patients
from synthorax.datasets.places import outlined_places
from synthorax.datasets.splits import LEAST_PATIENTS
from synthorax.datasets.store import CaseEntry
from synthorax.editing.painting import SAME_SPACING
from synthorax.errors import InputError
from synthorax.makers import Maker, Method
from synthorax.metrics.bootstrap import mean_of
from synthorax.patch import PatchSpec
from synthorax.provenance import fingerprint
from synthorax.rendering.shapes import LidcOutlines, ShapeSource
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.shapes.overlap import dice
from synthorax.studies.made_volumes import FewShapes, MadeVolumes, VolumePlan, volume_maker
from synthorax.studies.marked_volumes import NODULE, UNCOUNTED, MarkedVolumes, empty_volumes, nodule_volumes
from synthorax.studies.patch_makers import labelled, rendering
from synthorax.studies.results import MADE, Arm, Interval, with_corrected_p
from synthorax.studies.segmentation_arms import (
    FOLD,
    FULL,
    RealPatients,
    SegmenterArm,
    SegmenterArmKind,
    beside_few,
    segmenter_arms,
)
from synthorax.studies.segmentation_config import SegmenterConfig
from synthorax.studies.segmentation_figures import (
    COMPARED,
    SEGMENTER_MEASURES,
    Replaced,
    Segmented,
    SegmenterTest,
    Spread,
    compared_segmenters,
    figures_of,
    replaced,
    smallest_difference,
    spread_of,
)
from synthorax.studies.segmentation_trials import Lessons, SegmenterTrials, segmented
from synthorax.studies.trials import Study, over_seeds
from synthorax.tasks.segmentation import Segmentation
from synthorax.tasks.training import check_size

BALL = "ball in the middle, of the stated diameter"
JUDGED = 96
"""Most synthetic volumes of each maker on which a network trained on real patients is measured."""
THESIS_ARMS = {"N synthetic": 1, "4N synthetic": 2, beside_few("", FOLD, main=True): 3, FULL: 0}
"""Arm to the number of the thesis' model that was trained alike; 0 is its comparison model."""
PAPER_SEGMENTATION: Mapping[int, Mapping[str, tuple[float, float, float, float | None]]] = {
    1: {
        "sensitivity": (0.3689, 0.3773, 0.311, 0.013),
        "dice": (0.2994, 0.2936, 0.238, 0.065),
        "f2": (0.2855, 0.3208, 0.257, 0.046),
    },
    2: {
        "sensitivity": (0.2288, 0.3336, 0.306, 0.0004),
        "dice": (0.2033, 0.2490, 0.234, 0.004),
        "f2": (0.2458, 0.2784, 0.259, 0.002),
    },
    3: {
        "sensitivity": (0.6161, 0.5490, 0.275, 0.140),
        "dice": (0.3452, 0.3736, 0.226, 0.838),
        "f2": (0.4288, 0.4286, 0.236, 0.384),
    },
    0: {
        "sensitivity": (0.5276, 0.4910, 0.305, None),
        "dice": (0.3418, 0.3680, 0.278, None),
        "f2": (0.4147, 0.4031, 0.276, None),
    },
}
"""The thesis' tables 5.2, 5.3, 5.4 and 5.6, by number of the model: median, mean, SD, and p against the comparison
model, after 100,000 iterations."""
PAPER_LATER: Mapping[int, Mapping[str, tuple[float, float, float, float | None]]] = {
    3: {
        "sensitivity": (0.5776, 0.5244, 0.295, 0.437),
        "dice": (0.2175, 0.2934, 0.226, 0.002),
        "f2": (0.3400, 0.3620, 0.237, 0.028),
    },
    0: {
        "sensitivity": (0.5477, 0.5309, 0.312, None),
        "dice": (0.4314, 0.4065, 0.285, None),
        "f2": (0.4665, 0.4417, 0.286, None),
    },
}
"""The thesis' tables 5.5 and 5.7: the same after 120,000 iterations."""


@dataclass(frozen=True)
class SegmentationOutcome:
    """The results of the study.

    Attributes:
        arms: each arm with its measures at the headline checkpoint.
        learned: arm to its numbers of real patients, real volumes and synthetic volumes.
        spreads: arm to measure to the spread over volumes, at the headline checkpoint.
        curves: checkpoint to arm to measure to its mean.
        tests: comparisons of arms at the headline checkpoint.
        later: the same comparisons at the last checkpoint.
        replaced: number of further real patients that 10 n synthetic volumes beside n real patients replace.
        smallest: difference of mean Dice that the comparisons would detect with a power of 80 %.
        boundaries: maker to the Dice between its volumes' masks and the segmentations by a network trained on N real
            patients; `real` has the Dice on the test volumes.
        counts: numbers of patients and volumes.
        drawn: number of windows that each training drew.
        notes: sentences about cases that were left out.
        models: maker to the SHA-256 of its weights.
    """

    arms: list[Arm]
    learned: dict[str, tuple[int, int, int]]
    spreads: dict[str, dict[str, Spread]]
    curves: dict[int, dict[str, dict[str, Interval]]]
    tests: list[SegmenterTest]
    later: list[SegmenterTest]
    replaced: Replaced
    smallest: float | None
    boundaries: dict[str, Interval]
    counts: dict[str, int]
    drawn: int
    notes: tuple[str, ...] = ()
    models: dict[str, str] = field(default_factory=dict)


def segmentation_study(
    study: Study,
    config: SegmenterConfig,
    makers: Sequence[Maker],
    *,
    arms: Sequence[SegmenterArmKind] = get_args(SegmenterArmKind),
    shapes: ShapeSource | None = None,
    baseline: Method | None = None,
) -> SegmentationOutcome:
    """Train the thesis' segmenter on real and on synthetic volumes, and measure it on the test patients.

    The n real patients are the validation patients, on whom no maker was trained. Further real patients, and the label
    maps of synthetic volumes, come from the training split.

    Args:
        study: the store, the folder of the trainings, and their seeds.
        config: the segmenter, its training, and the volumes.
        makers: painters and injectors. The first must paint; it makes the volumes of all arms but the comparison of
            makers, in which every other maker has one arm.
        arms: kinds of arms to train.
        shapes: shapes of the added nodules; by default, outlines of LIDC-IDRI's training patients.
        baseline: the trivial injector; by default, rendering with such outlines.

    Raises:
        InputError: the store has too few patients or no label maps, the first maker does not paint, a painter has
            another voxel size, or a maker was trained on patients of validation or test.
    """
    store, test_cases = study.store, study.store.in_split("test")
    check_segmenter_makers(makers, config)
    for maker in makers:
        check_unseen(maker.lineage, store)
    check_size(Segmentation(config))
    named = labelled([makers[0], *([baseline or rendering(store)] if "sources" in arms else []), *makers[1:]])
    train, val = (_outlined(store.in_split(split)) for split in ("train", "val"))
    patients = RealPatients.of(store, val, train)
    if len({case.patient_id for case in _outlined(test_cases)}) < LEAST_PATIENTS:
        raise InputError(store.path, "too few test patients with outlined nodules", f"{LEAST_PATIENTS} or more")
    with_maps = [case for case in store.in_split("train") if case.has_tissue and not case.synthetic]
    if not with_maps:
        raise InputError(store.path, "no training case with a label map", "a store prepared with --tissue")
    volumes = partial(nodule_volumes, store, spec=config.volume_spec, cache=study.cache)
    real, test = volumes([*val, *train]), volumes(test_cases)
    empty = empty_volumes(store, test_cases, config.empty_spec, cache=study.cache)
    trials = SegmenterTrials(study, config, test, empty)
    shapes = shapes or LidcOutlines(outline_patients(store))
    source = (shapes.lineage.name, shapes.lineage.model_sha256, sorted(shapes.lineage.outlines))
    plan = VolumePlan(store, with_maps, config.volume_spec, shapes, fingerprint(repr(source).encode()))
    like = fingerprint(f"{store.fingerprint} {store.splits}".encode())
    folder = study.out.parent / MADE
    sources = {name: MadeVolumes(name, maker, plan, folder, like) for name, maker in named.items()}
    sizes = [len(patients.rows(real.patients, k)) for k in (patients.few, patients.full // 2, patients.full)]
    chosen = segmenter_arms(arms, patients, (sizes[0], sizes[1], sizes[2]), list(named))
    lessons = {arm.name: _lessons(arm, real, patients, sources, shapes) for arm in chosen}
    found = {arm.name: trials(arm.name, lessons[arm.name]) for arm in chosen}
    voxel = float(np.prod(config.spacing_mm))
    empty_of = np.zeros(0, str) if empty is None else empty.patients
    curves = {
        step: {name: figures_of(at[step], test.patients, empty_of, voxel) for name, at in found.items()}
        for step in config.checkpoints
    }
    at = {step: {name: each[step] for name, each in found.items()} for step in config.checkpoints}
    headline = at[config.headline]
    tests = _compared(chosen, headline, test.patients)
    alone = {arm.real: headline[arm.name] for arm in chosen if not arm.made}
    judge = trials.trained(FULL, lessons[FULL], study.seeds[0])
    return SegmentationOutcome(
        arms=[Arm(arm.name, list(study.seeds), curves[config.headline][arm.name], _paper(arm.name)) for arm in chosen]
        + [_ball(test_cases, test, config.volume_spec)],
        learned={arm.name: (arm.real, len(patients.rows(real.patients, arm.real)), arm.made) for arm in chosen},
        spreads={
            name: {measure: spread_of(each.values(measure), len(empty_of)) for measure in SEGMENTER_MEASURES}
            for name, each in headline.items()
        },
        curves=curves,
        tests=tests,
        later=_compared(chosen, at[config.checkpoints[-1]], test.patients),
        replaced=replaced(headline[beside_few("", FOLD, main=True)], alone, test.patients),
        smallest=smallest_difference(tests),
        boundaries=_boundaries(
            judge, test, {name: made.first(min(JUDGED, FOLD * sizes[0])) for name, made in sources.items()}
        ),
        counts={
            "n patients": patients.few,
            "N patients": patients.full,
            "n volumes": sizes[0],
            "N volumes": sizes[2],
            "test patients": len(np.unique(test.patients)),
            "test volumes": len(test),
            "empty volumes": len(empty_of),
        },
        drawn=config.steps * config.batch_size,
        notes=_notes(store.cases, [*val, *train, *test_cases]),
        models={name: maker.lineage.model_sha256 for name, maker in named.items() if maker.lineage.model_sha256},
    )


def check_segmenter_makers(makers: Sequence[Maker], config: SegmenterConfig) -> None:
    """Check that the first maker paints, and that all makers can make the volumes of a configuration.

    Raises:
        InputError: a maker does not; the error names it.
    """
    if not makers or "paints" not in makers[0].roles:
        found = f"{makers[0].name}, which does not paint" if makers else "none"
        raise InputError("model", found, "as the first one a model that paints label maps")
    for maker in makers:
        volume_maker(maker)
        if "paints" in maker.roles:
            spacing, least = maker.spacing_mm, maker.smallest  # type: ignore[attr-defined]
            if not np.allclose(spacing, config.spacing_mm, rtol=SAME_SPACING, atol=0):
                raise InputError("model", f"{maker.name}, which paints voxels of {spacing} mm", f"{config.spacing_mm}")
            if any(n < k for n, k in zip(config.volume, least, strict=True)):
                expected = f"windows of at most the volumes' {config.volume}; or another preset of the study"
                raise InputError("model", f"{maker.name}, whose windows have {least} voxels", expected)


def _outlined(cases: Sequence[CaseEntry]) -> list[CaseEntry]:
    """Return the real cases that have an outlined nodule."""
    return [case for case in cases if not case.synthetic and any(nodule.label for nodule in case.nodules)]


def _lessons(
    arm: SegmenterArm,
    real: MarkedVolumes,
    patients: RealPatients,
    sources: Mapping[str, MadeVolumes],
    shapes: ShapeSource,
) -> Lessons:
    """Return the volumes of an arm; synthetic ones are made when the arm is first trained."""
    rows = patients.rows(real.patients, arm.real)
    made = sources.get(arm.source)
    if made is not None and arm.templates:
        few = FewShapes(shapes, arm.templates, derive(0, "templates"))
        made = replace(made, plan=replace(made.plan, shapes=few, key=f"{made.plan.key}, {arm.templates} templates"))

    def parts() -> list[MarkedVolumes]:
        own = [real.rows(rows)] if len(rows) else []
        return own + (made.first(arm.made) if made is not None and arm.made else [])

    return Lessons(repr((rows.tolist(), made.key if made is not None and arm.made else "", arm.made)), parts)


def _compared(
    arms: Sequence[SegmenterArm], found: Mapping[str, Segmented], patients: NDArray[np.str_]
) -> list[SegmenterTest]:
    """Compare every arm with its reference arms; the p values of each measure are corrected for the number of pairs."""
    tests = []
    for measure in COMPARED:
        pairs = [(arm.name, other) for arm in arms for other in arm.against if other in found and other != arm.name]
        own = [compared_segmenters(a, b, measure, found[a], found[b], patients) for a, b in pairs]
        tests += with_corrected_p(own, len(next(iter(found.values())).volumes))
    return tests


def _paper(name: str) -> dict[str, float]:
    """Return the means of the thesis' model that was trained like an arm; empty if there is none."""
    model = THESIS_ARMS.get(name)
    return {} if model is None else {measure: row[1] for measure, row in PAPER_SEGMENTATION[model].items()}


def _ball(cases: Sequence[CaseEntry], test: MarkedVolumes, spec: PatchSpec) -> Arm:
    """Return the trivial arm: a ball of the nodule's stated diameter in the middle of each volume."""
    truth = test.marks == NODULE
    widths = []
    for place, own in zip(outlined_places(cases), truth, strict=True):
        assert place.nodule is not None
        widths.append(place.nodule.attributes.diameter_mm or axial_diameter_mm(np.argwhere(own), spec.spacing_mm))
    balls = spec.distances_mm() <= np.array(widths)[:, None, None, None] / 2
    return Arm(BALL, [], {"dice": over_seeds([mean_of(dice(balls, truth))], test.patients)}, {})


def _boundaries(
    judge: Segmentation, test: MarkedVolumes, made: Mapping[str, Sequence[MarkedVolumes]]
) -> dict[str, Interval]:
    """Return the Dice of each maker's masks, and of the test volumes', with a network trained on real patients."""
    intervals = {}
    for name, parts in {"real": [test], **made}.items():
        values, patients = [], []
        for part in parts:
            truth = part.marks == NODULE
            rows = truth.any((1, 2, 3))
            own = part.rows(rows)
            seen = segmented(judge, own) & (own.marks != UNCOUNTED)
            values.append(dice(seen, truth[rows]))
            patients.append(own.patients)
        intervals[name] = over_seeds([mean_of(np.concatenate(values))], np.concatenate(patients))
    return intervals


def _notes(cases: Sequence[CaseEntry], used: Sequence[CaseEntry]) -> tuple[str, ...]:
    """Return a sentence about the cases that are in no real volume, or nothing if there are none."""
    left = len(cases) - len({case.case_id for case in used})
    return (f"{left} cases have no outlined nodule, or are synthetic, and are in no real volume.",) if left else ()
