"""The translation as a maker: a `Painter` of label maps, and a `Generator` of whole volumes painted from some."""

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
"""Voxels (z, y, x) of the largest window of a painter without statistics over a window."""
SLICES_AT_ONCE = 16
"""Slices that a painter of slices paints together."""
WINDOW_OVERLAP = 16
"""Voxels by which windows overlap along an axis that is longer than one of them."""
HU_LIMITS = (-1024.0, 3071.0)
"""Range of HU that a scan of 12 bits stores; other values are clipped to it."""


class TranslationPainter(Painter, Generator):
    """Paints label maps by a trained painter, and samples volumes; see `makers.Painter` and `makers.Generator`."""

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
            known.add(int(TissueClass.OUTSIDE))  # of one code
        self.codes = frozenset(known)
        self._system = system
        self._painter = system.best_painter.eval()
        self._precision = of_sampling("auto", config.precision, system.device.type)

    def paint(self, labels: Volume, at_voxel: tuple[int, int, int], seed: int) -> Volume:
        """Paint a window; classes that were never learned are painted as soft tissue, and what is outside as air.

        Raises:
            InputError: a window smaller than the smallest or larger than the largest.
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
        """Paint a volume for each entry of `asked`, with its nodule in the middle.

        The nodule's shape is that of a training nodule, and the anatomy a phantom's, if `options` does not say
        otherwise.

        Args:
            options: `TranslationOptions`.

        Raises:
            InputError: several nodules in a volume, attributes other than the diameter, shapes or label maps that
                there are not.
        """
        chosen = options_of(options, TranslationOptions, self.name)
        check_heeds(self, [nodule for nodules in asked for nodule in nodules])
        sampler = VolumeSampler.of(self, self.spec, self._system.templates, self._system.config.phantom_mm, chosen)
        return sampler.samples(asked, seed, chosen.without)

    def _known(self, tissue: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The classes as they are shown to the painter, and the voxels outside, if it has learned of none."""
        table = np.arange(len(TissueClass), dtype=np.uint8)
        for own in TissueClass:
            if own not in self.codes:
                table[own] = TissueClass.OTHER if own is TissueClass.OUTSIDE else TissueClass.SOFT
        is_outside = tissue == TissueClass.OUTSIDE
        return table[tissue], is_outside if TissueClass.OUTSIDE not in self.codes else np.zeros_like(is_outside)

    def _padded(self, tissue: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The window with its last voxels repeated up to the sizes that the networks take."""
        config = self._system.config
        more = [-n % (WINDOW_MULTIPLE * config.fold) for n in tissue.shape]
        if config.by_slices:
            more[0] = 0
        return np.pad(tissue, [(0, n) for n in more], mode="edge")

    def _of_volume(self, tissue: NDArray[np.uint8], start: list[int], seed: int) -> NDArray[np.float32]:
        """A window from -1 to 1, [z, y, x]."""
        noise, mask_noise = self._noise(tissue.shape, start, seed)
        labels = coded(
            self._tensor(tissue)[None], self._system.config, None if mask_noise is None else mask_noise[None]
        )
        made = self._system.painted(self._painter, labels, None if noise is None else noise[None])
        return made[0, 0].cpu().numpy()

    def _of_slices(self, tissue: NDArray[np.uint8], start: list[int], seed: int) -> NDArray[np.float32]:
        """The slices of a window between its context from -1 to 1, [z, y, x]."""
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
        """White noise [n, z, y, x] beside the label map, and the uniform noise [z, y, x] of masks."""
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
