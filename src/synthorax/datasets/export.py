"""Export of stores and folders of samples to the layouts that nnU-Net and MONAI read.

An unknown nodule must not become background. So a scan whose nodules are not all known is left out and named, and a
nodule without a mask stops the export unless the caller says how to write it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console
from rich.progress import track

from synthorax.datasets import monai, nnunet
from synthorax.datasets.export_items import Item, Report, few
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder
from synthorax.nodule import Nodule
from synthorax.screen import quantity

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

    Args:
        items: scans and samples.
        out: folder to write.
        layout: `nnunet` for `nnUNet_raw`: imagesTr, labelsTr, imagesTs, labelsTs and dataset.json, with the validation
            cases in splits_final.json; `monai` for images, masks and a dataset.json with lists of boxes for training,
            validation and testing (`datasets.monai`).
        name: name of the data set.
        unknown: what to do with a scan whose nodules are not all known: `leave-out`, or `include`, which makes its
            unmarked nodules background.
        voxelless: what to do with a nodule without a mask: `refuse` stops; `balls` paints a ball of its diameter;
            `ignore` paints the ball with nnU-Net's ignore label; `leave-out` leaves out its scan. MONAI's boxes need
            either a mask or a diameter.
        overwrite: replace a folder that an earlier call wrote.

    Raises:
        InputError: a choice is unknown; the layout cannot hold a nodule; no case is left; or the folder holds something
            else.
        OutputError: a file cannot be written.
    """
    for subject, found, known in (
        ("layout", layout, ExportLayout),
        ("unknown", unknown, Unknown),
        ("voxelless", voxelless, Voxelless),
    ):
        if found not in get_args(known):
            raise InputError(subject, repr(found), " or ".join(get_args(known)))
    if layout == "monai" and voxelless == "ignore":
        raise InputError("voxelless", "'ignore'", "refuse, balls or leave-out: only nnU-Net has an ignore label")
    report = Report()
    kept = _with_every_nodule_known(items, unknown, report)
    kept = _that_fit(kept, layout, voxelless, report)
    if not kept:
        found = f"no case to write, of {quantity(len(items), 'case')}" + f": {'; '.join(report.notes)}" * bool(
            report.notes
        )
        raise InputError("export", found, "a store of scans whose nodules are all known and have masks")
    if small := sum(item.small for item in kept):
        report.notes.append(
            f"{small} marks of nodules too small to be outlined are not exported; their voxels become background"
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
    """Return the items whose nodules are all known, or all items if the caller includes unknown ones."""
    for annotated, reason in (
        ("none-known", "nothing is known about their nodules"),
        ("some", "not all of their nodules are known"),
    ):
        found = [item.name for item in items if item.annotated == annotated]
        is_made = any(item.mark for item in items if item.annotated == annotated)
        injected = (
            ". A scan with injected nodules is exported if the store also has the scan into which they were injected, "
            "with all of its nodules known"
        ) * is_made
        if found and unknown == "include":
            report.notes.append(f"{reason}: {few(found)}; they are included, and unmarked nodules become background")
        elif found:
            report.notes.append(
                f"left out, because {reason}: {few(found)}. If masks and tables mark every nodule, "
                "`prepare` them with --annotated all (and --overwrite over a store). `export --unknown include` "
                "writes them, with unmarked nodules as background" + injected
            )
    return [item for item in items if unknown == "include" or item.annotated == "all"]


def _that_fit(items: Sequence[Item], layout: str, voxelless: str, report: Report) -> list[Item]:
    """Return the items whose nodules can all be written in a layout."""
    shapes = [item.name for item in items if not item.has_ct]
    if layout == "nnunet" and shapes:
        raise InputError(shapes[0], "a mask without an image", "samples of CT; use the layout monai for shapes")
    lacking = {item.name: bad for item in items if (bad := _unwritable(item, layout, voxelless))}
    if not lacking:
        return list(items)
    if voxelless == "leave-out":
        report.notes.append(f"left out, because the mask of a nodule is not known: {few(list(lacking))}")
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
    """Return the nodules of an item that a layout cannot hold with the caller's choices."""
    if layout == "nnunet" and voxelless not in ("balls", "ignore"):
        return list(item.voxelless)
    return [nodule for nodule in item.voxelless if not nodule.attributes.diameter_mm]
