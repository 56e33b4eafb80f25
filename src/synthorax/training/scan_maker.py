"""Makes scans with a trained GAN of whole scans."""

from __future__ import annotations

from synthorax.makers import Lineage, NodulesKnown, Options, Role, ScanStream, Streams, options_of
from synthorax.training.precision import of_sampling
from synthorax.training.scan_gan import ScanGan, ScanRequest


class ScanMaker(Streams):
    """A `Streams` around a trained `ScanGan`."""

    heeds: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset({"makes scans"})

    def __init__(self, system: ScanGan, lineage: Lineage) -> None:
        self.name = system.name
        self.lineage = lineage
        self.nodules_known: NodulesKnown = "all" if system.known.without == 1 else "none-known"
        self._system = system

    def scan(self, index: int, seed: int, options: Options | None = None) -> ScanStream:
        """Begin a scan. Its width in mm is that of a training scan drawn by the seed; the options set its voxels.

        Args:
            index: number of the scan among those of the seed.
            seed: seed of the noise and the draw.
            options: options of the system's `sampling` class; None takes their defaults.

        Raises:
            InputError: the options are of another class, or ask for nodules that the model cannot give.
        """
        system = self._system
        chosen = options_of(options, system.sampling, self.name)
        row = system.row_of(seed, system.like_scan(index, chosen), chosen.nodules)
        size = system.size_of(chosen)
        precision = of_sampling(chosen.precision, system.config.precision, system.device.type)
        given = {} if chosen.nodules is None else {"nodules_told": chosen.nodules}
        return ScanStream(
            shape=size,
            spacing_mm=system.spacing_of(row, size),
            slabs=system.slabs(ScanRequest(seed, index, row, size, chosen, precision)),
            details={"index": index, **given},
            arithmetic={**system.arithmetic, "precision": precision},
        )
