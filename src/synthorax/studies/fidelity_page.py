"""`synthorax study fidelity`: are a generator's patches like real ones, new, varied, and as requested?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.lineage import check_unseen
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import negative_places, nodule_places
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices, training_curves
from synthorax.hub import Model
from synthorax.makers import Generator, Maker
from synthorax.metrics.estimates import Estimate
from synthorax.metrics.neighbours import nearest, nearest_volume
from synthorax.nodule import NoduleAttributes
from synthorax.patch import POSITIVE
from synthorax.report import write_page
from synthorax.seeding import derive
from synthorax.studies.answers import how_real, whether_followed
from synthorax.studies.conditions import SIDES, Check, check_rating, check_widths
from synthorax.studies.fidelity import KID, Patches, likeness
from synthorax.studies.patch_makers import (
    as_generator,
    check_maker_fits,
    count_without_voxels,
    moved_into_range,
    nodules_of,
    rendering,
    sampled,
    samples_for,
    selected,
    too_wide,
    with_diameter,
    without_voxels,
)
from synthorax.studies.results import (
    RESULTS,
    TRAININGS,
    Arm,
    Interval,
    check_study_folder,
    data_facts,
    machine,
    write_results,
)
from synthorax.studies.trials import Study
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.features.system import FeatureNet
from synthorax.training.files import LOG, read_log

DIAMETERS_MM = (5.0, 8.0, 12.0, 18.0)
ASKED_RATINGS = (1.0, 3.0, 5.0)
"""Ratings requested in the columns of the figure."""
REAL_OTHERS = "real, validation patients"
"""Name of the set of real nodules of other patients, whose values a perfect generator would have."""
SHOWN_SAMPLES = 8
"""Number of samples shown beside their nearest neighbours."""
LEAST_SAMPLES = 4
"""Fewest patches of a set that is measured, and fewest nodules of known diameter in each split."""
PROGRESS = ("step", "seconds", "steps_per_second")
"""Numbers in a line of the log that are not drawn as curves."""
LEAST_LINES = 20
"""A quantity with fewer values than this in the log is not drawn."""
SMOOTHED = 0.05
"""Length of the running mean of a curve, as a share of the log's lines."""


@dataclass(frozen=True, eq=False)
class Fidelity:
    """The results of the study.

    Attributes:
        likeness: set of samples to measure to (value, lower, upper), with None for a measure without an interval.
        kid_less: other set of samples to the KID x 1000 of the maker's samples less that of this set.
        checks: how well samples have the requested attributes.
        pictures: name to picture.
        counts: numbers of patches compared.
    """

    likeness: dict[str, dict[str, tuple[float, float | None, float | None]]]
    checks: list[Check]
    pictures: dict[str, Figure]
    counts: dict[str, int]
    kid_less: dict[str, Estimate] = field(default_factory=dict)


def study_fidelity(
    store: Store,
    config: TaskConfig,
    out: Path,
    maker: Maker,
    extractor: Model,
    *,
    extractor_name: str,
    run: Path | None = None,
    samples: int = 400,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Path, Fidelity]:
    """Measure a maker's patches beside rendered ones. The networks that read ratings are trained once and kept.

    Args:
        store: real nodules.
        config: the networks that read ratings, and the grid of the patches.
        out: folder of the study.
        maker: a generator of patches, or an injector.
        extractor: a model of the system `features`, which computes features for FID and KID.
        extractor_name: name of the extractor on the page.
        run: run folder of the maker's training, for its curves; None to draw none.
        samples: number of samples for the checks of requested attributes.
        seed: seed of samples and trainings.
        device: device of the networks.

    Returns:
        The page, with `results.json` beside it, and the results.

    Raises:
        InputError: the maker has another grid or was trained on held-out patients, as may the extractor; the extractor
            is of another system; the store has too few patients; or the folder holds something else.
    """
    if not isinstance(extractor.system, FeatureNet):
        raise InputError("extractor", f"a model of {extractor.system.name}", "a model of features")
    try:
        check_unseen(extractor.lineage, store)
    except InputError as error:
        train = f"synthorax train features --data {store.path} --out FEATURES"
        expected = f"features of this store's training patients: {train}; then --extractor FEATURES"
        raise InputError(f"extractor {extractor_name}", error.args[1], expected) from error
    check_maker_fits(maker, store, config)
    check_study_folder(out)
    study = Study(store, out / TRAININGS, (seed,), device)
    spec = config.patch

    def nodules(*splits: str, empty: bool = False) -> PatchDataset:
        cases = [case for split in splits for case in store.in_split(split)]
        places = nodule_places(cases)
        places += negative_places(store, cases, spec, len(places), 0, cache=study.cache) if empty else []
        return PatchDataset(store, places, spec, augmentation=Augmentation(flip=False), cache=study.cache)

    train, val, test = nodules("train", empty=True), nodules("val"), nodules("test")
    for split, patches in (("train", train), ("val", val), ("test", test)):
        if (n := len(with_diameter(patches))) < LEAST_SAMPLES:
            expected = f"{LEAST_SAMPLES} or more in each split"
            raise InputError(store.path, f"{n} {split} nodules of known diameter", expected)
    real = Patches.of(train, train.labels == POSITIVE)
    baseline = rendering(store)
    makers = {each.name: as_generator(each, train) for each in (maker, baseline)}
    generator = makers[maker.name]
    checks = check_widths(makers, train, test, samples, seed)
    for name in SIDES:
        checks += check_rating(study, config, makers, train, name, samples // 2, seed)
    asked = nodules_of(train, len(val), derive(seed, "likeness"))
    passed = f"{maker.name}, selected"
    plain = samples_for(generator, asked, derive(seed, "plain"))
    missing = without_voxels(maker.name, count_without_voxels(plain), len(asked))
    of_val = Patches.of(val)
    made = {
        REAL_OTHERS: of_val.hu,
        maker.name: plain.ct,
        **({passed: selected(generator, asked, derive(seed, "selected"))} if generator.selects else {}),
        baseline.name: sampled(makers[baseline.name], asked, derive(seed, "rendered")),
    }
    made = {name: cubes.clip(*spec.window_hu) for name, cubes in made.items() if len(cubes) >= LEAST_SAMPLES}
    of_samples = {name: Patches.unrelated(cubes) for name, cubes in made.items()}
    of_samples[REAL_OTHERS] = Patches(made[REAL_OTHERS], of_val.patients)
    features = extractor.system.extractor(extractor_name, extractor.sha256)
    held_out = Patches.of(test)
    alike = likeness(of_samples, real, held_out, features, spec.spacing_mm, seed)
    shown = made.get(passed, made[maker.name])[:SHOWN_SAMPLES]
    by_voxels = nearest_volume(shown, real.hu).index
    by_features = nearest(features(shown, spec.spacing_mm).values, features(real.hu, spec.spacing_mm).values).index
    attributes = [place.nodule.attributes for place in train.places if place.nodule]
    pictures = {
        **{name: grid(generator, real.hu, attributes, name, seed) for name in SIDES if name in maker.heeds},
        "neighbours": side_by_side(
            {"sample": shown, "nearest by voxels": real.hu[by_voxels], "nearest by features": real.hu[by_features]}
        ),
    }
    if run is not None and (curves := logged(run / LOG)):
        pictures["curves"] = training_curves(*curves)
    counts = {"training": len(real.hu), "held_out": len(held_out.hu), "samples": len(val), "asked": samples}
    counts["selected"] = len(made.get(passed, ())) if generator.selects else len(val)
    for sentence in filter(None, (missing, too_wide(train), moved_into_range(generator, asked))):
        study.console.print(sentence)
    others = (name for name in (REAL_OTHERS, baseline.name) if name != maker.name)
    less = {name: apart for name in others if (apart := alike.kid_less(maker.name, name))}
    found = Fidelity(alike.rows, checks, pictures, counts, less)
    kid = {name: Interval(*row[KID]) for name, row in alike.rows.items()}
    width = checks[0]  # of `check_widths`: the diameter, as requested and as measured
    answer = how_real(kid, less, maker.name, REAL_OTHERS, baseline.name, len(val))
    answer += " " + whether_followed(width.made.get(maker.name), width.real)
    _write(out, store, found, maker, extractor, extractor_name, answer)
    return out / "index.html", found


def _write(
    out: Path, store: Store, found: Fidelity, maker: Maker, extractor: Model, extractor_name: str, answer: str
) -> None:
    arms = [
        Arm(name, [], {measure: Interval(*value) for measure, value in row.items()}, {})
        for name, row in found.likeness.items()
    ]
    # A later call recognises a study's folder by this folder, which no training has made if no network reads ratings.
    (out / TRAININGS).mkdir(parents=True, exist_ok=True)
    write_results(
        out / RESULTS,
        "fidelity",
        data_facts(store),
        arms,
        answer=answer,
        checks=[asdict(check) for check in found.checks],
        kid_less={name: asdict(apart) for name, apart in found.kid_less.items()},
        counts=found.counts,
        splits=store.splits,
        maker=maker.name,
        model_sha256=maker.lineage.model_sha256,
        extractor={"name": extractor_name, "sha256": extractor.sha256},
    )
    write_page(
        out / "index.html",
        "study_fidelity.html",
        data_note=store.note,
        found=found,
        answer=answer,
        columns=list(next(iter(found.likeness.values()))),
        makers=list(dict.fromkeys(name for check in found.checks for name in check.made)),
        maker=maker.name,
        model=maker.lineage.model_sha256[:16],
        extractor=extractor_name,
        machine=machine(),
    )


def grid(
    maker: Generator,
    real: NDArray[np.float32],
    known: Sequence[NoduleAttributes],
    name: str,
    seed: int,
) -> Figure:
    """Draw samples by diameter (rows) and rating (columns), each beside the most similar real nodule.

    All samples of a row have the same noise.
    """
    panels = []
    taken: set[int] = set()
    for mm in [mm for mm in DIAMETERS_MM if mm <= maker.spec.widest_mm]:
        for rating in ASKED_RATINGS:
            asked = replace(NoduleAttributes(diameter_mm=mm), **{name: rating})
            unlike = [_unlike(each, asked, name) + 99.0 * (i in taken) for i, each in enumerate(known)]
            like = int(np.argmin(unlike))
            taken.add(like)
            text = f"{mm:g} mm, {name} {rating:g}"
            panels.append(_panel(sampled(maker, [asked], derive(seed, "grid", round(mm)))[0], text, SYNTHETIC))
            theirs, rated = known[like].diameter_mm, getattr(known[like], name)
            words = f"real: {theirs:.0f} mm, rated {rated:.1f}" if theirs and rated else "real, not rated"
            panels.append(_panel(real[like], words, REAL))
    return ct_slices(panels, half=max(real.shape[2:]) // 2, columns=2 * len(ASKED_RATINGS))


def _unlike(each: NoduleAttributes, asked: NoduleAttributes, name: str) -> float:
    """Return the distance of a nodule from the requested attributes; infinite if one of its own is not known."""
    own, wanted = getattr(each, name), getattr(asked, name)
    if own is None or each.diameter_mm is None or asked.diameter_mm is None:
        return float("inf")
    return float((np.log(each.diameter_mm / asked.diameter_mm) / np.log(1.25)) ** 2 + (own - wanted) ** 2)


def side_by_side(rows: Mapping[str, NDArray[np.number]]) -> Figure:
    """Draw the middle slices of sets of cubes [n, z, y, x], one set a row; the first is synthetic, the others real."""
    first = next(iter(rows))
    panels = [
        _panel(cube, name if i == 0 else "", SYNTHETIC if name == first else REAL)
        for name, cubes in rows.items()
        for i, cube in enumerate(cubes)
    ]
    cubes = rows[first]
    return ct_slices(panels, half=max(cubes.shape[2:]) // 2, columns=len(cubes))


def _panel(cube: NDArray[np.number], caption: str, colour: str) -> Slice:
    middle = cube[cube.shape[0] // 2]
    center = (middle.shape[0] // 2, middle.shape[1] // 2)
    return Slice(middle, np.zeros(middle.shape, bool), caption, center, colour)


def logged(log: Path) -> tuple[dict[str, dict[str, tuple[NDArray, NDArray]]], int] | None:
    """Return the curves of a training's log, and the number of lines to smooth over; None if there are no curves.

    Quantities whose names begin with the same word, up to an underscore, share a panel.

    Returns:
        Title of a panel to name of a curve to its steps and values, and the length of the running mean.
    """
    lines = read_log(log.parent)
    panels: dict[str, dict[str, tuple[NDArray, NDArray]]] = {}
    for name in dict.fromkeys(name for line in lines for name in line if name not in PROGRESS):
        found = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
        if len(found) >= LEAST_LINES:
            steps, values = np.array(found, float).T
            title, _, label = name.partition("_")
            panels.setdefault(title, {})[label.replace("_", " ") or title] = (steps, values)
    if not panels:
        return None
    length = min(len(steps) for curves in panels.values() for steps, _ in curves.values())
    return panels, max(round(SMOOTHED * length), 1)
