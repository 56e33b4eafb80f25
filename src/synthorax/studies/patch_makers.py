"""Makers of patches in studies: finding and checking them, sampling them, and keeping their patches in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from synthorax import hub
from synthorax.datasets.lineage import check_unseen, outline_patients
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.progress import with_progress
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.makers import Asked, Generator, Judge, Maker, Method, Role, Samples, checked_samples
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import fingerprint
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcOutlines
from synthorax.seeding import derive, generator
from synthorax.studies.filled_patches import FilledPatches
from synthorax.tasks.classification import cts
from synthorax.tasks.config import TaskConfig

GRID_SETTINGS = ("size", "spacing_mm", "window_hu")
"""Settings in which a maker's patches must agree with the patches of a task."""
PATCHES_A_FILE = 64
"""Patches that are made and kept together; a study that is stopped loses at most these."""
Kind = TypeVar("Kind", bound=np.generic)
HASH_DIGITS = 8
"""Digits of a model's hash that are added to its name if several models have that name."""


def patch_maker(what: str | Path | Maker, device: str = "auto") -> Maker:
    """Return a generator of patches, or an injector if the model does not make patches.

    Args:
        what: name of a bundled model or a system, a run folder, or a maker.
        device: device of the networks.

    Raises:
        InputError: it neither makes patches nor injects; for a model of shapes, it names the commands that use it.
    """
    roles = hub.system_of(what).roles if isinstance(what, str | Path) else what.roles
    if "makes shapes" in roles and not {"makes patches", "injects"} & roles:
        name = what if isinstance(what, str | Path) else what.name
        expected = (
            "a model that makes patches or injects nodules; to train on CT with its shapes, write scans with "
            f"`synthorax inject SCANS --shapes {name} --out MADE` and add them to a store with "
            "`synthorax prepare ... --synthetic MADE`; `synthorax study shapes` measures how good LuNG's shapes are"
        )
        raise InputError(name, "a model that makes shapes, which have no CT", expected)
    role: Role = "injects" if "injects" in roles and "makes patches" not in roles else "makes patches"
    return hub.find(what, role, device=device)


def check_maker_fits(maker: Maker, store: Store, config: TaskConfig) -> None:
    """Check that a study on a store can use a maker.

    Raises:
        InputError: it neither makes patches nor injects nodules, its patches have another grid than the task's, or it
            was trained on patients whom the study holds out.
    """
    if not {"makes patches", "injects"} & maker.roles:
        expected = "a model that makes patches, or injects nodules into them"
        raise InputError("model", f"{maker.name}, which {' and '.join(sorted(maker.roles)) or 'measures'}", expected)
    if "makes patches" in maker.roles:
        own, wanted = cast(Generator, maker).spec, config.patch
        for name in GRID_SETTINGS:
            if (found := getattr(own, name)) != (asked := getattr(wanted, name)):
                raise InputError("model", f"patches of {maker.name} with {name} {found}", f"the task's {asked}")
    check_unseen(maker.lineage, store)


def rendering(store: Store) -> Method:
    """Return the trivial injector: it renders outlines of LIDC-IDRI patients in a store's training split."""
    return Renderer(LidcOutlines(frozenset(outline_patients(store))))


def as_generator(maker: Maker, backgrounds: PatchDataset) -> Generator:
    """Return the maker if it makes patches; otherwise wrap it so that it injects nodules into the `backgrounds`."""
    if "makes patches" in maker.roles:
        return cast(Generator, maker)
    return FilledPatches(cast(Method, maker), backgrounds)


def labelled(makers: Sequence[Maker]) -> dict[str, Maker]:
    """Return the makers by name; several makers of one name get the start of their model's hash appended.

    Raises:
        InputError: a maker is given twice.
    """
    often = Counter(maker.name for maker in makers)
    names = [
        f"{maker.name} {maker.lineage.model_sha256[:HASH_DIGITS]}".strip() if often[maker.name] > 1 else maker.name
        for maker in makers
    ]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise InputError("model", f"{twice[0]} twice", "each maker once; rendering is always an arm")
    return dict(zip(names, makers, strict=True))


def samples_for(maker: Generator, nodules: Sequence[NoduleAttributes], seed: int) -> Samples:
    """Make a patch for each nodule; the maker gets those of the nodule's attributes that it heeds."""
    return Samples.joined(checked_samples(maker, _asked(maker, nodules), seed))


def count_without_voxels(samples: Samples) -> int:
    """Return the number of nodules that have no voxel in the masks of their samples; 0 for samples without masks."""
    return sum(not nodule.label for own in samples.nodules for nodule in own) if "mask" in samples.arrays else 0


def without_voxels(name: str, missing: int, n: int) -> str:
    """Return a sentence about `missing` of a maker's `n` nodules that have no voxel in their masks; empty for 0."""
    return f"{missing:,} of {n:,} nodules of {name} have no voxel in their masks." if missing else ""


def sampled(maker: Generator, nodules: Sequence[NoduleAttributes], seed: int) -> NDArray[np.int16]:
    """Make a patch for each nodule, HU [n, z, y, x]."""
    return samples_for(maker, nodules, seed).ct


def selected(maker: Generator, nodules: Sequence[NoduleAttributes], seed: int) -> NDArray[np.int16]:
    """Make patches that pass the maker's selection, HU [n, z, y, x]; each is drawn again until it passes.

    A patch that never passes is left out.

    Raises:
        InputError: the maker does not select.
    """
    return _joined(maker, checked_samples(maker, _asked(maker, nodules), seed, select=True))


def without_nodule(maker: Generator, n: int, seed: int) -> NDArray[np.int16]:
    """Make `n` patches that are requested to have no nodule, HU [n, z, y, x]."""
    return _joined(maker, checked_samples(maker, [()] * n, seed))


def judged(maker: Judge, patches: PatchDataset) -> NDArray[np.float64]:
    """Return the probability of a nodule in each patch, as the maker itself judges it, [n]."""
    found = [np.atleast_1d(maker.judge(patches.spec.to_int16(ct[:, 0].numpy()))) for ct in cts(patches)]
    if any(each.ndim != 1 or not np.issubdtype(each.dtype, np.floating) for each in found):
        shown = f"judgements of {found[0].dtype} {found[0].shape}"
        raise InputError(maker.name, shown, "a probability of float64 for each patch, [n]")
    probabilities = np.concatenate(found).astype(np.float64)
    if probabilities.shape != (len(patches),) or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError(maker.name, "judgements that are no probabilities of the patches", "one from 0 to 1 for each")
    return probabilities


def _asked(maker: Maker, nodules: Sequence[NoduleAttributes]) -> list[Asked]:
    heeded = [{name: value for name, value in one.given().items() if name in maker.heeds} for one in nodules]
    return [
        (NoduleAttributes(**{name: _in_range(maker, name, value) for name, value in one.items()}),) for one in heeded
    ]


def _in_range(maker: Maker, name: str, value: float) -> float:
    """Return the value of an attribute nearest to the one given that a maker with limits (`range_of`) takes."""
    low, high = getattr(maker, "range_of", {}).get(name, (-np.inf, np.inf))
    return float(min(max(value, low), high))


def moved_into_range(maker: Maker, nodules: Sequence[NoduleAttributes]) -> str:
    """Return a sentence about nodules that a maker is asked for with the nearest attributes it takes; empty if none.

    A flow refuses what its training nodules did not have, and its diameters are longest chords, which are wider than
    the diameters that LUNA16 states.
    """
    values = [
        (name, value)
        for one in nodules
        for name, value in one.given().items()
        if name in maker.heeds and _in_range(maker, name, value) != value
    ]
    if not values:
        return ""
    name, value = values[0]
    such = f"such as {name} {value:.3g}, of which {_in_range(maker, name, value):.3g} is the nearest"
    return (
        f"{maker.name} does not take {len(values)} attributes of {len(nodules)} nodules, {such}; it is asked for those."
    )


def _joined(maker: Generator, parts: Iterator[Samples]) -> NDArray[np.int16]:
    found = [part.ct for part in parts if len(part)]
    return np.concatenate(found) if found else np.zeros((0, *maker.spec.size), np.int16)


def nodules_of(train: PatchDataset, n: int, seed: int) -> list[NoduleAttributes]:
    """Draw the attributes of n nodules of the training set, with replacement; nodules wider than a patch are left out.

    Raises:
        InputError: no training nodule has a known diameter that fits into a patch.
    """
    widest = train.spec.widest_mm
    known = [each for each in with_diameter(train) if (each.diameter_mm or 0) <= widest]
    if not known:
        raise InputError(
            "training nodules", f"none with a diameter of at most {widest:g} mm", "one or more, or larger patches"
        )
    return [known[i] for i in generator(seed, "attributes").integers(len(known), size=n)]


def too_wide(train: PatchDataset) -> str:
    """Return a sentence about the training nodules that `nodules_of` leaves out; empty if there are none."""
    widest, known = train.spec.widest_mm, with_diameter(train)
    wider = sum((each.diameter_mm or 0) > widest for each in known)
    left_out = f"{wider} of {len(known)} training nodules are wider than the {widest:g} mm of a patch"
    return f"{left_out}: they are trained on, but no synthetic nodule is made like them." if wider else ""


def with_diameter(patches: PatchDataset) -> list[NoduleAttributes]:
    """Return the attributes of the nodules whose diameter is known."""
    nodules = [place.nodule.attributes for place in patches.places if place.nodule is not None]
    return [attributes for attributes in nodules if attributes.diameter_mm]


def kept_patches(file: Path, make: Callable[[], NDArray[Kind]]) -> NDArray[Kind]:
    """Read patches [n, z, y, x], or another array, from a file; if it is missing or damaged, make and write it.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        patches = make()
    write_patches(file, patches)
    return patches


def write_patches(file: Path, patches: NDArray[Kind]) -> None:
    """Write patches, or another array, to a file that `kept_patches` reads.

    Raises:
        OutputError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary, open(temporary, "wb") as stream:
        np.lib.format.write_array(stream, patches)


def kept_in_parts(
    file: Path | None, what: str, n: int, seed: int, make: Callable[[slice, int], NDArray[np.int16]]
) -> NDArray[np.int16]:
    """Make n patches part by part, HU [n, z, y, x], or read those of an earlier call; a stopped study resumes.

    Each part is kept in a file of its own until the last one is made.

    Args:
        file: file of all patches; None to keep none.
        what: title of the progress bar.
        seed: seed of the first part; each further part has its own.
        make: makes the patches of a part, given their numbers and a seed. It may return fewer.

    Raises:
        OutputError: a file cannot be written.
    """
    starts = range(0, n, PATCHES_A_FILE)
    own = {start: derive(seed, "part", start) if start else seed for start in starts}

    def of_part(start: int) -> NDArray[np.int16]:
        return make(slice(start, min(start + PATCHES_A_FILE, n)), own[start])

    def joined() -> NDArray[np.int16]:
        found = []
        for start in with_progress(starts, what, len(starts)):
            part = partial(of_part, start)
            found.append(part() if file is None else kept_patches(_part_file(file, start), part))
        return np.concatenate(found)

    if file is None:
        return joined()
    patches = kept_patches(file, joined)
    for start in starts:
        _part_file(file, start).unlink(missing_ok=True)
    return patches


def _part_file(file: Path, start: int) -> Path:
    return file.with_name(f"{file.stem}-from-{start}.npy")


def key_of(patches: NDArray[np.int16]) -> str:
    """Return the hash of patches."""
    return fingerprint(np.ascontiguousarray(patches).tobytes())
