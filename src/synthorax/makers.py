"""The contract of everything that makes voxels: a maker, its samples and its edits. No torch here.

A system implements one or more roles. A `Generator` makes samples from nothing, a `Streams` whole scans slab by slab, a
`Method` edits a patch of a scan, a `Painter` paints CT from label maps of tissues, a `Judge` says how sure it is that
patches hold a nodule. The verbs, the studies and the editing of scans know these types alone, and never which system
stands behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from synthorax.errors import InputError
from synthorax.lineage import Lineage as Lineage
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.volume import Volume

Role = Literal["makes shapes", "makes patches", "makes scans", "injects", "erases", "paints", "judges"]
"""What a maker can do. The first two are roles of a `Generator`, the third of a `Streams`, then two of a `Method`, one
of a `Painter` and one of a `Judge`."""
EditKind = Literal["inject", "erase"]
Array = Literal["ct", "mask", "occupancy"]
Asked = tuple[NoduleAttributes, ...]
"""The nodules asked of one sample: none, one, or several where a maker makes whole scans."""


class Options(BaseModel):
    """The options of a system's sampling or editing, beside the nodules' attributes; the verbs make flags of them.

    A system's `config.Options` inherits this class. Every field has a default, and the docstring's `Attributes`
    section is its help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def given(self) -> dict[str, Any]:
        """Return the options that were given, by name; those left at their defaults are not among them."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def told(self) -> dict[str, Any]:
        """Return how samples are drawn with these options, as a manifest tells it: files without their folders."""
        return {name: as_told(value) for name, value in self.given().items()}


def as_told(value: Any) -> Any:
    """Return an option as a manifest tells it: a file by its name, as its folders tell of the machine.

    What JSON cannot hold, such as a maker or a volume, is told by its name or its type.
    """
    if isinstance(value, tuple | list):
        return [as_told(each) for each in value]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, str | Path):
        return Path(value).name
    return value if isinstance(value, int | float | None) else getattr(value, "name", type(value).__name__)


Chosen = TypeVar("Chosen", bound=Options)


def options_of(options: Options | None, kind: type[Chosen], name: str) -> Chosen:
    """Return options of a system's own class; its defaults if none are given.

    Raises:
        InputError: options of another class.
    """
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise InputError("options", f"a {type(options).__name__}", f"the {kind.__name__} of {name}")
    return options


@dataclass(frozen=True)
class Names:
    """Marks an option, by `Annotated`, that may name a model: the model's maker of that role is put in its place.

    A value that is an image's path, or no path, stays as it is.

    Attributes:
        words: values that name no model.
    """

    role: Role
    words: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a generator, or a part of them; every sequence has an entry a sample.

    Attributes:
        arrays: [n, z, y, x]. `ct`: int16 HU. `mask`: uint8, the label of each voxel's nodule, 0 outside. `occupancy`:
            float32 from 0 to 1, the share of a voxel that a shape fills; its surface at one half is the mesh.
        index: int64 [n], the number of the sample in its seed.
        asked: the nodules as they were asked for.
        nodules: the nodules as they are: label in the mask, centre in millimetres of the patch, whose first voxel
            lies at (0, 0, 0), and attributes. `extra["diameter_is"]` says where the diameter comes from: `measured`
            on the mask, or, without one, `asked`, `told` to the network, or `judged` by it.
        details: whatever else the manifest tells of a sample, as JSON can hold it.
        spec: grid of the samples.
        notes: what came out otherwise than it was asked for.
        tried: samples that were made for these; more than there are where a selection threw some away.
        arithmetic: what has to be the same to make the same bits again, such as the samples computed at once.
    """

    arrays: Mapping[Array, NDArray[Any]]
    index: NDArray[np.int64]
    asked: tuple[Asked, ...]
    nodules: tuple[tuple[Nodule, ...], ...]
    details: tuple[Mapping[str, Any], ...]
    spec: PatchSpec
    lineage: Lineage
    notes: tuple[str, ...] = ()
    tried: int = 0
    arithmetic: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = {len(self.index), len(self.asked), len(self.nodules), len(self.details)}
        shapes = {np.shape(array)[1:] for array in self.arrays.values()}
        if rows | set(map(len, self.arrays.values())) != {len(self.index)} or not shapes <= {self.spec.size}:
            found = {name: np.shape(array) for name, array in self.arrays.items()}
            raise InputError("samples", f"{sorted(rows)} rows, arrays {found}", f"rows alike, {self.spec.size} voxels")

    def __len__(self) -> int:
        return len(self.index)

    @property
    def ct(self) -> NDArray[np.int16]:
        """HU [n, z, y, x]; raises KeyError for shapes."""
        return self.arrays["ct"]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The voxels of nodules, bool [n, z, y, x]; raises KeyError for patches of a maker without masks."""
        inside: NDArray[np.bool_] = self.arrays["mask"] > 0
        return inside

    def rows(self, rows: NDArray[Any]) -> Samples:
        """Some of the samples, by their positions or by a bool [n]."""
        chosen = np.arange(len(self))[rows].tolist()
        return replace(
            self,
            arrays={name: array[chosen] for name, array in self.arrays.items()},
            index=self.index[chosen],
            asked=tuple(self.asked[i] for i in chosen),
            nodules=tuple(self.nodules[i] for i in chosen),
            details=tuple(self.details[i] for i in chosen),
            tried=len(chosen),
        )

    @staticmethod
    def joined(parts: Iterable[Samples]) -> Samples:
        """Several parts as one; notes that say the same are kept once.

        Raises:
            InputError: no part.
        """
        parts = list(parts)
        if not parts:
            raise InputError("samples", "none", "one or more")
        first = parts[0]
        return replace(
            first,
            arrays={name: np.concatenate([part.arrays[name] for part in parts]) for name in first.arrays},
            index=np.concatenate([part.index for part in parts]),
            asked=tuple(one for part in parts for one in part.asked),
            nodules=tuple(one for part in parts for one in part.nodules),
            details=tuple(one for part in parts for one in part.details),
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
            tried=sum(part.tried for part in parts),
        )


Counted = TypeVar("Counted")


def noting_last(
    parts: Iterable[Samples], count: Callable[[Samples], Counted], tell: Callable[[list[Counted]], tuple[str, ...]]
) -> Iterator[Samples]:
    """Give the parts of some samples, with notes on the last one that only all of them together can tell.

    Args:
        count: what the notes need to know of a part.
        tell: the notes, by what was counted of each part.
    """
    counted: list[Counted] = []
    last: Samples | None = None
    for part in parts:
        counted.append(count(part))
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield replace(last, notes=(*last.notes, *tell(counted)))


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of a scan that is asked for.

    Attributes:
        kind: put a nodule in, or take one out.
        nodule: attributes wanted of the new nodule, or known of the one that is there; the diameter is always given.
        mask: bool [z, y, x] on the voxels of the patch: the nodule that is there, or the one that is to be made, by
            methods that are told shapes, which have a `takes_outlines` that is true; None where it is not known.
    """

    kind: EditKind
    nodule: NoduleAttributes
    mask: NDArray[np.bool_] | None = None

    @property
    def diameter_mm(self) -> float:
        """The nodule's diameter.

        Raises:
            InputError: none is given.
        """
        if self.nodule.diameter_mm is None:
            raise InputError("nodule", "no diameter", "a diameter in mm")
        return self.nodule.diameter_mm


@dataclass(frozen=True, eq=False)
class Filled:
    """A patch after an edit.

    Attributes:
        hu: float32 [z, y, x].
        mask: bool [z, y, x], the new nodule's voxels as a reader would outline them; None after an erasure.
        attributes: the nodule's: those that were asked for, and those that the method chose.
        outline: the patient whose outline or label map the nodule started from, as its source names the patient;
            empty where there is none. A test set must not hold that patient.
        notes: what came out otherwise than it was asked for.
    """

    hu: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    attributes: NoduleAttributes
    outline: str = ""
    notes: tuple[str, ...] = ()


class Maker(Protocol):
    """Anything that makes voxels.

    Attributes:
        name: of its system, as the verbs call it.
        lineage: whose data stands behind it.
        heeds: attributes of a nodule that it listens to; asking for another one is refused.
        roles: the protocols of this module that it fulfils.
    """

    name: str
    lineage: Lineage
    heeds: frozenset[str]
    roles: frozenset[Role]


class Generator(Maker, Protocol):
    """Makes samples from nothing: nodule shapes (`occupancy`, `mask`), or patches of CT (`ct`, and `mask` if it can).

    Attributes:
        makes_empty: whether a patch without a nodule, `()`, may be asked for.
        selects: whether it can select samples by a judgement of its own (`select`).
        spec: grid of the samples.

    A class that inherits it makes no empty patches and selects nothing, unless it says otherwise.
    """

    makes_empty: bool = False
    selects: bool = False
    spec: PatchSpec

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make a sample for each entry of `asked`, in parts that fit the memory.

        Sample i depends on `seed`, `asked[i]`, `options` and i alone, unless `options` says otherwise.

        Args:
            asked: for each sample the nodules it is to hold.
            options: of the system's own class; its defaults if not given.

        Raises:
            InputError: attributes that it does not heed or cannot make, or options that do not fit; at the call,
                before the first part.
        """
        ...

    def select(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make samples anew until each passes the maker's own selection; those that never do are left out.

        Raises:
            InputError: as `sample`; or a maker that does not select.
        """
        raise InputError("selection", f"{self.name}, which selects nothing", "a maker that selects its samples")


@dataclass(frozen=True, eq=False)
class ScanStream:
    """A scan that is made slab by slab, while its slabs are asked for.

    Attributes:
        shape: voxels (z, y, x) of the whole scan.
        spacing_mm: of its voxels (z, y, x).
        slabs: HU, int16 [n, y, x], of neighbouring axial slices, from the feet up; together the whole scan, once.
        details: whatever else the manifest tells of the scan, as JSON can hold it.
        arithmetic: what has to be the same to make the same bits again, such as the slices computed at once.
        notes: what came out otherwise than it was asked for.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    slabs: Iterator[NDArray[np.int16]]
    details: Mapping[str, Any] = field(default_factory=dict)
    arithmetic: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def grid(self) -> Volume:
        """The geometry of the scan; its voxels are 0 and take no memory."""
        return Volume(np.broadcast_to(np.int16(0), self.shape), self.spacing_mm)

    def checked(self) -> Iterator[NDArray[np.int16]]:
        """Give the slabs, and see that they are what was said.

        Raises:
            InputError: slabs of other voxels, or fewer or more slices than the scan has.
        """
        z, y, x = self.shape
        made = 0
        for slab in self.slabs:
            made += len(slab)
            if slab.dtype != np.int16 or slab.shape[1:] != (y, x) or made > z:
                raise InputError("slab", f"{slab.dtype} {slab.shape}", f"int16 slices of {y} x {x}, {z} in all")
            yield slab
        if made != z:
            raise InputError("scan", f"{made} slices", f"{z}")

    def whole(self) -> Volume:
        """Make the scan in memory.

        Raises:
            InputError: as `checked`.
        """
        voxels = np.empty(self.shape, np.int16)
        made = 0
        for slab in self.checked():
            voxels[made : made + len(slab)] = slab
            made += len(slab)
        return replace(self.grid(), voxels=voxels)


class Streams(Maker, Protocol):
    """Makes whole scans slab by slab, in memory that does not follow their depth.

    Attributes:
        nodules_known: `all` where it is known that its scans have no nodule, such as those of a model whose training
            scans had none; `none-known` where they may have some.
    """

    nodules_known: Literal["all", "none-known"]

    def scan(self, index: int, seed: int, options: Options | None = None) -> ScanStream:
        """Begin the scan of a number in a seed, which depends on both and on `options` alone.

        Args:
            options: of the system's own class; its defaults if not given.

        Raises:
            InputError: options that do not fit; at the call, before the first slab.
        """
        ...


class Method(Maker, Protocol):
    """Edits patches of CT: puts a nodule in, takes one out, or both, as its roles say."""

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Tell how far an edit reaches, in millimetres from its middle.

        Returns:
            Half the width of the patch that the method wants to see, and the radius of the ball that it may change.
        """
        ...

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Do edits in the middle of patches; each result depends on its own patch, region, edit and seed alone.

        Args:
            patches: HU [z, y, x], on the voxels of their scans.
            regions: bool [z, y, x], where each patch may change; elsewhere it stays bit for bit.
        """
        ...


@runtime_checkable
class Painter(Maker, Protocol):
    """Paints CT from label maps of tissues, window by window; `editing.painting` puts the windows together.

    Attributes:
        spacing_mm: of the voxels that it paints (z, y, x).
        smallest: voxels (z, y, x) of the smallest window.
        largest: voxels (z, y, x) of the largest window; every size between the two will do.
        overlap: voxels (z, y, x) by which neighbouring windows overlap at least.
        context: slices before and after a window that it wants to see.
        codes: classes of `anatomy.tissue.TissueClass` that it has learned.
    """

    spacing_mm: tuple[float, float, float]
    smallest: tuple[int, int, int]
    largest: tuple[int, int, int]
    overlap: tuple[int, int, int]
    context: int
    codes: frozenset[int]

    def paint(self, labels: Volume, at_voxel: tuple[int, int, int], seed: int) -> Volume:
        """Paint a window of a label map.

        What is drawn for a voxel depends on `seed` and on its own place in the whole map alone, so that overlapping
        windows have the same texture.

        Args:
            labels: uint8 [z + 2 * context, y, x] of `anatomy.tissue.TissueClass`, at the painter's spacing.
            at_voxel: index (z, y, x) in the whole map of the first voxel that is painted.

        Returns:
            HU, float32 [z, y, x], with the place of those voxels.
        """
        ...


class Judge(Maker, Protocol):
    """Says how sure it is that patches hold a nodule."""

    spec: PatchSpec

    def judge(self, hu: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return the probability of a nodule [n] in patches [n, z, y, x] of HU on its grid."""
        ...


def fill(method: Method, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
    """Do one edit in the middle of a patch.

    Raises:
        InputError: a method whose result is not what `Filled` promises; names the method.
    """
    found = method.fill_many([patch], [region], [edit], [seed])
    if len(found) != 1:
        raise InputError(method.name, f"{len(found)} results of one edit", "a result for each edit")
    filled = found[0]
    if filled.hu.shape != patch.shape or not np.isfinite(filled.hu).all():
        raise InputError(method.name, f"voxels {filled.hu.shape} of a patch", f"finite HU, {patch.shape}")
    if edit.kind == "inject" and (filled.mask is None or (filled.mask.shape, filled.mask.dtype) != (patch.shape, bool)):
        found_mask = "no mask" if filled.mask is None else f"a mask {filled.mask.shape} of {filled.mask.dtype}"
        raise InputError(method.name, f"{found_mask} of an injected nodule", f"bool, {patch.shape}")
    return filled


_GENERATOR = ("makes_empty", "selects", "spec", "sample", "select")
_METHOD = ("reach_mm", "fill_many")
_PAINTER = ("spacing_mm", "smallest", "largest", "overlap", "context", "codes", "paint")
PARTS: Mapping[Role, tuple[str, ...]] = {
    "makes shapes": _GENERATOR,
    "makes patches": _GENERATOR,
    "makes scans": ("nodules_known", "scan"),
    "injects": _METHOD,
    "erases": _METHOD,
    "paints": _PAINTER,
    "judges": ("spec", "judge"),
}
"""What a maker of each role must have; more is tested by the contract tests."""


def check_maker(maker: object, roles: Iterable[Role]) -> Maker:
    """Refuse a maker that does not have what its roles ask for.

    Raises:
        InputError: names what is missing.
    """
    names = ["name", "lineage", "heeds", "roles"]
    names += [name for role in roles for name in PARTS[role]]
    if missing := [name for name in dict.fromkeys(names) if not hasattr(maker, name)]:
        where = f"{type(maker).__module__}.{type(maker).__name__}"
        raise InputError(where, f"no {', '.join(missing)}", f"a maker that {' and '.join(sorted(roles))}")
    made = cast(Maker, maker)
    if not set(roles) <= set(made.roles):
        raise InputError(
            made.name, f"a maker that {' and '.join(sorted(made.roles))}", f"one that {' and '.join(roles)}"
        )
    return made


def check_heeds(maker: Maker, asked: Iterable[NoduleAttributes]) -> None:
    """Refuse attributes that a maker does not listen to.

    Raises:
        InputError: names the attribute and those that the maker heeds.
    """
    for one in asked:
        for name, value in one.given().items():
            if name not in maker.heeds:
                known = ", ".join(sorted(maker.heeds)) or "none"
                raise InputError(name, f"{value:g}, which {maker.name} does not heed", f"attributes it heeds: {known}")
