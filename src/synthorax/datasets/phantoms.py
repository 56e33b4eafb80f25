"""Phantom patients: simulated scans of procedural chests with nodules of real shapes and exact ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.placement import Clearance, Placement, Site
from synthorax.anatomy.tissue import TissueClass, tissue_classes
from synthorax.annotations.lidc_table import draw_reading, lidc_patients
from synthorax.datasets.splits import FRACTIONS, split_patients
from synthorax.datasets.store import SPLITS, Case, Split
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.errors import InputError
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.phantom.chest import Chest, make_chest
from synthorax.phantom.scan import scan
from synthorax.provenance import Origin
from synthorax.region import regions_of
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcOutlines
from synthorax.scanner import Scanner
from synthorax.seeding import derive, generator
from synthorax.volume import Volume

MOST_PHANTOMS = 100_000
"""Most phantom patients of one store; at about a megabyte each, more would fill a disk."""
FIELD_MM = 336.0
"""Width, depth and height of the scans in mm, enough for the lungs of most people."""
SPACING_MM = (1.5, 1.5, 1.5)
SLICE_MM, PIXEL_MM = (0.6, 2.5), (0.6, 0.9)
"""Ranges in mm of slice spacing and pixel size if every phantom has its own scanner, similar to those in LUNA16."""
PHANTOM_DIAMETER_MM = (3.0, 30.0)
"""Range in mm of the diameters of nodules; smaller ones are micronodules, larger ones masses."""
SITES: dict[Site, float] = {"lung": 0.65, "pleura": 0.25, "vessel": 0.1}
"""Shares of nodules at each site, roughly those of LIDC-IDRI."""
KERNELS = ((0.75, 0.85), (0.5, 0.6), (0.35, 0.45))
"""Grain of the noise and blur in the slice, in mm, of soft, standard and sharp kernels."""
PHANTOM_NOISE_HU = (12.0, 45.0)
"""Range of the noise's standard deviation in HU."""
MOST_MEAN = 50.0
PHANTOM_CLEARANCE = Clearance(wall_mm=1.0, vessel_mm=None, nodule_mm=5.0)
"""Distances that a phantom's nodules in the lung keep from walls and other nodules."""
TRIES = 4
PERFECT = Scanner(blur_mm=(0.0, 0.0), noise_hu=0.0)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A phantom patient.

    Attributes:
        ct: the simulated scan, int16 HU.
        mask: one label for each nodule, with the voxels that a reader would outline, uint8.
        nodules: the nodules, with the attributes with which they were made.
        chest: ground truth of the chest without the nodules.
        scanner: the simulated scanner.
    """

    ct: Volume
    mask: Volume
    nodules: tuple[Nodule, ...]
    chest: Chest
    scanner: Scanner

    @property
    def tissue(self) -> NDArray[np.uint8]:
        """`TissueClass` of every voxel, nodules included, [z, y, x]."""
        classes = tissue_classes(self.chest.tissues)
        classes[self.mask.voxels > 0] = TissueClass.NODULE
        return classes


def make_phantom(
    seed: int,
    *,
    spacing_mm: tuple[float, float, float] | None = SPACING_MM,
    shape: tuple[int, int, int] | None = None,
    nodules: float = 2.5,
    patients: Sequence[str] | None = None,
) -> Phantom:
    """Make the phantom patient of a seed.

    Args:
        seed: seed of chest, scanner and nodules.
        spacing_mm: voxel size (z, y, x); None to draw it.
        shape: voxels (z, y, x); by default enough for the lungs.
        nodules: mean of the number of nodules, which is drawn.
        patients: LIDC-IDRI patients whose outlines may be used; by default all.

    Raises:
        InputError: a spacing, a shape or the number of nodules is out of range.
    """
    _check_mean(nodules)
    random = generator(seed, "phantom")
    grain, blur = KERNELS[int(random.integers(len(KERNELS)))]
    own = (float(random.uniform(*SLICE_MM)), *(float(random.uniform(*PIXEL_MM)),) * 2)
    noise, count = float(random.uniform(*PHANTOM_NOISE_HU)), int(random.poisson(nodules))
    spacing = spacing_mm or own
    size = shape or tuple(round(FIELD_MM / s) for s in spacing)
    scanner = Scanner((max(0.4 * spacing[0], 0.5), blur), noise, grain, 0.4 * spacing[0])
    chest = make_chest(derive(seed, "chest"), shape=size, spacing_mm=spacing)  # type: ignore[arg-type]
    wanted = _wanted(chest, count, derive(seed, "nodules"), patients)
    renderer = Renderer(LidcOutlines(patients), PERFECT)
    edited = inject_nodules(chest.hu, wanted, renderer, derive(seed, "render"), lungs=truth_of_lungs(chest))
    ct = scan(edited.ct, chest.body, scanner, derive(seed, "scan"))
    return Phantom(ct, edited.mask, edited.nodules, chest, scanner)


def _check_mean(nodules: float) -> None:
    if not 0 <= nodules <= MOST_MEAN:
        raise InputError("nodules", f"{nodules:g}", f"a mean number from 0 to {MOST_MEAN:g}")


def truth_of_lungs(chest: Chest) -> Lungs:
    """Return the true lungs of a chest."""
    masks = (chest.lobes > 0, chest.airways, chest.body)
    return Lungs(chest.hu, *(replace(chest.hu, voxels=mask) for mask in masks))


def _wanted(chest: Chest, count: int, seed: int, patients: Sequence[str] | None) -> list[Wanted]:
    """Draw nodules with the sizes and ratings of real ones, and places for them at the `SITES`."""
    placement = Placement(truth_of_lungs(chest)) if count and chest.lobes.any() else None
    wanted: list[Wanted] = []
    for i in range(count if placement else 0):
        for attempt in range(TRIES):
            own = derive(seed, i, attempt)
            like = draw_reading(NoduleAttributes(), own, patients)
            diameter = float(np.clip(like.diameter_mm, *PHANTOM_DIAMETER_MM))
            site = generator(own, "site").choice(list(SITES), p=list(SITES.values()))
            try:
                assert placement is not None
                place = placement.find(diameter, own, site=str(site), clearance=PHANTOM_CLEARANCE)  # type: ignore[arg-type]
            except InputError:
                continue  # no room for this nodule
            wanted.append(Wanted(place, NoduleAttributes(**like.ratings)))
            break
    return wanted


@dataclass(frozen=True)
class PhantomSource:
    """A phantom patient as the source of a case.

    Nodule shapes come from LIDC-IDRI patients of the phantom's own split, so that no outline is in two splits.

    Attributes:
        number: number of the phantom in its store.
        seed: seed of the store. In a larger store with the same seed, a phantom of the same number has the same anatomy
            and scanner, and the same nodules if it is in the same split.
        split: split of the phantom.
        spacing_mm, shape, nodules: see `make_phantom`.
        fractions: shares of LIDC-IDRI's patients in train, val and test.
    """

    number: int
    seed: int
    split: Split
    spacing_mm: tuple[float, float, float] | None
    shape: tuple[int, int, int] | None
    nodules: float
    fractions: tuple[float, ...] = FRACTIONS

    @property
    def case_id(self) -> str:
        """Name of the case and of its patient, which no phantom of another seed has."""
        return f"phantom-s{self.seed}-{self.number:04d}" if self.seed else f"phantom-{self.number:04d}"

    @property
    def key(self) -> str:
        """Text that identifies everything from which the case is made."""
        return repr(self)

    def patients(self) -> list[str]:
        """Return the LIDC-IDRI patients whose outlines it may use."""
        return list(split_patients(dict.fromkeys(lidc_patients()), self.fractions, self.seed)[self.split])

    def read(self) -> Case:
        """Make the case."""
        seed = derive(self.seed, "phantom", self.number)
        made = make_phantom(
            seed, spacing_mm=self.spacing_mm, shape=self.shape, nodules=self.nodules, patients=self.patients()
        )
        notes = () if self.fits(made.chest) else ("the lungs reach beyond the scan",)
        return Case(
            case_id=self.case_id,
            patient_id=self.case_id,
            ct=made.ct,
            regions=tuple(regions_of(made.mask.voxels, range(1, len(made.nodules) + 1))),
            nodules=made.nodules,
            annotated="all",
            split=self.split,
            synthetic=Origin("phantom", "", seed).mark,
            notes=notes,
            tissue=made.tissue,
        )

    @staticmethod
    def fits(chest: Chest) -> bool:
        """Return whether the lungs of a chest lie within its scan."""
        lung = chest.lobes > 0
        return not any(lung.take(end, axis).any() for axis in range(3) for end in (0, -1))


def phantom_sources(
    count: int,
    seed: int,
    *,
    spacing_mm: tuple[float, float, float] | None = SPACING_MM,
    shape: tuple[int, int, int] | None = None,
    nodules: float = 2.5,
    fractions: Sequence[float] = FRACTIONS,
) -> list[PhantomSource]:
    """Return the sources of `count` phantom patients, distributed over train, val and test.

    Args:
        count: number of phantoms.
        seed: seed of the store.
        spacing_mm, shape, nodules: see `make_phantom`.
        fractions: shares of train, val and test.

    Raises:
        InputError: the number of phantoms or nodules is out of range, or the fractions do not add up to 1.
    """
    if not 1 <= count <= MOST_PHANTOMS:
        raise InputError("scans", str(count), "1 or more" if count < 1 else f"at most {MOST_PHANTOMS}")
    _check_mean(nodules)
    ids = [f"phantom-{i:04d}" for i in range(count)]  # the same for every seed: splits are drawn by them
    splits = split_patients(dict.fromkeys(ids), fractions, seed)
    split_of = {patient: split for split in SPLITS for patient in splits[split]}
    return [
        PhantomSource(i, seed, split_of[name], spacing_mm, shape, nodules, tuple(fractions))
        for i, name in enumerate(ids)
    ]
