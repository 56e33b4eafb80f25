"""Samples in any number, of all kinds that a model can make, and selections that accept few."""

import csv
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import synthorax as sx
from synthorax.cli import main
from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.nn.conditions import encoded
from synthorax.nodule import RATINGS, NoduleAttributes, widest_mm
from synthorax.provenance import manifest_writer, write_manifest
from synthorax.shapes.diameter import as_measured
from synthorax.systems.ac_wgan import maker as of_patches
from synthorax.systems.ac_wgan import system as module
from synthorax.systems.ac_wgan.config import PRESETS
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.systems.lung import maker as of_shapes
from synthorax.systems.lung.config import PRESETS as LUNG_PRESETS
from synthorax.systems.lung.system import Lung
from tests.helpers.toy_makers import Balls


@pytest.fixture(scope="module")
def lung(ball):
    return Model(Lung.for_training(LUNG_PRESETS["smoke"], ball(12)[None].astype(np.float32), 0)[0], "b" * 64)


def test_a_list_written_item_by_item_is_the_manifest_written_whole(tmp_path):
    for items in ([], [{"a": 1}], [{"a": {"b": [1, 2]}, "c": "line\nline"}, {"d": None}]):
        write_manifest(tmp_path / "whole", {"seed": 1, "samples": items})
        with manifest_writer(tmp_path / "parts", {"seed": 1}, "samples") as write:
            for item in items:
                write(item)
        assert (tmp_path / "parts").read_text() == (tmp_path / "whole").read_text()
    notes = []
    with manifest_writer(tmp_path / "parts", {}, "samples", notes):
        notes.append("late")
    assert json.loads((tmp_path / "parts").read_text())["notes"] == ["late"]


@pytest.mark.parametrize("options", [{}, {"positive": False}, {"diameter_mm": 9.0, "select": True}])
def test_cubes_in_parts_are_the_cubes_at_once(untrained_gan, monkeypatch, options):
    monkeypatch.setattr(module, "LEAST_CONFIDENCE", 0.0)
    whole = sx.sample(untrained_gan, 40, seed=2, **options)
    monkeypatch.setattr(of_patches, "CUBES_AT_ONCE", 16)
    parts = list(sx.sample_chunks(untrained_gan, 40, seed=2, **options))
    assert [len(part) for part in parts] == [16, 16, 8]
    np.testing.assert_array_equal(np.concatenate([part.ct for part in parts]), whole.ct)
    np.testing.assert_array_equal(np.concatenate([part.index for part in parts]), np.arange(40))


def test_shapes_in_parts_are_the_shapes_at_once(lung, ball, monkeypatch, tmp_path):
    near = ball(10).astype(np.float32)
    monkeypatch.setattr(of_shapes, "SHAPES_AT_ONCE", 64)
    for options in ({}, {"near": near, "radius": 0.4}, {"walk": (near, ball(14).astype(np.float32))}):
        whole = sx.sample(lung, 70, seed=2, **options)
        parts = list(sx.sample_chunks(lung, 70, seed=2, **options))
        np.testing.assert_array_equal(
            np.concatenate([part.arrays["occupancy"] for part in parts]), whole.arrays["occupancy"]
        )
    for name, made in (("whole", whole), ("parts", parts)):
        line = sx.write_samples(tmp_path / name, made, seed=2, formats=("npy", "stl"))
        assert line == (
            "70 nodule shapes of 20 x 40 x 40 voxels; diameters measured on the masks: 12.9 to 13.2 mm, median 12.9 mm"
        )
    for file in ("shapes.npy", "features.csv", "manifest.json", "meshes/0069.stl"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert np.load(tmp_path / "parts" / "shapes.npy").shape == (70, 20, 40, 40)


@pytest.mark.parametrize(("drawn", "is_noted"), [(1.0, False), (1.4, True)])
def test_a_median_diameter_far_from_the_requested_one_is_noted(tmp_path, drawn, is_noted):
    class Measured(Balls):
        """Balls that are `drawn` times as wide as requested, with the diameters of their masks."""

        def _part(self, asked, start, seed):
            wider = [tuple(replace(one, diameter_mm=drawn * one.diameter_mm) for one in own) for own in asked]
            part = super()._part(wider, start, seed)
            each = zip(part.nodules, part.arrays["mask"] > 0, strict=True)
            nodules = tuple((as_measured(own, mask, self.spec.spacing_mm),) for (own,), mask in each)
            return replace(part, nodules=nodules, asked=tuple(asked))

    parts = sx.sample_chunks(Measured(), 6, diameter_mm=8.0)
    sx.write_samples(tmp_path / "made", parts, seed=0, formats=("mha",))
    notes = json.loads((tmp_path / "made" / "manifest.json").read_text()).get("notes", [])
    assert any("the median diameter on the masks" in note for note in notes) == is_noted


@pytest.mark.prove
@pytest.mark.parametrize("kind", ["cubes", "shapes"])
def test_ten_times_as_many_samples_take_no_more_memory(untrained_gan, lung, tmp_path, kind):
    """Peaks of what NumPy and Python allocate, not PyTorch. 600 shapes are two whole parts, which are held at once."""
    model, formats = (untrained_gan, ("mha",)) if kind == "cubes" else (lung, ("npy", "mha"))
    peaks = []
    for n in (200, 600, 2000):
        tracemalloc.start()
        sx.write_samples(tmp_path / str(n), sx.sample_chunks(model, n), seed=0, formats=formats)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.15 * max(peaks[:2])


# What a model can make


def test_the_widest_nodule_is_one_that_its_cube_shows_whole():
    assert widest_mm((24, 24, 24), (1.0, 1.0, 1.0)) == 22
    assert widest_mm((16, 32, 32), (1.5, 0.5, 1.0)) == 14
    assert PRESETS["compact"].widest_mm == 22


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"diameter_mm": 60.0},
            "diameter_mm: found 60 mm; expected 1 to 14 mm, which fit into this model's cubes of 16 mm",
        ),
        ({"diameter_mm": 14.5}, "expected 1 to 14 mm"),
        ({"diameter_mm": 0.2}, "expected 1 to 14 mm"),
        ({"diameter_mm": 1e308}, "expected 1 to 14 mm"),
        ({"diameter_mm": float("nan")}, "expected 1 to 14 mm"),
        ({"texture": 6.0}, "texture: found 6"),
        ({"malignancy": float("nan")}, "malignancy: found nan"),
        (
            {"colour": 1},
            "colour: found no attribute or option of ac-wgan; expected attributes of nodules: diameter_mm, ",
        ),
        ({"colour": 1}, "; options: select, precision, positive"),
        ({"attributes": {"select": True}}, "select: found no attribute or option of ac-wgan"),
        ({"attributes": 8.0}, "attributes: found 8.0; expected NoduleAttributes, values by name or None"),
        (
            {"attributes": {"texture": 5.0}, "texture": 4.0},
            "texture: found a value in `attributes` and another by name",
        ),
        ({"attributes": {"diameter_mm": 60.0}}, "diameter_mm: found 60 mm; expected 1 to 14 mm"),
        ({"positive": False, "diameter_mm": 8.0}, "diameter_mm: found 8 with positive=False; expected no diameter_mm"),
        ({"n": 10**9}, "n: found 1000000000"),
        ({"n": 0}, "n: found 0"),
        ({"seed": -1}, "seed: found -1"),
    ],
)
def test_what_a_model_cannot_make_is_refused(untrained_gan, options, said):
    options = {"n": 1, **options}
    for function in (sx.sample, lambda *args, **more: list(sx.sample_chunks(*args, **more))):
        with pytest.raises(InputError) as refused:
            function(untrained_gan, **options)
        assert said in str(refused.value)


@pytest.mark.parametrize("kind", [dict, lambda **each: NoduleAttributes(**each)], ids=["mapping", "attributes"])
def test_attributes_can_be_given_as_one(untrained_gan, kind):
    one = sx.sample(untrained_gan, 1, attributes=kind(diameter_mm=8.0, texture=4.0))
    assert one.asked == sx.sample(untrained_gan, 1, diameter_mm=8.0, texture=4.0).asked


def test_every_rating_can_be_asked_for_on_the_command_line(tmp_path, monkeypatch):
    maker = Balls(heeds=frozenset(RATINGS))
    monkeypatch.setattr("synthorax.api.load", lambda *named: maker)
    ratings = dict.fromkeys(RATINGS, 2.0) | {"texture": 3.0, "calcification": 6.0, "internal_structure": 4.0}
    words = {"texture": "part-solid", "calcification": "none", "internal_structure": "air"}
    flags = [f"--{name.replace('_', '-')}={words.get(name, value)}" for name, value in ratings.items()]
    assert main(["sample", "ac-wgan", "-n", "1", *flags, "--out", str(tmp_path / "made")]) == 0
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    assert manifest["samples"][0]["asked"] == ratings
    assert manifest["how"] == ratings


def test_a_model_of_nodules_alone_makes_no_cubes_without_one():
    gan = AcWgan(PRESETS["smoke"].model_copy(update={"negatives": False}))
    with pytest.raises(InputError, match="trained on no patches without a nodule"):
        sx.sample(Model(gan, "c" * 64), 1, positive=False)


def test_a_radius_without_a_nodule_is_refused(lung):
    with pytest.raises(InputError, match=r"radius: found 0\.3 without `near`; expected a radius together with `near`"):
        sx.sample(lung, 1, radius=0.3)


def test_beyond_what_a_model_has_learned_it_says_so(untrained_gan, tmp_path):
    known = encoded([NoduleAttributes(diameter_mm=d) for d in (5.0, 9.0)], ("diameter_mm",))
    gan = AcWgan(PRESETS["smoke"].model_copy(update={"attributes": ("diameter_mm",)}), real_attributes=known)
    model = Model(gan, "d" * 64)
    within, beyond = (sx.sample(model, 1, diameter_mm=mm).notes for mm in (9.0, 12.0))
    assert set(beyond) - set(within) == {
        "diameter_mm 12 is outside the training nodules' 5.0 to 9.0; samples may look wrong"
    }
    notes = []
    sx.write_samples(tmp_path / "out", sx.sample_chunks(model, 2, diameter_mm=12.0), seed=0, tell=notes.append)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["notes"] == notes
    with open(tmp_path / "out" / "nodules.csv", newline="") as file:
        assert [(row["diameter_mm"], row["diameter_is"]) for row in csv.DictReader(file)] == [("12", "asked")] * 2


# Selections


@pytest.fixture
def choosy(untrained_gan, monkeypatch):
    """A model one in four of whose samples reach the threshold, each tried once."""
    monkeypatch.setattr(module, "LEAST_CONFIDENCE", 0.0)
    monkeypatch.setattr(of_patches, "SELECTION_TRIES", 1)
    system = AcWgan.restore(untrained_gan.system.config.model_dump(mode="json"), untrained_gan.system.weights())
    scores = system.sample(40, 0).scores
    system.facts["least_score"].fill_(float(np.quantile(scores, 0.75)))
    return Model(system, "e" * 64)


def test_a_selection_gives_what_it_found_and_tells_how_much(choosy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(of_patches, "WORTH_TELLING_S", 0.0)
    notes = []
    parts = sx.sample_chunks(choosy, 40, select=True)
    text = sx.write_samples(tmp_path / "out", parts, seed=0, tell=notes.append)
    assert text == "10 patches of 16 x 16 x 16 voxels, selected from 40"
    estimate = capsys.readouterr().err
    assert estimate.startswith("selection: 10 of the first 40 attempts passed; 40 samples need about ")
    assert notes[-1].startswith("selection: 10 of 40 samples passed within 1 attempts at each; to have more, ")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (len(manifest["samples"]), manifest["notes"]) == (10, notes)


def test_a_selection_that_finds_nothing_writes_nothing(choosy, tmp_path):
    choosy.system.facts["least_score"].fill_(1e9)
    with pytest.raises(InputError, match="selection: found none of 3 samples"):
        sx.write_samples(tmp_path / "out", sx.sample_chunks(choosy, 3, select=True), seed=0)
    assert not (tmp_path / "out").exists()


def test_the_help_of_a_system_without_weights_shows_its_options(capsys):
    assert main(["sample", "lung", "--help"]) == 0
    assert "Options of lung" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"diameter_mm": -8}, "diameter_mm: found -8 mm; expected more than 0"),
        ({"diameter_mm": 8, "texture": 9}, "texture: found 9; expected 1 to 5"),
        ({"seed": -1}, "seed: found -1; expected 0 or more"),
        ({"seed": 1.5}, "seed: found 1.5; expected a whole number"),
    ],
)
def test_impossible_requests_are_refused_before_a_system_of_another_package_gets_them(wanted, said):
    maker = Balls()
    maker.heeds = frozenset({"diameter_mm", "texture"})
    with pytest.raises(InputError, match=said):
        sx.sample(maker, 2, **wanted)
