"""`synthorax export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from synthorax import api
from synthorax.screen import say


def export(
    source: Path,
    *,
    layout: Literal["nnunet", "monai"],
    out: Path,
    name: str = "",
    unknown: Literal["leave-out", "include"] = "leave-out",
    voxelless: Literal["refuse", "balls", "ignore", "leave-out"] = "refuse",
    overwrite: bool = False,
) -> None:
    """A store or a folder of samples in the layout that nnU-Net or MONAI reads.

    Parameters
    ----------
    source
        A store, or what `synthorax sample` wrote.
    layout
        nnunet: a dataset folder of nnUNet_raw, labels 0 and 1, val kept apart by splits_final.json where there is one.
        monai: NIfTI files and dataset.json with training, validation and testing lists as MONAI's published lung nodule
        detector reads them: `box`, centre and size in world mm, LPS, for affine_lps_to_ras=True; `label`, a 0 a box;
        `mask`, a label map for those who segment.
    out
        Folder to write, such as nnUNet_raw/Dataset501_Nodules.
    name
        Of the data set; the folder's if not given.
    unknown
        Scans of which not every nodule is known: leave-out, or include, which takes what is not marked for background.
    voxelless
        Nodules known by centre and diameter alone. refuse: stop. balls: paint balls of their diameter. ignore: paint
        the balls with nnU-Net's ignore label. leave-out: leave their scans out. MONAI's boxes need no voxels.
    overwrite
        Replace a folder that an earlier call made.
    """
    report = api.export(
        source, out, layout, name=name or out.name, unknown=unknown, voxelless=voxelless, overwrite=overwrite
    )
    say(f"{out}: {report}")
    for note in report.notes:
        say(f"  {note}")
