"""`synthorax sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from synthorax.api import read_shapes
from synthorax.cli.options import nodule_argument
from synthorax.datasets.sample_folder import FORMATS, write_shape_samples
from synthorax.errors import InputError
from synthorax.io.atomic import check_folder_is_free
from synthorax.provenance import Origin


def sample(
    model: Path,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    out: Path,
    seed: int = 0,
    near: str | None = None,
    radius: float = 0.2,
    walk: Annotated[tuple[str, str] | None, Parameter(consume_multiple=True)] = None,
    formats: str = ",".join(FORMATS),
    overwrite: bool = False,
) -> None:
    """New nodules out of a trained model: masks, meshes, features and a manifest.

    Parameters
    ----------
    model
        A run folder.
    n
        How many.
    out
        Folder to write. Masks open in 3D Slicer, meshes in Blender.
    seed
        Sample i of a seed is the same, however many are made.
    near
        A nodule, FILE or FILE:ROW: make nodules like it.
    radius
        With --near: how far from it in the latent space, whose axes go from -1 to 1.
    walk
        Two nodules, FILE or FILE:ROW each: make n steps from the first to the second.
    formats
        Any of npy,nifti,mha,stl.
    overwrite
        Replace a folder that an earlier call made.
    """
    if n < 1:
        raise InputError("-n", str(n), "1 or more")
    if near and walk:
        raise InputError("--near and --walk", "both", "one of them")
    check_folder_is_free(out, overwrite=overwrite)

    from synthorax import hub
    from synthorax.systems.lung.system import SAMPLE_BATCH, Lung

    loaded = hub.load(model)
    system = loaded.system
    assert isinstance(system, Lung)
    config = system.config

    def nodule(text: str) -> NDArray[np.float32]:
        path, row = nodule_argument(text)
        shapes = read_shapes(path, config.grid, config.spacing_mm)
        if row >= len(shapes):
            raise InputError(text, f"{len(shapes)} nodules", "a row that exists, counted from 0")
        return shapes.occupancy[row]

    if walk:
        made = system.walk(nodule(walk[0]), nodule(walk[1]), n)
    elif near:
        made = system.near(nodule(near), n, radius, seed)
    else:
        made = system.sample(n, seed)
    details = [
        {
            "latent": [round(float(v), 7) for v in latent],
            "pieces_before_reconnection": int(pieces),
            "inverted_by_network": bool(inverted),
        }
        for latent, pieces, inverted in zip(made.latents, made.n_components, made.inverted, strict=True)
    ]
    write_shape_samples(
        out,
        made.fields,
        config.spacing_mm,
        Origin("lung", loaded.sha256, seed),
        details,
        formats=[name.strip() for name in formats.split(",")],
        overwrite=overwrite,
        sample_batch=SAMPLE_BATCH,
    )
    print(f"{out}: {n} nodules, {int((made.n_components == 1).sum())} of them in one piece before reconnection")
