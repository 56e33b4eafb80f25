"""Models found by name, folder or file.

Bundled models and their cards; recipes; the check of the machine (`doctor`).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import bundle_model as script
import synthorax as sx
from synthorax import hub
from synthorax.api import machine
from synthorax.cli import build_app, main
from synthorax.errors import InputError
from synthorax.provenance import sha256
from synthorax.registry import registry
from synthorax.systems.ac_wgan.config import ac_wgan_config
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Stage, Training
from tests.helpers.files import flip

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
PATIENTS = {"train": ["LIDC-IDRI-0001", "LIDC-IDRI-0002"], "val": ["LIDC-IDRI-0003"], "test": []}
FIGURES = [{"figure": "FID", "value": 41.2, "on": "96 patients"}, {"figure": "KID", "value": 0.02, "on": "96 patients"}]
CONFIG = ac_wgan_config("smoke", {"ema_decay": 0.9})
MINUTES = [30.0, 60.0, 45.0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run folder after some steps, in which the generator's moving average differs from the generator."""
    folder = tmp_path_factory.mktemp("run") / "run"
    model = AcWgan(CONFIG, seed=3)
    with torch.no_grad():
        for tensor in model.averages["generator"].parameters():
            tensor.mul_(0.5)
        model.facts["least_score"].fill_(1 / 3)
    settled = {"system": "ac-wgan", "preset": "smoke", "seed": 3, "config": CONFIG.model_dump(mode="json")}
    made = RunFolder.open(folder, settled, {"fingerprint": "f" * 64, "patches": 9, "patients": PATIENTS})
    made.save(Training(model, [Stage("gan", 6, lambda step: None)]), 6)
    for step, seconds in enumerate(MINUTES):  # the third line is of a second call
        made.log({"step": step, "seconds": seconds})
    return folder


@pytest.fixture
def shelf(run, tmp_path, monkeypatch):
    """Return a folder of bundled models that has one model, `tiny`."""
    script.bundle(
        run, "tiny", what="CT cubes of 16 mm", measured=FIGURES, limits=["No vessels."], out=tmp_path / "shelf"
    )
    monkeypatch.setattr(hub, "PRETRAINED", tmp_path / "shelf")
    return tmp_path / "shelf"


# Finding a model


def test_a_model_loads_by_name_folder_and_file(run, shelf):
    for place in (run, str(run), run / "weights.safetensors"):
        assert hub.load(place).sha256 == sha256(run / "weights.safetensors")
    for place in ("tiny", shelf / "tiny", str(shelf / "tiny" / "weights.safetensors")):
        assert hub.load(place).sha256 == sha256(shelf / "tiny" / "weights.safetensors")


def test_the_best_weights_of_a_run_load_by_their_file(run, tmp_path):
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    save_file({k: t * 2 for k, t in load_file(run / "weights.safetensors").items()}, tmp_path / "best.safetensors")
    best = hub.load(tmp_path / "best.safetensors").system.weights()
    last = hub.load(run).system.weights()
    torch.testing.assert_close(best["critic.start.weight"], 2 * last["critic.start.weight"])


def test_what_is_there_goes_before_a_name(run, shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(run)
    assert hub.load("tiny").sha256 == sha256(run / "weights.safetensors")


def test_an_unknown_name_is_told_with_those_that_there_are(shelf, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^giant: .*no bundled model of that name.*or a bundled model: tiny$"):
        hub.load("giant")
    monkeypatch.setattr(hub, "PRETRAINED", tmp_path / "empty")
    with pytest.raises(InputError, match="no model is bundled"):
        hub.load("tiny")


def test_loading_a_model_takes_neither_fabric_nor_pictures(run):
    code = f"import sys; from synthorax import hub; hub.load({str(run)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "torch" in loaded
    assert not loaded & {"lightning_fabric", "monai", "matplotlib"}


# Bundling one


def test_a_bundled_model_makes_the_samples_of_the_runs_mean(run, shelf):
    one, other = (hub.load(place).system for place in (run, "tiny"))
    for a, b in zip(one.networks.values(), other.networks.values(), strict=True):
        assert all(tensor.dtype == torch.float32 for tensor in b.state_dict().values())
        assert [t.shape for t in a.parameters()] == [t.shape for t in b.parameters()]
    before, after = (system.sample(4, seed=1) for system in (one, other))
    assert np.abs(before.hu.astype(int) - after.hu).max() <= 3
    np.testing.assert_allclose(after.scores, before.scores, atol=0.01)
    assert float(other.facts["least_score"]) == pytest.approx(1 / 3, abs=1e-7)


def test_it_is_half_as_large_and_has_no_optimiser(run, shelf):
    kept = load_file(shelf / "tiny" / "weights.safetensors")
    assert {key.split(".")[0] for key in kept} == {"generator", "critic", "facts"}
    assert {tensor.dtype for tensor in kept.values() if tensor.ndim} == {torch.float16}
    assert {p.name for p in (shelf / "tiny").iterdir() if p.name[0] != "."} == {
        "config.yaml",
        "weights.safetensors",
        "card.md",
        "data.json",
    }


def test_the_card_tells_how_it_was_made_on_whom_and_how_good_it_is(shelf):
    card = hub.read_card(shelf / "tiny")
    facts = card.facts
    assert facts["weights_sha256"] == sha256(shelf / "tiny" / "weights.safetensors")
    assert (facts["system"], facts["preset"], facts["seed"], facts["steps"]) == ("ac-wgan", "smoke", 3, 6)
    assert facts["minutes"] == round((60 + 45) / 60, 1)
    assert facts["patients"] == {"train": 2, "val": 1, "test": 0}
    assert facts["figures"] == FIGURES
    assert json.loads((shelf / "tiny" / "data.json").read_text())["patients"] == PATIENTS
    assert facts["limits"] == ["No vessels."]
    for said in ("| FID | 41.2 | 96 patients |", "CC BY 3.0", "10.7937/K9/TCIA.2015.LO9QL9SX", "2 patients in train"):
        assert said in card.text
    assert "## Limits\n\n- No vessels." in card.text


def test_a_bundled_model_tells_whom_it_and_those_before_it_have_seen(run, shelf, tmp_path):
    assert hub.load("tiny").seen == hub.load(run).seen == {"LIDC-IDRI-0001", "LIDC-IDRI-0002"}
    tuned = tmp_path / "tuned"
    shutil.copytree(run, tuned)
    (tuned / "data.json").write_text(json.dumps({"fingerprint": "e", "patients": PATIENTS, "seen_before": ["OLD-1"]}))
    script.bundle(tuned, "tuned", what="CT cubes of 16 mm", out=shelf)
    assert hub.load("tuned").seen == {"LIDC-IDRI-0001", "LIDC-IDRI-0002", "OLD-1"}
    card = hub.read_card(shelf / "tuned")
    assert card.facts["seen_before"] == 1
    assert "Patients known by models it was started from or makers of its data: 1." in card.text


def test_a_bundled_model_may_be_gone_on_from(run, shelf):
    fresh = AcWgan(CONFIG)
    hub.start_from(fresh, hub.load("tiny"))
    theirs = load_file(shelf / "tiny" / "weights.safetensors")
    torch.testing.assert_close(fresh.weights()["generator.out.bias"], theirs["generator.out.bias"].float())


def test_what_cannot_be_bundled_is_refused_and_leaves_nothing(run, tmp_path, monkeypatch):
    out = tmp_path / "shelf"
    with pytest.raises(InputError, match="name"):
        script.bundle(run, "../up", what="", out=out)
    with pytest.raises(InputError, match=r"no config\.yaml"):
        script.bundle(tmp_path / "none", "tiny", what="", out=out)
    monkeypatch.setattr(script, "MOST_MB", 0.01)
    with pytest.raises(InputError, match="MB of bundled models"):
        script.bundle(run, "tiny", what="", out=out)
    with pytest.raises(InputError, match="half precision"):
        script.halved({"a": torch.full((2,), 1e6)}, run)
    assert not out.exists() or not list(out.iterdir())


def test_a_bundled_model_gets_a_new_card_once_it_is_measured(run, tmp_path):
    first = script.bundle(run, "tiny", what="cubes", out=tmp_path / "shelf")
    before = (first / "weights.safetensors").read_bytes()
    again = script.bundle(first, "tiny", measured=FIGURES, limits=["Small."], out=tmp_path / "shelf", overwrite=True)
    assert (again / "weights.safetensors").read_bytes() == before
    facts = hub.read_card(again).facts
    assert facts["figures"] == FIGURES
    assert (facts["what"], facts["limits"]) == ("cubes", ["Small."])
    assert facts["steps"] > 0
    with pytest.raises(InputError, match="--what"):
        script.bundle(run, "other", out=tmp_path / "shelf")


def test_the_script_bundles_and_tells_mistakes_in_one_line(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "figures.yaml").write_text(yaml.safe_dump(FIGURES))
    (tmp_path / "wrong.yaml").write_text("FID: 3\n")
    common = ["bundle_model", str(run), "tiny", "--what", "cubes", "--out", f"{tmp_path}/shelf", "--measured"]
    monkeypatch.setattr(sys, "argv", [*common, f"{tmp_path}/figures.yaml"])
    assert script.main() == 0
    assert hub.read_card(tmp_path / "shelf" / "tiny").facts["figures"] == FIGURES
    capsys.readouterr()
    for rows, said in (("figures.yaml", "not empty"), ("wrong.yaml", "list of rows"), ("none.yaml", "none.yaml")):
        monkeypatch.setattr(sys, "argv", [*common, f"{tmp_path}/{rows}"])
        assert script.main() == 2
        err = capsys.readouterr().err
        assert said in err
        assert len(err.splitlines()) == 1


# Damage


def change_config(folder, **changes):
    content = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(content | changes))


def other_weights(folder):
    save_file({"autoencoder.support": torch.zeros(3)}, folder / "weights.safetensors")
    (folder / "card.md").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: flip(f / "weights.safetensors"), "as in card.md"),
        (lambda f: (f / "weights.safetensors").write_bytes(b""), "as in card.md"),
        (lambda f: (f / "weights.safetensors").unlink(), "no weights.safetensors"),
        (lambda f: (f / "card.md").write_text("no facts"), "no readable card"),
        (lambda f: (f / "card.md").write_text("---\na: [\n---\n"), "no readable card"),
        (lambda f: (f / "config.yaml").write_text("a: [1"), "damaged configuration"),
        (lambda f: change_config(f, format=2), "format 2"),
        (lambda f: change_config(f, system="alchemy"), "'alchemy'"),
        (lambda f: change_config(f, config={"flux": 3}), "flux"),
        (lambda f: change_config(f, config={}), "size mismatch"),
        (lambda f: change_config(f, system="lung", config={"layers": "8_3_16_64"}), "autoencoder.support"),
        (other_weights, "Missing key"),
    ],
)
def test_a_model_that_does_not_load_says_why_in_one_line(shelf, damage, said):
    damage(shelf / "tiny")
    with pytest.raises(InputError) as caught:
        hub.load(shelf / "tiny")
    assert said in str(caught.value)
    assert str(shelf / "tiny") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# What ships


def test_all_that_is_bundled_is_small():
    assert sum(file.stat().st_size for file in hub.PRETRAINED.rglob("*") if file.is_file()) < 1e6 * script.MOST_MB


@pytest.mark.parametrize("name", hub.bundled() or [pytest.param("", marks=pytest.mark.skip(reason="none yet"))])
def test_what_is_bundled_loads_and_its_card_is_right(name):
    folder = hub.bundled()[name]
    facts = hub.read_card(folder).facts
    model = hub.load(name)
    assert model.sha256 == facts["weights_sha256"] == sha256(folder / "weights.safetensors")
    assert len(model.seen) >= facts["patients"]["train"] > 0
    assert facts["name"] == name
    assert facts["licence"]
    patients = json.loads((folder / "data.json").read_text()).get("patients", {})
    assert {split: len(ids) for split, ids in patients.items()} in (facts["patients"], {})


# The verbs


def test_models_tells_what_is_bundled(shelf, capsys, tmp_path, monkeypatch):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for said in ("tiny: CT cubes of 16 mm", "sample, inject, study; 0.1 MB; measured", "synthorax info NAME"):
        assert said in printed
    assert main(["models", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert model == sx.models()[0]
    assert 0 < model["mb"] < 1
    monkeypatch.setattr(hub, "PRETRAINED", tmp_path / "empty")
    assert main(["models"]) == 0
    assert "no model is bundled" in capsys.readouterr().out


def test_info_shows_the_card_by_name_and_by_path(shelf, capsys):
    for place in ("tiny", str(shelf / "tiny")):
        assert main(["info", place]) == 0
        assert capsys.readouterr().out == hub.read_card(shelf / "tiny").text
    assert main(["info", "tiny", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["holds"], found["preset"]) == ("bundled model", "smoke")
    assert main(["info", "giant"]) == 2


def test_info_tells_how_a_system_is_trained_and_used(shelf, capsys):
    assert main(["info", "ct-sgan"]) == 0
    said = capsys.readouterr().out
    assert "bundled_models: none" in said
    assert "train: `synthorax train ct-sgan --data STORE --out RUN`" in said
    assert "smoke: seconds." in said
    assert "used by `synthorax sample RUN`" in said
    assert main(["info", "render"]) == 0
    said = capsys.readouterr().out
    assert "use: render is used by `synthorax inject SCAN --with render`" in said
    assert "train" not in said


def test_info_counts_the_patients_of_a_run(run, capsys):
    assert main(["info", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "train: 2" in printed
    assert "LIDC-IDRI" not in printed
    assert sx.info(run)["data"] == {
        "fingerprint": "f" * 64,
        "patches": 9,
        "patients": {"train": 2, "val": 1, "test": 0},
    }


def test_listing_models_does_not_wait_for_torch():
    code = "import sys; from synthorax.cli import main; main(['models']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "torch" not in done.stdout.split()


def test_doctor_finds_this_machine_fit_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setenv("SYNTHORAX_REAL_DATA", str(tmp_path / "nowhere"))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert report["fit"]
    assert set(found) >= {"python", "packages", "processor", "memory", "torch", "disk here", "cache", "real data"}
    assert "nowhere" in found["real data"]["found"]
    convolution = next(finding for name, finding in found.items() if name.startswith("3D convolution"))
    assert "channels last" in convolution["found"]
    assert "precision=bf16" in convolution["advice"]
    assert list((tmp_path / "synthorax").iterdir()) == []


def test_doctor_says_what_is_missing_and_how_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(machine, "requires", lambda _: ["torch>=2", "no-such-part>=1 ; extra == 'rare'"])
    assert main(["doctor"]) == 0
    assert "note    extra rare: not there -> pip install 'synthorax[rare]'" in capsys.readouterr().out
    monkeypatch.setattr(machine, "requires", lambda _: ["torch>=2", "no-such-part>=1"])
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "missing packages: 1 of 2 that are needed -> pip install no-such-part" in printed
    assert printed.splitlines()[-1].startswith("not fit")


def test_doctor_says_when_a_device_has_no_kernels(capsys, tmp_path, monkeypatch):
    def no_kernels(*_):
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(machine, "_milliseconds", no_kernels)
    before = torch.backends.cudnn.allow_tf32
    assert main(["doctor"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "convolution" in line]
    assert line.startswith("note    3D convolution, ")
    assert "does not run: CUDA error: no kernel image is available" in line
    assert torch.backends.cudnn.allow_tf32 == before


def test_doctor_says_when_nothing_can_be_cached(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "file")
    assert main(["doctor"]) == 1
    assert "missing cache: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "named"), [("models extra", "extra"), ("doctor --now", "--now"), ("info", "PATH is required")]
)
def test_a_mistake_is_told_in_one_line(capfd, command, named):
    assert main(command.split()) == 2
    out, err = capfd.readouterr()
    assert named in err
    assert len(err.splitlines()) == 1
    assert not out


# The recipes


@pytest.mark.parametrize(("recipe", "preset"), [("ac-wgan", "compact"), ("lung", "smooth")])
def test_a_recipe_gives_a_command_that_there_is(recipe, preset, tmp_path):
    command = tmp_path / "synthorax"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/given\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    file = str(ROOT / "recipes" / f"{recipe}.sh")
    for more, device, chosen in (([], "auto", preset), (["cuda", "smoke"], "cuda", "smoke")):
        subprocess.run([file, "a store", "run", "2.5", *more], env=environment, check=True)
        given = (tmp_path / "given").read_text().splitlines()
        _, bound, _ = build_app(given).parse_args(given, exit_on_error=False, print_error=False)
        assert str(bound.kwargs["data"]) == "a store"
        assert bound.kwargs["out"] == Path("run")
        assert bound.kwargs["preset"] == chosen
        assert (bound.kwargs["where"].device, bound.kwargs["where"].max_minutes) == (device, 2.5)


@pytest.mark.parametrize("recipe", sorted(file.name for file in (ROOT / "recipes").glob("*.sh")))
@pytest.mark.parametrize(
    "given", [[], ["store", "run"], ["store", "run", "1", "cpu", "smoke", "more", "most"]], ids=len
)
def test_a_recipe_says_how_it_is_used(recipe, given):
    done = subprocess.run([ROOT / "recipes" / recipe, *given], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_system_without_weights_is_told_as_such_where_weights_are_needed():
    with pytest.raises(InputError) as error:
        hub.load("render")
    use = "render is used by `synthorax inject SCAN --with render`"
    assert str(error.value) == f"render: found a system without weights; expected a model with weights; {use}"
    with pytest.raises(InputError, match=r"; render has no weights, and is used by its name$"):
        registry().trained("render")
