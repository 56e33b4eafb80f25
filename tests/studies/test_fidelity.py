"""The study of whether synthetic cubes are like real ones.

Its page, its checks of the condition, and refused models.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.makers import Lineage
from synthorax.provenance import patient_key
from synthorax.studies import fidelity_page
from synthorax.studies.conditions import check_rating, check_widths, half_widths_mm, rank_correlation_of
from synthorax.studies.fidelity_page import logged, study_fidelity
from synthorax.studies.results import check_study_folder
from synthorax.studies.trials import Study
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import DETECTION
from synthorax.tasks.features.config import PRESETS as FEATURES
from synthorax.tasks.features.system import FeatureNet
from tests.helpers.stores import cases, patches_of, store_of
from tests.helpers.toy_makers import Balls, Dots

pytestmark = pytest.mark.usefixtures("one_thread")

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


HEEDS = frozenset({"diameter_mm", "texture", "malignancy"})


@pytest.fixture(scope="module")
def extractor():
    return Model(FeatureNet(FEATURES["smoke"], 0), "1" * 64, frozenset(["somebody"]))


def test_the_study_ends_in_figures_checks_and_pictures(store, extractor, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"step": step, "seconds": 1.0, "loss": step / 7} for step in range(40)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def go():
        return study_fidelity(
            store,
            CONFIG,
            tmp_path / "out",
            Balls(heeds=HEEDS),
            extractor,
            extractor_name="tiny",
            run=run,
            samples=12,
            device="cpu",
        )

    page, found = go()
    assert list(found.likeness) == ["real, validation patients", "balls", "balls, selected", "render"]
    assert set(found.pictures) == {"texture", "malignancy", "neighbours", "curves"}
    assert all("balls" in check.made for check in found.checks)
    texture, twins = found.checks[2:4]
    assert texture.what.startswith("texture")
    assert 0 <= texture.made["balls"].low <= texture.made["balls"].mean <= texture.made["balls"].high <= 1
    assert twins.real is None
    written = json.loads((page.parent / "results.json").read_text())
    assert written["extractor"] == {"name": "tiny", "sha256": "1" * 64}
    assert written["checks"][0]["what"].startswith("diameter")
    text = page.read_text()
    assert f"<p><b>{written['answer']}</b></p>" in text
    assert "KID x 1000 is" in written["answer"]
    assert set(written["kid_less"]) == {"real, validation patients", "render"}
    assert "KID x 1000 of balls less that of render" in text
    assert "The requested diameter is" in written["answer"]
    assert text.count("<img") == 4
    assert "nan" not in text.lower().split("</style>")[1].split("base64")[0]
    again = go()[1]
    assert (again.likeness, again.checks) == (found.likeness, found.checks)


def test_models_that_know_held_out_patients_or_are_something_else_are_refused(store, extractor, tmp_path):
    def go(maker, extractor):
        study_fidelity(store, CONFIG, tmp_path / "out", maker, extractor, extractor_name="", device="cpu")

    patient = store.splits["test"][0]
    leaked = Lineage("leaked", seen=frozenset([patient_key(patient)]))
    detector = Classification(DETECTION["smoke"])
    for wrong, said in (
        ((Balls(lineage=leaked), extractor), "held out here"),
        ((Balls(), replace(extractor, seen=frozenset([patient]))), "held out here"),
        (
            (Balls(), replace(extractor, seen=frozenset([patient]))),
            "synthorax train features --data .* --extractor FEAT",
        ),
        ((Balls(), replace(extractor, system=detector)), "a model of classification; expected a model of features"),
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


@pytest.fixture(scope="module")
def patches(store):
    return [patches_of(store, Path(store.path).parent, split) for split in ("train", "test")]


class Deaf(Balls):
    """Makes balls of any diameter, ignoring the request."""

    def _part(self, asked, start, seed):
        widths = np.random.default_rng(start).uniform(3, 12, len(asked))
        return super()._part(
            [(replace(one, diameter_mm=mm),) for (one,), mm in zip(asked, widths, strict=True)], start, seed
        )


class Unmasked(Balls):
    """Gives no masks."""

    def _part(self, asked, start, seed):
        made = super()._part(asked, start, seed)
        return replace(made, arrays={"ct": made.ct})


def test_a_generator_that_makes_what_is_asked_is_told_from_one_that_does_not(patches):
    makers = {"obedient": Balls(), "deaf": Deaf(), "unasked": Balls(heeds=frozenset({"texture"}))}
    found = check_widths(makers, *patches, 30)[0]
    assert set(found.made) == {"obedient", "deaf"}
    assert found.made["obedient"].low > 0.9
    assert abs(found.made["deaf"].mean) < 0.5


def test_masks_are_compared_with_the_voxels_not_with_what_was_asked(patches):
    found = check_widths({"deaf": Deaf(), "unmasked": Unmasked()}, *patches, 30)[1]
    assert set(found.made) == {"deaf"}
    assert found.made["deaf"].low > 0.9
    assert found.real.mean > 0.9


def test_an_injector_is_measured_as_a_generator_is(store, extractor, tmp_path, monkeypatch):
    monkeypatch.setattr(fidelity_page, "check_rating", lambda *_: [])  # which trains networks
    _, found = study_fidelity(
        store, CONFIG, tmp_path / "out", Dots(), extractor, extractor_name="tiny", samples=12, device="cpu"
    )
    check_study_folder(tmp_path / "out")  # which another call goes on with
    assert list(found.likeness) == ["real, validation patients", "dots", "render"]
    assert found.checks[0].made["dots"].mean > 0.8


def test_a_rating_that_nobody_gave_is_told_of_and_not_read(tmp_path):
    store = store_of(tmp_path / "store", cases(5, readers=[()]))
    study = Study(store, tmp_path / "out", (0,), "cpu", tmp_path / "cache")
    [found] = check_rating(study, CONFIG, {}, None, "texture", 4)
    assert found.real is None
    assert found.note.startswith("not measured: ")
    assert not (tmp_path / "out").exists()


def test_figures_of_one_word_share_a_panel_and_few_lines_make_no_curve(tmp_path):
    assert logged(tmp_path / "log.jsonl") is None
    lines = [{"step": i, "seconds": i, "class_real": 1.0, "class_fake": 2.0, "loss": i / 2} for i in range(30)]
    lines += [{"step": 30, "seconds": 30, "rare": 1.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    panels, smoothed = logged(tmp_path / "log.jsonl")
    assert {title: list(curves) for title, curves in panels.items()} == {"class": ["real", "fake"], "loss": ["loss"]}
    assert panels["loss"]["loss"][1].tolist() == [i / 2 for i in range(30)]
    assert smoothed == 2
