#!/usr/bin/env python3
"""Make a bundled model from a run: weights in half precision, configuration, patients and a card.

    python scripts/bundle_model.py RUN NAME --what "CT cubes of 24 mm with a nodule" [--measured FIGURES.yaml]
        [--limit "A sentence on what it cannot do." ...]

RUN is a run folder, or a weights file in it such as best.safetensors, or a bundled model, whose card is then written
anew, for instance once it has been measured; `--what` may then be left out. FIGURES.yaml is a list of rows, each a
mapping of the columns, such as `{figure: FID, value: 41.2, low: 39.8, high: 43.0, on: "96 test patients"}`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from synthorax import hub
from synthorax.errors import InputError, SynthoraxError
from synthorax.io.atomic import atomic_folder
from synthorax.provenance import SEEN_BEFORE, sha256
from synthorax.training.files import BEST, CONFIG, DATA, LOG, STATE, WEIGHTS
from synthorax.training.trainable import AVERAGE

MOST_MB = 48
"""Largest size in MB of all bundled models together, so that the package installs quickly."""
SEGMENTER = "segmenter"
"""Key in a card's facts: steps and minutes of a segmenter that `add_segmenter.py` added to the model."""
LICENCE = "weights Apache-2.0; learned from LIDC-IDRI, CC BY 3.0"
CITATION = """\
**LIDC-IDRI** (CC BY 3.0): Armato III SG et al., *Data From LIDC-IDRI*, The Cancer Imaging Archive, 2015,
[10.7937/K9/TCIA.2015.LO9QL9SX](https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX); Armato III SG et al., *The Lung Image
Database Consortium (LIDC) and Image Database Resource Initiative (IDRI)*, Medical Physics 38, 2011; Clark K et al.,
*The Cancer Imaging Archive*, Journal of Digital Imaging 26, 2013."""
TEXT = """\
# {name}

{what}. Everything it makes is synthetic. For research on software; not for diagnosis.

## How it was made

System `{system}`, preset `{preset}`, seed {seed}: {steps} steps{minutes}. `config.yaml` has every setting.{segmenter}
The weights are in half precision, without the optimisers' state; where the training kept a running mean of a network
that makes the samples, it is that mean. Their sha256 is {weights_sha256}; a file of another hash is not loaded.

## On which patients

{patients} The ids are in `data.json`. Fingerprint of the data: {data_fingerprint}. Whoever measures this model on
patients it was trained on measures its memory.

## Measured

{measured}

## Limits

{limits}

## Licence and citation

{licence}.

{citation}
"""


def bundle(
    run: Path,
    name: str,
    *,
    what: str | None = None,
    measured: Sequence[Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    licence: str = LICENCE,
    citation: str = CITATION,
    out: Path = hub.PRETRAINED,
    overwrite: bool = False,
) -> Path:
    """Write a bundled model's folder, and return it.

    Args:
        run: a run folder, a weights file in it, or a bundled model.
        what: what the model makes, a phrase; that of its card if not given for a bundled model.
        measured: rows of a table, each a mapping by column.
        limits: sentences on what the model cannot do, or does not do well.
        out: folder of the bundled models.

    Raises:
        InputError: the run cannot be loaded, the name is not valid, half precision cannot hold the weights, or the
            bundle is too large; or `what` is not given for a run.
    """
    if not name.replace("-", "").isalnum() or name != name.lower():
        raise InputError("name", repr(name), "small letters, digits and -")
    hub.load(run)
    folder, weights = (run, run / WEIGHTS) if run.is_dir() else (run.parent, run)
    config = yaml.safe_load((folder / CONFIG).read_text())
    data = _json(folder / DATA)
    if (folder / hub.CARD).is_file():
        known = hub.read_card(folder).facts
    else:
        known = {"what": what, "steps": steps_of(folder, weights), "minutes": minutes_of(folder / LOG)}
    if (what := what or known["what"]) is None:
        raise InputError("--what", "nothing", "a phrase on what the model of this run makes")
    facts = {
        "name": name,
        "what": what,
        "system": config["system"],
        "preset": config["preset"],
        "seed": config["seed"],
        **{fact: known[fact] for fact in ("steps", "minutes", SEGMENTER) if fact in known},
        "weights_sha256": "",
        "data_fingerprint": data["fingerprint"],
        "patients": {split: len(ids) for split, ids in _patients(data).items()},
        **({SEEN_BEFORE: len(data[SEEN_BEFORE])} if SEEN_BEFORE in data else {}),
        "figures": [dict(row) for row in measured],
        "limits": list(limits),
        "licence": licence,
    }
    with atomic_folder(out / name, overwrite=overwrite) as made:
        tensors = halved(to_sample(load_file(weights)), weights)
        write_model(made, tensors, {"format": hub.MODEL_FORMAT, **config}, data, facts, citation)
        if (mb := _megabytes(out) - _megabytes(out / name)) > MOST_MB:  # it is made beside the one it replaces
            raise InputError(out, f"{mb:.1f} MB of bundled models", f"at most {MOST_MB}")
    return out / name


def write_model(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    facts: Mapping[str, Any],
    citation: str,
) -> None:
    """Write the files of a bundled model into a folder, and check that the model loads.

    Args:
        facts: facts of the card; `weights_sha256` is added.

    Raises:
        InputError: the files are not a model.
    """
    save_file(dict(weights), folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
    (folder / CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False))
    (folder / DATA).write_text(json.dumps(data, indent=1) + "\n")
    facts = {**facts, "weights_sha256": sha256(folder / WEIGHTS)}
    (folder / hub.CARD).write_text(card_text(facts, citation))
    hub.load(folder)


def to_sample(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that sampling needs, with a moving average in place of its network."""
    averages = {key.split(".")[0] for key in weights if key.split(".")[0].endswith(AVERAGE)}
    replaced = tuple(f"{average.removesuffix(AVERAGE)}." for average in averages)
    kept = {key: tensor for key, tensor in weights.items() if not key.startswith(replaced)} if replaced else weights
    return {key.replace(f"{AVERAGE}.", ".", 1): tensor for key, tensor in kept.items()}


def halved(weights: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Return tensors in half precision, except single numbers, such as thresholds, and integers.

    Raises:
        InputError: half precision cannot hold a value.
    """
    made = {}
    for key, tensor in weights.items():
        half = tensor.half() if tensor.is_floating_point() and tensor.ndim else tensor
        if bool((half.isinf() & ~tensor.isinf()).any()):
            raise InputError(file, f"{key} up to {tensor.abs().max():g}", "values that half precision can hold")
        made[key] = half.contiguous()
    return made


def card_text(facts: Mapping[str, Any], citation: str) -> str:
    """Return the card: the facts as YAML, and the text."""
    minutes = f" in {facts['minutes']} minutes, as its log has it" if facts["minutes"] else ""
    patients = ", ".join(f"{count} patients in {split}" for split, count in facts["patients"].items())
    patients = f"{patients}." if patients else "Not known."
    if SEEN_BEFORE in facts:
        patients += f" Patients known by models it was started from or makers of its data: {facts[SEEN_BEFORE]}."
    entries = dict(facts) | {"minutes": minutes, "patients": patients, "segmenter": _segmenter(facts)}
    limits = "\n".join(f"- {limit}" for limit in entries.pop("limits", ())) or "None noted."
    text = TEXT.format(**entries, measured=_table(facts["figures"]), limits=limits, citation=citation)
    return f"---\n{yaml.safe_dump(dict(facts), sort_keys=False)}---\n{text}"


def _segmenter(facts: Mapping[str, Any]) -> str:
    """Return a sentence on a segmenter that was trained in a separate run."""
    if SEGMENTER not in facts:
        return ""
    run = facts[SEGMENTER]
    took = f"{run['steps']} steps in {run['minutes']} minutes"
    return f"\nThe segmenter that gives nodules their masks learned on the same patients in a run of its own: {took}."


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table; the first row has the columns."""
    if not rows:
        return "Nothing yet."
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[[row.get(column, "") for column in rows[0]] for row in rows]]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _patients(data: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return patient ids by split."""
    given = data.get("patients") or {"train": data.get("train_patients", [])}
    return {split: set(ids) for split, ids in given.items()}


def steps_of(folder: Path, weights: Path) -> int:
    """Return the number of steps that these weights were trained for."""
    try:
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True, mmap=True)
        return int(state["best"]["step"] if weights.name == BEST else state["step"])
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        raise InputError(folder / STATE, "no readable state", "the state of the run") from error


def minutes_of(log: Path) -> float:
    """Return the minutes of training over all calls, also of a log whose seconds start again at each call."""
    seconds = [0.0]
    for line in log.read_text().splitlines() if log.is_file() else ():
        now = json.loads(line).get("seconds")
        if now is not None:
            seconds[-1:] = [now] if now >= seconds[-1] else [seconds[-1], now]
    return round(sum(seconds) / 60, 1)


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(file, "nothing that can be read", "the data and patients of the run") from error


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def main() -> int:
    """Bundle a run, as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--what")
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--limit", action="append", default=[], dest="limits")
    parser.add_argument("--licence", default=LICENCE)
    parser.add_argument("--citation", default=CITATION)
    parser.add_argument("--out", type=Path, default=hub.PRETRAINED)
    parser.add_argument("--overwrite", action="store_true")
    options = vars(parser.parse_args())
    try:
        rows = options.pop("measured")
        folder = bundle(**options, measured=read_rows(rows) if rows else ())
    except (SynthoraxError, OSError) as error:
        print(f"bundle_model: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {_megabytes(folder):.1f} MB")
    return 0


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the figures of a card.

    Raises:
        InputError: the file is not a list of mappings.
    """
    try:
        rows = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise InputError(file, "no readable YAML", "a list of rows") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(file, type(rows).__name__, "a list of rows, each a mapping of columns")
    return [{"on" if column is True else column: value for column, value in row.items()} for row in rows]  # YAML's `on`


if __name__ == "__main__":
    sys.exit(main())
