"""Models: trained, loaded, sampled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.errors import InputError
from synthorax.registry import registry

MOST_SAMPLES = 10_000_000
"""More samples than any disk has room for."""

if TYPE_CHECKING:
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.hub import Model
    from synthorax.training.loop import Outcome


def train(
    system: str,
    data: str | Path | ShapeSet,
    out: str | Path,
    *,
    preset: str = "paper",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    start: str | Path | Model | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    max_minutes: float | None = None,
    **options: Any,
) -> Outcome:
    """Train a system into a run folder, or go on where an earlier call stopped.

    Args:
        system: a trained one of the registry, such as lung, ac-wgan or features.
        data: for LuNG `lidc`, a file or folder of masks, or a `ShapeSet`; for systems that learn from patches a store.
        settings: fields of the system's configuration that differ from the preset.
        start: a model whose weights are the first ones (fine-tuning); fresh ones if not given.
        device: auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
        devices: so many of them, each a process with its share of every batch.
        nodes: hosts with so many devices each; every one of them runs the same program (docs/training.md).
        max_minutes: stop cleanly so long after this call, in which the data are made ready too.
        options: the fields of the system's `TrainingOptions`: `nodules`, to train LuNG on this many of them, drawn by
            `seed`; `cache`, a folder for the decoded patches of the others.

    Raises:
        InputError: unknown names, settings or data that do not fit.
        OutputError: the run folder cannot be written.
        TrainingError: a figure is no longer finite, or shows a collapse.
    """
    began = time.monotonic()
    from synthorax import hub
    from synthorax.io.atomic import working_in
    from synthorax.provenance import SEEN_BEFORE, UNTOLD
    from synthorax.training.config import choose
    from synthorax.training.run_folder import RunFolder, check_run_folder

    entry = registry()[system]
    if not entry.is_trained:
        trained = " or ".join(registry().having(lambda entry: entry.is_trained))
        raise InputError("system", f"{system}, which has nothing to train", trained)
    if max_minutes is not None and not max_minutes >= 0:
        raise InputError("max minutes", f"{max_minutes:g}", "0 or more")
    config = choose(entry.presets, preset, settings or {})
    chosen = entry.make_training_options(options)
    check_run_folder(Path(out))

    from synthorax.training.devices import make_fabric
    from synthorax.training.loop import fit
    from synthorax.training.processes import launch, together

    fabric = make_fabric(device, devices, nodes, getattr(config, "precision", "32"))
    launch(fabric)
    with together(fabric), working_in(Path(out)) if fabric.is_global_zero else nullcontext():
        first = load(start) if isinstance(start, str | Path) else start
        with fabric.rank_zero_first(local=True):  # what it decodes the others of a host find in its cache
            training = entry.load("training", "training")(config, data, seed, chosen)
        training.model.check(fabric.world_size)
        settled = {"system": system, "preset": preset, "seed": seed, "config": config}
        about = dict(training.data)
        if first is not None:
            hub.start_from(training.model, first)
            settled["from"] = first.sha256
            about[SEEN_BEFORE] = sorted({*about.get(SEEN_BEFORE, ()), *first.seen})
            about |= {} if first.seen else {UNTOLD: True}
        run = RunFolder.open(Path(out), settled, about, fabric)
        left = None if max_minutes is None else max_minutes - (time.monotonic() - began) / 60
        return fit(training, run, fabric, max_minutes=left)


def load(model: str | Path, device: str = "cpu") -> Model:
    """A bundled model by its name, or one by its run folder, ready to sample; `system` of it has all that it can do.

    Args:
        device: cpu, on which samples are the same wherever its arithmetic is, auto (cuda where there is one), or cuda.

    Raises:
        InputError: no such model, or no such device.
    """
    from synthorax import hub

    found = hub.load(model)
    if device != "cpu":
        from synthorax.training.devices import make_fabric

        found.system.move(make_fabric(device).device)
    return found


def sample(model: str | Path | Model, n: int, *, seed: int = 0, **options: Any) -> Any:
    """`n` new samples of a model. Sample i of a seed is the same whatever `n` is.

    Args:
        options: the system's own. LuNG: `near`, make nodules like this one; `radius`, how far from it in the latent
            space, whose axes go from -1 to 1; `walk`, make `n` steps from the first of two nodules to the second; a
            nodule is occupancy [z, y, x] on the model's grid, or FILE or FILE:ROW. AC-WGAN-GP: `positive`, with a
            nodule or without; `select`, only the best; `diameter_mm`, `texture`, `malignancy`.

    Returns:
        `GeneratedShapes` of LuNG, `GeneratedCubes` of the AC-WGAN-GP.

    Raises:
        InputError: no such model, one that makes no samples, `n` below 1, or options that it has not.
    """
    from synthorax import hub

    system = (load(model) if isinstance(model, str | Path) else model).system
    function = _of_samples(system.name, hub.entry(system.name).sample)
    _check_options(system.name, function, n, options)
    return function(system, n, seed, **options)


def sample_chunks(
    model: str | Path | Model, n: int, *, seed: int = 0, tell: Callable[[str], None] | None = None, **options: Any
) -> Iterator[Any]:
    """The samples of `sample` in parts, which `write_samples` takes: any number takes as much memory as one part.

    Args:
        tell: hears, while samples are made, what comes out otherwise than it was asked for; nobody if not given.

    Raises:
        InputError: as `sample` does.
    """
    from synthorax import hub

    system = (load(model) if isinstance(model, str | Path) else model).system
    function = _of_samples(system.name, hub.entry(system.name).chunks)
    _check_options(system.name, function, n, options)
    parts: Iterator[Any] = function(system, n, seed, tell=tell or (lambda note: None), **options)
    return parts


def _check_options(system: str, function: Callable[..., Any], n: int, options: Mapping[str, Any]) -> None:
    """Refuse a number of samples or options that a system does not have.

    Raises:
        InputError: says which it has.
    """
    if not 1 <= n <= MOST_SAMPLES:
        raise InputError("number of samples", str(n), f"1 to {MOST_SAMPLES}")
    known = [name for name, p in signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]
    known = [name for name in known if name != "tell"]
    for name in options:
        if name not in known:
            raise InputError(name, f"an option that {system} does not have", " or ".join(known))


def write_samples(
    folder: str | Path,
    model: Model,
    made: Any,
    *,
    seed: int,
    how: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> str:
    """Write samples as files that other tools open, with a manifest; returns what was made, in words.

    Args:
        made: of this model, as `sample` or `sample_chunks` gave them.
        how: what the manifest tells of how they were drawn.
        options: `formats`, of which a system has its own.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    from synthorax import hub

    function = _of_samples(model.system.name, hub.entry(model.system.name).write)
    told = how or {"drawn": "uniform"}
    return str(function(Path(folder), model, made, seed=seed, how=told, overwrite=overwrite, **options))


def _of_samples(system: str, place: str) -> Callable[..., Any]:
    """A system's function that makes or writes samples.

    Raises:
        InputError: it makes none.
    """
    from synthorax import hub

    if not place:
        makers = " or ".join(name for name, entry in hub.SYSTEMS.items() if entry.sample)
        raise InputError("model", f"one of {system}, which makes no samples", f"one of {makers}")
    return cast(Callable[..., Any], hub.part(place))
