"""The eraser: what it changes, its inputs, and on which patients it may be trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool3d

from synthorax.errors import InputError, TrainingError
from synthorax.makers import Edit, Lineage, fill
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import patient_key
from synthorax.systems.eraser.config import PRESETS, TrainingOptions
from synthorax.systems.eraser.system import Eraser
from synthorax.systems.eraser.training import training
from synthorax.training import loop
from synthorax.training.devices import make_fabric
from synthorax.training.run_folder import RunFolder
from synthorax.volume import Volume
from tests.helpers.stores import cases, store_of
from tests.helpers.toy_makers import DenseBalls

SMOKE = PRESETS["smoke"]
MM = (1.0, 1.0, 1.0)


@pytest.fixture
def ready(tmp_path):
    """Return a function that prepares a training whose nodules are dense balls."""

    def make(lineage=Lineage("balls"), **settings):  # noqa: B008  (frozen)
        method = DenseBalls()
        method.lineage = lineage
        store = store_of(tmp_path / "store", cases(4, size=40))
        options = TrainingOptions(maker=method, cache=tmp_path / "cache")
        return training(SMOKE.model_copy(update=settings), store, 0, options)

    return make


def test_it_learns_from_healthy_vois_with_nodules_put_in(ready):
    batch = ready().stages[0].batches(0)
    apart = (batch["ct"] - batch["injected"]).abs() > 0.5
    assert apart.any()
    assert not (apart & (max_pool3d(batch["mask"], 5, stride=1, padding=2) == 0)).any()


def test_a_maker_that_knows_held_out_patients_is_refused_and_whom_it_knows_is_written_down(ready):
    with pytest.raises(InputError, match="made with data of 1 patients who are held out here"):
        ready(Lineage("balls", seen=frozenset({patient_key("test00")})))
    about = ready(Lineage("balls", seen=frozenset({patient_key("somebody")}))).data
    assert about["seen_before"] == [f"ANONYMOUS-{patient_key('somebody')}"]


def test_the_change_fades_to_nothing_at_the_ball_and_leaves_what_lies_beyond():
    system = Eraser(SMOKE)
    patches = torch.rand(1, 1, 16, 16, 16) * 2 - 1
    change = (system.make(system.filling, patches, torch.zeros_like(patches)) - patches)[0, 0].detach().numpy()
    away = SMOKE.patch.distances_mm()
    radius = 0.8 * 12 / 2
    assert not change[away >= radius].any()
    assert abs(change[away < radius / 2]).mean() > 4 * abs(change[away > 0.9 * radius]).mean()


def test_a_mask_is_heeded_by_an_eraser_that_was_told_masks():
    patches, mask = torch.rand(1, 1, 16, 16, 16), torch.zeros(1, 1, 16, 16, 16)
    mask[..., 6:10, 6:10, 6:10] = 1
    for share, heeds in ((0.5, True), (0.0, False)):
        system = Eraser(SMOKE.model_copy(update={"told_masks": share}))
        assert (not torch.equal(system.erased(patches, mask), system.erased(patches, 0 * mask))) == heeds


def test_an_erasure_has_no_mask_and_the_same_bits_whatever_the_noise():
    method = Eraser(SMOKE).maker(Lineage("eraser"))
    edit = Edit("erase", NoduleAttributes(diameter_mm=6.0))
    n = 2 * int(np.ceil(method.reach_mm(edit)[0])) + 1
    hu = np.random.default_rng(0).normal(-850, 20, (n, n, n)).astype(np.float32)
    made = fill(method, Volume(hu, MM), np.ones(hu.shape, bool), edit, 3)
    assert made.mask is None
    assert made.hu.tobytes() == fill(method, Volume(hu, MM), np.ones(hu.shape, bool), edit, 3).hu.tobytes()


def test_a_run_that_diverges_is_stopped_before_it_is_saved(ready, tmp_path):
    made = ready(steps=20, warm_up=1.0, learning_rate=3.0)
    run = RunFolder.open(tmp_path / "run", {"system": "eraser"}, {})
    with pytest.raises(TrainingError, match=r"divergence\): reconstruction is .*, above 6 .*--from this run"):
        loop.fit(replace(made, log_every=1), run, make_fabric("cpu"))
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.prove
def test_after_a_short_training_a_nodule_it_never_saw_is_nearly_gone(ready):
    made = ready(steps=300, warm_up=1.0, widths=(16, 32), learning_rate=1e-3, healthy=40)
    made.model.prepare_training(make_fabric("cpu"))
    made.model.enter(made.stages[0].name, made.stages[0].trains)
    for step in range(300):
        made.model.training_step(made.batch(step), step)
    batch = made.stages[0].batches.patches.batch(10_000, 16)
    erased = torch.stack([made.model.erased(one, torch.zeros_like(one)) for one in batch["injected"].split(1)])
    inside = batch["mask"][:, 0] > 0
    before, after = ((each - batch["ct"][:, 0]).abs()[inside].mean() for each in (batch["injected"][:, 0], erased))
    assert after < 0.15 * before
