"""Training and sampling of the AC-WGAN-GP: its step, batches, samples and their selection."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from synthorax import api, hub
from synthorax.anatomy.lungs import find_lungs
from synthorax.cli import main
from synthorax.datasets import places as where
from synthorax.datasets.patches import read_patch
from synthorax.datasets.places import corner_places, lung_places, negative_places
from synthorax.datasets.store import Case
from synthorax.errors import InputError, TrainingError
from synthorax.io.images import read_image, write_image
from synthorax.io.tables import write_table
from synthorax.makers import Lineage, Samples
from synthorax.nn.conditions import ALIKE_NODULES, USUAL_DIAMETER_MM, encoded
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.systems.ac_wgan import maker as of_patches
from synthorax.systems.ac_wgan import system as module
from synthorax.systems.ac_wgan.config import PRESETS, TrainingOptions, ac_wgan_config
from synthorax.systems.ac_wgan.system import CUBE_BATCH, LEAST_CONFIDENCE, LEAST_QUANTILE, AcWgan
from synthorax.systems.ac_wgan.training import training as made_ready
from synthorax.training import loop
from synthorax.training.devices import make_fabric
from synthorax.training.run_folder import RunFolder
from tests.helpers.balls import ball_mask
from tests.helpers.cubes import ball_case
from tests.helpers.runs import stopping_at, timeless_log, weights
from tests.helpers.stores import store_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Twelve cubes; nodules grow, and one has no rating of its texture."""
    cases = [
        ball_case(f"P{i:02d}", 4 + i / 4, ratings={"malignancy": [1 + i % 5]} | ({"texture": [5]} if i else {}), seed=i)
        for i in range(12)
    ]
    return store_of(tmp_path_factory.mktemp("store") / "store", cases)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def prepared(store, cache, seed=0, **settings):
    return made_ready(ac_wgan_config("smoke", settings), store, seed, TrainingOptions(cache=cache))


def open_run(training, folder):
    about = {"system": "ac-wgan", "config": training.model.config.model_dump(mode="json")}
    return RunFolder.open(folder, about, training.data)


def fit(training, folder, given=None, **options):
    stage = replace(training.stages[0], batches=given or training.batch)
    changed = replace(training, stages=[stage], log_every=1)
    return loop.fit(changed, open_run(training, folder), make_fabric("cpu", precision=training.precision), **options)


def started(training, **options):
    """The model, ready for single steps."""
    training.model.prepare_training(make_fabric("cpu", **options))
    return training.model


@pytest.fixture(scope="module")
def whole(store, cache, tmp_path_factory):
    """Return an uninterrupted run, and its model after the training."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    training = prepared(store, cache)
    fit(training, folder)
    return folder, training.model


# The training step


def test_a_batch_taken_in_parts_gives_the_weights_and_figures_of_the_whole(store, cache):
    made = {}
    for n in (1, 2):
        training = prepared(store, cache, accumulate=n, attributes=("diameter_mm", "malignancy"))
        figures = [started(training).training_step(training.batch(0), 0)]
        made[n] = training.model.weights(), {name: float(value) for name, value in figures[0].items()}
    fresh = prepared(store, cache, attributes=("diameter_mm", "malignancy")).model.weights()
    assert made[2][1] == pytest.approx(made[1][1], rel=1e-3, abs=1e-5)
    for name, tensor in made[1][0].items():
        if not name.startswith("facts"):
            torch.testing.assert_close(made[2][0][name], tensor, rtol=1e-3, atol=2e-5)
    assert any(not torch.equal(made[1][0][name], fresh[name]) for name in fresh if name.startswith("generator"))


def test_a_part_may_be_a_single_cube(store, cache):
    training = prepared(store, cache, accumulate=4)
    figures = started(training).training_step(training.batch(0), 0)
    assert all(value.isfinite() for value in figures.values())


def test_the_critic_learns_while_the_generator_does_and_no_gradient_is_left(store, cache):
    training = prepared(store, cache)
    model = started(training)
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    figures = model.training_step(training.batch(0), 0)
    after = model.weights()
    for network in ("generator", "critic"):
        names = [name for name in before if name.startswith(network)]
        assert sum(not torch.equal(before[name], after[name]) for name in names) > len(names) / 2
        assert all(p.requires_grad and p.grad is None for p in model.networks[network].parameters())
    assert {"wasserstein", "penalty", "diversity", "class_real", "attributes_fake", "generator"} <= set(figures)


def test_weights_are_laid_out_channels_last_in_training_and_out_of_a_run(store, cache, whole):
    for model in (started(prepared(store, cache, ema_decay=0.9)), hub.load(whole[0]).system):
        for network in (*model.networks.values(), *model.averages.values()):
            for name, weight in network.named_parameters():
                if weight.ndim == 5:
                    assert weight.is_contiguous(memory_format=torch.channels_last_3d), name


def test_bf16_runs_on_a_cpu_and_gives_about_the_figures_of_32_bits(store, cache):
    found = {}
    for precision in ("32", "bf16"):
        training = prepared(store, cache, precision=precision)
        model = started(training, precision=precision)
        found[precision] = {k: float(v) for k, v in model.training_step(training.batch(0), 0).items()}
        assert {p.dtype for p in model.networks["critic"].parameters()} == {torch.float32}
    assert training.precision == "bf16"
    assert all(np.isfinite(list(found["bf16"].values())))
    assert found["bf16"] == pytest.approx(found["32"], rel=0.1, abs=0.05)
    assert found["bf16"] != found["32"]


def test_a_share_of_the_penalty_is_that_of_the_first_rows(store, cache):
    found = {}
    for name, settings in {"share": {"penalty_share": 0.5}, "all": {}}.items():
        training = prepared(store, cache, n_critic=1, **settings)
        model = started(training)
        batch = {**training.batch(0)[0], **drawn_of(model), "alpha": torch.ones(4)}
        rows = {key: value[:2] for key, value in batch.items()} if name == "all" else batch
        found[name] = model._critic_gradients(rows)["penalty"]
    torch.testing.assert_close(found["share"], found["all"])


def drawn_of(model):
    return {
        "noise": model.drawn("critic 0", 0, 4, model.config.drawn),
        "epsilon": model.drawn("penalty 0", 0, 4, uniform=True),
    }


def test_heads_that_do_not_judge_fakes_learn_from_real_cubes_alone(store, cache):
    gradients = []
    for seed in (0, 1):
        training = prepared(store, cache, judges_fakes=False)
        model = started(training)
        noise = model.drawn(f"fakes of {seed}", 0, 4, model.config.drawn)
        batch = {**training.batch(0)[0], **drawn_of(model), "noise": noise, "alpha": torch.ones(4)}
        model._critic_gradients(batch)
        gradients.append(model.networks["critic"].classes.weight.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_a_generator_that_ignores_its_noise_is_stopped_as_a_collapse(store, cache, tmp_path):
    training = prepared(store, cache, steps=30)
    model = training.model
    start = model.networks["generator"].start
    with torch.no_grad():
        start.weight[:, model.config.conditions :] = 0  # it still heeds class and attributes
    start.weight.register_hook(
        lambda gradient: torch.cat(
            [gradient[:, : model.config.conditions], 0 * gradient[:, model.config.conditions :]], 1
        )
    )
    with pytest.raises(TrainingError, match=r"step 10: .*\(collapse\): diversity is 0, below 0\.02 for 10 lines"):
        fit(training, tmp_path)


def test_a_sound_generator_is_far_from_the_limits(whole):
    for line in timeless_log(whole[0]):
        assert line["diversity"] > 0.1
        assert line["penalty"] < 50


# Stopped and resumed


@pytest.mark.parametrize(("last", "decay"), [(0, 0.0), (1, 0.0), (3, 0.0), (4, 0.0), (2, 0.9)])
def test_a_run_stopped_at_any_step_and_resumed_ends_with_the_bytes_of_one_that_was_not(
    store, cache, whole, averaged, tmp_path, last, decay
):
    undisturbed = averaged if decay else whole[0]
    training = prepared(store, cache, ema_decay=decay)
    with pytest.raises(KeyboardInterrupt):
        fit(training, tmp_path, stopping_at(training.batch, last, (signal.SIGTERM, signal.SIGINT)[last % 2]))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == last + 1
    hub.load(tmp_path)
    assert fit(prepared(store, cache, ema_decay=decay), tmp_path).finished
    assert weights(tmp_path) == weights(undisturbed)
    assert timeless_log(tmp_path) == timeless_log(undisturbed)


@pytest.fixture(scope="module")
def averaged(store, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged") / "run"
    fit(prepared(store, cache, ema_decay=0.9), folder)
    return folder


def test_a_run_whose_files_name_the_facts_as_they_once_did_loads_and_goes_on(store, cache, averaged, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        training = prepared(store, cache, ema_decay=0.9)
        fit(training, tmp_path, stopping_at(training.batch, 2))

    def once(found):
        return {key.replace("facts.", "real."): tensor for key, tensor in found.items()}

    state = torch.load(tmp_path / "state.pt", weights_only=True)
    of_old = {key: value for key, value in state.items() if key not in ("done", "memory")}
    torch.save(of_old | {"weights": once(state["weights"])}, tmp_path / "state.pt")
    save_file(once(load_file(tmp_path / "weights.safetensors")), tmp_path / "weights.safetensors")
    known = hub.load(tmp_path).system.facts["attributes"]
    assert torch.equal(known.nan_to_num(9), training.model.facts["attributes"].nan_to_num(9))
    assert fit(prepared(store, cache, ema_decay=0.9), tmp_path).finished
    assert weights(tmp_path) == weights(averaged)


def test_a_finished_run_with_more_steps_ends_as_one_whose_steps_were_set_and_a_command_given_again_adds_none(
    store, cache, tmp_path
):
    options = {"preset": "smoke", "device": "cpu", "cache": cache}
    api.train("ac-wgan", store, tmp_path / "more", **options)
    shutil.copytree(tmp_path / "more", tmp_path / "set")
    assert api.train("ac-wgan", store, tmp_path / "set", settings={"steps": 8}, **options).step == 8
    assert not api.train("ac-wgan", store, tmp_path / "more", more_steps=2, max_minutes=0, **options).finished
    assert api.train("ac-wgan", store, tmp_path / "more", more_steps=2, **options).step == 8
    assert weights(tmp_path / "more") == weights(tmp_path / "set")


def test_more_steps_beside_another_number_of_steps_are_refused(store, cache, tmp_path):
    options = {"preset": "smoke", "device": "cpu", "cache": cache}
    api.train("ac-wgan", store, tmp_path / "run", max_minutes=0, **options)
    with pytest.raises(InputError, match="2 beside steps=50 for a run of 6; expected one of the two"):
        api.train("ac-wgan", store, tmp_path / "run", settings={"steps": 50}, more_steps=2, **options)


CHILD = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from synthorax.systems.ac_wgan.config import TrainingOptions, ac_wgan_config
from synthorax.systems.ac_wgan.training import training as made_ready
from synthorax.training import loop
from synthorax.training.devices import make_fabric
from synthorax.training.run_folder import RunFolder

store, cache, out = sys.argv[1:]
training = made_ready(ac_wgan_config("smoke", {}), store, 0, TrainingOptions(cache=Path(cache)))
about = {"system": "ac-wgan", "config": training.model.config.model_dump(mode="json")}
run = RunFolder.open(Path(out), about, training.data)

def batches(step):
    if step == 2:
        loop.SAVE_EVERY_S = 0  # the state after this step is the last one saved
    if step == 3:
        loop.SAVE_EVERY_S = 1e9
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return training.batch(step)

training.model.preview = lambda: None
stages = [replace(training.stages[0], batches=batches)]
loop.fit(replace(training, stages=stages, log_every=1), run, make_fabric("cpu"))
"""


def test_a_run_killed_between_two_saves_goes_on_to_the_same_bytes(store, cache, whole, tmp_path):
    arguments = [sys.executable, "-c", CHILD, str(store.path), str(cache), str(tmp_path / "run")]
    done = subprocess.run(arguments, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 3
    assert len(timeless_log(tmp_path / "run")) == 5
    assert fit(prepared(store, cache), tmp_path / "run").finished
    assert weights(tmp_path / "run") == weights(whole[0])
    assert timeless_log(tmp_path / "run") == timeless_log(whole[0])


# Several processes

PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import synthorax as sx
from synthorax.systems.ac_wgan.system import AcWgan

AcWgan.preview = lambda self: None
data, cache, out = sys.argv[1:]
done = sx.train("ac-wgan", data, out, preset="smoke", device="cpu", devices=2, cache=Path(cache))
print("done", done.step)
"""


def test_two_processes_train_as_one_does_and_one_of_them_writes(store, cache, whole, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [sys.executable, tmp_path / "program.py", store.path, cache, tmp_path / "run"]
    done = subprocess.run(
        [str(part) for part in arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done 6") == 1
    alone, together = timeless_log(whole[0]), timeless_log(tmp_path / "run")
    assert [line["step"] for line in together] == [line["step"] for line in alone]
    assert together[0] == pytest.approx(alone[0], rel=1e-4)
    assert together[-1] == pytest.approx(alone[-1], rel=2e-3)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    one, two = hub.load(whole[0]).system.weights(), hub.load(tmp_path / "run").system.weights()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-2, atol=1e-3, equal_nan=True)


# What a step sees


def test_a_step_has_a_batch_for_each_critic_update_and_as_many_of_each_class(store, cache):
    batches = prepared(store, cache, batch_size=8, n_critic=3).stages[0].batches
    found = batches(5)
    assert len(found) == 3
    for batch in found:
        assert batch["ct"].shape == (8, 1, 16, 16, 16)
        assert batch["ct"].abs().max() <= 1
        assert sorted(batch["label"].tolist()) == [0] * 4 + [1] * 4
    assert not torch.equal(found[0]["ct"], found[1]["ct"])
    again = batches(5)
    assert all(torch.equal(a["ct"], b["ct"]) for a, b in zip(found, again, strict=True))
    assert not torch.equal(batches(6)[0]["ct"], found[0]["ct"])


def test_every_patch_comes_with_the_attributes_of_its_own_place(store, cache):
    training = prepared(store, cache, batch_size=8)
    places = training.stages[0].batches.patches.places
    index = training.stages[0].batches.patches.batch(0, 8)["index"]
    batch = training.batch(0)[0]
    middle = batch["ct"][:, 0, 7:9, 7:9, 7:9].mean((1, 2, 3))
    for row, place in enumerate(np.array(places, object)[index.numpy()]):
        found = batch["attributes"][row]
        if place.nodule is None:
            assert batch["label"][row] == 0
            assert found.isnan().all()
            assert middle[row] < -0.5
            continue
        given = place.nodule.attributes
        assert batch["label"][row] == 1
        assert middle[row] > 0.3
        assert float(found[0]) == pytest.approx(np.log2(given.diameter_mm / USUAL_DIAMETER_MM), abs=1e-6)
        assert float(found[2]) == pytest.approx((given.malignancy - 3) / 2)
    unknown = [i for i, place in enumerate(places) if place.nodule and place.nodule.attributes.texture is None]
    assert len(unknown) == 1
    assert training.stages[0].batches.attributes[unknown].isnan().tolist() == [[False, True, False]]


def test_nodules_alone_are_learned_from_where_that_is_asked_for(store, cache):
    training = prepared(store, cache, negatives=False)
    assert training.data["patches"] == 12
    assert (training.batch(0)[0]["label"] == 1).all()


def test_patches_without_a_nodule_are_corners_of_cubes_that_miss_it(store, tmp_path):
    spec = PatchSpec((16, 16, 16))
    found = negative_places(store, store.cases, spec, 12, 0, cache=tmp_path)
    assert found == corner_places(store, store.cases, spec)
    assert len(found) == 8 * len(store.cases)
    for place in found[:16]:
        ct, _ = read_patch(store, place, spec)
        nodule = store[place.case_id].nodules[0]
        assert (np.abs(np.subtract(place.center_mm, nodule.center_mm)) > 8).any()
        assert ct.voxels.max() < -600


def test_a_store_without_room_for_a_patch_without_a_nodule_is_refused(tmp_path, cache):
    tight = store_of(tmp_path / "tight", [ball_case(f"P{i}", 6, size=16, seed=i) for i in range(4)])
    with pytest.raises(InputError, match="4 nodules and no place for a patch without a nodule") as caught:
        prepared(tight, cache)
    assert "\n" not in str(caught.value)
    assert prepared(tight, cache, negatives=False).data["patches"] == 4


def test_a_store_without_nodules_in_its_training_patients_is_refused(tmp_path, cache):
    others = store_of(tmp_path / "others", [ball_case(f"P{i}", 6, split="test", seed=i) for i in range(2)])
    with pytest.raises(InputError, match="no nodule"):
        prepared(others, cache)
    with pytest.raises(InputError, match="no store"):
        prepared(tmp_path / "none", cache)


@pytest.fixture(scope="module")
def scan(chest, tmp_path_factory):
    """A store of a chest with a mass of 36 mm in a lung, twice, by its mask; and that mask."""
    folder = tmp_path_factory.mktemp("scan")
    (at,) = [np.rint(chest.to_voxel((-70.0, 0.0, 0.0))).astype(int)]
    mask = ball_mask(chest.shape, 36, chest.spacing_mm, at)
    rows = []
    for name in ("a", "b"):
        write_image(folder / f"{name}.nii.gz", replace(chest, voxels=np.where(mask, 40, chest.voxels).astype(np.int16)))
        write_image(folder / f"{name}-mask.nii.gz", replace(chest, voxels=mask.astype(np.uint8)))
        rows.append({"image": f"{name}.nii.gz", "mask": f"{name}-mask.nii.gz", "patient_id": name, "split": "train"})
    write_table(folder / "nodules.csv", rows)
    return api.prepare("patches", folder, folder / "store", workers=1), mask


@pytest.mark.parametrize("size", [16, 48])
def test_patches_without_a_nodule_lie_in_the_lungs_of_whole_scans_and_miss_every_nodule(scan, size, tmp_path):
    store, mask = scan
    spec = PatchSpec((size,) * 3)
    found = negative_places(store, store.cases, spec, 40, 0, cache=tmp_path)
    assert sorted(place.case_id for place in found) == ["a"] * 20 + ["b"] * 20
    assert found == lung_places(store, store.cases, spec, 40, 0)
    assert found != lung_places(store, store.cases, spec, 40, 1)
    ct = store.read("a").ct
    lungs = find_lungs(ct).on(ct).mask
    nodule = ct.to_world(np.argwhere(mask))
    for place in found:
        inside = tuple(np.rint(ct.to_voxel(place.center_mm)).astype(int))
        assert lungs.voxels[inside]
        assert place.nodule is None
        assert place.label == 0
        apart = np.abs(nodule - np.array(place.center_mm)).max(1).min()
        assert apart > size / 2 + 3  # 5 mm from the nodule's ball, whose voxels are 4 mm
        patch, _ = read_patch(store, place, spec)
        middle = patch.to_world((np.array(patch.shape) - 1) / 2)
        np.testing.assert_allclose(middle, place.center_mm, atol=0.51)


def test_places_in_a_scan_that_falls_short_are_made_up_for_in_the_next(scan, monkeypatch):
    store, _ = scan
    monkeypatch.setattr(where, "PLACE_TRIES", 1)  # some of which miss
    found = [place.case_id for place in lung_places(store, store.cases[::-1], PatchSpec(), 40, 0)]
    assert found.count("b") < 20 < found.count("a")


@pytest.mark.parametrize("whole", [False, True], ids=["cubes", "scans"])
def test_places_without_a_nodule_are_found_once(store, scan, whole, tmp_path, monkeypatch):
    store = scan[0] if whole else store
    asked = {"cases": store.cases, "spec": PatchSpec((16, 16, 16)), "count": 12, "seed": 0, "cache": tmp_path / "new"}
    found = negative_places(store, **asked)
    made = []

    def counted(function):
        return lambda *args: made.append(1) or function(*args)

    monkeypatch.setattr(where, "corner_places", counted(corner_places))
    assert negative_places(store, **asked) == found
    assert negative_places(store, **asked, label=2) == [replace(place, label=2) for place in found]
    assert not made
    (file,) = (tmp_path / "new").iterdir()
    kept = file.read_text()
    for damage in ("", "{", "{}", "[]", kept.replace(store.cases[0].case_id, "nobody"), kept.replace("[-", '["-', 1)):
        file.write_text(damage)
        assert negative_places(store, **asked) == found
        assert file.read_text() == kept
    assert len(made) == 6
    changes = [{"seed": 1}, {"count": 13}, {"cases": store.cases[1:]}, {"spec": PatchSpec((15, 16, 16))}]
    for change in [*changes, {"spec": PatchSpec((16, 16, 16), (0.9, 1.0, 1.0))}]:
        others = negative_places(store, **asked | change)
        assert others == negative_places(store, **asked | change | {"cache": tmp_path / "other"})
    assert len(made) == 16


def test_places_are_found_where_nothing_can_be_kept(store, tmp_path):
    (tmp_path / "file").touch()
    spec = PatchSpec((16, 16, 16))
    found = negative_places(store, store.cases, spec, 12, 0, cache=tmp_path / "file")
    assert found == corner_places(store, store.cases, spec)


def test_places_near_the_edge_of_a_scan_are_judged_where_their_patches_lie(chest, tmp_path):
    """A slab of lung 40 mm thick: a patch of 36 mm has to be moved to its middle, where the nodule is."""
    low = chest.shape[0] // 2 - 5
    slab = replace(chest, voxels=chest.voxels[low : low + 10], origin_mm=tuple(chest.to_world((low, 0, 0)).tolist()))
    center = tuple(slab.to_world((0, 32, 30)).tolist())
    case = Case(
        "a", "a", slab, nodules=(Nodule("01", center, NoduleAttributes(diameter_mm=8)),), annotated="all", split="train"
    )
    store = store_of(tmp_path / "store", [case])
    found = lung_places(store, store.cases, PatchSpec((36, 36, 36)), 30, 0)
    assert found
    first, last = slab.to_world((0, 0, 0))[2], slab.to_world((9, 0, 0))[2]
    for place in found:
        assert first + 16 - 0.01 <= place.center_mm[2] <= last - 16 + 0.01
        assert np.abs(np.subtract(place.center_mm, center))[:2].max() > 18 + 4 + 5 - 0.01


def test_training_from_a_pack_and_sampling_take_no_simpleitk(store, tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    api.pack(store, tmp_path / "patches.zip", size=(16, 16, 16))
    code = f"""
import sys
sys.modules["SimpleITK"] = None
from pathlib import Path
import synthorax as sx
home = Path({str(tmp_path)!r})
store = sx.unpack(home / "patches.zip", home / "store")
sx.train("ac-wgan", store.path, home / "run", preset="smoke", device="cpu", cache=home / "cache")
model = sx.load(home / "run")
sx.write_samples(home / "out", sx.sample(model, 2), seed=0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(timeless_log(tmp_path / "run")) == PRESETS["smoke"].steps
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 2


# Samples


@pytest.fixture(scope="module")
def model(whole):
    return hub.load(whole[0]).system


def test_a_sample_of_a_seed_is_the_same_whatever_their_number(model):
    many = model.sample(2 * CUBE_BATCH + 3, 7)
    for n in (1, 5, CUBE_BATCH, CUBE_BATCH + 1):
        few = model.sample(n, 7)
        for name in ("hu", "scores", "confidence", "judged", "labels", "index"):
            np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:n])
    assert len(np.unique(many.hu.reshape(len(many.hu), -1), axis=0)) == len(many.hu)
    assert not np.array_equal(model.sample(1, 8).hu, many.hu[:1])


def test_a_restored_model_makes_the_same_samples(whole, model):
    trained = whole[1]
    asked = NoduleAttributes(diameter_mm=9, malignancy=4)
    for positive in (True, False):
        made, again = (m.sample(20, 3, asked, positive=positive) for m in (trained, model))
        np.testing.assert_array_equal(made.hu, again.hu)
        np.testing.assert_array_equal(made.scores, again.scores)


def test_samples_are_hu_within_the_window(model):
    model = AcWgan(ac_wgan_config("smoke", {"window_hu": (-1200, 150)}))
    with torch.no_grad():
        model.networks["generator"].out.weight.mul_(1e4)
    made = model.sample(4, 0)
    assert made.hu.dtype == np.int16
    assert made.hu.shape == (4, 16, 16, 16)
    assert (made.hu.min(), made.hu.max()) == (-1200, 150)
    assert made.labels.tolist() == [1] * 4
    assert ((made.confidence > 0) & (made.confidence < 1)).all()


def test_samples_heed_what_is_asked_for_and_tell_it(model):
    asked = [NoduleAttributes(diameter_mm=5), NoduleAttributes(diameter_mm=14, malignancy=5)]
    made = model.sample(5, 0, asked)
    assert made.asked == (asked[0], asked[1], asked[0], asked[1], asked[0])
    assert not np.array_equal(made.hu, model.sample(5, 0).hu)
    assert not np.array_equal(made.hu, model.sample(5, 0, asked, positive=False).hu)
    assert model.sample(5, 0, asked, positive=False).labels.tolist() == [0] * 5
    for wrong in (NoduleAttributes(diameter_mm=-1), NoduleAttributes(malignancy=9)):
        with pytest.raises(InputError):
            model.sample(1, 0, wrong)


def test_what_the_critic_makes_of_samples_is_told_in_millimetres_and_ratings(model):
    made = model.sample(3, 0)
    low, high = model.config.window_hu
    unit = torch.from_numpy((made.hu.astype(np.float32) - low) * 2 / (high - low) - 1)[:, None]
    judged = model.judge(unit).attributes.numpy()
    assert made.judged[:, 0] == pytest.approx(8 * 2 ** judged[:, 0], rel=0.01)
    assert made.judged[:, 1:] == pytest.approx(3 + 2 * judged[:, 1:], abs=0.05)
    assert made.judged.dtype == np.float32


def test_the_threshold_is_a_quarter_of_the_real_positives_scores(store, cache, whole):
    training = prepared(store, cache)
    patches = training.stages[0].batches.patches
    rows = [patches[i]["ct"] for i, place in enumerate(patches.places) if place.nodule]
    assert sum(map(len, training.stages[0].batches.positives())) == len(rows) == 12
    scores = np.sort(whole[1].judge(torch.stack(rows)).score.numpy())
    position = LEAST_QUANTILE * (len(scores) - 1)
    low = int(position)
    expected = scores[low] + (position - low) * (scores[low + 1] - scores[low])
    found = hub.load(whole[0]).system.facts["least_score"]
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert not np.isnan(expected)


def selective(model, quantile=0.7):
    """Return a copy whose class probability passes for about half of the samples, and whose scores rarely pass."""
    chosen = AcWgan.restore(model.config.model_dump(mode="json"), model.weights())
    scores = chosen.sample(64, 0).scores
    chosen.facts["least_score"].fill_(float(np.quantile(scores, quantile)))
    return chosen


def selected(system, asked, seed=0):
    """The samples of a selection; `asked` has a nodule's attributes for each."""
    return Samples.joined(system.maker(Lineage("ac-wgan")).select([(one,) for one in asked], seed))


def test_each_sample_is_made_anew_until_it_is_above_both_thresholds(model, monkeypatch):
    chosen = selective(model, 0.4)
    monkeypatch.setattr(module, "LEAST_CONFIDENCE", float(np.quantile(chosen.sample(64, 0).confidence, 0.2)))
    asked = [NoduleAttributes(diameter_mm=d) for d in (4, 8, 14)] * 10
    kept = selected(chosen, asked)
    assert all(each["confidence"] > module.LEAST_CONFIDENCE - 1e-4 for each in kept.details)
    assert all(each["score"] >= float(chosen.facts["least_score"]) - 1e-4 for each in kept.details)
    assert kept.index.tolist() == list(range(30))
    assert [one.diameter_mm for (one,) in kept.asked] == [4, 8, 14] * 10
    at_once = chosen.sample(30, 0, asked)
    good = chosen.passes(at_once)
    assert 0 < good.sum() < 30
    np.testing.assert_array_equal([each["attempt"] == 0 for each in kept.details], good)
    np.testing.assert_array_equal(kept.ct[good], at_once.hu[good])
    np.testing.assert_array_equal(selected(chosen, asked[:4]).ct, kept.ct[:4])
    assert len(np.unique(kept.ct.reshape(30, -1), axis=0)) == 30


def test_samples_that_never_pass_are_left_out_of_a_selection_which_tells_of_it(model, monkeypatch):
    chosen = selective(model)
    monkeypatch.setattr(module, "LEAST_CONFIDENCE", 0.0)
    monkeypatch.setattr(of_patches, "SELECTION_TRIES", 1)
    good = chosen.passes(chosen.sample(12, 0))
    found = selected(chosen, [NoduleAttributes()] * 12)
    np.testing.assert_array_equal(found.index, np.flatnonzero(good))
    made = api.sample(chosen.maker(Lineage("ac-wgan")), 12, select=True)
    np.testing.assert_array_equal(made.ct, found.ct)
    note = f"selection: {good.sum()} of 12 samples passed within 1 attempts at each"
    assert made.notes[-1].startswith(note)


def test_a_patch_without_a_nodule_is_told_nothing_whatever_is_asked(model):
    one, other = (
        model.sample(3, 0, NoduleAttributes(diameter_mm=mm, texture=5, malignancy=5), positive=False) for mm in (4, 20)
    )
    np.testing.assert_array_equal(one.hu, other.hu)
    assert np.isnan(one.condition).all()


def test_a_selection_that_nothing_passes_or_without_a_threshold_is_one_clear_line(model):
    assert LEAST_CONFIDENCE == 0.9
    chosen = selective(model)
    chosen.facts["least_score"].fill_(1e9)
    with pytest.raises(
        InputError, match=r"^selection: found none of 1 samples after 50 attempts at each; expected another seed"
    ) as caught:
        api.sample(chosen.maker(Lineage("ac-wgan")), 1, select=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no threshold for a selection"):
        selected(AcWgan(PRESETS["smoke"]), [NoduleAttributes()])


def test_a_model_with_averages_samples_by_them(averaged):
    model = hub.load(averaged).system
    before = model.sample(2, 0).hu
    with torch.no_grad():
        model.networks["generator"].out.bias.add_(1)
    np.testing.assert_array_equal(model.sample(2, 0).hu, before)
    with torch.no_grad():
        model.averages["generator"].out.bias.add_(1)
    assert (model.sample(2, 0).hu > before).any()


def test_fine_tuning_starts_from_another_run_and_refuses_other_networks(store, cache, whole, tmp_path):
    options = {"preset": "smoke", "device": "cpu", "cache": cache, "max_minutes": 0}
    api.train("ac-wgan", store, tmp_path / "tuned", start=whole[0], seed=5, **options)
    started, first = hub.load(tmp_path / "tuned").system.weights(), hub.load(whole[0]).system.weights()
    assert all(torch.equal(started[name], first[name]) for name in first if not name.startswith("facts"))
    for settings in ({"widths": (16, 8, 8, 4)}, {"attributes": ("diameter_mm",)}):
        with pytest.raises(InputError, match="weights that do not fit") as caught:
            api.train("ac-wgan", store, tmp_path / "other", start=whole[0], settings=settings, **options)
        assert "\n" not in str(caught.value)


def test_a_picture_shows_slices_of_what_it_makes_of_the_same_noise(whole, preview, monkeypatch):
    monkeypatch.setattr(AcWgan, "preview", preview)
    model = whole[1]
    seen = []
    monkeypatch.setattr(model, "sample", lambda *args: seen.append(AcWgan.sample(model, *args)) or seen[-1])
    shown = [image.get_array() for axes in model.preview().axes for image in axes.get_images()]
    (made,) = seen
    assert len(shown) == len(made.hu) == 24  # nodules of 18 mm do not fit into cubes of 16 mm
    assert made.asked[0].diameter_mm < made.asked[-1].diameter_mm
    for image, cube in zip(shown, made.hu, strict=True):
        assert np.isin(np.asarray(image)[4:12, 4:12], cube[8]).all()


# The paper's size

PAPER_STEP = """
import json, resource, sys
import torch
from synthorax.systems.ac_wgan.config import ac_wgan_config
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.training.devices import make_fabric

config = ac_wgan_config("paper", json.loads(sys.argv[1]))
model = AcWgan(config)
model.prepare_training(make_fabric("cpu"))
batch = [
    {
        "ct": torch.rand(config.batch_size, 1, *config.size) * 2 - 1,
        "label": torch.arange(config.batch_size) % 2,
        "attributes": torch.zeros(config.batch_size, 0),
    }
    for _ in range(config.n_critic)
]
figures = model.training_step(batch, 0)
assert all(value.isfinite() for value in figures.values()), figures
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""
MOST_GB = 12.0


@pytest.mark.prove
def test_a_paper_size_step_fits_the_stated_memory(capsys):
    """Five critic updates and one of the generator, 64 cubes of 48^3 each; minutes on a CPU."""
    command = [sys.executable, "-c", PAPER_STEP, '{"accumulate": 4}']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = float(done.stdout)
    with capsys.disabled():
        print(f"\nA step of ac-wgan at the paper's size in 4 parts peaks at {peak:.1f} GB")
    assert peak < MOST_GB


def test_the_program_of_the_paper_size_step_runs(monkeypatch, capsys):
    small = {"size": (16, 16, 16), "batch_size": 4, "n_critic": 2, "accumulate": 2}
    monkeypatch.setattr(sys, "argv", ["-c", json.dumps(small)])
    exec(PAPER_STEP, {})
    assert float(capsys.readouterr().out) > 0.2


def test_what_is_not_asked_for_is_as_a_real_nodule_has_it_that_is_like_what_is_asked():
    config = PRESETS["smoke"]
    names = config.attributes
    small = [NoduleAttributes(diameter_mm=4 + i / 100, texture=5, malignancy=1) for i in range(ALIKE_NODULES)]
    large = [NoduleAttributes(diameter_mm=12 + i / 10, texture=1, malignancy=5) for i in range(ALIKE_NODULES)]
    nobody = [NoduleAttributes(texture=3)]
    model = AcWgan(config, real_attributes=encoded([*small, *large, *nobody], names))
    condition = model.sample(12, 0, NoduleAttributes(diameter_mm=13)).condition
    assert condition == pytest.approx(np.tile([13, 1, 5], (12, 1)), rel=1e-5)
    condition = model.sample(12, 0, NoduleAttributes(texture=5)).condition
    assert (condition[:, 0] < 5).all()
    assert len(set(condition[:, 0])) > 1
    condition = model.sample(60, 0).condition
    assert {5.0, 1.0} <= set(condition[:, 1].tolist())
    whole = NoduleAttributes(diameter_mm=7, texture=2, malignancy=2)
    assert model.sample(1, 0, whole).condition[0] == pytest.approx([7, 2, 2])
    assert np.isnan(model.sample(2, 0, positive=False).condition).all()
    assert np.array_equal(model.sample(3, 5).condition, model.sample(9, 5).condition[:3], equal_nan=True)
    assert np.isnan(AcWgan(config).sample(2, 0).condition).all()  # that knows no nodules


def test_another_models_nodules_are_not_taken_with_its_weights():
    config = PRESETS["smoke"]
    one = AcWgan(config, 0, real_attributes=torch.zeros(3, 3))
    other = AcWgan(config, 1, real_attributes=torch.ones(5, 3))
    other.start_from(one.weights())
    assert torch.equal(other.facts["attributes"], torch.ones(5, 3))
    for a, b in zip(one.networks["critic"].parameters(), other.networks["critic"].parameters(), strict=True):
        assert torch.equal(a, b)


# Samples as files


def test_samples_are_files_that_can_be_prepared(whole, tmp_path, capsys):
    out = tmp_path / "made"
    command = f"sample {whole[0]} -n 6 --seed 3 --diameter 9 --texture 4 --formats nifti,mha --out {out}"
    assert main(command.split()) == 0
    assert "6 patches of 16 x 16 x 16 voxels" in capsys.readouterr().out
    assert len(list((out / "images").iterdir())) == 12
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["samples"][2]["asked"] == {"diameter_mm": 9.0, "texture": 4.0}
    made = api.sample(whole[0], 6, seed=3, diameter_mm=9.0, texture=4.0)
    assert (read_image(out / "images" / "00004.nii.gz").voxels == made.ct[4]).all()
    assert main(["verify", str(out)]) == 0
    store = api.prepare("patches", out, tmp_path / "store", workers=1)
    assert len(store) == 6
    assert all(case.synthetic for case in store.cases)
    assert {case.nodules[0].attributes.diameter_mm for case in store.cases} == {9.0}


def test_samples_without_a_nodule_have_no_table(whole, tmp_path):
    assert main(f"sample {whole[0]} -n 2 --no-positive --out {tmp_path / 'made'}".split()) == 0
    assert not (tmp_path / "made" / "nodules.csv").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("-n 0", "-n: found 0"),
        ("--near x.npy", "near"),
        ("--formats stl", "formats"),
        ("--texture 7", "texture"),
        ("--diameter -1", "--diameter: found -1 mm"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(whole, tmp_path, capsys, options, said):
    assert main(f"sample {whole[0]} {options} --out {tmp_path / 'made'}".split()) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert said in err
    assert not (tmp_path / "made").exists()


def test_a_nodule_that_nobody_outlined_is_in_no_patch_without_one(tmp_path):
    cases = []
    for i, diameter in enumerate((6.0, 12.0, 22.0)):
        case = ball_case(f"c{i}", diameter, size=50)
        cases.append(replace(case, regions=(), nodules=tuple(replace(n, label=0) for n in case.nodules)))
    store = store_of(tmp_path / "store", cases)
    spec = PatchSpec(size=(16, 16, 16))
    places = corner_places(store, store.cases, spec)
    assert {place.case_id for place in places} == {"c0", "c1"}
    for place in places:
        (nodule,) = store[place.case_id].nodules
        apart = np.maximum(np.abs(np.subtract(place.center_mm, nodule.center_mm)) - 8, 0)
        assert np.linalg.norm(apart) > nodule.attributes.diameter_mm / 2 + 5


@pytest.mark.parametrize("setting", ["batch_size=6 --set accumulate=4", "batch_size=1"])
def test_a_batch_that_cannot_be_trained_leaves_nothing_behind(store, tmp_path, capsys, setting):
    command = f"train ac-wgan --data {store.path} --out {tmp_path / 'run'} --preset smoke --device cpu --set {setting}"
    assert main(command.split()) == 2
    assert "batch size" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_sample_is_told_what_was_asked_of_it_whatever_is_made_with_it(model):
    maker = model.maker(Lineage("ac-wgan"))
    asked = [(NoduleAttributes(diameter_mm=mm),) if mm else () for mm in (4, 0, 14, 0, 0, 8)]
    mixed = Samples.joined(maker.sample(asked, 3))
    assert [each["class"] for each in mixed.details] == [1, 0, 1, 0, 0, 1]
    assert [each["told"].get("diameter_mm") for each in mixed.details] == [4, None, 14, None, None, 8]
    assert [len(nodules) for nodules in mixed.nodules] == [1, 0, 1, 0, 0, 1]
    alone = model.sample(6, 3, [one[0] if one else NoduleAttributes() for one in asked])
    np.testing.assert_array_equal(mixed.ct[[0, 2, 5]], alone.hu[[0, 2, 5]])
