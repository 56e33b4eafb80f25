"""Removes a nodule from a patch of a scan with a trained eraser."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from synthorax.editing.learned import GridFill, Learned
from synthorax.errors import InputError
from synthorax.makers import Edit, Lineage, Role
from synthorax.systems.eraser.system import Eraser
from synthorax.training.precision import of_sampling


class EraserMethod(Learned):
    """A `Method` around a trained eraser."""

    def __init__(self, system: Eraser, lineage: Lineage) -> None:
        self._system = system
        heeds, roles = frozenset({"diameter_mm"}), frozenset[Role]({"erases"})
        super().__init__(self._erased, system.config.view, name=system.name, lineage=lineage, heeds=heeds, roles=roles)

    def _erased(self, hu: NDArray[np.float32], region: NDArray[np.bool_], edit: Edit, seed: int) -> GridFill:
        """Remove the nodule at the centre of a VOI; the nodule's mask, if known, is an input of the network.

        Args:
            hu: VOI in HU, [z, y, x].
            region: voxels that may change, [z, y, x].
            edit: the nodule to remove.
            seed: not used, because the eraser has no noise.

        Raises:
            InputError: the nodule is smaller than a voxel of the VOI.
        """
        config, spec = self._system.config, self._system.config.view.of_nodule(edit.diameter_mm)
        if edit.diameter_mm < max(spec.spacing_mm):
            least = max(spec.spacing_mm)
            expected = f"at least {least:g} mm, the width of a voxel of {self.name}"
            raise InputError("diameter", f"{edit.diameter_mm:g} mm", expected)
        ball = (2 * spec.distances_mm() <= config.ball_mm(edit.diameter_mm, spec)) & region
        mask = np.zeros(spec.size, bool) if edit.mask is None else edit.mask
        patch = spec.to_unit(hu.astype(np.float32))
        seen, given = (torch.from_numpy(each)[None, None] for each in (patch, mask.astype(np.float32)))
        made = self._system.erased(seen, given, of_sampling("auto", config.precision, self._system.device.type))
        return GridFill(np.where(ball, spec.to_hu(made.numpy()), hu))
