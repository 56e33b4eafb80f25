"""The papers' experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.api.shapes import read_shapes
from synthorax.errors import InputError

if TYPE_CHECKING:
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.datasets.store import Store
    from synthorax.makers import Generator, Maker, Method, Streams
    from synthorax.tasks.config import TaskConfig

MOST_FOLD = 1000
"""Made nodules, or patches without a nodule, for each with one, at most."""
MOST_COUNT = 10_000_000
"""Trainings or samples at most; more would take years."""


def study_shapes(
    data: str | Path | ShapeSet,
    out: str | Path,
    *,
    nodules: int | None = None,
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    compare: Sequence[str] = (),
    reconnect: bool = True,
    feedback: str = "none",
    seed: int = 0,
    **more: Any,
) -> Path:
    """LuNG's own experiment on some nodules; goes on where an earlier call stopped.

    Args:
        data: `lidc`, a file or folder of masks, or a `ShapeSet`.
        nodules: learn from so many of those with finite features, drawn by `seed`; all if not given.
        compare: any of sizes, feedback, depth, fit; `all` for all.
        feedback: none, accepted, reflection, reflections or trade (section III-E).
        more: the numbers of `studies.shapes_page.study_shapes`.

    Returns:
        The page; `results.json` is beside it.
    """
    from synthorax.io.atomic import working_in
    from synthorax.studies.shapes import FEEDBACK, Plan
    from synthorax.studies.shapes_page import COMPARISONS
    from synthorax.studies.shapes_page import study_shapes as run
    from synthorax.systems.lung.config import lung_config

    if feedback not in FEEDBACK:
        raise InputError("feedback", repr(feedback), " or ".join(FEEDBACK))
    for name in ("training_seeds", "samples", "compared_samples"):
        if name in more:
            check_count(name.replace("_", " "), more[name], 1)
    config = lung_config(preset, settings or {})
    shapes = read_shapes(data, config.grid, config.spacing_mm)
    plan = None
    if feedback != "none" or not reconnect:
        name = f"main, feedback {feedback}, {'' if reconnect else 'not '}reconnected"
        plan = Plan(name, config.layers, feedback=FEEDBACK[feedback], reconnected=reconnect)
    with working_in(Path(out)):
        return run(
            shapes,
            config,
            Path(out),
            n_nodules=nodules,
            seed=seed,
            plan=plan,
            compare=COMPARISONS if "all" in compare else compare,
            **more,
        )


def study_baselines(
    data: str | Path | Store,
    out: str | Path,
    *,
    tasks: Sequence[str] = ("detection", "malignancy", "segmentation"),
    preset: str = "compact",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """What real patches alone give: a detector, malignancy, a segmenter; goes on where an earlier call stopped.

    Args:
        data: a store.
        tasks: any of detection, malignancy, segmentation.
        settings: by task, fields of its configuration that differ from the preset.
        trainings: of each network.
        seed: of the first training; the others count on.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a store with one class or too few patients, patches smaller than a network needs, unknown names.
    """
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.studies.baselines_page import BASELINE_STUDIES
    from synthorax.studies.baselines_page import study_baselines as run
    from synthorax.tasks.config import task_config

    if unknown := sorted(set(tasks) - set(BASELINE_STUDIES)) or ([] if tasks else ["none"]):
        raise InputError("task", repr(unknown[0]), " or ".join(BASELINE_STUDIES))
    check_count("trainings", trainings, 1)
    configs = {task: task_config(task, preset, (settings or {}).get(task, {})) for task in tasks}
    store = Store.of(data)
    with working_in(Path(out)):
        return run(store, configs, Path(out), trainings=trainings, seed=seed, device=device)[0]


def study_detection(
    data: str | Path | Store,
    out: str | Path,
    *,
    models: Sequence[str | Path | Maker] | None = None,
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    amounts: Sequence[float] = (0.25, 1.0, 4.0),
    negatives: float = 1.0,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Do made nodules help a detector, and which (papers/3)? Goes on where an earlier call stopped.

    Args:
        data: a store.
        models: makers of patches or injectors, each by a bundled model's or a system's name, a run folder, or as it is;
            the default model if not given. With an empty list rendering alone, which is always an arm, is put to the
            test.
        settings: fields of the detector's configuration that differ from the preset. Size, spacing and window of the
            patches are those of the first maker of patches if they are not among them.
        amounts: made nodules for each real one.
        negatives: patches without a nodule for each with one, where scans are whole.
        trainings: of each arm.
        seed: of the first training; the others count on.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a store with too few patients, a maker whose patches are not the detector's or that knows patients
            who are held out, settings that do not fit.
    """
    from synthorax import hub
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.studies.detection_page import study_detection as run
    from synthorax.studies.patch_makers import patch_maker
    from synthorax.tasks.config import task_config

    check_number("negatives", negatives, 0, MOST_FOLD)
    for amount in amounts:
        check_number("amounts", amount, 0, MOST_FOLD)
    check_count("trainings", trainings, 1)
    config = task_config("detection", preset, settings or {})
    default = hub.default("makes patches")
    makers = [patch_maker(model, device) for model in ([default] if models is None else models)]
    config = _on_the_patches_of(makers, config, settings or {})
    store = Store.of(data)
    with working_in(Path(out)):
        return run(
            store,
            config,
            Path(out),
            makers=makers,
            amounts=amounts,
            negatives=negatives,
            trainings=trainings,
            seed=seed,
            device=device,
            thesis=hub.system_of(default).name,
        )[0]


def study_false_alarms(
    data: str | Path | Store,
    chests: str | Path | Store,
    out: str | Path,
    *,
    models: Sequence[str | Path | Maker] = (),
    erasers: Sequence[str | Path | Maker] = (),
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    trainings: int = 2,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Which nodules help a detector that is led over whole chests? Goes on where an earlier call stopped.

    Args:
        data: a store of nodules in cubes.
        chests: a store of whole chests, of whose nodules nobody has to say anything; with at least one training and two
            test patients.
        models: injectors, each by a bundled model's or a system's name, a run folder, or as it is; rendering is always
            an arm.
        erasers: makers that erase; the places of training nodules that they took out are negatives of their arms.
        settings: fields of the detector's configuration that differ from the preset.
        trainings: of each arm.
        seed: of the first training; the others count on.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: stores with too few patients, a maker that does not inject or erase or that knows patients who are
            held out, settings that do not fit.
    """
    from synthorax import hub
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.studies.false_alarms_page import study_false_alarms as run
    from synthorax.tasks.config import task_config

    check_count("trainings", trainings, 1)
    config = task_config("detection", preset, settings or {})
    injectors = [hub.find(model, "injects", device=device) for model in models]
    healers = [hub.find(model, "erases", device=device) for model in erasers]
    cubes, whole = Store.of(data), Store.of(chests)
    with working_in(Path(out)):
        return run(
            cubes,
            whole,
            config,
            Path(out),
            injectors=injectors,
            erasers=healers,
            trainings=trainings,
            seed=seed,
            device=device,
        )[0]


def study_malignancy(
    data: str | Path | Store,
    out: str | Path,
    *,
    models: Sequence[str | Path | Maker] | None = None,
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    arms: Sequence[str] | None = None,
    ratios: Sequence[float] = (0.5, 1.0, 2.0, 4.0),
    rule: str = "median",
    trainings: int = 5,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Do made malignant nodules help to tell malignant from benign ones (papers/2)? Goes on where it stopped.

    Args:
        data: a store with ratings of malignancy.
        models: injectors, each by a bundled model's or a system's name, a run folder, or as it is; every bundled one
            if not given. Rendering is always an arm.
        settings: fields of the classifier's configuration that differ from the preset.
        arms: any of raw, weighted, oversampled, flips, malignant, benign, flips-made; all if not given.
        ratios: made malignant nodules for each real one.
        rule: `median` or `majority`, which ratings are malignant.
        trainings: of each arm.
        seed: of the first training; the others count on.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a store with too few patients of either class, a maker that injects nothing or knows patients who
            are held out, settings that do not fit.
    """
    from typing import get_args

    from synthorax import hub
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.nodule import MalignancyRule
    from synthorax.studies.malignancy_page import study_malignancy as run
    from synthorax.studies.malignancy_recipes import ArmKind
    from synthorax.tasks.config import task_config

    kinds, rules = get_args(ArmKind), get_args(MalignancyRule)
    if unknown := sorted(set(arms or ()) - set(kinds)):
        raise InputError("arms", repr(unknown[0]), ", ".join(kinds))
    if rule not in rules:
        raise InputError("rule", repr(rule), " or ".join(rules))
    for ratio in ratios:
        check_number("ratios", ratio, 0, MOST_FOLD)
    check_count("trainings", trainings, 1)
    config = task_config("malignancy", preset, settings or {})
    chosen = [name for name in hub.able(("injects",)) if name in hub.bundled()] if models is None else models
    makers = [cast("Method", hub.find(model, "injects", device=device)) for model in chosen]
    store = Store.of(data)
    with working_in(Path(out)):
        return run(
            store,
            config,
            Path(out),
            makers=makers,
            arms=cast("Sequence[ArmKind]", kinds if arms is None else tuple(arms)),
            ratios=ratios,
            rule=cast("MalignancyRule", rule),
            trainings=trainings,
            seed=seed,
            device=device,
        )[0]


def study_segmentation(
    data: str | Path | Store,
    out: str | Path,
    *,
    models: Sequence[str | Path | Maker],
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    arms: Sequence[str] | None = None,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """How many real scans do synthetic ones replace for a segmenter (papers/4)? Goes on where it stopped.

    Args:
        data: a store with label maps of tissues. The n real patients are those of validation.
        models: each by a bundled model's or a system's name, a run folder, or as it is; the first paints and is in
            every arm, the others paint or inject and have an arm each. Rendering is always one of these.
        settings: fields of the segmenter's configuration that differ from the preset.
        arms: any of real, published, mixed, amounts, templates, sources; all if not given.
        trainings: of each arm.
        seed: of the first training; the others count on.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a store without label maps or with too few patients, a first model that does not paint, one that
            makes other voxels or knows patients who are held out, settings that do not fit.
    """
    from typing import get_args

    from synthorax import hub
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.studies.segmentation_arms import SegmenterArmKind
    from synthorax.studies.segmentation_config import SEGMENTERS
    from synthorax.studies.segmentation_page import study_segmentation as run
    from synthorax.training.config import choose

    kinds = get_args(SegmenterArmKind)
    if unknown := sorted(set(arms or ()) - set(kinds)):
        raise InputError("arms", repr(unknown[0]), ", ".join(kinds))
    check_count("trainings", trainings, 1)
    config = choose(SEGMENTERS, preset, settings or {})
    makers: list[Maker] = []
    for model in models:
        roles = hub.system_of(model).roles if isinstance(model, str | Path) else model.roles
        paints = not makers or "paints" in roles
        makers.append(hub.find(model, "paints" if paints else "injects", device=device))
    store = Store.of(data)
    with working_in(Path(out)):
        return run(
            store,
            config,
            Path(out),
            makers=makers,
            arms=cast("Sequence[SegmenterArmKind]", kinds if arms is None else tuple(arms)),
            trainings=trainings,
            seed=seed,
            device=device,
        )[0]


def study_fidelity(
    data: str | Path | Store,
    out: str | Path,
    *,
    model: str | Path | Maker | None = None,
    extractor: str | Path = "features-24mm",
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    samples: int = 400,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Are a maker's patches like real ones, new, varied, and what was asked for? Goes on where it stopped.

    Args:
        data: a store, of whose patients the model knows those of training at most.
        model: a maker of patches or an injector, as in `study_detection`; a run folder's curves are shown too. The
            default model if not given.
        extractor: a model of `features`, by whose features samples are compared.
        settings: fields of the configuration of the networks that read ratings, which is a detector's. Size, spacing
            and window of the patches are those of the maker's if they are not among them.
        samples: for the checks of the condition.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a store with too few patients, a maker of other patches or one that knows patients who are held
            out, an extractor that is none.
    """
    from synthorax import hub
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.studies.fidelity_page import study_fidelity as run
    from synthorax.studies.patch_makers import patch_maker
    from synthorax.tasks.config import task_config

    check_count("samples", samples, 4)
    config = task_config("detection", preset, settings or {})
    model = hub.default("makes patches") if model is None else model
    maker, judged_by = patch_maker(model, device), hub.load(extractor)
    config = _on_the_patches_of([maker], config, settings or {})
    store = Store.of(data)
    with working_in(Path(out)):
        return run(
            store,
            config,
            Path(out),
            maker,
            judged_by,
            extractor_name=Path(extractor).name,
            run=Path(model) if isinstance(model, str | Path) and Path(model).is_dir() else None,
            samples=samples,
            seed=seed,
            device=device,
        )[0]


def study_volumes(
    data: str | Path | Store,
    out: str | Path,
    *,
    models: Sequence[str | Path | Maker],
    inject: str | Path | Maker | None = None,
    erase: str | Path | Maker | None = None,
    ablations: Sequence[str | Path | Maker] = (),
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    made: int = 400,
    compared: int = 100,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
    cache: str | Path | None = None,
) -> Path:
    """Are made chests like real ones, and does pre-training on them help (papers/5)? Goes on where it stopped.

    Args:
        data: a store of whole scans, or of cubes for models of cubes.
        models: makers of scans, each by a bundled model's name, a run folder, or as it is; the first is under study,
            the others are compared with it.
        inject: puts nodules into real and made chests; rendering outlines of LIDC's training patients if not given.
        erase: takes them out of real ones; without it they stay, and the design of the paper is not had.
        ablations: makers of scans that are compared with real chests, but train no classifier.
        settings: fields of the classifier's configuration that differ from the preset.
        made: scans of each model that classifiers learn from; 0 leaves the classifiers out.
        compared: scans of each model that are compared with real ones.
        trainings: of each arm.
        seed: of the first training; the others count on.
        cache: folder for the decoded chests; the user's cache folder if not given.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a store with too few patients, a model that makes no scans or that knows patients who are held
            out, settings that do not fit.
    """
    from synthorax import hub
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.studies.patch_makers import rendering
    from synthorax.studies.volumes_page import study_volumes as run
    from synthorax.tasks.config import task_config

    if not models:
        raise InputError("models", "none", "a model that makes scans, by its name or run folder")
    check_count("made", made, 0)
    check_count("compared", compared, 4)
    check_count("trainings", trainings, 1)
    config = task_config("volumes", preset, settings or {})
    store = Store.of(data)
    makers, others = (
        [cast("Streams", hub.find(model, "makes scans", device=device)) for model in each]
        for each in (models, ablations)
    )
    injector = rendering(store) if inject is None else cast("Method", hub.find(inject, "injects", device=device))
    eraser = None if erase is None else cast("Method", hub.find(erase, "erases", device=device))
    with working_in(Path(out)):
        return run(
            store,
            config,
            Path(out),
            makers=makers,
            injector=injector,
            eraser=eraser,
            ablations=others,
            made=made,
            compared=compared,
            trainings=trainings,
            seed=seed,
            device=device,
            cache=None if cache is None else Path(cache),
        )[0]


def check_number(name: str, value: float, above: float, most: float) -> None:
    """Refuse a number that is not above one bound and up to another.

    Raises:
        InputError: it is not.
    """
    if not above < value <= most:
        raise InputError(name, f"{value:g}", f"more than {above:g}, and at most {most:g}")


def check_count(name: str, value: int, least: int) -> None:
    """Refuse a number of things that is too small, or larger than anyone has time for.

    Raises:
        InputError: it is.
    """
    if not least <= value <= MOST_COUNT:
        raise InputError(name, str(value), f"{least} to {MOST_COUNT}")


def _on_the_patches_of(makers: Sequence[Maker], config: TaskConfig, settings: Mapping[str, Any]) -> TaskConfig:
    """The configuration for patches on the grid of the first maker of patches, where the settings do not say otherwise.

    What changes is told on the screen. Injectors work on any grid.
    """
    from synthorax.screen import say
    from synthorax.studies.patch_makers import GRID_SETTINGS
    from synthorax.tasks.config import TaskConfig

    for maker in makers:
        if "makes patches" in maker.roles:
            break
    else:
        return config
    own = {name: getattr(cast("Generator", maker).spec, name) for name in GRID_SETTINGS if name not in settings}
    other = {name: value for name, value in own.items() if value != getattr(config, name)}
    if not other:
        return config
    told = ", ".join(f"{name} {value} for {getattr(config, name)}" for name, value in other.items())
    say(f"study: patches are like those of {maker.name}, not like the preset's: {told}", error=True)
    return TaskConfig.model_validate(config.model_dump() | other)
