"""Label maps as files: codes and geometry survive in every format, and a file without geometry is refused."""

from dataclasses import replace

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import write_image
from synthorax.io.label_maps import read_label_map
from synthorax.volume import Volume
from tests.helpers.foreign_files import write_segments

CODES = np.zeros((4, 6, 5), np.uint8)
CODES[1:3, 2:5, 1:4] = 3
CODES[2, 3, 2] = 5
MAP = Volume(CODES, (2.0, 0.7, 0.7), (-12.0, 8.0, -300.0))


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_codes_and_place_come_back_from_an_image(suffix, tmp_path):
    write_image(tmp_path / f"map{suffix}", orient(MAP, "RAS"))
    found = orient(read_label_map(tmp_path / f"map{suffix}").volume, "LPS")
    np.testing.assert_array_equal(found.voxels, CODES)
    np.testing.assert_allclose(found.affine, MAP.affine, atol=1e-4)


def test_the_segments_of_a_dicom_segmentation_lie_where_its_own_frames_do(tmp_path):
    slices = write_ct_series(tmp_path / "ct", replace(MAP, voxels=np.zeros(MAP.shape, np.int16)), mark=None)
    write_segments(tmp_path / "seg.dcm", slices, [CODES == 3, CODES == 5], ["Lung", "Bone"])
    found = read_label_map(tmp_path / "seg.dcm").volume
    assert found.spacing_mm == MAP.spacing_mm
    assert found.origin_mm == (-12.0, 8.0, -298.0)  # planes without a voxel have no frame
    np.testing.assert_array_equal(found.voxels, np.select([CODES == 3, CODES == 5], [1, 2])[1:3])


def without_place(path):
    """Write the label map into a file whose header gives no orientation."""
    write_image(path, MAP)
    data = bytearray(path.read_bytes())
    if path.suffix == ".nii":
        data[252:256] = bytes(4)  # the codes of qform and sform
    elif path.suffix == ".mha":
        lines = data.split(b"\n")
        data = bytearray(b"\n".join(line for line in lines if not line.startswith(b"TransformMatrix")))
    else:
        data = bytearray(bytes(data).replace(b"space: left-posterior-superior\n", b"space dimension: 3\n"))
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["map.nii", "map.mha", "map.nrrd"])
def test_a_label_map_without_an_orientation_is_refused_with_what_to_do(name, tmp_path):
    without_place(tmp_path / name)
    with pytest.raises(InputError, match=r"gives no orientation; expected .*labels.CopyInformation\(scan\)"):
        read_label_map(tmp_path / name)


def test_an_array_has_no_place(tmp_path):
    np.save(tmp_path / "map.npy", CODES)
    with pytest.raises(InputError, match="an array, which has no voxel size and no place"):
        read_label_map(tmp_path / "map.npy")


def test_probabilities_are_no_label_map(tmp_path):
    write_image(tmp_path / "map.nii", replace(MAP, voxels=np.where(CODES > 0, 0.9, 0.0).astype(np.float32)))
    with pytest.raises(InputError, match="probabilities; expected a label map"):
        read_label_map(tmp_path / "map.nii")
