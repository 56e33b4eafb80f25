"""Models: trained, loaded, sampled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.errors import InputError
from synthorax.makers import Generator, Samples
from synthorax.nodule import ATTRIBUTES, NoduleAttributes
from synthorax.registry import OWN, registry

MOST_SAMPLES = 10_000_000
"""More samples than any disk has room for."""

if TYPE_CHECKING:
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.datasets.store import Store
    from synthorax.hub import Model
    from synthorax.makers import Maker
    from synthorax.training.loop import FitOutcome


def train(
    system: str,
    data: str | Path | Store | ShapeSet,
    out: str | Path,
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    more_steps: int | None = None,
    start: str | Path | Model | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    max_minutes: float | None = None,
    **options: Any,
) -> FitOutcome:
    """Train a system into a run folder, or go on where an earlier call stopped.

    Args:
        system: the name of a trained one of the registry, such as lung or features.
        data: for LuNG `lidc`, a file or folder of masks, or a `ShapeSet`; for systems that learn from patches a store.
        preset: a configuration of the system by its name; the system's first one if not given.
        settings: fields of the system's configuration that differ from the preset.
        more_steps: go on with the run in `out`, everything else as it was, until it has this many steps more than it
            had when it was finished last or, if it never was, than it was made for. The same call after a kill adds
            nothing. Where training has several stages, the last one gets the steps.
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
    from synthorax.datasets.lineage import training_data
    from synthorax.datasets.store import Store
    from synthorax.io.atomic import working_in
    from synthorax.provenance import SEEN_BEFORE, UNTOLD
    from synthorax.training.config import choose
    from synthorax.training.more_steps import with_more_steps
    from synthorax.training.run_folder import RunFolder, check_run_folder
    from synthorax.training.same_run import HAD_STEPS

    entry = registry().trained(system)
    if max_minutes is not None and not max_minutes >= 0:
        raise InputError("max minutes", f"{max_minutes:g}", "0 or more")
    settings = dict(settings or {})
    preset = preset or next(iter(entry.presets))
    config: Any = choose(entry.presets, preset, settings)
    chosen = entry.make_training_options(options)
    check_run_folder(Path(out))
    settled: dict[str, Any] = {"system": system, "preset": preset, "seed": seed}
    if entry.distribution != OWN:
        settled["distribution"] = entry.distribution
    if more_steps is not None:
        if "steps" not in entry.config.model_fields:
            expected = "a system whose number of steps is the setting steps; a new run with other settings"
            raise InputError("more steps", f"{system}, whose training does not go on once it is finished", expected)
        settled[HAD_STEPS], steps = with_more_steps(Path(out), more_steps)
        if "steps" in settings and config.steps not in (settled[HAD_STEPS], steps):
            found = f"{more_steps} beside steps={config.steps} for a run of {settled[HAD_STEPS]}"
            raise InputError("more steps", found, "one of the two")
        config = choose(entry.presets, preset, settings | {"steps": steps})

    from synthorax.training.devices import kind_of, make_fabric
    from synthorax.training.loop import fit
    from synthorax.training.precision import with_precision
    from synthorax.training.processes import launch, together

    config = with_precision(config, kind_of(device), Path(out), hosts=nodes)
    fabric = make_fabric(device, devices, nodes, getattr(config, "precision", "32"))
    launch(fabric)
    with together(fabric), working_in(Path(out)) if fabric.is_global_zero else nullcontext():
        first = load(start) if isinstance(start, str | Path) else start
        with fabric.rank_zero_first(local=True):  # what it decodes the others of a host find in its cache
            training = entry.load("training", "training")(config, data, seed, chosen)
        training.model.check(fabric.world_size)
        settled["config"] = config
        # A system of another package may not tell whom the synthetic cases that it learns from know.
        about = dict(training.data)
        if entry.data == "store":
            about = training_data(Store.of(cast("str | Path | Store", data))) | about
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


def sample(model: str | Path | Model | Maker, n: int, *, seed: int = 0, **wanted: Any) -> Samples:
    """Make `n` new samples with a model. Sample i of a seed is the same whatever `n` is.

    Args:
        wanted: attributes of the nodules that the model heeds, such as `diameter_mm`, `texture` and `malignancy`;
            `positive=False` for patches without a nodule; and the options of its system, such as `select` of a GAN
            with a critic, or `near`, `radius` and `walk` of LuNG (`synthorax sample MODEL --help`).

    Returns:
        Samples, whose `arrays` hold `ct` and `mask`, or `occupancy` and `mask`, [n, z, y, x].

    Raises:
        InputError: no such model, one that makes no samples, `n` below 1, attributes that it does not heed or cannot
            make, or options that it does not have.
    """
    return Samples.joined(sample_chunks(model, n, seed=seed, **wanted))


def sample_chunks(model: str | Path | Model | Maker, n: int, *, seed: int = 0, **wanted: Any) -> Iterator[Samples]:
    """Make the samples of `sample` in parts, which `write_samples` takes: any number takes the memory of one part.

    Raises:
        InputError: as `sample` does, at the call.
    """
    if not 1 <= n <= MOST_SAMPLES:
        raise InputError("number of samples", str(n), f"1 to {MOST_SAMPLES}")
    maker = generator_of(model)
    attributes = {name: value for name, value in wanted.items() if name in ATTRIBUTES and value is not None}
    positive = wanted.get("positive")
    given = {name: value for name, value in wanted.items() if name not in ATTRIBUTES and name != "positive"}
    if positive is False and attributes:
        name, value = next(iter(attributes.items()))
        raise InputError(name, f"{value:g}, of patches without a nodule", "it for nodules alone")
    options = registry()[maker.name].make_options(given) if given else None
    asked = () if positive is False else (NoduleAttributes(**attributes),)
    return maker.sample([asked] * n, seed, options)


def generator_of(model: str | Path | Model | Maker, device: str = "cpu") -> Generator:
    """Return the maker of samples that something names.

    Raises:
        InputError: no such model, or one that makes no samples.
    """
    from synthorax import hub

    return cast(Generator, hub.find(model, ("makes patches", "makes shapes"), device=device))


def write_samples(
    folder: str | Path,
    samples: Samples | Iterable[Samples],
    *,
    seed: int,
    how: Mapping[str, Any] | None = None,
    formats: Sequence[str] | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda note: None,
) -> str:
    """Write samples as files that other tools open, with a manifest; return in words what was written.

    Args:
        samples: as `sample` or `sample_chunks` gave them.
        seed: of the samples.
        how: how they were asked for, for the manifest.
        formats: any of npy, nifti, mha and stl for shapes, all if not given; of nifti and mha for patches, nifti if not
            given.
        tell: is called with each note of the samples when it comes.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    from synthorax.datasets.sample_folder import write_samples as write

    told = how or {"drawn": "uniform"}
    return write(Path(folder), samples, seed=seed, how=told, formats=formats, overwrite=overwrite, tell=tell)
