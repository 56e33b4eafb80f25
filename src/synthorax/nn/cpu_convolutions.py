"""3D convolutions on CPUs: those wider than their grid are kept out of bfloat16, and single patches go to oneDNN.

oneDNN's gradients of convolutions wider than their grid in bfloat16 are sometimes NaN, and it may write beyond its
memory (torch 2.13: kernels of 3 on grids of 1 or 2 voxels, kernels of 5 on 3 or 4, kernels of 7 on up to 6).

PyTorch gives a convolution to oneDNN only if the batch has several patches or the patch is large; otherwise it
multiplies matrices, which takes twice as long for the networks of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""Arguments of `torch.conv3d` after the patches and the weight, in their order."""


class CpuConvolutions(TorchFunctionMode):
    """A context in which 3D convolutions are computed safely and fast on CPUs.

    Convolutions wider than their input are computed in float32, also under autocast. Without gradients, convolutions of
    one patch in float32 are computed by oneDNN; the result differs from PyTorch's by rounding.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch; a convolution that this class is about is computed in its own way."""
        if func is torch.conv3d:
            return _convolved(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolved(patches: Tensor, weight: Tensor, *rest: Any, **named: Any) -> Tensor:
    """Return the convolution of patches; the arguments are those of `torch.conv3d`."""
    given = DEFAULTS | dict(zip(DEFAULTS, rest, strict=False)) | named
    if patches.device.type != "cpu":
        return torch.conv3d(patches, weight, **given)
    is_cast = torch.is_autocast_enabled("cpu")
    if is_cast and _is_wider(patches, weight, given["dilation"]):
        with torch.autocast("cpu", enabled=False):
            single = {name: each.float() if isinstance(each, Tensor) else each for name, each in given.items()}
            return torch.conv3d(patches.float(), weight.float(), **cast(Any, single))
    if not is_cast and _is_single(patches, weight) and not isinstance(given["padding"], str):
        lengths = [_of_axes(given[name]) for name in ("padding", "stride", "dilation")]
        convolution: Any = torch.mkldnn_convolution  # its stub has an argument for each axis
        return cast(Tensor, convolution(patches, weight, given["bias"], *lengths, given["groups"]))
    return torch.conv3d(patches, weight, **given)


def _is_wider(patches: Tensor, weight: Tensor, dilation: int | Sequence[int]) -> bool:
    """Return whether a dilated kernel is wider than its grid."""
    reaches = [step * (n - 1) + 1 for step, n in zip(_of_axes(dilation), weight.shape[2:], strict=True)]
    return any(a > n for a, n in zip(reaches, patches.shape[2:], strict=True))


def _is_single(patches: Tensor, weight: Tensor) -> bool:
    """Return whether the convolution is one of a single patch in float32, without gradients, that oneDNN computes."""
    return (
        patches.shape[0] == 1
        and patches.dtype == weight.dtype == torch.float32
        and weight.shape[-1] > 1
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _of_axes(lengths: int | Sequence[int]) -> Sequence[int]:
    """Return a number for each of the axes z, y, x."""
    return (lengths,) * 3 if isinstance(lengths, int) else lengths
