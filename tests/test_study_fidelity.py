"""Are made cubes like real ones: the study's page, its checks of the condition, and the models that it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stores import store_of
from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.studies.conditions import check_diameters, check_rating, half_widths_mm, rank_correlation_of
from synthorax.studies.fidelity_page import CURVES, logged, study_fidelity
from synthorax.studies.trials import Study
from synthorax.tasks.config import DETECTION
from synthorax.tasks.features.config import PRESETS as FEATURES
from synthorax.tasks.features.system import FeatureNet
from test_baselines import cases

pytestmark = pytest.mark.usefixtures("one_thread", "lenient")

CONFIG = DETECTION["smoke"]


def rated(case, i):
    """A case whose nodule has a texture too."""
    nodule = case.nodules[0]
    attributes = replace(nodule.attributes, texture=1.0 + 4 * (i % 2))
    return replace(case, nodules=(replace(nodule, attributes=attributes),))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = [rated(case, i) for i, case in enumerate(cases(10, readers=((1, 2, 1), (5, 4, 5))))]
    return store_of(tmp_path_factory.mktemp("fidelity") / "store", made)


@pytest.fixture(scope="module")
def model(untrained_gan):
    return untrained_gan


@pytest.fixture(scope="module")
def extractor():
    return Model(FeatureNet(FEATURES["smoke"], 0), "1" * 64, frozenset(["somebody"]))


def test_the_study_ends_in_figures_checks_and_pictures(store, model, extractor, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    names = [name for curves in CURVES.values() for name in curves.values()]
    lines = [{"step": step, **dict.fromkeys(names, step / 7)} for step in range(40)] + [{"step": 40, "other": 1}]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def go():
        return study_fidelity(
            store, CONFIG, tmp_path / "out", model, extractor, extractor_name="tiny", run=run, samples=12, device="cpu"
        )

    page, found = go()
    assert list(found.likeness) == ["real, validation patients", "GAN", "GAN, selected", "rendered"]
    assert set(found.pictures) == {"texture", "malignancy", "neighbours", "curves"}
    assert [set(check.made) for check in found.checks] == [{"GAN", "rendered"}] * 3 + [{"GAN"}] * 2
    for check in found.checks[1:]:
        assert 0 <= check.made["GAN"].low <= check.made["GAN"].mean <= check.made["GAN"].high <= 1
    written = json.loads((page.parent / "results.json").read_text())
    assert written["extractor"] == {"name": "tiny", "sha256": "1" * 64}
    assert written["checks"][0]["what"].startswith("diameter")
    text = page.read_text()
    assert text.count("<img") == 4
    assert "nan" not in text.lower().split("</style>")[1].split("base64")[0]
    again = go()[1]
    assert (again.likeness, again.checks) == (found.likeness, found.checks)


def test_models_that_know_held_out_patients_or_are_something_else_are_refused(store, model, extractor, tmp_path):
    def go(model, extractor):
        study_fidelity(store, CONFIG, tmp_path / "out", model, extractor, extractor_name="", device="cpu")

    leaked = frozenset([store.splits["test"][0]])
    for wrong, said in (
        ((replace(model, seen=leaked), extractor), "held out here"),
        ((model, replace(extractor, seen=leaked)), "held out here"),
        ((model, model), "a model of ac-wgan; expected one of features"),
        ((extractor, extractor), "a model of features; expected one that makes cubes"),
    ):
        with pytest.raises(InputError, match=said):
            go(*wrong)
    assert not (tmp_path / "out").exists()


def balls(diameters, size=24, hu=0.0, density=-850.0):
    grid = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    share = [np.clip(mm / 2 - radius + 0.5, 0, 1) for mm in diameters]
    return np.stack([density + s * (hu - density) for s in share])


@pytest.mark.parametrize("hu", [0.0, -600.0])
def test_the_width_of_a_ball_is_its_diameter_dense_or_faint(hu):
    wanted = np.array([5.0, 8.0, 12.0, 16.0])
    assert half_widths_mm(balls(wanted, hu=hu), (1.0, 1.0, 1.0)) == pytest.approx(wanted, abs=0.8)


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (1.5, 1.5, 1.5)])
def test_the_width_is_in_millimetres_on_any_voxels(spacing):
    size = (24, 40, 40)
    grid = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing, strict=True)], indexing="ij")
    radius = np.sqrt(sum(each**2 for each in grid))
    cubes = np.stack([np.where(radius <= mm / 2, 0.0, -850.0) for mm in (8.0, 14.0)])
    assert half_widths_mm(cubes, spacing) == pytest.approx([8, 14], abs=2.0)


def test_what_fills_a_cube_is_as_wide_as_it():
    widths = half_widths_mm(np.concatenate([balls([8.0, 20.0]), np.zeros((1, 24, 24, 24))]), (1.0, 1.0, 1.0))
    assert (np.diff(widths) > 0).all()


def test_a_vessel_beside_it_hardly_moves_the_width():
    cube = balls([8.0])
    with_vessel = cube.copy()
    with_vessel[0, 11:13, 11:13, :] = 0.0
    before, after = (half_widths_mm(each, (1.0, 1.0, 1.0))[0] for each in (cube, with_vessel))
    assert abs(after - before) < 1.0


def test_a_cube_without_anything_in_it_has_some_width():
    empty = np.full((1, 24, 24, 24), -850.0)
    assert np.isfinite(half_widths_mm(empty, (1.0, 1.0, 1.0))).all()


def test_the_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    first = random.normal(size=60)
    second = first + random.normal(size=60)
    value = rank_correlation_of(first, second).values(np.ones((1, 60)))[0]
    assert value == pytest.approx(spearmanr(first, second).statistic)


def test_a_generator_that_makes_what_is_asked_is_told_from_one_that_does_not(store, model):
    from test_study_detection import patches_of

    place = Path(store.path).parent
    train, test = patches_of(store, place), patches_of(store, place, "test")

    class Obedient:
        attributes = ("diameter_mm",)

        def made(self, asked, seed):
            return balls([each.diameter_mm for each in asked], 16).astype(np.int16)

    class Deaf(Obedient):
        def made(self, asked, seed):
            return balls(np.random.default_rng(0).uniform(3, 12, len(asked)), 16).astype(np.int16)

    class Unasked(Obedient):
        attributes = ("texture",)

    makers = {"obedient": Obedient(), "deaf": Deaf(), "unasked": Unasked()}
    found = check_diameters(makers, train, test, 60)
    assert set(found.made) == {"obedient", "deaf"}
    assert found.made["obedient"].low > 0.9
    assert abs(found.made["deaf"].mean) < 0.4


def test_a_rating_that_nobody_gave_is_told_of_and_not_read(tmp_path):
    store = store_of(tmp_path / "store", cases(5, unrated=True))
    study = Study(store, tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    [found] = check_rating(study, CONFIG, {}, None, "texture", 4)
    assert found.real is None
    assert found.note.startswith("not read: ")
    assert not (tmp_path / "out").exists()


def test_a_log_without_such_figures_has_no_curves(tmp_path):
    assert logged(tmp_path / "log.jsonl") is None
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2}\n')
    assert logged(tmp_path / "log.jsonl") is None
