"""`synthorax sample`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from synthorax import api
from synthorax.api.sampling import generator_of
from synthorax.cli.attributes import Attributes, asks_help, kinds_taken
from synthorax.cli.flags import with_options
from synthorax.cli.options import COMPUTING_FLAGS, NODULE_FLAGS, OUTPUT_FLAGS, Cluster, Device, Out, Overwrite, Seed
from synthorax.errors import InputError
from synthorax.hub import system_of, who
from synthorax.io.atomic import claiming
from synthorax.makers import Options, Role
from synthorax.registry import Entry, registry
from synthorax.screen import say, warn

SCANS: Role = "makes scans"
SAMPLED: tuple[Role, ...] = ("makes shapes", "makes patches", SCANS)


def verb(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the verb with the flags of the model that the arguments name; without a model, with the common flags."""
    model = _model_of(arguments)
    if model is None:
        return with_options(sample, Options, "a model", epilogue=_flags_of_all())
    entry = _system_of(model, arguments)
    if SCANS in entry.roles:
        return with_options(sample_scans, entry.options, entry.name)

    def taken() -> dict[str, Any]:
        return kinds_taken(lambda: [generator_of(model)])

    return with_options(sample, entry.options, entry.name, kinds=taken() if asks_help(arguments) else {}, taken=taken)


def _model_of(arguments: Sequence[str]) -> str | None:
    """Return the model that the arguments name; None if no argument can be a model.

    A word after a flag may be the flag's value, so it is tried last.

    Raises:
        InputError: an argument that is not a flag's value is not a model.
    """
    words = [(before.startswith("-"), word) for before, word in pairwise(("", *arguments)) if not word.startswith("-")]
    errors = []
    for may_be_a_value, word in sorted(words, key=lambda each: each[0]):
        try:
            _system_of(word, arguments)
        except InputError as error:
            if not (Path(word).exists() or word in registry().entries):
                error = InputError(word, str(error.args[1]), f"what makes samples: {who(SAMPLED)}")
            errors += [] if may_be_a_value else [error]
        else:
            return word
    if errors:
        raise errors[0]
    return None


def _system_of(model: str, arguments: Sequence[str]) -> Entry:
    """Return the entry of a model's system; if help is requested, also that of a system that has no weights yet.

    Raises:
        InputError: there is no such model.
    """
    system = registry().entries.get(model)
    return system if system is not None and asks_help(arguments) else system_of(model)


def _flags_of_all() -> str:
    """Return the text that lists the options of each system that makes samples."""
    lines = []
    for name in registry().having(lambda entry: bool(entry.roles & {"makes shapes", "makes patches", SCANS})):
        try:
            options = registry()[name].options.model_fields
        except InputError as error:  # a package that does not load
            lines.append(f"- with a model of {name}: not known, since it cannot be used ({error})")
            continue
        if options:
            flags = ", ".join(f"--{option.replace('_', '-')}" for option in options)
            lines.append(f"- with a model of {name}: {flags}")
    lines += [
        f"- with a model of {name}: none, since it cannot be used ({why})" for name, why in registry().broken.items()
    ]
    return "\n".join(
        ["More options; `synthorax sample RUN --help` explains those of a run folder or bundled model:", "", *lines]
    )


def sample(
    model: str,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    out: Out,
    seed: Seed = 0,
    positive: Annotated[bool | None, Parameter(group=NODULE_FLAGS)] = None,
    diameter: Annotated[float | None, Parameter(group=NODULE_FLAGS)] = None,
    attributes: Attributes | None = None,
    options: Options | None = None,
    formats: Annotated[str | None, Parameter(group=OUTPUT_FLAGS)] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Make new nodule shapes or CT patches with a model, and a manifest of them.

    Parameters
    ----------
    model
        Name of a bundled model or of a system without weights, or a run folder.
    n
        Number of samples.
    out
        Folder to write. Images and masks open in 3D Slicer, meshes in Blender. Of shapes, `synthorax features --help`
        names the columns f1 to f12 of features.csv.
    seed
        Sample i of a seed is the same, however many are made.
    positive
        Make patches with a nodule, or without one.
    diameter
        Diameter of the nodules in mm.
    formats
        Formats of shapes: any of npy,nifti,mha,stl, by default all. Formats of patches: nifti, mha, by default nifti.
    device
        cpu, cuda, or auto for cuda if there is a GPU. Samples of two devices differ in their last digits.
    overwrite
        Replace a folder that an earlier call wrote.
    """
    asked: dict[str, Any] = {"positive": positive, "diameter_mm": diameter, **(attributes or Attributes()).given()}
    asked = {name: value for name, value in asked.items() if value is not None}
    given = options.given() if options else {}
    how: dict[str, object] = {**asked, **(options or system_of(model).options()).recorded()}
    if device != "cpu":
        how["device"] = device
    chosen = None if formats is None else [name.strip() for name in formats.split(",")]
    with claiming(out, overwrite=overwrite, sources=[Path(model)]):
        source = api.load(model, device) if system_of(model).is_trained else model
        made = api.sample_chunks(source, n, seed=seed, **asked, **given)
        said = api.write_samples(out, made, seed=seed, how=how, formats=chosen, overwrite=overwrite, tell=warn)
    say(f"{out}: {said}")


def sample_scans(
    model: str,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    out: Out,
    seed: Seed = 0,
    inject: Annotated[str | None, Parameter(group=NODULE_FLAGS)] = None,
    share: Annotated[float, Parameter(group=NODULE_FLAGS)] = api.WITH_NODULES,
    diameter: Annotated[float | None, Parameter(group=NODULE_FLAGS)] = None,
    options: Options | None = None,
    workers: Annotated[int, Parameter(group=COMPUTING_FLAGS)] = 1,
    cluster: Cluster = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Make whole chest CTs with a model, and a manifest of them. The same command resumes a stopped run.

    Parameters
    ----------
    model
        Name of a bundled model or of a system without weights, or a run folder.
    n
        Number of scans.
    out
        Folder to write. Images and masks open in 3D Slicer; `prepare patches` makes a store of them.
    seed
        Scan i of a seed is the same, however many are made.
    inject
        Method that puts nodules into a share of the scans: a name or a run folder. Their numbers and diameters are
        drawn as in LIDC-IDRI's scans, their places in the lungs. By default no scan has nodules.
    share
        Share of the scans that have nodules.
    diameter
        Put one nodule of this diameter in mm into each of these scans instead.
    workers
        Number of processes; a single process uses all cores for one scan.
    cluster
        Address of a Dask scheduler to use instead of processes here, such as tcp://host:8786.
    device
        cpu, cuda, or auto for cuda if there is a GPU. Samples of two devices differ in their last digits.
    overwrite
        Replace scans in OUT that were made with other options.
    """
    if inject is None and (diameter is not None or share != api.WITH_NODULES):
        option, value = ("--share", share) if diameter is None else ("--diameter", diameter)
        raise InputError(option, f"{value:g} without --inject", f"{option} together with --inject METHOD")
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
