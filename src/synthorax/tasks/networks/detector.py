"""The lung nodule detector of Cui's thesis (section 3.2)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from synthorax.tasks.networks.classifier import PatchClassifier, normed_convolution
from synthorax.tasks.networks.config import DetectorConfig


class Detector(PatchClassifier):
    """Strided convolutions and max pooling in turn, each halving every axis; then a convolution and a linear head.

    The thesis says only that both halve the grid, and that the network is small. We chose 3^3 kernels, two such pairs
    (48^3 becomes 3^3), channels w, 2w and 4w, batch norm and ReLU after each convolution, and the mean over the
    remaining grid. With the default width of 32 there are 278,050 parameters.
    """

    minimum_size = (16, 16, 16)

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.width
        self.feature_size = 4 * width
        self.layers = nn.Sequential(
            *normed_convolution(1, width, stride=2),
            nn.MaxPool3d(2),
            *normed_convolution(width, 2 * width, stride=2),
            nn.MaxPool3d(2),
            *normed_convolution(2 * width, 4 * width, stride=1),
        )
        self.fc = nn.Linear(self.feature_size, config.n_classes)

    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f k j i"]:
        """Return the last convolution's channels, on a sixteenth of the patch's grid along every axis."""
        return self.layers(patches)

    def classify(self, maps: Float[Tensor, "b f k j i"]) -> Float[Tensor, "b n"]:
        """Return logits, linear in the channels' means."""
        return self.fc(maps.mean((2, 3, 4)))
