from dataclasses import fields

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.tissue import Tissue, TissueClass, tissue_classes, tissue_map
from synthorax.errors import InputError
from synthorax.phantom.anatomy import make_anatomy
from synthorax.phantom.chest import Chest, make_chest
from synthorax.phantom.raster import Grid, occupancy
from synthorax.phantom.scan import loudness, scan
from synthorax.phantom.tubes import chain
from synthorax.scanner import Scanner

SEED = 3
COARSE = {"shape": (120, 120, 140), "spacing_mm": (3.0, 3.0, 3.0)}
SMALL_CROP = {"shape": (40, 60, 30), "spacing_mm": (3.0, 3.0, 3.0)}
FINE_CROP = {"shape": (120, 90, 180), "spacing_mm": (1.0, 1.0, 1.0)}


@pytest.fixture(scope="module")
def chest():
    return make_chest(SEED, **COARSE)


@pytest.fixture(scope="module")
def other():
    return make_chest(SEED + 1, **COARSE)


@pytest.fixture(scope="module")
def small():
    return make_chest(SEED, **SMALL_CROP)


@pytest.fixture(scope="module")
def finer():
    return make_chest(SEED, shape=(156, 150, 168), spacing_mm=(2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def hila():
    """Both hila at 1 mm, where bronchi and vessels are wider than voxels."""
    return make_chest(SEED, **FINE_CROP)


@pytest.fixture(scope="module")
def anatomy():
    return make_anatomy(SEED)


def arrays(chest: Chest):
    yield chest.hu.voxels
    yield from (getattr(chest, f.name) for f in fields(chest) if f.name != "hu")


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def litres(mask, spacing_mm):
    return mask.sum() * np.prod(spacing_mm) / 1e6


def test_a_seed_is_a_person(chest, other, small):
    again = make_chest(SEED, **SMALL_CROP)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(small), arrays(again), strict=True))
    assert dice(chest.lobes > 0, other.lobes > 0) < 0.97
    assert dice(chest.tissues == Tissue.BONE, other.tissues == Tissue.BONE) < 0.8


def test_the_person_is_the_same_at_any_spacing(chest, finer):
    shape = (104, 100, 112)
    middle = tuple(slice((a - b) // 2, (a + b) // 2) for a, b in zip(COARSE["shape"], shape, strict=True))
    for name, least in (("lobes", 0.98), ("body", 0.98), ("airways", 0.85)):
        fine = (getattr(finer, name) > 0).astype(np.float32)
        there = ndimage.zoom(fine, 2 / 3, order=1, grid_mode=True, mode="nearest")
        assert there.shape == shape
        assert dice(getattr(chest, name)[middle] > 0, there > 0.5) > least
    assert abs(finer.hu.voxels.mean() - chest.hu.voxels[middle].mean()) < 3


def test_a_smaller_grid_is_a_crop(chest, small):
    middle = tuple(slice((a - b) // 2, (a + b) // 2) for a, b in zip(COARSE["shape"], small.hu.shape, strict=True))
    assert all(np.array_equal(a, b[middle]) for a, b in zip(arrays(small), arrays(chest), strict=True))
    assert np.allclose(small.hu.origin_mm, chest.hu.to_world([s.start for s in middle]))
    assert np.allclose(chest.hu.to_world((np.array(COARSE["shape"]) - 1) / 2), 0)


def test_beyond_the_model_there_is_air():
    wide = make_chest(SEED, shape=(64, 40, 56), spacing_mm=(10.0, 10.0, 10.0))
    for far in (wide.hu.voxels[0], wide.hu.voxels[-1], wide.hu.voxels[..., 0], wide.hu.voxels[..., -1]):
        assert far.max() <= -340  # a table, nobody on it
    assert not wide.body[[0, -1]].any()


@pytest.mark.parametrize("name", ["chest", "other"])
def test_lungs_and_lobes_have_the_volumes_of_an_adult(name, request):
    person = request.getfixturevalue(name)
    total = litres(person.lobes > 0, person.hu.spacing_mm)
    assert 2.5 < total < 7.5
    shares = np.bincount(person.lobes.ravel(), minlength=6)[1:] / (person.lobes > 0).sum()
    assert len(shares) == 5
    assert np.all(shares > (0.14, 0.04, 0.15, 0.15, 0.14))
    assert np.all(shares < (0.32, 0.14, 0.33, 0.32, 0.30))
    z, y, x = (np.ptp(c) * 3.0 for c in np.nonzero(person.lobes))
    assert 190 < z < 320
    assert 130 < y < 230
    assert 220 < x < 330


def test_each_lung_is_whole_and_right_is_right(chest):
    parts = cc3d.connected_components(chest.lobes > 0, connectivity=6)
    sizes = np.sort(np.bincount(parts.ravel())[1:])
    assert sizes[-2:].sum() > 0.999 * sizes.sum()
    x = [np.nonzero(chest.lobes == lobe)[2].mean() for lobe in range(1, 6)]
    assert max(x[:3]) < COARSE["shape"][2] / 2 < min(x[3:])
    z = [np.nonzero(chest.lobes == lobe)[0].mean() for lobe in range(1, 6)]
    assert z[0] > z[1] > z[2]
    assert z[3] > z[4]


def test_vessels_lie_in_the_lungs_and_fill_them(hila, chest):
    assert not (hila.vessels & (hila.lobes == 0)).any()
    assert 0.01 < hila.vessels.sum() / (hila.lobes > 0).sum() < 0.15
    depth = ndimage.distance_transform_edt(chest.lobes > 0) * 3.0
    dense = chest.hu.voxels > -780
    middle = (depth > 12) & (depth < 24)
    deep = depth > 30
    assert 0.03 < dense[middle].mean() < dense[deep].mean(), "fine vessels outside, thick ones near the hilum"


def test_every_tree_is_connected_and_tapers(anatomy):
    for trees in (anatomy.pulmonary.artery_trees, anatomy.pulmonary.vein_trees):
        assert sum(tree.supplied[0] for tree in trees.values()) > 1000
        for tree in trees.values():
            later = np.arange(1, len(tree.nodes))
            assert np.all(tree.parent[1:] < later), "every node hangs on an earlier one, so all on the root"
            radii = tree.radii(0.6, 5.0)
            assert np.all(radii[1:] <= radii[tree.parent[1:]] + 1e-9)
            children = np.bincount(tree.parent[1:], tree.supplied[1:], len(tree.nodes))
            inner = np.isin(np.arange(len(tree.nodes)), tree.parent[1:])
            assert np.array_equal(children[inner], tree.supplied[inner]), "what a branch supplies, its branches supply"
            tubes = tree.tubes(radii)
            assert np.all(tubes.end_mm <= tubes.start_mm + 1e-9)
            ends = {tuple(p) for p in np.round(np.concatenate([tree.nodes[:1], tubes.end]), 6)}
            assert {tuple(p) for p in np.round(tubes.start, 6)} <= ends


def test_bronchi_open_into_the_trachea(hila, anatomy):
    parts = cc3d.connected_components(hila.airways, connectivity=26)
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() > 0.95 * sizes.sum()
    reached = parts == sizes.argmax() + 1
    assert all((reached & (hila.lobes == lobe)).any() for lobe in range(1, 6))
    top = np.nonzero(reached)[0].max()
    assert top == len(reached) - 1, "it goes on to the neck"
    for lobe, tree in anatomy.pulmonary.bronchial_trees.items():
        assert np.allclose(tree.nodes[0], anatomy.mediastinum.lobe_bronchi[lobe].end[-1])


def test_outside_the_body_are_only_air_and_table(chest):
    outside = ~ndimage.binary_dilation(chest.body, iterations=2)
    assert set(np.unique(chest.tissues[outside])) <= {Tissue.OUTSIDE, Tissue.TABLE}
    free = outside & (chest.tissues == Tissue.OUTSIDE)
    assert np.median(chest.hu.voxels[free]) == -1000
    assert (chest.tissues == Tissue.TABLE).any()
    table = np.nonzero(chest.tissues == Tissue.TABLE)[1].mean()
    assert table > np.nonzero(chest.body)[1].mean(), "the patient lies on the back"
    inside = ndimage.binary_erosion(chest.body, iterations=2)
    assert not np.isin(chest.tissues[inside], (Tissue.OUTSIDE, Tissue.TABLE)).any()


def test_tissues_have_their_densities(chest, hila):
    def middle(part: Chest, tissue: Tissue):
        core = ndimage.binary_erosion(part.tissues == tissue)
        return float(np.median(part.hu.voxels[core if core.sum() > 50 else part.tissues == tissue]))

    assert -910 < middle(chest, Tissue.LUNG) < -800
    assert middle(hila, Tissue.AIRWAY) < -950
    assert -125 < middle(chest, Tissue.FAT) < -80
    assert 30 < middle(chest, Tissue.SOFT) < 75
    assert middle(chest, Tissue.BONE) > 120
    blood = middle(hila, Tissue.BLOOD)
    assert 30 < blood < 50 or 120 < blood < 250
    lung = chest.tissues == Tissue.LUNG
    y = np.nonzero(lung)[1]
    low, high = np.percentile(y, (15, 85))
    hu = chest.hu.voxels[lung]
    assert np.median(hu[y > high]) > np.median(hu[y < low]) + 15, "lung is denser where it lies low"


def test_the_classes_of_the_phantoms_tissues_are_those_of_its_density(hila):
    classes, by_density = tissue_classes(hila.tissues), tissue_map(hila.hu, hila.body).voxels
    for one in (TissueClass.OTHER, TissueClass.FAT, TissueClass.SOFT):
        assert (by_density[classes == one] == one).mean() > 0.9, one.name


def test_bone_surrounds_the_lungs_but_is_not_in_them(chest):
    assert ((chest.tissues == Tissue.BONE) & (chest.lobes > 0)).sum() < 1e-3 * (chest.lobes > 0).sum()
    half = COARSE["shape"][0] // 2
    ribs = cc3d.connected_components((chest.tissues == Tissue.BONE)[half], connectivity=8)
    assert ribs.max() >= 7


def test_a_thin_vessel_keeps_its_cross_section():
    axis = np.arange(-12, 12, 1.5) + 0.4
    grid = Grid(axis, axis, axis, (1.5, 1.5, 1.5))
    for radius in (0.3, 0.6, 1.0, 3.0):
        tube = chain([(-40, 0.1, 0.2), (40, 0.1, 0.2)], radius)
        area = occupancy(tube, grid)[:, :, 5].sum() * 1.5**2
        assert area == pytest.approx(np.pi * radius**2, rel=0.25)


def test_lungs_are_found_in_the_scan(finer):
    made = scan(finer.hu, finer.body, Scanner(noise_hu=20), seed=1)
    found = find_lungs(made).on(made).mask.voxels
    assert dice(found, finer.lobes > 0) > 0.97


def test_a_scan_is_noisiest_where_the_body_is_thickest(chest):
    made = scan(chest.hu, chest.body, Scanner(noise_hu=25), seed=5)
    assert made.voxels.dtype == np.int16
    assert made.voxels.min() >= -1024
    assert np.array_equal(made.voxels, scan(chest.hu, chest.body, Scanner(noise_hu=25), seed=5).voxels)
    assert not np.array_equal(made.voxels, scan(chest.hu, chest.body, Scanner(noise_hu=25), seed=6).voxels)
    loud = loudness(chest.hu, chest.body)
    assert loud[chest.body].mean() == pytest.approx(1, abs=0.1)
    assert loud[60, 60, 70] > 1.3 * loud[60, 5, 5]
    shoulders = np.nonzero(chest.lobes)[0].max()
    assert loud[shoulders][chest.body[shoulders]].mean() > 1.1 * loud[60][chest.body[60]].mean()


def test_a_spacing_must_be_positive():
    with pytest.raises(InputError, match="spacing"):
        make_chest(0, spacing_mm=(1.0, 0.0, 1.0))
