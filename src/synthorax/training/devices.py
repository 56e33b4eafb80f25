"""Where training runs: one device or many, and in which precision."""

from __future__ import annotations

import logging
import os
import sys

from lightning_fabric import Fabric

from synthorax.errors import InputError
from synthorax.training.config import Precision


def launch(fabric: Fabric) -> None:
    """Start the other processes, each of which runs the same command from its beginning, and says nothing."""
    if fabric.world_size > 1:
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
        fabric.launch()
        if not fabric.is_global_zero:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for as long as the process lives)


def make_fabric(device: str = "auto", devices: int = 1, nodes: int = 1, precision: Precision = "32") -> Fabric:
    """Fabric on devices of a kind: auto, cpu, cuda, mps; several of them are processes that share each batch.

    Raises:
        InputError: this machine has none, or not so many.
    """
    if min(devices, nodes) < 1:
        raise InputError("devices", f"{devices} on {nodes} nodes", "1 or more")
    try:
        return Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
    except (ValueError, RuntimeError, ImportError) as error:  # Fabric's own errors are of these kinds.
        expected = "auto, cpu, or an accelerator this machine has"
        raise InputError("device", f"{device!r} x {devices}", expected) from error
