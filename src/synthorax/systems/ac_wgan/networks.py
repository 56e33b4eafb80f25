"""The 3D residual generator and critic (section 3.1), and how a condition enters them.

"Layer normalization and leaky ReLU activation are used after each convolution layer except output layers": here those
are the 3^3 convolutions. The thesis says nothing of the 1^3 ones of the shortcuts and draws no sizes; shortcuts stay
linear and nothing follows the sum, as in the WGAN-GP program, so every block passes its input on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.nn.conditions import with_given
from synthorax.nn.resampling import ConvPool, UpsampleConv, folded, unfolded, without_grid
from synthorax.systems.ac_wgan.config import AcWganConfig

STYLE = 0.3
"""Gain of the layers that turn the noise vector into scales and shifts: at first these stay near 1 and 0."""
SLOPE = 0.2
"""Of the leaky ReLUs. Not in the thesis; the usual one of GANs."""


class Critique(NamedTuple):
    """What the critic says of cubes.

    Attributes:
        score: how real, unbounded.
        classes: logits of the auxiliary classifier.
        attributes: as `nn.conditions.encoded` scales them; the columns are the configuration's.
    """

    score: Float[Tensor, " b"]
    classes: Float[Tensor, "b n"]
    attributes: Float[Tensor, "b a"]


class CubeGenerator(nn.Module):
    """Noise and a condition to cubes.

    A linear layer to the base grid, three residual blocks that each double it, a convolution and tanh. The thesis'
    net has 8,920,449 parameters, of which the linear layer has 7,133,184.
    """

    def __init__(self, config: AcWganConfig) -> None:
        super().__init__()
        self.n_classes = config.n_classes
        self.conditions = config.conditions
        self.noise = config.noise
        self.fold = config.fold
        self.base = (config.widths[0], *config.base)
        self.grain = (config.grain, *config.finest)
        self.start = nn.Linear(config.noise, math.prod(self.base))
        style = config.noise if config.styled else 0
        grains = [0] * (len(config.widths) - 2) + [config.grain]
        pairs = zip(pairwise(config.widths), grains, strict=True)
        self.blocks = nn.ModuleList([_UpBlock(a, b, style, grain) for (a, b), grain in pairs])
        self.out = nn.Conv3d(config.widths[-1], config.fold**3, 3, padding=1)
        _initialise(self)
        with torch.no_grad():  # a folded cube begins without a grid: all voxels of a block are alike
            self.out.weight.copy_(self.out.weight[:1].expand_as(self.out.weight))

    def forward(
        self,
        noise: Float[Tensor, "b n"],
        labels: Int[Tensor, " b"],
        attributes: Float[Tensor, "b a"] | None = None,
    ) -> Float[Tensor, "b 1 z y x"]:
        """Cubes within -1 to 1.

        Args:
            noise: standard normal, the vector and after it the grain.
            labels: classes from 0; [1, 0] is negative and [0, 1] positive (section 3.1).
            attributes: as `nn.conditions.encoded` gives them, nan where not known; all unknown if not given.
        """
        latents = self.latents(noise, labels, attributes)
        features = self.start(latents).unflatten(1, self.base)
        for block in self.blocks:
            features = block(features, latents, self.grain_of(noise) if block.takes_grain else None)
        with torch.autocast(features.device.type, enabled=False):  # a voxel in bfloat16 would be rounded to 3 HU
            made = unfolded(self.out(features.to(self.out.weight.dtype)), self.fold)
            # Before tanh: voxels that alternate between its ends would have grey means, and no gradient.
            return torch.tanh(made if self.fold == 1 else without_grid(made))

    def grain_of(self, noise: Float[Tensor, "b n"]) -> Float[Tensor, "b g z y x"]:
        """The white noise after the noise vector, on the finest grid."""
        return noise[:, self.noise :].unflatten(1, self.grain)

    def latents(
        self, noise: Float[Tensor, "b n"], labels: Int[Tensor, " b"], attributes: Float[Tensor, "b a"] | None
    ) -> Float[Tensor, "b m"]:
        """Noise whose first entries are the condition: the class as one-hot, then value and "given" by attribute."""
        condition = noise.new_zeros(len(noise), self.conditions)
        condition[:, : self.n_classes] = functional.one_hot(labels, self.n_classes)
        if attributes is not None:
            condition[:, self.n_classes :] = with_given(attributes)
        return torch.cat([condition, noise[:, self.conditions : self.noise]], 1)


class Critic(nn.Module):
    """Cubes to a score, a class, and attributes.

    A convolution, three residual blocks that each halve the grid, and linear heads on all that is left. No statistic
    runs over the batch, as the gradient penalty asks. The thesis' net has 1,954,147 parameters.

    Measured on a CPU in single precision: a step at the thesis' size peaks at 3.1 GB for 8 cubes and 5.0 GB for 16, so
    some 16 GB for its 64, if the penalty has a backward pass of its own before the scores; in one pass it is 4.2 GB
    for 8 and some 28 GB for 64.
    """

    def __init__(self, config: AcWganConfig) -> None:
        super().__init__()
        self.size = config.size
        self.fold = config.fold
        widths = config.widths[::-1]
        norm = {"layer": _layer_norm, "none": _no_norm}[config.critic_norm]
        self.start = nn.Conv3d(config.fold**3, widths[0], 3, padding=1)
        self.norm = norm(widths[0])
        self.blocks = nn.Sequential(*[_DownBlock(a, b, norm) for a, b in pairwise(widths)])
        features = widths[-1] * math.prod(config.base)
        self.score = nn.Linear(features, 1)
        self.classes = nn.Linear(features, config.n_classes)
        self.attributes = nn.ModuleDict({name: nn.Linear(features, 1) for name in config.attributes})
        _initialise(self)

    def forward(self, cubes: Float[Tensor, "b 1 z y x"]) -> Critique:
        """Judge cubes within -1 to 1.

        Raises:
            InputError: they are not of the configuration's size.
        """
        if tuple(cubes.shape[2:]) != self.size:
            raise InputError("cubes", f"{tuple(cubes.shape[2:])} voxels", f"{self.size} (z, y, x)")
        start = functional.leaky_relu(self.norm(self.start(folded(cubes, self.fold))), SLOPE)
        features = self.blocks(start).flatten(1)
        guesses = [head(features) for head in self.attributes.values()]
        attributes = torch.cat(guesses, 1) if guesses else features.new_zeros(len(cubes), 0)
        return Critique(self.score(features).squeeze(1), self.classes(features), attributes)


class _UpBlock(nn.Module):
    """Twice (convolution, layer norm, leaky ReLU), the first on the doubled grid; plus the doubled input.

    Args:
        style: entries of the vector that sets scale and shift of the norms; 0 where they are constants.
        grain: channels of noise that the second convolution takes too.
    """

    def __init__(self, channels_in: int, channels_out: int, style: int = 0, grain: int = 0) -> None:
        super().__init__()
        self.takes_grain = bool(grain)
        self.conv1 = UpsampleConv(channels_in, channels_out)
        self.norm1 = _StyledNorm(channels_out, style) if style else _layer_norm(channels_out)
        self.conv2 = nn.Conv3d(channels_out + grain, channels_out, 3, padding=1)
        self.norm2 = _StyledNorm(channels_out, style) if style else _layer_norm(channels_out)
        self.shortcut = nn.Conv3d(channels_in, channels_out, 1)

    def forward(
        self,
        x: Float[Tensor, "b c z y x"],
        latents: Float[Tensor, "b n"],
        grain: Float[Tensor, "b g 2*z 2*y 2*x"] | None = None,
    ) -> Float[Tensor, "b d 2*z 2*y 2*x"]:
        residual = functional.leaky_relu(_normed(self.norm1, self.conv1(x), latents), SLOPE)
        if self.takes_grain and grain is not None:
            residual = torch.cat([residual, grain.to(residual.dtype)], 1)
        residual = functional.leaky_relu(_normed(self.norm2, self.conv2(residual), latents), SLOPE)
        # A 1^3 convolution and the repetition of voxels commute; this order does an eighth of the work.
        return residual + functional.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")


class _StyledNorm(nn.Module):
    """Layer norm over all channels and voxels of a sample, whose scale and shift by channel a vector sets."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.style = nn.Linear(style, 2 * channels)

    def forward(self, x: Float[Tensor, "b c z y x"], style: Float[Tensor, "b n"]) -> Float[Tensor, "b c z y x"]:
        scale, shift = self.style(style)[:, :, None, None, None].chunk(2, 1)
        return functional.group_norm(x, 1) * (1 + scale) + shift


def _normed(norm: nn.Module, x: Tensor, latents: Tensor) -> Tensor:
    made: Tensor = norm(x, latents) if isinstance(norm, _StyledNorm) else norm(x)
    return made


class _DownBlock(nn.Module):
    """Twice (convolution, layer norm, leaky ReLU), the second pooled; plus the pooled input.

    The pooling belongs to the convolution, as in the WGAN-GP program, so the norm comes after it.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_in, 3, padding=1)
        self.norm1 = norm(channels_in)
        self.conv2 = ConvPool(channels_in, channels_out)
        self.norm2 = norm(channels_out)
        self.shortcut = nn.Conv3d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d z//2 y//2 x//2"]:
        residual = functional.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        residual = functional.leaky_relu(self.norm2(self.conv2(residual)), SLOPE)
        return residual + self.shortcut(functional.avg_pool3d(x, 2))


def _layer_norm(channels: int) -> nn.GroupNorm:
    """Over all channels and voxels of a sample, with an affine map by channel; eps 1e-5.

    That is group norm with one group, and torch differentiates it twice. Measured in a critic step with penalty on one
    core (24^3, widths 64-64-32-32, batch 8): 1.8 s with it, 1.9 s channels-last, and 1.9 to 2.4 s with mean and
    variance taken by hand or by `layer_norm`. Convolutions take two thirds of that time.
    """
    return nn.GroupNorm(1, channels)


def _no_norm(channels: int) -> nn.Identity:
    return nn.Identity()


def _initialise(network: nn.Module) -> None:
    """The WGAN-GP program's: He-uniform with the mean fan for 3^3 kernels inside, Glorot-uniform elsewhere."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            inside = isinstance(layer, nn.Conv3d) and layer.kernel_size == (3, 3, 3) and name not in ("start", "out")
            nn.init.xavier_uniform_(layer.weight, math.sqrt(2) if inside else STYLE if "style" in name else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
