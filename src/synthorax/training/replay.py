"""Records a part of a training step as a CUDA graph, so that small networks do not wait for kernel launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

WARM_UP_CALLS = 3
"""Calls that are run normally before one is recorded, while CUDA's libraries initialise themselves."""

Part = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""A function of tensors that returns tensors and sets the gradients of parameters that had none. It must not draw
random numbers, nor read a tensor's value on the CPU."""


class Replayed:
    """Runs a part of a training step; on a GPU it records the part once as a CUDA graph and then replays it.

    Every call must pass tensors of the same names, shapes and types. The returned tensors are copies, which later calls
    do not overwrite.

    Args:
        part: the function to run; it sets gradients of `parameters` only.
        parameters: parameters whose gradients the part sets.
        enabled: whether to record at all; if not, the part is run normally.
    """

    def __init__(self, part: Part, parameters: Iterable[nn.Parameter], *, enabled: bool) -> None:
        self._part, self._parameters, self._enabled = part, list(parameters), enabled
        self._calls = 0
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._gradients: list[Tensor | None] = []

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the part's output for the inputs; the parameters then have its gradients.

        Raises:
            ValueError: a tensor has another shape than the one that was recorded.
        """
        if not (self._enabled and all(tensor.is_cuda for tensor in inputs.values())):
            return self._part(inputs)
        if self._calls < WARM_UP_CALLS:
            self._calls += 1
            return self._beside(inputs)
        if self._graph is None:
            self._record(inputs)
        assert self._graph is not None
        for name, tensor in self._inputs.items():
            if tensor.shape != inputs[name].shape:
                raise ValueError(f"{name} of shape {tuple(inputs[name].shape)}; recorded was {tuple(tensor.shape)}")
            tensor.copy_(inputs[name])
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return {name: tensor.clone() for name, tensor in self._outputs.items()}

    def _beside(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the part on a separate stream, as the recording will."""
        stream = self._stream = self._stream or torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = self._part(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return found

    def _record(self, inputs: Mapping[str, Tensor]) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        for parameter in self._parameters:
            parameter.grad = None  # the graph allocates its own gradients, at the same address in every replay
        self._graph = torch.cuda.CUDAGraph()
        # The thread of the data loader that pins memory would invalidate a recording that watches all threads.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = {name: tensor.detach() for name, tensor in self._part(self._inputs).items()}
        self._gradients = [parameter.grad for parameter in self._parameters]
