"""Critics of in-painted patches.

Those of papers/2 (section 2.2) are two, one of the surroundings of the edit and one of the whole patch, each a tower of
5^3 convolutions of stride 2 with leaky ReLUs and a linear end, as in Yu et al. (2018), without a statistic over the
batch, as the gradient penalty asks. That of papers/5's injector scores every part of a patch by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.errors import InputError
from synthorax.nn.initialisation import initialise_glorot
from synthorax.nn.local_crop import LocalCrop

LOCAL_WIDTHS, GLOBAL_WIDTHS = (1, 2, 4, 8), (1, 2, 4, 4)
"""Channels after each convolution of the local and of the global critic, as multiples of the first."""
KERNEL = 5
"""Width of the convolutions along each axis."""
LEAK = 0.2
"""Slope of the leaky ReLUs below 0."""


class Verdict(NamedTuple):
    """What a critic says of patches or crops, in single precision.

    Attributes:
        score: how real, unbounded.
        classes: logits of the auxiliary classifier; None from a critic without it.
    """

    score: Float[Tensor, " b"]
    classes: Float[Tensor, "b n"] | None


class PatchCritic(nn.Module):
    """A critic of patches of one size.

    Score and classes share a tower of convolutions that sees the patch alone. A score that depends on a condition has a
    second tower beside it, of half the width, which sees the patch and the condition. The classes do not share that
    one: they could be read off the condition.

    Args:
        size: voxels (z, y, x) of what it judges.
        widths: channels after each convolution.
        classes: of the auxiliary classifier; 0 leaves it out.
        maps: channels of the condition that the score depends on.
    """

    def __init__(self, size: Sequence[int], widths: Sequence[int], *, classes: int = 0, maps: int = 0) -> None:
        super().__init__()
        self.size, self.maps = tuple(size), maps
        ends = math.prod(math.ceil(n / 2 ** len(widths)) for n in size)
        told = [width // 2 for width in widths] if maps else [0]
        self.tower = _tower(1, widths)
        self.told_tower = _tower(1 + maps, told) if maps else None
        self.score_head = nn.Linear((widths[-1] + told[-1]) * ends, 1)
        self.class_head = nn.Linear(widths[-1] * ends, classes) if classes else None

    def forward(self, patches: Float[Tensor, "b 1 z y x"], maps: Float[Tensor, "b m _ _ _"] | None = None) -> Verdict:
        """Judge patches within -1 to 1.

        Args:
            maps: the condition; axes of length 1 are repeated. A critic built without maps does not look at it.

        Raises:
            InputError: patches of another size, or none or too many maps for a critic that depends on them.
        """
        self._check(patches, maps)
        features = self.tower(patches)
        seen = features
        if self.told_tower is not None and maps is not None:
            beside = torch.cat([patches, maps.expand(-1, -1, *self.size).to(patches.dtype)], 1)
            seen = torch.cat([features, self.told_tower(beside)], 1)
        classes = None if self.class_head is None else self.class_head(features).float()
        return Verdict(self.score_head(seen)[:, 0].float(), classes)

    def _check(self, patches: Tensor, maps: Tensor | None) -> None:
        if tuple(patches.shape[1:]) != (1, *self.size):
            raise InputError("patches", f"a tensor of {list(patches.shape)}", f"[b, 1, z, y, x] of {self.size} voxels")
        if self.maps and (maps is None or maps.shape[1] != self.maps):
            raise InputError("maps", "none" if maps is None else f"{maps.shape[1]} channels", f"{self.maps} channels")


class Verdicts(NamedTuple):
    """What both critics say."""

    local: Verdict
    whole: Verdict


class InPaintingCritic(nn.Module):
    """A critic of the surroundings of an edit and one of the whole patch.

    Args:
        size: voxels (z, y, x) of a patch.
        width: channels of the first convolutions; 64 as published.
        classes: of the auxiliary classifier on top of each; 3 in papers/2: fake, benign and malignant.
        maps: channels of the condition that the scores depend on, see `PatchCritic`.
    """

    def __init__(self, size: Sequence[int], *, width: int = 64, classes: int = 0, maps: int = 0) -> None:
        super().__init__()
        half = [n // 2 for n in size]
        self.local = PatchCritic(half, [width * n for n in LOCAL_WIDTHS], classes=classes, maps=maps)
        self.whole = PatchCritic(size, [width * n for n in GLOBAL_WIDTHS], classes=classes, maps=maps)
        initialise_glorot(self)

    def forward(
        self,
        patches: Float[Tensor, "b 1 z y x"],
        crop: LocalCrop,
        maps: Float[Tensor, "b m 1 1 1"] | None = None,
    ) -> Verdicts:
        """Judge patches within -1 to 1, and their crops.

        Args:
            crop: `LocalCrop.around` the edits' regions.
            maps: the condition, the same all over a patch.
        """
        return Verdicts(self.local(crop(patches), maps), self.whole(patches, maps))


class ScoreMapCritic(nn.Module):
    """A critic that scores overlapping parts of patches (Isola et al. 2017): 4^3 convolutions of stride 2, leaky ReLUs.

    Args:
        channels: of the patches, and of what it sees beside them.
        widths: channels after each convolution.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Conv3d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(LEAK)]
            channels = width
        self.scores = nn.Sequential(*layers, nn.Conv3d(channels, 1, 3, padding=1))
        initialise_glorot(self)

    def forward(self, seen: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b 1 _ _ _"]:
        """Return a score for each part, unbounded, in single precision."""
        scores: Tensor = self.scores(seen)
        return scores.float()


def _tower(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """Convolutions that each halve the grid, rounding up, and all features in a row."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv3d(channels, width, KERNEL, stride=2, padding=KERNEL // 2), nn.LeakyReLU(LEAK)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten())
