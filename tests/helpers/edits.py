"""Results of an injection into one chest, as an image and as a DICOM series."""

import synthorax as sx
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image

FORMATS = ("image", "dicom")


def injected_in_each_format(folder, chest, *method, **asked):
    """Write a chest into a folder in both formats, inject into each with seed 5, and return the results' folders."""
    write_image(folder / "chest.nii.gz", chest)
    write_ct_series(folder / "series", chest, mark=None)
    for name, scan in zip(FORMATS, ("chest.nii.gz", "series"), strict=True):
        sx.inject(folder / scan, *method, **asked, seed=5, out=folder / name)
    return {name: folder / name for name in FORMATS}
