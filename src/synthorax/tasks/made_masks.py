"""Masks of made nodules, by a small segmenter that learns on the real nodules of the same store.

It lies here and not in a system, because every generator of patches needs it. It learns on windows of at most
`WINDOW_MM` at random offsets, a third of them without a nodule: in a store of cubes the nodule is always in the middle,
and a network that sees nothing else learns the middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
from synthorax.makers import Samples, noting_last
from synthorax.patch import PatchSpec
from synthorax.seeding import generator
from synthorax.shapes.diameter import as_measured
from synthorax.tasks.networks.config import UNetConfig
from synthorax.tasks.networks.unet import UNet3d
from synthorax.tasks.segmentation import DICE_SMOOTHING

WIDTH = 4
"""Channels of the segmenter's first convolution, which gives .3 million weights, .6 MB in half precision."""
WINDOW_MM = 32.0
"""Width of the widest window that the segmenter learns on."""
MULTIPLE = 8
"""The voxels of a window are a multiple of this along each axis, as the network asks for."""
OFFSET = 0.4
"""Farthest that a nodule's centre lies from the middle of its window, as a share of the window's width."""
EMPTY_EVERY = 3
"""One of this many windows holds no nodule."""
SCALE = (0.9, 1.1)
"""Least and most magnification of a window."""
SHIFT_HU, MOST_ADDED_NOISE_HU = 20.0, 25.0
"""Standard deviation of the HU added to a window as a whole, and of the strongest noise added to its voxels: made
patches have the noise of no scanner."""
WINDOW_BATCH = 12
"""Windows of a training step."""
RATE, RISE, DECAY = 3e-3, 50, 1e-4
"""Greatest learning rate, the steps that it takes to rise there, and AdamW's weight decay."""
MIDDLE_MM = 4.0
"""A made nodule has a voxel at most this far from the middle of its patch."""
SEGMENTED_AT_ONCE = 16
"""Patches that go through the network together; the last group is padded, so a mask does not depend on its company."""


def new_segmenter() -> UNet3d:
    """Return a segmenter with weights from torch's global generator: [b, 1, z, y, x] within -1 to 1 to logits alike."""
    return UNet3d(UNetConfig(width=WIDTH, n_classes=1))


def new_optimizer(segmenter: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a segmenter, whose learning rate `segmenter_rate` gives."""
    return torch.optim.AdamW(segmenter.parameters(), lr=RATE, weight_decay=DECAY, fused=True)


def window_of(spec: PatchSpec) -> PatchSpec:
    """Return the windows to learn on: as large as the patches that will get masks, but at most `WINDOW_MM` wide.

    Raises:
        InputError: patches too small for the network, or so large voxels that a window has too few of them.
    """
    z, y, x = (
        min(n, int(WINDOW_MM / spacing)) // MULTIPLE * MULTIPLE
        for n, spacing in zip(spec.size, spec.spacing_mm, strict=True)
    )
    least = UNet3d.minimum_size
    if any(n < m for n, m in zip((z, y, x), least, strict=True)) or any(n % MULTIPLE for n in spec.size):
        found = f"patches of {spec.size} voxels of {spec.spacing_mm} mm"
        expected = f"{least} voxels or more (z, y, x) within {WINDOW_MM:g} mm, divisible by {MULTIPLE}, for a segmenter"
        raise InputError("size", found, f"{expected}; or segmenter_steps=0, which makes no masks")
    return replace(spec, size=(z, y, x))


@dataclass(frozen=True, eq=False)
class WindowBatches:
    """The windows of a training step, a function of the seed and the step.

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
        """Make the windows of a store's cases ready.

        Args:
            spec: of the patches whose nodules will get masks.
            size: windows of a batch.
            cache: where decoded patches are kept; the user's cache folder if not given.

        Raises:
            InputError: no nodule with an outline, or patches that the segmenter cannot take.
        """
        from synthorax.datasets.places import negative_places, nodule_places  # needs SciPy, which sampling does not

        window = window_of(spec)
        places = [place for place in nodule_places(cases) if place.nodule and place.nodule.label]
        if not places:
            found = "no training nodule of which a mask is known"
            raise InputError(store.path, found, "masks to learn from, or segmenter_steps=0, which makes no masks")
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
        """Exchange y and x in half of the windows, and shift and roughen the HU of all."""
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
    """Return the learning rate of a step: a short rise to `RATE`, then half a cosine down to 0."""
    return RATE * min(1.0, (step + 1) / RISE) * (1 + math.cos(math.pi * step / steps)) / 2


def segmenter_loss(logits: Float[Tensor, "b 1 z y x"], mask: Float[Tensor, "b 1 z y x"]) -> Tensor:
    """Return the cross-entropy of the voxels plus the mean soft Dice loss of the windows."""
    inside = logits.sigmoid()
    both, found, true = (values.sum((1, 2, 3, 4)) for values in (inside * mask, inside, mask))
    soft = (2 * both + DICE_SMOOTHING) / (found + true + DICE_SMOOTHING)
    return functional.binary_cross_entropy_with_logits(logits, mask) + (1 - soft).mean()


@torch.no_grad()
def nodule_voxels(network: nn.Module, patches: Float[Tensor, "n 1 z y x"]) -> NDArray[np.bool_]:
    """Return all voxels that the segmenter takes for a nodule's, bool [n, z, y, x].

    Args:
        patches: within -1 to 1, on the CPU.
    """
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    padded = torch.cat([patches, patches[:1].expand(-len(patches) % SEGMENTED_AT_ONCE, *patches.shape[1:])])
    try:
        found = [network(part.to(device)).float().cpu() > 0 for part in padded.split(SEGMENTED_AT_ONCE)]
    finally:
        network.train(was_training)
    voxels: NDArray[np.bool_] = torch.cat(found)[: len(patches), 0].numpy()
    return voxels


def nodule_in_the_middle(voxels: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the connected piece of a patch's voxels that is the made nodule, bool [z, y, x]; none if there is none.

    A generator puts its nodule in the middle. The nodule is the piece nearest to the middle, if that lies within
    `MIDDLE_MM`.
    """
    where = np.argwhere(voxels)
    apart_mm = np.linalg.norm((where - (np.array(voxels.shape) - 1) / 2) * spacing_mm, axis=1)
    if not len(where) or apart_mm.min() > MIDDLE_MM:
        return np.zeros_like(voxels)
    labels = cc3d.connected_components(voxels, connectivity=6)
    piece: NDArray[np.bool_] = labels == labels[tuple(where[apart_mm.argmin()])]
    return piece


def with_masks(samples: Samples, network: nn.Module) -> Samples:
    """Return samples of CT with the masks of their nodules, and with the diameters and centres of those masks.

    The mask of a sample is a function of its HU alone. A nodule in whose place the segmenter finds none keeps what is
    known of it, and has no voxels in the mask.

    Args:
        samples: each with at most one nodule, in the middle.
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


def noted(parts: Iterator[Samples]) -> Iterator[Samples]:
    """The parts of some samples, with a note on the last one if nodules were not found."""

    def count(part: Samples) -> tuple[int, int]:
        nodules = [nodule for own in part.nodules for nodule in own]
        return sum(not nodule.label for nodule in nodules), len(nodules)

    def tell(counted: list[tuple[int, int]]) -> tuple[str, ...]:
        missed, made = map(sum, zip(*counted, strict=True))
        told = f"{missed} of {made} nodules have no mask, as the segmenter found none in the middle"
        return (f"{told}; their diameters are not measured",) if missed else ()

    return noting_last(parts, count, tell)
