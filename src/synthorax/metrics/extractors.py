"""Feature extractors: networks of this package, and a user's own Inception. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.features import ExtractorCard, Features
from synthorax.patch import NETWORK_WINDOW_HU
from synthorax.provenance import sha256
from synthorax.volume import check_spacing

SPACING_TOLERANCE = 1e-3
"""Voxel sizes that differ by up to this share count as the same."""
INCEPTION_DIMENSIONS = 2048


class FromNetwork:
    """An extractor that uses the method `features` of a 3D network.

    Args:
        network: its `features` maps patches [b, 1, z, y, x] from -1 to 1 to features [b, d]. It is set to evaluation.
        name: name of the extractor, for results.
        weights_sha256: hash of the weights file.
        dimensions: number of dimensions of the features, d.
        window_hu: HU (low, high) that become -1 and 1; values beyond are clipped.
        spacing_mm: voxel size (z, y, x) on which the network was trained; other patches are refused.
        classes: whether calling the network gives logits [b, k] of classes.
        batch: patches that are passed through the network at once.

    Raises:
        InputError: the network has no `features`, or the window is not (low, high).
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        weights_sha256: str,
        *,
        dimensions: int,
        window_hu: tuple[float, float],
        spacing_mm: tuple[float, float, float],
        classes: bool = False,
        batch: int = 32,
    ) -> None:
        if not callable(getattr(network, "features", None)):
            raise InputError(name, f"a {type(network).__name__} without `features`", "a network with that method")
        _check_window(window_hu)
        window = f"{window_hu[0]:g} to {window_hu[1]:g} HU mapped to -1 to 1"
        voxels = " x ".join(f"{s:g}" for s in spacing_mm)
        self.card = ExtractorCard(name, weights_sha256, dimensions, f"{window}, voxels of {voxels} mm")
        self._network = network.eval()
        self._features = cast(Callable[[Tensor], Tensor], network.features)
        self._window_hu = window_hu
        self._spacing_mm = spacing_mm
        self._classes = classes
        self._batch = batch

    def __call__(self, patches_hu: NDArray, spacing_mm: Sequence[float]) -> Features:
        """See `Extractor`."""
        patches = checks.volumes("patches", patches_hu)
        check_spacing(spacing_mm)
        if not np.allclose(spacing_mm, self._spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
            raise InputError(
                "patches", f"voxels of {tuple(spacing_mm)} mm", f"{self._spacing_mm} mm, as {self.card.name} needs"
            )
        low, high = self._window_hu
        device = next(self._network.parameters()).device

        def see(batch: Tensor) -> tuple[Tensor, Tensor | None]:
            unit = ((batch[:, None].to(device) - low) * (2 / (high - low)) - 1).clamp(-1, 1)
            logits = self._network(unit) if self._classes else None
            return self._features(unit), None if logits is None else logits.softmax(1)

        return seen_in_batches(patches, see, self.card, self._batch)


class InceptionSlices:
    """An extractor that uses the user's own 2D Inception in TorchScript, such as StyleGAN's `inception-2015-12-05.pt`.

    The network gets the axial, coronal and sagittal plane through a patch's middle as grey pictures from 0 to 255,
    which it stretches to its own square. Features and probabilities are means over the three planes.

    Args:
        path: path of the network, which maps pictures [b, 3, y, x] with `return_features=True` to features [b, 2048].
        window_hu: HU (low, high) that become 0 and 255; values beyond are clipped.
        classes: compute class probabilities too, which doubles the time.
        batch: patches that are passed through the network at once.
        device: device of the network.

    Raises:
        InputError: there is no such file, it is of another kind, or the window is not (low, high).
    """

    def __init__(
        self,
        path: Path | str,
        *,
        window_hu: tuple[float, float] = NETWORK_WINDOW_HU,
        classes: bool = False,
        batch: int = 16,
        device: str = "cpu",
    ) -> None:
        _check_window(window_hu)
        file = Path(path)
        if not file.is_file():
            raise InputError(file, "no such file", "an Inception network in TorchScript")
        try:
            self._network = torch.jit.load(str(file), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(file, "a file that is not TorchScript", "an Inception network in TorchScript") from error
        self._window_hu, self._classes, self._batch, self._device = window_hu, classes, batch, device
        with torch.inference_mode():
            try:
                found = self._network(torch.zeros(1, 3, 32, 32, device=device), return_features=True)
            except RuntimeError as error:
                wanted = "a network that takes pictures [b, 3, y, x] and return_features=True"
                raise InputError(file, "a TorchScript network of another kind", wanted) from error
        if not isinstance(found, Tensor) or found.shape != (1, INCEPTION_DIMENSIONS):
            raise InputError(file, "a network with other features", f"{INCEPTION_DIMENSIONS} features per picture")
        window = f"{window_hu[0]:g} to {window_hu[1]:g} HU mapped to 0 to 255"
        prepared = f"{window}, mean over the axial, coronal and sagittal plane through the middle"
        self.card = ExtractorCard(f"Inception ({file.name})", sha256(file), INCEPTION_DIMENSIONS, prepared)

    def __call__(self, patches_hu: NDArray, spacing_mm: Sequence[float]) -> Features:
        """See `Extractor`; planes are stretched to squares, so patches should be cubes in millimetres."""
        patches = checks.volumes("patches", patches_hu)
        check_spacing(spacing_mm)
        low, high = self._window_hu

        def see(batch: Tensor) -> tuple[Tensor, Tensor | None]:
            grey = ((batch.to(self._device) - low) * (255 / (high - low))).clamp(0, 255)
            z, y, x = (n // 2 for n in grey.shape[1:])
            planes = [plane[:, None].expand(-1, 3, -1, -1) for plane in (grey[:, z], grey[:, :, y], grey[:, :, :, x])]
            features = torch.stack([self._network(plane, return_features=True) for plane in planes]).mean(0)
            return features, torch.stack([self._network(p) for p in planes]).mean(0) if self._classes else None

        return seen_in_batches(patches, see, self.card, self._batch)


def seen_in_batches(
    patches: NDArray[np.float32],
    see: Callable[[Tensor], tuple[Tensor, Tensor | None]],
    card: ExtractorCard,
    batch: int,
) -> Features:
    """Return the features of patches, computed batch by batch.

    Args:
        patches: HU [n, z, y, x].
        see: maps a batch [b, z, y, x] to features [b, d] and class probabilities [b, k] or None.
        card: card of the extractor.
        batch: patches in a batch.

    Raises:
        InputError: the features do not fit the card.
    """
    with torch.inference_mode():
        seen = [see(torch.from_numpy(patches[a : a + batch])) for a in range(0, len(patches), batch)]
    values = torch.cat([features for features, _ in seen]).double().cpu().numpy()
    classes = [found.double().cpu().numpy() for _, found in seen if found is not None]
    return Features(values, card, np.concatenate(classes) if classes else None)


def _check_window(window_hu: tuple[float, float]) -> None:
    if not window_hu[0] < window_hu[1]:
        raise InputError("window", f"{window_hu[0]:g} to {window_hu[1]:g} HU", "low < high")
