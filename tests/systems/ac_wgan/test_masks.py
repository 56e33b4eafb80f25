"""Masks of the AC-WGAN-GP's nodules: the segmenter's training, samples with masks, and both in a store."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import add_segmenter as script
from bundle_model import bundle
from synthorax import api, hub
from synthorax.cli import main
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.io.tables import read_table
from synthorax.makers import Lineage, Samples
from synthorax.nodule import NoduleAttributes
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.systems.ac_wgan.config import TrainingOptions, ac_wgan_config
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.systems.ac_wgan.training import training as made_ready
from synthorax.training.devices import make_fabric
from synthorax.training.loop import fit
from synthorax.training.run_folder import RunFolder
from tests.helpers.cubes import ball_case
from tests.helpers.runs import log
from tests.helpers.stores import store_of

pytestmark = pytest.mark.usefixtures("one_thread")

NODULE = (NoduleAttributes(diameter_mm=8.0),)
BOTH = {"steps": 2, "segmenter_steps": 3}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Cubes of 40 mm of lung with a ball of 8 mm in the middle."""
    ratings = {"texture": (5,), "malignancy": (3,)}
    cases = [ball_case(f"c{i}", 8, ratings=ratings, size=40, seed=i) for i in range(4)]
    return store_of(tmp_path_factory.mktemp("cubes"), cases)


def trained(store, cache, folder, *, settings=BOTH):
    """Return a finished run."""
    training = made_ready(ac_wgan_config("smoke", settings), store, 0, TrainingOptions(cache=cache))
    about = {"system": "ac-wgan", "preset": "smoke", "seed": 0, "config": training.model.config}
    run = RunFolder.open(folder, about, training.data)
    fit(replace(training, log_every=1), run, make_fabric("cpu"))
    return folder


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    return trained(store, tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory):
    """Return a run of the GAN without a segmenter."""
    cache, folder = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("runs") / "alone"
    return trained(store, cache, folder, settings={"steps": 2})


class Brighter(nn.Module):
    """Segments everything denser than the mean of a patch as a nodule."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.tensor(0.0))

    def forward(self, patches):
        return patches - patches.mean((2, 3, 4), keepdim=True) + self.nothing


@pytest.fixture
def with_pieces(monkeypatch):
    """A segmenter that finds something in every patch."""
    monkeypatch.setattr(AcWgan, "segmenter", Brighter())


def samples_of(system, asked, seed=0):
    return Samples.joined(system.maker(Lineage("test")).sample(asked, seed))


def test_a_run_trains_the_segmenter_first_and_then_the_gan_alone(run):
    assert ["segmenter_loss" in record for record in log(run)] == [True] * 3 + [False] * 2
    assert ["wasserstein" in record for record in log(run)] == [False] * 3 + [True] * 2
    assert any(key.startswith("segmenter.") for key in load_file(run / "weights.safetensors"))


def test_a_run_that_was_killed_in_both_stages_ends_with_the_same_bytes(store, run, tmp_path, monkeypatch):
    step, left = AcWgan.training_step, [2, 2]

    def killed(self, batch, number):
        if left and not left[0]:
            left.pop(0)
            raise KeyboardInterrupt
        if left:
            left[0] -= 1
        return step(self, batch, number)

    monkeypatch.setattr("synthorax.training.loop.SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(AcWgan, "training_step", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(store, tmp_path, tmp_path / "run")
    trained(store, tmp_path, tmp_path / "run")
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()


def test_a_segmenter_leaves_the_gan_as_it_would_be_without_one(run, alone):
    gan, both = (load_file(folder / "weights.safetensors") for folder in (alone, run))
    assert not any(key.startswith("segmenter.") for key in gan)
    assert all(torch.equal(tensor, both[key]) for key, tensor in gan.items())


def test_a_model_that_is_given_a_segmenter_keeps_its_gan(store, alone, tmp_path):
    options = {"preset": "smoke", "start": alone, "device": "cpu", "cache": tmp_path}
    api.train("ac-wgan", store, tmp_path / "run", settings={"steps": 0, "segmenter_steps": 1}, **options)
    before, after = (load_file(folder / "weights.safetensors") for folder in (alone, tmp_path / "run"))
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert any(key.startswith("segmenter.") for key in after)


def test_no_steps_at_all_are_refused():
    with pytest.raises(InputError, match="segmenter_steps"):
        ac_wgan_config("smoke", {"steps": 0})


def test_samples_have_masks_which_do_not_depend_on_their_number(run, with_pieces):
    system = hub.load(run).system
    made = samples_of(system, [NODULE, (), NODULE])
    masks = made.arrays["mask"]
    assert masks.any((1, 2, 3)).tolist() == [True, False, True]
    assert [[nodule.extra["diameter_is"] for nodule in one] for one in made.nodules] == [["measured"], [], ["measured"]]
    assert made.nodules[0][0].attributes.diameter_mm == pytest.approx(
        axial_diameter_mm(np.argwhere(masks[0]), (1, 1, 1)), abs=0.005
    )
    assert np.array_equal(samples_of(system, [NODULE]).arrays["mask"][0], masks[0])


def test_a_nodule_that_the_segmenter_does_not_find_keeps_the_diameter_asked_for(run, monkeypatch):
    system = hub.load(run).system
    for name, tensor in system.segmenter.state_dict().items():
        if name.startswith("out."):
            tensor.fill_(-9.0 if name.endswith("bias") else 0.0)
    made = samples_of(system, [NODULE])
    assert not made.arrays["mask"].any()
    assert (made.nodules[0][0].attributes.diameter_mm, made.nodules[0][0].extra["diameter_is"]) == (8.0, "asked")


def test_a_model_without_a_segmenter_makes_samples_without_masks_and_says_so():
    made = samples_of(AcWgan(ac_wgan_config("smoke", {})), [NODULE])
    assert set(made.arrays) == {"ct"}
    assert any("has no segmenter" in note for note in made.notes)
    assert any("--from RUN --set steps=0 --set segmenter_steps=600" in note for note in made.notes)
    assert not samples_of(AcWgan(ac_wgan_config("smoke", {})), [()]).notes


def test_a_model_without_a_segmenter_is_refused_for_injecting_with_the_command_that_adds_one(alone):
    cure = "masks, which injecting needs; expected a model that makes masks; .* --set steps=0 --set segmenter_steps=600"
    with pytest.raises(InputError, match=cure):
        hub.find(alone, "injects")


def test_made_nodules_enter_a_store_with_their_masks(run, with_pieces, tmp_path):
    assert main(["sample", str(run), "-n", "2", "--diameter", "8", "--out", str(tmp_path / "made")]) == 0
    assert main(["prepare", "patches", str(tmp_path / "made"), "--out", str(tmp_path / "store")]) == 0
    rows, store = read_table(tmp_path / "made" / "nodules.csv"), Store(tmp_path / "store")
    assert [row["diameter_is"] for row in rows] == ["measured"] * 2
    by_patient = {case.patient_id: case for case in store.cases}
    for row in rows:
        case = by_patient[row["patient_id"]]
        region, stated = store.region(case.case_id, 1), case.nodules[0].attributes.diameter_mm
        assert stated == float(row["diameter_mm"])
        assert stated == pytest.approx(axial_diameter_mm(region.indices(), case.spacing_mm), abs=0.005)


def test_a_runs_segmenter_is_put_into_a_bundled_model_whose_other_weights_stay(run, alone, tmp_path):
    folder = bundle(alone, "tiny", what="CT cubes", out=tmp_path / "shelf")
    before = load_file(folder / "weights.safetensors")
    script.add_segmenter(run, "tiny", measured=[{"figure": "Dice", "value": 0.7}], out=tmp_path / "shelf")
    after = load_file(folder / "weights.safetensors")
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    model, card = hub.load(folder), hub.read_card(folder)
    assert model.system.segmenter is not None
    assert card.facts["segmenter"]["steps"] == 3
    assert card.facts["figures"] == [{"figure": "Dice", "value": 0.7}]
    script.add_segmenter(run, "tiny", after=[run], out=tmp_path / "shelf")
    assert hub.read_card(folder).facts["segmenter"]["steps"] == 6
    with pytest.raises(InputError, match="no segmenter"):
        script.add_segmenter(alone, "tiny", out=tmp_path / "shelf")
