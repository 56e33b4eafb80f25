"""The papers' experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.api.shapes import read_shapes
from synthorax.api.stores import store_given
from synthorax.errors import InputError
from synthorax.screen import warn

if TYPE_CHECKING:
    from pydantic import BaseModel

    from synthorax.datasets.shapes import ShapeSet
    from synthorax.datasets.store import Store
    from synthorax.makers import Generator, Maker, Method, Streams
    from synthorax.tasks.config import TaskConfig

MOST_FOLD = 1000
"""Made nodules, or patches without a nodule, for each with one, at most."""
MOST_COUNT = 10_000_000
"""Trainings or samples at most; more would take years."""


def study_shapes(
    data: str | Path | Store | ShapeSet,
    out: str | Path,
    *,
    nodules: int | None = None,
    preset: str = "compact",
    settings: Mapping[str, Any] | None = None,
    compare: Sequence[str] = (),
    reconnect: bool = True,
    feedback: str = "none",
    seed: int = 0,
    overwrite: bool = False,
    **more: Any,
) -> Path:
    """Run LuNG's own experiment on nodule shapes; a call continues an earlier one that was stopped.

    Args:
        data: `lidc`, a store, a file or folder of masks, or a `ShapeSet`.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        nodules: number of nodules with finite features to train on, drawn by `seed`; all if not given.
        compare: comparisons to run: any of sizes, feedback, depth, fit; `all` for all.
        feedback: none, accepted, reflection, reflections or trade (section III-E).
        preset: `compact`, `smooth`, `paper` (as published) or `smoke` (seconds).
        settings: settings of LuNG that differ from the preset.
        reconnect: reconnect the pieces of a nodule before it is analysed.
        seed: seed of the draw of the nodules to train on.
        more: `training_seeds`, the number of trainings of the main arm; `samples` and `compared_samples`, the numbers
            of generated nodules for each training of the main arm and of the others; and `device`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.
    """
    from synthorax.studies.results import study_folder
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
    request = {
        "data": shapes.fingerprint,
        "settings": config.model_dump(mode="json"),
        "nodules": nodules,
        "feedback": feedback,
        "reconnect": reconnect,
        "compare": list(compare),
        "seed": seed,
        **{name: value for name, value in more.items() if name in ("training_seeds", "samples", "compared_samples")},
    }
    with study_folder(Path(out), "shapes", request, overwrite=overwrite):
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
    overwrite: bool = False,
) -> Path:
    """Train a detector, a malignancy classifier and a segmenter on real patches only, as baselines.

    A call continues an earlier one that was stopped.

    Args:
        data: a store.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        tasks: any of detection, malignancy, segmentation.
        preset: `compact`, `paper` (as published) or `smoke` (seconds).
        settings: for each task, settings of its configuration that differ from the preset.
        trainings: number of trainings of each network.
        seed: seed of the first training; further trainings have the next seeds.
        device: `auto`, `cpu`, `cuda` or `mps`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: the store has only one class or too few patients, the patches are too small for a network, or a name
            is unknown.
    """
    from synthorax.studies.baselines_page import BASELINE_STUDIES
    from synthorax.studies.baselines_page import study_baselines as run
    from synthorax.studies.results import study_folder
    from synthorax.tasks.config import task_config

    if unknown := sorted(set(tasks) - set(BASELINE_STUDIES)) or ([] if tasks else ["none"]):
        raise InputError("task", repr(unknown[0]), " or ".join(BASELINE_STUDIES))
    check_count("trainings", trainings, 1)
    configs = {task: task_config(task, preset, (settings or {}).get(task, {})) for task in tasks}
    store = _store_of_study(data)
    request = {
        "data": store.fingerprint,
        "settings": {task: config.model_dump(mode="json") for task, config in configs.items()},
        "trainings": trainings,
        "seed": seed,
    }
    with study_folder(Path(out), "baselines", request, overwrite=overwrite):
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
    overwrite: bool = False,
) -> Path:
    """Measure whether synthetic nodules help a detector, and of which makers (Cui's thesis).

    A call continues an earlier one that was stopped.

    Args:
        data: a store.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        models: makers of patches or injectors, each as the name of a bundled model or system, a run folder, or an
            object; ac-wgan if not given. Rendering is always an arm, and the only one for an empty list.
        preset: `compact`, `paper` (as published) or `smoke` (seconds).
        settings: settings of the detector that differ from the preset. Size, spacing and window of the patches are
            those of the first maker of patches, unless they are given here.
        amounts: numbers of synthetic nodules for each real one.
        negatives: number of patches without a nodule for each patch with one, in stores of whole scans.
        trainings: number of trainings of each arm.
        seed: seed of the first training; further trainings have the next seeds.
        device: `auto`, `cpu`, `cuda` or `mps`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: the store has too few patients, a maker's patches differ from the detector's, a maker was trained
            on validation or test patients, or a setting is not valid.
    """
    from synthorax import hub
    from synthorax.studies.detection_page import study_detection as run
    from synthorax.studies.patch_makers import patch_maker
    from synthorax.studies.results import study_folder
    from synthorax.tasks.config import task_config

    check_number("negatives", negatives, 0, MOST_FOLD)
    for amount in amounts:
        check_number("amounts", amount, 0, MOST_FOLD)
    check_count("trainings", trainings, 1)
    config = task_config("detection", preset, settings or {})
    default = hub.default("makes patches")
    makers = [patch_maker(model, device) for model in ([default] if models is None else models)]
    config = _on_the_patches_of(makers, config, settings or {})
    store = _store_of_study(data)
    request = _request(store, config, makers, trainings=trainings, seed=seed) | {
        "amounts": list(amounts),
        "negatives": negatives,
    }
    with study_folder(Path(out), "detection", request, overwrite=overwrite):
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
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Measure which synthetic nodules help a detector that scans whole chests.

    A call continues an earlier one that was stopped.

    Args:
        data: a store of nodules in cubes.
        chests: a store of whole chests, which need no annotation of nodules; with at least one training and two test
            patients.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        models: injectors, each as the name of a bundled model or system, a run folder, or an object; rendering is
            always an arm.
        erasers: makers that erase; the places of training nodules that they erased are negatives of their arms.
        preset: `compact`, `paper` (as published) or `smoke` (seconds).
        settings: settings of the detector that differ from the preset.
        trainings: number of trainings of each arm; fewer than 3 give no p values.
        seed: seed of the first training; further trainings have the next seeds.
        device: `auto`, `cpu`, `cuda` or `mps`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a store has too few patients, a maker cannot inject or erase, a maker was trained on validation or
            test patients, or a setting is not valid.
    """
    from synthorax import hub
    from synthorax.studies.false_alarms_page import study_false_alarms as run
    from synthorax.studies.results import study_folder
    from synthorax.tasks.config import task_config

    check_count("trainings", trainings, 1)
    config = task_config("detection", preset, settings or {})
    injectors = [hub.find(model, "injects", device=device) for model in models]
    healers = [hub.find(model, "erases", device=device) for model in erasers]
    cubes, whole = _store_of_study(data), _store_of_study(chests)
    request = _request(cubes, config, [*injectors, *healers], trainings=trainings, seed=seed) | {
        "chests": whole.fingerprint
    }
    with study_folder(Path(out), "false-alarms", request, overwrite=overwrite):
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
    overwrite: bool = False,
) -> Path:
    """Measure whether synthetic malignant nodules help a classifier of malignancy (Yang et al.).

    A call continues an earlier one that was stopped.

    Args:
        data: a store with ratings of malignancy.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        models: injectors, each as the name of a bundled model or system, a run folder, or an object; all bundled
            injectors if not given. Rendering is always an arm.
        preset: `compact`, `paper` (as published) or `smoke` (seconds).
        settings: settings of the classifier that differ from the preset.
        arms: any of raw, weighted, oversampled, flips, malignant, benign, flips-made; if not given, all that the
            injectors can have. The arms malignant and flips-made need an injector that replaces the nodules that are
            there; rendering adds nodules.
        ratios: numbers of synthetic malignant nodules for each real one.
        rule: rule by which the readers' ratings make a nodule malignant, `median` or `majority`.
        trainings: number of trainings of each arm.
        seed: seed of the first training; further trainings have the next seeds.
        device: `auto`, `cpu`, `cuda` or `mps`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: the store has too few patients of a class, a maker cannot inject or was trained on validation or
            test patients, no maker can have one of the given arms, or a setting is not valid.
    """
    from typing import get_args

    from synthorax import hub
    from synthorax.nodule import MalignancyRule
    from synthorax.studies.malignancy_page import study_malignancy as run
    from synthorax.studies.malignancy_recipes import ArmKind
    from synthorax.studies.results import study_folder
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
    store = _store_of_study(data)
    request = _request(store, config, makers, trainings=trainings, seed=seed) | {
        "arms": list(kinds if arms is None else arms),
        "ratios": list(ratios),
        "rule": rule,
    }
    with study_folder(Path(out), "malignancy", request, overwrite=overwrite):
        return run(
            store,
            config,
            Path(out),
            makers=makers,
            arms=None if arms is None else cast("Sequence[ArmKind]", tuple(arms)),
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
    overwrite: bool = False,
) -> Path:
    """Measure how many real scans synthetic ones replace in the training of a segmenter (Hagvall Hörnstedt).

    A call continues an earlier one that was stopped.

    Args:
        data: a store with label maps of tissues. The n real patients are the validation patients.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        models: makers, each as the name of a bundled model or system, a run folder, or an object. The first one paints
            and is used in every arm; the others paint or inject and have one arm each. Rendering is always one of them.
        preset: `compact`, `paper` (as published) or `smoke` (seconds).
        settings: settings of the segmenter that differ from the preset.
        arms: any of real, published, mixed, amounts, templates, sources; all if not given.
        trainings: number of trainings of each arm.
        seed: seed of the first training; further trainings have the next seeds.
        device: `auto`, `cpu`, `cuda` or `mps`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: the store has no label maps or too few patients, the first model cannot paint, a model has another
            voxel spacing or was trained on validation or test patients, or a setting is not valid.
    """
    from typing import get_args

    from synthorax import hub
    from synthorax.studies.results import study_folder
    from synthorax.studies.segmentation_arms import SegmenterArmKind
    from synthorax.studies.segmentation_config import segmenter
    from synthorax.studies.segmentation_page import study_segmentation as run

    kinds = get_args(SegmenterArmKind)
    if unknown := sorted(set(arms or ()) - set(kinds)):
        raise InputError("arms", repr(unknown[0]), ", ".join(kinds))
    check_count("trainings", trainings, 1)
    config = segmenter(preset, settings or {})
    makers: list[Maker] = []
    for model in models:
        roles = hub.system_of(model).roles if isinstance(model, str | Path) else model.roles
        paints = not makers or "paints" in roles
        makers.append(hub.find(model, "paints" if paints else "injects", device=device))
    store = _store_of_study(data)
    request = _request(store, config, makers, trainings=trainings, seed=seed) | {
        "arms": list(kinds if arms is None else arms)
    }
    with study_folder(Path(out), "segmentation", request, overwrite=overwrite):
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
    overwrite: bool = False,
) -> Path:
    """Measure whether a maker's patches are realistic, new, varied, and as requested.

    A call continues an earlier one that was stopped.

    Args:
        data: a store; the model may have been trained on its training patients only.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        model: a maker of patches or an injector, as in `study_detection`; ac-wgan if not given. For a run
            folder the page also shows the training curves.
        extractor: a model of the system `features`, by whose features samples are compared.
        preset: `compact`, `paper` (as published) or `smoke` (seconds).
        settings: settings of the networks that predict ratings, which are those of a detector. Size, spacing and window
            of the patches are those of the maker, unless they are given here.
        samples: number of samples for the checks of the condition.
        device: `auto`, `cpu`, `cuda` or `mps`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: the store has too few patients, the maker's patches do not fit or it was trained on validation or
            test patients, or the extractor is not a model of `features`.
    """
    from synthorax import hub
    from synthorax.studies.fidelity_page import study_fidelity as run
    from synthorax.studies.patch_makers import patch_maker
    from synthorax.studies.results import study_folder
    from synthorax.tasks.config import task_config

    check_count("samples", samples, 4)
    config = task_config("detection", preset, settings or {})
    model = hub.default("makes patches") if model is None else model
    maker, judged_by = patch_maker(model, device), hub.load(extractor)
    config = _on_the_patches_of([maker], config, settings or {})
    store = _store_of_study(data)
    request = _request(store, config, [maker], seed=seed) | {"extractor": judged_by.sha256, "samples": samples}
    with study_folder(Path(out), "fidelity", request, overwrite=overwrite):
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
    overwrite: bool = False,
) -> Path:
    """Measure whether synthetic chests are like real ones, and whether pre-training on them helps (CT-SGAN).

    A call continues an earlier one that was stopped.

    Args:
        data: a store of whole scans, or of cubes for models of cubes.
        out: folder to write, with `index.html`, `results.json` and the trainings, from which a call continues.
        models: makers of scans, each as the name of a bundled model, a run folder, or an object; the first is the model
            under study, the others are compared with it.
        inject: method that adds nodules to real and synthetic chests; if not given, outlines of LIDC's training
            patients are rendered.
        erase: method that erases nodules from real chests; without it they stay, unlike in the paper's design.
        ablations: makers of scans that are compared with real chests, but train no classifier.
        preset: `compact`, `patch48` (cubes of 48 mm), `paper` (as published) or `smoke` (seconds).
        settings: settings of the classifier that differ from the preset.
        made: number of scans of each model to train classifiers on; 0 trains no classifier.
        compared: number of scans of each model to compare with real ones.
        trainings: number of trainings of each arm.
        seed: seed of the first training; further trainings have the next seeds.
        cache: folder for the decoded chests; the user's cache folder if not given.
        device: `auto`, `cpu`, `cuda` or `mps`.
        overwrite: replace the results of another study or request; trainings that both need are kept.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: the store has too few patients, a model makes no scans or was trained on validation or test
            patients, or a setting is not valid.
    """
    from synthorax import hub
    from synthorax.studies.patch_makers import rendering
    from synthorax.studies.results import study_folder
    from synthorax.studies.volumes_page import study_volumes as run
    from synthorax.tasks.config import task_config

    if not models:
        raise InputError("models", "none", "a model that makes scans, by its name or run folder")
    check_count("made", made, 0)
    check_count("compared", compared, 4)
    check_count("trainings", trainings, 1)
    config = task_config("volumes", preset, settings or {})
    store = _store_of_study(data)
    makers, others = (
        [cast("Streams", hub.find(model, "makes scans", device=device)) for model in each]
        for each in (models, ablations)
    )
    injector = rendering(store) if inject is None else cast("Method", hub.find(inject, "injects", device=device))
    eraser = None if erase is None else cast("Method", hub.find(erase, "erases", device=device))
    request = _request(store, config, [*makers, injector, *others], trainings=trainings, seed=seed) | {
        "erase": None if eraser is None else [eraser.name, eraser.lineage.model_sha256],
        "made": made,
        "compared": compared,
    }
    with study_folder(Path(out), "volumes", request, overwrite=overwrite):
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


def study_scores(
    scores: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    reference: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Measure whether synthetic nodules help a detector that was trained elsewhere, by the scores that it gave.

    Args:
        scores: one or several CSV files with the columns patient, case, label and score, and optionally arm and
            training; without a column `arm` the name of a file is its arm.
        out: folder to write, with `index.html` and `results.json`.
        reference: arm without synthetic nodules, with which the others are compared; the first if not given.
        overwrite: replace a folder that an earlier call wrote.

    Returns:
        The page; `results.json` is beside it.

    Raises:
        InputError: a file cannot be read or has a value that is not valid, the arms do not have the same cases, or
            there are too few arms or patients.
        OutputError: the folder cannot be written.
    """
    from synthorax.studies.own_scores_page import study_scores as run

    files = [scores] if isinstance(scores, str | Path) else scores
    return run([Path(file) for file in files], Path(out), reference=reference, overwrite=overwrite)


def _store_of_study(data: str | Path | Store) -> Store:
    """Return the store of a study without synthetic cases, which would count as real; a warning says if it had some."""
    store = store_given(data).without_synthetic()
    if store.note:
        warn(f"{store.note}; `synthorax study scores` compares detectors that were trained with and without them")
    return store


def _request(store: Store, config: BaseModel, makers: Sequence[Maker], **more: Any) -> dict[str, Any]:
    """Return what determines the results of a study, as JSON can hold it."""
    return {
        "data": store.fingerprint,
        "settings": config.model_dump(mode="json"),
        "models": [[maker.name, maker.lineage.model_sha256] for maker in makers],
        **more,
    }


def check_number(name: str, value: float, above: float, most: float) -> None:
    """Check that a number is above one bound and at most another.

    Raises:
        InputError: it is not.
    """
    if not above < value <= most:
        raise InputError(name, f"{value:g}", f"more than {above:g}, and at most {most:g}")


def check_count(name: str, value: int, least: int) -> None:
    """Check that a count is neither too small nor unreasonably large.

    Raises:
        InputError: it is.
    """
    if not least <= value <= MOST_COUNT:
        raise InputError(name, str(value), f"{least} to {MOST_COUNT}")


def _on_the_patches_of(makers: Sequence[Maker], config: TaskConfig, settings: Mapping[str, Any]) -> TaskConfig:
    """Return the configuration with the patch grid of the first maker of patches, except where settings are given.

    Changes are printed. Injectors work on any grid.
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
    differences = ", ".join(f"{name} {value}, not {getattr(config, name)}" for name, value in other.items())
    say(f"study: patches are like those of {maker.name} instead of the preset's: {differences}", error=True)
    return TaskConfig.model_validate(config.model_dump() | other)
