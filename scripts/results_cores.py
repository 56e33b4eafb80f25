#!/usr/bin/env python3
"""Measure the gain by bfloat16 on this processor and the time of each part of a step; write docs/results/cores.md.

    python scripts/results_cores.py --out docs/results

One thread is used, on noise instead of patches. Precisions take turns step by step, and CPU seconds count, so that other work
on the machine hardly affects the comparison.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from pages import table, titled
from synthorax.io.atomic import atomic_file
from synthorax.makers import Lineage
from synthorax.nodule import NoduleAttributes
from synthorax.studies.results import machine
from synthorax.systems.ac_wgan.config import PRESETS, AcWganConfig, AcWganOptions
from synthorax.systems.ac_wgan.system import CUBE_BATCH, AcWgan
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import DETECTION
from synthorax.training.devices import make_fabric
from synthorax.training.precision import BF16_FLAGS, of_auto, processor_flags

PRECISIONS: tuple[Literal["32", "bf16"], ...] = ("32", "bf16")
GROUPS = {
    "convolutions": ("convolution", "mkldnn_conv", "conv_transpose", "conv3d"),
    "norms": ("group_norm", "rsqrt"),
    "activations": ("leaky_relu", "tanh"),
    "copies, casts, joins": ("copy_", "::cat", "flip", "clone", "contiguous"),
    "sums and products by voxel": ("::add", "::mul", "::div", "::sum", "::sub", "lerp", "::mean", "::where"),
}
"""Parts of a step, by words in the names of PyTorch's operations; the first match counts."""


def networks() -> dict[str, AcWganConfig]:
    """Return the networks by their names on the page."""
    compact, folded = PRESETS["compact"], PRESETS["folded24"]
    wide = {"widths": (256, 128, 64)}
    return {
        "`compact`, 8 channels on the finest grid": compact.model_copy(update={"segmenter_steps": 0}),
        "`folded24`, 32 channels": folded.model_copy(update={"segmenter_steps": 0}),
        "`folded24` with widths 256, 128, 64": folded.model_copy(update={**wide, "segmenter_steps": 0}),
        "`patch24`, batch 8, 32 channels": PRESETS["patch24"].model_copy(
            update={"batch_size": 8, "n_critic": 1, "segmenter_steps": 0}
        ),
    }


def noise(config: AcWganConfig) -> list[dict[str, Tensor]]:
    """Return a batch of noise in place of patches for a training step."""
    random, n = torch.Generator().manual_seed(0), config.batch_size
    return [
        {
            "ct": torch.randn(n, 1, *config.size, generator=random).clamp(-1, 1),
            "label": torch.arange(n) % 2,
            "attributes": torch.rand(n, len(config.attributes), generator=random),
        }
        for _ in range(config.n_critic)
    ]


def step_of(config: AcWganConfig, precision: Literal["32", "bf16"]) -> Callable[[], object]:
    """Return a training step of a new model."""
    system = AcWgan(config.model_copy(update={"precision": precision}))
    system.prepare_training(make_fabric("cpu", precision=precision))
    system.enter("gan", frozenset({"generator", "critic"}))
    batch = noise(config)
    return lambda: system.training_step(batch, 0)


def sampling_of(config: AcWganConfig, precision: Literal["32", "bf16"]) -> Callable[[], object]:
    """Return a function that makes one batch of samples with a new model."""
    maker = AcWgan(config).maker(Lineage("ac-wgan", "0" * 64))
    options = AcWganOptions(precision=precision)
    return lambda: list(maker.sample([(NoduleAttributes(),)] * CUBE_BATCH, 0, options))


def detecting_of(precision: Literal["32", "bf16"]) -> Callable[[], object]:
    """Return a training step of the detector."""
    config = DETECTION["compact"]
    task = Classification(config, 0)
    task.prepare_training(make_fabric("cpu", precision=precision))
    task.enter("network")
    n = config.batch_size
    batch = {"ct": torch.randn(n, 1, *config.size), "label": torch.arange(n) % 2}
    return lambda: task.training_step(batch, 0)


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of several tasks that take turns; the first round is a warm-up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            found[name].append(time.process_time() - began)
    return {name: median(seconds[1:]) for name, seconds in found.items()}


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Return the shares of a task's time in each of `GROUPS` and in the rest."""
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    sums = dict.fromkeys([*GROUPS, "the rest"], 0.0)
    for event in profile.key_averages():
        group = next((name for name, words in GROUPS.items() if any(word in event.key for word in words)), "the rest")
        sums[group] += event.self_cpu_time_total
    return {name: value / sum(sums.values()) for name, value in sums.items()}


def page(repeats: int, result: list[str]) -> Iterator[str]:
    """Give the page's lines, and append the sentences of its result to `result`."""
    flags = processor_flags()
    here = ", ".join(sorted(BF16_FLAGS & flags)) or "none"
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    yield f"Written by `make results-cores` on {date.today()}: {facts}."
    yield f"Processor: {model_name()}; its instructions for bfloat16: {here}."
    yield f"CPU seconds of one thread, medians of {repeats} measurements in which the precisions take turns; other work ran on the machine."
    yield ""
    yield "## Precisions"
    yield ""
    rows = []
    for name, config in networks().items():
        for what, made in {"training step": step_of, "16 samples": sampling_of}.items():
            found = in_turns({each: made(config, each) for each in PRECISIONS}, repeats)
            rows.append((name, what, *figures(found), of_auto("cpu", config.finest_width)))
    found = in_turns({each: detecting_of(each) for each in PRECISIONS}, repeats)
    width = DETECTION["compact"].finest_width
    rows.append((f"the detector, {width} channels", "training step", *figures(found), of_auto("cpu", width)))
    by_name = {(name, what): (float(single), float(bf16)) for name, what, single, bf16, *_ in rows}
    compact_s, folded_s = (by_name[name, "training step"] for name in list(networks())[:2])
    result.append(
        f"Of ac-wgan's presets for a CPU `folded24` is cheaper: a training step takes {folded_s[1]:.2f} s of one core in bfloat16, a step of `compact`, which has one critic update more, {compact_s[1]:.2f} s."
    )
    result.append(
        f"bfloat16 alone makes steps {min(a / b for a, b in by_name.values()):.1f} to {max(a / b for a, b in by_name.values()):.1f} times as fast here, and gains more in wider networks."
    )
    yield from table(("network", "work", "single precision, s", "bfloat16, s", "gain", "`auto` here"), rows)
    yield ""
    yield "A training step of `compact` has two critic updates with 8 cubes each and one generator update; a step of the other presets has one update of each."
    yield ""
    yield "## Where a training step's time goes"
    yield ""
    compact, folded = list(networks().values())[:2]
    cases = {
        "`compact`, single precision": step_of(compact, "32"),
        "`compact`, bfloat16": step_of(compact, "bf16"),
        "`folded24`, single precision": step_of(folded, "32"),
        "`folded24`, bfloat16": step_of(folded, "bf16"),
    }
    found_shares = {name: shares(step) for name, step in cases.items()}
    groups = [*GROUPS, "the rest"]
    yield from table(
        ("step", *groups),
        ((name, *(f"{100 * each[group]:.0f} %" for group in groups)) for name, each in found_shares.items()),
    )
    yield ""
    yield "## What each change of `folded24` saves"
    yield ""
    yield from table(("step in bf16", "s"), ((name, f"{s:.3f}") for name, s in changes(folded, repeats).items()))
    yield ""


def changes(folded: AcWganConfig, repeats: int) -> dict[str, float]:
    """Return the CPU seconds of a step without each of the changes, in bf16."""
    unfolded = {"fold": 1, "grain": 0, "widths": (160, 80, 32, 8)}
    without: dict[str, dict[str, Any]] = {
        "`folded24`": {},
        "the penalty at all rows": {"penalty_share": 1.0},
        "layer norms in the critic": {"critic_norm": "layer"},
        "not folded: one more block, of 8 channels on the voxels' grid": unfolded,
        "none of the three": {**unfolded, "penalty_share": 1.0, "critic_norm": "layer"},
    }
    return in_turns({name: step_of(folded.model_copy(update=each), "bf16") for name, each in without.items()}, repeats)


def figures(found: Mapping[str, float]) -> tuple[str, str, str]:
    """Return the cells of a pair of precisions."""
    return f"{found['32']:.3f}", f"{found['bf16']:.3f}", f"{found['32'] / found['bf16']:.2f}"


def model_name() -> str:
    """Return the processor's name, family and model, as Linux has them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        known.setdefault(name.strip(), value.strip())
    return f"{known.get('model name', '?')}, family {known.get('cpu family', '?')}, model {known.get('model', '?')}"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: list[str] = []
    lines = titled("Which network is cheapest on a CPU", result, page(options.repeats, result))
    with atomic_file(options.out / "cores.md") as file:
        file.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
