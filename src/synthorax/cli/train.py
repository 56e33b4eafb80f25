"""`synthorax train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from synthorax.api import train
from synthorax.cli.options import parse_settings


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class Where:
    """From where and on what it trains, and for how long.

    Parameters
    ----------
    start
        A model whose weights are the first ones: a name, file or run folder.
    device
        auto, cpu, cuda or mps.
    devices
        So many of them, each a process with its share of every batch.
    nodes
        Hosts, on each of which the same command runs.
    max_minutes
        Stop cleanly after so long; the same command goes on.
    """

    start: Annotated[str | None, Parameter(name="--from")] = None
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    max_minutes: float | None = None


def lung(
    *,
    data: str,
    out: Path,
    preset: Literal["paper", "compact", "smooth", "smoke"] = "paper",
    layers: str | None = None,
    nodules: int | None = None,
    seed: int = 0,
    config: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    where: Where | None = None,
) -> None:
    """Train LuNG, the autoencoder of nodule shapes. Run it again to go on where it stopped.

    Parameters
    ----------
    data
        lidc, the annotations in the package; or a .npy stack on the model's grid, a NIfTI or MHA mask, a folder.
    out
        Run folder: config, weights, log, state. It is what `synthorax sample` takes.
    preset
        paper: as published, hours on a CPU. compact: half a minute for 51 nodules. smooth: the
        same for outlined nodules, as LIDC's. smoke: seconds.
    layers
        Neurons of the hidden layers; the narrowest is the latent space, as in 32_3_64_1024.
    nodules
        Train on so many, drawn by the seed; all if not given.
    seed
        Decides the nodules drawn, the first weights and the order of batches.
    config
        YAML file of settings, such as a run's config.yaml.
    set
        One setting, KEY=VALUE; may be repeated.
    """
    settings = parse_settings(set or [], config, layers=layers)
    outcome = train(
        "lung",
        data,
        out,
        preset=preset,
        settings=settings,
        nodules=nodules,
        seed=seed,
        **vars(where or Where()),
    )
    if outcome.finished:
        print(f"{out}: trained, {outcome.step} steps")
    else:
        print(f"{out}: stopped after {outcome.step} steps; the same command goes on")
