"""A system trained into a run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.api.sampling import load
from synthorax.errors import InputError
from synthorax.registry import OWN, registry

if TYPE_CHECKING:
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.datasets.store import Store
    from synthorax.hub import Model
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
