"""Where training runs: one device or many, and in which precision."""

from __future__ import annotations

import logging

import torch
from lightning_fabric import Fabric

from synthorax.errors import InputError
from synthorax.training.config import Precision

MOST_DEVICES = 1024
"""Devices of a host, and hosts: more would be processes that no machine can start."""


def kind_of(device: str) -> str:
    """Return cpu, cuda or another kind of device that `auto` or a device's name means here."""
    return _of_auto() if device == "auto" else device.partition(":")[0]


def make_fabric(device: str = "auto", devices: int = 1, nodes: int = 1, precision: Precision = "32") -> Fabric:
    """Fabric on devices of a kind; several of them are processes that share each batch.

    Whether this process multiplies float32 as TF32 on CUDA is set here, so that it is as the precision says and not
    as PyTorch's versions have it.

    Args:
        device: auto (cuda where there is one, else cpu), cpu, cuda, or mps, which nobody has tried.
        precision: not `auto`, which `training.precision.with_precision` resolves.

    Raises:
        InputError: this machine has none, or not so many.
    """
    if min(devices, nodes) < 1:
        raise InputError("devices", f"{devices} on {nodes} nodes", "1 or more")
    if max(devices, nodes) > MOST_DEVICES:
        raise InputError("devices", f"{devices} on {nodes} nodes", f"at most {MOST_DEVICES} of each")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "32"
    try:
        return Fabric(
            accelerator=_of_auto() if device == "auto" else device,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
    except (ValueError, RuntimeError, ImportError) as error:  # Fabric's own errors are of these kinds.
        expected = "auto, cpu, or an accelerator this machine has"
        raise InputError("device", f"{device!r} x {devices}", expected) from error


def _of_auto() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
