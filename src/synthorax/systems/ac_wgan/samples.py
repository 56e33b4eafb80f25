"""The AC-WGAN-GP's samples, as the verbs ask for them and as files that `prepare patches` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from synthorax.io.tables import write_table
from synthorax.nodule import NoduleAttributes, check_attributes
from synthorax.provenance import MANIFEST, Origin, write_manifest
from synthorax.systems.ac_wgan.system import POSITIVE, SAMPLE_BATCH, AcWgan, GeneratedCubes
from synthorax.volume import Volume

SUFFIX = {"nifti": ".nii.gz", "mha": ".mha"}


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
    """New cubes of CT of a class.

    Args:
        select: only those that the critic takes for real ones and for their class (section 4.2).
        diameter_mm, texture, malignancy: of all; what is not given is as it is of a real nodule like it.

    Raises:
        InputError: attributes that the model was not told of or that no nodule has, or no threshold to select by.
    """
    asked = NoduleAttributes(diameter_mm=diameter_mm, texture=texture, malignancy=malignancy)
    check_attributes(asked)
    for name, value in vars(asked).items():
        if value is not None and name not in system.config.attributes:
            raise InputError(name, f"{value:g}", f"a model that was told of it; this one knows {_known(system)}")
    return system.sample(n, seed, asked, positive=positive, select=select)


def _known(system: AcWgan) -> str:
    return ", ".join(system.config.attributes) or "the class alone"


def write_cubes(
    folder: Path,
    model: Model,
    made: GeneratedCubes,
    *,
    seed: int,
    how: Mapping[str, Any],
    formats: Sequence[str] = ("nifti",),
    overwrite: bool = False,
) -> str:
    """Write images, nodules.csv and a manifest; returns what was made, in words.

    A nodule's diameter in the table is what the generator was told, else what the critic makes of it.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    kinds = [name for name in formats if name in SUFFIX]
    if not kinds:
        raise InputError("formats", ", ".join(formats), " or ".join(SUFFIX))
    system = cast(AcWgan, model.system)
    spacing, origin = system.config.spacing_mm, Origin(system.name, model.sha256, seed)
    rows: list[dict[str, Any]] = []
    details = []
    with atomic_folder(folder, overwrite=overwrite) as target:
        (target / "images").mkdir()
        for i, hu in enumerate(made.hu):
            volume = Volume(hu, spacing)
            files = {kind: f"images/{i:05d}{SUFFIX[kind]}" for kind in kinds}
            for file in files.values():
                write_image(target / file, volume, mark=origin.mark)
            attributes = _attributes(made, i, system)
            details.append(
                {
                    "files": files,
                    "index": int(made.index[i]),
                    "attempt": int(made.attempt[i]),
                    "class": int(made.labels[i]),
                    "asked": {name: value for name, value in vars(made.asked[i]).items() if value is not None},
                    "told": _by_name(made.told[i], system),
                    "judged": _by_name(made.judged[i], system),
                    "score": round(float(made.scores[i]), 4),
                    "confidence": round(float(made.confidence[i]), 4),
                }
            )
            if made.labels[i] == POSITIVE:
                middle = volume.to_world((np.array(hu.shape) - 1) / 2).tolist()
                place = dict(zip(CENTER, middle, strict=True))
                rows.append({"image": files[kinds[0]], "patient_id": f"synthetic-{i:05d}", **place, **attributes})
        if rows:
            write_table(target / TABLE, rows)
        write_manifest(
            target / MANIFEST,
            {
                "synthetic": origin.mark,
                "system": system.name,
                "model_sha256": model.sha256,
                "seed": seed,
                "how": dict(how),
                "spacing_zyx_mm": list(spacing),
                "sample_batch": SAMPLE_BATCH,
                "formats": list(kinds),
                "samples": details,
            },
        )
    told = f"{len(made.hu)} cubes of {' x '.join(map(str, system.config.size))} voxels"
    tried = int((made.attempt + 1).sum())
    return told if tried == len(made.hu) else f"{told}, selected from {tried}"


def _by_name(values: NDArray[np.float32], system: AcWgan) -> dict[str, float]:
    """Attributes that have a value."""
    pairs = zip(system.config.attributes, np.round(values, 3).tolist(), strict=True)
    return {name: value for name, value in pairs if isfinite(value)}


def _attributes(made: GeneratedCubes, i: int, system: AcWgan) -> dict[str, float | str]:
    """Diameter and ratings of a sample, as its generator was told or as the critic judges."""
    known: dict[str, float] = _by_name(made.judged[i], system) | _by_name(made.told[i], system)
    found: dict[str, float | str] = dict.fromkeys(("diameter_mm", "texture", "malignancy"), "")
    for name, value in known.items():
        found[name] = round(value if name == "diameter_mm" else min(max(value, 1.0), 5.0), 2)
    return found
