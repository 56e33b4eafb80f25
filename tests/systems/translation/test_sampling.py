"""Volumes sampled with a painter: a nodule of a training shape at the centre, with an exact mask."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.tissue import with_tissue
from synthorax.errors import InputError
from synthorax.makers import Lineage, Samples
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import patient_key
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.systems.translation.config import PRESETS, TranslationOptions
from synthorax.systems.translation.maker import TranslationPainter
from synthorax.systems.translation.system import Translation
from synthorax.systems.translation.templates import Templates, TemplateShapes, templates_of
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

pytestmark = pytest.mark.usefixtures("one_thread")
NONE = NoduleAttributes()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    cases = [with_tissue(ball_case(f"p{i}", 8 + 2 * i, size=40, seed=i)) for i in range(4)]
    return store_of(tmp_path_factory.mktemp("balls") / "store", cases)


@pytest.fixture(scope="module")
def painter(store):
    config = PRESETS["smoke"].model_copy(update={"precision": "32"})
    templates = templates_of(store, store.in_split("train"), 8, 0)
    system = Translation(config, 1, torch.full((7,), 1 / 7), templates)
    return TranslationPainter(system, Lineage("translation", "0" * 64, frozenset({"x"})))


def made(painter, asked, seed=1, **options):
    return Samples.joined(painter.sample(asked, seed, TranslationOptions(**options) if options else None))


def test_templates_are_the_shapes_of_training_nodules_and_come_back_from_a_models_facts(store):
    templates = templates_of(store, store.in_split("train"), 8, 0)
    widths = [
        axial_diameter_mm(np.argwhere(mask), (mm,) * 3)
        for mask, mm in zip(templates.masks, templates.spacing_mm, strict=True)
    ]
    real = [
        axial_diameter_mm(store.region(case.case_id, 1).indices(), case.spacing_mm) for case in store.in_split("train")
    ]
    assert sorted(widths) == pytest.approx(sorted(real), rel=0.1)
    again = Templates.of_tensors(templates.tensors())
    np.testing.assert_array_equal(again.masks, templates.masks)
    assert len(templates_of(store, store.in_split("train"), 2, 0)) == 2
    assert len(templates_of(store, [], 8, 0)) == 0


def test_a_nodule_has_a_template_of_about_its_width(store):
    shapes = TemplateShapes(templates_of(store, store.in_split("train"), 8, 0))
    assert len({shapes(NONE, seed).mask.spacing_mm for seed in range(20)}) == 4


def test_the_nodule_lies_in_the_middle_with_the_diameter_asked_for_and_its_mask_is_what_was_painted(painter):
    samples = made(painter, [(NoduleAttributes(diameter_mm=9.0),)] * 3)
    for mask, nodules in zip(samples.arrays["mask"], samples.nodules, strict=True):
        inside = np.argwhere(mask == 1)
        np.testing.assert_allclose(inside.mean(0), 11.5, atol=1.5)
        assert nodules[0].attributes.diameter_mm == pytest.approx(9, abs=1.5)
        assert nodules[0].extra == {"diameter_is": "measured", "from": "put in"}
    assert {tuple(one) for one in samples.details[0].items()} <= {("anatomy", samples.details[0]["anatomy"])}


def test_a_volume_without_a_nodule_has_an_empty_mask(painter):
    samples = made(painter, [()] * 2)
    assert not samples.arrays["mask"].any()
    assert samples.nodules == ((), ())


def test_a_share_of_the_volumes_may_be_left_without_and_says_so(painter):
    samples = made(painter, [(NONE,)] * 12, without=0.5)
    empty = [not nodules for nodules in samples.nodules]
    assert 3 <= sum(empty) <= 9
    assert [asked == () for asked in samples.asked] == empty


def test_volumes_may_be_cut_from_a_stores_label_maps_whose_nodules_stay_and_whose_patients_are_named(painter, store):
    samples = made(painter, [(NoduleAttributes(diameter_mm=5.0),)] * 4, labels=store.path)
    assert samples.lineage.outlines == {patient_key(f"p{i}") for i in range(4)}
    anatomies = {one["anatomy"] for one in samples.details}
    assert anatomies <= {f"case p{i}" for i in range(4)}
    for mask, nodules in zip(samples.arrays["mask"], samples.nodules, strict=True):
        assert nodules[0].extra["from"] == "put in"
        assert {one.extra["from"] for one in nodules[1:]} <= {"label map"}
        assert set(np.unique(mask)) - {0} == {nodule.label for nodule in nodules}


def test_outlines_of_readers_are_told_of_in_the_lineage(painter):
    samples = made(painter, [(NoduleAttributes(diameter_mm=8.0),)], shapes="lidc")
    assert samples.details[0]["outline"] in samples.lineage.outlines


@pytest.mark.parametrize(
    ("asked", "options", "said"),
    [
        ((NONE, NONE), {}, "nodules: found 2 in one volume"),
        ((NoduleAttributes(diameter_mm=40.0),), {}, "diameter: found 40 mm"),
        ((NoduleAttributes(texture=3.0),), {}, "which translation does not use"),
        ((NONE,), {"shapes": "ac-wgan"}, "expected one that makes shapes"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(painter, asked, options, said):
    with pytest.raises(InputError, match=said):
        painter.sample([asked], 0, TranslationOptions(**options))


def test_a_store_without_room_for_a_volume_and_a_model_without_shapes_are_refused(painter, tmp_path):
    small = store_of(tmp_path / "store", [with_tissue(ball_case("small", 6, size=20))])
    with pytest.raises(
        InputError, match="1 training cases with label maps of tissues, none as large as 24 x 24 x 24 mm"
    ):
        painter.sample([(NONE,)], 0, TranslationOptions(labels=small.path))
    bare = TranslationPainter(Translation(painter._system.config, 1), painter.lineage)
    with pytest.raises(InputError, match="the model was trained without outlined nodules; expected shapes: lidc"):
        bare.sample([(NONE,)], 0)
    assert replace(painter.spec).size == (24, 24, 24)


def test_classes_of_the_map_are_those_that_are_painted(painter):
    """An untrained painter cannot show it, so the outside, which this one has not learned, does: it is air."""
    system = Translation(painter._system.config, 1, torch.tensor([0.0, *[1 / 6] * 6]), painter._system.templates)
    samples = made(TranslationPainter(system, painter.lineage), [(NONE,)] * 6, seed=4)
    assert TissueClass.OUTSIDE not in TranslationPainter(system, painter.lineage).codes
    air = samples.ct == -1024
    assert air.any() == any("outside" in note for note in samples.notes)
