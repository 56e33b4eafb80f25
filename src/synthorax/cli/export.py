"""`synthorax export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from synthorax import api


def export(
    source: Path, *, layout: Literal["nnunet", "monai"], out: Path, name: str = "", overwrite: bool = False
) -> None:
    """A store or a folder of samples in the layout that nnU-Net or MONAI reads.

    Parameters
    ----------
    source
        A store, or what `synthorax sample` wrote.
    layout
        nnunet: a dataset folder of nnUNet_raw, val kept apart by splits_final.json. monai: NIfTI files and
        dataset.json with training, validation and testing lists, boxes as MONAI's detection reads them.
    out
        Folder to write, such as nnUNet_raw/Dataset501_Nodules.
    name
        Of the data set; the folder's if not given.
    overwrite
        Replace a folder that an earlier call made.
    """
    api.export(source, out, layout, name=name or out.name, overwrite=overwrite)
    print(out)
