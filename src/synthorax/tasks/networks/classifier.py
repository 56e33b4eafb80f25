"""The base class of classifiers of patches, and their usual convolution."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from synthorax.nn.patches import check_patches


class PatchClassifier(nn.Module, ABC):
    """A stack of convolutions, a mean over the remaining grid, and a head.

    Attributes:
        minimum_size: smallest patch in voxels (z, y, x); any larger size works.
        feature_size: channels of the last convolution before the head.
    """

    minimum_size: tuple[int, int, int]
    feature_size: int

    @abstractmethod
    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f k j i"]:
        """Return the channels of the last convolution on its coarse grid."""

    @abstractmethod
    def classify(self, maps: Float[Tensor, "b f k j i"]) -> Float[Tensor, "b n"]:
        """Return the head's logits."""

    def features(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f"]:
        """Return the mean of each channel of the last convolution.

        Raises:
            InputError: the patches are too small.
        """
        check_patches(patches, self.minimum_size)
        return self.maps(patches).mean((2, 3, 4))

    def forward(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b n"]:
        """Return the logits of patches within -1 to 1.

        Raises:
            InputError: the patches are too small.
        """
        check_patches(patches, self.minimum_size)
        return self.classify(self.maps(patches))


def normed_convolution(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    """Return a 3^3 convolution with batch norm and ReLU."""
    return (
        nn.Conv3d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm3d(channels_out),
        nn.ReLU(inplace=True),
    )
