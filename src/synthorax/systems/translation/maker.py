"""The translation as a maker: a `Painter`, which turns label maps into CT, and a `Generator` of whole volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from synthorax.anatomy.tissue import TissueClass
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.makers import (
    Asked,
    Generator,
    Lineage,
    Options,
    Painter,
    Role,
    Samples,
    check_heeds,
    options_of,
)
from synthorax.patch import PatchSpec
from synthorax.seeding import voxel_noise
from synthorax.systems.translation.coding import coded
from synthorax.systems.translation.config import WINDOW_MULTIPLE, TranslationOptions
from synthorax.systems.translation.sampling import VolumeSampler
from synthorax.systems.translation.system import Translation
from synthorax.training.precision import of_sampling
from synthorax.volume import Volume

LARGEST = (64, 128, 128)
"""Voxels (z, y, x) of the largest window of a painter without a norm over the window."""
SLICES_AT_ONCE = 16
"""Slices in one window of a painter that works on slices."""
WINDOW_OVERLAP = 16
"""Voxels by which two windows overlap, along an axis that is longer than a window."""
HU_LIMITS = (-1024.0, 3071.0)
"""Range of HU of a scan with 12 bits; other values are clipped to it."""


class TranslationPainter(Painter, Generator):
    """Paints label maps with a trained painter, and samples volumes; see `makers.Painter` and `makers.Generator`.

    Args:
        system: the trained translation.
        lineage: the patients whose data it was trained on, and its ancestors.
    """

    heeds: frozenset[str] = frozenset({"diameter_mm"})
    roles: frozenset[Role] = frozenset({"paints", "makes patches"})
    makes_empty = True

    def __init__(self, system: Translation, lineage: Lineage) -> None:
        config = system.config
        self.name, self.lineage = system.name, lineage
        self.spec: PatchSpec = config.sample_spec
        self.spacing_mm, self.smallest = config.spacing_mm, config.size
        self.largest = config.size if config.as_published else LARGEST
        self.overlap = tuple(min(WINDOW_OVERLAP, n // 4) if n > 1 else 0 for n in config.size)  # type: ignore[assignment]
        if config.by_slices:
            self.largest = (SLICES_AT_ONCE, *self.largest[1:])
        self.context = config.slices // 2 if config.by_slices else 0
        known = {int(own) for own in TissueClass if system.facts["classes"][own] > 0}
        if config.as_published and TissueClass.OTHER in known:
            known.add(int(TissueClass.OUTSIDE))  # both have the same code
        self.codes = frozenset(known)
        self._system = system
        self._painter = system.best_painter.eval()
        self._precision = of_sampling("auto", config.precision, system.device.type)

    def paint(self, labels: Volume, at_voxel: tuple[int, int, int], seed: int) -> Volume:
        """Return CT for a window of a label map.

        A class that was not in the training data is painted as soft tissue; voxels outside the patient then become air.

        Args:
            labels: `TissueClass` of each voxel, with `context` further slices at both ends.
            at_voxel: index (z, y, x) of the window's first voxel in the whole label map, which selects the noise.
            seed: seed of the noise.

        Raises:
            InputError: the window is smaller than `smallest` or larger than `largest`.
        """
        shape = np.subtract(labels.shape, (2 * self.context, 0, 0))
        if (shape < self.smallest).any() or (shape > self.largest).any():
            raise InputError("window", f"{tuple(shape.tolist())} voxels", f"{self.smallest} to {self.largest}")
        tissue, outside = self._known(labels.voxels)
        padded = self._padded(tissue)
        start = np.subtract(at_voxel, (self.context, 0, 0)).tolist()
        with torch.no_grad(), self._system.autocast(self._precision):
            made = (
                self._of_slices(padded, start, seed)
                if self._system.config.by_slices
                else self._of_volume(padded, start, seed)
            )
        depth = slice(self.context, self.context + int(shape[0]))
        hu = self.spec.to_hu(made[: shape[0], : shape[1], : shape[2]]).clip(*HU_LIMITS)
        hu[outside[depth]] = AIR_HU
        x, y, z = labels.to_world((self.context, 0, 0)).tolist()
        return replace(labels, voxels=hu.astype(np.float32), origin_mm=(x, y, z))

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Paint a volume for each request, with the nodule at its centre.

        Unless `options` name other sources, the nodule's shape is that of a training nodule, and the label map is that
        of a phantom.

        Args:
            asked: request of each volume: one nodule, or none for a volume without a nodule.
            seed: seed of all random draws.
            options: `TranslationOptions`; None takes the defaults.

        Raises:
            InputError: several nodules are requested in a volume, or an attribute other than the diameter, or the
                shapes or label maps do not exist.
        """
        chosen = options_of(options, TranslationOptions, self.name)
        check_heeds(self, [nodule for nodules in asked for nodule in nodules])
        sampler = VolumeSampler.of(self, self.spec, self._system.templates, self._system.config.phantom_mm, chosen)
        return sampler.samples(asked, seed, chosen.without)

    def _known(self, tissue: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Replace classes that were not in the training data.

        Returns:
            The classes for the painter, and the voxels outside the patient that must become air, both [z, y, x]; none
            of them if the painter was trained on that class.
        """
        table = np.arange(len(TissueClass), dtype=np.uint8)
        for own in TissueClass:
            if own not in self.codes:
                table[own] = TissueClass.OTHER if own is TissueClass.OUTSIDE else TissueClass.SOFT
        is_outside = tissue == TissueClass.OUTSIDE
        return table[tissue], is_outside if TissueClass.OUTSIDE not in self.codes else np.zeros_like(is_outside)

    def _padded(self, tissue: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a window [z, y, x] padded with its last voxels to a size that the networks accept."""
        config = self._system.config
        more = [-n % (WINDOW_MULTIPLE * config.fold) for n in tissue.shape]
        if config.by_slices:
            more[0] = 0
        return np.pad(tissue, [(0, n) for n in more], mode="edge")

    def _of_volume(self, tissue: NDArray[np.uint8], start: list[int], seed: int) -> NDArray[np.float32]:
        """Return the CT of a window within -1 to 1, [z, y, x], from a painter that works on volumes."""
        noise, mask_noise = self._noise(tissue.shape, start, seed)
        labels = coded(
            self._tensor(tissue)[None], self._system.config, None if mask_noise is None else mask_noise[None]
        )
        made = self._system.painted(self._painter, labels, None if noise is None else noise[None])
        return made[0, 0].cpu().numpy()

    def _of_slices(self, tissue: NDArray[np.uint8], start: list[int], seed: int) -> NDArray[np.float32]:
        """Return the CT of a window within -1 to 1, [z, y, x], without the context slices, painted slice by slice."""
        config = self._system.config
        noise, mask_noise = self._noise(tissue.shape, start, seed)
        labels = coded(self._tensor(tissue)[None], config, None if mask_noise is None else mask_noise[None])[0]
        shown, drawn = (
            None if each is None else each.unfold(1, config.slices, 1).permute(1, 0, 4, 2, 3)
            for each in (labels, noise)
        )  # [slice, channel, neighbour, y, x]
        assert shown is not None
        made = self._system.painted(self._painter, shown, drawn)
        return made[:, 0].cpu().numpy()

    def _noise(
        self, shape: tuple[int, ...], start: list[int], seed: int
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the white noise [n, z, y, x] and the uniform noise of masks [z, y, x]; None if not configured."""
        config = self._system.config
        noise = None
        if config.noise:
            drawn = [voxel_noise(seed, start, shape, "painted", i) for i in range(config.noise)]
            noise = self._tensor(np.stack(drawn))
        if config.inputs != "mask-noise":
            return noise, None
        return noise, self._tensor(voxel_noise(seed, start, shape, "mask noise", uniform=True))

    def _tensor(self, values: NDArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._system.device)
