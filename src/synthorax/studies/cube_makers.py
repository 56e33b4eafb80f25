"""Makers of cubes of CT, as the studies see them: generative systems, and rendering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.io.atomic import atomic_file
from synthorax.makers import Edit, Method, fill
from synthorax.nodule import NoduleAttributes, widest_mm
from synthorax.parallel import map_processes
from synthorax.provenance import fingerprint
from synthorax.seeding import derive, generator
from synthorax.systems.ac_wgan.system import POSITIVE, AcWgan
from synthorax.tasks.classification import cts
from synthorax.tasks.config import TaskConfig
from synthorax.training.devices import make_fabric
from synthorax.volume import Volume

NEGATIVE = 1 - POSITIVE
OF_PATCHES = ("size", "spacing_mm", "window_hu")
"""Settings in which a model's cubes have to be like a task's patches."""


class CubeMaker(Protocol):
    """What the studies ask of a maker of cubes with a nodule in the middle.

    Attributes:
        attributes: those of a nodule that it heeds.
    """

    attributes: tuple[str, ...]

    def made(self, asked: Sequence[NoduleAttributes], seed: int) -> NDArray[np.int16]:
        """Cubes [n, z, y, x] in HU, one for each set of attributes."""
        ...


@dataclass(frozen=True, eq=False)
class AcWganCubes:
    """The AC-WGAN-GP as a `CubeMaker`."""

    system: AcWgan
    sha256: str

    @property
    def attributes(self) -> tuple[str, ...]:
        """What its generator is told."""
        return self.system.config.attributes

    @property
    def has_negatives(self) -> bool:
        """Whether it learned patches without a nodule."""
        return self.system.config.negatives

    def made(self, asked: Sequence[NoduleAttributes], seed: int) -> NDArray[np.int16]:
        """Cubes [n, z, y, x] in HU, one for each set of attributes."""
        return self.system.sample(len(asked), seed, asked).hu

    def selected(self, asked: Sequence[NoduleAttributes], seed: int) -> NDArray[np.int16]:
        """The same, each made anew until it passes the selection; those that never do are left out.

        Raises:
            InputError: a model without a threshold.
        """
        return self.system.selected(len(asked), seed, asked).hu

    def negatives(self, n: int, seed: int) -> NDArray[np.int16]:
        """Cubes without a nodule."""
        return self.system.sample(n, seed, positive=False).hu

    def confidence(self, patches: PatchDataset) -> NDArray[np.float64]:
        """Probability of a nodule by the critic's class head, [n]."""
        classes = np.concatenate([self.system.judge(ct).classes.softmax(1).numpy() for ct in cts(patches)])
        return classes[:, POSITIVE].astype(np.float64)


def cube_maker(model: Model, store: Store, config: TaskConfig, device: str = "cpu") -> AcWganCubes:
    """A model, on a device, as the maker of a study's cubes.

    Raises:
        InputError: a system that makes none, cubes that are not the task's, no threshold to select samples by, or
            training patients among those that the study measures or selects on.
    """
    if not isinstance(model.system, AcWgan):
        raise InputError("model", f"a model of {model.system.name}", "one that makes cubes of CT, as ac-wgan")
    own = model.system.config
    for name in OF_PATCHES:
        if getattr(own, name) != getattr(config, name):
            raise InputError("model", f"cubes with {name} {getattr(own, name)}", f"the task's {getattr(config, name)}")
    check_unseen(model, store)
    model.system.check_selects()
    model.system.move(make_fabric(device).device)
    return AcWganCubes(model.system, model.sha256)


def check_unseen(model: Model, store: Store) -> None:
    """Refuse a model that learned from patients whom a study holds out, or that does not tell from whom.

    Raises:
        InputError: it did, or does not.
    """
    if not model.seen:
        raise InputError("model", "no patients in its data.json", "one that tells from whom it learned")
    if leaked := sorted(model.seen & held_out_patients(store)):
        found = f"training with {len(leaked)} patients who are held out here, such as {leaked[0]}"
        raise InputError("model", found, "one trained on this store, or on other patients")


def held_out_patients(store: Store) -> set[str]:
    """Patients of validation and test, and those whose outlines are in phantoms of them."""
    return _patients(store, "val") | _patients(store, "test")


def _patients(store: Store, split: str) -> set[str]:
    nodules = [nodule for case in store.in_split(split) for nodule in case.nodules]
    return set(store.splits[split]) | {nodule.extra.get("shape_origin", "") for nodule in nodules} - {""}


def outline_patients(store: Store) -> list[str]:
    """LIDC's patients who are in training, or whose outlines are; where none is, all who are not held out.

    So rendering knows no more patients than what is trained beside it.
    """
    train, held_out = _patients(store, "train"), held_out_patients(store)
    own = [patient for patient in lidc_patients() if patient in train - held_out]
    return own or [patient for patient in lidc_patients() if patient not in held_out]


def nodules_of(train: PatchDataset, n: int, seed: int) -> list[NoduleAttributes]:
    """Attributes of the training set's nodules that the patches show whole, drawn anew, n of them.

    Raises:
        InputError: no nodule of a known diameter that the patches show whole.
    """
    widest = widest_mm(train.spec.size, train.spec.spacing_mm)
    known = [each for each in with_diameter(train) if (each.diameter_mm or 0) <= widest]
    if not known:
        raise InputError("training nodules", f"none with a diameter up to {widest:g} mm", "one or more")
    return [known[i] for i in generator(seed, "attributes").integers(len(known), size=n)]


def too_wide(train: PatchDataset) -> str:
    """A sentence on the training nodules that `nodules_of` leaves out; empty if there are none."""
    widest, known = widest_mm(train.spec.size, train.spec.spacing_mm), with_diameter(train)
    wider = sum((each.diameter_mm or 0) > widest for each in known)
    told = f"{wider} of {len(known)} training nodules are wider than the {widest:g} mm that a patch shows whole"
    return f"{told}; made nodules are not asked to be like them." if wider else ""


def with_diameter(patches: PatchDataset) -> list[NoduleAttributes]:
    """Attributes of the nodules whose diameter is known."""
    nodules = [place.nodule.attributes for place in patches.places if place.nodule is not None]
    return [attributes for attributes in nodules if attributes.diameter_mm]


@dataclass(frozen=True, eq=False)
class RenderedCubes:
    """Nodules rendered into patches without one, as a `CubeMaker`.

    Attributes:
        backgrounds: of whose patches those of `NEGATIVE` are drawn.
    """

    method: Method
    backgrounds: PatchDataset

    attributes: tuple[str, ...] = ("diameter_mm", "texture")

    def made(self, asked: Sequence[NoduleAttributes], seed: int) -> NDArray[np.int16]:
        """Cubes [n, z, y, x] in HU, one for each set of attributes."""
        patches = self.backgrounds
        rows = generator(seed, "backgrounds").choice(np.flatnonzero(patches.labels == NEGATIVE), len(asked))
        hu = patches.spec.to_hu(patches.rows(rows.tolist())["ct"][:, 0]).numpy()
        jobs = [(hu[i], each, derive(seed, "rendered", i)) for i, each in enumerate(asked)]
        return np.stack(list(map_processes(_Rendered(self.method, patches.spec.spacing_mm), jobs)))


@dataclass(frozen=True)
class _Rendered:
    """A picklable function: a background, attributes and a seed to a cube with a rendered nodule."""

    method: Method
    spacing_mm: tuple[float, float, float]

    def __call__(self, job: tuple[NDArray[np.float32], NoduleAttributes, int]) -> NDArray[np.int16]:
        hu, asked, seed = job
        patch = Volume(hu, self.spacing_mm)
        filled = fill(self.method, patch, np.ones(patch.shape, bool), Edit("inject", asked), seed)
        return np.rint(filled.hu).astype(np.int16)


def kept_cubes(file: Path, make: Callable[[], NDArray[np.int16]]) -> NDArray[np.int16]:
    """Cubes [n, z, y, x] from a file, which is made if it is not there or cannot be read.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        cubes = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary, open(temporary, "wb") as stream:
        np.lib.format.write_array(stream, cubes)
    return cubes


def key_of(cubes: NDArray[np.int16]) -> str:
    """The hash of cubes."""
    return fingerprint(np.ascontiguousarray(cubes).tobytes())
