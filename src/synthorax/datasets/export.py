"""Stores and folders of samples in the layouts that nnU-Net and MONAI read.

What is not known is not written as background: a scan of which not every nodule is known is left out and named, and a
nodule whose voxels are not known stops the export unless the caller says what to put in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console
from rich.progress import track

from synthorax.datasets import monai, nnunet
from synthorax.datasets.export_items import Item, Report, few, quantity
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder
from synthorax.nodule import Nodule

ExportLayout = Literal["nnunet", "monai"]
Unknown = Literal["leave-out", "include"]
Voxelless = Literal["refuse", "balls", "ignore", "leave-out"]


def export(
    items: Sequence[Item],
    out: Path,
    layout: str,
    *,
    name: str,
    unknown: str = "leave-out",
    voxelless: str = "refuse",
    overwrite: bool = False,
) -> Report:
    """Write items in another tool's layout, all or nothing.

    nnunet  `nnUNet_raw`: imagesTr, labelsTr, imagesTs, labelsTs, dataset.json; splits_final.json keeps val apart.
    monai   images, masks and dataset.json with training, validation and testing lists of boxes (`datasets.monai`).

    Args:
        name: of the data set.
        unknown: what becomes of a scan of which not every nodule is known. `leave-out`, or `include`: what is not
            marked is background then.
        voxelless: what becomes of a nodule whose voxels are not known. `refuse` stops; `balls` paints a ball of its
            diameter; `ignore` paints the ball with nnU-Net's ignore label; `leave-out` leaves its scan out. MONAI's
            boxes need the voxels or the diameter alone.

    Raises:
        InputError: no such layout or choice; nodules that the layout cannot hold; nothing left to write; a folder that
            is not ours to replace.
        OutputError: it cannot be written.
    """
    for subject, found, known in (
        ("layout", layout, ExportLayout),
        ("unknown", unknown, Unknown),
        ("voxelless", voxelless, Voxelless),
    ):
        if found not in get_args(known):
            raise InputError(subject, repr(found), " or ".join(get_args(known)))
    if layout == "monai" and voxelless == "ignore":
        raise InputError("voxelless", "'ignore'", "refuse, balls or leave-out: an ignore label is nnU-Net's alone")
    report = Report()
    kept = _with_every_nodule_known(items, unknown, report)
    kept = _that_fit(kept, layout, voxelless, report)
    if not kept:
        raise InputError("export", f"no case to write ({'; '.join(report.notes) or 'there is none'})", "at least one")
    if small := sum(item.small for item in kept):
        report.notes.append(
            f"{small} marks of nodules too small to be outlined are not exported; they lie in the background"
        )
    with atomic_folder(out, overwrite=overwrite) as folder:
        shown = track(kept, "export", console=Console(stderr=True))
        if layout == "nnunet":
            nnunet.write(
                shown, folder, out.name, name, report, balls=voxelless == "balls", ignore=voxelless == "ignore"
            )
        else:
            monai.write(shown, folder, name, report, balls=voxelless == "balls")
    return report


def _with_every_nodule_known(items: Sequence[Item], unknown: str, report: Report) -> list[Item]:
    """The items that may be read as a whole: what is not marked in them is no nodule."""
    for annotated, told in (
        ("none-known", "nobody has said whether they hold nodules"),
        ("some", "not every nodule of them is known"),
    ):
        found = [item.name for item in items if item.annotated == annotated]
        if found and unknown == "include":
            report.notes.append(f"{told}: {few(found)}; included, with all that is not marked as background")
        elif found:
            report.notes.append(
                f"left out, as {told}: {few(found)} (prepare --annotated states it; --unknown include takes what is not"
                " marked for background)"
            )
    return [item for item in items if unknown == "include" or item.annotated == "all"]


def _that_fit(items: Sequence[Item], layout: str, voxelless: str, report: Report) -> list[Item]:
    """The items whose nodules can all be written in a layout."""
    shapes = [item.name for item in items if not item.has_ct]
    if layout == "nnunet" and shapes:
        raise InputError(shapes[0], "a mask without an image", "samples of CT; use the layout monai for shapes")
    lacking = {item.name: bad for item in items if (bad := _unwritable(item, layout, voxelless))}
    if not lacking:
        return list(items)
    if voxelless == "leave-out":
        report.notes.append(f"left out, as the voxels of a nodule are not known: {few(list(lacking))}")
        return [item for item in items if item.name not in lacking]
    first, bad = next(iter(lacking.items()))
    by_diameter = layout == "monai" or voxelless != "refuse"
    missing = "mask or diameter" if by_diameter else "mask"
    found = f"{quantity(len(bad), 'nodule')} without a {missing} ({few([n.nodule_id for n in bad])})"
    more = f", and {len(lacking) - 1} more such cases" if len(lacking) > 1 else ""
    instead = (
        "" if by_diameter else "the layout monai, whose boxes need a diameter alone, or --voxelless balls, ignore or "
    )
    raise InputError(first, found + more, f"a {missing} of each nodule, or {instead or '--voxelless '}leave-out")


def _unwritable(item: Item, layout: str, voxelless: str) -> list[Nodule]:
    """The nodules of an item that a layout cannot hold as the caller wants them."""
    if layout == "nnunet" and voxelless not in ("balls", "ignore"):
        return list(item.voxelless)
    return [nodule for nodule in item.voxelless if not nodule.attributes.diameter_mm]
