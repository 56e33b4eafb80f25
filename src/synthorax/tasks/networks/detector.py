"""The lung nodule detector of papers/3 (section 3.2)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from synthorax.tasks.networks.classifier import PatchClassifier
from synthorax.tasks.networks.config import DetectorConfig


class Detector(PatchClassifier):
    """Strided convolutions and max pooling in turn, each halving every axis; then a convolution and a linear head.

    The thesis says no more than that both halve and that it is small. Chosen here: 3^3 kernels, two such pairs
    (48^3 becomes 3^3), channels w, 2w, 4w, batch norm and ReLU after each convolution, the mean over what is left.
    278,050 parameters at the default width of 32.
    """

    minimum_size = (16, 16, 16)

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.width
        self.feature_size = 4 * width
        self.layers = nn.Sequential(
            *_convolution(1, width, stride=2),
            nn.MaxPool3d(2),
            *_convolution(width, 2 * width, stride=2),
            nn.MaxPool3d(2),
            *_convolution(2 * width, 4 * width, stride=1),
        )
        self.fc = nn.Linear(self.feature_size, config.n_classes)

    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f k j i"]:
        """A sixteenth of the patch along every axis."""
        return self.layers(patches)

    def classify(self, maps: Float[Tensor, "b f k j i"]) -> Float[Tensor, "b n"]:
        """Linear on the mean."""
        return self.fc(maps.mean((2, 3, 4)))


def _convolution(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv3d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm3d(channels_out),
        nn.ReLU(inplace=True),
    )
