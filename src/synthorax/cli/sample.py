"""`synthorax sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from synthorax import api
from synthorax.io.atomic import claiming
from synthorax.screen import say


def sample(
    model: str,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 10,
    out: Path,
    seed: int = 0,
    near: str | None = None,
    radius: float | None = None,
    walk: Annotated[tuple[str, str] | None, Parameter(consume_multiple=True, negative="")] = None,
    positive: bool | None = None,
    select: Annotated[bool, Parameter(negative="")] = False,
    diameter: float | None = None,
    texture: float | None = None,
    malignancy: float | None = None,
    formats: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> None:
    """New nodules or CT cubes out of a trained model, with a manifest.

    Parameters
    ----------
    model
        A bundled model's name, or a run folder.
    n
        How many.
    out
        Folder to write. Masks open in 3D Slicer, meshes in Blender.
    seed
        Sample i of a seed is the same, however many are made.
    near
        LuNG: a nodule, FILE or FILE:ROW (a row counted from 0, or the label in an image): make nodules like it.
    radius
        With --near: how far from it in the latent space, whose axes go from -1 to 1; 0.2 if not given.
    walk
        LuNG: two nodules, FILE or FILE:ROW each: make n steps from the first to the second.
    positive
        CT cubes: with a nodule, or without one.
    select
        CT cubes: only those that the critic takes for real, and for what was asked for.
    diameter
        CT cubes: the nodules' diameter, mm.
    texture
        CT cubes: LIDC's rating from 1, ground glass, to 5, solid.
    malignancy
        CT cubes: LIDC's rating from 1 to 5.
    formats
        Shapes: any of npy,nifti,mha,stl; all if not given. CT cubes: nifti, mha; nifti if not given.
    device
        cpu, cuda, or auto, cuda where there is one: faster, but another device's samples differ in their last digits.
    overwrite
        Replace a folder that an earlier call made.
    """
    asked = {"near": near, "radius": radius, "walk": walk, "positive": positive, "select": select or None}
    asked |= {"diameter_mm": diameter, "texture": texture, "malignancy": malignancy}
    options = {name: value for name, value in asked.items() if value is not None}
    how: dict[str, object] = {"drawn": "uniform", **options}
    if near:
        how = {"drawn": "near", "nodule": Path(near).name, "radius": 0.2 if radius is None else radius}
    elif walk:
        how = {"drawn": "walk", "from": Path(walk[0]).name, "to": Path(walk[1]).name}
    if device != "cpu":
        how["device"] = device
    chosen = {} if formats is None else {"formats": [name.strip() for name in formats.split(",")]}
    with claiming(out, overwrite=overwrite, sources=[Path(model)]):
        loaded = api.load(model, device)
        made = api.sample_chunks(loaded, n, seed=seed, tell=_warn, **options)
        told = api.write_samples(out, loaded, made, seed=seed, how=how, overwrite=overwrite, **chosen)
    say(f"{out}: {told}")


def _warn(note: str) -> None:
    say(f"synthorax: warning: {note}", error=True)
