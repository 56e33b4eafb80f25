"""Phantom patients: procedural chests with nodules of real shapes, scanned; every truth about them is exact."""

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
"""Phantom patients of one store: at a megabyte each they fill a disk."""
FIELD_MM = 336.0
"""Width, depth and height of the scans; the lungs of most people fit."""
SPACING_MM = (1.5, 1.5, 1.5)
SLICE_MM, PIXEL_MM = (0.6, 2.5), (0.6, 0.9)
"""Voxels of scanners that vary (LUNA16 has such)."""
PHANTOM_DIAMETER_MM = (3.0, 30.0)
"""Diameters of a phantom's nodules; smaller ones are micronodules, larger ones masses."""
SITES: dict[Site, float] = {"lung": 0.65, "pleura": 0.25, "vessel": 0.1}
"""About where nodules of LIDC-IDRI are."""
KERNELS = ((0.75, 0.85), (0.5, 0.6), (0.35, 0.45))
"""Grain and blur in the slice, mm: soft, standard and sharp."""
PHANTOM_NOISE_HU = (12.0, 45.0)
"""Range of the noise's standard deviation."""
MOST_MEAN = 50.0
PHANTOM_CLEARANCE = Clearance(wall_mm=1.0, vessel_mm=None, nodule_mm=5.0)
"""Distances that a phantom's nodules in the lung keep from other things."""
TRIES = 4
PERFECT = Scanner(blur_mm=(0.0, 0.0), noise_hu=0.0)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A phantom patient.

    Attributes:
        ct: int16 HU, scanned.
        mask: uint8, a label a nodule, as a reader would outline it.
        nodules: with the attributes that they were made with.
        chest: all else that is true of it, without the nodules.
        scanner: what it was scanned with.
    """

    ct: Volume
    mask: Volume
    nodules: tuple[Nodule, ...]
    chest: Chest
    scanner: Scanner

    @property
    def tissue(self) -> NDArray[np.uint8]:
        """The `TissueClass` of every voxel [z, y, x], the nodules in it."""
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
    """The phantom patient of a seed.

    Args:
        spacing_mm: (z, y, x); a scanner of the seed's own if None.
        shape: voxels along (z, y, x); as many as hold the lungs if not given.
        nodules: mean number of nodules; it is drawn.
        patients: of LIDC-IDRI, whose outlines may be used; all if not given.

    Raises:
        InputError: a spacing or number that makes no scan.
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
        raise InputError("nodules", f"{nodules:g}", f"0 to {MOST_MEAN:g} in the mean")


def truth_of_lungs(chest: Chest) -> Lungs:
    """The lungs of a chest as they are."""
    masks = (chest.lobes > 0, chest.airways, chest.body)
    return Lungs(chest.hu, *(replace(chest.hu, voxels=mask) for mask in masks))


def _wanted(chest: Chest, count: int, seed: int, patients: Sequence[str] | None) -> list[Wanted]:
    """Nodules with the sizes and ratings of real ones, in places where they are found."""
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
                continue  # too large for what is left of these lungs
            wanted.append(Wanted(place, NoduleAttributes(**like.ratings)))
            break
    return wanted


@dataclass(frozen=True)
class PhantomSource:
    """A phantom patient as a source of a store.

    Shapes come from LIDC patients of the phantom's own split, so that no outline is in two of them.

    Attributes:
        seed: of the store; anatomy and scanner of a number are the same in a larger one, its nodules if its split is.
        fractions: of LIDC's patients in train, val and test.
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
        """Unique in the store."""
        return f"phantom-{self.number:04d}"

    @property
    def key(self) -> str:
        """All that the case is made from."""
        return repr(self)

    def patients(self) -> list[str]:
        """Of LIDC-IDRI, whose outlines it may use."""
        return list(split_patients(dict.fromkeys(lidc_patients()), self.fractions, self.seed)[self.split])

    def read(self) -> Case:
        """The case."""
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
        """Whether the lungs end within the scan."""
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
    """So many phantom patients, dealt out to train, val and test.

    Raises:
        InputError: no scan asked for, fewer nodules than none, or fractions that are no shares of one.
    """
    if not 1 <= count <= MOST_PHANTOMS:
        raise InputError("scans", str(count), "1 or more" if count < 1 else f"at most {MOST_PHANTOMS}")
    _check_mean(nodules)
    ids = [f"phantom-{i:04d}" for i in range(count)]
    splits = split_patients(dict.fromkeys(ids), fractions, seed)
    split_of = {patient: split for split in SPLITS for patient in splits[split]}
    return [
        PhantomSource(i, seed, split_of[name], spacing_mm, shape, nodules, tuple(fractions))
        for i, name in enumerate(ids)
    ]
