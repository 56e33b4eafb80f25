"""`synthorax study`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from synthorax import api
from synthorax.cli.attributes import asks_help
from synthorax.cli.flags import value_of
from synthorax.cli.options import (
    TRAINING_FLAGS,
    ConfigFile,
    Device,
    Out,
    Overwrite,
    Seed,
    Settings,
    Trainings,
    parse_settings,
)
from synthorax.cli.train import settings_help
from synthorax.errors import InputError
from synthorax.screen import say


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class StudyRun:
    """Flags that most studies share.

    Parameters
    ----------
    out
        Folder to write.
    seed
        Seed of samples and of the first training; the next trainings have the next numbers.
    config
        YAML file of the settings that are listed below.
    set
        A setting KEY=VALUE; may be repeated.
    device
        auto for cuda if there is a GPU and else cpu; or cpu, cuda, mps (untested).
    overwrite
        Replace the results of another study or request in OUT; finished trainings that both need are kept.
    """

    out: Out
    seed: Seed = 0
    config: ConfigFile = None
    set: Settings = None
    device: Device = "auto"
    overwrite: Overwrite = False

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a study in `synthorax.api`."""
        return {
            "out": self.out,
            "settings": parse_settings(self.set or [], self.config),
            "seed": self.seed,
            "device": self.device,
            "overwrite": self.overwrite,
        }


def shapes(
    *,
    out: Out,
    data: str = "lidc",
    seeds: Path | None = None,
    nodules: int | None = None,
    layers: str | None = None,
    preset: Annotated[Literal["paper", "compact", "smooth", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    training_seeds: Trainings = 5,
    samples: int = 10_000,
    compared_samples: int = 2_000,
    compare: str = "",
    reconnect: bool = True,
    feedback: Literal["none", "accepted", "reflection", "reflections", "trade"] = "none",
    seed: Seed = 0,
    config: ConfigFile = None,
    set: Settings = None,  # noqa: A002  (the option's name)
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure how good generated nodule shapes are, with LuNG's experiment: acceptance, novelty, error and Score.

    Writes results.json and index.html. The same command resumes a study that was stopped.

    Parameters
    ----------
    out
        Folder to write.
    data
        Training nodules: lidc for the annotations in the package; a store, of whose training patients the outlined
        nodules are taken; or a .npy array [n, z, y, x] on the model's grid, a NIfTI or MHA mask, or a folder of these.
    seeds
        Another name of --data FILE.
    nodules
        Number of training nodules, drawn at random; by default all whose features are finite.
    layers
        Neurons of the hidden layers, as in 32_3_64_1024.
    preset
        compact: half a minute for a training on 51 nodules. smooth: the same, for smooth outlines such as LIDC's.
        paper: as published, hours. smoke: seconds.
    training_seeds
        Number of trainings of the main arm; the confidence intervals are from their spread.
    samples
        Nodules to generate and analyse for each training.
    compared_samples
        Nodules to generate and analyse for each training of --compare's arms.
    compare
        Also run any of sizes,feedback,depth,fit, or all: figures 5 to 7, tables I and II, and the parts of the fit.
    reconnect
        Reconnect the pieces of a nodule before it is analysed.
    feedback
        Train on accepted nodules too: themselves (accepted), one or four reflections of each (reflection,
        reflections), or those of another network (trade).
    seed
        Seed of the draw of training nodules.
    config
        YAML file of settings, such as a run's config.yaml.
    set
        A setting KEY=VALUE; may be repeated.
    device
        auto for cuda if there is a GPU and else cpu; or cpu, cuda, mps (untested).
    overwrite
        Replace the results of another study or request in OUT; finished trainings that both need are kept.
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
        overwrite=overwrite,
    )
    say(page)


def baselines(
    *,
    data: Path,
    out: Out,
    tasks: str = "detection,malignancy,segmentation",
    preset: Annotated[Literal["paper", "compact", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    trainings: Trainings = 3,
    seed: Seed = 0,
    set: Settings = None,  # noqa: A002  (the option's name)
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure what a detector, a malignancy classifier and a segmenter reach when they train on real patches alone.

    Writes results.json and index.html. The same command resumes a study that was stopped.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` writes.
    out
        Folder to write.
    tasks
        Tasks to train: any of detection,malignancy,segmentation. malignancy needs patients with malignant and with
        benign nodules in each split, segmentation outlines.
    preset
        compact: small networks for a CPU. paper: the papers' networks and patches. smoke: seconds.
    trainings
        Number of trainings of each network; the confidence intervals include their spread.
    seed
        Seed of the first training; the next ones have the next numbers.
    set
        A setting of a task's training, TASK.KEY=VALUE, as listed below; may be repeated.
    device
        auto for cuda if there is a GPU and else cpu; or cpu, cuda, mps (untested).
    overwrite
        Replace the results of another study or request in OUT; finished trainings that both need are kept.
    """
    names = _names(tasks)
    settings: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(set or [], None).items():
        task, separator, name = key.partition(".")
        if not separator or task not in names:
            raise InputError("--set", repr(key), f"TASK.KEY=VALUE, with the task {' or '.join(names)}")
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
            overwrite=overwrite,
        )
    )


def detection(
    *,
    data: Path,
    model: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Annotated[Literal["paper", "compact", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    amounts: str = "0.25,1,4",
    negatives: float = 1.0,
    trainings: Trainings = 3,
    run: StudyRun,
) -> None:
    """Test whether generated nodules help a nodule detector, compared with flips, rendered nodules and real data alone.

    Writes results.json and index.html. The same command resumes a study that was stopped.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` writes, with at least 4 patients with nodules in each split.
    model
        Model that makes nodules: the name of a bundled model or a system, or a run folder; may be repeated. By default
        ac-wgan; the word none: no model, only rendered nodules, which are always an arm.
    preset
        Preset of the detector. compact: cubes of 24 mm, a minute for a training. paper: 48 mm, needs a GPU. smoke:
        seconds. If a model makes patches, the patches have its size, voxel spacing and HU window.
    amounts
        Synthetic nodules for each real one; each amount is an arm.
    negatives
        Patches without a nodule for each patch with one, from whole scans (the thesis has 71). In crops
        around nodules, all places without a nodule that a patch has room for are used.
    trainings
        Number of trainings of each arm; the confidence intervals include their spread.
    """
    page = api.study_detection(
        data,
        models=[] if model == ["none"] else model,
        preset=preset,
        amounts=_numbers("--amounts", amounts),
        negatives=negatives,
        trainings=trainings,
        **run.arguments(),
    )
    say(page)


def false_alarms(
    *,
    data: Path,
    chests: Path,
    model: Annotated[list[str] | None, Parameter(negative="")] = None,
    eraser: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Annotated[Literal["paper", "compact", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    trainings: Trainings = 3,
    run: StudyRun,
) -> None:
    """Test which generated nodules, put into whole training chests, reduce a detector's false alarms in other chests.

    Patches without a nodule are places in whole chests that look like one (vessels, hila, chest wall), and the false
    alarms of a first detector. Writes results.json and index.html. The same command resumes a study that was stopped.

    Parameters
    ----------
    data
        A store of nodules in cubes, as `synthorax prepare` writes.
    chests
        A store of whole chests, as `synthorax prepare scans` writes. Its nodules need not be known: places near masses,
        and isolated dense spots, count neither as nodules nor as false alarms.
    model
        Model that puts nodules into the training chests: the name of a bundled model or a system, or a run folder; may
        be repeated. Rendered nodules, and real nodules that are pasted, are always arms.
    eraser
        Model that removes the training nodules, whose places then become patches without one; may be repeated.
    preset
        Preset of the detector. compact: cubes of 24 mm, a minute for a training. paper: 48 mm, needs a GPU. smoke:
        seconds.
    trainings
        Number of trainings of each arm; fewer than 3 give no p values.
    """
    page = api.study_false_alarms(
        data,
        chests,
        models=model or [],
        erasers=eraser or [],
        preset=preset,
        trainings=trainings,
        **run.arguments(),
    )
    say(page)


def malignancy(
    *,
    data: Path,
    model: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Annotated[Literal["paper", "compact", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    arms: str | None = None,
    ratios: str = "0.5,1,2,4",
    rule: Literal["median", "majority"] = "median",
    trainings: Trainings = 5,
    run: StudyRun,
) -> None:
    """Test whether generated malignant nodules help to classify nodules as malignant or benign.

    Adds rendered and generated malignant nodules to real ones, and compares this with weighted losses, oversampling,
    flips and rotations, the diameter alone, and the 12 shape features. Writes results.json and index.html. The same
    command resumes a study that was stopped.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` writes, whose nodules have ratings of malignancy.
    model
        Model that puts nodules into patches: the name of a bundled model or a system, or a run folder; may be repeated.
        By default all bundled ones; the word none: no model, only rendered nodules, which always have the arm benign.
    preset
        Preset of the classifier. compact: a small ResNet on 32 mm, a minute for a training. paper: ResNet-50 on 64 mm,
        needs a GPU. smoke: seconds. `--set network.architecture=resnet-152` is another network of the paper.
    arms
        Any of raw,weighted,oversampled,flips (real nodules alone), malignant,benign (synthetic nodules put where
        malignant or benign training nodules are) and flips-made (the arm malignant, with flips and rotations). By
        default all. The arms malignant and flips-made need a model that replaces nodules, such as a flow: rendering
        adds nodules.
    ratios
        Synthetic malignant nodules for each real one, in the arm malignant; each ratio is an arm, the paper has 2.
    rule
        A nodule is malignant if the median of its readers' ratings is 4 or more (median), or if most readers rate it 4
        or more (majority).
    trainings
        Number of trainings of each arm; the confidence intervals include their spread.
    """
    say(
        api.study_malignancy(
            data,
            models=[] if model == ["none"] else model,
            preset=preset,
            arms=None if arms is None else _names(arms),
            ratios=_numbers("--ratios", ratios),
            rule=rule,
            trainings=trainings,
            **run.arguments(),
        )
    )


def segmentation(
    *,
    data: Path,
    model: Annotated[list[str], Parameter(negative="")],
    preset: Annotated[Literal["paper", "compact", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    arms: str = "real,published,mixed,amounts,templates,sources",
    trainings: Trainings = 3,
    run: StudyRun,
) -> None:
    """Measure how many real scans synthetic ones replace when a segmenter of nodules is trained.

    Trains on volumes that were made from label maps, together with n real patients and in other mixtures, and compares
    this with real patients alone, and with nodules that other methods put into scans. Writes results.json and
    index.html. The same command resumes a study that was stopped.

    Parameters
    ----------
    data
        A store, as `synthorax prepare --tissue` writes. The n real patients are the validation patients, from whom no
        model has learned; the label maps and further real patients are from the training split.
    model
        Name of a bundled model, or a run folder; may be repeated. The first one makes CT from label maps and is in
        every arm; each other one, of any kind, has one arm. Rendered nodules are always an arm too.
    preset
        Preset of the segmenter. compact: a quarter of the thesis' widths on windows of 32 mm, some minutes for a
        training. paper: as published, needs a GPU. smoke: seconds.
    arms
        N is 5.8 n, or all patients. Any of real (2 n, 3 n, ... N real patients), published (N and 4 N synthetic volumes
        alone), mixed (N real with N synthetic; N in all, half of them synthetic), amounts (n and 3 n synthetic volumes
        with n real patients), templates (only 15 nodule shapes) and sources (other methods). The arms of n and N real
        patients, and of n with 10 n synthetic volumes, are always trained.
    trainings
        Number of trainings of each arm; the confidence intervals include their spread.
    """
    say(
        api.study_segmentation(
            data,
            models=model,
            preset=preset,
            arms=_names(arms),
            trainings=trainings,
            **run.arguments(),
        )
    )


def fidelity(
    *,
    data: Path,
    model: str | None = None,
    extractor: str = "features-24mm",
    preset: Annotated[Literal["paper", "compact", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    samples: int = 400,
    run: StudyRun,
) -> None:
    """Measure whether generated patches are realistic, new, varied, and as requested.

    Writes results.json and index.html with pictures. The same command resumes a study that was stopped.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` writes; the model may have been trained on its training patients.
    model
        Model that makes patches: the name of a bundled model or a system, or a run folder, whose training curves are
        then shown too. By default the bundled generator of patches.
    extractor
        Network whose features patches are compared by: the name of a bundled model, or a run folder of `synthorax
        train features`.
    preset
        Preset of the networks that predict ratings; they are detectors with another head.
    samples
        Patches to generate for the checks of asked attributes.
    """
    page = api.study_fidelity(
        data,
        model=model,
        extractor=extractor,
        preset=preset,
        samples=samples,
        **run.arguments(),
    )
    say(page)


def volumes(
    *,
    data: Path,
    model: Annotated[list[str], Parameter(negative="")],
    inject: str | None = None,
    erase: str | None = None,
    ablation: Annotated[list[str] | None, Parameter(negative="")] = None,
    preset: Annotated[Literal["paper", "compact", "patch48", "smoke"], Parameter(group=TRAINING_FLAGS)] = "compact",
    made: int = 400,
    compared: int = 100,
    trainings: Trainings = 3,
    cache: Path | None = None,
    run: StudyRun,
) -> None:
    """Compare generated chest CTs with real ones, and test whether pre-training on them helps to detect nodules.

    Compares the scans slice by slice, then trains 3D-SqueezeNets on real chests, on generated chests, and on generated
    and then real chests. Writes results.json and index.html. The same command resumes a study that was stopped.

    Parameters
    ----------
    data
        A store of whole scans, or of cubes for models of cubes, as `synthorax prepare` writes.
    model
        Model that makes scans: a run folder of ct-sgan or volume-gan; may be repeated. The first is the one under
        study, the others are compared with it.
    inject
        Method that puts nodules into chests, by name or run folder; by default rendered outlines of LIDC's training
        patients.
    erase
        Method that removes nodules from real chests, by name or run folder. Without it real chests keep their nodules,
        and a classifier may recognise the source or scanner instead of nodules.
    ablation
        Model whose scans are compared with real chests, without training on them; may be repeated.
    preset
        Preset of the classifier. compact: chests of 64^3 voxels, minutes for a training. patch48: cubes of 48 mm.
        paper: 224^3 voxels, needs a GPU. smoke: seconds.
    made
        Scans of each model to train classifiers on, half of them with nodules; 0 trains none.
    compared
        Scans of each model to compare with real ones.
    trainings
        Number of trainings of each arm; the confidence intervals include their spread.
    cache
        Folder for decoded chests; by default the user's cache folder.
    """
    page = api.study_volumes(
        data,
        models=model,
        inject=inject,
        erase=erase,
        ablations=ablation or (),
        preset=preset,
        made=made,
        compared=compared,
        trainings=trainings,
        **run.arguments(),
        cache=cache,
    )
    say(page)


def scores(
    *,
    scores: Annotated[list[Path], Parameter(negative="")],
    out: Out,
    reference: str | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Test whether your own detector gets better with synthetic nodules, by the scores that it gave.

    Compares the AUCs of detectors that were trained elsewhere, on the same cases, with intervals over patients and
    trainings. Writes results.json and index.html. See docs/your-own-detector.md.

    Parameters
    ----------
    scores
        CSV file with the columns patient, case, label (1 for a nodule, else 0) and score, and optionally training and
        arm; without a column arm the file's name is the arm. Repeat it for each file.
    out
        Folder to write.
    reference
        Arm without synthetic nodules, with which the others are compared; by default the first.
    overwrite
        Replace a folder that an earlier call wrote.
    """
    say(api.study_scores(scores, out, reference=reference, overwrite=overwrite))


def _with_settings(
    verb: Callable[..., None], presets: Mapping[str, str], arguments: Sequence[str]
) -> Callable[..., None]:
    """Return a verb whose help lists the settings of its networks, with their values in the preset that is named.

    Args:
        verb: the verb.
        presets: what `--set` needs before the settings of each network, such as `detection.` or nothing, to the module
            and name of the network's presets, as in `module:NAME` or `module:NAME[task]`.
        arguments: arguments after the verb.
    """
    lists = []
    if asks_help(arguments):
        preset = value_of("--preset", arguments, "compact")
        for prefix, where in presets.items():
            module, _, name = where.partition(":")
            name, _, task = name.removesuffix("]").partition("[")
            known = getattr(import_module(f"synthorax.{module}"), name)
            known = known[task] if task else known
            config = known.get(preset) or known["compact"]
            lists.append(settings_help(type(config), preset, config, prefix))
    verb.epilogue = "\n\n".join(lists)  # type: ignore[attr-defined]
    return verb


shapes_verb = partial(_with_settings, shapes, {"": "systems.lung.config:PRESETS"})
baselines_verb = partial(
    _with_settings,
    baselines,
    {f"{task}.": f"tasks.config:TASKS[{task}]" for task in ("detection", "malignancy", "segmentation")},
)
detection_verb = partial(_with_settings, detection, {"": "tasks.config:TASKS[detection]"})
malignancy_verb = partial(_with_settings, malignancy, {"": "tasks.config:TASKS[malignancy]"})
false_alarms_verb = partial(_with_settings, false_alarms, {"": "tasks.config:TASKS[detection]"})
volumes_verb = partial(_with_settings, volumes, {"": "tasks.config:TASKS[volumes]"})
fidelity_verb = partial(_with_settings, fidelity, {"": "tasks.config:TASKS[detection]"})
segmentation_verb = partial(_with_settings, segmentation, {"": "studies.segmentation_config:SEGMENTERS"})


def _names(text: str) -> list[str]:
    """Return the parts of a text that are separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str) -> list[float]:
    """Return the numbers of a text that are separated by commas."""
    try:
        return [float(part) for part in _names(text)]
    except ValueError as error:
        raise InputError(option, repr(text), "numbers, as in 0.5,1,4") from error
