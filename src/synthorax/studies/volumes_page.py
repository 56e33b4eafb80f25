"""`synthorax study volumes`: the study of whole chests, as results.json and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from synthorax.datasets.chest_grid import ChestGrid, ChestRegion
from synthorax.datasets.chests import Chests, read_chests
from synthorax.datasets.lineage import check_unseen
from synthorax.datasets.store import SPLITS, Split, Store
from synthorax.errors import InputError
from synthorax.figures import REAL, SYNTHETIC, chest_planes, forest
from synthorax.makers import Maker, Method, Streams
from synthorax.metrics.chest_anatomy import UsualChests
from synthorax.patch import PatchSpec
from synthorax.provenance import fingerprint, making_key
from synthorax.report import write_page
from synthorax.screen import quantity
from synthorax.seeding import derive
from synthorax.studies.answers import SURE, about_p
from synthorax.studies.chest_edits import ChestEdits, kept_chests, on_grid
from synthorax.studies.chest_fidelity import (
    BLURRED_CHESTS,
    REAL_REAL,
    ChestChecks,
    SliceDistances,
    SliceFeatures,
    blurred_chests,
    check_sizes,
    chest_checks,
    slice_distances,
)
from synthorax.studies.chest_sets import ChestMaking, ChestSet, SplitChests
from synthorax.studies.chest_training import ChestSplits
from synthorax.studies.patch_makers import labelled
from synthorax.studies.results import MADE, RESULTS, TRAININGS, check_study_folder, data_facts, machine, write_results
from synthorax.studies.slice_reader import READER_STEPS, slice_reader
from synthorax.studies.trials import Study, check_trainings
from synthorax.studies.volumes import (
    PAPER_COUNTS_OF_CHESTS,
    REAL_ONLY,
    VolumesOutcome,
    chest_arms,
    synthetic_then_real,
    volumes_study,
)
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.training import check_size
from synthorax.volume import Volume

READER_STEPS_A_STEP = 10
"""Most steps of the slice reader for each step of a classifier, so that a preset of few steps takes seconds."""
SHOWN_CHESTS = 4
"""Number of the first chests in a picture, besides the one furthest outside the range of real chests."""
PAPER_TABLE: Mapping[str, tuple[tuple[float, float] | None, tuple[float, float] | None]] = {
    "real": ((2.16, 0.26), (130.72, 31.05)),
    "3D GAN, 128^3": (None, (206.34, 59.12)),
    "its own model, 224^3": ((2.37, 0.0), (145.18, 25.97)),
}
"""The paper's table 1: inception score and FID, mean and standard deviation. Its text has an IS of 2.2129 for real
scans."""


@dataclass(frozen=True, eq=False)
class VolumesReport:
    """All results of the study.

    Attributes:
        outcome: results of the classifiers; None if none were trained.
        distances: set of chests to the distances of its slices from those of real chests.
        checks: set of chests, and real chests of other patients, to their diversity, anatomy and copies.
        extractor: name and hash of the network that computes features for the distances.
        pictures: set of chests to its picture.
        grid: voxels and kind of the chests.
        counts: numbers of chests of each split and of each maker.
        notes: sentences about limits of the study.
    """

    outcome: VolumesOutcome | None
    distances: Mapping[str, SliceDistances]
    checks: Mapping[str, ChestChecks]
    extractor: str
    pictures: Mapping[str, Figure]
    grid: ChestGrid
    counts: Mapping[str, int]
    notes: tuple[str, ...]


def study_volumes(
    store: Store,
    config: TaskConfig,
    out: Path,
    *,
    makers: Sequence[Streams],
    injector: Method,
    eraser: Method | None = None,
    ablations: Sequence[Streams] = (),
    made: int = 400,
    compared: int = 100,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
) -> tuple[Path, VolumesReport]:
    """Compare synthetic chests with real ones, then train and measure every arm. A call resumes after a stop.

    Args:
        store: real chests, or cubes.
        config: the classifier and its training.
        out: folder of the study.
        makers: makers of scans; the first one is under study, and all chests get the grid of its scans.
        injector: puts nodules into real and synthetic chests.
        eraser: erases nodules; without it, all chests with nodules keep them.
        ablations: makers of scans that are compared with real ones, but not used for classifiers.
        made: number of scans of each maker for the classifiers; 0 trains no classifiers.
        compared: number of scans of each maker that are compared with real ones.
        trainings: number of trainings of each arm.
        seed: seed of the first training; the others have the following integers.
        device: device of the networks.
        cache: folder for the decoded chests.

    Returns:
        The page, with `results.json` beside it, and the results.

    Raises:
        InputError: the store has too few chests or patients, the first maker's scans are not cubes, a maker was trained
            on held-out patients, or the folder holds something else.
    """
    check_trainings(trainings)
    others: list[Maker] = [injector, *([eraser] if eraser is not None else []), *makers, *ablations]
    for maker in others:
        check_unseen(maker.lineage, store)
    check_size(Classification(config))
    named = cast(Mapping[str, Streams], labelled([*makers, *ablations]))
    check_study_folder(out)
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device, cache)
    region: ChestRegion = "lungs" if any(case.is_whole for case in store.cases) else "cube"
    first = makers[0].scan(0, 0)
    grid = ChestGrid(first.shape, region, first.spacing_mm)
    if len(set(grid.size)) > 1:
        raise InputError("model", f"scans of {grid.size} voxels", "cubes, with slices of one size in all orientations")
    splits = {str(name): _chests_of(store, name, grid, config, eraser, cache) for name in SPLITS}
    counts = {name: len(split.kept) for name, split in splits.items()}
    check_sizes(counts["val"] + counts["test"], dict.fromkeys(named, compared))
    report = _compared(study, splits, named, grid, config, compared)
    notes = [] if eraser is not None else [WITHOUT_ERASER]
    if unknown := sum(case.annotated != "all" for split in splits.values() for case in split.kept.cases):
        notes.append(
            f"In {quantity(unknown, 'chest')} not all nodules are known; a chest that counts as healthy may have "
            "unlisted ones."
        )
    if made:
        edits = ChestEdits(injector, eraser, region)
        by = [making_key(each) for each in ([injector, eraser] if eraser else [injector])]
        key = fingerprint(repr((store.fingerprint, grid, config.size, by)))
        making = ChestMaking(study, edits, PatchSpec(config.size, window_hu=config.window_hu), key)
        learned = {name: making.made(name, named[name], made) for name in list(named)[: len(makers)]}
        sham = making.design(splits["train"], sham=True) if eraser is not None else None
        arms = chest_arms(making.design(splits["train"]), sham, learned)
        tested = ChestSplits(making.design(splits["val"]), making.test(splits["test"]))
        report = replace(report, outcome=volumes_study(study, config, arms, tested, region))
        counts |= {f"made by {name}": len(chests) for name, chests in learned.items()}
        notes += [_lost(name, chests, made) for name, chests in learned.items() if len(chests) < made]
    report = replace(report, counts=counts, notes=tuple(notes))
    _write(store, config, out, report, named, injector, eraser, trainings)
    return out / "index.html", report


WITHOUT_ERASER = (
    "No eraser was given, so all chests with nodules keep them, and a classifier may learn the source of a chest."
)


def _lost(name: str, chests: ChestSet, asked: int) -> str:
    return f"{asked - len(chests)} of {asked} scans of {name} have no room for a nodule and are left out."


def _chests_of(
    store: Store, name: Split, grid: ChestGrid, config: TaskConfig, eraser: Method | None, cache: Path | None
) -> SplitChests:
    """Read the chests of a split, with and without their nodules."""
    cases = store.in_split(name)
    kept = read_chests(store, cases, grid, config.window_hu, cache=cache)
    erased = None
    if eraser is not None:
        erased = read_chests(store, cases, grid, config.window_hu, erased_by=eraser, cache=cache)
    return SplitChests(name, kept, erased)


def _compared(
    study: Study,
    splits: Mapping[str, SplitChests],
    named: Mapping[str, Streams],
    grid: ChestGrid,
    config: TaskConfig,
    compared: int,
) -> VolumesReport:
    """Compare the makers' chests with real ones."""
    clean = {name: split.erased or split.kept for name, split in splits.items()}
    training = _voxels(clean["train"])
    fresh = [*_voxels(clean["val"]), *_voxels(clean["test"])]
    edge = min(grid.size)
    key = fingerprint(repr((study.store.fingerprint, grid)))
    steps = min(READER_STEPS, READER_STEPS_A_STEP * config.steps)
    out = study.out / f"slice-reader-{key[:12]}-{steps}"
    reader = slice_reader(training, edge, out, key, steps=steps, device=study.device)
    real = SliceFeatures.of(reader, fresh)
    sets = {BLURRED_CHESTS: SliceFeatures.of(reader, blurred_chests(fresh))}
    usual = UsualChests.of(training)
    checks = {REAL_REAL: chest_checks(fresh, training, fresh, usual, is_real=True)}
    pictures = {REAL_REAL: _picture(fresh, clean["test"].spacing_mm[0], None, REAL, config)}
    for name, maker in named.items():  # one set at a time is in memory
        scans = list(_scans_of(study, name, maker, grid, compared))
        sets[name] = SliceFeatures.of(reader, scans)
        checks[name] = chest_checks(scans, training, fresh, usual)
        spacing = np.array(maker.scan(0, derive(0, "study scans")).spacing_mm)
        pictures[name] = _picture(scans, spacing, checks[name].worst, SYNTHETIC, config)
    card = reader.card
    return VolumesReport(
        None,
        slice_distances(real, sets, reader),
        checks,
        f"{card.name} {card.sha256[:16]}, {card.dimensions} features, {card.preprocessing}",
        pictures,
        grid,
        {},
        (),
    )


def _voxels(chests: Chests) -> list[NDArray]:
    return [chests.voxels[i] for i in range(len(chests))]


def _scans_of(study: Study, name: str, maker: Streams, grid: ChestGrid, n: int) -> NDArray[np.int16]:
    """Make the first n scans of a maker on the grid, int16 HU [n, z, y, x]."""
    key = fingerprint(repr((making_key(maker), grid.size)))
    seed = derive(0, "study scans")

    def make(index: int) -> NDArray[np.int16]:
        return on_grid(maker.scan(index, seed).whole(), grid.size)

    return kept_chests(study.out.parent / MADE, f"{name} scans", key, list(range(n)), make, grid.size)


def _picture(
    scans: Sequence[NDArray], spacing: NDArray[np.float64], worst: int | None, colour: str, config: TaskConfig
) -> Figure:
    """Draw the first scans in three planes, and the scan furthest outside the range of real chests."""
    shown = [*range(min(SHOWN_CHESTS, len(scans))), *([] if worst is None else [worst])]
    captions = [f"number {i}" for i in shown[:SHOWN_CHESTS]] + [f"the worst, number {i}" for i in shown[SHOWN_CHESTS:]]
    z, y, x = spacing.tolist()
    volumes = [Volume(np.asarray(scans[i]), (z, y, x)) for i in shown]
    return chest_planes(volumes, colour, captions=captions, window_hu=config.window_hu)


def _write(
    store: Store,
    config: TaskConfig,
    out: Path,
    report: VolumesReport,
    named: Mapping[str, Streams],
    injector: Method,
    eraser: Method | None,
    trainings: int,
) -> None:
    outcome = report.outcome
    models = {name: maker.lineage.model_sha256 for name, maker in named.items()}
    models |= {each.name: each.lineage.model_sha256 for each in (injector, eraser) if each is not None}
    found: dict[str, Any] = {}
    if outcome is not None:
        found = {
            "tests": [asdict(test) for test in outcome.tests],
            "smallest_difference": outcome.smallest,
            "sets": outcome.counts,
            "drawn": outcome.drawn,
            "bias": asdict(outcome.bias),
        }
    answer = chests_answer(report, named)
    write_results(
        out / RESULTS,
        "volumes",
        data_facts(store),
        [] if outcome is None else outcome.arms,
        answer=answer,
        **found,
        distances={name: asdict(each) for name, each in report.distances.items()},
        checks={name: asdict(each) for name, each in report.checks.items()},
        extractor=report.extractor,
        grid=asdict(report.grid),
        counts=dict(report.counts),
        notes=list(report.notes),
        splits=store.splits,
        config=config.model_dump(mode="json"),
        models=models,
    )
    write_page(
        out / "index.html",
        "study_volumes.html",
        data_note=store.note,
        answer=answer,
        report=report,
        outcome=outcome,
        columns=[] if outcome is None else list(dict.fromkeys(name for arm in outcome.arms for name in arm.metrics)),
        picture_of_tests=None if outcome is None else volume_differences(outcome),
        paper_table=PAPER_TABLE,
        paper_counts=PAPER_COUNTS_OF_CHESTS,
        real_real=REAL_REAL,
        network=config.network.kind,
        size=" x ".join(map(str, config.size)),
        trainings=trainings,
        about_p=about_p(trainings, "the number of comparisons"),
        models=models,
        machine=machine(),
    )


def chests_answer(report: VolumesReport, makers: Iterable[str]) -> str:
    """Return how far the makers' chests are from real ones and whether they helped, the answer to the page's title.

    Args:
        report: the results.
        makers: names of the makers.
    """
    far = [f"{name} {report.distances[name].fid.value:.1f}" for name in makers if name in report.distances]
    real = (
        f"; other real chests have {report.distances[REAL_REAL].fid.value:.1f}" if REAL_REAL in report.distances else ""
    )
    like = f"FID of slices from real chests: {', '.join(far) or 'not measured'}{real}."
    if report.outcome is None:
        return f"{like} Whether they help is not known: no classifier was trained."
    wanted = {synthetic_then_real(name): name for name in makers}
    tests = [t for t in report.outcome.tests if t.a in wanted and t.b == REAL_ONLY and t.metric == "accuracy"]
    said = [f"{wanted[t.a]} {t.difference:+.3f} ({t.low:+.3f} to {t.high:+.3f}{_sure(t.p_holm)})" for t in tests]
    helped = ", ".join(said) or "not measured"
    return f"{like} Change of a classifier's accuracy by training on them before real chests: {helped}."


def _sure(p_holm: float | None) -> str:
    if p_holm is None:
        return ", too few trainings for a p value"
    return ", significant" if p_holm < SURE else ", not significant"


def volume_differences(outcome: VolumesOutcome) -> Figure:
    """Draw the difference in accuracy of each arm from real chests alone, with its interval."""
    tests = [test for test in outcome.tests if test.b == REAL_ONLY and test.metric == "accuracy"]
    rows = {f"{test.a}, less {test.b}": (test.difference, test.low, test.high) for test in tests}
    return forest(rows, "difference of the accuracy")
