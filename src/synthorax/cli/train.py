"""`synthorax train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from synthorax.api import train
from synthorax.cli.options import parse_settings
from synthorax.screen import say

Settings = Annotated[list[str] | None, Parameter(negative="")]


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class Where:
    """From where and on what it trains, and for how long.

    Parameters
    ----------
    start
        A model whose weights are the first ones: a name, file or run folder.
    device
        auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
    devices
        So many of them, each a process with its share of every batch.
    nodes
        Hosts, on each of which the same command runs, with MASTER_ADDR and MASTER_PORT of the first one and
        NODE_RANK 0, 1, ... in its environment; or by srun or torchrun. See docs/training.md.
    max_minutes
        Stop cleanly so long after the command began; the same command goes on.
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
    set: Settings = None,  # noqa: A002  (the option's name)
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
    _train("lung", data, out, preset, settings, seed, where, nodules=nodules)


def ac_wgan(
    *,
    data: Path,
    out: Path,
    preset: Literal["paper", "large", "patch48", "patch24", "compact", "folded24", "smoke"] = "paper",
    seed: int = 0,
    config: Path | None = None,
    set: Settings = None,  # noqa: A002  (the option's name)
    where: Where | None = None,
) -> None:
    """Train the AC-WGAN-GP, a generator of CT cubes with and without a nodule. Run it again to go on.

    Parameters
    ----------
    data
        A store, as `synthorax prepare` makes; its training patients are learned from.
    out
        Run folder: config, weights, log, previews, state.
    preset
        paper: cubes of 48 mm, as published. large: twice its channels. patch48, patch24: cubes of 48 and 24 mm,
        told diameter, texture and malignancy. compact: the same at 24 mm for a CPU. smoke: seconds.
    seed
        Decides the first weights, the noise and the order of patches.
    config
        YAML file of settings, such as a run's config.yaml.
    set
        One setting, KEY=VALUE, as in precision=bf16 (or 32, tf32); may be repeated.
    """
    _train("ac-wgan", data, out, preset, parse_settings(set or [], config), seed, where)


def features(
    *,
    data: Path,
    out: Path,
    preset: Literal["paper", "compact", "smoke"] = "compact",
    seed: int = 0,
    config: Path | None = None,
    set: Settings = None,  # noqa: A002  (the option's name)
    where: Where | None = None,
) -> None:
    """Train the network whose features generated patches are compared by (FID, KID and others).

    Parameters
    ----------
    data
        A store, as `synthorax prepare` makes; its validation patients decide which weights are kept as best.
    out
        Run folder.
    preset
        compact: minutes on a CPU. paper: longer. smoke: seconds.
    seed
        Decides the first weights and the order of patches.
    config
        YAML file of settings, such as a run's config.yaml.
    set
        One setting, KEY=VALUE; may be repeated.
    """
    _train("features", data, out, preset, parse_settings(set or [], config), seed, where)


def _train(
    system: str,
    data: str | Path,
    out: Path,
    preset: str,
    settings: dict[str, Any],
    seed: int,
    where: Where | None,
    **options: Any,
) -> None:
    outcome = train(system, data, out, preset=preset, settings=settings, seed=seed, **vars(where or Where()), **options)
    if outcome.finished:
        more = "" if system == "lung" else f"; --set steps=N, more than {outcome.step}, goes on"
        say(f"{out}: trained, {outcome.step} steps{more}")
    else:
        say(f"{out}: stopped after {outcome.step} steps; the same command goes on")
