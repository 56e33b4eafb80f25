"""Every preset of every verb runs with that verb's other defaults."""

import inspect
from dataclasses import replace
from typing import Annotated, get_args, get_origin

import pytest

from synthorax import api, hub
from synthorax.api import studies
from synthorax.cli import main
from synthorax.cli import study as study_verbs
from synthorax.errors import InputError
from synthorax.patch import PatchSpec
from synthorax.registry import registry
from synthorax.tasks.config import task_config
from synthorax.tasks.networks.config import DetectorConfig
from synthorax.training.cpu_time import note_on_cpu
from tests.helpers.stores import cases, store_of
from tests.helpers.toy_makers import Balls, Dots


def presets_of(verb):
    """The presets that a verb's help names."""
    annotation = inspect.signature(verb, eval_str=True).parameters["preset"].annotation
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_args(annotation)


TRAINED = [entry for entry in registry().entries.values() if entry.is_trained]


@pytest.mark.parametrize(("system", "preset"), [(entry.name, preset) for entry in TRAINED for preset in entry.presets])
def test_every_preset_of_train_is_a_configuration_that_makes_a_model(system, preset):
    config = registry()[system].presets[preset]
    assert isinstance(config, registry()[system].config)
    again = type(config).model_validate(config.model_dump(mode="json"))
    assert again == config
    if system == "ac-wgan":
        assert config.batch_size % config.accumulate == 0
        assert config.widest_mm >= 14


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: entry.name)
def test_presets_too_large_for_a_cpu_are_told_with_one_that_suits_it(entry):
    for preset in entry.core_seconds:
        told = note_on_cpu(entry, preset, entry.presets[preset].steps)
        assert told.startswith(f"{entry.name}: the preset {preset} ")
        assert f"--preset {entry.cpu_preset} is for a CPU" in told
    assert not entry.core_seconds or entry.cpu_preset in entry.presets.keys() - entry.core_seconds.keys()
    if "paper" in entry.presets and next(iter(entry.presets)) == "paper":
        assert "paper" in entry.core_seconds
    for preset in entry.presets.keys() - entry.core_seconds.keys():
        assert not note_on_cpu(entry, preset, 20_000)


def test_the_time_on_a_cpu_is_that_of_the_steps_that_are_asked_for():
    ac_wgan = registry()["ac-wgan"]
    told = note_on_cpu(ac_wgan, "paper", 20_000)
    assert "takes about 347 days of one core of a CPU, 20,000 steps of about 25 minutes" in told
    assert "about 42 hours of one core" in note_on_cpu(ac_wgan, "paper", 100)
    assert not note_on_cpu(ac_wgan, "paper", 5)


def test_the_warning_comes_before_data_are_read(tmp_path, capsys):
    settings = {"layers": "4_3_4"}
    with pytest.raises(InputError, match="nowhere"):
        api.train("lung", tmp_path / "nowhere", tmp_path / "run", preset="paper", settings=settings, device="cpu")
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: lung: the preset paper is for a GPU and takes about 21 hours of one core" in said


@pytest.mark.parametrize("preset", presets_of(study_verbs.baselines))
def test_every_preset_of_study_baselines_has_each_task(preset):
    defaults = inspect.signature(api.study_baselines).parameters["tasks"].default
    assert [task_config(task, preset, {}).steps > 0 for task in defaults] == [True] * 3


@pytest.mark.parametrize("preset", presets_of(study_verbs.detection))
def test_every_preset_of_a_study_of_patches_fits_its_default_model(preset, capsys):
    maker = hub.find(hub.default("makes patches"), "makes patches")
    config = studies._on_the_patches_of([maker], task_config("detection", preset, {}), {})
    assert config.patch == maker.spec
    assert isinstance(config.network, DetectorConfig)
    assert ("patches are like those of ac-wgan" in capsys.readouterr().err) == (preset != "compact")
    small = config.model_copy(update={"size": (16,) * 3})
    asked_for = studies._on_the_patches_of([maker], small, {"size": (16,) * 3})
    assert asked_for.size == (16, 16, 16)  # which the study refuses


def test_an_injector_before_a_maker_of_patches_leaves_it_the_grid():
    config = task_config("detection", "smoke", {})
    assert studies._on_the_patches_of([Dots()], config, {}) == config
    assert studies._on_the_patches_of([Dots(), Balls(spec=PatchSpec((24, 24, 24)))], config, {}).size == (24, 24, 24)


@pytest.mark.parametrize("preset", presets_of(study_verbs.shapes))
def test_every_preset_of_study_shapes_is_one_of_lung(preset):
    assert registry()["lung"].presets[preset].grid == (20, 40, 40)


@pytest.mark.parametrize(
    ("study", "options", "said"),
    [
        ("detection", {"negatives": float("nan")}, "negatives: found nan"),
        ("detection", {"negatives": 1e308}, "negatives: found 1e+308"),
        ("detection", {"amounts": (1.0, -1.0)}, "amounts: found -1"),
        ("detection", {"trainings": 0}, "trainings: found 0"),
        ("detection", {"trainings": 10**9}, "trainings: found 1000000000"),
        ("baselines", {"trainings": 10**9}, "trainings: found 1000000000"),
        ("malignancy", {"ratios": (2.0, float("nan"))}, "ratios: found nan"),
        ("malignancy", {"trainings": 0}, "trainings: found 0"),
        ("malignancy", {"rule": "mean"}, "rule: found 'mean'; expected median or majority"),
        ("fidelity", {"samples": 3}, "samples: found 3; expected 4 to "),
        ("fidelity", {"samples": 10**9}, "samples: found 1000000000"),
        ("shapes", {"samples": 0}, "samples: found 0"),
        ("shapes", {"training_seeds": -1}, "training seeds: found -1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_before_anything_is_read(study, options, said, tmp_path):
    with pytest.raises(InputError) as refused:
        getattr(api, f"study_{study}")(tmp_path / "nowhere", tmp_path / "out", **options)
    assert said in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Nodules of eight patients a split, with ratings, in cubes with room for patches without one."""
    made = [
        replace(case, nodules=tuple(replace(n, attributes=replace(n.attributes, texture=3.0)) for n in case.nodules))
        for case in cases(8, size=80, readers=((1, 2, 1), (5, 4, 5)))
    ]
    return store_of(tmp_path_factory.mktemp("presets") / "store", made).path


@pytest.mark.prove
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    "options",
    [
        ["study", "baselines", "--trainings", "1"],
        ["study", "detection", "--trainings", "1"],
        ["study", "malignancy", "--trainings", "1"],
        ["study", "fidelity"],
        ["train", "ac-wgan"],
        ["train", "features"],
    ],
    ids=lambda options: " ".join(options[:2]),
)
def test_every_smoke_preset_runs_with_its_verbs_defaults_into_a_fresh_folder(store, tmp_path, capsys, options):
    arguments = [*options, "--data", str(store), "--preset", "smoke", "--out", str(tmp_path / "fresh" / "out")]
    assert main(arguments) == 0, capsys.readouterr().err
    made = "weights.safetensors" if options[0] == "train" else "index.html"
    assert (tmp_path / "fresh" / "out" / made).is_file()


@pytest.mark.prove
def test_the_smoke_presets_of_shapes_run_with_their_verbs_defaults(tmp_path, capsys):
    for options in (
        ["study", "shapes", "--samples", "100", "--training-seeds", "1"],
        ["train", "lung", "--data", "lidc"],
    ):
        out = tmp_path / options[1]
        assert main([*options, "--nodules", "12", "--preset", "smoke", "--out", str(out)]) == 0, capsys.readouterr().err
