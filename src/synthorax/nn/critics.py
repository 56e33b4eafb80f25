"""Critics of in-painted patches.

Yang et al. (section 2.2) have two critics, one of the surroundings of the edit and one of the whole patch. Each is a
stack of 5^3 convolutions of stride 2 with leaky ReLUs and a linear head, as in Yu et al. (2018); the gradient penalty
forbids batch norm. The critic of CT-SGAN's injector scores each part of a patch by itself.
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
"""Channels after each convolution of the local and of the global critic, in multiples of the first width."""
KERNEL = 5
"""Width of the convolutions along each axis."""
LEAK = 0.2
"""Slope of the leaky ReLUs below 0."""


class Verdict(NamedTuple):
    """A critic's output for patches or crops, in float32.

    Attributes:
        score: realism, unbounded; higher is more real.
        classes: logits of the auxiliary classifier; None if the critic has none.
    """

    score: Float[Tensor, " b"]
    classes: Float[Tensor, "b n"] | None


class PatchCritic(nn.Module):
    """A critic of patches of one size.

    The score and the classes share a stack of convolutions on the patch alone. If the score depends on a condition, it
    also has a second stack of half the width on the patch and the condition. The classes do not use the second stack,
    because they could be read off the condition.

    Args:
        size: voxels (z, y, x) of a patch.
        widths: channels after each convolution.
        classes: number of classes of the auxiliary classifier; 0 for none.
        maps: channels of the condition on which the score depends; 0 for none.
    """

    def __init__(self, size: Sequence[int], widths: Sequence[int], *, classes: int = 0, maps: int = 0) -> None:
        super().__init__()
        self.size, self.maps = tuple(size), maps
        ends = math.prod(math.ceil(n / 2 ** len(widths)) for n in size)
        conditioned = [width // 2 for width in widths] if maps else [0]
        self.tower = _tower(1, widths)
        # For patches with their condition; named as in weights that are saved.
        self.told_tower = _tower(1 + maps, conditioned) if maps else None
        self.score_head = nn.Linear((widths[-1] + conditioned[-1]) * ends, 1)
        self.class_head = nn.Linear(widths[-1] * ends, classes) if classes else None

    def forward(self, patches: Float[Tensor, "b 1 z y x"], maps: Float[Tensor, "b m _ _ _"] | None = None) -> Verdict:
        """Score patches.

        Args:
            patches: within -1 to 1.
            maps: the condition; axes of length 1 are repeated. Ignored by a critic without a condition.

        Raises:
            InputError: patches have another size, or the condition is missing or has another number of channels.
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
    """The outputs of both critics.

    Attributes:
        local: for the crop around the edit.
        whole: for the whole patch.
    """

    local: Verdict
    whole: Verdict


class InPaintingCritic(nn.Module):
    """Two critics: one of the surroundings of an edit, and one of the whole patch.

    Args:
        size: voxels (z, y, x) of a patch.
        width: channels of the first convolutions; 64 as published.
        classes: number of classes of each critic's auxiliary classifier, 0 for none; Yang et al. have 3: fake, benign
            and malignant.
        maps: channels of the condition on which the scores depend; see `PatchCritic`.
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
        """Score patches and the crops around their edits.

        Args:
            patches: within -1 to 1.
            crop: `LocalCrop.around` the edits' regions.
            maps: the condition, the same at all voxels of a patch.
        """
        return Verdicts(self.local(crop(patches), maps), self.whole(patches, maps))


class ScoreMapCritic(nn.Module):
    """A critic that scores overlapping parts of patches (Isola et al. 2017): 4^3 convolutions of stride 2, leaky ReLUs.

    Args:
        channels: number of channels of the patches together with their condition.
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
        """Return a score for each part, unbounded, in float32."""
        scores: Tensor = self.scores(seen)
        return scores.float()


def _tower(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """Convolutions that each halve the grid, rounding up, with flattened output."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv3d(channels, width, KERNEL, stride=2, padding=KERNEL // 2), nn.LeakyReLU(LEAK)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten())
