#!/usr/bin/env python3
"""Measure what a made chest and a training step of CT-SGAN take, with random weights, against depth and the 3D GAN.

    python scripts/volumes_costs.py --out FIGURES.json

A chest is written as `synthorax sample` writes it, each in a process of its own. On a busy machine CPU seconds count: a
chest is made by as many threads as there are cores, so on a free machine it takes the CPU seconds over their number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any, Literal, cast

import torch

from synthorax.io.atomic import atomic_file
from synthorax.io.nifti import nifti_writer
from synthorax.makers import Lineage
from synthorax.studies.results import machine
from synthorax.systems.ct_sgan.config import PRESETS, CtSganOptions
from synthorax.systems.ct_sgan.system import CtSgan
from synthorax.systems.volume_gan.config import PRESETS as VOLUME_PRESETS
from synthorax.systems.volume_gan.config import VolumeGanOptions
from synthorax.systems.volume_gan.system import VolumeGan
from synthorax.training.devices import make_fabric
from synthorax.training.precision import BF16_FLAGS, processor_flags
from synthorax.training.scan_gan import ScanFacts

CHESTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("ct-sgan", "compact"): (32, 128, 512),
    ("ct-sgan", "paper"): (28, 112, 224),
    ("volume-gan", "paper"): (128, 224),
}
"""Slices of the chests that are timed, by system and preset; the 3D GAN's are edges that its 128^3 are resized to."""
STEPS = 4
"""Timed steps of each training, after one that is not; one of them has the penalty, as in training."""
SAME_SIZE = {"size": (128, 128, 128), "batch_size": 4}


def known() -> ScanFacts:
    """What is known of the one training scan of a model with random weights."""
    return ScanFacts(torch.tensor([[1.5, 1.5, 1.5]]), torch.tensor([-1.0]), torch.tensor(1.0))


def one_chest(system: str, preset: str, depth: int, precision: Literal["32", "bf16"]) -> dict[str, float]:
    """Make and write one chest; seconds by the clock and of CPU, and the process's greatest memory in GB."""
    model: CtSgan | VolumeGan
    options: CtSganOptions | VolumeGanOptions
    if system == "ct-sgan":
        model, options = CtSgan(PRESETS[preset], 0, known()), CtSganOptions(depth=depth, precision=precision)
    else:
        model = VolumeGan(VOLUME_PRESETS[preset], 0, known())
        options = VolumeGanOptions(edge=depth, precision=precision)
    stream = model.maker(Lineage("")).scan(0, 0, options)
    started, used = time.perf_counter(), time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        nifti_writer(Path(folder) / "chest.nii.gz", stream.grid(), "random weights") as write,
    ):
        for slab in stream.checked():
            write(slab)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def steps(system: str, precision: Literal["32", "bf16"]) -> dict[str, float]:
    """CPU seconds of a training step on 128^3, batch and thread alike, and the greatest memory in GB."""
    torch.set_num_threads(1)
    changed: dict[str, Any] = {"precision": precision, **SAME_SIZE}
    model: CtSgan | VolumeGan
    n, (z, y, x) = SAME_SIZE["batch_size"], cast(tuple[int, int, int], SAME_SIZE["size"])
    assert isinstance(n, int)
    index = torch.zeros(n, dtype=torch.long)
    if system == "ct-sgan":
        config = PRESETS["compact"].model_copy(update=changed)
        model = CtSgan(config, 0, known())
        chosen = torch.arange(config.slices).expand(n, -1).clone()
        slab = torch.rand(n, config.slab + 2, y, x) * 2 - 1
        batch = {"slab": slab, "start": torch.ones(n, dtype=torch.long), "chosen": chosen, "index": index}
    else:
        model = VolumeGan(VOLUME_PRESETS["compact"].model_copy(update=changed), 0, known())
        batch = {"ct": torch.rand(n, 1, z, y, x) * 2 - 1, "index": index}
    model.prepare_training(make_fabric("cpu", precision=precision))
    model.enter("gan")
    found = []
    for step in range(STEPS + 1):
        used = time.process_time()
        model.training_step(batch, step)
        found.append(time.process_time() - used)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"cpu_seconds": mean(found[1:]), "gigabytes": memory}


def apart(*arguments: str) -> dict[str, float]:
    """Run a part of this program in a process of its own."""
    command = [sys.executable, __file__, "--part", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return cast(dict[str, float], json.loads(told.splitlines()[-1]))


def measured() -> dict[str, Any]:
    """All figures of the page, by system, preset, precision and depth."""
    flags = processor_flags()
    chests = [
        {"system": system, "preset": preset, "depth": depth, "precision": precision}
        | apart("chest", system, preset, str(depth), precision)
        for (system, preset), depths in CHESTS.items()
        for precision in ("32", "bf16")
        for depth in depths
    ]
    trained = [
        {"system": system, "precision": precision} | apart("steps", system, precision)
        for system in ("ct-sgan", "volume-gan")
        for precision in ("32", "bf16")
    ]
    parameters = {
        name: sum(p.numel() for network in CtSgan(config, 0, known()).networks.values() for p in network.parameters())
        for name, config in PRESETS.items()
    }
    told = sorted(flags & (BF16_FLAGS | {"amx_tile"}))
    return {"chests": chests, "steps": trained, "parameters": parameters, "flags": told, "machine": machine()}


def main() -> None:
    """Measure all, or one part for the process that measures all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", nargs="+")
    given = parser.parse_args()
    if given.part is None:
        found = json.dumps(measured(), indent=1)
        if given.out is None:
            print(found)
            return
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(given.out) as file:
            file.write_text(found + "\n")
        return
    kind, system, *more = given.part
    if kind == "chest":
        preset, depth, precision = more
        print(json.dumps(one_chest(system, preset, int(depth), cast(Literal["32", "bf16"], precision))))
    else:
        print(json.dumps(steps(system, cast(Literal["32", "bf16"], more[0]))))


if __name__ == "__main__":
    main()
