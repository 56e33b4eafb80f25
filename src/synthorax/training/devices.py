"""Makes the Fabric object that trains on one or several devices, in a precision."""

from __future__ import annotations

import logging
import os

import torch
from lightning_fabric import Fabric

from synthorax.errors import InputError
from synthorax.training.config import Precision

MOST_DEVICES = 1024
"""Largest number of devices on a host, and of hosts; no machine can start more processes."""


LAUNCHED = ("MASTER_ADDR", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE")
"""Variables of the environment, one of which says where the processes of other hosts are."""


def kind_of(device: str) -> str:
    """Return the kind of a device, such as cpu or cuda, from its name (`cuda:0`); resolve `auto` for this machine."""
    return _of_auto() if device == "auto" else device.partition(":")[0]


def make_fabric(device: str = "auto", devices: int = 1, nodes: int = 1, precision: Precision = "32") -> Fabric:
    """Return a Fabric object for one or several devices of a kind; each device is a process with a part of each batch.

    As a side effect this switches TF32 products of float32 tensors on CUDA on or off for the whole process, as the
    precision says, because PyTorch's default depends on its version.

    Args:
        device: auto (cuda if available, else cpu), cpu, cuda, or mps, which is untested.
        devices: number of devices on each host.
        nodes: number of hosts.
        precision: `32`, `tf32` or `bf16`; `training.precision.with_precision` resolves `auto`.

    Raises:
        InputError: this machine lacks such a device or has too few of them, a number is out of its range, or there are
            several hosts and the environment does not say where the others are.
    """
    if min(devices, nodes) < 1:
        raise InputError("devices", f"{devices} on {nodes} nodes", "1 or more")
    if max(devices, nodes) > MOST_DEVICES:
        raise InputError("devices", f"{devices} on {nodes} nodes", f"at most {MOST_DEVICES} of each")
    if nodes > 1 and not any(name in os.environ for name in LAUNCHED):
        expected = "MASTER_ADDR, MASTER_PORT and NODE_RANK in the environment, or a start by srun or torchrun"
        raise InputError("nodes", f"{nodes}, but nothing that says where the other hosts are", expected)
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
        expected = "auto, cpu, or an accelerator that this machine has"
        raise InputError("device", f"{device!r} x {devices}", expected) from error


def _of_auto() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
