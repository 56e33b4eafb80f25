"""`synthorax export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from synthorax import api
from synthorax.cli.options import Out, Overwrite
from synthorax.screen import say


def export(
    source: Path,
    *,
    layout: Literal["nnunet", "monai"],
    out: Out,
    name: str = "",
    unknown: Literal["leave-out", "include"] = "leave-out",
    voxelless: Literal["refuse", "balls", "ignore", "leave-out"] = "refuse",
    overwrite: Overwrite = False,
) -> None:
    """Write a store or a folder of samples in the layout that nnU-Net or MONAI reads.

    Parameters
    ----------
    source
        A store, or a folder that `synthorax sample` wrote.
    layout
        nnunet: a dataset folder for nnUNet_raw, with label 1 for nodules; validation patients, if there are any, are
        the validation set of splits_final.json. monai: NIfTI files and dataset.json with the lists training, validation
        and testing of MONAI's lung nodule detector: `box` has centres and sizes in world mm (LPS, so use
        affine_lps_to_ras=True), `label` a 0 for each box, `mask` a label map for segmentation.
    out
        Folder to write, such as nnUNet_raw/Dataset501_Nodules.
    name
        Name of the data set; by default the folder's.
    unknown
        Scans that may have nodules without an annotation: leave-out, or include, with unmarked voxels as background.
    voxelless
        Nodules with a centre and diameter but no mask, for nnunet. refuse: stop with an error. balls: draw a ball of
        that diameter. ignore: draw the ball with nnU-Net's ignore label. leave-out: leave out their scans.
    overwrite
        Replace a folder that an earlier call wrote.
    """
    report = api.export(
        source, out, layout, name=name or out.name, unknown=unknown, voxelless=voxelless, overwrite=overwrite
    )
    say(f"{out}: {report}")
    for note in report.notes:
        say(f"  {note}")
