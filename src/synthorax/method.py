"""What a way to make nodules has to offer, so that a scan can be edited with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthorax.nodule import NoduleAttributes
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class Filled:
    """A patch with a nodule in it.

    Attributes:
        hu: float32 [z, y, x].
        mask: bool [z, y, x], the nodule's voxels as a reader would outline them.
        attributes: what was asked for, and what the method chose where nothing was.
        shape_origin: whose outline it started from, if any; a patient whom a test set must not have.
    """

    hu: NDArray[np.float32]
    mask: NDArray[np.bool_]
    attributes: NoduleAttributes
    shape_origin: str = ""


class Method(Protocol):
    """A way to make a nodule in a patch of CT.

    Attributes:
        model_sha256: hash of its weights; empty if it has none.
    """

    name: str
    model_sha256: str

    def context_mm(self, condition: NoduleAttributes) -> float:
        """Half the width of the patch that it wants to see for such a nodule."""
        ...

    def region_mm(self, condition: NoduleAttributes) -> float:
        """Radius of the ball that such a nodule may change."""
        ...

    def fill(self, patch: Volume, region: NDArray[np.bool_], condition: NoduleAttributes, seed: int) -> Filled:
        """The patch with a nodule in its middle.

        Args:
            patch: HU [z, y, x], on the voxels of the scan.
            region: bool [z, y, x], where it will be changed.
            condition: a diameter, and whatever else is wanted.
        """
        ...
