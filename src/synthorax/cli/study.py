"""`synthorax study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from synthorax import api
from synthorax.cli.options import parse_settings
from synthorax.errors import InputError
from synthorax.screen import say


def shapes(
    *,
    out: Path,
    data: str = "lidc",
    seeds: Path | None = None,
    nodules: int | None = None,
    layers: str | None = None,
    preset: Literal["paper", "compact", "smooth", "smoke"] = "compact",
    training_seeds: int = 5,
    samples: int = 10_000,
    compared_samples: int = 2_000,
    compare: str = "",
    reconnect: bool = True,
    feedback: Literal["none", "accepted", "reflection", "reflections", "trade"] = "none",
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
) -> None:
    """LuNG's experiment: acceptance, novelty, error and Score of a generator, over several trainings.

    Writes results.json and index.html. A study that was stopped goes on with the training it was at.

    Parameters
    ----------
    out
        Folder to write.
    data
        lidc, the annotations in the package; or a .npy stack on the grid, a NIfTI or MHA mask, a folder.
    seeds
        The same as --data FILE.
    nodules
        Learn from so many, drawn by the seed; all with finite features if not given.
    layers
        Neurons of the hidden layers, as in 32_3_64_1024.
    preset
        compact: half a minute a training of 51 nodules. smooth: the same for outlined nodules, as LIDC's.
        paper: as published, hours. smoke: seconds.
    training_seeds
        Trainings of the main arm; their spread makes the intervals.
    samples
        Nodules generated and analysed for each of them.
    compared_samples
        The same for the arms of --compare.
    compare
        Also run any of sizes,feedback,depth,fit (or all): figures 5 to 7, tables I and II, and the parts of the fit.
    reconnect
        Reconnect nodules before they are analysed.
    feedback
        Feed accepted nodules back: as accepted, one or four reflections of each, or traded between two networks.
    seed
        Draws the nodules.
    config
        YAML file of settings, such as a run's config.yaml.
    set
        One setting, KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    """
    page = api.study_shapes(
        seeds or data,
        out,
        nodules=nodules,
        preset=preset,
        settings=parse_settings(set or [], config, layers=layers),
        training_seeds=training_seeds,
        samples=samples,
        compared_samples=compared_samples,
        compare=_names(compare),
        reconnect=reconnect,
        feedback=feedback,
        seed=seed,
        device=device,
    )
    say(page)


def baselines(
    *,
    data: Path,
    out: Path,
    tasks: str = "detection,malignancy,segmentation",
    preset: Literal["paper", "compact", "smoke"] = "compact",
    trainings: int = 3,
    seed: int = 0,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
) -> None:
    """What real patches alone give a detector, a malignancy classifier and a segmenter: the bars for synthesis.

    Writes results.json and index.html. A study that was stopped goes on with the training it was at.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` makes.
    out
        Folder to write.
    tasks
        Any of detection,malignancy,segmentation.
    preset
        compact: for a CPU. paper: the papers' networks and patches. smoke: seconds.
    trainings
        Of each network; their spread is in the intervals.
    seed
        Of the first training; the others count on.
    set
        One setting of a task's training, TASK.KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    """
    names = _names(tasks)
    settings: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(set or [], None).items():
        task, separator, name = key.partition(".")
        if not separator or task not in names:
            raise InputError("--set", repr(key), f"TASK.KEY=VALUE, a task being {' or '.join(names)}")
        settings.setdefault(task, {})[name] = value
    say(
        api.study_baselines(
            data,
            out,
            tasks=names,
            preset=preset,
            settings=settings,
            trainings=trainings,
            seed=seed,
            device=device,
        )
    )


def detection(
    *,
    data: Path,
    out: Path,
    model: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Literal["paper", "compact", "smoke"] = "compact",
    amounts: str = "0.25,1,4",
    negatives: float = 1.0,
    trainings: int = 3,
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
) -> None:
    """Do made nodules help a detector, and which? Flips, rendered and generated nodules against real ones alone.

    Writes results.json and index.html. A study that was stopped goes on with the training it was at.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` makes.
    out
        Folder to write.
    model
        Makes nodules: a bundled model's or a system's name, or a run folder; may be repeated. The bundled generator of
        patches if not given; none puts rendering alone, which is always an arm, to the test.
    preset
        Of the detector. compact: 24 mm cubes, a minute a training. paper: 48 mm, takes a GPU. smoke: seconds.
    amounts
        Made nodules for each real one, an arm each.
    negatives
        Patches without a nodule for each with one, where scans are whole (the thesis has 71); cubes give all they have.
    trainings
        Of each arm; their spread is in the intervals.
    seed
        Of the first training; the others count on.
    config
        YAML file of settings of the detector.
    set
        One setting, KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    """
    page = api.study_detection(
        data,
        out,
        models=[] if model == ["none"] else model,
        preset=preset,
        settings=parse_settings(set or [], config),
        amounts=_numbers("--amounts", amounts),
        negatives=negatives,
        trainings=trainings,
        seed=seed,
        device=device,
    )
    say(page)


def false_alarms(
    *,
    data: Path,
    chests: Path,
    out: Path,
    model: Annotated[list[str] | None, Parameter(negative="")] = None,
    eraser: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Literal["paper", "compact", "smoke"] = "compact",
    trainings: int = 2,
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
) -> None:
    """A harder question: which made nodules, put into whole chests, spare a detector false alarms in others?

    Patches without a nodule are vessels, hila and walls of whole chests that look like one, and false alarms of a first
    detector. Writes results.json and index.html. A study that was stopped goes on with the training it was at.

    Parameters
    ----------
    data
        A store of nodules in cubes, as `synthorax prepare` makes.
    chests
        A store of whole chests, as `synthorax prepare scans` makes. Nothing has to be known of their nodules: places
        near masses, and dense spots by themselves, count neither as nodules nor as false alarms.
    out
        Folder to write.
    model
        Puts nodules into the training chests: a bundled model's or a system's name, or a run folder; may be repeated.
        Rendering, and pasting real nodules, are always arms.
    eraser
        Takes training nodules out, whose places are then patches without one; may be repeated.
    preset
        Of the detector. compact: 24 mm cubes, a minute a training. paper: 48 mm, takes a GPU. smoke: seconds.
    trainings
        Of each arm.
    seed
        Of the first training; the others count on.
    config
        YAML file of settings of the detector.
    set
        One setting, KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    """
    page = api.study_false_alarms(
        data,
        chests,
        out,
        models=model or [],
        erasers=eraser or [],
        preset=preset,
        settings=parse_settings(set or [], config),
        trainings=trainings,
        seed=seed,
        device=device,
    )
    say(page)


def malignancy(
    *,
    data: Path,
    out: Path,
    model: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Literal["paper", "compact", "smoke"] = "compact",
    arms: str = "raw,weighted,oversampled,flips,malignant,benign,flips-made",
    ratios: str = "0.5,1,2,4",
    rule: Literal["median", "majority"] = "median",
    trainings: int = 5,
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
) -> None:
    """Do made malignant nodules help to tell malignant from benign ones?

    Rendered and generated malignant nodules beside real ones, against weighted losses, oversampling, flips and turns,
    the diameter alone, and 12 shape features. Writes results.json and index.html. A study that was stopped goes on with
    the training it was at.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` makes, whose nodules have ratings of malignancy.
    out
        Folder to write.
    model
        Puts nodules into patches: a bundled model's or a system's name, or a run folder; may be repeated. All bundled
        ones if not given; none puts rendering alone, which is always an arm, to the test.
    preset
        Of the classifier. compact: a small ResNet on 32 mm, a minute a training. paper: ResNet-50 on 64 mm, takes a
        GPU. smoke: seconds. `--set network.architecture=resnet-152` takes another of the paper's networks.
    arms
        Any of raw,weighted,oversampled,flips (real nodules alone), malignant,benign (made ones in the contexts of
        malignant or benign training nodules) and flips-made (made ones with flips and turns).
    ratios
        Made malignant nodules for each real one in malignant contexts, an arm each; the paper has 2.
    rule
        A nodule is malignant if the median of its readers' ratings is 4 or more, or if the majority rates it so.
    trainings
        Of each arm; their spread is in the intervals.
    seed
        Of the first training; the others count on.
    config
        YAML file of settings of the classifier.
    set
        One setting, KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    """
    say(
        api.study_malignancy(
            data,
            out,
            models=[] if model == ["none"] else model,
            preset=preset,
            settings=parse_settings(set or [], config),
            arms=_names(arms),
            ratios=_numbers("--ratios", ratios),
            rule=rule,
            trainings=trainings,
            seed=seed,
            device=device,
        )
    )


def segmentation(
    *,
    data: Path,
    out: Path,
    model: Annotated[list[str], Parameter(negative="")],
    preset: Literal["paper", "compact", "smoke"] = "compact",
    arms: str = "real,published,mixed,amounts,templates,sources",
    trainings: int = 3,
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
) -> None:
    """How many real scans do synthetic ones replace for a segmenter of nodules?

    Volumes painted from label maps beside n real patients, alone and in other mixtures, against real ones alone, and
    nodules put into scans by other makers. Writes results.json and index.html. A study that was stopped goes on with
    the training it was at.

    Parameters
    ----------
    data
        A store, as `synthorax prepare --tissue` makes. The n real patients are those of validation, whom no model
        knows; label maps, and further real patients, are of training.
    out
        Folder to write.
    model
        A bundled model's name or a run folder; may be repeated. The first paints, and is in every arm; others,
        painters or injectors, have one arm each. Rendering is always one of these.
    preset
        Of the segmenter. compact: a quarter of the thesis' widths on windows of 32 mm, some minutes a training. paper:
        as published, takes a GPU. smoke: seconds.
    arms
        Any of real (n, 2 n, ... N real patients), published (N and 4 N synthetic volumes alone), mixed (N real with N
        synthetic; half of each), amounts (n and 3 n synthetic volumes beside n), templates (15 shapes of nodules)
        and sources (other makers). n and N real patients, and n with 10 n synthetic volumes, are always trained.
    trainings
        Of each arm; their spread is in the intervals.
    seed
        Of the first training; the others count on.
    config
        YAML file of settings of the segmenter.
    set
        One setting, KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    """
    say(
        api.study_segmentation(
            data,
            out,
            models=model,
            preset=preset,
            settings=parse_settings(set or [], config),
            arms=_names(arms),
            trainings=trainings,
            seed=seed,
            device=device,
        )
    )


def fidelity(
    *,
    data: Path,
    out: Path,
    model: str | None = None,
    extractor: str = "features-24mm",
    preset: Literal["paper", "compact", "smoke"] = "compact",
    samples: int = 400,
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
) -> None:
    """Are a maker's patches like real ones, new, varied, and what was asked for?

    Writes results.json and index.html with pictures. A study that was stopped goes on with the training it was at.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` makes; the model may have seen its training patients.
    out
        Folder to write.
    model
        A bundled model's or a system's name, or a run folder, whose curves are shown too. The bundled generator of
        patches if not given.
    extractor
        A bundled model's name or a run folder of `synthorax train features`, by whose features patches are compared.
    preset
        Of the networks that read ratings, which are a detector's.
    samples
        Made for the checks of the condition.
    seed
        Of samples and trainings.
    config
        YAML file of settings of those networks.
    set
        One such setting, KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    """
    page = api.study_fidelity(
        data,
        out,
        model=model,
        extractor=extractor,
        preset=preset,
        settings=parse_settings(set or [], config),
        samples=samples,
        seed=seed,
        device=device,
    )
    say(page)


def volumes(
    *,
    data: Path,
    out: Path,
    model: Annotated[list[str], Parameter(negative="")],
    inject: str | None = None,
    erase: str | None = None,
    ablation: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Literal["paper", "compact", "patch48", "smoke"] = "compact",
    made: int = 400,
    compared: int = 100,
    trainings: int = 3,
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    device: str = "auto",
    cache: Path | None = None,
) -> None:
    """Are made chests like real ones, and does pre-training on them help to find nodules?

    Compares made chests with real ones slice by slice, then trains 3D-SqueezeNets on real chests, on made ones, and on
    made and then real ones. Writes results.json and index.html. A study that was stopped goes on where it was.

    Parameters
    ----------
    data
        A store of whole scans, or of cubes for models of cubes, as `synthorax prepare` makes.
    out
        Folder to write.
    model
        Makes scans: a run folder of ct-sgan or volume-gan; may be repeated. The first is under study, the others are
        compared with it.
    inject
        Puts nodules into chests, by its name or run folder; rendered outlines of LIDC's training patients if not given.
    erase
        Takes nodules out of real chests, by its name or run folder. Without one they stay, and source and device may
        give the label away.
    ablation
        Makes scans that are compared with real chests alone; may be repeated.
    preset
        Of the classifier. compact: chests of 64^3 voxels, minutes a training. patch48: cubes of 48 mm. paper: 224^3,
        takes a GPU. smoke: seconds.
    made
        Scans of each model that classifiers learn from, half with nodules; 0 trains no classifier.
    compared
        Scans of each model that are compared with real ones.
    trainings
        Of each arm; their spread is in the intervals.
    seed
        Of the first training; the others count on.
    config
        YAML file of settings of the classifier.
    set
        One setting, KEY=VALUE; may be repeated.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    cache
        Folder for the decoded chests; the user's cache folder if not given.
    """
    page = api.study_volumes(
        data,
        out,
        models=model,
        inject=inject,
        erase=erase,
        ablations=ablation or (),
        preset=preset,
        settings=parse_settings(set or [], config),
        made=made,
        compared=compared,
        trainings=trainings,
        seed=seed,
        device=device,
        cache=cache,
    )
    say(page)


def _names(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str) -> list[float]:
    """The numbers of a list with commas."""
    try:
        return [float(part) for part in _names(text)]
    except ValueError as error:
        raise InputError(option, repr(text), "numbers, as in 0.5,1,4") from error
