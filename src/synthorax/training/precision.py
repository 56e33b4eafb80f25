"""Which arithmetic `auto` is: a rule on the processor and the network's width, never a timing. No torch unless asked.

bfloat16 doubles the speed of convolutions where the processor multiplies it: on CUDA cards, and on CPUs with AMX or
AVX-512's bfloat16 instructions. Norms, activations and casts gain nothing, and outweigh the convolutions of narrow
networks. So `auto` is `bf16` on a CUDA card, on a CPU with such instructions for a network with at least `WIDE`
channels on its finest grid, and `32` otherwise (docs/training.md has measurements).
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
"""Channels on the finest grid from which `auto` on a CPU is `bf16`, where its instructions allow."""
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
"""Instruction sets that multiply bfloat16 on a CPU, as Linux names them."""
CPUINFO = Path("/proc/cpuinfo")


def processor_flags() -> frozenset[str]:
    """Return the instruction sets of this CPU; none where the system does not list them."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def multiplies_bf16(device: str) -> bool:
    """Return whether a device, cpu or cuda, has instructions for bfloat16."""
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(BF16_FLAGS & processor_flags())


def of_auto(device: str, finest_width: int) -> Automatic:
    """Return what `auto` is on a device, cpu or cuda, for a network of a width.

    Args:
        finest_width: channels on the network's finest grid.
    """
    wide = device == "cuda" or finest_width >= WIDE
    return "bf16" if wide and multiplies_bf16(device) else "32"


def with_precision(config: Config, device: str, run: Path | None = None, *, hosts: int = 1) -> Config:
    """Return a configuration whose precision is no longer `auto`: that of the run, if there is one, or the rule's.

    Args:
        config: of a system or task; one without a precision is returned as it is.
        device: cpu or cuda.
        run: the run folder, which may not exist yet; None for a network that no run keeps.
        hosts: of several, whose processors may differ, a CPU takes `32`.

    Raises:
        InputError: a damaged configuration in the run folder.
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
    """Return the arithmetic of sampling: if `auto`, what the model learned in where the device has it, else `32`."""
    if asked != "auto":
        return asked
    return "bf16" if trained == "bf16" and multiplies_bf16(device) else "32"
