"""Painters, which turn label maps into CT, and their critics, for slices [b, c, y, x] and for volumes [b, c, z, y, x].

`ThesisResNet`, `ThesisUNet` and `ThesisCritic` have the layers of sections 4.3.4 and 4.3.5. Contradictions in the
thesis are resolved as follows: residual blocks have the 128 channels of the layer before them (256 could not be added),
the decoder's 1026 channels are read as 512 and the 512 of a skip, and the last deconvolution doubles the grid.

`LocalPainter` and `LocalCritic` are this project's own. An instance norm removes the mean of a window: it would make
the painter paint a window of only lung and one of only soft tissue the same, and the same tissue differently in every
window. Here the channels of each voxel are normalised separately.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from synthorax.nn.critics import LEAK
from synthorax.nn.initialisation import initialise_alike
from synthorax.nn.resampling import folded, unfolded, without_grid

End = Literal["tanh", "linear", "classes"]
"""Activation of the last layer: tanh, none, or softmax over the classes."""
PUBLISHED_SPREAD = 0.02
"""Standard deviation of the initial weights of every convolution (Zhu et al. 2017, Isola et al. 2017)."""
DROPOUT = 0.5
CONVS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
"""Convolution classes by the number of spatial axes."""
DECONVS: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
INSTANCE_NORMS: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
BATCH_NORMS: dict[int, Callable[..., nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class ThesisResNet(nn.Module):
    """CycleGAN's generator (section 4.3.5).

    Its layers are a convolution of width 7, two that halve the grid, residual blocks, two that double it, and a
    convolution of width 7.

    Args:
        axes: 2 for slices, 3 for volumes.
        channels: input channels.
        outputs: output channels.
        width: channels of the first convolution.
        blocks: number of residual blocks.
        end: activation of the last layer.
        checkpoints: compute layers again in the backward pass, to save memory.
    """

    def __init__(
        self, axes: int, channels: int, outputs: int, *, width: int, blocks: int, end: End, checkpoints: bool = False
    ) -> None:
        super().__init__()
        conv, deconv, norm = CONVS[axes], DECONVS[axes], INSTANCE_NORMS[axes]

        def activated(*layers: nn.Module, features: int) -> nn.Sequential:
            return nn.Sequential(*layers, norm(features), nn.ReLU())

        wide, wider = 2 * width, 4 * width
        up: dict[str, Any] = {"stride": 2, "padding": 1, "output_padding": 1}
        self.layers = nn.ModuleList(
            [
                activated(conv(channels, width, 7, padding=3, padding_mode="reflect"), features=width),
                activated(conv(width, wide, 3, stride=2, padding=1), features=wide),
                activated(conv(wide, wider, 3, stride=2, padding=1), features=wider),
                *(_Residual(conv, norm, wider) for _ in range(blocks)),
                activated(deconv(wider, wide, 3, **up), features=wide),
                activated(deconv(wide, width, 3, **up), features=width),
                conv(width, outputs, 7, padding=3, padding_mode="reflect"),
            ]
        )
        self._end, self._checkpoints = end, checkpoints
        initialise_published(self)

    def forward(self, windows: Float[Tensor, "b c ..."]) -> Float[Tensor, "b d ..."]:
        """Return the output for windows whose sides are multiples of 4."""
        features = windows
        for layer in self.layers:
            features = _applied(layer, features, self._checkpoints)
        return ended(features, self._end)


class _Residual(nn.Module):
    def __init__(self, conv: Callable[..., nn.Module], norm: Callable[..., nn.Module], width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(width, width, 3, padding=1), norm(width), nn.ReLU(), conv(width, width, 3, padding=1), norm(width)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


class ThesisUNet(nn.Module):
    """Pix2Pix's generator (section 4.3.4): a U-Net down to one voxel, with dropout in the first three decoder layers.

    Args:
        axes: 2 for slices, 3 for volumes.
        channels: input channels.
        outputs: output channels.
        width: channels of the first convolution.
        levels: number of times that the grid is halved.
        end: activation of the last layer.
        checkpoints: compute layers again in the backward pass, to save memory.
    """

    def __init__(
        self, axes: int, channels: int, outputs: int, *, width: int, levels: int, end: End, checkpoints: bool = False
    ) -> None:
        super().__init__()
        conv, deconv, norm = CONVS[axes], DECONVS[axes], BATCH_NORMS[axes]
        widths = [width * min(2**i, 8) for i in range(levels)]
        sampling: dict[str, Any] = {"kernel_size": 4, "stride": 2, "padding": 1}
        down: list[nn.Module] = [nn.Sequential(conv(channels, width, **sampling), nn.LeakyReLU(LEAK))]
        for before, own in pairwise(widths):
            down.append(nn.Sequential(conv(before, own, **sampling), norm(own), nn.LeakyReLU(LEAK)))
        up: list[nn.Module] = []
        for i in range(levels - 1):
            taken = widths[-1] if i == 0 else 2 * widths[-1 - i]
            own = widths[-2 - i]
            dropout = [nn.Dropout(DROPOUT)] if i < 3 else []
            up.append(nn.Sequential(deconv(taken, own, **sampling), norm(own), *dropout, nn.ReLU()))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.last = deconv(2 * width, outputs, **sampling)
        self._end, self._checkpoints = end, checkpoints
        initialise_published(self)

    def forward(self, windows: Float[Tensor, "b c ..."]) -> Float[Tensor, "b d ..."]:
        """Return the output for windows whose sides are divisible by two to the power of `levels`."""
        features, skips = windows, []
        for layer in self.down:
            features = _applied(layer, features, self._checkpoints)
            skips.append(features)
        for layer, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            features = torch.cat([_applied(layer, features, self._checkpoints), skip], 1)
        return ended(self.last(features), self._end)


class ThesisCritic(nn.Module):
    """The PatchGAN of both models: four convolutions of stride 2, and a score with a sigmoid for each position.

    Args:
        axes: 2 for slices, 3 for volumes.
        channels: input channels.
        width: channels of the first convolution.
        norm: `instance` for CycleGAN, `batch` for Pix2Pix.
    """

    def __init__(self, axes: int, channels: int, *, width: int, norm: Literal["instance", "batch"]) -> None:
        super().__init__()
        conv = CONVS[axes]
        normed = (INSTANCE_NORMS if norm == "instance" else BATCH_NORMS)[axes]
        widths = [width * 2**i for i in range(4)]
        layers: list[nn.Module] = [conv(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(LEAK)]
        for before, own in pairwise(widths):
            layers += [conv(before, own, 4, stride=2, padding=1), normed(own), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers)
        self.score = conv(widths[-1], 1, 4)
        self._same = (1, 2) * axes  # keeps the size, as Keras pads an even kernel
        initialise_published(self)

    def forward(self, windows: Float[Tensor, "b c ..."]) -> Float[Tensor, "b 1 ..."]:
        """Return scores within 0 to 1: 1 for real windows, 0 for painted ones."""
        return self.score(functional.pad(self.layers(windows), self._same)).float().sigmoid()


class LocalPainter(nn.Module):
    """A painter without norms over the window: a head, residual blocks on a coarser grid, and a skip connection.

    The last convolution also gets the input window, so that edges and noise stay as sharp as in the input. It is
    computed in 32 bits. Unfolded features are freed of patterns of period two, which a critic would else drive them to.

    Args:
        axes: 2 for slices, 3 for volumes.
        channels: input channels.
        outputs: output channels.
        width: channels of the first convolution.
        blocks: number of residual blocks.
        end: activation of the last layer.
        fold: 1, or 2, which makes blocks of voxels channels, so that only the last layer runs on all voxels.
    """

    def __init__(
        self, axes: int, channels: int, outputs: int, *, width: int, blocks: int, end: End, fold: int = 1
    ) -> None:
        super().__init__()
        conv = CONVS[axes]
        block = fold**axes
        wider, finest = 2 * width, max(width // 4, outputs)
        self.head = conv(channels * block, width, 3, padding=1)
        self.down = nn.Sequential(_LocalNorm(width), nn.SiLU(), conv(width, wider, 4, stride=2, padding=1))
        self.blocks = nn.ModuleList([_LocalBlock(conv, wider) for _ in range(blocks)])
        self.up = nn.Sequential(
            _LocalNorm(wider), nn.SiLU(), nn.Upsample(scale_factor=2), conv(wider, width, 3, padding=1)
        )
        self.joined = conv(2 * width, width, 3, padding=1)
        unfolding = conv(width, finest * block, 3, padding=1)
        initialise_alike(unfolding, block)
        self.finest = nn.Sequential(_LocalNorm(width), nn.SiLU(), unfolding, nn.SiLU())
        self.last = conv(finest + channels, outputs, 3, padding=1)
        self._end, self._fold, self._axes = end, fold, axes

    def forward(self, windows: Float[Tensor, "b c ..."]) -> Float[Tensor, "b d ..."]:
        """Return the output for windows whose sides are multiples of twice the fold."""
        head = self.head(_folded(windows, self._fold, self._axes))
        features = self.down(head)
        for block in self.blocks:
            features = block(features)
        features = self.finest(self.joined(torch.cat([head, self.up(features)], 1)))
        voxels = _unfolded(features, self._fold, self._axes)
        if self._fold > 1:
            voxels = without_grid(voxels, self._fold)
        with torch.autocast(voxels.device.type, enabled=False):  # bfloat16 would round voxels to some HU
            return ended(self.last(torch.cat([voxels.float(), windows.float()], 1)), self._end)


class _LocalBlock(nn.Module):
    def __init__(self, conv: Callable[..., nn.Module], width: int) -> None:
        super().__init__()
        layers = [_LocalNorm(width), nn.SiLU(), conv(width, width, 3, padding=1)]
        self.layers = nn.Sequential(*layers, _LocalNorm(width), nn.SiLU(), conv(width, width, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


class _LocalNorm(nn.Module):
    """Divides the channels of each voxel by their root mean square, then scales each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, features: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        size = features.float().square().mean(1, keepdim=True).add(1e-6).rsqrt().to(features.dtype)
        return features * size * self.scale.view(-1, *[1] * (features.ndim - 2))


class LocalCritic(nn.Module):
    """A PatchGAN with spectral normalisation, without other norms or a sigmoid.

    Three convolutions halve the grid; a score depends on 38 voxels along each axis.

    Args:
        axes: 2 for slices, 3 for volumes.
        channels: input channels.
        width: channels of the first convolution.
        contrast: factor of the last input channel. Under spectral normalisation the score changes by at most the change
            of the input, so without a factor the critic cannot tell noise of 30 HU.
    """

    def __init__(self, axes: int, channels: int, *, width: int, contrast: float = 1.0) -> None:
        super().__init__()
        self._contrast = contrast
        conv = CONVS[axes]
        layers: list[nn.Module] = []
        for before, own in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [spectral_norm(conv(before, own, 4, stride=2, padding=1)), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers, spectral_norm(conv(4 * width, 1, 3, padding=1)))

    def forward(self, windows: Float[Tensor, "b c ..."]) -> Float[Tensor, "b 1 ..."]:
        """Return unbounded scores: near 1 for real windows, near 0 for painted ones."""
        seen = torch.cat([windows[:, :-1], self._contrast * windows[:, -1:]], 1)
        scores: Tensor = self.layers(seen)
        return scores.float()


def ended(features: Float[Tensor, "b c ..."], end: End) -> Float[Tensor, "b c ..."]:
    """Return the output of the last layer after its activation, in single precision."""
    features = features.float()
    if end == "tanh":
        return features.tanh()
    return features.softmax(1) if end == "classes" else features


def initialise_published(network: nn.Module) -> None:
    """Initialise convolutions and BatchNorms: normal weights of `PUBLISHED_SPREAD` about 0 and about 1, biases of 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.normal_(layer.weight, 0.0, PUBLISHED_SPREAD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(layer.weight, 1.0, PUBLISHED_SPREAD)
            nn.init.zeros_(layer.bias)


def _applied(layer: nn.Module, features: Tensor, checkpoints: bool) -> Tensor:
    if checkpoints and torch.is_grad_enabled():
        again: Tensor = checkpoint(layer, features, use_reentrant=False)
        return again
    made: Tensor = layer(features)
    return made


def _folded(windows: Tensor, fold: int, axes: int) -> Tensor:
    return folded(windows, fold) if axes == 3 else functional.pixel_unshuffle(windows, fold)


def _unfolded(features: Tensor, fold: int, axes: int) -> Tensor:
    return unfolded(features, fold) if axes == 3 else functional.pixel_shuffle(features, fold)
