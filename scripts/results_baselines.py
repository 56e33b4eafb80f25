#!/usr/bin/env python3
"""Run the study of baselines on real nodules, check the similarity measures, time training; write docs/results/baselines.md.

    python scripts/results_baselines.py --out docs/results

SYNTHORAX_REAL_DATA names a folder with `luna16-nodules`. Trainings are kept in build/results-baselines; run the script
again to continue after a stop.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from pages import spread, table, titled
from synthorax import api
from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import nodule_places
from synthorax.datasets.store import Store
from synthorax.hub import load
from synthorax.io.atomic import atomic_file
from synthorax.studies.baselines_page import TITLES, study_baselines
from synthorax.studies.fidelity import Patches, likeness, sanity_samples
from synthorax.studies.results import Arm, Interval, machine
from synthorax.systems.ac_wgan.config import AcWganConfig, ac_wgan_config
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig, task_config
from synthorax.tasks.features.system import FeatureNet
from synthorax.tasks.networks.build import build
from synthorax.tasks.segmentation import Segmentation
from synthorax.training.devices import make_fabric
from synthorax.training.trainable import Trainable

TRAININGS = 3
FEATURES = "features-24mm"
TIMED = 6


def task_lines(store: Store, work: Path, result: list[str]) -> Iterator[str]:
    """Give the study's tables."""
    configs = {task: task_config(task, "compact", {}) for task in TITLES}
    _, arms = study_baselines(store, configs, work, trainings=TRAININGS, device="cpu")
    metrics = {task: found[0].metrics for task, found in arms.items()}
    trivial = next(arm for arm in arms["malignancy"] if arm.name.endswith("diameter alone"))
    result.append(
        f"Trained on real nodules alone, a detector reaches an AUC of {metrics['detection']['auc'].mean:.3f}, a malignancy classifier {metrics['malignancy']['auc'].mean:.3f} and a segmenter a Dice of {metrics['segmentation']['dice'].mean:.2f}."
    )
    alike = metrics["malignancy"]["pairs of like size"]
    result.append(
        f"The diameter alone separates malignant from benign nodules with an AUC of {trivial.metrics['auc'].mean:.3f}; on pairs of similar size the classifier has {alike.mean:.2f} ({alike.low:.2f} to {alike.high:.2f})."
    )
    for task, found in arms.items():
        yield f"### {TITLES[task]}"
        yield ""
        columns = list(dict.fromkeys(name for arm in found for name in arm.metrics))
        yield from table(["", *columns], [[arm.name, *(cell(arm, name) for name in columns)] for arm in found])
        yield ""
        yield f"{about(configs[task])}"
        yield ""


def cell(arm: Arm, name: str) -> str:
    """Return a figure with its interval as text."""
    value: Interval | None = arm.metrics.get(name)
    return "" if value is None else spread(value.mean, value.low, value.high, ".3f")


def about(config: TaskConfig) -> str:
    """Return the description of a network and its training."""
    parameters = sum(p.numel() for p in build(config.network).parameters())
    size = " x ".join(map(str, config.size))
    return f"{config.network.kind}, {parameters:,} parameters, {size} voxels of 1 mm, {config.steps} steps of {config.batch_size}."


def sanity_lines(store: Store) -> Iterator[str]:
    """Give the similarity measures on sets of known order, of patients that the extractor was not trained on."""
    model = load(FEATURES)
    assert isinstance(model.system, FeatureNet)
    config = model.system.config
    extractor = model.system.extractor(FEATURES, model.sha256)
    places = nodule_places(store.in_split("val") + store.in_split("test"))
    patches = PatchDataset(store, places, config.patch, augmentation=Augmentation(flip=False))
    real, other, held_out = Patches.of(patches).parts(3, seed=0)
    rows = likeness(sanity_samples(real, other), real, held_out, extractor, config.spacing_mm).rows
    yield f"Extractor {extractor.card.name}, sha256 {extractor.card.sha256[:16]}, {extractor.card.dimensions} dimensions; {extractor.card.preprocessing}."
    yield f"The reference set has {len(real.hu)} real nodules of a third of the validation and test patients; the samples are {len(other.hu)} nodules of another third, or as many;"
    yield f"the held-out set of the memorisation test has {len(held_out.hu)} nodules of the last third. The extractor was trained on none of these patients; the validation patients chose its best step."
    yield ""
    cells = [[name, *(spread(*measure, ".3g") for measure in row.values())] for name, row in rows.items()]
    yield from table(["samples", *next(iter(rows.values()))], cells)


def seconds(step: Callable[[int], object]) -> float:
    """Return the time of the fastest of several steps."""
    found = []
    for i in range(TIMED):
        started = time.perf_counter()
        step(i)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:])


def plain_step(config: TaskConfig, batch: dict[str, torch.Tensor]) -> Callable[[int], object]:
    """Return a step without optimisation: contiguous tensors, 32 bits, Adam with its default implementation."""
    network = build(config.network).to(batch["ct"].device)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    target = batch["mask"][:, 0].long() if config.network.kind == "unet" else batch["label"]

    def step(_: int) -> None:
        adam.zero_grad()
        functional.cross_entropy(network(batch["ct"]), target).backward()
        adam.step()

    return step


def rate_lines() -> Iterator[str]:
    """Give the samples per second of training."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield f"Samples a second on {torch.get_num_threads()} threads of a CPU" + (
        ", no GPU was at hand:" if device == "cpu" else " and a GPU:"
    )
    yield ""
    rows = []
    for name, kind in (("detection", Classification), ("malignancy", Classification), ("segmentation", Segmentation)):
        config = task_config(name, "compact", {})
        n = config.batch_size
        fabric = make_fabric(device)
        batch = fabric.to_device(
            {
                "ct": torch.rand(n, 1, *config.size),
                "label": torch.arange(n) % 2,
                "mask": (torch.rand(n, 1, *config.size) > 0.9).float(),
            }
        )
        task: Trainable = kind(config, 0)
        task.prepare_training(fabric)
        ours = n / seconds(partial(task.training_step, batch))
        plain = n / seconds(plain_step(config, batch))
        rows.append([f"{name}, `compact`", f"{ours:.0f}", f"{plain:.0f}", f"{ours / plain:.2f} x"])
    gan = ac_wgan_config("compact", {})
    ours, plain = gan_rate(gan, torch.channels_last_3d, device), gan_rate(gan, torch.contiguous_format, device)
    rows.append(["ac-wgan, `compact`, real cubes", f"{ours:.1f}", f"{plain:.1f}", f"{ours / plain:.2f} x"])
    yield from table(["", "samples a second", "plain loop", ""], rows)


def gan_rate(config: AcWganConfig, memory_format: torch.memory_format, device: str) -> float:
    """Return the real cubes per second in whole training steps."""
    fabric = make_fabric(device)
    model = AcWgan(config, 0)
    model.prepare_training(fabric)
    for network in model.networks.values():
        network.to(memory_format=memory_format)  # type: ignore[call-overload]
    n = config.batch_size
    real = fabric.to_device(
        {"ct": torch.rand(n, 1, *config.size), "label": torch.arange(n) % 2, "attributes": torch.rand(n, 3)}
    )
    return config.n_critic * n / seconds(lambda i: model.training_step([real] * config.n_critic, i))


def page(real: Path, work: Path, result: list[str]) -> Iterator[str]:
    """Give the lines of the page, and append the sentences of its result to `result`."""
    store = api.prepare("patches", real / "luna16-nodules", work / "store")
    here = ", ".join(f"{k} {v}" for k, v in machine().items())
    yield f"Written by `make results-baselines` on {date.today().isoformat()}: {here}."
    yield ""
    counts = ", ".join(f"{len(ids)} {name}" for name, ids in store.splits.items())
    yield f"946 nodules of LUNA16 as 50 mm cubes; patients: {counts}. Means over {TRAININGS} trainings, 95 % intervals over test patients and trainings. No decision used the"
    yield "test patients; they are evaluated once for each arm, and again for the extractor's card and the measures below. Synthetic data must improve on these figures to be useful."
    yield ""
    yield "## The tasks"
    yield ""
    yield from task_lines(store, work, result)
    yield "Patches without a nodule are corners of the cubes that lie in lung, so they come from the same scanners. Malignancy depends on size, so it is also evaluated within strata of"
    yield "diameter (below 8 mm, 8 to 12 mm, above) and over pairs of a malignant and a benign nodule whose diameters differ by a factor of less than 1.15."
    yield "The networks are those of the `compact` presets; `paper` presets need a GPU."
    yield ""
    yield "## The measures"
    yield ""
    yield from sanity_lines(store)
    yield ""
    yield "FID and KID: lower is more similar. Attraction: .5 without memorisation, 1 for copies. Membership AUC: .5 is chance. With about 100 nodules in each set, FID and KID of two groups of real patients are themselves far from 0 (first row): compare other sets with that row, not with 0."
    yield ""
    yield "## Training rates"
    yield ""
    yield from rate_lines()


def main() -> None:
    """Measure everything, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    work = Path("build") / "results-baselines"
    work.mkdir(parents=True, exist_ok=True)
    result: list[str] = []
    measured = page(Path(os.environ["SYNTHORAX_REAL_DATA"]), work, result)
    lines = titled("What real patches alone give", result, measured)
    with atomic_file(out / "baselines.md") as file:
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
