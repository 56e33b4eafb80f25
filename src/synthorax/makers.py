"""The contract of everything that makes voxels: a maker, its samples and its edits. Does not import torch.

A system implements one or more roles. A `Generator` makes shapes or patches from noise. A `Streams` makes whole scans
slab by slab. A `Method` edits a patch of a scan. A `Painter` paints CT from label maps of tissues. A `Judge` gives the
probability that a patch holds a nodule. The verbs, the studies and the editing of scans use these types alone; they
never depend on the system behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from synthorax.errors import InputError, VoxelError
from synthorax.lineage import Lineage as Lineage
from synthorax.nodule import Nodule, NoduleAttributes, attribute_text
from synthorax.patch import PatchSpec
from synthorax.volume import Volume

Role = Literal["makes shapes", "makes patches", "makes scans", "injects", "erases", "paints", "judges"]
"""Tasks of makers. `makes shapes` and `makes patches` are roles of a `Generator`, `makes scans` of a `Streams`,
`injects` and `erases` of a `Method`, `paints` of a `Painter` and `judges` of a `Judge`."""
EditKind = Literal["inject", "erase"]
Array = Literal["ct", "mask", "occupancy"]
NodulesKnown = Literal["all", "none-known"]
"""What is known of the nodules in a maker's scans: `all` of them, so that scans without one are healthy; or none."""
Asked = tuple[NoduleAttributes, ...]
"""The nodules requested in one sample: none, one, or several in a maker's whole scans."""


class Options(BaseModel):
    """Options of a system's sampling or editing, beside the nodules' attributes.

    A system's `config.Options` inherits this class. The verbs make a flag of each field; its line in the `Attributes`
    section of the docstring is the flag's help. Every field has a default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def given(self) -> dict[str, Any]:
        """Return the options that the caller set, by name, without those left at their defaults."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def recorded(self) -> dict[str, Any]:
        """Return the options that the caller set as a manifest records them, see `as_recorded`."""
        return {name: as_recorded(value) for name, value in self.given().items()}


def as_recorded(value: Any) -> Any:
    """Return the value of an option as a manifest records it.

    A file is recorded by its name, because its folders say something about the user's machine. A value that JSON cannot
    hold, such as a maker or a volume, is recorded by its name or its type.

    >>> as_recorded("/home/me/outlines/one.nii.gz")
    'one.nii.gz'
    """
    if isinstance(value, tuple | list):
        return [as_recorded(each) for each in value]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, str | Path):
        return Path(value).name
    return value if isinstance(value, int | float | None) else getattr(value, "name", type(value).__name__)


def meanings(kind: type[BaseModel]) -> dict[str, str]:
    """Return the description of each field of a class on one line, by name.

    It is taken from the field itself, or else from the docstring of the class or of a class that it inherits from.
    """
    from docstring_parser import parse

    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        for described in parse(each.__dict__.get("__doc__") or "").params:
            text = " ".join((described.description or "").split())
            found |= {name.strip(): text for name in described.arg_name.split(",")}
    found |= {name: field.description for name, field in kind.model_fields.items() if field.description}
    return {name: found[name] for name in kind.model_fields if name in found}


FLAG_TYPES = (str, int, float, bool, Path)
"""Types that can be typed on a command line. Other members of a union, such as arrays, are for Python only."""
Chosen = TypeVar("Chosen", bound=Options)
Kept = TypeVar("Kept")


def options_of(options: Options | None, kind: type[Chosen], name: str, own: Options | None = None) -> Chosen:
    """Return the options of a call, or for None those that the maker was made with, or else the defaults.

    Args:
        options: options of a call of `sample` or `scan`.
        kind: the system's own class of options.
        name: name of the system, for the error.
        own: options that the maker was made with, its attribute `options`; None if it was made without.

    Raises:
        InputError: the options are of another class.
    """
    options = own if options is None else options
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise InputError("options", f"a {type(options).__name__}", f"the {kind.__name__} of {name}")
    return options


def check_returned(name: str, what: str, found: Kept, kinds: type | tuple[type, ...], expected: str) -> Kept:
    """Return what a system's own code returned, if it has the right type.

    Args:
        name: name of the system.
        what: the value, for the error.
        found: the value.
        kinds: the right type, or several.
        expected: the right value, for the error.

    Raises:
        InputError: it has another type; names the system.
    """
    if not isinstance(found, kinds):
        shown = "None" if found is None else f"of type {type(found).__name__}"
        raise InputError(name, f"{what} {shown}", expected)
    return found


@dataclass(frozen=True)
class Names:
    """Marks an option, in its `Annotated` type, that may name a model.

    `hub.with_makers` replaces the name by the maker.

    A value that is the path of an image, or neither a path nor a text, is kept.

    Attributes:
        role: role of the model's maker.
        words: values of the option that are not names of models.
    """

    role: Role
    words: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Samples:
    """Some or all of the samples of a generator; n samples.

    Attributes:
        arrays: [n, z, y, x] each. `ct`: int16 HU. `mask`: uint8, the label of each voxel's nodule, 0 outside.
            `occupancy`: float32 from 0 to 1, the share of a voxel that a shape fills; the mesh is its surface at 0.5.
        index: int64 [n], the number of each sample within its seed.
        asked: the nodules requested in each sample.
        nodules: the nodules in each sample: label in the mask (0 for a nodule without voxels there), centre in
            millimetres of the patch, whose first voxel lies at (0, 0, 0), and attributes. `extra["diameter_is"]` gives
            the source of the diameter: `measured` on the mask, or without a mask `asked` by the caller, `told` to the
            network, or `judged` by the network.
        details: further entries of each sample in the manifest, as JSON can hold them.
        spec: grid of the samples.
        lineage: patients whose data stand behind the samples.
        notes: differences from what was requested, a sentence each.
        tried: samples that were generated to get these; more than n if a selection rejected some.
        arithmetic: conditions for making the same bits again, such as the number of samples computed at once.

    Raises:
        InputError: a field has another type, an array has another shape than `spec`, or a field has not one entry for
            each sample; names the system.
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
        maker = check_returned("Samples", "lineage", self.lineage, Lineage, "the maker's lineage").name
        check_returned(maker, "Samples.spec", self.spec, PatchSpec, "a PatchSpec")
        check_returned(maker, "Samples.arrays", self.arrays, Mapping, "arrays by name")
        n = len(check_returned(maker, "Samples.index", self.index, np.ndarray, "an array of int64 [n]"))
        for name in ("asked", "nodules", "details"):
            check_returned(maker, f"Samples.{name}", getattr(self, name), tuple, "a tuple of n entries")
            if (rows := len(getattr(self, name))) != n:
                raise InputError(maker, f"{rows} entries of `{name}`", f"{n}, one for each number in `index`")
        for name, of, kind in (
            ("asked", tuple, NoduleAttributes),
            ("nodules", tuple, Nodule),
            ("details", Mapping, str),
        ):
            for entry in getattr(self, name):
                expected = f"a {of.__name__} of {kind.__name__}"
                check_returned(maker, f"an entry of Samples.{name}", entry, of, expected)
                for each in entry:
                    check_returned(maker, f"an entry of Samples.{name}", each, kind, expected)
        for kind_, array in self.arrays.items():
            check_returned(maker, f"the array {kind_}", array, np.ndarray, "an array [samples, z, y, x]")
            if (shape := np.shape(array)) != (n, *self.spec.size):
                expected = f"{(n, *self.spec.size)}, [samples, z, y, x]"
                raise InputError(maker, f"the array {kind_} of shape {shape}", expected)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def ct(self) -> NDArray[np.int16]:
        """HU [n, z, y, x]. Raises KeyError for shapes, which have no CT."""
        return self.arrays["ct"]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The voxels of nodules, bool [n, z, y, x]. Raises KeyError if the maker makes no masks."""
        inside: NDArray[np.bool_] = self.arrays["mask"] > 0
        return inside

    def rows(self, rows: NDArray[Any]) -> Samples:
        """Return some of the samples, chosen by their positions or by a bool [n]."""
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
        """Join several parts of some samples; a note that several parts have is kept once.

        Raises:
            InputError: there is no part.
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
    """Yield the parts of some samples; the last part also gets notes about all parts together.

    Args:
        parts: parts of the samples, in order.
        count: returns the facts about a part that the notes need.
        tell: returns the notes, from the facts about each part.
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
    """A requested edit of a patch of a scan.

    Attributes:
        kind: `inject` puts a nodule in, `erase` takes one out.
        nodule: attributes requested of the new nodule, or known of the nodule to erase; always with a diameter.
        mask: bool [z, y, x] on the voxels of the patch, or None if not known. For `erase`, the nodule's voxels. For
            `inject`, the requested shape, given only to methods whose `takes_outlines` is true.
    """

    kind: EditKind
    nodule: NoduleAttributes
    mask: NDArray[np.bool_] | None = None

    @property
    def diameter_mm(self) -> float:
        """The nodule's diameter.

        Raises:
            InputError: the nodule's attributes have no diameter.
        """
        if self.nodule.diameter_mm is None:
            raise InputError("nodule", "no diameter", "a diameter in mm")
        return self.nodule.diameter_mm


@dataclass(frozen=True, eq=False)
class Filled:
    """A patch after an edit.

    Attributes:
        hu: HU, float32 [z, y, x].
        mask: bool [z, y, x], the new nodule's voxels as a reader would outline them; None after an erasure.
        attributes: attributes of the nodule, both requested and chosen by the method.
        outline: the patient whose outline or label map the nodule was made from, as its source names the patient;
            empty if there is none. A test set must not hold that patient.
        notes: differences from what was requested, a sentence each.
    """

    hu: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    attributes: NoduleAttributes
    outline: str = ""
    notes: tuple[str, ...] = ()


class Maker(Protocol):
    """Anything that makes voxels.

    Attributes:
        name: name of its system, as users give it to the verbs.
        lineage: patients whose data stand behind it.
        heeds: names of the nodule attributes that it can be conditioned on; a request for any other is refused.
        roles: its tasks; each implies a protocol of this module.
        options: only of a maker that was made with options: these options. Manifests record them, and studies make
            voxels again if they differ.
    """

    name: str
    lineage: Lineage
    heeds: frozenset[str]
    roles: frozenset[Role]


class Generator(Maker, Protocol):
    """Makes samples from noise: nodule shapes (`occupancy`, `mask`) or patches of CT (`ct`, with some makers `mask`).

    Attributes:
        makes_empty: whether a patch without a nodule, `()`, may be requested; False unless a class sets it.
        selects: whether `select` works; False unless a class sets it.
        masks_missing: how to train masks for a maker of patches whose nodules have none, for an error; empty unless a
            class sets it.
        spec: grid of the samples.
    """

    makes_empty: bool = False
    selects: bool = False
    masks_missing: str = ""
    spec: PatchSpec

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make a sample for each entry of `asked`, in parts that fit into memory.

        Sample i depends on `seed`, `asked[i]`, `options` and i alone, unless the docstring of the options says
        otherwise.

        Args:
            asked: for each sample, the nodules that it is to hold.
            seed: seed of the samples.
            options: options of the system's own class; for None those that the maker was made with, or the defaults.

        Raises:
            InputError: the maker does not use or cannot make a requested attribute, or the options do not fit. Raised
                by the call itself, before the first part.
        """
        ...

    def select(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make samples anew until each passes the maker's own selection; samples that never pass are left out.

        Raises:
            InputError: see `sample`; or the maker does not select.
        """
        raise InputError("selection", f"{self.name}, which selects nothing", "a maker that selects its samples")


@dataclass(frozen=True, eq=False)
class ScanStream:
    """A scan whose slabs are generated as the caller iterates over them.

    Attributes:
        shape: voxels (z, y, x) of the whole scan.
        spacing_mm: voxel size (z, y, x).
        slabs: HU, int16 [n, y, x] each; neighbouring axial slices from the feet up, each slice of the scan once.
        details: further entries of the scan in the manifest, as JSON can hold them.
        arithmetic: conditions for making the same bits again, such as the number of slices computed at once.
        notes: differences from what was requested, a sentence each.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    slabs: Iterator[NDArray[np.int16]]
    details: Mapping[str, Any] = field(default_factory=dict)
    arithmetic: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def grid(self) -> Volume:
        """Return the geometry of the scan, with voxels of 0 that take no memory."""
        return Volume(np.broadcast_to(np.int16(0), self.shape), self.spacing_mm)

    def checked(self) -> Iterator[NDArray[np.int16]]:
        """Yield the slabs, and check them against `shape`.

        Raises:
            InputError: a slab is not int16 or has slices of another size, or there are more or fewer slices in all.
        """
        z, y, x = self.shape
        made = 0
        for slab in check_returned("scan", "ScanStream.slabs", self.slabs, Iterable, "an iterator over slabs"):
            made += len(check_returned("scan", "a slab", slab, np.ndarray, "an array of int16 [n, y, x]"))
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
    """Makes whole scans slab by slab, in memory that does not grow with their depth.

    Attributes:
        nodules_known: `all` if its scans are known to have no nodule, for example because the training scans had none;
            `none-known` if they may have nodules.
    """

    nodules_known: NodulesKnown

    def scan(self, index: int, seed: int, options: Options | None = None) -> ScanStream:
        """Return scan number `index` of a seed, whose voxels depend on `index`, `seed` and `options` alone.

        Args:
            index: number of the scan, from 0.
            seed: seed of the scans.
            options: options of the system's own class; for None those that the maker was made with, or the defaults.

        Raises:
            InputError: the options do not fit. Raised by the call itself, before the first slab.
        """
        ...


class Method(Maker, Protocol):
    """Edits patches of CT: puts nodules in (role `injects`), takes them out (`erases`), or both.

    Studies and training send a method to worker processes, so it has to pickle.
    """

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Return how far an edit reaches from its middle, in millimetres.

        Returns:
            Half the width of the patch that the method needs, and the radius of the ball that it may change.
        """
        ...

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Do one edit in the middle of each patch; a result depends on its own patch, region, edit and seed alone.

        Args:
            patches: HU [z, y, x] each, at the spacing of their scans.
            regions: bool [z, y, x] each, the voxels that may change; all others keep their bits.
            edits: one for each patch.
            seeds: one for each patch.

        Returns:
            A result for each patch.
        """
        ...


@runtime_checkable
class Painter(Maker, Protocol):
    """Paints CT from label maps of tissues, window by window; `editing.painting` puts the windows together.

    Attributes:
        spacing_mm: spacing (z, y, x) of the voxels that it paints.
        smallest: voxels (z, y, x) of the smallest window.
        largest: voxels (z, y, x) of the largest window; every size between the smallest and the largest is accepted.
        overlap: voxels (z, y, x) by which neighbouring windows overlap at least.
        context: slices before and after a window that `paint` needs besides the window.
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

        The noise at a voxel depends on `seed` and on the voxel's place in the whole map alone, so that overlapping
        windows have the same texture.

        Args:
            labels: uint8 [z + 2 * context, y, x], codes of `anatomy.tissue.TissueClass`, at the painter's spacing.
            at_voxel: index (z, y, x) in the whole map of the window's first voxel, after the context.
            seed: seed of the noise.

        Returns:
            HU, float32 [z, y, x], placed where the window is, without the context.
        """
        ...


class Judge(Maker, Protocol):
    """Gives the probability that a patch holds a nodule.

    Attributes:
        spec: grid of the patches that it takes.
    """

    spec: PatchSpec

    def judge(self, hu: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return the probability of a nodule [n] in each of the patches, HU [n, z, y, x]."""
        ...


def fill(method: Method, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
    """Do one edit in the middle of a patch.

    Args:
        method: does the edit.
        patch: HU [z, y, x], at the spacing of its scan.
        region: bool [z, y, x], the voxels that may change.
        edit: of a kind that the method can do.
        seed: seed of the edit.

    Raises:
        InputError: the method's result is not as `Filled` promises; names the method.
    """
    found = method.fill_many([patch], [region.copy()], [edit], [seed])  # the caller's region is what may change
    check_returned(method.name, "the result of `fill_many`", found, Sequence, "a list with a Filled for each edit")
    if len(found) != 1:
        raise InputError(method.name, f"{len(found)} results for one edit", "one result for each edit")
    check_filled(method, patch, edit, found[0])
    return found[0]


MOST_FILE_HU = 2**15 - 1
"""Largest absolute HU that files with voxels of 16 bits hold."""


def check_filled(method: Method, patch: Volume, edit: Edit, filled: Filled) -> None:
    """Refuse the result of an edit that is not as `Filled` promises.

    Raises:
        InputError: the HU are not finite or beyond `MOST_FILE_HU`, or the HU or the mask of an injected nodule have
            another size or type; names the method.
    """
    check_returned(method.name, "the result of an edit", filled, Filled, "a makers.Filled")
    check_returned(method.name, "Filled.hu", filled.hu, np.ndarray, "an array [z, y, x]")
    check_returned(method.name, "Filled.mask", filled.mask, (np.ndarray, type(None)), "an array [z, y, x] of bool")
    check_returned(method.name, "Filled.attributes", filled.attributes, NoduleAttributes, "the nodule's attributes")
    if filled.hu.shape != patch.shape or not np.isfinite(filled.hu).all():
        missing = int((~np.isfinite(filled.hu)).sum())
        found = f"a result of {filled.hu.shape} voxels{f', {missing} of them NaN or infinite' * bool(missing)}"
        raise InputError(method.name, found, f"{patch.shape} voxels of finite HU")
    if filled.hu.size and (most := float(np.abs(filled.hu).max())) > MOST_FILE_HU:
        raise InputError(
            method.name, f"a result of up to {most:.0f} HU", f"at most {MOST_FILE_HU}, which a CT file can hold"
        )
    if edit.kind == "inject" and (filled.mask is None or (filled.mask.shape, filled.mask.dtype) != (patch.shape, bool)):
        found_mask = "no mask" if filled.mask is None else f"a mask {filled.mask.shape} of {filled.mask.dtype}"
        raise InputError(method.name, f"{found_mask} of an injected nodule", f"a mask {patch.shape} of bool")


ARRAY_TYPES: Mapping[str, str] = {"ct": "int16", "mask": "uint8", "occupancy": "float32"}
"""Types of the arrays of samples."""


def checked_samples(
    maker: Generator, asked: Sequence[Asked], seed: int, options: Options | None = None, *, select: bool = False
) -> Iterator[Samples]:
    """Make samples, and check that they are what the contract says.

    Args:
        maker: makes the samples.
        asked: for each sample, the nodules that it is to hold.
        seed: seed of the samples.
        options: options of the maker's system.
        select: keep only samples that pass the maker's own selection.

    Raises:
        InputError: as `Generator.sample`, raised by the call itself. While the parts are made: a part has another grid,
            other arrays, other types or other numbers than promised; names the maker.
    """
    parts = maker.select(asked, seed, options) if select else maker.sample(asked, seed, options)
    called = f"the result of `{'select' if select else 'sample'}`"
    check_returned(maker.name, called, parts, Iterable, "an iterator over makers.Samples")
    checked = _checked_parts(maker, parts, len(asked), is_whole=not select and options is None)

    def count(part: Samples) -> tuple[int, int]:
        return sum(map(len, _without_voxels(part))), sum(map(len, part.nodules))

    def tell(counted: list[tuple[int, int]]) -> tuple[str, ...]:
        missed, made = map(sum, zip(*counted, strict=True))
        said = "have no voxel in their masks, so that their diameters are not measured"
        return (f"{missed} of {made} nodules of {maker.name} {said}",) if missed else ()

    return map(_without_false_labels, noting_last(checked, count, tell))


def _without_voxels(part: Samples) -> list[list[Nodule]]:
    """Return for each sample the nodules of which its mask has no voxel; none for samples without masks."""
    masks = part.arrays.get("mask", ())
    return [
        [nodule for nodule in nodules if not nodule.label or not (mask == nodule.label).any()]
        for nodules, mask in zip(part.nodules, masks, strict=False)
    ]


def _without_false_labels(part: Samples) -> Samples:
    """Return the samples with the label 0, and a diameter as requested, for each nodule without voxels in its mask."""
    if not any(_without_voxels(part)):
        return part
    nodules = zip(part.nodules, _without_voxels(part), strict=True)
    return replace(
        part,
        nodules=tuple(
            tuple(_of_request(nodule) if nodule in missing else nodule for nodule in own) for own, missing in nodules
        ),
    )


def _of_request(nodule: Nodule) -> Nodule:
    return replace(nodule, label=0, extra={"diameter_is": "asked", **nodule.extra})


def _checked_parts(maker: Generator, parts: Iterable[Samples], n: int, is_whole: bool) -> Iterator[Samples]:
    """Yield the parts of `n` requested samples, of which a selection, and options that select, may leave some out."""
    made, following = 0, 0
    try:
        for part in parts:
            _check_part(maker, check_returned(maker.name, "a part of the samples", part, Samples, "makers.Samples"))
            index = part.index.tolist()
            if index != sorted(set(index)) or (index and not following <= index[0] <= index[-1] < n):
                found = f"samples of numbers {index[:3]} of {n}"
                raise InputError(maker.name, found, "rising numbers from 0, each once")
            made, following = made + len(part), index[-1] + 1 if index else following
            yield part
    except VoxelError as error:
        which = f"of sample {following + error.row}" if is_whole else "of a sample"
        raise InputError(maker.name, f"{error.args[1]} {which}", error.args[2]) from error
    if is_whole and made != n:
        raise InputError(maker.name, f"{made} samples", f"{n}, as requested")


def _check_part(maker: Generator, part: Samples) -> None:
    """Refuse a part of samples whose arrays, grid, lineage or labels are not as `Samples` promises."""
    types = {name: np.asarray(array).dtype.name for name, array in part.arrays.items()}
    for name, found in types.items():
        if found != ARRAY_TYPES.get(name):
            known = ", ".join(f"{each} of {kind}" for each, kind in ARRAY_TYPES.items())
            raise InputError(maker.name, f"samples with {name} of {found}", known)
    needed = "ct" if "makes patches" in maker.roles else "occupancy"
    if needed not in types:
        raise InputError(maker.name, f"samples with {', '.join(types) or 'no arrays'}", f"samples with {needed}")
    if part.spec != maker.spec:
        raise InputError(maker.name, f"samples of the grid {part.spec}", f"{maker.spec}, the maker's")
    if part.lineage.name != maker.lineage.name or not part.lineage.seen >= maker.lineage.seen:
        raise InputError(maker.name, "samples without the maker's lineage", "lineage=maker.lineage")
    for i, mask in enumerate(part.arrays.get("mask", ())):
        labels = set(np.flatnonzero(np.bincount(mask.ravel())).tolist()) - {0}
        if unknown := labels - {nodule.label for nodule in part.nodules[i]}:
            found = f"the value {min(unknown)} in a mask, but no nodule of that sample with this `label`"
            raise InputError(maker.name, found, "the `label` of each nodule, which shapes.diameter.as_measured sets")


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
"""Attributes and methods that a maker of each role must have; the contract tests check what these do."""


def check_maker(maker: object, roles: Iterable[Role]) -> Maker:
    """Return the maker if it has the parts that its roles require.

    Args:
        maker: any object.
        roles: that it must have.

    Raises:
        InputError: names the missing parts, those of another type, or the roles that the maker has instead.
    """
    if maker is None:
        raise InputError("maker", "None", f"a maker that {' and '.join(sorted(roles))}, returned by the function")
    names = ["name", "lineage", "heeds", "roles"]
    names += [name for role in roles for name in PARTS[role]]
    if missing := [name for name in dict.fromkeys(names) if not hasattr(maker, name) or _is_stub(maker, name)]:
        where = f"{type(maker).__module__}.{type(maker).__name__}"
        raise InputError(where, f"no {', '.join(missing)}", f"a maker that {' and '.join(sorted(roles))}")
    made = cast(Maker, maker)
    check_returned(made.name, "`lineage`", made.lineage, Lineage, "a makers.Lineage, which knows the training patients")
    for name in ("heeds", "roles"):
        if isinstance(text := getattr(made, name), str):
            raise InputError(made.name, f"the text {text!r} as `{name}`", "a frozenset of names")
    if not set(roles) <= set(made.roles):
        raise InputError(
            made.name, f"a maker that {' and '.join(sorted(made.roles))}", f"one that {' and '.join(roles)}"
        )
    if "spec" in names:
        check_returned(made.name, "`spec`", cast(Generator | Judge, made).spec, PatchSpec, "a PatchSpec")
    if "nodules_known" in names and (known := cast(Streams, made).nodules_known) not in get_args(NodulesKnown):
        raise InputError(made.name, f"{known!r} as `nodules_known`", " or ".join(map(repr, get_args(NodulesKnown))))
    return made


def _is_stub(maker: object, name: str) -> bool:
    """Return whether an attribute of a maker is a protocol's own method without a body, which the maker inherits."""
    own = getattr(type(maker), name, None)
    return callable(own) and name in _STUBS and any(own is vars(kind).get(name) for kind in _ROLE_TYPES)


_ROLE_TYPES = (Generator, Streams, Method, Painter, Judge)
_STUBS = frozenset({"sample", "scan", "reach_mm", "fill_many", "paint", "judge"})
"""Methods of the protocols that a maker has to have."""


def check_heeds(maker: Maker, asked: Iterable[NoduleAttributes]) -> None:
    """Refuse requested attributes that a maker does not use, which are not in its `heeds`.

    Raises:
        InputError: names the attribute, and the attributes that the maker uses.
    """
    for one in asked:
        for name, value in one.given().items():
            if name not in maker.heeds:
                known = ", ".join(sorted(maker.heeds)) or "none"
                found = f"{attribute_text(name, value)}, which {maker.name} does not use"
                raise InputError(name, found, f"attributes it uses: {known}")
