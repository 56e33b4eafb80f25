"""`synthorax sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from synthorax import api
from synthorax.datasets.sample_folder import FORMATS
from synthorax.io.atomic import check_folder_is_free


def sample(
    model: Path,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    out: Path,
    seed: int = 0,
    near: str | None = None,
    radius: float = 0.2,
    walk: Annotated[tuple[str, str] | None, Parameter(consume_multiple=True, negative="")] = None,
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
        A nodule, FILE or FILE:ROW (a row counted from 0, or the label in an image): make nodules like it.
    radius
        With --near: how far from it in the latent space, whose axes go from -1 to 1.
    walk
        Two nodules, FILE or FILE:ROW each: make n steps from the first to the second.
    formats
        Any of npy,nifti,mha,stl.
    overwrite
        Replace a folder that an earlier call made.
    """
    check_folder_is_free(out, overwrite=overwrite)
    loaded = api.load(model)
    made = api.sample(loaded, n, seed=seed, near=near, radius=radius, walk=walk)
    how: dict[str, object] = {"drawn": "uniform"}
    if near:
        how = {"drawn": "near", "nodule": near, "radius": radius}
    elif walk:
        how = {"drawn": "walk", "from": walk[0], "to": walk[1]}
    api.write_samples(
        out,
        loaded,
        made,
        seed=seed,
        how=how,
        formats=[name.strip() for name in formats.split(",")],
        overwrite=overwrite,
    )
    print(f"{out}: {n} nodules, {int((made.n_components == 1).sum())} of them in one piece before reconnection")
