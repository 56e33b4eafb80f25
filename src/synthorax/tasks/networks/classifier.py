"""What the classifiers of patches have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from synthorax.nn.patches import check_patches


class PatchClassifier(nn.Module, ABC):
    """A stack of convolutions, a mean over the voxels that are left, and a head.

    Attributes:
        minimum_size: voxels (z, y, x) that leave at least one voxel inside the patch; any size from there works.
        feature_size: channels of the last convolution before the head.
    """

    minimum_size: tuple[int, int, int]
    feature_size: int

    @abstractmethod
    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f k j i"]:
        """The last convolution's channels on its coarse grid."""

    @abstractmethod
    def classify(self, maps: Float[Tensor, "b f k j i"]) -> Float[Tensor, "b n"]:
        """The head."""

    def features(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f"]:
        """The channels' means over their grid.

        Raises:
            InputError: patches that are too small.
        """
        check_patches(patches, self.minimum_size)
        return self.maps(patches).mean((2, 3, 4))

    def forward(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b n"]:
        """Logits of patches within -1 to 1.

        Raises:
            InputError: patches that are too small.
        """
        check_patches(patches, self.minimum_size)
        return self.classify(self.maps(patches))
