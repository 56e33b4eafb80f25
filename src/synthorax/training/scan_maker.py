"""A trained GAN of whole scans as a maker of them."""

from __future__ import annotations

from typing import Literal

from synthorax.makers import Lineage, Options, Role, ScanStream, Streams, options_of
from synthorax.training.precision import of_sampling
from synthorax.training.scan_gan import ScanGan, ScanRequest


class ScanMaker(Streams):
    """A `Streams` around a trained `ScanGan`."""

    heeds: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset({"makes scans"})

    def __init__(self, system: ScanGan, lineage: Lineage) -> None:
        self.name = system.name
        self.lineage = lineage
        self.nodules_known: Literal["all", "none-known"] = "all" if system.known.without == 1 else "none-known"
        self._system = system

    def scan(self, index: int, seed: int, options: Options | None = None) -> ScanStream:
        """Begin a scan; it is as large as a training scan drawn by the seed, in as many voxels as are asked for."""
        system = self._system
        chosen = options_of(options, system.sampling, self.name)
        row = system.row_of(seed, system.like_scan(index, chosen), chosen.nodules)
        size = system.size_of(chosen)
        precision = of_sampling(chosen.precision, system.config.precision, system.device.type)
        told = {} if chosen.nodules is None else {"nodules_told": chosen.nodules}
        return ScanStream(
            shape=size,
            spacing_mm=system.spacing_of(row, size),
            slabs=system.slabs(ScanRequest(seed, index, row, size, chosen, precision)),
            details={"index": index, **told},
            arithmetic={**system.arithmetic, "precision": precision},
        )
