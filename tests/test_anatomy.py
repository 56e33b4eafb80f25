"""Lungs and where nodules may go."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.anatomy.lungs import find_lungs
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.io.images import read_image
from synthorax.volume import Volume

SPACING_MM = (2.5, 1.5, 1.5)


@pytest.fixture(scope="module")
def torso():
    """A plain torso on a table, and its lungs: two ellipsoids with vessels, and a nodule on the wall of one."""
    shape = (120, 200, 240)
    z, y, x = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, SPACING_MM, strict=True)], indexing="ij"
    )

    def ellipsoid(center, radii):
        return sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), center, radii, strict=True)) <= 1

    hu = np.full(shape, -1000.0)
    hu[((y / 115) ** 2 + (x / 160) ** 2) <= 1] = 40
    hu[(abs(y - 135) < 3) & (abs(x) < 150)] = 200
    lungs = ellipsoid((0, 0, -70), (110, 75, 50)) | ellipsoid((0, 0, 70), (110, 75, 50))
    lungs &= ~ellipsoid((-30, -20, 15), (60, 50, 55))
    hu[lungs] = -860
    for angle in np.linspace(0, 2 * np.pi, 14, endpoint=False):
        along = np.abs(z - 40 * np.sin(angle)) < 80
        for side in (-70, 70):
            vessel = (y - 40 * np.cos(angle)) ** 2 + (x - side - 25 * np.sin(angle)) ** 2 < 3.5**2
            hu[vessel & lungs & along] = 30
    nodule = ellipsoid((20, -60, 70), (12, 12, 12)) & lungs
    hu[nodule] = 30
    trachea = ((y + 20) ** 2 + x**2 < 9**2) & (z > 0)
    hu[trachea] = -1000
    hu = gaussian_filter(hu, [0.4, 0.6, 0.6]) + np.random.default_rng(0).normal(0, 25, shape)
    return Volume(np.rint(hu).astype(np.int16), SPACING_MM, (-180.0, -150.0, -150.0)), lungs, nodule, trachea


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def arrays(ct):
    found = find_lungs(ct).on(ct)
    return found.mask.voxels, found.airways.voxels, found.body.voxels


def test_lungs_are_found_with_their_vessels_and_the_nodule_on_their_wall(torso):
    ct, lungs, nodule, trachea = torso
    mask, airways, body = arrays(ct)
    assert dice(mask, lungs) > 0.97
    assert mask[nodule].mean() > 0.8
    assert mask[trachea].mean() < 0.1
    assert airways[trachea].mean() > 0.7
    assert not body[:, -10:].any()  # the table


def test_lungs_are_the_same_whichever_way_the_scan_lies(torso):
    ct, _, _, _ = torso
    turned = orient(ct, "RAS")
    found = orient(find_lungs(turned).on(turned).mask, "LPS")
    assert dice(found.voxels, arrays(ct)[0]) > 0.99


def test_where_there_is_no_lung_one_line_says_so():
    solid = np.full((40, 60, 60), 40, np.int16)
    solid[:, :5] = -1000
    with pytest.raises(InputError, match="no lung"):
        find_lungs(Volume(solid, (2.0, 2.0, 2.0)))


def test_the_lungs_of_a_real_scan_have_their_nodules_and_a_plausible_size(real_data):
    ct = read_image(real_data / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz")
    mask, airways, _ = arrays(ct)
    litres = mask.sum() * np.prod(ct.spacing_mm) / 1e6
    assert 3 < litres < 8
    assert airways.sum() * np.prod(ct.spacing_mm) / 1e3 > 15
    for place in ((72.5, 77.2, -190.4), (23.5, -47.6, -172.2), (-47.2, -30.1, -169.5)):
        assert mask[tuple(np.rint(ct.to_voxel(place)).astype(int))]
