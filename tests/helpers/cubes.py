"""Small cubes of lung with one nodule, and folders of them as users have them."""

from dataclasses import replace

import numpy as np

from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.volume import Volume

LUNG_HU = -850


def chest(shape=(20, 40, 40), spacing_mm=(1.25, 0.8, 0.8), origin_mm=(-30.0, 12.5, -200.0), seed=0):
    """Noise as in lung, with a soft ball in the middle; and the ball's mask."""
    rng = np.random.default_rng(seed)
    voxels = rng.normal(LUNG_HU, 30, shape)
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"), -1) * spacing_mm
    mask = (grid**2).sum(-1) <= 5**2
    voxels[mask] = rng.normal(40, 20, mask.sum())
    return Volume(np.rint(voxels).astype(np.int16), spacing_mm, origin_mm), mask


def write_cubes(where):
    """Write six cubes of three patients into a folder, with masks, ratings of two readers and splits; returns it."""
    (where / "images").mkdir(parents=True)
    (where / "masks").mkdir()
    rows = []
    for i in range(6):
        ct, mask = chest(seed=i)
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
    """The columns of a nodule that has no mask."""
    return {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": diameter_mm}
