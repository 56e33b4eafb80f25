"""The AC-WGAN-GP's samples, as the verbs ask for them and as files that `prepare patches` reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.nodule_table import CENTER, TABLE
from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.io.atomic import atomic_folder
from synthorax.io.images import write_image
from synthorax.io.tables import table_writer
from synthorax.nodule import NoduleAttributes, check_attributes
from synthorax.provenance import MANIFEST, Origin, manifest_writer
from synthorax.systems.ac_wgan.system import (
    CHUNK,
    MOST_TRIES,
    POSITIVE,
    SAMPLE_BATCH,
    AcWgan,
    GeneratedCubes,
    selection_notes,
)
from synthorax.volume import Volume

SUFFIX = {"nifti": ".nii.gz", "mha": ".mha"}
TELL_EVERY_S = 20.0
"""A selection tells how far it is this often."""
WORTH_TELLING_S = 10.0
"""A selection that will take longer tells so after its first attempt."""


def sample_cubes(
    system: AcWgan,
    n: int,
    seed: int,
    *,
    positive: bool = True,
    select: bool = False,
    diameter_mm: float | None = None,
    texture: float | None = None,
    malignancy: float | None = None,
) -> GeneratedCubes:
    """New cubes of CT of a class, in memory.

    Args:
        select: only those that the critic takes for real ones and for their class (section 4.2).
        diameter_mm, texture, malignancy: of all; the others are as a real nodule like it has them.

    Raises:
        InputError: attributes that the model was not told of, that it cannot make or that no nodule has; no threshold
            to select by, or no sample that reaches it.
    """
    asked = _asked(system, positive, diameter_mm, texture, malignancy)
    made = system.sample(n, seed, asked, positive=positive, select=select)
    return replace(made, notes=(*system.doubts(asked), *made.notes))


def cube_chunks(
    system: AcWgan,
    n: int,
    seed: int,
    *,
    tell: Callable[[str], None],
    positive: bool = True,
    select: bool = False,
    diameter_mm: float | None = None,
    texture: float | None = None,
    malignancy: float | None = None,
) -> Iterator[GeneratedCubes]:
    """The samples of `sample_cubes` in parts, so that any number of them takes as much memory as one part.

    Args:
        tell: hears, while samples are made, what came out otherwise than it was asked for.
    """
    asked = _asked(system, positive, diameter_mm, texture, malignancy)
    tried = _Estimate(n, tell)
    parts = system.chunks(n, seed, asked, positive=positive, select=select, tried=tried)
    return _told(parts, n, system.doubts(asked), select, tell)


def _told(
    parts: Iterator[GeneratedCubes], n: int, doubts: tuple[str, ...], select: bool, tell: Callable[[str], None]
) -> Iterator[GeneratedCubes]:
    """The parts, with notes on the first and on the last of them."""
    found = 0
    notes = doubts
    for note in doubts:
        tell(note)
    for i, part in enumerate(parts, start=1):
        found += len(part.hu)
        if select and i * CHUNK >= n:
            missed = selection_notes(n, found)
            notes += missed
            for note in missed:
                tell(note)
        yield replace(part, notes=notes)
        notes = ()


class _Estimate:
    """Tells after the first attempt of a selection how long it will take, and from then on how far it is."""

    def __init__(self, n: int, tell: Callable[[str], None]) -> None:
        self._n, self._tell = n, tell
        self._began = self._told = time.monotonic()
        self._is_first = True

    def __call__(self, found: int, of: int) -> None:
        now = time.monotonic()
        if self._is_first:
            needed = min(self._n * of / found if found else np.inf, self._n * float(MOST_TRIES))
            seconds = (now - self._began) / of * needed
            if seconds > WORTH_TELLING_S:
                self._tell(
                    f"selection: {found} of the first {of} samples were taken; {self._n} need about {needed:.0f} "
                    f"samples and {max(seconds / 60, 1):.0f} minutes"
                )
        elif now - self._told > TELL_EVERY_S:
            self._tell(f"selection: {found} of {self._n} found, in {of} samples")
        else:
            return
        self._is_first, self._told = False, now


def _asked(
    system: AcWgan, positive: bool, diameter_mm: float | None, texture: float | None, malignancy: float | None
) -> NoduleAttributes:
    """What was asked for, checked.

    Raises:
        InputError: the model cannot make it.
    """
    asked = NoduleAttributes(diameter_mm=diameter_mm, texture=texture, malignancy=malignancy)
    check_attributes(asked)
    for name, value in vars(asked).items():
        if value is None:
            continue
        if name not in system.config.attributes:
            raise InputError(name, f"{value:g}", f"a model that was told of it; this one knows {_known(system)}")
        if not positive:
            raise InputError(name, f"{value:g}, of cubes without a nodule", "it for nodules alone")
    system.check_asked(asked)
    return asked


def _known(system: AcWgan) -> str:
    return ", ".join(system.config.attributes) or "the class alone"


def write_cubes(
    folder: Path,
    model: Model,
    made: GeneratedCubes | Iterable[GeneratedCubes],
    *,
    seed: int,
    how: Mapping[str, Any],
    formats: Sequence[str] = ("nifti",),
    overwrite: bool = False,
) -> str:
    """Write images, nodules.csv and a manifest; returns what was made, in words.

    A nodule's diameter in the table is not measured: it is what the generator was told, which is what was asked for
    where it was asked, else what the critic makes of it.

    Args:
        made: cubes, or parts of them one after the other.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    kinds = [name for name in formats if name in SUFFIX]
    if not kinds or len(kinds) < len(formats):
        raise InputError("formats", ", ".join(formats), " or ".join(SUFFIX))
    system = cast(AcWgan, model.system)
    spacing, origin = system.config.spacing_mm, Origin(system.name, model.sha256, seed)
    about = {
        "synthetic": origin.mark,
        "system": system.name,
        "model_sha256": model.sha256,
        "seed": seed,
        "how": dict(how),
        "spacing_zyx_mm": list(spacing),
        "sample_batch": SAMPLE_BATCH,
        "formats": list(kinds),
    }
    count = tried = 0
    with atomic_folder(folder, overwrite=overwrite) as target:
        (target / "images").mkdir()
        notes: list[str] = []
        with ExitStack() as files_open:
            tell_manifest = files_open.enter_context(manifest_writer(target / MANIFEST, about, "samples", notes))
            tell_table = None
            for part in [made] if isinstance(made, GeneratedCubes) else made:
                notes += part.notes
                for i, hu in enumerate(part.hu):
                    volume = Volume(hu, spacing)
                    files = {kind: f"images/{count:05d}{SUFFIX[kind]}" for kind in kinds}
                    for file in files.values():
                        write_image(target / file, volume, mark=origin.mark)
                    tell_manifest(_details(part, i, files, system))
                    if part.labels[i] == POSITIVE:
                        tell_table = tell_table or files_open.enter_context(table_writer(target / TABLE))
                        tell_table(_row(part, i, files[kinds[0]], count, volume, system))
                    count += 1
                tried += part.tried
    told = f"{count} cubes of {' x '.join(map(str, system.config.size))} voxels"
    return told if tried == count else f"{told}, selected from {tried}"


def _details(part: GeneratedCubes, i: int, files: Mapping[str, str], system: AcWgan) -> dict[str, Any]:
    """What the manifest tells of a sample."""
    return {
        "files": dict(files),
        "index": int(part.index[i]),
        "attempt": int(part.attempt[i]),
        "class": int(part.labels[i]),
        "asked": {name: value for name, value in vars(part.asked[i]).items() if value is not None},
        "told": _by_name(part.told[i], system),
        "judged": _by_name(part.judged[i], system),
        "score": round(float(part.scores[i]), 4),
        "confidence": round(float(part.confidence[i]), 4),
    }


def _row(part: GeneratedCubes, i: int, image: str, number: int, volume: Volume, system: AcWgan) -> dict[str, Any]:
    """What the table tells of a nodule: its generator was told, or the critic judges, diameter and ratings."""
    told, judged = _by_name(part.told[i], system), _by_name(part.judged[i], system)
    attributes: dict[str, float | str] = dict.fromkeys(("diameter_mm", "texture", "malignancy"), "")
    for name, value in (judged | told).items():
        attributes[name] = round(value if name == "diameter_mm" else min(max(value, 1.0), 5.0), 2)
    middle = volume.to_world((np.array(volume.shape) - 1) / 2).tolist()
    place = dict(zip(CENTER, middle, strict=True))
    known_from = "asked" if part.asked[i].diameter_mm is not None else "told" if "diameter_mm" in told else "judged"
    return {"image": image, "patient_id": f"synthetic-{number:05d}", **place, **attributes, "diameter_is": known_from}


def _by_name(values: NDArray[np.float32], system: AcWgan) -> dict[str, float]:
    """Attributes that have a value."""
    pairs = zip(system.config.attributes, np.round(values, 3).tolist(), strict=True)
    return {name: value for name, value in pairs if isfinite(value)}
