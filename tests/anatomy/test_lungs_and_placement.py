"""Lungs and where nodules may go."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.anatomy.learned import find_lungs_learned
from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.morphology import distance_inside
from synthorax.anatomy.placement import Ball, Clearance, Placement, check_in_scan
from synthorax.anatomy.tissue import TissueClass, tissue_map
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
    with pytest.raises(InputError, match=r"no lung in voxels of 0.002 x 0.002 x 0.003 mm; expected a header in millim"):
        find_lungs(Volume(solid, (0.003, 0.002, 0.002)))


def test_the_lungs_of_a_real_scan_have_their_nodules_and_a_plausible_size(real_data):
    ct = read_image(real_data / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz")
    mask, airways, _ = arrays(ct)
    litres = mask.sum() * np.prod(ct.spacing_mm) / 1e6
    assert 3 < litres < 8
    assert airways.sum() * np.prod(ct.spacing_mm) / 1e3 > 15
    for place in ((72.5, 77.2, -190.4), (23.5, -47.6, -172.2), (-47.2, -30.1, -169.5)):
        assert mask[tuple(np.rint(ct.to_voxel(place)).astype(int))]


# Where a nodule may go


@pytest.fixture(scope="module")
def room(torso):
    """The torso's lungs, as they are found."""
    return find_lungs(torso[0])


def gaps_mm(torso, ball):
    """Millimetres from a ball's surface to the true wall and to the nearest vessel."""
    ct, lungs, nodule, _ = torso
    points = ct.to_world(np.argwhere(~lungs))
    to_wall = np.linalg.norm(points - ball.center_mm, axis=1).min() - ball.diameter_mm / 2
    dense = lungs & (ct.voxels > -500) & ~nodule & (distance_inside(lungs, ct.spacing_mm) > 4)
    vessels = ct.to_world(np.argwhere(dense))
    return to_wall, np.linalg.norm(vessels - ball.center_mm, axis=1).min() - ball.diameter_mm / 2


@pytest.mark.parametrize("diameter_mm", [5, 12, 20])
def test_a_place_is_as_clear_as_was_asked_for(torso, room, diameter_mm):
    for seed in range(4):
        placement = Placement(room)
        ball = placement.find(diameter_mm, seed, clearance=Clearance(4, 2, 5))
        to_wall, to_vessel = gaps_mm(torso, ball)
        assert to_wall > 4 - 1.5  # blocks are 2.5 mm wide
        assert to_vessel > 2 - 1.5
        assert placement.objection(ball) is not None  # it is taken now


def test_nodules_are_placed_clear_of_each_other(room):
    placement = Placement(room, [Ball((70.0, -60.0, 20.0), 24)])
    found = [placement.find(10, seed, clearance=Clearance(2, None, 6)) for seed in range(12)]
    everything = [*found, placement.taken[0]]
    assert min(a.gap_mm(b) for i, a in enumerate(everything) for b in everything[:i]) > 6 - 2.5


def test_a_nodule_can_be_attached(torso, room):
    for seed in range(4):
        on_wall = gaps_mm(torso, Placement(room).find(12, seed, site="pleura"))[0]
        on_vessel = gaps_mm(torso, Placement(room).find(12, seed, site="vessel"))[1]
        assert on_wall < 0
        assert on_vessel < 1


def test_a_place_is_drawn_by_the_seed(room):
    first, again, other = (Placement(room).find(8, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_why_no_place_will_do_and_that_what_is_said_to_fit_fits(room):
    with pytest.raises(InputError, match="widest nodule that fits into the lungs") as refused:
        Placement(room).find(90, 0)
    widest = float(str(refused.value).split("at most ")[1].split()[0])
    assert 15 < widest < 90
    Placement(room).find(widest - 0.1, 0)
    said = (
        r"no place with room for a nodule of 5 mm, 80 mm from the wall, in the \S+ ml of lung that were found; expected"
    )
    with pytest.raises(InputError, match=f"scan: found {said} .* `clearance`; .* `at_mm` with `force`"):
        Placement(room).find(5, 0, clearance=Clearance(80, None, None))


@pytest.mark.parametrize(
    ("center_mm", "expected"),
    [
        ((0.0, 20.0, 0.0), "one in the lungs"),
        ((70.0, 0.0, 5.0), None),
        ((70.0, -60.0, 20.0), "does not overlap the nodule of 24 mm"),
    ],
)
def test_a_given_place_is_objected_to_if_there_is_cause(room, center_mm, expected):
    found = Placement(room, [Ball((72.0, -58.0, 20.0), 24)]).objection(Ball(center_mm, 6))
    assert (found is None) if expected is None else expected in str(found)


@pytest.mark.parametrize("kind", ["lung", "pleura", "vessel"])
def test_a_place_that_was_found_is_one_that_may_be_given(room, kind):
    for seed in range(4):
        assert Placement(room).objection(Placement(room).find(8, seed, site=kind)) is None


def test_a_place_outside_the_scan_is_told_where_the_scan_is(torso):
    with pytest.raises(InputError, match=r"from \(-180.8, -150.8, -151.2\) mm to"):
        check_in_scan(torso[0], (500, 0, 0))


# Other ways to find lungs


def test_without_lungmask_one_line_says_how_to_get_it(torso, monkeypatch):
    monkeypatch.setitem(sys.modules, "lungmask", None)
    with pytest.raises(InputError, match=r"pip install 'synthorax\[lungmask\]'"):
        find_lungs_learned(torso[0])


def test_lungmask_gives_the_lungs_where_it_is_installed(torso, monkeypatch):
    """Its network cannot be had here; a stand-in for it gives the left lung as 2 and nothing else."""
    ct, lungs, _, _ = torso
    left = lungs & (np.arange(ct.shape[2]) > ct.shape[2] / 2)

    class Inferer:
        def apply(self, image):
            assert image.GetSpacing() == ct.spacing_mm[::-1]
            return 2 * left.astype(np.uint8)

    monkeypatch.setitem(sys.modules, "lungmask", SimpleNamespace(LMInferer=Inferer))
    found = find_lungs_learned(ct).on(ct)
    assert dice(found.mask.voxels, left) > 0.97


# Tissues


def test_tissues_are_spans_of_hu_and_the_outside_is_a_class_of_its_own():
    hu = np.array([[[-1000, -850, -201, -200, -1, 0, 1, 500, 501, 1900, 1901]]], np.int16)
    body = np.ones(hu.shape, bool)
    body[0, 0, 0] = False
    nodules = np.zeros(hu.shape, bool)
    nodules[0, 0, 1] = True
    ct = Volume(hu, (1.0, 1.0, 1.0))
    names = [TissueClass(code).name for code in tissue_map(ct, body, nodules).voxels[0, 0]]
    assert names == ["OUTSIDE", "NODULE", "OTHER", "FAT", "FAT", "WATER", "SOFT", "SOFT", "BONE", "BONE", "SOFT"]
    assert TissueClass.OUTSIDE not in tissue_map(ct).voxels


def test_the_tissues_of_a_torso_are_where_they_are(torso, room):
    ct, lungs, nodule, _ = torso
    labels = tissue_map(ct, room.on(ct).body.voxels, nodule).voxels
    assert (labels[0, 0] == TissueClass.OUTSIDE).all()
    assert (labels[lungs & ~nodule] == TissueClass.OTHER).mean() > 0.9
    assert (labels[nodule] == TissueClass.NODULE).all()
    assert (labels[60, 100, 118:122] == TissueClass.SOFT).all()  # the heart
