"""Training a system."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.api.sampling import load
from synthorax.api.stores import store_given
from synthorax.errors import InputError
from synthorax.makers import check_returned
from synthorax.registry import OWN, registry
from synthorax.screen import quantity, warn
from synthorax.seeding import check_seed

if TYPE_CHECKING:
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.datasets.store import Store
    from synthorax.hub import Model
    from synthorax.training.loop import FitOutcome

COUNTED = {"shapes": "nodules", "patches": "patches"}
"""Numbers in a run's `data.json` that are told after training, and what they count."""


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
    """Train a system and write a run folder. The same call resumes a run that was stopped.

    Args:
        system: name of a system with weights to train, such as lung or ac-wgan.
        data: a store; for LuNG also `lidc`, a file or folder of masks, or a `ShapeSet`.
        out: run folder: configuration, weights, log, state, and pictures of samples by systems that make CT.
        preset: name of one of the system's configurations; by default the first.
        settings: fields of the configuration with values other than the preset's.
        seed: seed of the initial weights and of all random numbers of training.
        more_steps: train the run in `out` for this many more steps than it last finished with, or than it was made for
            if it has not finished; all other arguments have to be as before. If this call is stopped, the same call
            resumes it, without adding steps again. With several training stages, the last one gets the steps.
        start: model whose weights training starts from (fine-tuning); random weights if None.
        device: auto for cuda if there is a GPU and else cpu; or cpu, cuda, mps (untested).
        devices: number of devices; each has its own process and an equal part of every batch.
        nodes: number of hosts with this many devices each; the same program has to run on each (docs/training.md).
        max_minutes: stop this long after the call began and save the state; the time includes loading the data.
        options: the system's `TrainingOptions`: for LuNG `nodules`, the number of nodules to train on, drawn with
            `seed`; for systems that learn from patches `cache`, the folder for decoded patches.

    Returns:
        The number of steps done, and whether training is finished.

    Raises:
        InputError: a name is unknown, or a setting or the data do not fit.
        OutputError: the run folder cannot be written.
        TrainingError: a loss or another figure is not finite, or shows that training has collapsed.
    """
    began = time.monotonic()
    from synthorax import hub
    from synthorax.api.system_checks import check_named
    from synthorax.datasets.lineage import training_data
    from synthorax.io.atomic import working_in
    from synthorax.io.mappings import read_mapping
    from synthorax.provenance import SEEN_BEFORE, UNTOLD
    from synthorax.training.config import choose
    from synthorax.training.cpu_time import note_on_cpu
    from synthorax.training.files import CONFIG
    from synthorax.training.more_steps import with_more_steps
    from synthorax.training.run_folder import RunFolder, check_run_folder
    from synthorax.training.same_run import HAD_STEPS, ON_DATA, PACKAGE_VERSION, check_kind

    check_seed(seed)
    entry = registry().trained(system)
    if max_minutes is not None and not max_minutes >= 0:
        raise InputError("max_minutes", f"{max_minutes:g}", "0 or more")
    settings = dict(settings or {})
    preset = preset or next(iter(entry.presets))
    config: Any = choose(entry.presets, preset, settings)
    chosen = entry.make_training_options(options)
    check_run_folder(Path(out))
    settled: dict[str, Any] = {"system": system, "preset": preset, "seed": seed}
    if (Path(out) / CONFIG).is_file():  # before data are read, which another system may not be able to use
        check_kind(Path(out), read_mapping(Path(out) / CONFIG), settled)
    if entry.distribution != OWN:
        settled["distribution"] = entry.distribution
        settled[PACKAGE_VERSION] = entry.version
    if more_steps is not None:
        if "steps" not in entry.config.model_fields:
            expected = "a new run that starts from this one: `start=RUN`, and another `out`"
            raise InputError(
                "more_steps", f"given for {system}, whose finished runs cannot be trained further", expected
            )
        settled[HAD_STEPS], steps = with_more_steps(Path(out), more_steps)
        if "steps" in settings and config.steps not in (settled[HAD_STEPS], steps):
            found = f"{more_steps} beside steps={config.steps} for a run of {settled[HAD_STEPS]}"
            raise InputError("more_steps", found, "one of the two")
        config = choose(entry.presets, preset, settings | {"steps": steps})

    from synthorax.training.devices import kind_of, make_fabric
    from synthorax.training.loop import fit
    from synthorax.training.precision import with_precision
    from synthorax.training.processes import launch, together
    from synthorax.training.system import Training

    config = with_precision(config, kind_of(device), Path(out), hosts=nodes)
    fabric = make_fabric(device, devices, nodes, getattr(config, "precision", "32"))
    launch(fabric)
    with together(fabric), working_in(Path(out)) if fabric.is_global_zero else nullcontext():
        store = store_given(cast("str | Path | Store", data)) if entry.data == "store" else None
        on_cpu = fabric.is_global_zero and fabric.device.type == "cpu"
        if on_cpu and (told := note_on_cpu(entry, preset, getattr(config, "steps", 0))):
            warn(told)  # before data are read, which may take minutes
        first = load(start) if isinstance(start, str | Path) else start
        with fabric.rank_zero_first(local=True):  # the first process of a host decodes patches into the others' cache
            training = entry.load("training", "training")(config, data, seed, chosen)
        check_returned(entry.name, "the result of `training`", training, Training, "a training.system.Training")
        check_named(entry, training.model)  # the weights of a model with another name would not be found again
        training.model.check(fabric.world_size)
        settled["config"] = config
        # A system of another package may not record the patients from whom its synthetic training cases were made.
        about = dict(training.data)
        if store is not None:
            about = training_data(store) | about
            settled[ON_DATA] = f"the store {store.path.resolve().name}"
        if first is not None:
            hub.start_from(training.model, first)
            settled["from"] = first.sha256
            about[SEEN_BEFORE] = sorted({*about.get(SEEN_BEFORE, ()), *first.seen})
            about |= {} if first.seen else {UNTOLD: True}
        run = RunFolder.open(Path(out), settled, about, fabric)
        left = None if max_minutes is None else max_minutes - (time.monotonic() - began) / 60
        return fit(training, run, fabric, max_minutes=left)


def best_step(run: str | Path) -> int | None:
    """Return the step of the validation whose weights commands use; None if the run was not validated."""
    from synthorax.training.run_folder import best_validation  # imports torch, which takes a second

    best = best_validation(Path(run))
    return int(best["step"]) if best else None


def trained_on(run: str | Path) -> str:
    """Return a text with the numbers of nodules or patches, and of training patients, of a run; empty if none is known.

    Raises:
        InputError: the run's `data.json` is damaged.
    """
    from synthorax.io.mappings import read_mapping
    from synthorax.provenance import UNTOLD
    from synthorax.training.files import DATA

    data = read_mapping(Path(run) / DATA)
    patients = data.get("patients")
    named = patients.get("train") if isinstance(patients, dict) else data.get("train_patients")
    counts = [f"{data[key]} {what}" for key, what in COUNTED.items() if isinstance(data.get(key), int)]
    if isinstance(named, list) and not (data.get(UNTOLD) and "train_patients" in data):
        patients = len(set(named))
        if "patches" in data:  # the patients are all of the split, also those without such a patch
            return f"{counts[0]}; the store has {quantity(patients, 'training patient')}"
        counts.append(f"{patients} patients")
    return " of ".join(counts)
