"""The study of shapes: what it measures and writes, and that it continues after a stop."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from rich.console import Console

from synthorax import api
from synthorax.cli import main
from synthorax.datasets.shape_files import read_shape_set
from synthorax.errors import InputError
from synthorax.shapes.overlap import greatest_dice
from synthorax.studies.results import interval
from synthorax.studies.shapes import Plan, ShapeStudy, comparison_plans, measurable
from synthorax.studies.shapes_page import COMPARISONS
from synthorax.systems.lung.config import LungConfig, lung_config

GRID, SPACING_MM = (20, 40, 40), (1.25, 0.7, 0.7)
QUICK = {"training_seeds": 2, "samples": 150, "compared_samples": 100, "device": "cpu"}
SETTINGS = {"method": "fit", "layers": "8_3_16_64", "iterations": 8, "rounds": 1}


@pytest.fixture(scope="module")
def nodules(tmp_path_factory, ball):
    """Twelve boxes and balls in a stack."""
    shapes = [ball(diameter) for diameter in (5, 6, 7, 8, 9, 10)]
    for i in range(6):
        box = np.zeros(GRID, bool)
        box[8 - i // 2 : 11, 14 : 22 + i, 17:24] = True
        shapes.append(box)
    file = tmp_path_factory.mktemp("nodules") / "nodules.npy"
    np.save(file, np.array(shapes, np.float32))
    return file


@pytest.fixture(scope="module")
def study(nodules, tmp_path_factory):
    shapes, features = measurable(read_shape_set(nodules, GRID, SPACING_MM))
    folder = tmp_path_factory.mktemp("trainings")
    fabric = Fabric(accelerator="cpu", devices=1)
    return ShapeStudy(shapes, features, lung_config("smoke", SETTINGS), folder, fabric)


@pytest.fixture(scope="module")
def finished(nodules, tmp_path_factory, lidc):
    """A whole study of smoke size."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("study") / "out"
    return api.study_shapes(nodules, out, preset="smoke", settings=SETTINGS, **QUICK)


def test_the_interval_is_students():
    found = interval([1.0, 2.0, 4.0])
    assert (found.mean, found.low, found.high) == pytest.approx((7 / 3, -1.461, 6.128), abs=1e-3)
    assert interval([3.0]).low is None


def test_a_study_ends_in_results_with_the_data_the_arms_and_the_machine(finished, nodules):
    results = json.loads((finished.parent / "results.json").read_text())
    assert results["study"] == "shapes"
    assert results["data"]["nodules"] == 12
    assert results["data"]["fingerprint"] == read_shape_set(nodules, GRID, SPACING_MM).fingerprint
    main_arm = results["arms"][0]
    assert main_arm["seeds"] == [0, 1]
    for name in (
        "score",
        "acceptance",
        "mse",
        "feature_distance",
        "feature_mmse",
        "held_out_mse",
        "clean",
        "copies",
        "dice",
    ):
        metric = main_arm["metrics"][name]
        assert metric["low"] <= metric["mean"] <= metric["high"]
    assert results["machine"]["torch"] == torch.__version__
    assert results["splits"]["train"] == []  # no table names the patients of this stack
    assert set(results["suspicious"]) == {"nearest centroid", "SVM on LIDC's ratings"}
    assert 0.9 < results["svm_auc"]["low"] < results["svm_auc"]["high"] <= 1


def test_the_page_holds_its_pictures_and_the_figures_of_the_results(finished):
    page = finished.read_text()
    results = json.loads((finished.parent / "results.json").read_text())
    assert page.count("data:image/png") == 6
    assert f"{results['arms'][0]['metrics']['acceptance']['mean']:.3f}" in page
    assert 'src="http' not in page


def test_a_study_that_was_stopped_trains_nothing_twice(study, monkeypatch):
    plan = Plan("plain", "8_3_16_64")
    console = Console(quiet=True)
    first, _ = study.run(plan, [0], 150, console)
    monkeypatch.setattr(ShapeStudy, "train", lambda *_: pytest.fail("trained again"))
    again, _ = study.run(plan, [0], 150, console)
    assert first == again


@pytest.mark.parametrize(
    "change", [{"layers": "8_2_16_64"}, {"settings": {"ridge": 0.1}}, {"reconnected": False}, {"name": "other"}]
)
def test_another_plan_is_another_training(study, change):
    plan = Plan("keyed", "8_3_16_64")
    console = Console(quiet=True)
    study.run(plan, [0], 100, console)
    before = len(list(study.folder.iterdir()))
    study.run(replace(plan, **change), [0], 100, console)
    assert len(list(study.folder.iterdir())) == before + 1


def test_without_reconnection_only_nodules_that_came_out_whole_can_be_accepted(study):
    system = study.train(Plan("plain", "8_3_16_64"), 0)
    raw = study.sample(system, 200, 1, reconnected=False)
    whole = study.sample(system, 200, 1, reconnected=True)
    np.testing.assert_array_equal(raw.n_components, whole.n_components)
    assert raw.analysis.passed.sum() <= whole.analysis.passed.sum()


def test_a_sample_does_not_depend_on_how_many_are_made(study):
    system = study.train(Plan("plain", "8_3_16_64"), 0)
    few, many = (study.sample(system, n, 1, reconnected=True) for n in (30, 520))
    np.testing.assert_array_equal(few.analysis.features, many.analysis.features[:30])
    np.testing.assert_array_equal(few.overlap, many.overlap[:30])


def test_the_error_held_out_is_of_nodules_that_were_not_trained_on(study, monkeypatch):
    rows = []
    train = ShapeStudy.train

    def noted(self, plan, seed, chosen=None):
        rows.append(chosen)
        return train(self, plan, seed, chosen)

    error = ShapeStudy.reproduction
    monkeypatch.setattr(ShapeStudy, "train", noted)
    monkeypatch.setattr(ShapeStudy, "reproduction", lambda self, s, r=None: rows.append(r) or error(self, s, r))
    study.held_out(Plan("plain", "8_3_16_64"), 0)
    trained, tested = (set(r.tolist()) for r in rows)
    assert not trained & tested
    assert trained | tested == set(range(12))
    assert len(tested) == 2


def test_a_nodule_of_the_training_set_overlaps_itself_wholly(study):
    masks = study.nodules.occupancy > 0
    np.testing.assert_allclose(greatest_dice(masks, masks), 1, atol=1e-6)
    assert greatest_dice(np.zeros((1, *GRID), bool), masks)[0] == 0


def test_every_comparison_can_be_configured():
    for name in COMPARISONS:
        plans = comparison_plans(name, "32_3_64_1024")
        assert len({plan.name for plan in plans}) == len(plans) >= 3
        for plan in plans:
            LungConfig.model_validate(lung_config("compact", {"layers": plan.layers} | plan.settings).model_dump())


def test_single_voxels_are_not_learned_from_and_one_nodule_is_too_few(nodules):
    shapes = read_shape_set(nodules, GRID, SPACING_MM)
    shapes.occupancy[0] = 0
    shapes.occupancy[0, 10, 20, 20] = 1
    kept, features = measurable(shapes)
    assert len(kept) == len(features) == 11
    with pytest.raises(InputError, match="two or more"):
        measurable(shapes.select([0, 1]))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--compare colours", "colours"),
        ("--samples 10", "10 samples"),
        ("--training-seeds 0", "training seeds: found 0"),
        ("--feedback loud", "loud"),
        ("--layers deep", "'deep'"),
        ("--nodules 13", "13"),
        ("--device abacus", "abacus"),
        ("--data nowhere.npy", "nowhere.npy"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(nodules, tmp_path, monkeypatch, capsys, arguments, named, lidc):
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in arguments else ["--data", str(nodules)]
    assert main(["study", "shapes", "--preset", "smoke", "--out", "out", *data, *arguments.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert named in error
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(nodules, tmp_path, capsys, lidc):
    (tmp_path / "thesis.txt").write_text("dear reader")
    assert main(["study", "shapes", "--preset", "smoke", "--out", str(tmp_path), "--data", str(nodules)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.prove
def test_the_released_figures_are_beaten_on_the_original_seeds(real_data, tmp_path):
    shapes, features = measurable(read_shape_set(real_data / "lung-seeds" / "seeds.npy", GRID, SPACING_MM))
    study = ShapeStudy(shapes, features, lung_config("compact", {}), tmp_path, Fabric(accelerator="cpu", devices=1))
    found = study.train_and_measure(Plan("main", "32_3_64_1024"), 0, 1000)["metrics"]
    assert found["score"] > 177
    assert found["acceptance"] > 0.84
    assert found["mse"] < 0.0757
    assert found["feature_distance"] > 1.55
    assert found["feature_mmse"] < 0.1
    assert found["copies"] < 0.2
    base = study.base_acceptance()
    assert 0.93 < base["reflections"] < 0.99
