"""Distances between sets of chests, slice by slice, order known sets correctly; anatomy and copies are reported."""

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.metrics.chest_anatomy import UsualChests
from synthorax.studies.chest_fidelity import (
    BLURRED_CHESTS,
    REAL_REAL,
    SliceFeatures,
    blurred_chests,
    chest_checks,
    slice_distances,
)
from synthorax.studies.slice_reader import READ_PLACES, SliceBatches, slice_reader
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import SliceNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

EDGE = 24


def chest(seed, tilt=0.0):
    """A trunk with two lungs of the seed's width and noise, HU of 24^3 voxels."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, EDGE),) * 3, indexing="ij")
    hu = np.where(x**2 + y**2 < 0.95, 40.0, -1000.0)
    wide = random.uniform(0.7, 1.0)
    for side in (-0.45, 0.45):
        hu[((x - side - tilt * z) / (0.35 * wide)) ** 2 + (y / 0.6) ** 2 + (z / 0.9) ** 2 < 1] = -850
    return np.rint(hu + random.normal(0, 20, hu.shape)).astype(np.int16)


@pytest.fixture(scope="module")
def training():
    return [chest(seed) for seed in range(10)]


@pytest.fixture(scope="module")
def fresh():
    return [chest(seed) for seed in range(20, 32)]


@pytest.fixture(scope="module")
def reader(training, tmp_path_factory):
    return slice_reader(training, EDGE, tmp_path_factory.mktemp("reader"), "chests", steps=20, device="cpu")


def test_the_class_of_a_slice_is_its_orientation_and_place():
    ramp = np.arange(READ_PLACES, dtype=np.int16)[:, None, None] * 100 + np.zeros(
        (READ_PLACES, READ_PLACES, READ_PLACES), np.int16
    )
    config = TaskConfig(network=SliceNetConfig(n_classes=30), size=(1, READ_PLACES, READ_PLACES), batch_size=30)
    batch = SliceBatches([ramp], config, 0)(0)
    hu = config.patch.to_hu(batch["ct"][:, 0, 0])
    axial = batch["label"] < READ_PLACES
    assert axial.any()
    assert (hu[axial].mean((1, 2)).round() == (batch["label"][axial] * 100).clamp(max=400)).all()
    assert (hu[~axial].std((1, 2)) > 1).all()


def test_real_chests_are_nearest_then_blurred_ones_then_others(reader, fresh):
    features = SliceFeatures.of(reader, fresh)
    sets = {
        BLURRED_CHESTS: SliceFeatures.of(reader, blurred_chests(fresh)),
        "alike": SliceFeatures.of(reader, [chest(seed) for seed in range(40, 50)]),
        "noise": SliceFeatures.of(reader, [np.random.default_rng(i).normal(-400, 400, (EDGE,) * 3) for i in range(6)]),
    }
    found = slice_distances(features, sets, reader, draws=2)
    order = [found[name].fid.value for name in (REAL_REAL, BLURRED_CHESTS, "noise")]
    assert order == sorted(order)
    assert found["alike"].fid.value < found[BLURRED_CHESTS].fid.value
    assert abs(found[REAL_REAL].kid.value) < found["noise"].kid.value / 20
    assert set(found["noise"].by_orientation) == {"axial", "coronal", "sagittal"}
    assert found[REAL_REAL].score.value >= 1
    with pytest.raises(InputError, match="2 of few; expected at least 6 of each, half as many as the 12 real ones"):
        slice_distances(features, {"few": SliceFeatures.of(reader, fresh[:2])}, reader)


def test_the_network_is_trained_once(reader, training, tmp_path, monkeypatch):
    first = slice_reader(training, EDGE, tmp_path / "r", "chests", steps=2, device="cpu")
    again = slice_reader(training, EDGE, tmp_path / "r", "chests", steps=2, device="cpu")
    assert first.card == again.card != reader.card
    assert np.array_equal(first(training[0]).values, again(training[0]).values)


def test_tilted_chests_are_outside_of_the_real_range_and_copies_are_counted(training, fresh):
    usual = UsualChests.of(training)
    real = chest_checks(fresh, training, fresh, usual, is_real=True)
    made = [*training[:2], *(chest(60 + i, tilt=0.4) for i in range(2))]
    found = chest_checks(made, training, fresh, usual)
    assert found.copies == 2
    assert real.copies is None
    assert found.worst in (2, 3)
    assert found.nearest[0] == 0
    assert 0.5 <= found.anomalies <= 1
    assert found.ms_ssim is not None
    assert found.ms_ssim.value < 1
