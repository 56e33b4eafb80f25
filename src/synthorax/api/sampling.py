"""Loading models, making samples with them, and writing the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.errors import InputError
from synthorax.makers import Generator, Samples, checked_samples
from synthorax.nodule import ATTRIBUTES, NoduleAttributes, check_attributes
from synthorax.registry import registry
from synthorax.seeding import check_seed

MOST_SAMPLES = 10_000_000
"""Largest number of samples; more would not fit on a disk."""

if TYPE_CHECKING:
    from synthorax.hub import Model
    from synthorax.makers import Maker


def load(model: str | Path, device: str = "cpu") -> Model:
    """Load a trained model, ready to sample.

    Args:
        model: name of a bundled model, or a run folder.
        device: cpu; cuda; or auto, for cuda if there is a GPU. Samples on another device differ in their last digits.

    Raises:
        InputError: there is no such model or device.
    """
    from synthorax import hub

    found = hub.load(model)
    if device != "cpu":
        from synthorax.training.devices import make_fabric

        found.system.move(make_fabric(device).device)
    return found


def sample(
    model: str | Path | Model | Maker,
    n: int,
    *,
    seed: int = 0,
    attributes: NoduleAttributes | Mapping[str, float | None] | None = None,
    **wanted: Any,
) -> Samples:
    """Make `n` new samples with a model. Sample i of a seed is the same whatever `n` is.

    Args:
        model: name of a bundled model or of a system without weights, a run folder, a loaded model, or a maker.
        n: number of samples, 1 or more.
        seed: seed of the samples.
        attributes: attributes of the nodules; they may be given by name too.
        wanted: attributes of the nodules that the model is conditioned on, such as `diameter_mm`, `texture` and
            `malignancy`; `positive=False` for patches without a nodule; and options of the model's system, such as
            `select` of AC-WGAN-GP, or `near`, `radius` and `walk` of LuNG (`synthorax sample MODEL --help` lists them).

    Returns:
        The samples: `arrays` has `ct` (HU) and `mask` of patches, or `occupancy` and `mask` of shapes, [n, z, y, x].

    Raises:
        InputError: there is no such model, or it makes no samples; `n` is not allowed; the model is not conditioned on
            an attribute, or cannot make its value; or it does not have an option.

    >>> import synthorax as sx
    >>> made = sx.sample("ac-wgan", 2, seed=7, diameter_mm=8)
    >>> made.arrays["ct"].shape, made.arrays["mask"].shape
    ((2, 24, 24, 24), (2, 24, 24, 24))
    >>> made.asked[0][0].given()
    {'diameter_mm': 8}
    >>> again = sx.sample("ac-wgan", 2, seed=7, attributes=sx.NoduleAttributes(diameter_mm=8))
    >>> bool((again.ct == made.ct).all())
    True
    """
    return Samples.joined(sample_chunks(model, n, seed=seed, attributes=attributes, **wanted))


def sample_chunks(
    model: str | Path | Model | Maker,
    n: int,
    *,
    seed: int = 0,
    attributes: NoduleAttributes | Mapping[str, float | None] | None = None,
    **wanted: Any,
) -> Iterator[Samples]:
    """Make the same samples as `sample` in parts, so that any number can be written with the memory of one part.

    Raises:
        InputError: as `sample`; raised by the call, before the first part.
    """
    from synthorax import hub

    check_seed(seed)
    if not 1 <= n <= MOST_SAMPLES:
        raise InputError("n", str(n), f"1 to {MOST_SAMPLES}")
    maker = generator_of(model)
    asked_for = _attributes(maker, attributes, wanted)
    check_attributes(NoduleAttributes(**asked_for))
    positive = wanted.get("positive")
    given = {name: value for name, value in wanted.items() if name not in ATTRIBUTES and name != "positive"}
    if positive is False and asked_for:
        name, value = next(iter(asked_for.items()))
        raise InputError(name, f"{value:g} with positive=False", f"no {name}, since these patches have no nodule")
    options = hub.options_for(maker, given)
    asked = () if positive is False else (NoduleAttributes(**asked_for),)
    if (diameter := asked_for.get("diameter_mm", inf)) <= 0:
        raise InputError("diameter_mm", f"{diameter:g} mm", "more than 0")
    hub.check_uses(maker, asked, "makes patches" if "makes patches" in maker.roles else "makes shapes")
    parts = checked_samples(maker, [asked] * n, seed, options)
    widest, diameter = maker.spec.widest_mm, asked_for.get("diameter_mm", 0.0)
    if not diameter <= widest:  # makers that know a narrower limit have told it by themselves
        found = f"{diameter:g} mm"
        raise InputError("diameter_mm", found, f"at most {widest:g} mm, which a patch of {maker.name} shows whole")
    return parts


def _attributes(
    maker: Maker, attributes: NoduleAttributes | Mapping[str, float | None] | None, wanted: Mapping[str, Any]
) -> dict[str, float]:
    """Return the requested attributes by name, without those that are None.

    Raises:
        InputError: a name is neither an attribute nor an option, or is given twice.
    """
    own = attributes.given() if isinstance(attributes, NoduleAttributes) else attributes or {}
    if not isinstance(own, Mapping):
        raise InputError("attributes", f"a {type(attributes).__name__}", "NoduleAttributes, or values by name")
    if twice := sorted(own.keys() & wanted.keys()):
        raise InputError(twice[0], "a value in `attributes` and another by name", "one of the two")
    entry = registry().entries.get(maker.name)
    options = tuple(entry.options.model_fields) if entry is not None else ()
    for name in (*own, *wanted):
        if name in ATTRIBUTES or (name in wanted and name in (*options, "positive")):
            continue
        heeded = ", ".join(each for each in ATTRIBUTES if each in maker.heeds) or "none"
        known = f"attributes of nodules: {heeded}; options: {', '.join((*options, 'positive'))}"
        raise InputError(name, f"no attribute or option of {maker.name}", known)
    return {name: value for name, value in {**own, **wanted}.items() if name in ATTRIBUTES and value is not None}


def generator_of(model: str | Path | Model | Maker, device: str = "cpu") -> Generator:
    """Return the maker of patches or shapes for a name, run folder or loaded model.

    Raises:
        InputError: there is no such model, or it makes no samples.
    """
    from synthorax import hub

    return cast(Generator, hub.find(model, ("makes patches", "makes shapes"), device=device))


def write_samples(
    folder: str | Path,
    samples: Samples | Iterable[Samples],
    *,
    seed: int,
    how: Mapping[str, Any] | None = None,
    formats: Sequence[str] | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda note: None,
) -> str:
    """Write samples as files that other tools open, with a manifest, and return a line about what was written.

    Args:
        folder: folder to write.
        samples: samples of `sample`, or parts of `sample_chunks`.
        seed: seed of the samples, for the manifest.
        how: attributes and options that the samples were made with, for the manifest.
        formats: for shapes any of npy, nifti, mha and stl, by default all; for patches any of nifti and mha, by default
            nifti.
        overwrite: replace a folder that an earlier call wrote.
        tell: function that is called with each note about the samples.

    Raises:
        InputError: a format is unknown, or the folder has something else.
        OutputError: the folder cannot be written.
    """
    from synthorax.datasets.sample_folder import write_samples as write

    return write(Path(folder), samples, seed=seed, how=how or {}, formats=formats, overwrite=overwrite, tell=tell)
