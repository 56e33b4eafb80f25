"""The 3D residual generator and critic (section 3.1), and how a condition enters them.

"Layer normalization and leaky ReLU activation are used after each convolution layer except output layers": here that
means the 3^3 convolutions. The thesis does not describe the shortcuts; as in the WGAN-GP authors' code, a shortcut is
a 1^3 convolution without norm or activation, and nothing follows the sum.
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
"""Initial gain of the layers that map the noise vector to scales and shifts, so that these begin near 1 and 0."""
SLOPE = 0.2
"""Negative slope of the leaky ReLUs. Not in the thesis; usual in GANs."""


class Critique(NamedTuple):
    """The critic's outputs for a batch of cubes.

    Attributes:
        score: unbounded score [b], higher for real cubes.
        classes: logits [b, n] of the n classes.
        attributes: predicted attributes [b, a] in the configuration's order, scaled as by `nn.conditions.encoded`.
    """

    score: Float[Tensor, " b"]
    classes: Float[Tensor, "b n"]
    attributes: Float[Tensor, "b a"]


class CubeGenerator(nn.Module):
    """Generator: maps a noise vector and a condition to cubes.

    A linear layer to the coarsest grid, three residual blocks that each double the grid, a convolution and tanh. With
    the thesis' settings it has 8,920,449 parameters, 7,133,184 of them in the linear layer.
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
        with torch.no_grad():  # folded channels begin alike, so that no checkerboard is in the first cubes
            self.out.weight.copy_(self.out.weight[:1].expand_as(self.out.weight))

    def forward(
        self,
        noise: Float[Tensor, "b n"],
        labels: Int[Tensor, " b"],
        attributes: Float[Tensor, "b a"] | None = None,
    ) -> Float[Tensor, "b 1 z y x"]:
        """Return cubes with values in -1 to 1.

        Args:
            noise: standard normal numbers, the noise vector followed by the grain (`config.drawn` of them).
            labels: class of each cube: 0 is without a nodule, 1 with one (section 3.1).
            attributes: scaled as by `nn.conditions.encoded`, nan where unknown; None if all are unknown.
        """
        latents = self.latents(noise, labels, attributes)
        features = self.start(latents).unflatten(1, self.base)
        for block in self.blocks:
            features = block(features, latents, self.grain_of(noise) if block.takes_grain else None)
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would round voxels to steps of 3 HU
            made = unfolded(self.out(features.to(self.out.weight.dtype)), self.fold)
            # The checkerboard is removed before tanh; after it, voxels at -1 and 1 would have a grey mean, no gradient.
            return torch.tanh(made if self.fold == 1 else without_grid(made, first_kept=True))

    def grain_of(self, noise: Float[Tensor, "b n"]) -> Float[Tensor, "b g z y x"]:
        """Return the grain: the white noise after the noise vector, on the finest grid."""
        return noise[:, self.noise :].unflatten(1, self.grain)

    def latents(
        self, noise: Float[Tensor, "b n"], labels: Int[Tensor, " b"], attributes: Float[Tensor, "b a"] | None
    ) -> Float[Tensor, "b m"]:
        """Return the noise vector with the condition in its first entries.

        The condition is the class as one-hot, then for each attribute its value (0 if unknown) and 1 where it is known.
        """
        condition = noise.new_zeros(len(noise), self.conditions)
        condition[:, : self.n_classes] = functional.one_hot(labels, self.n_classes)
        if attributes is not None:
            condition[:, self.n_classes :] = with_given(attributes)
        return torch.cat([condition, noise[:, self.conditions : self.noise]], 1)


class Critic(nn.Module):
    """Critic: maps cubes to a score, class logits and attributes.

    A convolution, three residual blocks that each halve the grid, and linear heads on the flattened features. No norm
    takes statistics over the batch, since the gradient penalty needs gradients by sample. With the thesis' settings it
    has 1,954,147 parameters.

    Memory of a step with the thesis' cubes on a CPU in single precision, with a backward pass for the penalty alone:
    3.1 GB for 8 cubes, 5.0 GB for 16, and about 16 GB (extrapolated) for 64; with one backward pass for all losses,
    4.2 GB for 8 cubes and about 28 GB for 64.
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
        """Judge cubes with values in -1 to 1.

        Raises:
            InputError: the cubes do not have the configuration's size.
        """
        if tuple(cubes.shape[2:]) != self.size:
            raise InputError("cubes", f"{tuple(cubes.shape[2:])} voxels", f"{self.size} (z, y, x)")
        start = functional.leaky_relu(self.norm(self.start(folded(cubes, self.fold))), SLOPE)
        features = self.blocks(start).flatten(1)
        guesses = [head(features) for head in self.attributes.values()]
        attributes = torch.cat(guesses, 1) if guesses else features.new_zeros(len(cubes), 0)
        return Critique(self.score(features).squeeze(1), self.classes(features), attributes)


class _UpBlock(nn.Module):
    """Residual block that doubles the grid: twice (convolution, layer norm, leaky ReLU), plus the upsampled input.

    Args:
        style: length of the vector that sets scale and shift of the norms; 0 for learned constants.
        grain: channels of white noise that the second convolution takes beside its features.
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
        # A 1^3 convolution commutes with nearest upsampling; before it, it costs an eighth.
        return residual + functional.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")


class _StyledNorm(nn.Module):
    """Layer norm over all channels and voxels of a sample; a style vector sets scale and shift of each channel."""

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
    """Residual block that halves the grid: twice (convolution, norm, leaky ReLU), plus the pooled input.

    The second convolution is followed by pooling and then by its norm, as in the WGAN-GP authors' code.
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
    """Return a layer norm over all channels and voxels of a sample, with scale and shift by channel; eps 1e-5.

    It is a group norm with one group, which torch can differentiate twice. A critic step with the penalty on one core
    (24^3, widths 64-64-32-32, batch of 8) takes 1.8 s with it, and 1.9 to 2.4 s with `layer_norm` or mean and
    variance in plain operations. Convolutions take two thirds of that time.
    """
    return nn.GroupNorm(1, channels)


def _no_norm(channels: int) -> nn.Identity:
    return nn.Identity()


def _initialise(network: nn.Module) -> None:
    """Initialise as the WGAN-GP authors' code: inner 3^3 kernels He-uniform with the mean fan, others Glorot-uniform.

    Layers that map the style begin smaller, with the gain `STYLE`; biases begin at 0.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            inside = isinstance(layer, nn.Conv3d) and layer.kernel_size == (3, 3, 3) and name not in ("start", "out")
            nn.init.xavier_uniform_(layer.weight, math.sqrt(2) if inside else STYLE if "style" in name else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
