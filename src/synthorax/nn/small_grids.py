"""Convolutions wider than their grid, which are kept out of bfloat16 on CPUs.

oneDNN's gradients of such convolutions in bfloat16 are sometimes NaN, and it may write beyond its memory (torch 2.13:
kernels of 3 on grids of 1 or 2 voxels, kernels of 5 on 3 or 4, kernels of 7 on up to 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SmallGridsInSingle(TorchFunctionMode):
    """A context in which 3D convolutions wider than their input are computed in float32, also under autocast."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, with the operands of a convolution in float32 if it is wider than its input."""
        if func is torch.conv3d and torch.is_autocast_enabled("cpu") and _is_wider(*args, **(kwargs or {})):
            with torch.autocast("cpu", enabled=False):
                single = [each.float() if isinstance(each, Tensor) else each for each in args]
                return torch.conv3d(*cast(Any, single), **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _is_wider(patches: Tensor, weight: Tensor, *rest: Any, **named: Any) -> bool:
    """Whether a dilated kernel is wider than its grid, and the tensors are on a CPU; arguments as of `torch.conv3d`."""
    given = dict(zip(("bias", "stride", "padding", "dilation"), rest, strict=False)) | named
    dilation = given.get("dilation", 1)
    steps = (dilation,) * 3 if isinstance(dilation, int) else dilation
    reaches = [step * (n - 1) + 1 for step, n in zip(steps, weight.shape[2:], strict=True)]
    grid = patches.shape[2:]
    return patches.device.type == "cpu" and any(a > n for a, n in zip(reaches, grid, strict=True))
