"""The flags for automatic placement, shared by all verbs that put nodules in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cyclopts import Parameter

from synthorax.anatomy.placement import Clearance, Site
from synthorax.cli.options import PLACING_FLAGS


@Parameter(name="*", group=PLACING_FLAGS)
@dataclass(kw_only=True, frozen=True)
class Placing:
    """Where nodules are placed automatically.

    Parameters
    ----------
    site
        Place nodules in the lung, attached to the pleura, or attached to a vessel.
    wall_mm
        Distance in mm to keep from chest wall, mediastinum and diaphragm; negative for no limit.
    vessel_mm
        Distance in mm to keep from vessels of about 2 mm or more; negative for no limit.
    nodule_mm
        Distance in mm to keep from other nodules; negative for no limit.
    """

    site: Site = "lung"
    wall_mm: float = 2.0
    vessel_mm: float = 0.0
    nodule_mm: float = 5.0

    def given(self) -> dict[str, Any]:
        """Return `site` and `clearance`, the arguments of the functions that place nodules."""
        distances = (None if mm < 0 else mm for mm in (self.wall_mm, self.vessel_mm, self.nodule_mm))
        return {"site": self.site, "clearance": Clearance(*distances)}
