"""Cubes of lung with a ball at the centre: images, cases of a store, and folders like those of users."""

from dataclasses import replace

import numpy as np

from synthorax.datasets.case import Case
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region
from synthorax.volume import Volume
from tests.helpers.balls import ball_mask

LUNG_HU, SOFT_TISSUE_HU = -850, 40
"""Means of the noise outside and inside the ball."""
ORIGIN_MM = (-30.0, 12.5, -200.0)
"""A place at which nobody mistakes millimetres for voxels."""


def ball_in_lung(shape=(20, 40, 40), spacing_mm=(1.25, 0.8, 0.8), origin_mm=ORIGIN_MM, diameter_mm=10, seed=0):
    """Make a ball of soft tissue at the centre of lung, both with noise of 30 HU.

    Returns:
        The volume, and the ball's mask, bool [z, y, x].
    """
    mask = ball_mask(shape, diameter_mm, spacing_mm)
    hu = np.where(mask, SOFT_TISSUE_HU, LUNG_HU) + np.random.default_rng(seed).normal(0, 30, shape)
    return Volume(np.rint(hu).astype(np.int16), spacing_mm, origin_mm), mask


def ball_case(
    name, diameter_mm, *, ratings=None, split=None, size=44, voxel_mm=1.0, origin_mm=ORIGIN_MM, seed=0, outlined=True
):
    """Make a completely annotated case of a separate patient: a ball in a cube of lung.

    Args:
        name: name of the case and of the patient.
        ratings: ratings of all readers, by attribute; the nodule gets their means.
        size: voxels along an edge of the cube.
        outlined: whether the nodule has voxels.
    """
    ct, mask = ball_in_lung((size,) * 3, (voxel_mm,) * 3, origin_mm, diameter_mm, seed)
    given = {attribute: tuple(values) for attribute, values in (ratings or {}).items()}
    attributes = NoduleAttributes(diameter_mm, **{name: float(np.mean(values)) for name, values in given.items()})
    center_mm = tuple(ct.to_world(((size - 1) / 2,) * 3).tolist())
    nodule = Nodule("01", center_mm, attributes, int(outlined), given)
    return Case(name, name, ct, (Region.of(mask),) * outlined, (nodule,), annotated="all", split=split)


def write_cubes(where):
    """Write six cubes with masks and a table of them into a new folder; return the folder.

    There are three patients, each with two cubes and in a different split; two readers rated the malignancy.
    """
    (where / "images").mkdir(parents=True)
    (where / "masks").mkdir()
    rows = []
    for i in range(6):
        ct, mask = ball_in_lung(seed=i)
        write_image(where / "images" / f"{i}.mha", ct)
        write_image(where / "masks" / f"{i}.nii.gz", replace(ct, voxels=mask))
        rows.append(
            {
                "image": f"images/{i}.mha",
                "mask": f"masks/{i}.nii.gz",
                "patient_id": f"P{i // 2}",
                "split": ("train", "val", "test")[i // 2],
                "malignancy": "4 2",
                "scanner": "A&B, Ltd",
            }
        )
    write_table(where / "nodules.csv", rows)
    return where


def place(x, y, z, diameter_mm):
    """Return the columns of a table for a nodule without a mask."""
    return {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": diameter_mm}
