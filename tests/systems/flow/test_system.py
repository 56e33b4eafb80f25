"""The flow: its training data and conditions, the integration from noise to CT, and its edits of scans."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from synthorax.errors import InputError
from synthorax.makers import Edit, Lineage, Samples, fill
from synthorax.nn.conditions import encoded
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.registry import registry
from synthorax.systems.flow.conditions import flow_conditions, no_condition
from synthorax.systems.flow.config import PRESETS, FlowConfig, FlowOptions, TrainingOptions
from synthorax.systems.flow.sampler import integrated
from synthorax.systems.flow.system import Flow, Gaps, loss_weights
from synthorax.systems.flow.training import training
from synthorax.volume import Volume
from tests.helpers.cubes import ball_case
from tests.helpers.stores import cases, store_of

SMOKE = PRESETS["smoke"]
MM = (1.0, 1.0, 1.0)
KNOWN = [NoduleAttributes(mm, texture=texture, malignancy=3.0) for mm, texture in ((4.0, 5.0), (10.0, 2.0))]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """Return a function that prepares a training on cubes with space beside their nodules."""
    place = tmp_path_factory.mktemp("flow")
    store = store_of(place / "store", cases(4, size=34))

    def make(**settings):
        config = SMOKE.model_copy(update=settings)
        return training(config, store, 0, TrainingOptions(cache=place / "cache"))

    return make


def awake(healthy=5, config=SMOKE):
    """Return a system whose network does not give 0, as a new one would."""
    system = Flow(config, attributes=encoded(KNOWN, config.shown), healthy=healthy)
    random = torch.Generator().manual_seed(0)
    for network in (*system.networks.values(), *system.averages.values()):
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random) / max(parameter[0].numel(), 1) ** 0.5
    return system


def edited(system, edit=None, seed=0, options=None, region_mm=9.0):
    """Return lung, and the result of an edit at its centre."""
    method = system.maker(Lineage("flow")) if options is None else system.editor(Lineage("flow"), options)
    hu = np.random.default_rng(0).normal(-850, 20, (41, 41, 41)).astype(np.float32)
    region = PatchSpec(hu.shape).distances_mm() <= region_mm
    return hu, fill(method, Volume(hu, MM), region, edit or Edit("inject", NoduleAttributes(6.0)), seed)


def blob(widths_mm, at=(20, 20, 20)):
    """An ellipsoid in a patch of 41^3 mm."""
    away = [(axis - c) / (mm / 2) for axis, c, mm in zip(np.indices((41, 41, 41)), at, widths_mm, strict=True)]
    return sum(a**2 for a in away) <= 1


def test_a_batch_has_as_many_patches_without_a_nodule_as_of_each_class_of_diameters(ready):
    condition = ready(batch_size=8, told_nothing=0.0).stages[0].batches(0)["condition"]
    assert sorted(condition[:, 2].tolist()) == [-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_patch_without_a_condition_differs_in_no_number_from_others_of_its_scale(ready):
    batch = ready(batch_size=32, told_nothing=0.5).stages[0].batches(0)
    nothing = batch["condition"][:, 3] == 0
    assert 4 < nothing.sum() < 28
    assert (batch["condition"][nothing, 1:] == 0).all()
    assert (batch["outline"][nothing] == 0).all()
    assert (batch["outline"][~nothing]).any()


def test_the_diameter_in_the_condition_is_the_longest_chord_of_the_outline_and_not_the_stated_one(tmp_path):
    """A ball of 14 mm, which keeps 61 % of its volume as one reader's outline, so 85 % of its width."""
    case = ball_case("a", 14.0, size=40)
    stated = replace(case.nodules[0], attributes=NoduleAttributes(7.0))
    store = store_of(tmp_path / "store", [replace(case, nodules=(stated,))])
    ready = training(SMOKE, store, 0, TrainingOptions(cache=tmp_path / "cache"))
    mm = 8 * torch.exp2(ready.model.facts["attributes"][:, 0])
    assert mm.tolist() == pytest.approx([0.85 * 14], abs=1)


def test_a_store_without_room_for_a_patch_without_a_nodule_trains_a_model_that_does_not_erase(tmp_path, capsys):
    store = store_of(tmp_path / "store", cases(1, size=20))
    made = training(SMOKE, store, 0, TrainingOptions(cache=tmp_path / "cache"))
    assert "trains on nodules alone" in "".join(capsys.readouterr())
    maker = made.model.maker(Lineage("flow"))
    assert "erases" not in maker.roles
    with pytest.raises(InputError, match="trained on patches with a nodule only"):
        maker.sample([()], 0)


def test_a_small_nodule_weighs_as_much_as_is_set_and_a_patch_without_outline_all_over_alike():
    region = torch.ones(2, 1, 8, 8, 8)
    region[..., 0] = 0
    outline = torch.zeros_like(region)
    outline[0, 0, 4, 4, 4] = 1
    weights = loss_weights({"region": region, "outline": outline}, 0.3)
    assert weights.flatten(1).sum(1).tolist() == pytest.approx([1, 1])
    assert float(weights[0, 0, 3:6, 3:6, 3:6].sum()) == pytest.approx(0.3)
    assert (weights[1][region[1] > 0] == weights[1].max()).all()
    assert (weights[region == 0] == 0).all()


def test_a_large_nodule_weighs_no_less_than_its_voxels():
    region, outline = torch.ones(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8)
    outline[..., 1:7] = 1
    weights = loss_weights({"region": region, "outline": outline}, 0.3)
    assert torch.allclose(weights, weights.mean())


def test_heun_follows_a_curve_more_closely_than_euler_and_one_step_is_enough_for_a_line():
    start = torch.ones(1)
    line = integrated(lambda made, now: torch.full_like(made, 3.0), start, 1)
    assert line.item() == 4.0
    euler, heun = (integrated(lambda made, now: now * made, start, 8, name).item() for name in ("euler", "heun"))
    assert abs(heun - math.exp(0.5)) < abs(euler - math.exp(0.5)) / 3


def test_without_guidance_to_the_condition_it_does_not_count_and_with_more_it_counts_more():
    system = awake()
    random = torch.Generator().manual_seed(1)
    patch, noise = (torch.randn(1, 1, 16, 16, 16, generator=random).clip(-1, 1) for _ in range(2))
    outline = torch.zeros_like(patch)
    outline[..., 6:10, 6:10, 6:10] = 1
    scale = torch.ones(1)
    condition, nothing = (
        flow_conditions(scale, torch.tensor([presence]), torch.tensor([outlined]), torch.full((1, 9), torch.nan))
        for presence, outlined in ((1.0, True), (math.nan, False))
    )

    def drawn(asked_condition, asked_outline, guidance):
        asked = Gaps(patch, torch.ones_like(patch), asked_outline, asked_condition, nothing)
        return system.drawn_in(asked, noise, FlowOptions(steps=1, guidance=guidance))

    plain = drawn(nothing, torch.zeros_like(patch), 1.0)
    assert torch.allclose(drawn(condition, outline, 0.0), plain, atol=1e-5)
    once, twice = (drawn(condition, outline, guidance) - plain for guidance in (1.0, 2.0))
    assert once.abs().mean() > 0
    assert twice.abs().mean() > 1.2 * once.abs().mean()


def test_what_lies_outside_the_region_stays_and_what_lies_in_it_is_not_seen():
    system, random = awake(), torch.Generator().manual_seed(1)
    patch, noise = (torch.randn(1, 1, 16, 16, 16, generator=random).clip(-1, 1) for _ in range(2))
    region = torch.zeros_like(patch)
    region[..., 4:12, 4:12, 4:12] = 1
    nothing = no_condition(torch.ones(1), len(SMOKE.shown))

    def drawn(seen):
        asked = Gaps(seen, region, torch.zeros_like(seen), nothing, nothing)
        return system.drawn_in(asked, noise, FlowOptions(steps=2))

    made = drawn(patch)
    assert torch.equal(made[region == 0], patch[region == 0])
    assert torch.equal(drawn(patch + 0.5 * region), made)
    assert not torch.equal(drawn(patch + 0.5 * (1 - region))[region > 0], made[region > 0])


def test_a_given_mask_is_the_nodules_outline():
    mask = blob((4, 7, 5))
    _, made = edited(awake(), Edit("inject", NoduleAttributes(7.0), mask))
    assert (made.mask == mask).all()
    assert made.outline == ""


@pytest.mark.parametrize("mask", [blob((16, 16, 16)), blob((4, 4, 4), at=(20, 20, 29)), np.zeros((41, 41, 41), bool)])
def test_a_mask_that_the_patch_cannot_hold_is_refused(mask):
    with pytest.raises(InputError, match=r"mask: .*expected voxels within the ball"):
        edited(awake(), Edit("inject", NoduleAttributes(6.0), mask), region_mm=16)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (NoduleAttributes(2.0), "diameter_mm: found 2 mm; expected 4 to 10 mm with flow"),
        (
            NoduleAttributes(6.0, texture=1.0),
            "texture: found ground-glass \\(1\\); expected 2 to 5, the range of the training nodules",
        ),
    ],
)
def test_attributes_beyond_those_of_the_training_nodules_are_refused_with_the_range(asked, said):
    with pytest.raises(InputError, match=said):
        edited(awake(), Edit("inject", asked))
    with pytest.raises(InputError, match=said):
        awake().maker(Lineage("flow")).sample([(asked,)], 0)


def test_attributes_that_no_training_nodule_had_are_not_heeded():
    assert awake().maker(Lineage("flow")).heeds >= {"diameter_mm", "texture", "malignancy"}
    assert "spiculation" not in awake().maker(Lineage("flow")).heeds


@pytest.mark.parametrize("given", [{"steps": 0}, {"steps": 1000}, {"solver": "rk4"}, {"guidance": -1}])
def test_options_that_draw_nothing_are_refused(given):
    with pytest.raises(InputError, match=next(iter(given))):
        registry()["flow"].make_options(given)


def test_options_reach_edits_and_samples():
    system = awake()
    _, usual = edited(system)
    _, other = edited(system, options=FlowOptions(steps=2))
    _, same = edited(system, options=FlowOptions(steps=16))
    assert (usual.hu == same.hu).all()
    assert (usual.hu != other.hu).any()
    maker = system.maker(Lineage("flow"))
    asked = [(NoduleAttributes(6.0),)]
    one, two = (Samples.joined(maker.sample(asked, 0, how)) for how in (None, FlowOptions(steps=2)))
    assert (one.ct != two.ct).any()


def test_an_erasure_has_no_mask_and_reaches_over_the_whole_nodule_even_where_it_is_wider_than_stated():
    wide = blob((4, 14, 4))
    hu, made = edited(awake(), Edit("erase", NoduleAttributes(4.0), wide))
    changed = made.hu != hu
    assert made.mask is None
    assert changed[wide].mean() > 0.9


def test_lung_is_drawn_on_small_voxels_where_a_nodule_as_wide_has_larger_ones():
    method = awake(config=PRESETS["compact"]).maker(Lineage("flow"))
    wide, widest = (NoduleAttributes(mm) for mm in (16.0, 20.0))
    assert method.view_of(Edit("inject", wide)).spacing_mm[0] == pytest.approx(4 / 3)
    assert method.view_of(Edit("erase", wide)).spacing_mm == MM
    assert method.view_of(Edit("erase", widest)).spacing_mm[0] == pytest.approx(5 / 3)


def test_a_sample_without_a_diameter_has_that_of_a_training_nodule():
    maker = awake().maker(Lineage("flow"))
    made = Samples.joined(maker.sample([(NoduleAttributes(),)] * 6, 0))
    found = [nodules[0].attributes.diameter_mm for nodules in made.nodules]
    assert all(3.0 < mm < 12.0 for mm in found)


def test_training_lowers_the_error_on_held_out_nodules(ready):
    made = ready(learning_rate=3e-3, steps=30, rate_end_from=0.0)
    model, batches = made.model, made.stages[0].batches
    model.optimizers = model.make_optimizers()
    before = model.validation()["validation_loss"]
    for step in range(30):
        model.training_step(batches(step), step)
        model.update_averages()
    assert model.validation()["validation_loss"] < 0.8 * before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": (20, 20, 20)}, "divisible by 8"),
        ({"shown": ("texture",)}, "including diameter_mm"),
        ({"least_margin_mm": 9.0}, "at most margin_mm"),
        ({"diameters": (1.0,)}, "widths above 1"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        FlowConfig(**settings)


def test_what_ships_has_at_most_10_mb_in_half_precision():
    system = Flow(PRESETS["compact"])
    assert sum(p.numel() for p in system.networks["velocity"].parameters()) * 2 <= 10e6


def test_the_first_preset_is_for_a_processor_and_large_ones_train_on_the_same_cubes_of_50_mm():
    assert next(iter(PRESETS)) == "compact"
    assert max(PRESETS["large"].patch.size_mm) <= 50
    assert replace(PRESETS["compact"].patch, size=(1, 1, 1)).spacing_mm == MM
