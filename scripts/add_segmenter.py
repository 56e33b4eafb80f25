#!/usr/bin/env python3
"""Add the segmenter of a run to a bundled model, whose other weights stay bit-identical.

    synthorax train ac-wgan --data STORE --preset compact --from NAME --set steps=0 --set segmenter_steps=3000 --out RUN
    python scripts/add_segmenter.py RUN NAME [--after EARLIER ...] [--measured FIGURES.yaml]

The segmenter and the model must have been trained on the same data. EARLIER are the runs that RUN started from;
the card counts their steps and minutes too. For FIGURES.yaml see `bundle_model.py`; its rows come
after those of the card, or replace those of the same figure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from bundle_model import CITATION, SEGMENTER, halved, minutes_of, read_rows, steps_of, write_model
from synthorax import hub
from synthorax.errors import InputError, SynthoraxError
from synthorax.io.atomic import atomic_folder
from synthorax.training.files import CONFIG, DATA, LOG, WEIGHTS

SEGMENTER_STEPS = "segmenter_steps"
GRID_SETTINGS = ("size", "spacing_mm", "window_hu")
"""Settings that the model and the segmenter must share."""


def add_segmenter(
    run: Path,
    name: str,
    *,
    after: Sequence[Path] = (),
    measured: Sequence[Mapping[str, Any]] = (),
    out: Path = hub.PRETRAINED,
) -> Path:
    """Write the bundled model's folder again, and return it.

    Raises:
        InputError: there is no such model, the run has no finished segmenter, or its data or voxels differ.
    """
    folder = out / name
    hub.load(folder), hub.load(run)
    config, own = (yaml.safe_load((where / CONFIG).read_text()) for where in (folder, run))
    data, its = (json.loads((where / DATA).read_text()) for where in (folder, run))
    steps = own["config"].get(SEGMENTER_STEPS, 0)
    if not steps or steps_of(run, run / WEIGHTS) < steps:
        raise InputError(run, "no segmenter that has come to its end", f"a run with {SEGMENTER_STEPS}, to its end")
    if (data["fingerprint"], data["patients"]) != (its["fingerprint"], its["patients"]):
        raise InputError(run, f"data {its['fingerprint'][:16]}", f"those of {name}, {data['fingerprint'][:16]}")
    if any(config["config"][key] != own["config"][key] for key in GRID_SETTINGS):
        raise InputError(
            run, "patches of another grid", ", ".join(f"{key} {config['config'][key]}" for key in GRID_SETTINGS)
        )
    prefix = f"{SEGMENTER}."
    segmenter = {key: tensor for key, tensor in load_file(run / WEIGHTS).items() if key.startswith(prefix)}
    others = {key: tensor for key, tensor in load_file(folder / WEIGHTS).items() if not key.startswith(prefix)}
    facts = dict(hub.read_card(folder).facts)
    replaced = {row["figure"] for row in measured}
    facts["figures"] = [*(row for row in facts["figures"] if row["figure"] not in replaced), *map(dict, measured)]
    runs = [*after, run]
    facts[SEGMENTER] = {
        "steps": sum(yaml.safe_load((each / CONFIG).read_text())["config"][SEGMENTER_STEPS] for each in runs),
        "minutes": round(sum(minutes_of(each / LOG) for each in runs), 1),
    }
    config["config"][SEGMENTER_STEPS] = steps
    with atomic_folder(folder, overwrite=True) as made:
        write_model(made, {**others, **halved(segmenter, run / WEIGHTS)}, config, data, facts, CITATION)
    return folder


def main() -> int:
    """Add a segmenter, as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--after", type=Path, nargs="*", default=[])
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--out", type=Path, default=hub.PRETRAINED)
    options = vars(parser.parse_args())
    try:
        rows = options.pop("measured")
        print(add_segmenter(**options, measured=read_rows(rows) if rows else ()))
    except (SynthoraxError, OSError) as error:
        print(f"add_segmenter: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
