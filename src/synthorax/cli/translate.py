"""`synthorax translate`."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from synthorax import api
from synthorax.cli.attributes import Attributes
from synthorax.cli.editing import refuse_given, tell_folder
from synthorax.cli.options import (
    DIAMETERS,
    NODULE_FLAGS,
    Device,
    Json,
    Out,
    Overwrite,
    Seed,
    parse_numbers,
)
from synthorax.cli.placing import Placing
from synthorax.datasets.store import is_store
from synthorax.io.atomic import claiming
from synthorax.nodule import NoduleAttributes
from synthorax.screen import say, warn

STORE_FLAGS = Group("Stores", sort_key=3)


def translate(
    labels: Path,
    *,
    model: Annotated[str, Parameter(name="--with")],
    out: Out,
    nodules: Annotated[int, Parameter(group=NODULE_FLAGS)] = 0,
    diameter: Annotated[str | None, Parameter(group=NODULE_FLAGS)] = None,
    attributes: Attributes | None = None,
    shapes: Annotated[str | None, Parameter(group=NODULE_FLAGS)] = None,
    placing: Placing | None = None,
    codes: str | None = None,
    volumes: Annotated[int | None, Parameter(name=["-n", "--volumes"], group=STORE_FLAGS)] = None,
    split: Annotated[str | None, Parameter(group=STORE_FLAGS)] = None,
    share: Annotated[float | None, Parameter(group=STORE_FLAGS)] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Make chest CT from a label map of tissues, with nodules added. Writes CT, exact nodule mask, label map, manifest.

    From a store that was prepared with --tissue, OUT gets one such folder for each case; the same command resumes a run
    that was stopped.

    Parameters
    ----------
    labels
        Label map: NIfTI, MHA, MHD, NRRD or DICOM SEG; a CT, with --codes hu; or a store.
    model
        Model that translates label maps into CT, by name or run folder.
    out
        Folder to write.
    nodules
        Number of nodules to place automatically in the lungs.
    diameter
        Diameter in mm, the longest chord in an axial slice: one for all nodules, or one for each, as in 6,8,12. By
        default the real diameter of the shape, changed by up to a fifth.
    shapes
        Shapes of the nodules: a mask, for one shape; a model of shapes, such as a trained LuNG; or lidc, the outlines
        of LIDC-IDRI's readers, the default.
    codes
        Meaning of the label map's codes: classes (this package's own, the default), thesis, phantom, totalsegmentator,
        or a CSV file with the columns code and class; hu makes the label map from a CT.
    volumes
        Number of volumes, made from the cases in turn; by default one from each case.
    split
        Split of the cases: train (default), val or test.
    share
        Probability, by default 1, that a volume gets nodules; without them it keeps those of its label map.
    seed
        Seed of nodules and CT.
    device
        cpu, cuda, or auto for cuda if there is a GPU.
    overwrite
        Replace a folder that an earlier call wrote.
    json
        Print the nodules, or for a store the manifest, as JSON.
    """
    diameters = parse_numbers(diameter, "--diameter", DIAMETERS, count=None) if diameter else ()
    asked = NoduleAttributes(**(attributes or Attributes()).given())
    shared: dict[str, Any] = {"nodules": nodules, "diameter_mm": diameters, "attributes": asked, "shapes": shapes}
    shared |= {**(placing or Placing()).given(), "seed": seed, "device": device, "overwrite": overwrite}
    of_store = {"volumes": volumes, "split": split, "share": share}
    given: dict[str, Any] = {name: value for name, value in of_store.items() if value is not None}
    if labels.is_dir() and is_store(labels):
        refuse_given({"--codes": codes is not None}, "a store", "no --codes, since the codes of a store are known")
        return tell_folder(api.translate_store(labels, model, out, **given, **shared), json, "volume")
    refuse_given({f"--{name}": True for name in given}, "one label map", "a store")
    sources = [Path(each) for each in (labels, codes, shapes) if each is not None]
    with claiming(out, overwrite=overwrite, sources=sources):
        painted = api.translate(labels, model, codes=codes or "classes", out=out, **shared)
    for note in painted.notes:
        warn(note)
    if json:
        print(dumps([nodule.row() for nodule in painted.nodules]))
        return 0
    for nodule in painted.nodules:
        place = ",".join(f"{c:.1f}" for c in nodule.center_mm)
        say(f"nodule {nodule.nodule_id}, {nodule.extra['from']}: {nodule.attributes.diameter_mm:.1f} mm at {place} mm")
    say(f"{out}: CT, mask, label map and manifest")
    return 0
