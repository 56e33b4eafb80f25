"""Models loaded and sampled, and their samples written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthorax.errors import InputError
from synthorax.makers import Generator, Samples
from synthorax.nodule import ATTRIBUTES, NoduleAttributes
from synthorax.registry import registry

MOST_SAMPLES = 10_000_000
"""More samples than any disk has room for."""

if TYPE_CHECKING:
    from synthorax.hub import Model
    from synthorax.makers import Maker


def load(model: str | Path, device: str = "cpu") -> Model:
    """A bundled model by its name, or one by its run folder, ready to sample; `system` of it has all that it can do.

    Args:
        device: cpu, on which samples are the same wherever its arithmetic is, auto (cuda where there is one), or cuda.

    Raises:
        InputError: no such model, or no such device.
    """
    from synthorax import hub

    found = hub.load(model)
    if device != "cpu":
        from synthorax.training.devices import make_fabric

        found.system.move(make_fabric(device).device)
    return found


def sample(model: str | Path | Model | Maker, n: int, *, seed: int = 0, **wanted: Any) -> Samples:
    """Make `n` new samples with a model. Sample i of a seed is the same whatever `n` is.

    Args:
        wanted: attributes of the nodules that the model heeds, such as `diameter_mm`, `texture` and `malignancy`;
            `positive=False` for patches without a nodule; and the options of its system, such as `select` of a GAN
            with a critic, or `near`, `radius` and `walk` of LuNG (`synthorax sample MODEL --help`).

    Returns:
        Samples, whose `arrays` hold `ct` and `mask`, or `occupancy` and `mask`, [n, z, y, x].

    Raises:
        InputError: no such model, one that makes no samples, `n` below 1, attributes that it does not heed or cannot
            make, or options that it does not have.

    >>> import synthorax as sx
    >>> made = sx.sample("ac-wgan", 2, seed=7, diameter_mm=8)
    >>> made.arrays["ct"].shape, made.arrays["mask"].shape
    ((2, 24, 24, 24), (2, 24, 24, 24))
    >>> made.asked[0][0].given()
    {'diameter_mm': 8}
    """
    return Samples.joined(sample_chunks(model, n, seed=seed, **wanted))


def sample_chunks(model: str | Path | Model | Maker, n: int, *, seed: int = 0, **wanted: Any) -> Iterator[Samples]:
    """Make the samples of `sample` in parts, which `write_samples` takes: any number takes the memory of one part.

    Raises:
        InputError: as `sample` does, at the call.
    """
    from synthorax import hub

    if not 1 <= n <= MOST_SAMPLES:
        raise InputError("number of samples", str(n), f"1 to {MOST_SAMPLES}")
    maker = generator_of(model)
    attributes = {name: value for name, value in wanted.items() if name in ATTRIBUTES and value is not None}
    positive = wanted.get("positive")
    given = {name: value for name, value in wanted.items() if name not in ATTRIBUTES and name != "positive"}
    if positive is False and attributes:
        name, value = next(iter(attributes.items()))
        raise InputError(name, f"{value:g}, of patches without a nodule", "it for nodules alone")
    options = hub.with_makers(registry()[maker.name].make_options(given)) if given else None
    asked = () if positive is False else (NoduleAttributes(**attributes),)
    return maker.sample([asked] * n, seed, options)


def generator_of(model: str | Path | Model | Maker, device: str = "cpu") -> Generator:
    """Return the maker of samples that something names.

    Raises:
        InputError: no such model, or one that makes no samples.
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
    """Write samples as files that other tools open, with a manifest; return in words what was written.

    Args:
        samples: as `sample` or `sample_chunks` gave them.
        seed: of the samples.
        how: how they were asked for, for the manifest.
        formats: any of npy, nifti, mha and stl for shapes, all if not given; of nifti and mha for patches, nifti if not
            given.
        tell: is called with each note of the samples when it comes.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    from synthorax.datasets.sample_folder import write_samples as write

    told = how or {"drawn": "uniform"}
    return write(Path(folder), samples, seed=seed, how=told, formats=formats, overwrite=overwrite, tell=tell)
