"""Loading the weights that Hara et al. published for their networks, trained on videos of the Kinetics data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from synthorax.errors import InputError
from synthorax.tasks.networks.resnet import ResNet3d

GREY_LEVELS = 127.5
"""Grey levels for a unit of our input: the published networks took 0 to 255 minus the mean, ours take -1 to 1."""
MOST_TENSORS_NAMED = 3
"""Most tensors that an error names."""


def load_kinetics(network: ResNet3d, path: Path) -> None:
    """Load published weights into all layers of a network but its class layer.

    The three colour channels of the first convolution are summed, as for a grey video, and scaled to inputs from -1 to
    1, so that the running statistics of the batch norms fit from the start.

    Args:
        network: gets the weights.
        path: such as `resnet-50-kinetics.pth`; it is read as data, and no code in it is run.

    Raises:
        InputError: the file is not such a checkpoint, or is of another network.
    """
    tensors = _read(path)
    colour = tensors.get("conv1.weight")
    if colour is not None and colour.ndim == 5 and colour.shape[1] == 3:
        tensors["conv1.weight"] = colour.sum(1, keepdim=True) * GREY_LEVELS
    found = {name: tensor for name, tensor in tensors.items() if _is_learned(name)}
    wanted = {name: tensor for name, tensor in network.state_dict().items() if _is_learned(name)}
    faults = [
        _listed("missing", [name for name in wanted if name not in found]),
        _listed("of other sizes", [n for n, t in wanted.items() if n in found and found[n].shape != t.shape]),
        _listed("unknown", [name for name in found if name not in wanted]),
    ]
    if any(faults):
        expected = f"weights of a {network.architecture} with shortcut {network.shortcut}"
        raise InputError(path, "tensors " + "; ".join(fault for fault in faults if fault), expected)
    network.load_state_dict(found, strict=False)


def _is_learned(name: str) -> bool:
    """Return whether to load a tensor: not the class layer, and not the count of batches, which files of 2018 lack."""
    return not name.startswith("fc.") and not name.endswith("num_batches_tracked")


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without the prefix `module.` of a parallel wrapper."""
    expected = "a .pth file of the published 3D ResNets"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(path, error.strerror or "an unreadable file", expected) from error
    except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
        raise InputError(path, "a file that is not a plain torch checkpoint", expected) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(path, "a checkpoint without a mapping of tensors", expected)
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _listed(fault: str, names: list[str]) -> str:
    more = f" and {len(names) - MOST_TENSORS_NAMED} more" if len(names) > MOST_TENSORS_NAMED else ""
    return f"{fault}: {', '.join(names[:MOST_TENSORS_NAMED])}{more}" if names else ""
