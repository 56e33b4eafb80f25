"""CT-SGAN's training step and its scans: of any depth, slab by slab, independent of each other."""

import numpy as np
import pytest
import torch

from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.makers import Lineage
from synthorax.systems.ct_sgan import system as module
from synthorax.systems.ct_sgan.config import PRESETS, CtSganOptions, TrainingOptions
from synthorax.systems.ct_sgan.system import CtSgan, _stretched
from synthorax.systems.ct_sgan.training import training
from synthorax.training.devices import make_fabric
from synthorax.training.scan_gan import ScanFacts
from tests.helpers.stores import cases, store_of

pytestmark = pytest.mark.usefixtures("one_thread")

SMOKE = PRESETS["smoke"]
KNOWN = ScanFacts(torch.tensor([[10.0, 12.0, 14.0], [20.0, 24.0, 28.0]]), torch.tensor([1.0, -1.0]), torch.tensor(0.0))
"""Of two training scans: one with a nodule, one without."""


def model(known=KNOWN, **settings):
    return CtSgan(SMOKE.model_copy(update=settings), 0, known)


def scan(made, index=0, seed=0, **options):
    return made.maker(Lineage("")).scan(index, seed, CtSganOptions(**options)).whole()


def batch(config, b=2):
    z, y, x = config.size
    random = torch.Generator().manual_seed(0)
    return {
        "slab": torch.rand(b, config.slab + 2, y, x, generator=random) * 2 - 1,
        "start": torch.tensor([1, z - 1 - config.slab])[:b],
        "chosen": torch.tensor([[0, 2], [1, 3]])[:b],
        "index": torch.tensor([0, 1])[:b],
    }


def stepped(made, steps=1):
    made.prepare_training(make_fabric("cpu"))
    made.enter("gan")
    return [made.training_step(batch(made.config), step) for step in range(steps)]


@pytest.mark.parametrize("depth", [3, 5, 16, 40])
def test_a_scan_has_the_depth_asked_for_and_stays_as_high(depth):
    made = model()
    found = [scan(made, index, depth=depth) for index in range(4)]
    assert {one.shape for one in found} == {(depth, 16, 16)}
    high = {round(one.shape[0] * one.spacing_mm[0], 1) for one in found}
    assert high == {160.0, 320.0}


def test_a_volume_is_middle_channels_between_the_outer_neighbours_of_the_first_and_last(monkeypatch):
    made = model()
    seen = []
    slices = CtSgan._slices
    monkeypatch.setattr(CtSgan, "_slices", lambda *given: seen.append(slices(*given)) or seen[-1])
    volume = scan(made, depth=9).voxels
    whole = np.concatenate(seen)
    assert whole.shape == (7, 3, 16, 16)
    assert np.array_equal(volume, np.concatenate([whole[:1, 0], whole[:, 1], whole[-1:, 2]]))


def test_slabs_are_made_while_they_are_asked_for(monkeypatch):
    seen = []
    slices = CtSgan._slices
    monkeypatch.setattr(CtSgan, "_slices", lambda *given: seen.append(1) or slices(*given))
    stream = model().maker(Lineage("")).scan(0, 0, CtSganOptions(depth=400))
    assert not seen
    next(stream.slabs)
    assert len(seen) <= 3
    stream.slabs.close()


def test_a_scan_is_the_same_however_many_slices_are_made_at_once_and_threads_make_it(monkeypatch):
    made = model()
    first = scan(made).voxels
    torch.set_num_threads(3)
    try:
        assert np.array_equal(scan(made).voxels, first)
    finally:
        torch.set_num_threads(1)
    monkeypatch.setattr(module, "SCAN_SLICES_AT_ONCE", 5)
    assert np.abs(scan(made).voxels.astype(int) - first).max() <= 1


def test_a_deeper_scan_goes_the_same_way_in_smaller_steps():
    path = torch.arange(14.0)[:, None]
    assert torch.equal(_stretched(path, 16, 16), path)
    finer = _stretched(path, 16, 32)[:, 0]
    assert len(finer) == 30
    inner = finer.diff()[2:-2]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5))
    torch.testing.assert_close(finer.mean(), torch.tensor(6.5))
    assert len(_stretched(path, 16, 3)) == 1


def test_both_noises_change_a_scan_and_each_can_be_left_out():
    both, patient, slices = model(), model(slice_noise=0, grain=0), model(patient_noise=0, grain=0)
    for made in (both, patient, slices):
        assert not np.array_equal(scan(made, 0).voxels, scan(made, 1).voxels)
        stepped(made)


def test_a_patient_or_a_path_can_be_kept_while_the_other_noise_varies():
    made = model(grain=0)
    own = scan(made, 1)
    assert np.array_equal(scan(made, 5, patient=1, path=1).voxels, own.voxels)
    assert scan(made, 5, patient=1).spacing_mm == own.spacing_mm
    both = [scan(made, 1, patient=2).voxels, scan(made, 1, path=2).voxels]
    assert not any(np.array_equal(each, own.voxels) for each in both)
    assert np.array_equal(both[0], scan(made, 2, path=1).voxels)


def test_the_grain_of_a_slice_is_told_to_its_neighbours():
    fine = torch.arange(5.0)[None, :, None, None, None]
    assert module._with_neighbours(fine)[0, :, :, 0, 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_scans_with_and_without_a_nodule_are_like_training_scans_of_the_kind():
    made = model()
    assert {scan(made, i, nodules=True).spacing_mm for i in range(5)} == {(10.0, 12.0, 14.0)}
    assert {scan(made, i, nodules=False).spacing_mm for i in range(5)} == {(20.0, 24.0, 28.0)}
    condition = made.condition(torch.tensor([0, 1]))
    torch.testing.assert_close(condition[:, 3], torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(condition[1, :3] - condition[0, :3], torch.ones(3))  # twice as wide


def test_nodules_asked_of_a_model_that_was_not_told_of_them_are_refused_before_a_scan_is_begun():
    with pytest.raises(InputError, match="one trained with conditions=nodules"):
        model(conditions=("spacing",)).maker(Lineage("")).scan(0, 0, CtSganOptions(nodules=True))
    of_healthy = ScanFacts(torch.ones(1, 3), torch.tensor([-1.0]), torch.tensor(1.0))
    with pytest.raises(InputError, match="no training scan that is known to have a nodule"):
        model(of_healthy).maker(Lineage("")).scan(0, 0, CtSganOptions(nodules=True))


@pytest.mark.parametrize(("without", "known"), [(1.0, "all"), (0.0, "none-known"), (float("nan"), "none-known")])
def test_made_scans_are_free_of_nodules_only_if_the_training_scans_were_known_to_be(without, known):
    facts = KNOWN._replace(without=torch.tensor(without))
    assert model(facts).maker(Lineage("")).nodules_known == known


@pytest.mark.parametrize("settings", [{}, {"objective": "js"}, {"channels": 1}, {"conditions": ()}])
def test_every_network_learns_in_a_step_and_the_penalty_comes_every_other_one(settings):
    made = model(**settings)
    before = {name: tensor.clone() for name, tensor in made.weights().items()}
    first, second = stepped(made, 2)
    after = made.weights()
    for network in ("generator.path", "generator.slice", "slices", "slabs"):
        assert any(not torch.equal(after[name], before[name]) for name in before if name.startswith(network + "."))
    assert {"penalty_slices", "penalty_slabs"} <= first.keys()
    assert not {"penalty_slices", "penalty_slabs"} & second.keys()
    assert all(torch.isfinite(value) for value in second.values())


def test_the_generator_answers_for_the_sum_over_the_slices_and_for_the_slab(monkeypatch):
    made = model()
    losses = []
    monkeypatch.setattr(made, "generator_loss", lambda score: losses.append(score.mean()) or losses[-1])
    (figures,) = stepped(made)
    assert figures["generator"] == pytest.approx(float((losses[0] + SMOKE.slices * losses[1]).detach()), rel=1e-5)


def test_critics_of_slices_are_told_where_the_slices_of_both_kinds_lie():
    made = model()
    start, chosen = torch.tensor([1, 11]), torch.tensor([[0, 3], [0, 3]])
    torch.testing.assert_close(made._position(start, chosen) * 13, torch.tensor([0.0, 3.0, 10.0, 13.0]))


def test_a_store_of_whole_scans_or_none_is_told_by_its_path(tmp_path):
    store = store_of(tmp_path / "store", cases(1, size=20))
    with pytest.raises(InputError, match=rf"{store.path}: found 1 cases, none of them a whole scan"):
        training(SMOKE, store, 0, TrainingOptions(cache=tmp_path / "cache"))
    ready = training(SMOKE.model_copy(update={"region": "cube"}), store, 0, TrainingOptions(cache=tmp_path / "cache"))
    assert isinstance(Store.of(store), Store)
    assert ready.model.known.nodules.tolist() == [1.0]
    assert ready.data["chests"] == 1
