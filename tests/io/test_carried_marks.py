"""The synthetic mark after other programs have converted a file."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from synthorax.io.marks import find_marks
from synthorax.io.scans import write_scan
from synthorax.volume import Volume

MARK = "SYNTHETIC: made by synthorax, not a patient; 0123abcd s7"
SCAN = Volume(np.random.default_rng(0).integers(-1000, 500, (3, 10, 12)).astype(np.int16), (2.5, 0.7, 0.7))


@pytest.mark.parametrize("made", ["a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("converted", ["b.nii.gz", "b.mha", "b.mhd", "b.nrrd"])
def test_itk_takes_the_mark_along_from_format_to_format(tmp_path, made, converted):
    write_scan(tmp_path / made, SCAN, mark=MARK)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / made)), str(tmp_path / converted))
    assert find_marks(tmp_path / converted)[0].text == MARK


@pytest.mark.parametrize("converted", ["b.mha", "b.nrrd"])
def test_itk_takes_the_mark_of_a_slice_along(tmp_path, converted):
    write_scan(tmp_path / "a", SCAN, mark=MARK)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a" / "0001.dcm")), str(tmp_path / converted))
    assert find_marks(tmp_path / converted)[0].text == MARK


def test_itk_makes_a_marked_slice_of_a_marked_image(tmp_path):
    write_scan(tmp_path / "a.mha", SCAN, mark=MARK)
    image = sitk.ReadImage(str(tmp_path / "a.mha"))
    piece = image[:, :, 0]
    for key in image.GetMetaDataKeys():
        piece.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(piece, str(tmp_path / "b.dcm"))
    assert find_marks(tmp_path / "b.dcm")[0].text == MARK


def test_what_dcm2niix_keeps_of_it_is_found(tmp_path):
    image = nib.Nifti1Image(SCAN.voxels, np.eye(4))
    image.header["aux_file"] = MARK[:24].encode()  # the start of ImageComments
    nib.save(image, tmp_path / "a.nii.gz")
    assert find_marks(tmp_path / "a.nii.gz")[0].text == MARK[:24]
    nib.save(nib.Nifti1Image(SCAN.voxels, np.eye(4)), tmp_path / "b.nii.gz")
    assert not find_marks(tmp_path / "b.nii.gz")
    (tmp_path / "b.json").write_text(json.dumps({"Modality": "CT", "ImageComments": MARK}))
    assert find_marks(tmp_path / "b.nii.gz")[0].text == MARK
