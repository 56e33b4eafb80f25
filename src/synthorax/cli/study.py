"""`synthorax study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from synthorax import api
from synthorax.cli.options import parse_settings


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
        auto, cpu, cuda or mps.
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
        compare=[name.strip() for name in compare.split(",") if name.strip()],
        reconnect=reconnect,
        feedback=feedback,
        seed=seed,
        device=device,
    )
    print(page)


def baselines(
    *,
    data: Path,
    out: Path,
    tasks: str = "detection,malignancy,segmentation",
    preset: Literal["paper", "compact", "smoke"] = "compact",
    trainings: int = 3,
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
    device
        auto, cpu, cuda or mps.
    """
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    print(api.study_baselines(data, out, tasks=names, preset=preset, trainings=trainings, device=device))
