"""Masks of generated nodules, by a small segmenter that is trained on the real nodules of the same store.

Every generator of patches uses it. It is trained on windows of at most `WINDOW_MM` at random offsets from a nodule, a
third of them without a nodule. If the nodule were always in the middle, as in a store of cubes, the network would learn
to mark the middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cc3d
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError
from synthorax.makers import Samples
from synthorax.nn.modes import evaluating
from synthorax.patch import PatchSpec
from synthorax.seeding import generator
from synthorax.shapes.diameter import as_measured
from synthorax.tasks.networks.config import UNetConfig
from synthorax.tasks.networks.unet import UNet3d
from synthorax.tasks.segmentation import DICE_SMOOTHING

WIDTH = 4
"""Channels of the segmenter's first convolution, with which it has 0.3 million weights, 0.6 MB in float16."""
WINDOW_MM = 32.0
"""Largest width of a training window."""
MULTIPLE = 8
"""The network needs windows whose voxels are a multiple of this along each axis."""
OFFSET = 0.4
"""Largest distance of a nodule's centre from the middle of its window along each axis, in widths of the window."""
EMPTY_EVERY = 3
"""One window in this many holds no nodule."""
SCALE = (0.9, 1.1)
"""Least and greatest magnification of a window."""
SHIFT_HU, MOST_ADDED_NOISE_HU = 20.0, 25.0
"""Standard deviation of the HU that are added to a window as a whole, and of the strongest noise that is added to its
voxels; generated patches do not have a scanner's noise."""
WINDOW_BATCH = 12
"""Windows of a training step."""
RATE, RISE, DECAY = 3e-3, 50, 1e-4
"""Greatest learning rate, steps over which the rate rises to it, and weight decay of AdamW."""
MIDDLE_MM = 4.0
"""A generated nodule has a voxel within this distance of the middle of its patch."""
SEGMENTED_AT_ONCE = 16
"""Patches that go through the network together. The last group is padded to this number, so that a mask does not depend
on the number of patches."""


def new_segmenter() -> UNet3d:
    """Return a segmenter with weights from torch's global generator.

    It maps patches [b, 1, z, y, x] within -1 to 1 to logits of the same shape.
    """
    return UNet3d(UNetConfig(width=WIDTH, n_classes=1))


def new_optimizer(segmenter: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a segmenter; `segmenter_rate` gives the learning rate of each step."""
    return torch.optim.AdamW(segmenter.parameters(), lr=RATE, weight_decay=DECAY, fused=True)


def window_of(spec: PatchSpec) -> PatchSpec:
    """Return the training windows: as large as the patches that will get masks, but at most `WINDOW_MM` wide.

    Raises:
        InputError: the patches are too small for the network, or a window has too few voxels.
    """
    z, y, x = (
        min(n, int(WINDOW_MM / spacing)) // MULTIPLE * MULTIPLE
        for n, spacing in zip(spec.size, spec.spacing_mm, strict=True)
    )
    least = UNet3d.minimum_size
    if any(n < m for n, m in zip((z, y, x), least, strict=True)) or any(n % MULTIPLE for n in spec.size):
        found = f"patches of {spec.size} voxels of {spec.spacing_mm} mm"
        expected = f"at least {least} voxels (z, y, x) within {WINDOW_MM:g} mm, divisible by {MULTIPLE}, for masks"
        raise InputError("size", found, f"{expected}; or `segmenter_steps=0` for a model without masks")
    return replace(spec, size=(z, y, x))


@dataclass(frozen=True, eq=False)
class WindowBatches:
    """The windows of each training step, which depend on the seed and the step alone.

    Attributes:
        nodules: windows around outlined nodules.
        others: windows without a nodule; None if the store has none.
        size: windows of a batch.
    """

    nodules: PatchDataset
    others: PatchDataset | None
    size: int

    @classmethod
    def of(
        cls,
        store: Store,
        cases: Sequence[CaseEntry],
        spec: PatchSpec,
        seed: int,
        *,
        size: int = WINDOW_BATCH,
        cache: Path | None = None,
    ) -> WindowBatches:
        """Return the windows of a store's cases.

        Args:
            store: store of scans.
            cases: cases of the store, for training.
            spec: grid and HU window of the patches whose nodules will get masks.
            seed: seed of the windows.
            size: windows of a batch.
            cache: folder in which decoded patches are kept; the user's cache folder if not given.

        Raises:
            InputError: no nodule has an outline, or the segmenter cannot take the patches.
        """
        from synthorax.datasets.places import negative_places, outlined_places  # needs SciPy, which sampling does not

        window = window_of(spec)
        places = outlined_places(cases)
        if not places:
            expected = "masks to train on, or `segmenter_steps=0` for a model without masks"
            raise InputError(store.path, "no training nodule with a mask", expected)
        varied = Augmentation(shift_voxels=OFFSET * min(window.size), scale=SCALE)
        nodules = PatchDataset(store, places, window, augmentation=varied, seed=seed, cache=cache)
        empty = negative_places(store, cases, window, len(places), seed, cache=cache)
        others = PatchDataset(store, empty, window, seed=seed, cache=cache) if empty else None
        return cls(nodules, others, size)

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return ct, float32 [b, 1, z, y, x] within -1 to 1, and mask, float32 [b, 1, z, y, x] of 0 and 1."""
        n_empty = self.size // EMPTY_EVERY if self.others is not None else 0
        parts = [self.nodules.batch(step, self.size - n_empty)]
        if self.others is not None and n_empty:
            parts.append(self.others.batch(step, n_empty))
        ct, mask = (torch.cat([part[name] for part in parts]) for name in ("ct", "mask"))
        return self._varied(ct, mask, generator(self.nodules.seed, "segmenter windows", step))

    def _varied(self, ct: Tensor, mask: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Exchange y and x in half of the windows, and add an offset and noise to the HU of all."""
        spec = self.nodules.spec
        if spec.size[1] == spec.size[2] and spec.spacing_mm[1] == spec.spacing_mm[2]:
            turned = torch.from_numpy(rng.random(len(ct)) < 0.5)[:, None, None, None, None]
            ct, mask = torch.where(turned, ct.mT, ct), torch.where(turned, mask.mT, mask)
        a_window = (len(ct), 1, 1, 1, 1)
        shift = rng.normal(0, SHIFT_HU, a_window)
        noise = rng.uniform(0, MOST_ADDED_NOISE_HU, a_window) * rng.standard_normal(ct.shape)
        hu = spec.to_hu(ct) + torch.from_numpy((shift + noise).astype(np.float32))
        return {"ct": spec.to_unit(hu), "mask": mask}


def segmenter_rate(step: int, steps: int) -> float:
    """Return the learning rate of a step: a rise to `RATE` over `RISE` steps, times half a cosine down to 0."""
    return RATE * min(1.0, (step + 1) / RISE) * (1 + math.cos(math.pi * step / steps)) / 2


def segmenter_loss(logits: Float[Tensor, "b 1 z y x"], mask: Float[Tensor, "b 1 z y x"]) -> Tensor:
    """Return the cross-entropy of voxels plus the mean soft Dice loss of windows."""
    inside = logits.sigmoid()
    both, found, true = (values.sum((1, 2, 3, 4)) for values in (inside * mask, inside, mask))
    soft = (2 * both + DICE_SMOOTHING) / (found + true + DICE_SMOOTHING)
    return functional.binary_cross_entropy_with_logits(logits, mask) + (1 - soft).mean()


@torch.no_grad()
def nodule_voxels(network: nn.Module, patches: Float[Tensor, "n 1 z y x"]) -> NDArray[np.bool_]:
    """Return the voxels that the segmenter takes for nodule, bool [n, z, y, x].

    Args:
        network: the segmenter.
        patches: within -1 to 1, on the CPU.
    """
    device = next(network.parameters()).device
    padded = torch.cat([patches, patches[:1].expand(-len(patches) % SEGMENTED_AT_ONCE, *patches.shape[1:])])
    with evaluating(network):
        found = [network(part.to(device)).float().cpu() > 0 for part in padded.split(SEGMENTED_AT_ONCE)]
    voxels: NDArray[np.bool_] = torch.cat(found)[: len(patches), 0].numpy()
    return voxels


def nodule_in_the_middle(voxels: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the connected piece of a patch's voxels that is the generated nodule, bool [z, y, x].

    It is the piece nearest to the middle, where a generator puts its nodule. If no piece is within `MIDDLE_MM` of the
    middle, no voxel is marked.

    Args:
        voxels: voxels that the segmenter marks as nodule, bool [z, y, x].
        spacing_mm: voxel size (z, y, x).
    """
    where = np.argwhere(voxels)
    apart_mm = np.linalg.norm((where - (np.array(voxels.shape) - 1) / 2) * spacing_mm, axis=1)
    if not len(where) or apart_mm.min() > MIDDLE_MM:
        return np.zeros_like(voxels)
    labels = cc3d.connected_components(voxels, connectivity=6)
    piece: NDArray[np.bool_] = labels == labels[tuple(where[apart_mm.argmin()])]
    return piece


def with_masks(samples: Samples, network: nn.Module) -> Samples:
    """Return CT samples with masks of their nodules, and with the diameters and centres of these masks.

    The mask of a sample depends on its HU alone. If the segmenter finds no nodule in the middle, the nodule keeps its
    attributes and has no voxels in the mask.

    Args:
        samples: each with at most one nodule, in the middle.
        network: the segmenter.
    """
    unit = samples.spec.to_unit(samples.ct.astype(np.float32))
    found = nodule_voxels(network, torch.from_numpy(unit)[:, None])
    masks = np.zeros(samples.ct.shape, np.uint8)
    nodules = []
    for mask, voxels, own in zip(masks, found, samples.nodules, strict=True):
        piece = nodule_in_the_middle(voxels, samples.spec.spacing_mm)
        measured = own and piece.any()
        nodules.append((as_measured(own[0], piece, samples.spec.spacing_mm),) if measured else own)
        mask[:] = piece if measured else 0
    return replace(samples, arrays={**samples.arrays, "mask": masks}, nodules=tuple(nodules))
