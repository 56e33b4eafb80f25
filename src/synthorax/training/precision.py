"""Resolves the precision `auto` by a rule on the processor and the network's width, never by timing.

bfloat16 doubles the speed of convolutions if the processor has instructions for it: CUDA cards, and CPUs with AMX or
AVX-512's bfloat16 instructions. Norms, activations and casts gain nothing, and dominate in narrow networks. So `auto`
is `bf16` on a CUDA card that supports it, and on a CPU with such instructions for a network with at least `WIDE`
channels on its finest grid; otherwise it is `32`. docs/training.md has measurements. Only a question about CUDA imports
torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from synthorax.io.mappings import read_mapping
from synthorax.training.config import BEFORE_AUTO, Precision

Config = TypeVar("Config", bound=BaseModel)
Automatic = Literal["32", "bf16"]

WIDE = 32
"""Least number of channels on the finest grid for which `auto` is `bf16` on a CPU with bfloat16 instructions."""
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
"""Linux's names of the CPU instruction sets that multiply bfloat16."""
CPUINFO = Path("/proc/cpuinfo")


def processor_flags() -> frozenset[str]:
    """Return Linux's names of this CPU's instruction sets; an empty set if the system does not list them."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def multiplies_bf16(device: str) -> bool:
    """Return whether a kind of device, `cpu` or `cuda`, has instructions for bfloat16."""
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(BF16_FLAGS & processor_flags())


def of_auto(device: str, finest_width: int) -> Automatic:
    """Return the precision that `auto` means on a kind of device for a network.

    Args:
        device: `cpu` or `cuda`.
        finest_width: channels on the network's finest grid.
    """
    wide = device == "cuda" or finest_width >= WIDE
    return "bf16" if wide and multiplies_bf16(device) else "32"


def with_precision(config: Config, device: str, run: Path | None = None, *, hosts: int = 1) -> Config:
    """Return a configuration with the precision `auto` resolved: the run's recorded precision, or else by the rule.

    Args:
        config: configuration of a system or task; returned unchanged if its precision is not `auto` or it has none.
        device: `cpu` or `cuda`.
        run: the run folder, which may not exist yet; None for a network without a run folder.
        hosts: number of hosts; with several, whose processors may differ, `auto` on a CPU is `32`.

    Raises:
        InputError: the configuration in the run folder is damaged.
    """
    if getattr(config, "precision", None) != "auto":
        return config
    kept = None if run is None else run / "config.yaml"
    noted = read_mapping(kept).get("config") if kept is not None and kept.exists() else None
    found: Precision
    if isinstance(noted, dict):
        found = noted.get("precision", BEFORE_AUTO)
    elif hosts > 1 and device == "cpu":
        found = "32"
    else:
        found = of_auto(device, getattr(config, "finest_width", 0))
    return config.model_copy(update={"precision": found})


def of_sampling(asked: Literal["auto", "32", "bf16"], trained: Precision, device: str) -> Automatic:
    """Return the precision of sampling: `auto` is the precision of the training if the device supports it, else `32`.

    Args:
        asked: the requested precision.
        trained: precision in which the model was trained.
        device: `cpu` or `cuda`.
    """
    if asked != "auto":
        return asked
    return "bf16" if trained == "bf16" and multiplies_bf16(device) else "32"
