"""`synthorax sample`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from synthorax import api
from synthorax.cli.attributes import Attributes
from synthorax.cli.flags import with_options
from synthorax.errors import InputError
from synthorax.hub import system_of
from synthorax.io.atomic import claiming
from synthorax.makers import Options, Role
from synthorax.registry import Entry, registry
from synthorax.screen import say, warn

SCANS: Role = "makes scans"


def verb(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the verb with the flags of the model that the arguments name; without a model, with the general ones."""
    entry = _system_of(arguments)
    if entry is None:
        return with_options(sample, Options, "a model", epilogue=_flags_of_all())
    return with_options(sample_scans if SCANS in entry.roles else sample, entry.options, entry.name)


def _system_of(arguments: Sequence[str]) -> Entry | None:
    """The system of the model among the arguments; None if no word can be the model.

    Raises:
        InputError: words that can only be the model, and none of them is one.
    """
    words = [(before.startswith("-"), word) for before, word in pairwise(("", *arguments)) if not word.startswith("-")]
    errors = []
    for may_be_a_value, word in sorted(words, key=lambda each: each[0]):
        try:
            return system_of(word)
        except InputError as error:
            errors += [] if may_be_a_value else [error]
    if errors:
        raise errors[0]
    return None


def _flags_of_all() -> str:
    """What each system that makes samples takes beside the general flags."""
    lines = []
    for name in registry().having(lambda entry: bool(entry.roles & {"makes shapes", "makes patches", SCANS})):
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in registry()[name].options.model_fields)
        lines.append(
            f"A model of {name} also takes {flags or 'nothing else'}; `synthorax sample MODEL --help` tells more."
        )
    return "\n\n".join(lines)


def sample(
    model: str,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    out: Path,
    seed: int = 0,
    positive: bool | None = None,
    diameter: float | None = None,
    attributes: Attributes | None = None,
    options: Options | None = None,
    formats: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> None:
    """New nodule shapes or patches of CT out of a trained model, with a manifest.

    Parameters
    ----------
    model
        A bundled model's name, or a run folder.
    n
        How many.
    out
        Folder to write. Images and masks open in 3D Slicer, meshes in Blender.
    seed
        Sample i of a seed is the same, however many are made.
    positive
        Patches with a nodule, or without one.
    diameter
        Diameter of the nodules, mm.
    formats
        Shapes: any of npy,nifti,mha,stl; all if not given. Patches: nifti, mha; nifti if not given.
    device
        cpu, cuda, or auto, cuda where there is one: faster, but another device's samples differ in their last digits.
    overwrite
        Replace a folder that an earlier call made.
    """
    asked: dict[str, Any] = {"positive": positive, "diameter_mm": diameter, **(attributes or Attributes()).given()}
    asked = {name: value for name, value in asked.items() if value is not None}
    given = options.given() if options else {}
    how: dict[str, object] = {"drawn": "uniform", **asked, **(options.told() if options else {})}
    if device != "cpu":
        how["device"] = device
    chosen = None if formats is None else [name.strip() for name in formats.split(",")]
    with claiming(out, overwrite=overwrite, sources=[Path(model)]):
        made = api.sample_chunks(api.load(model, device), n, seed=seed, **asked, **given)
        told = api.write_samples(out, made, seed=seed, how=how, formats=chosen, overwrite=overwrite, tell=warn)
    say(f"{out}: {told}")


def sample_scans(
    model: str,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    out: Path,
    seed: int = 0,
    inject: str | None = None,
    share: float = api.WITH_NODULES,
    diameter: float | None = None,
    options: Options | None = None,
    workers: int = 1,
    cluster: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> None:
    """Whole chest CT out of a trained model, with a manifest; the same command goes on after a kill.

    Parameters
    ----------
    model
        A bundled model's name, or a run folder.
    n
        How many.
    out
        Folder to write. Images and masks open in 3D Slicer; `prepare patches` makes a store of them.
    seed
        Scan i of a seed is the same, however many are made.
    inject
        A method that puts nodules into a share of the scans, by its name or run folder: as many and as wide as scans of
        LIDC-IDRI have, in places that are found. No scan gets any if not given.
    share
        Share of the scans that get nodules.
    diameter
        Diameter in mm of one nodule in each of those scans, in the place of LIDC-IDRI's numbers and diameters.
    workers
        Processes; one uses every core for one scan.
    cluster
        Address of a Dask scheduler to use instead, such as tcp://host:8786.
    device
        cpu, cuda, or auto, cuda where there is one: faster, but another device's samples differ in their last digits.
    overwrite
        Remove the scans of another request that lie in OUT.
    """
    if inject is None and (diameter is not None or share != api.WITH_NODULES):
        option, value = ("--share", share) if diameter is None else ("--diameter", diameter)
        raise InputError(option, f"{value:g} without nodules", "--inject METHOD beside it")
    made = api.sample_scans(
        model,
        n,
        out,
        seed=seed,
        inject=inject,
        share=share,
        diameter_mm=diameter,
        workers=workers,
        cluster=cluster,
        overwrite=overwrite,
        device=device,
        **(options.given() if options else {}),
    )
    for note in made.notes:
        warn(note)
    nodules = f", {made.nodules} nodules in them" if inject is not None else ""
    say(f"{out}: {made.scans} {'scan' if made.scans == 1 else 'scans'}{nodules}")
