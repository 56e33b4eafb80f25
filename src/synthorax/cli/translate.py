"""`synthorax translate`."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from synthorax import api
from synthorax.anatomy.placement import Clearance, Site
from synthorax.cli.attributes import Attributes
from synthorax.cli.options import parse_numbers
from synthorax.datasets.store import is_store
from synthorax.errors import InputError
from synthorax.io.atomic import claiming
from synthorax.io.mappings import read_mapping
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import MANIFEST
from synthorax.screen import say, warn


def translate(
    labels: Path,
    *,
    model: Annotated[str, Parameter(name="--with")],
    out: Path,
    nodules: int = 0,
    diameter: str | None = None,
    attributes: Attributes | None = None,
    shapes: str | None = None,
    site: Site = "lung",
    wall_mm: float = 2.0,
    vessel_mm: float = 0.0,
    nodule_mm: float = 5.0,
    codes: str | None = None,
    volumes: Annotated[int | None, Parameter(name=["-n", "--volumes"])] = None,
    split: str | None = None,
    share: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """A label map of tissues painted as CT, with nodules put in whose masks are exact: CT, mask, label map, manifest.

    Of a store that was prepared with --tissue, label maps of its cases become such folders below OUT; the same command
    goes on where it was stopped.

    Parameters
    ----------
    labels
        A label map: NIfTI, MHA, MHD, NRRD or DICOM SEG; a CT with --codes hu; or a store.
    model
        A model that paints, by its name or run folder.
    out
        Folder to write.
    nodules
        Number of nodules to put in, in places that are found in the lungs.
    diameter
        Longest chord in a slice, mm: of all, or of one after the other: 8 or 6,8,12. If not given, as wide as the
        nodules are whose shapes are taken, a fifth more or less.
    shapes
        A mask whose shape every nodule has, a model that makes shapes, such as a trained LuNG, or lidc, the outlines of
        LIDC-IDRI's readers, which are used if it is not given.
    site
        In the lung by itself, attached to the pleura, or attached to a vessel.
    wall_mm
        Clearance from chest wall, mediastinum and diaphragm; negative: it does not matter.
    vessel_mm
        Clearance from vessels of about 2 mm or more; negative: it does not matter.
    nodule_mm
        Clearance from other nodules; negative: it does not matter.
    codes
        What the codes of a label map mean: classes (this program's own, if not given), thesis, phantom,
        totalsegmentator, or a CSV file with the columns code and class; hu: the label map is made from a CT.
    volumes
        Of a store: how many, its cases by turns; one of each case if not given.
    split
        Of a store: whose patients, train if not given.
    share
        Of a store: the share of the volumes that get nodules, 1 if not given.
    seed
        The same seed gives the same CT.
    device
        cpu, cuda, or auto, cuda where there is one.
    overwrite
        Replace a folder that an earlier call made.
    json
        Print the nodules, or the manifest of all volumes, as JSON.
    """
    diameters = parse_numbers(diameter, "--diameter", "mm, one or one a nodule", count=None) if diameter else ()
    clearance = Clearance(*(None if mm < 0 else mm for mm in (wall_mm, vessel_mm, nodule_mm)))
    asked = NoduleAttributes(**(attributes or Attributes()).given())
    shared: dict[str, Any] = {"nodules": nodules, "diameter_mm": diameters, "attributes": asked, "shapes": shapes}
    shared |= {"site": site, "clearance": clearance, "seed": seed, "device": device, "overwrite": overwrite}
    of_store = {"volumes": volumes, "split": split, "share": share}
    if labels.is_dir() and is_store(labels):
        if codes is not None:
            raise InputError("--codes", "given with a store, whose label maps are of this program", "no --codes")
        given: dict[str, Any] = {name: value for name, value in of_store.items() if value is not None}
        made = api.translate_store(labels, model, out, **given, **shared)
        for note in made.notes:
            warn(note)
        if json:
            print(dumps(read_mapping(out / MANIFEST), indent=1))
        failed = f"; {len(made.failed)} could not be made, as the warnings tell" if made.failed else ""
        say(f"{out}: {len(made.cases)} volumes, {made.nodules} nodules{failed}", error=json)
        return int(bool(made.failed))
    for name, value in of_store.items():
        if value is not None:
            raise InputError(f"--{name}", "given with one label map", "a store")
    with claiming(out, overwrite=overwrite, sources=[labels]):
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
