"""A part of a training step recorded as a CUDA graph, so that small networks do not wait for their kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

WARM_UP_CALLS = 3
"""Calls run as they are before one is recorded, as CUDA's libraries set themselves up."""

Part = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Tensors to tensors, and gradients of parameters that had none before; nothing random, no look at a value."""


class Replayed:
    """A part of a training step that is run, or on a GPU recorded once and then replayed.

    Every call gets tensors of the same names, shapes and kinds. What comes back is the caller's own.

    Args:
        part: whose gradients are those of `parameters`.
        enabled: else it is always run.
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
        """What the part makes of the inputs; the parameters have its gradients."""
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
        """On a stream of its own, as recording will."""
        stream = self._stream = self._stream or torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = self._part(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return found

    def _record(self, inputs: Mapping[str, Tensor]) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        for parameter in self._parameters:
            parameter.grad = None  # so that the graph has its own, at the same place in every replay
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = {name: tensor.detach() for name, tensor in self._part(self._inputs).items()}
        self._gradients = [parameter.grad for parameter in self._parameters]
