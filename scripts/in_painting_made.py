"""Nodules that methods add at the sites of held-out patients: made once, and measured by several figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from known_sites import SEED, kept
from pasted_nodules import PASTED, Pasted
from rendering_measures import CUBE_HU, MM, Made, Pairs
from rendering_sites import SIZE, Job, Real
from synthorax import hub
from synthorax.datasets.lineage import check_unseen
from synthorax.datasets.store import Store
from synthorax.editing.learned import Learned
from synthorax.errors import InputError
from synthorax.makers import Method
from synthorax.metrics.appearance import Nodules
from synthorax.nodule import NoduleAttributes, malignancy_of
from synthorax.provenance import fingerprint, making_key
from synthorax.region import Region
from synthorax.seeding import generator
from synthorax.studies.in_painting import RealNodules
from synthorax.studies.painted import HealthySite, Painted, painted
from synthorax.studies.patch_makers import rendering
from synthorax.volume import Volume

RENDER = "render"
PATCH = (40, 40, 40)
"""Width in voxels of the patches that are kept; the widest edit region has a radius of 17 mm."""
CLASSES = {"benign": 1.0, "malignant": 5.0}
"""Requested ratings of malignancy."""
SMALL, SMALL_MM = 200, 4.0
"""Number and diameter of small nodules that are made to see whether noise hides any."""
SOURCE = Path(hub.__file__).parent
CODE = ("editing", "rendering", "systems", "nn", "training", "anatomy", "shapes", "scanner.py", "geometry.py")
"""Parts of the package that make nodules; if they change, nodules are made again under another key."""


@dataclass(frozen=True, eq=False)
class Places:
    """Sites of held-out patients, each with the real nodule whose attributes are requested there.

    Attributes:
        every: all real nodules.
        jobs: numbers of the nodules, and their sites.
    """

    every: Sequence[Real]
    jobs: Sequence[Job]

    @cached_property
    def pairs(self) -> Pairs:
        """Real nodules and places."""
        return Pairs.of(self.every, self.jobs)

    @cached_property
    def training(self) -> list[Real]:
        """Outlined nodules of training patients."""
        return [real for real in self.every if real.split == "train" and real.outlined]

    @cached_property
    def real(self) -> RealNodules:
        """All outlined nodules, with which synthetic ones are compared."""
        reals = [real for real in self.every if real.outlined]
        nodules = Nodules(_middles([real.hu for real in reals]), _middles([real.outline for real in reals]), MM)
        return RealNodules(nodules, [real.attributes for real in reals], np.array([real.patient for real in reals]))

    def sites(
        self, rows: Sequence[int], asked: Sequence[NoduleAttributes], *, outlined: bool = False
    ) -> list[HealthySite]:
        """Return some of the sites, and the nodules to add there.

        Args:
            outlined: whether a nodule should have the outline of the real one.
        """
        found = []
        for i, one in zip(rows, asked, strict=True):
            (z, y, x), cube = self.jobs[i].center, self.every[self.jobs[i].cube]
            at = (float(x), float(y), float(z))
            outline = self.outline(i) if outlined else None
            found.append(HealthySite(Volume(cube.hu, MM), at, one, cube.patient, outline))
        return found

    def outline(self, row: int) -> Region:
        """Return the outline of a site's real nodule, moved to the site."""
        own = Region.of(self.every[self.jobs[row].real].outline)
        return own.moved(np.array(self.jobs[row].center) - own.indices().mean(0).round().astype(int))

    def asked(self, rows: Sequence[int], names: Sequence[str] = ()) -> list[NoduleAttributes]:
        """Return attributes of the real nodules of some sites: all, or the diameter and those of some names."""
        found = [self.every[self.jobs[i].real].attributes for i in rows]
        if not names:
            return found
        return [NoduleAttributes(**{n: v for n, v in each.given().items() if n in names}) for each in found]


def _middles(cubes: Sequence[NDArray]) -> NDArray:
    """Return the central patches of size `PATCH` of cubes, [n, z, y, x]."""
    start = [(n - m) // 2 for n, m in zip(cubes[0].shape, PATCH, strict=True)]
    box = tuple(slice(a, a + m) for a, m in zip(start, PATCH, strict=True))
    return np.stack([cube[box] for cube in cubes])


def named_methods(asked: Sequence[str], store: Store, places: Places) -> dict[str, Method]:
    """Return the methods by their names; the control is the last.

    Args:
        asked: `NAME=MODEL` or a model: `render`, a bundled model's name or a run folder, whose system names it.

    Raises:
        InputError: two methods have the same name, or a method was trained on a held-out patient.
    """
    found: dict[str, Method] = {}
    for text in asked:
        name, _, what = text.rpartition("=")
        method = rendering(store) if what == RENDER else cast(Method, hub.find(what, "injects"))
        check_unseen(method.lineage, store)
        name = name or (what if not Path(what).exists() else method.name)
        if name in found or name == PASTED:
            raise InputError("--method", f"{name} twice", "NAME=MODEL, with a name of its own for each")
        found[name] = method
    control = Pasted(places.training)
    check_unseen(control.lineage, store)
    return {**found, PASTED: cast(Method, control)}


@dataclass(frozen=True, eq=False)
class Making:
    """The nodules of one method at the places, kept in a folder.

    Attributes:
        name: name of the method on the page.
        rows: numbers of the sites at which both seeds and both classes are made; each has another real nodule.
    """

    name: str
    method: Method
    places: Places
    rows: Sequence[int]
    folder: Path

    @cached_property
    def twins(self) -> Painted:
        """Make at each site a nodule with all attributes of the real one, with and without the scan's noise."""
        every = range(len(self.places.jobs))
        return self._painted("twins", every, self.places.asked(every), (0,), bare=True)

    @cached_property
    def seeds(self) -> Painted:
        """Make at some sites two nodules of the real one's diameter and texture; for the control two real ones."""
        asked = self.places.asked(self.rows, ("diameter_mm", "texture"))
        found = self._painted("seeds", self.rows, asked, (0, 1))
        return _of_two_nodules(found) if self.name == PASTED else found

    def of_class(self, name: str, *, own_diameters: bool = False) -> Painted:
        """Make at some sites nodules of a class.

        Args:
            name: name of the class, one of `CLASSES`.
            own_diameters: whether diameters are drawn from the training nodules of the class; else they are those of
                the real nodules, equal for both classes.
        """
        asked = self.places.asked(self.rows, ("diameter_mm",))
        if own_diameters:
            widths = class_diameters(self.places.every, name)
            drawn = generator(SEED, "diameters", name).choice(widths, len(asked)).tolist()
            asked = [NoduleAttributes(diameter_mm=mm) for mm in drawn]
        asked = [replace(each, malignancy=CLASSES[name]) for each in asked]
        return self._painted(f"{name}{'-own' if own_diameters else ''}", self.rows, asked, (0,))

    def of_texture(self, texture: float) -> Painted:
        """Make at some sites nodules of a texture, with the diameters of the real nodules."""
        asked = [replace(each, texture=texture) for each in self.places.asked(self.rows, ("diameter_mm",))]
        return self._painted(f"texture-{texture:g}", self.rows, asked, (0,))

    def small(self) -> Painted:
        """Make `SMALL` nodules of `SMALL_MM`, requested by diameter only, with several seeds at few sites."""
        every = range(len(self.places.jobs))
        seeds = range(-(-SMALL // len(every)))
        made = self._painted("small", every, [NoduleAttributes(SMALL_MM)] * len(every), seeds)
        chosen = generator(SEED, "small").permutation(len(made.sites))[:SMALL]
        return made.rows(np.sort(chosen))

    @cached_property
    def outlined_rows(self) -> list[int]:
        """Return the numbers of those of `rows` whose real nodule has an outline."""
        return [i for i in self.rows if self.places.every[self.places.jobs[i].real].outlined]

    def outlined(self) -> Painted:
        """Make nodules given the outlines and diameters of the real ones of `outlined_rows`."""
        rows = self.outlined_rows
        return self._painted("outlined", rows, self.places.asked(rows, ("diameter_mm",)), (0,), outlined=True)

    def shown(self, name: str, rows: Sequence[int], seeds: Sequence[int]) -> Painted:
        """Make nodules of a class for a picture."""
        asked = [replace(each, malignancy=CLASSES[name]) for each in self.places.asked(rows, ("diameter_mm",))]
        return self._painted(f"shown-{name}", rows, asked, seeds)

    def _painted(
        self,
        what: str,
        rows: Sequence[int],
        asked: Sequence[NoduleAttributes],
        seeds: Sequence[int],
        *,
        bare: bool = False,
        outlined: bool = False,
    ) -> Painted:
        jobs = [self.places.jobs[i] for i in rows]
        content = [self._key, repr([(job.cube, job.center) for job in jobs]), repr(asked), repr(list(seeds)), str(bare)]
        if outlined:
            content += [fingerprint(self.places.outline(i).indices().tobytes()) for i in rows]
        key = fingerprint("\n".join(content).encode())[:16]
        without = self.method.without_noise() if bare and isinstance(self.method, Learned) else None
        sites = self.places.sites(rows, asked, outlined=outlined)
        return kept(
            self.folder / f"{self.name}-{what}-{key}.pickle",
            lambda: painted(self.method, sites, seeds, PATCH, bare=cast(Method, without)),
        )

    @cached_property
    def _key(self) -> str:
        """A key of the method and of the code that makes nodules."""
        code = code_of(CODE, ("pasted_nodules",) if self.name == PASTED else ())
        return fingerprint(code + making_key(self.method).encode())


def code_of(parts: Sequence[str], scripts: Sequence[str] = ()) -> bytes:
    """Return the text of modules and rooms of the package, and of scripts beside this one."""
    files = [file for part in parts for file in sorted([SOURCE / part, *(SOURCE / part).rglob("*.py")])]
    files += [Path(__file__).with_name(f"{name}.py") for name in scripts]
    return b"".join(file.read_bytes() for file in files if file.is_file())


def _of_two_nodules(made: Painted) -> Painted:
    """Return the patches of those sites at which the seeds pasted different nodules."""
    rows = [np.flatnonzero(made.sites == site) for site in np.unique(made.sites)]
    differ = [own for own in rows if len(own) > 1 and (made.masks[own] != made.masks[own[0]]).any()]
    return made.rows(np.concatenate(differ))


def class_diameters(reals: Sequence[Real], name: str) -> list[float]:
    """Return diameters of the training nodules of a class, from readers' outlines."""
    wanted = list(CLASSES).index(name)
    train = [real for real in reals if real.split == "train" and malignancy_of(real.nodule) == wanted]
    return [round(real.asked_mm, 2) for real in train]


def common_rows(makings: Sequence[Making]) -> list[int]:
    """Return the sites at which every method made a nodule."""
    there = [set(making.twins.sites.tolist()) for making in makings]
    return sorted(set.intersection(*there))


def made_twins(making: Making, rows: Sequence[int]) -> Made:
    """Return the nodules of some sites, as patches of `SIZE` voxels, in the order of the sites."""
    twins = making.twins
    order = {site: k for k, site in enumerate(twins.sites.tolist())}
    chosen = twins.rows(np.array([order[row] for row in rows]))
    hu, masks = (chosen.around(each, (SIZE,) * 3) for each in (chosen.after, chosen.masks))
    there = np.ones(len(rows), bool)
    return Made(hu.clip(*CUBE_HU).astype(np.int16), masks, there, np.array([""] * len(rows)))
