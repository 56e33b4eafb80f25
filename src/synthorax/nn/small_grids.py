"""Convolutions wider than their grid, kept out of bfloat16 on processors.

There oneDNN's gradients of such a convolution are not numbers now and then, and it may write beyond its memory
(torch 2.13: kernels of 3 on grids of 1 or 2 voxels, of 5 on 3 or 4, of 7 on up to 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SmallGridsInSingle(TorchFunctionMode):
    """A context in which 3D convolutions wider than their input are computed in single precision under autocast."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch; of a convolution the operands are made single where it has to be."""
        if func is torch.conv3d and torch.is_autocast_enabled("cpu") and _is_wider(*args, **(kwargs or {})):
            with torch.autocast("cpu", enabled=False):
                single = [each.float() if isinstance(each, Tensor) else each for each in args]
                return torch.conv3d(*cast(Any, single), **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _is_wider(patches: Tensor, weight: Tensor, *rest: Any, **named: Any) -> bool:
    """Whether a kernel with its gaps reaches beyond the grid on a processor; arguments as of `torch.conv3d`."""
    given = dict(zip(("bias", "stride", "padding", "dilation"), rest, strict=False)) | named
    dilation = given.get("dilation", 1)
    steps = (dilation,) * 3 if isinstance(dilation, int) else dilation
    reaches = [step * (n - 1) + 1 for step, n in zip(steps, weight.shape[2:], strict=True)]
    grid = patches.shape[2:]
    return patches.device.type == "cpu" and any(a > n for a, n in zip(reaches, grid, strict=True))
